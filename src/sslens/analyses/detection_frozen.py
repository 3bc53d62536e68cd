"""Detection and instance segmentation on frozen networks (table 6 of Shekhar et al., 2023; claims
C12 and C17)."""

from collections.abc import Iterator, Mapping

from sslens.comparisons.detection_rows import (
    FROZEN,
    SHARED,
    TEXTS,
    UNITS,
    draw_shared,
    drop_unscored,
    list_shared,
)
from sslens.comparisons.detectors import (
    KINDS,
    MEASURES,
    MULTI,
    DetectorSet,
    compare_sides,
    list_sides,
)
from sslens.comparisons.inputs import Models
from sslens.comparisons.multicrop import uses_multicrop
from sslens.comparisons.rows import Row, make_results
from sslens.figure import Figure
from sslens.table import Results

TITLE = "What does a frozen network know about place?"
CAPTION = (
    "Average precision, in points, of Mask R-CNN on a simple feature pyramid of the last block's"
    " patch map; the network stays as it was pre-trained, and all detectors are trained alike, on"
    " maps that were kept at a few fixed scales and mirrored (which is not large-scale jitter)."
    " Intervals are over images, 95 %, from draws with replacement that all models share; a"
    " detector is trained once, and what another training of it would find is not in them."
    " Controls: a random initialisation, frozen as well, and raw pixels. Below the table the same"
    " images for each model: those in which the models under study are best, and worst, with the"
    " objects and what the model detects. What large and small mean stands in the table of the"
    " trainings."
)
ON_REQUEST = True
WITH, WITHOUT = "with multi-crop", "without multi-crop"
TABLES: Mapping[str, tuple[str, ...]] = {**SHARED, "multi-crop": SHARED["families"]}


def compute(models: Models, *, detections: DetectorSet, seed: int = 0) -> Results:
    """Compare the detectors of frozen networks.

    The table `models` has a row for each model, kind and size, held against the random
    initialisation. `families` has REC less JE; `multi-crop` an objective's models with multi-crop
    less its models without; `published` the numbers of the paper, where the images are COCO's.
    """
    rows = [*list_shared(models, detections, FROZEN), *_compare_crops(models, detections)]
    return make_results(drop_unscored(rows, detections), TABLES, UNITS, TEXTS)


def _compare_crops(models: Models, detections: DetectorSet) -> Iterator[tuple[str, Row]]:
    """Compare the models of one objective with multi-crop with those without."""
    drawn = detections.numbers
    trained = list_sides(models, list(drawn)).get(MULTI, [])
    for objective in dict.fromkeys(models.about(name).objective for name in trained):
        own: Mapping[bool, list[str]] = {True: [], False: []}
        for name in drawn:
            about = models.about(name)
            if objective and about.objective == objective and not about.tuned:
                own[uses_multicrop(about)].append(name)
        if own[True] and own[False]:
            sides = {f"{objective} {WITH}": own[True], f"{objective} {WITHOUT}": own[False]}
            for kind in KINDS:
                for measure in MEASURES:
                    yield "multi-crop", compare_sides(models, drawn, sides, kind, measure)


def draw(results: Results) -> Figure:
    """Draw the table of average precisions, and below it the pictures."""
    return draw_shared("detection-frozen", results, "frozen")
