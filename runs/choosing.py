"""How often measures without labels choose a good checkpoint of a training, on our own records.

    python runs/choosing.py                    # all records of the scenes
    python runs/choosing.py FOLDER …           # the records in these folders

A record is a training's log (`NAME.jsonl`), which says of ten or more steps the 20-NN accuracy on
2,000 held-out scenes, the loss, the spread and, since version 4, the effective rank of the features
of these scenes; and, since version 4, `NAME.states.csv`, the CKA of each state with the last one.
Trainings with labels, fine-tunings and shorter records are left out. Of each training the pooling
(CLS or mean of patches) is taken that has the highest accuracy at any step, for all measures.

Each measure chooses one step of each training; of equal ones it takes the later:

- the last: the last step, whatever is measured;
- effective rank, spread: where it is highest; loss: where the mean of the loss since the step that
  was measured before is lowest;
- CKA with the last ≥ 0.99: the first step from which on it stays so, after the last block, over all
  tokens. It chooses where to stop, and not what is best;
- chance: any step, all with the same probability.

A choice is the best if no step has a higher accuracy; the loss is the accuracy of the best step
less that of the chosen one, in points. The shares have exact (Clopper–Pearson) 95 % intervals over
trainings, the mean loss Student's. An accuracy on 2,000 scenes has a standard error of up to 1.1
points, so that "within a point of the best" is what these records can tell.
"""

import argparse
import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import scipy

from sslens.statistics.proportions import Counts

HERE = Path(__file__).resolve().parent
FOLDERS = (HERE / "scenes",)
#: fewest steps of a record, and the accuracy that is as good as the best
STEPS, CLOSE = 10, 0.01
#: CKA with the last state from which on a state is taken for the last one
SETTLED = 0.99
WITH_LABELS = ("supervised", "_ft")


@dataclass(frozen=True)
class Look:
    """What was measured at a step: None where it was not."""

    step: int
    accuracy: float
    loss: float
    spread: float | None
    rank: float | None
    cka: float | None


@dataclass(frozen=True)
class Record:
    """The record of a training."""

    name: str
    pooling: str
    looks: tuple[Look, ...]

    @property
    def best(self) -> float:
        """The highest accuracy."""
        return max(look.accuracy for look in self.looks)


def read_record(path: Path) -> Record | None:
    """Read a training's log and states; None of a short one, and where k-NN was not measured."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    looks = [line for line in lines if "knn_cls" in line or "knn_patch" in line]
    if len(looks) < STEPS:
        return None
    pooling = max(
        (name for name in ("cls", "patch") if f"knn_{name}" in looks[0]),
        key=lambda name: max(look[f"knn_{name}"] for look in looks),
    )
    states = read_states(path.with_suffix(".states.csv"))
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    found, before = [], 0
    for look in looks:
        step = int(look["step"])
        found.append(
            Look(
                step,
                look[f"knn_{pooling}"],
                mean(loss for at, loss in losses if before < at <= step),
                look.get("spread"),
                look.get(f"rank_{pooling}"),
                states.get(step),
            )
        )
        before = step
    version = "v4" if path.parent.name == "scenes-v4" or states else "v3"
    return Record(f"{path.stem.removeprefix('scenes_')} ({version})", pooling, tuple(found))


def read_states(path: Path) -> dict[int, float]:
    """Read the CKA of each state with the last one, after the last block."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["tokens"] == "all"]
    blocks = [row for row in rows if row["kind"] == "block"]
    deepest = max(float(row["depth"]) for row in blocks)
    last = [row for row in blocks if float(row["depth"]) == deepest]
    return {int(row["step"]): float(row["cka"]) for row in last}


def choose_most(of: Callable[[Look], float | None]) -> Callable[[Record], Look | None]:
    """Make a chooser of the step at which a measure is highest."""

    def choose(record: Record) -> Look | None:
        known = [(value, look) for look in record.looks if (value := of(look)) is not None]
        return max(reversed(known), key=lambda one: one[0])[1] if known else None

    return choose


