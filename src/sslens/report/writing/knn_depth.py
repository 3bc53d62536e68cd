"""Sentences about the analysis knn-depth."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.choices import Choice, read_choices
from sslens.comparisons.probing import read_accuracy, read_gain
from sslens.comparisons.readings import (
    READINGS,
    USUAL,
    name_features,
    name_pooling_in,
    name_usual,
)
from sslens.report.writing.numbers import list_names, spell_count, spell_points, spell_share
from sslens.statistics.estimate import SMALLEST, Estimate, Side
from sslens.table import Results

#: what a gain over raw pixels, or over the best control, decides, by its sign
VERDICTS = {
    1: "",
    0: ", no clear gain",
    -1: ", a loss",
    None: ", a difference that so few images cannot decide",
}
#: what a difference of two gains decides, where it is not one of them that is larger
SIDES: Mapping[Side, str] = {
    "more": "",
    "less": "",
    "the same": ", which is the same within half a point",
    "undecided": ", which is not decided",
    "too few": ", which so few images cannot decide",
}


def sentences(results: Results) -> tuple[str, ...]:
    """Write from where joint-embedding models stay above reconstruction models, what standardised
    features change, the best block, pooling and kind of features of each model, which all images
    chose, beside what is to be used of it on images that did not choose, and which models have
    none."""
    frame = results["accuracies"]
    frame = frame[frame.vote == "weighted"]
    constant = _write_constant(frame[~frame.control])
    frame = frame[frame.accuracy.notna()]
    controls = frame[frame.control]
    families = tuple(_write_families(results))
    choices = read_choices(results["choices"]) if "choices" in results else ()
    judged = {one.model: one for one in choices}
    models = list(frame[~frame.control].groupby("model", sort=False))
    best = (
        (_write_all({str(name): rows for name, rows in models}, controls),)
        if families
        else tuple(
            _write_model(str(name), rows, controls, judged.get(str(name))) for name, rows in models
        )
    )
    return (
        *families,
        *_write_probes(results),
        *_write_standardising(results),
        *best,
        *constant,
    )


def _write_constant(frame: pd.DataFrame) -> tuple[str, ...]:
    """Name the models of which no feature differs between images, at any depth."""
    defined = frame.accuracy.notna().groupby(frame.model, sort=False).any()
    names = [str(name) for name, some in defined.items() if not some]
    if not names:
        return ()
    return (
        f"{list_names(names)}: no accuracy is defined, for the features are the same for every"
        " image.",
    )


def _write_all(models: Mapping[str, pd.DataFrame], controls: pd.DataFrame) -> str:
    """Write the best block, pooling and kind of features of every model, in one sentence.

    Args:
        models: the rows of each model: a tap, pooling and kind of features each.
        controls: the rows of all controls.
    """
    parts = []
    for name, rows in models.items():
        best = _find_best(rows)
        accuracy = spell_share(Estimate(best["accuracy"]))
        parts.append(f"in {name} {_name_place(best, rows)} ({accuracy})")
    beside = "" if controls.empty else _name_control(_find_best(controls))
    best = _find_best(next(iter(models.values())))
    return (
        f"By {best['k']}-NN the classes are separated best {list_names(parts)}{beside}:"
        f" {_name_images(int(best['images']), 'these')}."
    )


def _name_images(images: int, what: str) -> str:
    """Say that an accuracy is of all images, among them those that found it the best, and of which
    kinds of features."""
    return (
        f"of all {spell_count(images)} images, which also chose {what} among raw and standardised"
        " features"
    )


def _name_control(control: Mapping[str, Any]) -> str:
    """Name the best control with its accuracy, and its features unless they are raw."""
    accuracy = spell_share(Estimate(control["accuracy"]))
    named = f"{control['model']}{name_features(control['features'])}"
    return f"; the best control, {named}, has {accuracy}"


def _find_best(rows: pd.DataFrame, use: Choice | None = None) -> Mapping[str, Any]:
    """Find the row with the highest accuracy; if several tie, that of what is to be used of the
    model if it is among them, else the first one."""
    ordered = rows.sort_values("accuracy", ascending=False, kind="stable")
    best: Mapping[str, Any] = ordered.iloc[0].to_dict()
    if use is None:
        return best
    chosen = (" and ".join(use.use_taps), use.use_pooling, use.use_features)
    ties: list[Mapping[str, Any]] = rows[rows.accuracy == best["accuracy"]].to_dict("records")
    own = (row for row in ties if (row["tap"], row["pooling"], row["features"]) == chosen)
    return next(own, best)


def _name_place(row: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """Name the tap, the pooling and the kind of features of a row among all rows of its model."""
    scaled = name_features(row["features"])
    if row["pooling"] == "flat":
        return f"at {row['tap']}{scaled}"
    return f"at {row['tap']} with the {name_pooling_in(rows, row['pooling'])}{scaled}"


def _write_model(
    name: str, rows: pd.DataFrame, controls: pd.DataFrame, judged: Choice | None
) -> str:
    """Write the best block, pooling and kind of features of one model, and what is to be used of
    it.

    Args:
        name: of the model.
        rows: its rows: a tap, pooling and kind of features each.
        controls: the rows of all controls.
        judged: what is to be used of the model, judged on images that did not choose; None where
            there are too few images.
    """
    best = _find_best(rows, judged)
    accuracy = spell_share(read_accuracy(best))
    place = _name_place(best, rows)
    sentence = (
        f"{name} separates the classes best {place}: {best['k']}-NN {accuracy}"
        f" {_name_images(int(best['images']), 'it')}"
    )
    if judged is not None:
        return f"{sentence}; {_write_judged(judged, rows)}."
    like = controls[controls.features == best["features"]]
    if like.empty:
        return f"{sentence}; there is no control beside it."
    # the gain is over the best control with this kind of features, which need not be the best
    gain, control = read_gain(best), _find_best(like)
    return (
        f"{sentence}, {spell_points(gain)} against the best control on {best['features']}"
        f" features, {control['model']} ({spell_share(Estimate(control['accuracy']))})"
        f"{VERDICTS[gain.sign]}."
    )


def _write_judged(choice: Choice, rows: pd.DataFrame) -> str:
    """Write what is to be used of a model, and what it has on the images that did not choose."""
    pooling = name_pooling_in(rows, choice.use_pooling)
    place = f"the {pooling} at {' and '.join(choice.use_taps)}{name_features(choice.use_features)}"
    said = (
        f"what is to be used, {place}, has {spell_share(choice.use)} on the"
        f" {spell_count(choice.use.n)} images that did not choose"
    )
    gain = choice.over_pixels
    if not gain.defined:
        return said
    return f"{said}, {spell_points(gain)} over raw pixels{VERDICTS[gain.sign]}"


def _write_standardising(results: Results) -> Iterator[str]:
    """Write in which models standardised features separate the classes better or worse than raw
    ones, on average over the blocks, with each model's usual pooling."""
    if "standardising" not in results:
        return
    frame = results["standardising"]
    changes = {
        row["model"]: Estimate.from_row(row, "change", "images", "images")
        for row in frame[frame.main & ~frame.control].to_dict("records")
    }
    parts = []
    for sign, word in ((1, "more"), (-1, "less")):
        named = [
            f"{name} ({spell_points(change)})"
            for name, change in changes.items()
            if change.sign == sign
        ]
        if named:
            parts.append(f"{word} accuracy than raw ones in {list_names(named)}")
    if parts:
        yield (
            f"Standardised features have {' and '.join(parts)}, on average over the blocks, with"
            f" the {name_usual(frame[~frame.control])}."
        )


