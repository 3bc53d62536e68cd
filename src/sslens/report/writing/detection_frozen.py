"""Sentences about the analysis detection-frozen."""

from sslens.report.writing.detection import (
    choose_sides,
    write_best,
    write_lengths,
    write_models,
    write_nothing_learned,
    write_published,
    write_sides,
    write_unbeaten,
)
from sslens.table import Results


def sentences(results: Results) -> tuple[str, ...]:
    """Write how well each frozen model detects beside its controls, and how families and multi-crop
    differ."""
    if nothing := (*write_nothing_learned(results),):
        return nothing
    written = [*write_best(results, "frozen")]
    written += write_unbeaten(results, "frozen")
    written += write_models(results, "frozen")
    if "families" in results:
        written += write_sides(choose_sides(results["families"]))
    if "multi-crop" in results:
        written += write_sides(results["multi-crop"])
    return (*written, *write_published(results), *write_lengths(results))
