"""Agreement of two models' predicted classes: are the models right and wrong on the same images
(figure 4 of Shekhar et al., 2022; figure 13 of 2023; claim C6)?"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from sslens.comparisons import trainings
from sslens.comparisons.families import describe_members, list_families
from sslens.comparisons.inputs import CLASSES, FeatureSets, Labels, Models
from sslens.comparisons.predictions import KS, list_readings, predict_classes
from sslens.comparisons.roles import JE, REC, find_twins
from sslens.comparisons.rows import Row, make_results
from sslens.comparisons.trainings import (
    TRAININGS,
    Sides,
    average_over_objectives,
    fill_trainings,
    list_across_objectives,
    measure_alone,
)
from sslens.errors import InputError
from sslens.figure import Figure, Heatmap, Line, Lines, Panel
from sslens.probes.agreement import SUBSETS, Asked, Draws, Found, agreement
from sslens.statistics.estimate import Estimate
from sslens.statistics.jackknife import Change
from sslens.statistics.sampled import Sampled
from sslens.table import Results

TITLE = "Are the models right and wrong alike?"
CAPTION = (
    "A linear probe of each model's last features ranks the classes of every image: a logistic"
    " regression at its optimum, trained on the bank less a fifth of each class that chooses its"
    " penalty, as where probes are the exhibit; or without a bank on folds of the images that it is"
    " not asked about, of which one chooses its penalty. Features are those of centre crops."
    " Kendall's tau (τ-b) of two models' rankings is taken over the"
    " classes in the top k of either, and averaged over all images, over those that both have right"
    " and those that both have wrong; it is below 0 where the two tops hardly overlap, and the"
    " table has two other readings of a tau over the top k. Beside it stands that of chance: of"
    " rankings of different images, for a probe of anything likes some classes more than others. F1"
    " is that of one model's first choice against the other's (macro mean); F1 of being right is 2"
    " P(both right) / (P_a + P_b); the papers print an F1 and do not say which. Error consistency"
    " is Cohen's κ of being right (Geirhos et al., 2020), of which 0 is what independent models of"
    " these accuracies have."
    " Bands are 95 % jackknife intervals over images; differences are paired image by image."
)
UNITS = {
    "model_a": "name of a model, or of a family",
    "model_b": "name of a model, or of a family",
    "pairs": "pairs of models averaged",
    "members": "the models of the families",
    "control": "whether a control is among the two",
    "relation": (
        "same objective: two trainings of one; same training: models that compute the same, or"
        " states of a run; otherwise their families, JE with JE, JE with REC, …; empty if unknown"
    ),
    "pooling": (
        "features that the probe reads after the last layer: cls, patch (mean of patch tokens) or"
        " mean; of a model that has no such tokens the mean over places, of pixels their values"
        " at 8 × 8"
    ),
    "measure": (
        "tau: Kendall's τ-b over the classes in the top k of either; tau first: over the top k of"
        " the first, the mean of either being first; tau listed: of the two lists of class numbers,"
        " position by position; f1: of the first choices, macro mean over classes; f1 weighted: by"
        " how often the first predicts them, the mean of either being first; f1 right: of being"
        " right, 2·P(both right)/(P_a + P_b); same: share of images with the same first choice;"
        " kappa: error consistency"
    ),
    "k": "of the top k; 0 for what looks at the first choice",
    "images": "all, both right or both wrong",
    "folds": (
        "probes of a model, each of which predicts its part of the images and was trained on others"
        " of them; 0 where one probe of the bank predicts all"
    ),
    "value": "of the measure; empty where no image defines it",
    "low": "lower end of the 95 % jackknife interval over images",
    "high": "upper end",
    "chance": (
        "the same if images said nothing: a tau of the two models' rankings of different images,"
        " what two independent models have that predict each class as often"
    ),
    "count": (
        "images that the value (and what is subtracted from it) is of; of families, the fewest of a"
        " pair"
    ),
    "accuracy_a": "share of images whose class model_a's probe predicts",
    "accuracy_b": "of model_b's",
    "why": (
        "why a probe behind the number is not at its optimum inside its path; empty if all are:"
        " otherwise no sentence is built on the number"
    ),
    "less": "what is subtracted in the difference",
    "difference": "value less that of `less`, on the same images",
    "difference_low": "lower end of its 95 % interval, images left out of both together",
    "difference_high": "upper end",
    **trainings.UNITS,
    **CLASSES,
}
MEASURED = (
    *("pooling", "folds", "measure", "k", "images", "value", "low", "high", "chance", "count"),
    *("less", "difference", "difference_low", "difference_high"),
)
TABLES: Mapping[str, tuple[str, ...]] = {
    "pairs": (
        *("model_a", "model_b", "control", "relation", "accuracy_a", "accuracy_b"),
        *MEASURED,
        *CLASSES,
        "why",
    ),
    "families": (
        *("model_a", "model_b", "pairs", "members", "relation"),
        *MEASURED,
        *TRAININGS,
        *CLASSES,
        "why",
    ),
}
#: columns of text
TEXTS = ("model_a", "model_b", "members", "relation", "pooling", "measure", "images", "less", "why")
Names = tuple[str, str]
#: what two models' predictions have in common, number by number
Numbers = Mapping[Asked, Found]


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: there are fewer than two models under study."""
    if len(models.studied) > 1:
        return None
    return "there is one model, and predictions are compared of two"


