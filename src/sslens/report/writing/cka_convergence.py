"""Sentences about the analysis cka-convergence."""

from collections.abc import Iterator

import pandas as pd

from sslens.report.writing.numbers import list_names, spell_change, spell_count
from sslens.table import Results


def sentences(results: Results) -> tuple[str, ...]:
    """Write how much CKA changes with the size of minibatches and with the number of images, and
    how wide its interval is at the smallest minibatch; of several pairs of models together, with
    the exceptions named."""
    rows = results["points"]
    rows = rows[rows.cka.notna()]
    rows = rows.assign(pair=rows.model_a + " and " + rows.model_b)
    by_batch, by_images = rows[rows.varied == "batch"], rows[rows.varied == "images"]
    if not len(rows):
        return ()
    if by_batch.batch.nunique() <= 1 and by_images.images.nunique() <= 1:
        return (
            f"{_name_pairs(rows)}: {spell_count(int(rows.images.max()))} images are too few to"
            " vary their number or the minibatch.",
        )
    return tuple(
        f"{_name_pairs(part)}: {clause}."
        for part, clause in (
            (by_batch, _write_by_batch(by_batch)),
            (by_images, _write_by_images(by_images)),
        )
        if clause
    )


def _name_pairs(rows: pd.DataFrame) -> str:
    """Name the only pair of the rows, or the models of several pairs."""
    pairs = rows.pair.unique()
    if len(pairs) == 1:
        return str(pairs[0])
    models = dict.fromkeys([*rows.model_a, *rows.model_b])
    return f"All {len(pairs)} compared pairs of {list_names([str(name) for name in models])}"


def _write_by_batch(rows: pd.DataFrame) -> str:
    """Write how far CKA moves with the size of minibatches, and whether this is less than its
    interval is wide; empty if there is one size only."""
    if rows.batch.nunique() <= 1:
        return ""
    spread = rows.groupby(["pair", "tap_a"], sort=False).cka.agg(lambda cka: cka.max() - cka.min())
    smallest, largest = int(rows.batch.min()), int(rows.batch.max())
    clause = (
        f"from {smallest} to {spell_count(largest)} images in a minibatch the CKA of"
        f" {_count_taps(spread)} moves by {spell_change(spread.median())} in the median and"
        f" {_spell_most(spread)}"
    )
    first = rows[rows.batch == smallest].set_index(["pair", "tap_a"])
    width = first.high - first.low
    if width.isna().all():  # too few minibatches have no interval
        return clause
    clause += (
        f", {_compare(spread, width)} than the width of its 95 % interval at {smallest}"
        f" ({spell_change(width.median())} in the median)"
    )
    return "; ".join([clause, *_write_exceptions(spread, width)])


def _compare(spread: "pd.Series[float]", width: "pd.Series[float]") -> str:
    """Say whether CKA moves less than its interval is wide, or more, in the median."""
    return "less" if spread.median() < width.median() else "more"


def _write_exceptions(spread: "pd.Series[float]", width: "pd.Series[float]") -> Iterator[str]:
    """Name the pairs in which the comparison of move and width has another result than in all."""
    usual = _compare(spread, width)
    pairs = [str(pair) for pair in spread.index.get_level_values("pair").unique()]
    other = {pair: _compare(spread[pair], width[pair]) for pair in pairs}
    named = [pair for pair in pairs if other[pair] != usual]
    if named:
        yield f"{'more' if usual == 'less' else 'less'} in {list_names(named)}"


def _write_by_images(rows: pd.DataFrame) -> str:
    """Write how far CKA of fewer images is from CKA of all images; empty if there is one number of
    images only."""
    if rows.images.nunique() <= 1:
        return ""
    most = int(rows.images.max())
    rows = rows.set_index(["pair", "tap_a"])
    last = rows[rows.images == most].cka
    numbers = sorted(set(rows.images.tolist()) - {most})
    parts = []
    for number in numbers if len(numbers) < 3 else [numbers[0], numbers[-1]]:
        misses = (rows[rows.images == number].cka - last).abs()
        parts.append(
            f"{spell_change(misses.median())} in the median and {_spell_most(misses)} with"
            f" {spell_count(number)}"
        )
    return (
        f"the CKA of {_count_taps(last)} with {spell_count(most)} images is missed by"
        f" {', by '.join(parts)}"
    )


def _count_taps(values: "pd.Series[float]") -> str:
    """Count the taps of a pair; of several pairs with different numbers, all taps together."""
    counts = set(values.groupby(level="pair").size())
    return f"{counts.pop() if len(counts) == 1 else len(values)} taps"


def _spell_most(values: "pd.Series[float]") -> str:
    """Format the largest change, with the pair where there are several."""
    pair, _ = values.idxmax()
    several = values.index.get_level_values("pair").nunique() > 1
    return f"{spell_change(values.max())} at most{f' ({pair})' if several else ''}"
