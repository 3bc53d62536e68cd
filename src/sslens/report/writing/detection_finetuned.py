"""Sentences about the analysis detection-finetuned."""

from collections.abc import Iterator

from sslens.comparisons.parts import find_rows
from sslens.comparisons.roles import JE
from sslens.report.writing.detection import (
    SIZES,
    choose_sides,
    read_change,
    write_best,
    write_lengths,
    write_models,
    write_nothing_learned,
    write_published,
    write_sides,
)
from sslens.report.writing.numbers import spell_points
from sslens.table import Results

#: the size of objects of which the papers speak
LARGE = "AP large"


def sentences(results: Results) -> tuple[str, ...]:
    """Write how well each model detects when it is trained too, how families differ, and how that
    difference changed."""
    if nothing := (*write_nothing_learned(results),):
        return nothing
    written = [*write_best(results, "end to end")]
    written += write_models(results, "end to end")
    if "families" in results:
        written += write_sides(choose_sides(results["families"]))
    written += _write_change(results)
    return (*written, *write_published(results), *write_lengths(results))


def _write_change(results: Results) -> Iterator[str]:
    """How the difference of REC and JE on large objects changed, in one sentence."""
    for row in find_rows(results, "changes", kind="box", measure=LARGE, less=JE):
        before, after, change = (
            spell_points(read_change(row, column)) for column in ("before", "after", "difference")
        )
        yield (
            f"{row['model']} less {row['less']} ({row['members']}), box AP of {SIZES[LARGE]}:"
            f" {before} frozen, {after} end to end, a change of {change}."
        )