def compute(models: Models, *, features: FeatureSets, labels: Labels, seed: int = 0) -> Results:
    """Compare the predicted classes of every pair of models and controls.

    The table `pairs` has the agreement of two models. The table `families` has the mean agreement
    within joint embedding (JE), and its difference from the mean agreement of JE with
    reconstruction (REC).

    Raises:
        InputError: there are features of fewer than two models, the images have no labels, or
            `predict_classes` cannot use the features.
    """
    if len(features.images) < 2:
        raise InputError(
            "Predictions are compared of two models: give the features of two or more."
        )
    if not labels.images:
        raise InputError(
            "Predictions are of classes, and the images have none: give labelled images."
        )
    rows = (
        row
        for reading in list_readings(features.images)
        for row in _rows(models, features, labels, reading, seed)
    )
    return make_results(rows, TABLES, UNITS, TEXTS)


def _rows(
    models: Models, features: FeatureSets, labels: Labels, reading: str, seed: int
) -> Iterator[tuple[str, Row]]:
    """The rows of one pooling, each with the name of its table."""
    made = predict_classes(features, labels, reading, seed)
    predicted, count = made.by_model, made.classes
    names = [name for name in models.names if name in predicted]
    ks = [k for k in KS if k <= count] or [count]
    counted = labels.count_classes(np.array([*labels.images.values()]))
    draws = Draws.of(len(predicted[names[0]].first), seed=seed)
    compared: dict[Names, Numbers] = {
        (a, b): agreement(predicted[a], predicted[b], ks, draws)
        for a, b in itertools.combinations(names, 2)
    }
    accuracy = {name: float(one.right.mean()) for name, one in predicted.items()}
    for (a, b), numbers in compared.items():
        control = models.is_control(a) or models.is_control(b)
        about = {
            "model_a": a,
            "model_b": b,
            "control": control,
            "pooling": reading,
            "folds": made.folds,
            "relation": relate(models, a, b),
            "accuracy_a": accuracy[a],
            "accuracy_b": accuracy[b],
            **counted,
            "why": made.why.get(a) or made.why.get(b) or "",
        }
        twins = None if control else find_twins(models, a, b)
        random = list(_take(compared, [twins] if twins else []).values())
        for asked, found in numbers.items():
            row = about | _fill_number(asked, found)
            if twins and random:
                row |= _fill_difference(f"{twins[0]} · {twins[1]}", found, random[0][asked])
            yield "pairs", row
    why = next((clause for name, clause in made.why.items() if not models.is_control(name)), "")
    for table, row in _compare_families(models, reading, compared):
        yield table, row | counted | {"folds": made.folds, "why": why}


