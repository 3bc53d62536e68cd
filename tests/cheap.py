"""Runs command lines, each in a process that is forked from one without torch, and prints as JSON
what became of it: the exit status, what it said last, whether torch was imported, and the CPU
seconds it took.

    python tests/cheap.py < lines.json
"""

import contextlib
import io
import json
import os
import resource
import sys
import time
from collections.abc import Sequence

import tyro  # noqa: F401 (before the fork: every command pays it)
import yaml  # noqa: F401

from sslens.cli import main

#: CPU seconds after which a line is ended
LIMIT = 20


def try_line(arguments: Sequence[str]) -> dict[str, object]:
    """Run a command line here."""
    said, began = io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            status = main(list(arguments))
        except SystemExit as stop:
            status = int(stop.code or 0)
    return {
        "status": status,
        "said": said.getvalue(),
        "torch": "torch" in sys.modules,
        "seconds": round(time.process_time() - began, 3),
    }


def fork(arguments: Sequence[str]) -> dict[str, object]:
    """Run a command line in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
        with os.fdopen(writing, "w") as pipe:
            json.dump(try_line(arguments), pipe)
            pipe.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    late = {"status": -1, "said": f"over {LIMIT} s of CPU", "torch": True, "seconds": LIMIT}
    result: dict[str, object] = json.loads(text or json.dumps(late))
    return result


if __name__ == "__main__":
    assert "torch" not in sys.modules
    json.dump([fork(line) for line in json.load(sys.stdin)], sys.stdout)
