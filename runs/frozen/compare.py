"""Hold the tables of two versions of the code against each other, on one machine.

Whole numbers and texts are equal, floats within 1e-12.

    git worktree add ../before 95658a4
    python runs/frozen/compare.py ../before/src src            # all cases, under two minutes on one
    core python runs/frozen/compare.py ../before/src src blocks probes    # these

Both versions run the same commands on the same files (`tests/frozen/cases.py`), each in a process
of its own, one after the other; the new tables go through `tests/frozen/mapping.py`, which makes
the old ones of them. It prints a line a table: the largest difference of two floats and the column
of it, and what is not equal. The exit status is 1 where any table differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from frozen import cases, mapping  # noqa: E402 (which lie in tests/)


def compute(source: Path, out: Path, wanted: list[str]) -> None:
    """The tables of the code under a source tree."""
    environment = {**os.environ, "PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(HERE / "make.py"), "tables", "--out", str(out), "--cases", *wanted]
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Compute both, compare, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, help="the folder src of the old code")
    parser.add_argument("new", type=Path, help="the folder src of the new code")
    parser.add_argument("cases", nargs="*", default=list(cases.BY_NAME), help="all unless given")
    options = parser.parse_args()
    apart = False
    with tempfile.TemporaryDirectory() as temporary:
        outs = [Path(temporary, name) for name in ("old", "new")]
        for source, out in zip((options.old, options.new), outs, strict=True):
            compute(source, out, options.cases)
        for case in options.cases:
            before, now = (cases.kept_tables(case, out / "tables") for out in outs)
            for name, table in before.items():
                old = mapping.drop_gone(name, mapping.frame_of(table))
                redone = mapping.REDONE.get(name, ())
                found = mapping.apart(old, mapping.old_table(name, now, old), redone=redone)
                wrong = bool(found.said) or not found.largest <= cases.EXACT
                apart |= wrong
                where = f" in {found.where}" if found.where else ""
                verdict = "APART" if wrong else "equal"
                said = "; ".join(found.said)
                print(f"{verdict}  {f'{case}/{name}':<36} {found.largest:.1e}{where}  {said}")
    print("Some tables differ." if apart else "All tables are equal.")
    return int(apart)


if __name__ == "__main__":
    sys.exit(main())
