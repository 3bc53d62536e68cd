"""Which features and classifier to use of each model: chosen on some images and judged on others,
against the usual choice, raw pixels and the model that is first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import pandas as pd

from sslens.comparisons.inputs import CLASSES
from sslens.comparisons.options import Options, subtract_from_first
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row
from sslens.statistics.estimate import SMALLEST, Estimate
from sslens.statistics.proportions import difference_of_shares, estimate_share

#: the columns of the differences: the chosen less the usual one, both less the chosen one of raw
#: pixels, and what to use of the first model less what to use of this one
GAINS = ("over_usual", "over_pixels", "usual_over_pixels", "first_over")
_OTHER = {
    "over_usual": "accuracy less that of the usual choice of the model",
    "over_pixels": "accuracy less that of raw pixels, of which the choice was made in the same way",
    "usual_over_pixels": "accuracy of the usual choice less that of raw pixels",
    "first_over": (
        "accuracy of what to use of the model that is first, less that of what to use of this one"
    ),
}
_IMAGES = "images paired"
#: `first_over` is told of one that was the first among several
_PAIRED = {
    "first_over": f"{_IMAGES}, which holds at once for each two models, or a model and a control",
    **dict.fromkeys(("over_pixels", "usual_over_pixels"), f"{_IMAGES}, of this model alone"),
}
UNITS: dict[str, str] = {
    "model": "name",
    "control": "whether it is a control",
    "tap": "where the features are read, as chosen; two that are concatenated are joined by +",
    "pooling": "how tokens are pooled, as chosen",
    "features": "raw or standardised, as chosen; empty of probes, which standardise",
    "layers": "layers of the probe, as chosen; 0 where no probe is trained",
    "k": "neighbours that vote; 0 where a probe is trained",
    "options": "choices that there were",
    "validation": "accuracy on the images on which the choice was made",
    "chosen_on": "images on which the choice was made",
    "accuracy": "accuracy on the other images",
    "low": "lower end of its 95 % Wilson interval",
    "high": "upper end",
    "usual_tap": "where the usual choice reads: the last layer",
    "usual_pooling": (
        "how the usual choice pools: as the model's own classifier read, else CLS, or the mean"
        " where there is none"
    ),
    "usual_accuracy": "accuracy of the usual choice on the same images as `accuracy`",
    "usual_low": "lower end of its 95 % Wilson interval",
    "usual_high": "upper end",
    "use": (
        "what to use: chosen, where that is better than the usual choice by half a point and above"
        " chance, both by intervals that hold for all models at once; else usual; of controls what"
        " was chosen"
    ),
    "first": "whether no other model under study is more accurate with what is to be used of it",
    **{
        name + end: text
        for gain in GAINS
        for name, end, text in (
            (gain, "", f"{_OTHER[gain]}, on the same images"),
            (gain, "_low", f"lower end of its 95 % interval, {_PAIRED.get(gain, _IMAGES)}"),
            (gain, "_high", "upper end"),
        )
    },
    "images": "images on which the choices are judged",
    "chance": "share of the most frequent class among all labelled images",
    **CLASSES,
}
TEXTS = ("model", "tap", "pooling", "features", "usual_tap", "usual_pooling", "use")
CHOICES = tuple(UNITS)


def list_choices(
    models: Sequence[Options], chance: float, classes: Mapping[str, int] | None = None
) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `choices`, one for each model and control.

    Args:
        models: the options of each model that has the usual one.
        chance: share of the most frequent class among all labelled images.
        classes: how many classes these are of, in the columns `CLASSES`; None if not known.
    """
    pixels = next((one.best for one in models if one.model == PIXELS), None)
    studied = [one.model for one in models if not one.control]
    uses = {one.model: one.choose_use(chance, len(studied)) for one in models}
    first = max(studied, key=lambda name: uses[name].right.mean(), default="")
    ahead = subtract_from_first(models, uses, first) if first else {}
    for one in models:
        best, usual = one.best, one.usual
        row: Row = {"model": one.model, "control": one.control}
        row |= {name: getattr(best, name) for name in ("tap", "pooling", "features", "layers", "k")}
        row |= {"options": len(one.options), "validation": best.validation}
        row |= {"chosen_on": one.chosen_on}
        row |= estimate_share(best.right).columns("accuracy", ("low", "high"))
        row |= {"usual_tap": usual.tap, "usual_pooling": usual.pooling}
        row |= estimate_share(usual.right).columns("usual_accuracy", ("usual_low", "usual_high"))
        row |= {"use": "usual" if uses[one.model] is usual else "chosen"}
        row |= {"first": one.model == first}
        against = {"over_usual": (best, None if best is usual else usual)}
        against["over_pixels"] = best, None if one.model == PIXELS else pixels
        against["usual_over_pixels"] = usual, None if one.model == PIXELS else pixels
        for name, (left, right) in against.items():
            if right is not None:
                row |= difference_of_shares(left.right, right.right).columns(name)
        if one.model in ahead:
            row |= ahead[one.model].columns("first_over")
        yield "choices", row | {"images": len(best.right), "chance": chance} | dict(classes or {})


