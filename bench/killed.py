"""A reproduction that is killed at random moments, and whether its tables are those of one that was
not: byte for byte.

    python bench/killed.py                                              ten kills, minutes
    python bench/killed.py knn-depth cka-blocks --kills 20 --limit 128

The exhibits are computed once without a break, which says how long they take. Then the same command
is started again and again, and each time gets SIGKILL at a moment that is drawn uniformly from that
long; what was computed until then is in its store. Where a run ends before its moment, a new folder
is begun. At last every folder's command is run to its end, and its tables are compared.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

EXHIBITS = ("finetune-path", "cka-msn")


def start(folder: Path, exhibits: Sequence[str], limit: int) -> "subprocess.Popen[bytes]":
    """Start the reproduction, with a store of its own and its report below `folder`."""
    line = [sys.executable, "-m", "sslens", "reproduce", *exhibits, "--limit", str(limit)]
    return subprocess.Popen(
        [*line, "--device", "cpu", "--out", str(folder / "out")],
        env=os.environ | {"SSLENS_HOME": str(folder / "home")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_at(process: "subprocess.Popen[bytes]", moment: float) -> bool:
    """Kill a process after so many seconds; returns whether it had not ended by then."""
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def compare(whole: Path, other: Path) -> tuple[int, list[str]]:
    """Count the tables of a reproduction, and list those that differ in another one."""
    tables = sorted(path.relative_to(whole) for path in whole.rglob("*.csv"))
    unlike = [
        str(table)
        for table in tables
        if not (other / table).is_file()
        or (whole / table).read_bytes() != (other / table).read_bytes()
    ]
    return len(tables), unlike


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("exhibits", nargs="*", default=EXHIBITS)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--limit", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, failed = random.Random(given.seed), False
    with tempfile.TemporaryDirectory() as name:
        base, began = Path(name), time.monotonic()
        if start(base / "whole", given.exhibits, given.limit).wait():
            print("the reproduction fails without being killed")
            return 1
        seconds = time.monotonic() - began
        print(f"whole     {seconds:6.1f} s")
        folders, kills = [base / "0"], 0
        while kills < given.kills:
            moment = draw.uniform(0.0, seconds)
            if kill_at(start(folders[-1], given.exhibits, given.limit), moment):
                kills += 1
                print(f"killed    {moment:6.1f} s, folder {len(folders) - 1}", flush=True)
            else:
                folders.append(base / str(len(folders)))
        for number, folder in enumerate(folders):
            status = start(folder, given.exhibits, given.limit).wait()
            count, unlike = compare(base / "whole" / "out", folder / "out")
            failed |= bool(status or unlike or not count)
            said = ", ".join(unlike) or "all equal byte for byte"
            print(f"folder {number}  {count} tables, {said}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
