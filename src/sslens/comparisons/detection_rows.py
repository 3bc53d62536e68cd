"""Rows that the exhibits of detection share: each model's average precision, its families, the
length of the trainings, and the published numbers."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from sslens.comparisons import detection_pictures, trainings
from sslens.comparisons.detectors import (
    KINDS,
    MEASURES,
    PAPERS,
    DetectorSet,
    compare_sides,
    find_control,
    list_sides,
    read_number,
)
from sslens.comparisons.inputs import Models
from sslens.comparisons.multicrop import uses_multicrop
from sslens.comparisons.roles import PIXELS, REC
from sslens.comparisons.rows import Row
from sslens.comparisons.trainings import TRAININGS
from sslens.figure import Figure, Heatmap
from sslens.table import Results

#: columns of an average precision, and of a difference
AP = ("ap", "low", "high")
DIFFERENCE = ("difference", "difference_low", "difference_high")
SIDES = ("model", "less", "members", "kind", "measure", *AP, "other", *DIFFERENCE, *TRAININGS)
TABLES: Mapping[str, tuple[str, ...]] = {
    "models": (
        *("model", "control", "objective", "multicrop", "kind", "measure", *AP),
        *("less", *DIFFERENCE, "images"),
    ),
    "families": (*SIDES, "images"),
    "pairs": ("model", "less", "kind", "measure", *AP, "other", *DIFFERENCE, "images"),
    "published": ("model", "objective", "kind", "measure", "published", "ap", "difference"),
    "categories": ("model", "control", "kind", "category", "ap"),
    "trainings-made": (
        *("model", "control", "steps", "epochs", "batch_size", "seconds", "loss", "gained"),
        *("protocol", "sizes"),
    ),
}
#: the tables that frozen and tuned networks share
SHARED = {**TABLES, **detection_pictures.TABLES}
UNITS = {
    **trainings.UNITS,
    **detection_pictures.UNITS,
    "model": "its name, or a side of the claims: JE, JE without or with multi-crop, REC",
    "control": "whether it is a control: a random initialisation, or raw pixels",
    "objective": "its objective; empty if it is not known",
    "multicrop": "whether it was trained on small crops beside large ones",
    "kind": "box or mask",
    "measure": (
        "average precision over overlaps of 0.50 to 0.95 (AP), at one (AP50, AP75), and of objects"
        " of one size"
    ),
    "ap": "share, 0 to 1",
    "low": "lower end of its 95 % interval over images",
    "high": "upper end",
    "less": "what is subtracted",
    "members": "the models of both sides",
    "other": "average precision of what is subtracted",
    "difference": "difference of the two, share",
    "difference_low": "lower end of its 95 % interval, paired over images",
    "difference_high": "upper end",
    "images": "images in which detectors are judged",
    "published": "number of the paper (Shekhar et al., 2023), share; on COCO's val2017",
    "category": "its name",
    "steps": "steps of the training",
    "epochs": "passes over the training images",
    "batch_size": "images of a step",
    "seconds": "time of the training",
    "loss": "mean loss over the last quarter of the steps",
    "gained": "last box AP less box AP after three quarters of the steps, share",
    "protocol": "how the detector was trained",
    "sizes": "what small, medium and large mean",
    "blocks": "what the maps were read after",
    "before": "difference with the frozen networks, share",
    "before_low": "lower end of its 95 % interval, paired over images",
    "before_high": "upper end",
    "after": "difference with the networks that were trained too, share",
    "after_low": "lower end of its 95 % interval, paired over images",
    "after_high": "upper end",
}
TEXTS = (
    *("model", "objective", "kind", "measure", "less", "members", "category", "protocol", "sizes"),
    *("blocks", "image", "place", "picture", "outline"),
)
#: tables 6 and 7 of Shekhar et al. (2023), in points: box AP, large, small; mask AP, large, small.
#: Table 7's mask AP of DINO, 30.04 beside 60.03 of large objects, is apparently copied from table
#: 6, and is left out.
NAN = float("nan")
FROZEN = {
    ("mae", False): (30.25, 39.93, 18.69, 28.56, 41.73, 14.37),
    ("moco-v3", False): (28.75, 40.21, 15.49, 26.67, 41.92, 10.89),
    ("dino", True): (32.57, 44.14, 19.89, 30.04, 45.77, 14.37),
    ("dino", False): (29.97, 40.82, 17.55, 28.16, 42.53, 12.99),
}
TUNED = {
    ("mae", False): (51.57, 66.36, 35.27, 45.84, 63.84, 27.27),
    ("moco-v3", False): (48.81, 64.83, 32.79, 43.18, 62.86, 23.78),
    ("dino", True): (47.73, 62.49, 32.17, NAN, 60.03, 24.28),
}
Published = Mapping[tuple[str, bool], Sequence[float]]


def list_shared(
    models: Models, detectors: DetectorSet, published: Published
) -> Iterator[tuple[str, Row]]:
    """Make the rows of the tables that frozen and tuned networks share.

    Args:
        models: the models of the study.
        detectors: the detectors of all of them.
        published: the papers' numbers for networks that were treated alike, by objective and
            multi-crop.
    """
    yield from list_models(models, detectors)
    yield from list_families(models, detectors)
    yield from list_pairs(models, detectors)
    yield from list_published(models, detectors, published)
    studied = [name for name in models.studied if name in detectors.detectors]
    yield from detection_pictures.list_pictures(detectors, studied)


def drop_unscored(
    rows: Iterable[tuple[str, Row]], detectors: DetectorSet
) -> Iterator[tuple[str, Row]]:
    """Leave out the rows of masks where the images have none to judge by, so that nothing there has
    a number."""
    masks = KINDS.index("mask")
    judged = any(np.isfinite(one.value[masks]).any() for one in detectors.numbers.values())
    return (
        (table, row) for table, row in rows if judged or row.get("kind", KINDS[0]) != KINDS[masks]
    )


def list_models(models: Models, detectors: DetectorSet) -> Iterator[tuple[str, Row]]:
    """Make the rows of `models`, `categories` and `trainings-made`; a model's average precision is
    held against that of the frozen or tuned random initialisation of its architecture."""
    numbers = detectors.numbers
    for name, one in detectors.detectors.items():
        about = models.about(name)
        row: Row = {"model": name, "control": models.is_control(name)}
        own = row | {"objective": about.objective or "", "multicrop": uses_multicrop(about)}
        control = None if models.is_control(name) else find_control(models, list(numbers), name)
        for kind in KINDS:
            for measure in MEASURES:
                number: Row = {"kind": kind, "measure": measure, "images": len(detectors.images)}
                estimate = read_number(numbers[name], kind, measure)
                number |= estimate.columns("ap", ends=("low", "high"))
                if control is not None:
                    difference = read_number(numbers[name] - numbers[control], kind, measure)
                    number |= difference.columns("difference")
                    number["less"] = control
                yield "models", own | number
            for category, value in zip(
                detectors.images.categories, one.categories[KINDS.index(kind)], strict=True
            ):
                yield "categories", row | {"kind": kind, "category": category, "ap": float(value)}
        said = {"protocol": detectors.protocol, "sizes": detectors.sizes}
        yield "trainings-made", row | vars(one.length) | said


def list_families(models: Models, detectors: DetectorSet) -> Iterator[tuple[str, Row]]:
    """Make the rows of `families`: REC less JE, with and without multi-crop."""
    numbers = detectors.numbers
    sides = list_sides(models, list(numbers))
    if REC not in sides:
        return
    for other in sides:
        if other == REC:
            continue
        for kind in KINDS:
            for measure in MEASURES:
                pair = {REC: sides[REC], other: sides[other]}
                yield "families", compare_sides(models, numbers, pair, kind, measure)


def list_pairs(models: Models, detectors: DetectorSet) -> Iterator[tuple[str, Row]]:
    """Make the rows of `pairs`: each two models under study, and each of them and raw pixels, on
    all, large and small objects."""
    numbers = detectors.numbers
    studied = [name for name in models.studied if name in numbers]
    pixels = [(name, PIXELS) for name in studied if PIXELS in numbers]
    for a, b in (*itertools.combinations(studied, 2), *pixels):
        for kind, measure in itertools.product(KINDS, PAPERS):
            own, other = (read_number(numbers[name], kind, measure) for name in (a, b))
            difference = read_number(numbers[a] - numbers[b], kind, measure)
            row: Row = {"model": a, "less": b, "kind": kind, "measure": measure}
            row |= own.columns("ap", ends=("low", "high")) | {"other": other.value}
            yield "pairs", row | difference.columns("difference") | {"images": difference.n}


def list_published(
    models: Models, detectors: DetectorSet, published: Published
) -> Iterator[tuple[str, Row]]:
    """Make the rows of `published`, where images, sizes and heads are the papers'."""
    if not detectors.as_published:
        return
    numbers = detectors.numbers
    for name in numbers:
        about = models.about(name)
        printed = published.get((about.objective or "", uses_multicrop(about)))
        if models.is_control(name) or printed is None:
            continue
        places = [(kind, measure) for kind in KINDS for measure in PAPERS]
        for (kind, measure), points in zip(places, printed, strict=True):
            ours = read_number(numbers[name], kind, measure).value
            row: Row = {
                "model": name,
                "objective": about.objective,
                "kind": kind,
                "measure": measure,
            }
            row |= {"published": points / 100, "ap": ours, "difference": ours - points / 100}
            yield "published", row