@final
@dataclass(frozen=True)
class Choice:
    """What was chosen of a model, as the table `choices` has it.

    Attributes:
        model: its name.
        control: whether it is a control.
        taps: the taps that are read.
        pooling: how tokens are pooled.
        features: "raw" or "standardised"; empty of probes.
        layers: layers of the probe; 0 where no probe is trained.
        k: neighbours that vote; 0 where a probe is trained.
        options: the number of choices that there were.
        validation: accuracy on the images that decided.
        accuracy: accuracy on the other images.
        usual: accuracy of the usual choice on these.
        usual_taps: the taps that the usual choice reads.
        usual_pooling: how the usual choice pools.
        replaces_usual: whether the chosen one is to be used, and not the usual one: it is better by
            half a point or more and by its interval, or it is of a control.
        first: whether no other model under study is more accurate with what is to be used of it.
        gains: the differences `GAINS`, undefined where there is nothing to subtract.
        chance: share of the most frequent class among all labelled images.
        chosen_on: the number of images that decided; 0 where it is not known.
    """

    model: str
    control: bool
    taps: tuple[str, ...]
    pooling: str
    features: str
    layers: int
    k: int
    options: int
    validation: float
    accuracy: Estimate
    usual: Estimate
    usual_taps: tuple[str, ...]
    usual_pooling: str
    replaces_usual: bool
    first: bool
    chance: float
    gains: Mapping[str, Estimate] = field(default_factory=dict)
    chosen_on: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Choice":
        """Read a row of the table `choices`."""
        return cls(
            str(row["model"]),
            bool(row["control"]),
            split_taps(row["tap"]),
            str(row["pooling"]),
            str(row["features"]),
            int(row["layers"]),
            int(row["k"]),
            int(row["options"]),
            float(row["validation"]),
            Estimate.from_row(row, "accuracy", "images", "images", ends=("low", "high")),
            Estimate.from_row(
                row, "usual_accuracy", "images", "images", ends=("usual_low", "usual_high")
            ),
            split_taps(row["usual_tap"]),
            str(row["usual_pooling"]),
            row["use"] == "chosen",
            bool(row["first"]),
            float(row["chance"]),
            {name: Estimate.from_row(row, name, "images", "images") for name in GAINS},
            int(row.get("chosen_on", 0)),
        )

    @property
    def is_usual(self) -> bool:
        """Whether the usual choice was chosen: these taps and pooling, raw features of k-NN, and a
        linear probe."""
        same = (self.taps, self.pooling) == (self.usual_taps, self.usual_pooling)
        return same and self.layers < 2 and self.features in ("", "raw")

    @property
    def over_pixels(self) -> Estimate:
        """Accuracy of what to use less that of raw pixels; undefined where that is not known."""
        return self.gains["over_pixels" if self.replaces_usual else "usual_over_pixels"]

    @property
    def use(self) -> Estimate:
        """Accuracy of what to use."""
        return self.accuracy if self.replaces_usual else self.usual

    @property
    def use_taps(self) -> tuple[str, ...]:
        """The taps to use."""
        return self.taps if self.replaces_usual else self.usual_taps

    @property
    def use_pooling(self) -> str:
        """The pooling to use."""
        return self.pooling if self.replaces_usual else self.usual_pooling

    @property
    def use_features(self) -> str:
        """ "raw" or "standardised", whichever is to be used of k-NN; empty of probes."""
        return self.features if self.replaces_usual or not self.features else "raw"


def split_taps(text: str) -> tuple[str, ...]:
    """Split the name of taps that are concatenated.

    >>> split_taps("blocks.3 + norm")
    ('blocks.3', 'norm')
    """
    return tuple(str(text).split(" + "))


def read_choices(table: pd.DataFrame) -> tuple[Choice, ...]:
    """Read the table `choices`, in the order of its rows."""
    return tuple(Choice.of(row) for row in table.to_dict("records"))


def merge_choices(choices: Iterable[Choice]) -> dict[str, Choice]:
    """Choose of several exhibits of probes what each model is read by, by the model's name.

    It is what the validation images prefer, which are the same for all exhibits; of several that
    are equally good the usual choice, then the one with the fewest layers and taps, then the first.
    """
    best: dict[str, Choice] = {}

    def place(one: Choice) -> tuple[float, bool, int, int]:
        return one.validation, one.is_usual, -one.layers, -len(one.taps)

    for one in choices:
        if one.model not in best or place(one) > place(best[one.model]):
            best[one.model] = one
    return best


def is_hard_to_choose(options: int, chosen_on: int) -> bool:
    """Whether so few images can hardly tell so many options apart: there are fewer images.

    >>> is_hard_to_choose(26, 18), is_hard_to_choose(26, 200), is_hard_to_choose(26, 0)
    (True, False, False)
    """
    return 0 < chosen_on < options


def rank_choices(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """Put models before controls, and the most accurate with what is to be used of it first, on the
    images that did not choose. All that is said of several models has this order."""
    return tuple(sorted(choices, key=lambda one: (one.control, -one.use.value)))


@final
@dataclass(frozen=True)
class Standing:
    """How the other models and the untrained controls stand to the model that is first, each by its
    paired interval on the images that judge (`first_over`), in the order of `rank_choices`.

    Attributes:
        near: the models that are not shown to be worse.
        near_controls: the controls that are not.
        below: the models that are shown to be worse.
        below_controls: the controls that are.
    """

    near: tuple[Choice, ...] = ()
    near_controls: tuple[Choice, ...] = ()
    below: tuple[Choice, ...] = ()
    below_controls: tuple[Choice, ...] = ()

    @classmethod
    def of(cls, choices: Sequence[Choice]) -> "Standing":
        """Read how all others stand to the first; raw pixels are left out."""
        others = [
            one
            for one in rank_choices(choices)
            if not one.first and one.model != PIXELS and one.gains["first_over"].defined
        ]
        parts: dict[tuple[bool, bool], list[Choice]] = {}
        for one in others:
            worse = one.gains["first_over"].find_side(SMALLEST["accuracy"]) == "more"
            parts.setdefault((worse, one.control), []).append(one)
        order = ((False, False), (False, True), (True, False), (True, True))
        return cls(*(tuple(parts.get(key, ())) for key in order))
