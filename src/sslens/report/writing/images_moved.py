"""Sentences about the analysis images-moved."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sslens.report.writing.numbers import (
    list_names,
    spell_change,
    spell_count,
    spell_points,
    spell_share,
)
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: images that are named
NAMED = 3
#: a movement that is below this is none but for rounding
STILL = 1e-6


def sentences(results: Results) -> tuple[str, ...]:
    """Write of each pair of models how many predictions changed and how far images moved; of
    several pairs a paragraph each."""
    pairs = results["pairs"].to_dict("records")
    moved = results["moved"]
    written = []
    for pair in pairs:
        rows = moved[(moved.model_a == pair["model_a"]) & (moved.model_b == pair["model_b"])]
        written.append([*_write_predictions(pair), *_write_movement(pair, rows)])
    if len(written) > 1:
        return tuple(" ".join(own) for own in written)
    return tuple(sentence for own in written for sentence in own)


def _write_predictions(pair: Mapping[Any, Any]) -> Iterator[str]:
    if not pair["by"]:
        return
    by = "their own classifiers" if pair["by"] == "classifier" else "k-NN"
    share = Estimate.from_row(pair, "moved", "images", "images")
    text = (
        f"From {pair['model_a']} to {pair['model_b']} the predictions of {by} changed on"
        f" {spell_share(share)} of {spell_count(int(pair['images']))} images"
    )
    if pair["gained"] == pair["gained"]:
        gain = Estimate.from_row(pair, "gain", "images", "images")
        text += (
            f": {spell_count(int(pair['gained']))} became right and"
            f" {spell_count(int(pair['lost']))} wrong, {spell_points(gain)}"
        )
    yield f"{text}."


def _write_movement(pair: Mapping[Any, Any], rows: pd.DataFrame) -> Iterator[str]:
    names = f"{pair['model_a']} and {pair['model_b']}"
    if pair["movement"] != pair["movement"]:
        yield f"No image has a place among the others in both of {names}: nothing varies."
        return
    known = rows[rows.movement.notna()]
    if not known.movement.max() > STILL:
        yield f"No image moved among the others between {names}."
        return
    overlap = Estimate(pair["overlap"])
    first = [str(name) for name in known.image.head(NAMED)]
    yield (
        f"Among the others the images moved by {spell_change(pair['movement'])} in the median"
        f" between {names} (0 not at all, 1 as between unrelated models), and"
        f" {spell_share(overlap)} of their {int(pair['neighbours'])} nearest neighbours are the"
        f" same, neither with an interval; most moved {list_names(first)}."
    )
