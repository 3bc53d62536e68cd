"""The study of detection on scenes: its trainings, one after another or side by side, and whether
they were long enough.

    python runs/detection/make.py command             the command of each part
    python runs/detection/make.py train --out DIR     train what the store lacks, two at a time
    python runs/detection/make.py report --out DIR    the whole study, as a report in DIR/report
    python runs/detection/make.py gained --out DIR    what the last quarter of each training gained
    python runs/detection/make.py pack --out DIR      reproduce each exhibit, and put its tables and
                                                      verdicts into the package

`scenes.yaml` declares models, images, steps and settings. Every training is a study of one model
and one exhibit, so that two can be made at a time; all share the store of SSLENS_HOME, or DIR/home
unless it is set. What was stopped goes on where it was, to the same weights. Random weights and raw
pixels are trained with the first model. A training was too short if its box AP gained half a point
or more in the last quarter of its steps: then raise `epochs` in scenes.yaml, for all models, and
train again.
"""

import argparse
import csv
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from sslens.study.reproduce_request import ReproduceRequest
from sslens.study.reproduction import plan_steps
from sslens.study.stored_results import pack

FILE = Path(__file__).with_name("scenes.yaml")
#: the exhibits that train detectors, and what each trains
EXHIBITS = {
    "detection-frozen": "frozen",
    "detection-finetuned": "end to end",
    "detection-layers": "several blocks, frozen",
}
#: box AP, share, that the last quarter may gain
GAIN = 0.005


def list_commands(out: Path) -> dict[str, list[str]]:
    """The arguments of `python` of each training, by a name; the frozen detectors come first, as
    the other exhibits are held against them."""
    models = yaml.safe_load(FILE.read_text(encoding="utf-8"))["models"]
    commands = {}
    for exhibit in EXHIBITS:
        for model in models:
            name = f"{exhibit}/{model}"
            own = [f"models=[{model}]", f"analyses=[{exhibit}]", "device=cpu"]
            own += ["controls=false"] if model != models[0] else []
            commands[name] = _make_command(out / "parts" / name, own)
    return commands


def _make_command(out: Path, overrides: list[str]) -> list[str]:
    return ["-m", "sslens", "study", str(FILE), *overrides, "--out", str(out)]


def run_all(commands: dict[str, list[str]], jobs: int) -> None:
    """Run commands, so many at a time; each says when it is done."""

    def run(name: str) -> None:
        subprocess.run([sys.executable, *commands[name]], check=True, stdout=subprocess.DEVNULL)
        print(f"{name}: done", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, commands))


def pack_results(exhibit: str, out: Path) -> Path:
    """Reproduce an exhibit with the trainings of the store, and put its tables and verdicts into
    the package; returns their folder."""
    command = ["-m", "sslens", "reproduce", exhibit, "--device", "cpu", "--out", str(out)]
    subprocess.run([sys.executable, *command, "--costly", "--overwrite"], check=True)
    (step,) = plan_steps(ReproduceRequest((exhibit,)))
    return pack(step, out / exhibit)


def say_gained(report: Path) -> None:
    """Print what the last quarter of each training gained, and whether it was long enough."""
    for exhibit, how in EXHIBITS.items():
        path = report / "tables" / exhibit / "trainings-made.csv"
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                gained = float(row["gained"])
                enough = "enough" if gained < GAIN else "too short"
                print(f"{row['model']}, {how}: {100 * gained:+.2f} points, {enough}")


def main() -> None:
    """Print, train, report, judge or pack, as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("command", "train", "report", "gained", "pack"))
    parser.add_argument("--out", type=Path, default=Path("sslens-detection-scenes"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--only", default="", help="only trainings with this in their names")
    given = parser.parse_args()
    os.environ.setdefault("SSLENS_HOME", str(given.out / "home"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    commands = {
        name: words for name, words in list_commands(given.out).items() if given.only in name
    }
    whole = _make_command(given.out / "report", ["device=cpu"])
    if given.what == "command":
        for words in (*commands.values(), whole):
            print(shlex.join(["python", *words]))
    elif given.what == "train":
        for exhibit in EXHIBITS:  # a frozen detector is trained once
            own = {name: words for name, words in commands.items() if name.startswith(exhibit)}
            run_all(own, given.jobs)
    elif given.what == "report":
        subprocess.run([sys.executable, *whole], check=True)
    elif given.what == "pack":
        for exhibit in (one for one in EXHIBITS if given.only in one):
            print(pack_results(exhibit, given.out / "reproduced"))
    else:
        say_gained(given.out / "report")


if __name__ == "__main__":
    main()