def find_table(results: Results, name: str) -> pd.DataFrame | None:
    """Return the rows of a table, if there is one of this name."""
    return results[name] if name in results else None  # noqa: SIM401 (results have no get)


def draw_shared(name: str, results: Results, title: str) -> Figure:
    """Draw the table of average precisions, and below it the pictures.

    Args:
        name: name of the figure.
        results: of an exhibit with the tables `SHARED`.
        title: title of the table.
    """
    rows = results["models"]
    names = list(dict.fromkeys(rows.model))
    table = draw_table(rows, find_table(results, "published"), title)
    if "pictures" not in results:
        return Figure(name, ((table,),))
    pictures = detection_pictures.draw_pictures(results["pictures"], results["outlines"], names)
    return Figure(name, ((table, *(None,) * (len(pictures[0]) - 1)), *pictures))


def draw_table(rows: pd.DataFrame, published: pd.DataFrame | None, title: str) -> Heatmap:
    """Draw the papers' table: a row for each model, then the published ones, and a column for each
    kind and size, in points."""
    kinds = list(dict.fromkeys(rows.kind))
    columns = [(kind, measure, "ap") for kind in kinds for measure in PAPERS]
    names = list(dict.fromkeys(rows.model))
    values = [[_look_up(rows[rows.model == name], *place) for place in columns] for name in names]
    if published is not None:
        for name in dict.fromkeys(published.model):
            own = published[published.model == name]
            values.append([_look_up(own, *place[:2], "published") for place in columns])
            names.append(f"the paper's {own.objective.iloc[0]}, beside {name}")
    labels = [f"{kind} {measure}" for kind, measure, _ in columns]
    return _make_heatmap(title, names, labels, values)


