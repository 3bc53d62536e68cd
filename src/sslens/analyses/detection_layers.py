"""Detection on the last block of a frozen network, and on several blocks joined (figure 7 of
Shekhar et al., 2023; claim C15)."""

from collections.abc import Iterator, Mapping

from sslens.comparisons import detection_rows, trainings
from sslens.comparisons.detection_rows import (
    AP,
    DIFFERENCE,
    TEXTS,
    UNITS,
    draw_gains,
    drop_unscored,
    list_models,
)
from sslens.comparisons.detectors import (
    KINDS,
    MEASURES,
    DetectorSet,
    average_models,
    compare_sides,
    list_sides,
    read_number,
)
from sslens.comparisons.inputs import Models
from sslens.comparisons.roles import JE, REC, list_names
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.trainings import TRAININGS, Sides
from sslens.figure import Figure
from sslens.statistics.bootstrap import Bootstrapped
from sslens.table import Results

TITLE = "Do several blocks know more about place than the last one?"
CAPTION = (
    "Average precision, in points, of detectors on the last block of a frozen network, and on"
    " several blocks whose maps are joined (in the papers, of twelve, the last and the three before"
    " it). What several blocks gain is paired over images, with 95 % intervals from draws with"
    " replacement, of one training of each detector. The joined maps have more channels, so that"
    " the pyramid has more weights: the random initialisation shows what these alone gain; raw"
    " pixels have no blocks."
)
ON_REQUEST = True
LAST, SEVERAL = "the last block", "several blocks"
TABLES: Mapping[str, tuple[str, ...]] = {
    "models": detection_rows.TABLES["models"],
    "gains": (
        *("model", "control", "blocks", "less", "kind", "measure", *AP, "other"),
        *(*DIFFERENCE, "images"),
    ),
    "families": (
        *("model", "less", "members", "kind", "measure", "ap", *DIFFERENCE, *TRAININGS),
        "images",
    ),
    "categories": detection_rows.TABLES["categories"],
    "trainings-made": detection_rows.TABLES["trainings-made"],
}


def compute(
    models: Models, *, detections: DetectorSet, joined: DetectorSet, seed: int = 0
) -> Results:
    """Compare detectors on several blocks with detectors on the last one.

    The table `models` has the detectors on several blocks, and in `gains` stands what they gain for
    each model. `families` has the mean gain of JE and of REC, and of REC less JE.
    """
    return make_results(
        drop_unscored(_rows(models, detections, joined), joined), TABLES, UNITS, TEXTS
    )


def _rows(models: Models, last: DetectorSet, several: DetectorSet) -> Iterator[tuple[str, Row]]:
    yield from list_models(models, several)
    one, many = last.numbers, several.numbers
    gains = {name: many[name] - one[name] for name in many if name in one}
    for name, gain in gains.items():
        about = {"model": name, "control": models.is_control(name)}
        about |= {"blocks": several.protocol, "less": LAST, "images": gain.images}
        for kind in KINDS:
            for measure in MEASURES:
                row = about | {"kind": kind, "measure": measure}
                row |= read_number(many[name], kind, measure).columns("ap", ends=("low", "high"))
                row |= {"other": read_number(one[name], kind, measure).value}
                yield "gains", row | read_number(gain, kind, measure).columns("difference")
    yield from _compare_families(models, gains)


def _compare_families(
    models: Models, gains: Mapping[str, Bootstrapped]
) -> Iterator[tuple[str, Row]]:
    """The mean gain of each family, and of REC less JE."""
    sides = {
        side: names for side, names in list_sides(models, list(gains)).items() if side in (JE, REC)
    }
    for place, kind in enumerate(KINDS):
        for at, measure in enumerate(MEASURES):
            for side, names in sides.items():
                yield "families", _describe_gain(models, gains, side, names, (place, at))
            if len(sides) == 2:
                pair = {REC: sides[REC], JE: sides[JE]}
                row = compare_sides(models, gains, pair, kind, measure)
                for left_out in ("low", "high", "other"):
                    del row[left_out]
                yield "families", row


def _describe_gain(
    models: Models,
    gains: Mapping[str, Bootstrapped],
    side: str,
    names: list[str],
    at: tuple[int, int],
) -> Row:
    """The mean gain of one family, with its intervals over images and over trainings too."""
    kind, measure = KINDS[at[0]], MEASURES[at[1]]
    difference = read_number(average_models(models, gains, names), kind, measure)

    def measure_alone(chosen: Sides) -> float:
        return float(average_models(models, gains, chosen[side]).value[at])

    alone = trainings.measure_alone(models, {side: names}, measure_alone)
    row: Row = {"model": side, "less": LAST, "members": f"{side}: {list_names(names)}"}
    row |= {"kind": kind, "measure": measure, "images": difference.n}
    return row | difference.columns("difference") | trainings.fill_trainings(difference, alone)


def draw(results: Results) -> Figure:
    """Draw the average precisions of both detectors of each model beside each other, of boxes and
    below of masks."""
    gains = results["gains"]
    panels = (draw_gains(gains, kind, f"{kind} AP, frozen") for kind in dict.fromkeys(gains.kind))
    return Figure("detection-layers", tuple((panel,) for panel in panels))
