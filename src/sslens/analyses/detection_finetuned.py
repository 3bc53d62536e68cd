"""Detection and instance segmentation with the network trained too (table 7 of Shekhar et al.,
2023; claim C16)."""

from collections.abc import Iterator, Mapping

from sslens.comparisons import trainings
from sslens.comparisons.detection_rows import (
    DIFFERENCE,
    SHARED,
    TEXTS,
    TUNED,
    UNITS,
    draw_shared,
    drop_unscored,
    list_shared,
)
from sslens.comparisons.detectors import (
    KINDS,
    MEASURES,
    DetectorSet,
    average_models,
    list_sides,
    read_number,
)
from sslens.comparisons.inputs import Models
from sslens.comparisons.roles import REC, list_names
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.trainings import TRAININGS, Sides
from sslens.figure import Figure
from sslens.statistics.bootstrap import Bootstrapped
from sslens.table import Results

TITLE = "What is left of it when the network is trained too?"
CAPTION = (
    "Average precision, in points, of the same detectors trained end to end, with layer decay and"
    " large-scale jitter, after the networks that stay as they are. Intervals are over images,"
    " 95 %, from draws with replacement that all models share, frozen and tuned; a detector is"
    " trained once, and what another training of it would find is not in them. The control is a"
    " random initialisation that was trained in the same way: what it comes to is the training's,"
    " and not the pre-training's. Raw pixels have no weights that could be trained too, and stand"
    " among the networks that stay as they are."
)
ON_REQUEST = True
BEFORE = ("before", "before_low", "before_high")
AFTER = ("after", "after_low", "after_high")
TABLES: Mapping[str, tuple[str, ...]] = {
    **SHARED,
    "changes": (
        *("model", "less", "members", "kind", "measure", *BEFORE, *AFTER, *DIFFERENCE),
        *(*TRAININGS, "images"),
    ),
}


def compute(
    models: Models, *, detections: DetectorSet, finetuned: DetectorSet, seed: int = 0
) -> Results:
    """Compare detectors with networks that were trained too, and what that changes.

    The tables are those of `detection-frozen`, of the tuned networks; and `changes` has REC less JE
    with frozen networks, with tuned ones, and the second less the first.
    """
    rows = [
        *list_shared(models, finetuned, TUNED),
        *_compare_changes(models, detections, finetuned),
    ]
    return make_results(drop_unscored(rows, finetuned), TABLES, UNITS, TEXTS)


def _compare_changes(
    models: Models, frozen: DetectorSet, tuned: DetectorSet
) -> Iterator[tuple[str, Row]]:
    """How the difference of REC and JE changes when the networks are trained too."""
    before, after = frozen.numbers, tuned.numbers
    changed = {name: after[name] - before[name] for name in after if name in before}
    sides = list_sides(models, list(changed))
    if REC not in sides:
        return
    for other in sides:
        if other == REC:
            continue
        pair = {REC: sides[REC], other: sides[other]}
        for place, kind in enumerate(KINDS):
            for at, measure in enumerate(MEASURES):
                yield (
                    "changes",
                    _compare_change(models, pair, (before, after, changed), (place, at))
                    | {"kind": kind, "measure": measure},
                )


def _compare_change(
    models: Models, sides: Sides, drawn: tuple[dict[str, Bootstrapped], ...], at: tuple[int, int]
) -> Row:
    """One row of `changes`, without its kind and measure."""
    (one, first), (other, second) = sides.items()
    number = KINDS[at[0]], MEASURES[at[1]]
    before, after, difference = (
        read_number(
            average_models(models, each, first) - average_models(models, each, second), *number
        )
        for each in drawn
    )

    def measure_alone(chosen: Sides) -> float:
        means = [average_models(models, drawn[2], names).value[at] for names in chosen.values()]
        return float(means[0] - means[1])

    alone = trainings.measure_alone(models, sides, measure_alone)
    members = f"{one}: {list_names(first)}; {other}: {list_names(second)}"
    row: Row = {"model": one, "less": other, "members": members, "images": difference.n}
    row |= before.columns("before") | after.columns("after")
    return row | difference.columns("difference") | trainings.fill_trainings(difference, alone)


def draw(results: Results) -> Figure:
    """Draw the table of average precisions, and below it the pictures."""
    return draw_shared("detection-finetuned", results, "end to end")
