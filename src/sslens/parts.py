"""Files that are being written: each has a name of its own, and a lock that ends with its process,
so that what a killed process left is told from what another one is writing."""

import contextlib
import os
import re
import time
import zlib
from pathlib import Path

#: the name of a part: a beginning of the file's name, the machine, and random letters
_NAME = re.compile(r"\..*\.sslens-([0-9a-f]{8})-.{8}\.part")
#: characters of a file's name that a part repeats; a name has at most 255 bytes
_SHOWN = 40
#: seconds after which a part is nobody's that another machine began, whose locks may not be seen
_LONG = 86_400
#: folders in which this process has looked already
_seen: set[Path] = set()


def _name_machine() -> str:
    """A short name of this machine."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return f"{zlib.crc32(name.encode()):08x}"


def begin(path: Path) -> tuple[int, Path]:
    """Make the empty file under whose name a file is written, and lock it.

    Args:
        path: the file that it is renamed to when it is whole.

    Returns:
        A handle of the file, which holds the lock until it is closed; and the file.

    Raises:
        OSError: the folder cannot be written to.
    """
    import tempfile  # which imports random: every start of the command line would pay it

    prefix = f".{path.name[:_SHOWN]}.sslens-{_name_machine()}-"
    while True:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
        _lock(handle)
        if os.fstat(handle).st_nlink:  # another process may have taken it for one that was left
            return handle, Path(name)
        os.close(handle)


def _lock(handle: int) -> bool:
    """Lock a file, unless another process has; False where it has, or locks are not known."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def remove_left(folder: Path) -> None:
    """Remove the parts in a folder that no process is writing any more, once in a process.

    A part of this machine is nobody's where its lock is free, one of another machine after a day.
    Files of other names are left alone.
    """
    if folder in _seen:
        return
    _seen.add(folder)
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            match = _NAME.fullmatch(entry.name)
            if match is not None:
                _remove_if_left(Path(entry.path), match[1])


def _remove_if_left(part: Path, machine: str) -> None:
    """Remove a part unless it is being written."""
    with contextlib.suppress(OSError):
        if machine != _name_machine() and time.time() - part.stat().st_mtime < _LONG:
            return
        handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _lock(handle):
                part.unlink()
        finally:
            os.close(handle)
