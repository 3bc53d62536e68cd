"""Sentences about the analysis cka-distance."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from sslens.analyses.cka_distance import select_curves
from sslens.comparisons.distances import DEPTH, STEPS
from sslens.comparisons.pairs import read_cka, read_contrast
from sslens.comparisons.roles import list_names
from sslens.counts import spell_count
from sslens.report.writing.numbers import compare, explain_undecided, spell, spell_difference
from sslens.report.writing.similarity import REGRESSED
from sslens.statistics.estimate import SMALLEST
from sslens.table import Results

#: pairs of models that are spoken of where families are unknown
PAIRS = 6


def sentences(results: Results) -> tuple[str, ...]:
    """Write for each family whether the objective or the architecture has the larger effect on CKA;
    without such families, write how fast CKA falls with the distance of two blocks."""
    if "objective" in results:
        rows = results["objective"].to_dict("records")
        return tuple(_write_objective(results, row) for row in rows)
    return tuple(_write_reach(results))


def _write_objective(results: Results, row: Mapping[str, Any]) -> str:
    curves = select_curves(results["curves"], row["family"])
    own = curves[curves.across == "architectures"]
    names = list_names(list(dict.fromkeys([*own.model_a, *own.model_b])))
    contrast = read_contrast(row)
    sentence = (
        f"{row['family']} ({names}): transformer and CNN have a mean CKA at the same depth of"
        f" {spell(read_cka(row))}"
    )
    other = row["less"].replace(" · ", " and ")
    sentence += f", {compare(contrast.difference, other)}"
    beyond = read_contrast(row, "deconfounded").difference
    if beyond.defined:
        sentence += f"; {REGRESSED} {compare(beyond, other)}"
    side = contrast.difference.find_side(SMALLEST["cka"])
    if side not in ("more", "less"):
        return f"{sentence}{_write_slope(results, row['family'])}."
    decides = (
        "objective decides more than the architecture"
        if side == "more"
        else "architecture decides more than the objective"
    )
    points = results["objective-by-distance"]
    points = points[(points.family == row["family"]) & (points.unit == DEPTH)]
    higher = [point for point in points.to_dict("records") if read_contrast(point).sign == 1]
    return (
        f"{sentence}: the {decides}; CKA is higher at {len(higher)} of"
        f" {spell_count(len(points), 'distance')}{_write_slope(results, row['family'])}."
    )


def _write_slope(results: Results, family: str) -> str:
    """Write whether CKA falls less with distance across architectures than across families."""
    slopes = results["slope-differences"]
    slopes = slopes[(slopes.family == family) & (slopes.unit == DEPTH)].dropna(subset="difference")
    if slopes.empty:
        return ""
    contrast = read_contrast(slopes.to_dict("records")[0])
    if not contrast.sign:
        return f"; by its slope over distance {explain_undecided(contrast)}"
    side = "less" if contrast.sign > 0 else "more"
    return (
        f", and falls off {side} with distance (slope over relative depth"
        f" {spell_difference(contrast.difference)})"
    )


def _write_reach(results: Results) -> Iterator[str]:
    curves = results["curves"]
    by_pair = curves[curves.unit == DEPTH].groupby(["model_a", "model_b"], sort=False)
    for (a, b), points in itertools.islice(by_pair, PAIRS):
        defined = points[points.cka.notna()].to_dict("records")
        if len(defined) > 1:
            near, far = defined[0], defined[-1]
            yield (
                f"{a} and {b}: CKA {spell(read_cka(near))} between blocks of about the same"
                f" relative depth, {spell(read_cka(far))} at distances of"
                f" {spell_step(far['distance'], STEPS[DEPTH])}."
            )


def spell_step(middle: float, width: float) -> str:
    """Format the ends of a step of distances: its middle alone is no distance of any two blocks,
    as 0.7 where all in the step are 0.75 apart.

    >>> spell_step(0.7, 0.1)
    '0.65 to 0.75'
    """
    return f"{middle - width / 2:.2f} to {middle + width / 2:.2f}"