def draw_gains(rows: pd.DataFrame, kind: str, title: str) -> Heatmap:
    """Draw a row for each model, and for each size a column of its average precision before and one
    of that after, in points.

    Args:
        rows: of a table with the columns `other` and `ap`.
        kind: "box" or "mask".
        title: of the panel.
    """
    columns = [(measure, column) for measure in PAPERS for column in ("other", "ap")]
    names = list(dict.fromkeys(rows.model))
    values = [
        [_look_up(rows[rows.model == name], kind, *place) for place in columns] for name in names
    ]
    words = {"other": "last", "ap": "several"}
    labels = [f"{measure}, {words[column]}" for measure, column in columns]
    return _make_heatmap(title, names, labels, values)


def _make_heatmap(
    title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]
) -> Heatmap:
    """Make a heatmap of average precisions, in points; the first row lies at the top."""
    points = 100 * np.array(values, np.float64)
    top = max(1.0, float(np.nanmax(points, initial=0.0)))
    order = slice(None, None, -1)  # the first row of a heatmap lies at the bottom
    return Heatmap(
        title, points[order], tuple(rows[order]), tuple(columns), "", "", (0.0, top), "AP, points"
    )


def _look_up(rows: pd.DataFrame, kind: str, measure: str, column: str) -> float:
    found = rows[(rows.kind == kind) & (rows.measure == measure)]
    return float(found[column].iloc[0]) if len(found) else NAN
