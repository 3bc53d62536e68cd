"""Memory that a process keeps for its next tensors."""

import ctypes
import os
import sys

#: parameters of `mallopt`, from glibc's malloc.h
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
#: bytes from which an array is mapped by itself, and unmapped when it goes, and free bytes at the
#: end of the heap that are kept: glibc's own are 32 and 64 MB at most, and activations are larger
MAPPED, KEPT = 1 << 28, 1 << 30
#: the variables by which a user sets these
OWN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Keep memory that large arrays leave for the next ones, instead of giving it back.

    What is given back comes anew page by page, each cleared first: a tenth of a forward pass, and a
    fifth of a step of a small training. The process holds up to 1 GiB more than it uses.

    Returns:
        Whether it was done: it is on Linux with glibc, unless the user's environment sets how
        memory is given back.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in OWN):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(set_option(MMAP_THRESHOLD, MAPPED) and set_option(TRIM_THRESHOLD, KEPT))
