"""The answers of the first screen to what changed between two checkpoints."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.activations import BEYOND
from sslens.comparisons.readings import name_pooling
from sslens.report.front.screen import Answer
from sslens.report.writing.front import HERE, explain_effect
from sslens.report.writing.layers_changed import name_taps
from sslens.report.writing.numbers import (
    list_names,
    spell,
    spell_change,
    spell_count,
    spell_level,
    spell_over,
    spell_points,
    spell_relative,
    spell_share,
)
from sslens.report.writing.weights_changed import (
    are_other_networks,
    describe_statistics,
    describe_weights,
    find_most_changed,
    has_head,
    list_untouched,
    select_weights,
    write_alone,
    write_most_changed_kind,
)
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate, explain
from sslens.table import Results

WEIGHTS, LAYERS, IMAGES = "weights-changed", "layers-changed", "images-moved"
#: what weights that were not changed at all, or only rounded, are called
SAME = "the same"
#: a movement that is below this is none but for rounding
STILL = 1e-6
Row = Mapping[str, Any]


def write_changes(results: Mapping[str, Results]) -> Iterator[Answer]:
    """Write of each pair of checkpoints whether the weights are the same, which layer is the first
    that computes something else, how many predictions moved, which of the two is better at the
    classes, what was not touched, how alike the layers are, how far images moved, and what one of
    the two has alone: each question of all pairs, then the next."""
    if WEIGHTS not in results:
        return
    pairs: list[Row] = results[WEIGHTS]["pairs"].to_dict("records")
    told: list[tuple[int, Answer]] = []
    for pair in pairs:
        of = f" of {pair['model_b']}" if len(pairs) > 1 else ""
        rows = {
            (link, table): select_weights(results[link][table], pair, table)
            for link in (WEIGHTS, LAYERS, IMAGES)
            if link in results
            for table in results[link]
            if {"model_a", "model_b"} <= set(results[link][table].columns)
        }
        layers = rows.get((WEIGHTS, "layers"), pd.DataFrame())
        own = [
            [_write_weights(pair, layers, of)],
            _write_taps(rows, of),
            _write_predictions(rows, of),
            _write_classes(rows, of),
            _write_untouched(pair, rows, of),
            _write_cka(rows, of),
            _write_images(rows, of),
            _write_alone(pair, rows.get((WEIGHTS, "tensors"))),
        ]
        told += [(place, answer) for place, answers in enumerate(own) for answer in answers]
    yield from (answer for _, answer in sorted(told, key=lambda one: one[0]))


def write_branches(results: Mapping[str, Results]) -> str:
    """Write which network of each file was compared, where a file holds several, in sentences."""
    if WEIGHTS not in results:
        return ""
    told = {}
    for pair in results[WEIGHTS]["pairs"].to_dict("records"):
        for side in ("a", "b"):
            if pair[f"branch_{side}"]:
                others = list_names(str(pair[f"others_{side}"]).split(", "))
                told[pair[f"model_{side}"]] = f"the {pair[f'branch_{side}']} (beside it: {others})"
    return f"{'; '.join(f'{name} is {what}' for name, what in told.items())}." if told else ""


def _write_weights(pair: Row, layers: pd.DataFrame, of: str) -> Answer:
    """Whether the weights are the same, and to what, or how far they are apart."""
    state, relative = str(pair["state"]), float(pair["relative"])
    effect = describe_weights(pair)
    if are_other_networks(pair):
        word = "not compared"
    elif state == "not finite":
        word = state
    elif state == "equal" or state.startswith("equal in"):
        word = SAME
    elif relative != relative:
        word = "undecided"
    elif relative == 0 and has_head(pair):
        word = "the backbone's"
    else:
        word = f"{spell_relative(relative)} apart"
        if own := write_most_changed_kind(pair, layers):
            effect += f"; {own}"
        found = find_most_changed(layers)
        if found is not None:
            effect += f"; most in {found[0]}: {spell_relative(found[1]['relative'])}"
    if statistics := describe_statistics(pair):
        effect += f"; {statistics}"
    return Answer(f"Are the weights{of} the same?", word, effect, "", "", WEIGHTS)


def _write_untouched(
    pair: Row, rows: Mapping[tuple[str, str], pd.DataFrame], of: str
) -> Iterator[Answer]:
    """Which layers are equal number for number, where some are and others are not."""
    layers = rows.get((WEIGHTS, "layers"), pd.DataFrame())
    if pair["state"] == "equal" or are_other_networks(pair) or not len(layers):
        return
    untouched = list_untouched(layers, rows.get((WEIGHTS, "tensors"), pd.DataFrame()))
    word = "these" if untouched else "none"
    effect = f"{spell_count(pair['equal'])} of {spell_count(pair['shared'])} tensors are equal"
    names = list_names(untouched) if untouched else ""
    yield Answer(f"Which layers{of} were not touched?", word, effect, "", "", WEIGHTS, names=names)


def _write_taps(rows: Mapping[tuple[str, str], pd.DataFrame], of: str) -> Iterator[Answer]:
    """Which layer is the first that computes something else than rounding explains."""
    why = rows.get((LAYERS, "not-compared"), pd.DataFrame())
    taps = rows.get((LAYERS, "taps"), pd.DataFrame())
    question = f"Which layer{of} is the first to compute something else?"
    if len(why):
        yield Answer(question, "not compared", str(why.why.iloc[0]), "", "", LAYERS)
    if not len(taps):
        return
    known = taps[taps.difference.notna()]
    if not len(known):
        yield Answer(question, "not compared", "no tap has one shape in both", "", "", LAYERS)
        return
    kind = str(taps.rounded_to.iloc[0])
    rounding = "float32 arithmetic" if kind == "float32" else f"rounding to {kind}"
    largest, beyond = float(known.difference.max()), known[known.beyond.astype(bool)]
    places = f"all {spell_count(len(known))} taps"
    if not largest > 0:
        yield Answer(question, "none", f"activations are equal at {places}", "", "", LAYERS)
    elif not len(beyond):
        effect = f"activations at {places} are the same to {spell_relative(largest)}"
        yield Answer(question, "none", f"{effect}, which {rounding} explains", "", "", LAYERS)
    else:
        first = beyond.iloc[0]
        effect = (
            f"activations differ there by {spell_relative(first.difference)}, more than"
            f" {BEYOND:.0f} times {spell_relative(first.rounding)}, what {rounding} does; at most"
            f" by {largest_of(known)}"
        )
        yield Answer(question, "found", effect, "", "", LAYERS, names=str(first.tap))


def largest_of(taps: pd.DataFrame) -> str:
    """Write the largest difference of activations, and where it is.

    >>> largest_of(pd.DataFrame({"tap": ["blocks.0", "norm"], "difference": [0.1, 0.25]}))
    '25% at norm'
    """
    row = taps.loc[taps.difference.idxmax()]
    return f"{spell_relative(float(row.difference))} at {row.tap}"


def _write_cka(rows: Mapping[tuple[str, str], pd.DataFrame], of: str) -> Iterator[Answer]:
    """How alike the layers at the same depth are."""
    depths = rows.get((LAYERS, "depths"), pd.DataFrame(columns=["cka"]))
    depths = depths[depths.cka.notna()]
    if not len(depths):
        return
    least, last = depths.loc[depths.cka.idxmin()], depths.loc[depths.depth.idxmax()]
    values = [
        Estimate.from_row(row, "cka", "minibatches", "minibatches", ends=("low", "high"))
        for row in (least, last)
    ]
    effect = f"CKA at the same depth is least at {name_taps(least)}, {spell(values[0])}"
    if last.tap_b != least.tap_b:
        effect += f", and {spell(values[1])} at {name_taps(last)}, the last block"
    # equal activations have a CKA of 1 on any images, however few
    is_open = values[0].sign is None and values[0].value < 1 - STILL
    if is_open:
        effect += f" ({explain(Contrast('', '', values[0]))})"
    question = f"How alike are the layers{of} at the same depth?"
    word = "undecided" if is_open else spell_level(values[0].value)
    yield Answer(question, word, effect, spell_over(values[0]), "", LAYERS, scope=HERE)


def _write_predictions(rows: Mapping[tuple[str, str], pd.DataFrame], of: str) -> Iterator[Answer]:
    """How many predictions moved."""
    for row in rows.get((IMAGES, "pairs"), pd.DataFrame()).to_dict("records"):
        if not row["by"]:
            continue
        share = Estimate.from_row(row, "moved", "images", "images")
        by = "their own classifiers" if row["by"] == "classifier" else "k-NN"
        effect = f"{spell_share(share)} of the predictions of {by}"
        if row["gained"] == row["gained"]:
            gained, lost = (spell_count(int(row[one])) for one in ("gained", "lost"))
            gain = Estimate.from_row(row, "gain", "images", "images")
            effect += f": {gained} became right and {lost} wrong, {spell_points(gain)}"
        word = "none" if share.value == 0 else spell_share(Estimate(share.value))
        question = f"Which predictions{of} moved?"
        yield Answer(question, word, effect, spell_over(share), "", IMAGES, scope=HERE)


def _write_classes(rows: Mapping[tuple[str, str], pd.DataFrame], of: str) -> Iterator[Answer]:
    """Which of the two is better at the classes, by k-NN of the last layer."""
    knn = rows.get((LAYERS, "knn"), pd.DataFrame())
    if not len(knn):
        return
    last = knn.iloc[-1].to_dict()
    gain = Estimate.from_row(last, "gain", "images", "images")
    sides = [Estimate.from_row(last, f"accuracy_{one}", "images", "images") for one in ("a", "b")]
    words = {"more": "yes", "less": "no, worse", "the same": "no, as good"}
    side = gain.find_side(SMALLEST["accuracy"])
    read = [name_pooling(str(last[f"pooling_{one}"])) for one in ("a", "b")]
    of = f"the {read[0]} of both" if read[0] == read[1] else f"the {read[0]}, then the {read[1]},"
    effect = (
        f"{last['k']}-NN of {of} at the last layer {spell_points(gain)}: {spell_share(sides[1])}"
        f" after {spell_share(sides[0])}"
    )
    if side not in words:
        contrast = Contrast(str(last["model_b"]), str(last["model_a"]), gain)
        effect += f" ({explain_effect(contrast, SMALLEST['accuracy'])})"
    yield Answer(
        f"Is {last['model_b']} better at the classes than {last['model_a']}?",
        words.get(side, "undecided"),
        effect,
        spell_over(gain),
        "",
        LAYERS,
        gain.measure_strength(SMALLEST["accuracy"]),
        scope=HERE,
    )


def _write_images(rows: Mapping[tuple[str, str], pd.DataFrame], of: str) -> Iterator[Answer]:
    """How far images moved among the others."""
    for row in rows.get((IMAGES, "pairs"), pd.DataFrame()).to_dict("records"):
        movement = float(row["movement"])
        if movement != movement:
            continue
        still = not movement > STILL
        overlap = spell_share(Estimate(row["overlap"]))
        effect = (
            f"{spell_change(movement)} in the median (0: not at all, 1: as between unrelated"
            f" models); {overlap} of the {int(row['neighbours'])} nearest neighbours are the same;"
            " neither has an interval"
        )
        alike = "not at all" if not movement and row["overlap"] == 1 else "hardly"
        word = alike if still else spell_change(movement)
        yield Answer(f"How far did images{of} move among the others?", word, effect, "", "", IMAGES)


def _write_alone(pair: Row, tensors: pd.DataFrame | None) -> Iterator[Answer]:
    """What one of the two has alone, or in another shape."""
    if tensors is None:
        return
    alone = write_alone(pair, tensors)
    if alone:
        count = int(pair["only_a"]) + int(pair["only_b"]) + int(pair["unlike"])
        word = f"{spell_count(count)} tensor{'' if count == 1 else 's'}"
        question = f"What is in one of {pair['model_a']} and {pair['model_b']} alone?"
        yield Answer(question, word, alone, "", "", WEIGHTS)
