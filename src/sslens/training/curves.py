"""The curves of a run that is over, from its log: loss, learning rate, k-NN accuracy, the rank of
its features and the accuracy of a classifier against epochs, as a table and a figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
import pandas as pd

from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.figure import Figure, Line, Lines
from sslens.statistics.estimate import NAN, Estimate
from sslens.statistics.proportions import find_chance, wilson
from sslens.table import Table
from sslens.tasks.accuracy import METRICS
from sslens.tasks.held_out_loss import GAIN_ENDS
from sslens.tasks.held_out_loss import METRICS as GENERATED
from sslens.training.kept import LogLine

if TYPE_CHECKING:
    from sslens.training.watch import HeldOut

TITLE = "How did the training go?"
#: gain below which features do not reach the images: those of another image cost less than a
#: hundredth of the loss then; the interval of the gain decides
REACHED = 0.01
#: what the gain does not tell
JUDGE = "whether samples can be trusted is told by the analysis samples"
POOLINGS = {
    "knn_cls": "CLS token",
    "knn_patch": "mean of patch tokens",
    "knn_mean": "mean over places",
}
RANKS = {
    "rank_cls": "CLS token",
    "rank_patch": "mean of patch tokens",
    "rank_mean": "mean over places",
}
TOPS = {metric.name: metric.label for metric in METRICS if metric.higher_is_better}
UNITS = {
    "step": "optimiser's steps done",
    "epoch": "passes over the images done",
    "loss": "mean loss of the steps since the line before, as the objective defines it",
    "lr": "learning rate of the step",
    "knn_cls": (
        "share of held-out images whose class weighted cosine k-NN predicts from the CLS token"
        " (k = 20 or a smaller bank, temperature 0.07)"
    ),
    "knn_patch": "the same from the mean of the patch tokens",
    "knn_mean": "the same from the mean over places",
    **{metric.name: metric.unit for metric in (*METRICS, *GENERATED)},
    **GAIN_ENDS,
    "spread": "standard deviation of the L2-normalised features of images, 0 to 1",
    "rank_cls": "effective rank (RankMe) of the CLS tokens of images, 1 to their dimension",
    "rank_patch": "the same of the means of the patch tokens",
    "rank_mean": "the same of the means over places",
}


def write_caption(table: Table) -> str:
    """Say what the curves are, of those that the table has.

    >>> frame = pd.DataFrame({"step": [2], "epoch": [1.0], "loss": [0.5], "lr": [0.1]})
    >>> write_caption(Table(frame, UNITS)).partition(". ")[0]
    'Loss (mean of the steps between two lines of the log) and learning rate'
    """
    columns = set(table.frame.columns)
    parts = ["Loss (mean of the steps between two lines of the log)", "learning rate"]
    if columns & {*RANKS}:
        parts.append("the effective rank of the features after the last layer (RankMe)")
    if columns & {*POOLINGS}:
        parts.append("the share of held-out images that cosine k-NN classifies right by them")
    if columns & {*TOPS}:
        parts.append("the share of held-out images that the trained classifier gets right")
    if "held_gain" in columns:
        parts.append(
            "the loss of held-out images by the average of the weights (always with the same noise"
            " and times)"
        )
        parts.append(
            "the gain, which is the share by which that loss falls from another image's features"
            " to the image's own, 0 where the representation does not reach the images"
        )
    told = f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{told}. The loss of one objective says nothing beside that of another."


def compute(lines: Sequence[LogLine]) -> Table:
    """Collect the numbers of a log in a table with one row per step.

    A column is missing where no line has its number, and a cell is nan where the step was not
    measured so.

    Args:
        lines: the lines of the log; several lines of one step are merged into one row.

    >>> step = {"step": 2, "epoch": 1.0}
    >>> compute([step | {"loss": 0.5, "lr": 0.1}, step | {"knn_cls": 0.75}]).frame.shape
    (1, 5)
    """
    merged: dict[int, dict[str, float]] = {}
    for line in lines:
        numbers = {key: float(value) for key, value in line.items() if key in UNITS}
        merged.setdefault(int(line["step"]), {}).update(numbers)
    frame = pd.DataFrame(list(merged.values()))
    return Table(
        frame[[column for column in UNITS if column in frame]].astype({"step": int}), UNITS
    )


def draw(table: Table) -> Figure:
    """Draw the curves against epochs: one panel for the loss and one for the learning rate, and one
    for k-NN, one for the rank of the features, one for a classifier and two for a generator where
    they were measured."""
    frame = table.frame
    panels = [
        Lines("", "epoch", label, (_line(frame, column, label),), None)
        for column, label in (("loss", "loss"), ("lr", "learning rate"))
    ]
    measured = [name for name in POOLINGS if name in frame]
    if measured:
        lines = tuple(_line(frame, name, POOLINGS[name]) for name in measured)
        panels.append(Lines("", "epoch", "k-NN accuracy", lines, (0.0, 1.0)))
    ranks = [name for name in RANKS if name in frame]
    if ranks:
        lines = tuple(_line(frame, name, RANKS[name]) for name in ranks)
        panels.append(Lines("", "epoch", "effective rank", lines, None))
    tops = [name for name in TOPS if name in frame]
    if tops:
        panels.append(
            Lines(
                "",
                "epoch",
                "accuracy",
                tuple(_line(frame, name, TOPS[name]) for name in tops),
                (0.0, 1.0),
            )
        )
    for metric in GENERATED:
        if metric.name in frame:
            line = _line(frame, metric.name, metric.label)
            panels.append(Lines("", "epoch", metric.label, (line,), None))
    return Figure("training", (tuple(panels),))


def _line(frame: pd.DataFrame, column: str, name: str) -> Line:
    rows = frame[frame[column].notna()]
    x, y = (rows[one].to_numpy(np.float64) for one in ("epoch", column))
    if f"{column}_low" not in frame:
        return Line(name, x, y)
    return Line(name, x, y, *(rows[f"{column}_{end}"].to_numpy(float) for end in ("low", "high")))


@final
@dataclass(frozen=True)
class Judged:
    """The held-out images of which a log has accuracies.

    Attributes:
        count: how many they are.
        chance: share of the most frequent class among them.
    """

    count: int
    chance: float

    @classmethod
    def of(cls, images: ImageSet) -> "Judged | None":
        """The images of a labelled set; None of others."""
        if images.labels is None:
            return None
        return cls(len(images), find_chance(images.labels))

    def estimate(self, share: float) -> Estimate:
        """A share of these images with its 95 % Wilson interval.

        >>> one = Judged(10, 0.5).estimate(0.8)
        >>> one.value, round(one.low, 4), round(one.high, 4)
        (0.8, 0.4902, 0.9433)
        """
        return Estimate(share, *wilson(round(share * self.count), self.count), "images", self.count)


def describe_accuracy(share: float, judged: Judged | None) -> str:
    """Write a share of held-out images, with its interval and what chance is where these are known.

    >>> describe_accuracy(0.8, Judged(10, 0.5))
    '80.0% [49.0%, 94.3%] of the 10 held-out images (always the most frequent class: 50.0%)'
    >>> describe_accuracy(0.8, None)
    '80.0% of the held-out images'
    """
    if judged is None:
        return f"{share:.1%} of the held-out images"
    one = judged.estimate(share)
    return (
        f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}] of the"
        f" {spell_count(judged.count, 'held-out image')} (always the most frequent class:"
        f" {judged.chance:.1%})"
    )


def read_gain(lines: Sequence[LogLine]) -> Estimate | None:
    """Read how much of a generator's held-out loss the images' own features took away at the end,
    from its log; None where no images were held out. Older logs have no interval of it.

    >>> read_gain([{"step": 2, "held_gain": 0.5}])
    Estimate(value=0.5, low=nan, high=nan, over='images', n=0)
    """
    told = [line for line in lines if "held_gain" in line]
    if not told:
        return None
    last = {"held_images": 0} | dict.fromkeys(GAIN_ENDS, NAN) | dict(told[-1])
    return Estimate.from_row(last, "held_gain", "images", "held_images")


def does_reach(gain: Estimate) -> bool | None:
    """Whether a generator's representation reaches the images: the interval of the gain lies above
    `REACHED`, or below; None where it does not decide.

    >>> [does_reach(Estimate(0.5, low, 0.6, "images", 64)) for low in (0.4, -0.1)]
    [True, None]
    """
    over = Estimate(gain.value - REACHED, gain.low - REACHED, gain.high - REACHED, n=gain.n)
    return None if not over.sign else over.sign > 0


def describe_gain(gain: Estimate) -> str:
    """Write how much of a generator's loss the images' own features take away, and what follows.

    >>> describe_gain(Estimate(0.0001, -0.001, 0.002, "images", 64)).partition(":")[0]
    'The representation does not reach the images (gain 0.0% [-0.1%, 0.2%], of 64 held-out images)'
    """
    spelt = f"{gain.value:.1%}"
    if gain.low == gain.low:
        spelt += f" [{gain.low:.1%}, {gain.high:.1%}]"
    held = f"{gain.n:,} held-out images" if gain.n else "held-out images"
    reached = does_reach(gain)
    if reached is False:
        return (
            f"The representation does not reach the images (gain {spelt}, of {held}): with another"
            " image's features the loss is hardly larger than with their own. Samples say nothing"
            " of the representation then; train longer."
        )
    taken = f"An image's own features take away {spelt} of the loss that {held} have with another"
    if reached:
        return f"{taken} image's features: the representation reaches the images; {JUDGE}."
    return (
        f"{taken} image's features: whether the representation reaches the images (a gain of"
        f" {REACHED:.0%} or more) is undecided; hold out more images, or train longer; {JUDGE}."
    )


def read_last(lines: Sequence[LogLine]) -> dict[str, int | float | str]:
    """Read the last value of everything that a log tells, but for its warnings and times.

    >>> read_last([{"step": 2, "loss": 0.5, "time": 1.0}, {"step": 4, "knn_cls": 0.75}])
    {'step': 4, 'loss': 0.5, 'knn_cls': 0.75}
    """
    last: dict[str, int | float | str] = {}
    for line in lines:
        last |= {name: value for name, value in line.items() if name not in ("warning", "time")}
    return last


def describe_knn(last: LogLine, held: "HeldOut") -> tuple[str, ...]:
    """Write the accuracy of k-NN by each pooling, with its interval and what chance is.

    Args:
        last: the last numbers of a log (`read_last`).
        held: the images that are classified, and those that vote.

    >>> import sslens
    >>> from sslens.training.watch import HeldOut
    >>> held = HeldOut.split(sslens.open_images("scenes:0:64"))
    >>> describe_knn({"knn_cls": 9 / 15}, held)[0].partition(" (")[0]
    'CLS token: 60.0% [35.7%, 80.2%] of the 15 held-out images'
    """
    judged = Judged.of(held.queries)
    return tuple(
        f"{pooling}: {describe_accuracy(float(last[name]), judged)}"
        for name, pooling in POOLINGS.items()
        if name in last
    )


def estimate_knn(last: LogLine, held: "HeldOut") -> dict[str, int | float]:
    """Give the intervals of k-NN's accuracies, the number of images and what chance is, as numbers
    that are named as those of the log.

    Args:
        last: the last numbers of a log (`read_last`).
        held: the images that are classified, and those that vote.

    >>> import sslens
    >>> from sslens.training.watch import HeldOut
    >>> held = HeldOut.split(sslens.open_images("scenes:0:64"))
    >>> list(estimate_knn({"knn_cls": 9 / 15}, held))
    ['knn_images', 'knn_chance', 'knn_cls_low', 'knn_cls_high']
    """
    judged = Judged.of(held.queries)
    assert judged is not None  # held-out images have classes
    numbers: dict[str, int | float] = {"knn_images": judged.count, "knn_chance": judged.chance}
    for name in POOLINGS:
        if name in last:
            one = judged.estimate(float(last[name]))
            numbers |= {f"{name}_low": one.low, f"{name}_high": one.high}
    return numbers


def findings(
    table: Table, judged: Judged | None = None, held: "HeldOut | None" = None
) -> tuple[str, ...]:
    """Describe the curves in sentences: the last and the best accuracy of a classifier and of k-NN
    by each pooling, how much of a generator's loss the images' own representations take away, and
    the loss at both ends.

    Args:
        table: what `compute` returned.
        judged: the images that the classifier's accuracy is of, for its interval.
        held: the images that k-NN classifies, for the interval of its accuracy, and those that
            vote.
    """
    return tuple(_findings(table.frame, judged, held))


def _findings(frame: pd.DataFrame, judged: Judged | None, held: "HeldOut | None") -> Iterator[str]:
    if "top1" in frame:
        rows = frame[frame.top1.notna()]
        best = rows.loc[rows.top1.idxmax()]
        yield (
            f"Top-1 accuracy at the end: {describe_accuracy(rows.top1.iloc[-1], judged)}; the best"
            f" was {best.top1:.1%}, after epoch {best.epoch:g}, which these images chose, and is"
            " kept in best.safetensors."
        )
    votes = "" if held is None else f" ({held.describe_votes()})"
    classified = None if held is None else Judged.of(held.queries)
    for name, pooling in POOLINGS.items():
        if name in frame:
            rows = frame[frame[name].notna()]
            best = rows.loc[rows[name].idxmax()]
            yield (
                f"Accuracy of k-NN by the {pooling}{votes} at the end:"
                f" {describe_accuracy(rows[name].iloc[-1], classified)}; the best of {len(rows)}"
                f" look{'' if len(rows) == 1 else 's'} was {best[name]:.1%}, after epoch"
                f" {best.epoch:g}, which these images chose."
            )
    if "held_gain" in frame:
        rows = frame[frame.held_gain.notna()]
        gain = read_gain(rows.to_dict("records"))
        assert gain is not None
        yield describe_gain(gain)
        yield _write_course(rows, "held_loss", "loss of held-out images")
    yield _write_course(frame[frame.loss.notna()], "loss", "loss")


def _write_course(rows: pd.DataFrame, column: str, name: str) -> str:
    """Write a number at both ends, or once where it is known at one step alone."""
    first, last = rows.iloc[0], rows.iloc[-1]
    if len(rows) == 1:
        return f"The {name} was {last[column]:.4g} (step {last.step:,.0f}, the only one logged)."
    return (
        f"The {name} went from {first[column]:.4g} (step {first.step:,.0f}) to"
        f" {last[column]:.4g} (step {last.step:,.0f})."
    )


def warnings(lines: Sequence[LogLine]) -> tuple[str, ...]:
    """Collect the texts of the warnings that the log holds, in their order.

    >>> warnings([{"step": 1, "loss": 0.0}, {"step": 2, "warning": "It collapsed."}])
    ('It collapsed.',)
    """
    return tuple(str(line["warning"]) for line in lines if "warning" in line)