def relate(models: Models, a: str, b: str) -> str:
    """Name what two models have in common.

    The result is "same training" for two models of one training, and "same objective" for two
    trainings with the same objective, architecture and tuning. Else it names both families, such as
    "JE with REC"; it is empty if a family is not known.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> from sslens.models.about import About
    >>> dino, mae = About("JE", "dino", "vit"), About("REC", "mae")
    >>> members = [ModelInfo(*one) for one in (("a", False, dino), ("b", False, dino))]
    >>> copy = ModelInfo("copy", about=dino, copy_of="a")
    >>> models = Models((*members, copy, ModelInfo("mae", about=mae), ModelInfo("?")))
    >>> [relate(models, "a", other) for other in ("copy", "b", "mae", "?")]
    ['same training', 'same objective', 'JE with REC', '']
    """
    one, other = models.about(a), models.about(b)
    if models.are_one_training(a, b):
        return "same training"
    traits = ("objective", "arch", "tuned")
    if one.objective and all(getattr(one, trait) == getattr(other, trait) for trait in traits):
        return "same objective"
    families = one.family, other.family
    return f"{families[0]} with {families[1]}" if all(families) else ""


def _fill_number(asked: Asked, found: Found) -> Row:
    """The columns of one number."""
    low, high = found.interval()
    row = {
        "measure": asked.measure,
        "k": asked.k,
        "images": asked.images,
        "count": found.images,
        "chance": found.chance,
    }
    return row | {"value": float(found.sampled.value), "low": float(low), "high": float(high)}


def _fill_difference(less: str, one: Found, other: Found) -> Row:
    """The columns of a paired difference."""
    difference = one.sampled - other.sampled
    low, high = difference.interval()
    row = {
        "less": less,
        "difference": float(difference.value),
        "difference_low": float(low),
        "difference_high": float(high),
    }
    return row | {"count": min(one.images, other.images)}


def _compare_families(
    models: Models, reading: str, compared: Mapping[Names, Numbers]
) -> Iterator[tuple[str, Row]]:
    """Make the rows of `families`, for every number: JE with JE, with its difference from JE with
    REC (claim C6) and the interval of that over trainings, and JE with REC."""
    je, rec = list_families(models)
    sides = {JE: je, REC: rec}
    within, across = _choose_pairs(models, compared, sides)
    if not within or not across:
        return
    about = {"model_a": JE, "members": describe_members(models), "pooling": reading}
    numbers = list(next(iter(within.values())))

    def measure(chosen: Sides) -> np.ndarray:
        """The difference of each number, for some of the models."""
        inside, outside = (
            average_over_objectives(
                models,
                {
                    names: np.array([float(pair[asked].sampled.value) for asked in numbers])
                    for names, pair in chosen_pairs.items()
                },
                lambda values: np.mean(values, axis=0),
            )
            for chosen_pairs in _choose_pairs(models, compared, chosen)
        )
        return np.asarray(inside - outside)

    alone = measure_alone(models, sides, measure)
    for place, asked in enumerate(numbers):
        own, other = (
            average_over_objectives(
                models, {names: pair[asked] for names, pair in side.items()}, _average
            )
            for side in (within, across)
        )
        for family, side, found in ((JE, within, own), (REC, across, other)):
            row = about | {
                "model_b": family,
                "pairs": len(side),
                "relation": f"{JE} with {family}",
                **_fill_number(asked, found),
            }
            if family == JE:
                row |= _fill_difference(f"{JE} · {REC}", own, other)
                images = Estimate.from_row(row, "difference", "images", "count")
                row |= fill_trainings(images, alone, place)
            yield "families", row


def _choose_pairs(
    models: Models, compared: Mapping[Names, Numbers], sides: Sides
) -> tuple[dict[Names, Numbers], dict[Names, Numbers]]:
    """The pairs of JE models of different objectives, and the pairs of a JE and a REC model."""
    within = list_across_objectives(models, sides[JE])
    return _take(compared, within), _take(compared, itertools.product(sides[JE], sides[REC]))


