"""Sentences about the analysis cka-convergence."""

import pandas as pd

from sslens.report.writing.numbers import spell_change, spell_count
from sslens.table import Results


def sentences(results: Results) -> tuple[str, ...]:
    """Write how much CKA changes with the size of minibatches and with the number of images, and
    how wide its interval is at the smallest minibatch."""
    rows = results["points"]
    written = []
    for (a, b), pair in rows[rows.cka.notna()].groupby(["model_a", "model_b"], sort=False):
        by_batch, by_images = pair[pair.varied == "batch"], pair[pair.varied == "images"]
        if by_batch.batch.nunique() == by_images.images.nunique() == 1:
            written.append(
                f"{a} and {b}: {by_batch.images.iloc[0]} images are too few to vary their number or"
                " the minibatch."
            )
        if by_batch.batch.nunique() > 1:
            written.append(f"{a} and {b}: {_write_by_batch(by_batch)}.")
        if by_images.images.nunique() > 1:
            written.append(f"{a} and {b}: {_write_by_images(by_images)}.")
    return tuple(written)


def _write_by_batch(rows: pd.DataFrame) -> str:
    spread = rows.groupby("tap_a").cka.agg(lambda values: values.max() - values.min())
    smallest, largest = int(rows.batch.min()), int(rows.batch.max())
    clause = (
        f"from {smallest} to {spell_count(largest)} images in a minibatch the CKA of {len(spread)}"
        f" taps moves by {spell_change(spread.median())} in the median and"
        f" {spell_change(spread.max())} at most"
    )
    first = rows[rows.batch == smallest]
    width = float((first.high - first.low).median())
    if width != width:  # too few minibatches have no interval
        return clause
    side = "less" if spread.median() < width else "more"
    return (
        f"{clause}, {side} than the width of its 95 % interval at {smallest}"
        f" ({spell_change(width)} in the median)"
    )


def _write_by_images(rows: pd.DataFrame) -> str:
    most = int(rows.images.max())
    last = rows[rows.images == most].set_index("tap_a").cka
    numbers = sorted(set(rows.images.tolist()) - {most})
    parts = []
    for number in numbers if len(numbers) < 3 else [numbers[0], numbers[-1]]:
        misses = (rows[rows.images == number].set_index("tap_a").cka - last).abs()
        parts.append(
            f"{spell_change(misses.median())} in the median and {spell_change(misses.max())} at"
            f" most with {spell_count(number)}"
        )
    return (
        f"the CKA of {len(last)} taps with {spell_count(most)} images is missed by"
        f" {', by '.join(parts)}"
    )
