"""Memory that is kept for the next arrays, in processes of their own."""

import os
import subprocess
import sys

import pytest

from sslens import memory

SCRIPT = """
import resource
import numpy as np
from sslens.memory import keep_freed_memory

def count(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.empty(10_000_000, np.float32)[:] = 1  # 40 MB, 9,766 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

anew, done = count(3), keep_freed_memory()
count(1)
print(done, anew, count(3))
"""


def run(**variables: str) -> tuple[bool, int, int]:
    """Whether memory was kept, and the pages that three arrays of 40 MB took before and after."""
    unset = {name: value for name, value in os.environ.items() if name not in memory.OWN}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=unset | variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    kept, anew, again = done.stdout.split()
    return kept == "True", int(anew), int(again)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_the_next_array_takes_the_pages_of_the_last() -> None:
    kept, anew, again = run()
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert again <= anew / 4


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_the_environment_of_the_user_goes_before() -> None:
    kept, _, _ = run(MALLOC_MMAP_THRESHOLD_="1000000")
    assert not kept
