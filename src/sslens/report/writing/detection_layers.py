"""Sentences about the analysis detection-layers."""

from collections.abc import Iterator

from sslens.comparisons.parts import find_rows
from sslens.report.writing.detection import (
    name_sizes,
    read_ap,
    read_change,
    write_lengths,
    write_nothing_learned,
    write_sides,
)
from sslens.report.writing.numbers import compare, spell_share
from sslens.table import Results


def sentences(results: Results) -> tuple[str, ...]:
    """Write what several blocks gain for each model and control, and for each family."""
    if nothing := (*write_nothing_learned(results),):
        return nothing
    written = [*_write_gains(results)]
    if "families" in results:
        written += write_sides(results["families"])
    return (*written, *write_lengths(results))


def _write_gains(results: Results) -> Iterator[str]:
    """What several blocks gain over the last one for each model, in one sentence."""
    parts = []
    for row in find_rows(results, "gains", kind="box", measure="AP"):
        name = f"{row['model']}, a control," if row["control"] else row["model"]
        against = compare(read_change(row), "the last block", "ap")
        parts.append(f"{name} {spell_share(read_ap(row))}, {against}")
    yield f"Several blocks joined, box AP: {'; '.join(parts)}{name_sizes(results)}."