def _write_families(results: Results) -> Iterator[str]:
    """Write from which depth JE stays above REC, on raw and on standardised features; poolings of
    which the same is said share a sentence."""
    if "families-parting" not in results:
        return
    poolings: dict[str, list[str]] = {}
    for pooling, rows in results["families-parting"].groupby("pooling", sort=False):
        by_features = {row["features"]: row for row in rows.to_dict("records")}
        raw, scaled = (_write_parting(by_features[one]) for one in ("raw", "standardised"))
        said = (
            f"{raw}, on raw and on standardised features"
            if raw == scaled
            else f"on raw features {raw}; on standardised ones {scaled}"
        )
        where = READINGS[str(pooling)] if pooling else USUAL
        poolings.setdefault(f"({rows.members.iloc[0]}): {said}", []).append(where)
    for said, places in poolings.items():
        yield f"k-NN with the {list_names(places)} {said}."


def _write_probes(results: Results) -> Iterator[str]:
    """Write what a linear probe of the last block has more than 20-NN there, by family."""
    if "families-probes" not in results:
        return
    said = []
    for kind, rows in results["families-probes"].groupby("features", sort=False):
        parts = []
        for row in rows.to_dict("records"):
            gap = Estimate.from_row(row, "gap", "images", "images")
            members = f" ({row['members']})" if kind == "raw" else ""
            parts.append(f"{row['model']}{members} {spell_points(gap)}")
            if row["against"]:
                more = Estimate.from_row(row, "difference", "images", "images")
                side = more.find_side(SMALLEST["accuracy"])
                parts.append(
                    f"{row['model']} less {row['against']} {spell_points(more)}{SIDES[side]}"
                )
        said.append(f"on {kind} features {', '.join(parts)}")
    yield (
        f"A linear probe of the last block less 20-NN there, with the {USUAL}: {'; '.join(said)}."
        " Both are asked about the same images, but the probe learns from fewer than vote: from"
        " four fifths of a bank, or of half of the images without one."
    )


def _write_parting(row: Mapping[str, Any]) -> str:
    """Write from which depth the first family stays above the second, and a reversal."""
    a, b = row["model_a"], row["model_b"]
    said = (
        f"there is no depth from which {a} stays above {b}"
        if pd.isna(row["first"])
        else f"{a} stays above {b} from relative depth {row['first']:.2f} on"
    )
    if pd.notna(row["reversed"]):
        said += f", and at {row['reversed']:.2f} {b} is above"
    return said