def _take(compared: Mapping[Names, Numbers], names: Iterable[Names]) -> dict[Names, Numbers]:
    """Select the pairs that were compared, in either order of their names."""
    return {
        (a, b): compared.get((a, b)) or compared[b, a]
        for a, b in names
        if (a, b) in compared or (b, a) in compared
    }


def _average(parts: Sequence[Found]) -> Found:
    """Average over pairs of models.

    The mean is undefined where a pair is undefined, because the mean of the other pairs would not
    be comparable.
    """
    side = Sampled.stack([part.sampled for part in parts])
    mean = Sampled(
        np.asarray(side.value.mean(0)),
        side.left_out.mean(0),
        side.share.mean(0),
        side.drawn,
        side.reach,
    )
    images = min(part.images for part in parts)
    changes = [part.change for part in parts if part.change is not None]
    change = None
    if len(changes) == len(parts):  # the pairs' images that differ are taken as independent
        squares = sum(one.square for one in changes) / len(changes) ** 2
        change = Change(float(np.mean([one.mean for one in changes])), squares)
    return Found(mean, images, float(np.mean([part.chance for part in parts])), change)


def draw(results: Results) -> Figure:
    """Draw heat maps of the agreement of all models, and curves of Kendall's tau against k.

    The top row has tau over the top k classes, for the smallest k, over all images, over images
    that both models have right and over images that both have wrong. The row below has both F1 and
    Cohen's κ; the last row has tau against k with random initialisations as controls.
    """
    frame = results["pairs"]
    frame = frame[frame.pooling == frame.pooling.iloc[0]]
    names = list(dict.fromkeys([*frame.model_a, *frame.model_b]))
    k = int(frame.k[frame.measure == "tau"].min())
    floor = 0.0 if frame.value.min(skipna=True) >= 0 else -1.0

    def square(measure: str, k: int, images: str, title: str) -> Heatmap:
        values = np.eye(len(names))
        chosen = frame[(frame.measure == measure) & (frame.k == k) & (frame.images == images)]
        for row in chosen.itertuples():
            i, j = names.index(row.model_a), names.index(row.model_b)
            values[i, j] = values[j, i] = row.value
        shown = tuple(names)
        facets = {"measure": title}
        limits = (floor, 1.0)
        return Heatmap(title, values, shown, shown, "", "", limits, "agreement", facets)

    top: list[Panel | None] = [
        square("tau", k, images, f"tau, top {k}: {images}") for images in SUBSETS
    ]
    f1 = square("f1", 0, "all", "F1 of the first choice")
    right = square("f1 right", 0, "all", "F1 of being right")
    kappa = square("kappa", 0, "all", "Error consistency κ")
    return Figure("agreement", (tuple(top), (f1, right, kappa), (_draw_by_k(frame), None, None)))


def _draw_by_k(frame: pd.DataFrame) -> Lines:
    """Tau over all images against k: pairs of models, and random initialisations with each
    other."""
    tau = frame[(frame.measure == "tau") & (frame.images == "all")]
    models = tau[~tau.control]
    studied = {*models.model_a, *models.model_b}
    if models[["model_a", "model_b"]].drop_duplicates().shape[0] > 6:  # a colour each
        models = models[models.model_a == models.model_a.iloc[0]]
    controls = tau[~tau.model_a.isin(studied) & ~tau.model_b.isin(studied)]
    lines = []
    for (a, b), rows in pd.concat([models, controls]).groupby(["model_a", "model_b"], sort=False):
        x, y, low, high = (rows[column].to_numpy(float) for column in ("k", "value", "low", "high"))
        lines.append(Line(f"{a} · {b}", x, y, low, high, control=bool(rows.control.iloc[0])))
    return Lines(
        "tau by k: all", "classes in the top k", "Kendall's tau", tuple(lines), None, log_x=True
    )