def choose_settled(record: Record) -> Look | None:
    """Choose the first step from which on CKA with the last state stays high."""
    if any(look.cka is None for look in record.looks):
        return None
    settled = list(record.looks)
    while len(settled) > 1 and (settled[-2].cka or 0.0) >= SETTLED:
        settled.pop()
    return settled[-1]


CHOOSERS: Mapping[str, Callable[[Record], Look | None]] = {
    "the last": lambda record: record.looks[-1],
    "effective rank (RankMe)": choose_most(lambda look: look.rank),
    "spread": choose_most(lambda look: look.spread),
    "lowest loss": choose_most(lambda look: -look.loss),
    f"CKA with the last ≥ {SETTLED}": choose_settled,
}


def spell_share(hits: int, count: int) -> str:
    """Write a share of trainings with its exact interval."""
    low, high = Counts(hits, count).interval()
    return f"{hits} of {count} [{low:.0%}, {high:.0%}]"


def spell_mean(losses: Sequence[float]) -> str:
    """Write a mean of points with Student's interval over trainings."""
    if len(losses) < 2:
        return f"{mean(losses):.1f}"
    half = float(scipy.special.stdtrit(len(losses) - 1, 0.975))
    half *= stdev(losses) / math.sqrt(len(losses))
    low = max(0.0, mean(losses) - half)  # no step is better than the best
    return f"{mean(losses):.1f} [{low:.1f}, {mean(losses) + half:.1f}]"


def list_choices(records: Sequence[Record]) -> Iterator[str]:
    """Write the table of measures: how often each chooses well, and what it loses."""
    yield "| chosen by | the best | within a point of it | loses in the mean, points | at most |"
    yield "|---|---|---|---|---|"
    for name, choose in CHOOSERS.items():
        chosen = [(record, look) for record in records if (look := choose(record)) is not None]
        if not chosen:
            continue
        losses = [record.best - look.accuracy for record, look in chosen]
        best, close = (sum(loss <= most + 1e-9 for loss in losses) for most in (0.0, CLOSE))
        points = [100 * loss for loss in losses]
        yield (
            f"| {name} | {spell_share(best, len(losses))} | {spell_share(close, len(losses))} |"
            f" {spell_mean(points)} | {max(points):.1f} |"
        )
    shares = [
        [
            mean(record.best - look.accuracy <= most + 1e-9 for look in record.looks)
            for record in records
        ]
        for most in (0.0, CLOSE)
    ]
    losses = [
        100 * mean(record.best - look.accuracy for look in record.looks) for record in records
    ]
    yield (
        f"| chance | {mean(shares[0]):.0%} expected | {mean(shares[1]):.0%} expected |"
        f" {spell_mean(losses)} | |"
    )


def list_records(records: Sequence[Record]) -> Iterator[str]:
    """Write the table of trainings: what each measure chose, and what that loses."""
    names = [name for name in CHOOSERS if any(CHOOSERS[name](record) for record in records)]
    yield f"| training | pooling | steps | best 20-NN | {' | '.join(names)} |"
    yield "|---|---|---|---|" + "---|" * len(names)
    for record in records:
        best = max(reversed(record.looks), key=lambda look: look.accuracy)
        cells = []
        for name in names:
            look = CHOOSERS[name](record)
            loss = None if look is None else 100 * (look.accuracy - record.best)
            cells.append("–" if look is None or loss is None else f"{look.step:,}: {loss:+.1f}")
        yield (
            f"| {record.name} | {record.pooling} | {len(record.looks)} |"
            f" {best.accuracy:.1%} at {best.step:,} | {' | '.join(cells)} |"
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("folders", nargs="*", type=Path, default=FOLDERS)
    paths = [
        path for folder in parser.parse_args().folders for path in sorted(folder.glob("*.jsonl"))
    ]
    chosen = [path for path in paths if not any(word in path.stem for word in WITH_LABELS)]
    records = [record for path in chosen if (record := read_record(path)) is not None]
    if not records:
        raise SystemExit("There is no log with k-NN at ten or more steps in these folders.")
    print("\n".join(list_choices(records)))
    print()
    print("\n".join(list_records(records)))


if __name__ == "__main__":
    main()
