"""Sentences about the analysis probe-layers."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.probing import PLUS, read_accuracy, read_gain
from sslens.comparisons.readings import USUAL, name_pooling_in
from sslens.report.writing.numbers import compare, spell_over, spell_points, spell_share
from sslens.report.writing.probing import (
    name_best_control,
    spell_gain,
    write_families,
    write_unsettled,
)
from sslens.statistics.estimate import SMALLEST
from sslens.table import Results

#: sentences at most
MOST = 8


def sentences(results: Results) -> tuple[str, ...]:
    """Write claim C8 for each pooling if models have families, and what fine-tuning changed; else
    write how much accuracy each model gains by an intermediate block beside the last layer."""
    claims = [*_write_claims(results), *_write_before(results), *_write_changes(results)]
    return tuple(claims[:MOST]) or tuple(_write_models(results))


def _write_claims(results: Results) -> Iterator[str]:
    """Write the gain of each family by an intermediate block, one sentence per pooling."""
    if "families" not in results:
        return
    for main, rows in results["families"].groupby("main", sort=False):
        where = USUAL if main else "mean of patch tokens"
        yield write_families(
            rows, f"An intermediate block beside the last layer, both as {where}, gains"
        )


def _write_before(results: Results) -> Iterator[str]:
    """Write the accuracy of the usual probe of each fine-tuned model against that before, in one
    sentence; controls come last."""
    if "before-after" not in results:
        return
    rows = results["before-after"].sort_values("control", kind="stable").to_dict("records")
    told = []
    for row in rows:
        before = f"{row['against']} with {spell_share(read_gain(row, 'before'))}"
        side = compare(read_gain(row, "change"), before, "accuracy")
        clause = f"{row['model']} has {spell_share(read_accuracy(row))}, {side}"
        told.append(clause if row["settled"] else f"{row['members']} is not settled, {row['why']}")
    over = spell_over(read_accuracy(rows[0]))
    yield (
        "By a linear probe of the last layer, after fine-tuning and before on the same"
        f" {over}: {'; '.join(told)}."
    )


def _write_changes(results: Results) -> Iterator[str]:
    """Write whether the gain vanishes with fine-tuning, one sentence for each fine-tuned model and
    pooling; controls come first."""
    if "fine-tuned" not in results:
        return
    changes = results["fine-tuned"]
    changes = changes.sort_values(["control", "main"], ascending=[True, False], kind="stable")
    pairs = _select_chosen_pairs(results["probes"])
    for after in changes.to_dict("records"):
        rows = pairs[pairs.main if after["main"] else pairs.pooling == after["pooling"]]
        sides = (
            rows[rows.model == after[side]].to_dict("records")[0] for side in ("against", "model")
        )
        probes = results["probes"]
        poolings = dict.fromkeys(
            name_pooling_in(probes[probes.model == one["model"]], one["pooling"]) for one in sides
        )
        before = rows[rows.model == after["against"]].to_dict("records")[0]
        yield _write_change(before, after, " before and ".join(poolings))


def _select_chosen_pairs(probes: pd.DataFrame) -> pd.DataFrame:
    """Select the pair of taps that is best on the validation images, by model and pooling."""
    return probes[probes.chosen & probes.tap.str.contains(PLUS, regex=False)]


def _write_change(before: Mapping[str, Any], after: Mapping[str, Any], pooling: str) -> str:
    """Write whether the gain of an intermediate block vanishes with fine-tuning.

    Args:
        before: the row of `probes` of the model before fine-tuning.
        after: the row of `fine-tuned`.
        pooling: how the features are pooled, in words.
    """
    gained, gains = read_gain(before), read_gain(after)
    difference = read_gain(after, "difference")
    sentence = (
        f"{after['members']}: an intermediate block beside the last layer, both as"
        f" {pooling}, gained {spell_points(gained)} before fine-tuning and"
        f" gains {spell_points(gains)} after"
    )
    if not after["settled"]:
        return f"{sentence}, not settled. Nothing rests on it: {after['why']}."
    smallest = SMALLEST["accuracy"]
    sides = [one.find_side(smallest) for one in (gained, gains, difference)]
    sentence += f", a difference of {spell_points(difference)}"
    if sides[2] == "more":
        return f"{sentence}: the gain grew."
    if sides[0] != "more":
        return f"{sentence}: there was no sure gain that could vanish."
    if sides[2] == "the same":
        return f"{sentence}: the gain stays the same within half a point."
    if sides[2] != "less":
        return f"{sentence}: whether the gain shrinks is not decided."
    return f"{sentence}: the gain {'shrinks' if sides[1] == 'more' else 'vanishes'}."


def _write_models(results: Results) -> Iterator[str]:
    """Write how much an intermediate block adds to the last layer, one sentence per model."""
    probes = results["probes"]
    probes = probes[probes.main]
    pairs = _select_chosen_pairs(probes)
    beside = name_best_control(pairs)
    for name, rows in probes[~probes.control].groupby("model", sort=False):
        (usual,) = rows[rows.usual].to_dict("records")
        beside_last = pairs[pairs.model == name].to_dict("records")
        unsettled = write_unsettled(str(name), (usual, *beside_last))
        if unsettled:
            yield unsettled
            continue
        sentence = (
            f"{name}: a linear probe of the last {name_pooling_in(rows, usual['pooling'])} has"
            f" {spell_share(read_accuracy(usual))}"
        )
        for pair in beside_last:
            sentence += (
                f"; with {pair['tap'].split(PLUS)[0]} beside it"
                f" {spell_share(read_accuracy(pair))}, {spell_gain(read_gain(pair))}{beside}"
            )
        yield sentence + "."
