"""Sentences about the analysis layers-changed."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.activations import BEYOND
from sslens.report.writing.numbers import (
    spell,
    spell_count,
    spell_points,
    spell_relative,
    spell_share,
)
from sslens.statistics.estimate import SMALLEST, Estimate, Side
from sslens.table import Results

#: how a difference of k-NN is decided, in words
SIDES: Mapping[Side, str] = {
    "more": "more right",
    "less": "fewer right",
    "the same": "the same within half a point",
    "undecided": "not decided",
    "too few": "not decided by so few images",
}


def sentences(results: Results) -> tuple[str, ...]:
    """Write of each pair of models the first tap that computes something else, where CKA is least,
    and what k-NN of the last layer says; of several pairs a paragraph each."""
    pairs = results["depths"][["model_a", "model_b"]].drop_duplicates()
    written = []
    for a, b in pairs.itertuples(index=False):
        parts = {name: _select(results, name, a, b) for name in results}
        writers = (_write_taps, _write_cka, _write_knn)
        written.append([text for write in writers for text in write(a, b, parts)])
    if len(written) > 1:
        return tuple(" ".join(own) for own in written)
    return tuple(sentence for own in written for sentence in own)


def _select(results: Results, table: str, a: str, b: str) -> pd.DataFrame:
    frame = results[table]
    return frame[(frame.model_a == a) & (frame.model_b == b)]


def _write_taps(a: str, b: str, parts: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Write which tap is the first that computes something else than rounding explains."""
    if "not-compared" in parts and len(parts["not-compared"]):
        why = parts["not-compared"].why.iloc[0]
        yield f"The activations of {a} and {b} are not compared tap by tap, for {why}."
    taps = parts.get("taps")
    if taps is None or not len(taps):
        return
    kind = taps.rounded_to.iloc[0]
    known = taps[taps.difference.notna()]
    places = f"{spell_count(len(known))} taps"
    rounding = "float32 arithmetic" if kind == "float32" else f"rounding to {kind}"
    if not len(known):
        yield f"No tap of {a} has activations of the shape that {b} has there."
        return
    largest = spell_relative(known.difference.max())
    beyond = known[known.beyond.astype(bool)]
    if not known.difference.max() > 0:
        yield f"{a} and {b} have equal activations at all {places}, on the same images."
    elif not len(beyond):
        yield (
            f"{a} and {b} compute the same at all {places}: their activations differ by at most"
            f" {largest}, which {rounding} explains."
        )
    else:
        first = beyond.iloc[0]
        yield (
            f"The first tap at which {b} computes something else than {a} is {first.tap}: its"
            f" activations differ by {spell_relative(first.difference)}, more than {BEYOND:.0f}"
            f" times what {rounding} does there ({spell_relative(first.rounding)}); the largest"
            f" difference of the {places} is {largest}."
        )
    if not bool(taps.same_view.iloc[0]):
        yield (
            f"{a} and {b} are shown images in different ways (size, resampling or colours); for"
            f" these activations both are shown them as {a} is."
        )


def _write_cka(a: str, b: str, parts: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Write where CKA at the same depth is least, and after the last block."""
    rows = parts["depths"]
    rows = rows[rows.cka.notna()]
    if not len(rows):
        return
    least, last = rows.loc[rows.cka.idxmin()], rows.loc[rows.depth.idxmax()]
    where = name_taps(least)
    text = f"CKA of {a} and {b} at the same depth is least at {where}, {_spell_cka(least)}"
    if last.tap_b != least.tap_b:
        text += f", and {_spell_cka(last)} at {name_taps(last)}, the last block"
    yield f"{text}."


def name_taps(row: Any) -> str:
    """Name the taps of two models at the same depth, once where the names are the same.

    Args:
        row: a row of the table `depths`.

    >>> name_taps(pd.Series({"model_a": "a", "tap_a": "blocks.3", "tap_b": "blocks.5"}))
    'blocks.5 (beside blocks.3 of a)'
    """
    beside = f" (beside {row.tap_a} of {row.model_a})" if row.tap_a != row.tap_b else ""
    return f"{row.tap_b}{beside}"


def _spell_cka(row: Any) -> str:
    return spell(Estimate.from_row(row, "cka", "minibatches", "minibatches", ends=("low", "high")))


def _write_knn(a: str, b: str, parts: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Write what k-NN says of both models after the last layer."""
    rows = parts.get("knn")
    if rows is None or not len(rows):
        return
    last = rows.iloc[-1].to_dict()
    accuracies = [
        spell_share(Estimate.from_row(last, f"accuracy_{side}", "images", "images"))
        for side in ("a", "b")
    ]
    gain = Estimate.from_row(last, "gain", "images", "images")
    yield (
        f"By {last['k']}-NN of the last layer {a} has {accuracies[0]} right and {b}"
        f" {accuracies[1]}: {spell_points(gain)}, {SIDES[gain.find_side(SMALLEST['accuracy'])]}."
    )
