"""Parts of sentences that the analyses of probes share."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.comparisons.probing import is_settled, read_accuracy, read_gain
from sslens.comparisons.roles import JE, REC
from sslens.counts import spell_count
from sslens.report.writing.numbers import compare, spell_points, spell_share
from sslens.statistics.estimate import SMALLEST, Estimate


def spell_gain(gain: Estimate) -> str:
    """Format a gain in accuracy; unless it is half a point or more and its interval lies above 0,
    say what it decides.

    >>> spell_gain(Estimate(0.125, -0.0625, 0.25, "images", 64))
    '+12.5 points [-6.2, +25.0], which is not decided'
    >>> spell_gain(Estimate(0.125, 0.0625, 0.25, "images", 8))
    '+12.5 points [+6.2, +25.0], of 8 images, which cannot decide'
    >>> spell_gain(Estimate(0.002, 0.001, 0.003, "images", 9000))
    '+0.2 points [+0.1, +0.3], the same within half a point'
    """
    after = {
        "more": "",
        "less": ", which is a loss",
        "the same": ", the same within half a point",
        "too few": f", of {spell_count(gain.n, 'image')}, which cannot decide",
        "undecided": ", which is not decided",
    }
    return f"{spell_points(gain)}{after[gain.find_side(SMALLEST['accuracy'])]}"


def write_families(families: pd.DataFrame, what: str) -> str:
    """Write the gain of each family, and the difference between the gains of REC and JE; of probes
    that are not settled, only the numbers.

    Args:
        families: rows of the table `families` that are about one pooling.
        what: the subject, as the beginning of the sentence.
    """
    rows = families.to_dict("records")
    if not families.settled.all():
        reasons = "; ".join(row["why"] for row in rows if not row["settled"])
        gains = [f"{row['model']} ({row['members']}) {spell_bare_gain(row)}" for row in rows]
        return f"{what}, not settled: {'; '.join(gains)}. Nothing rests on it: {reasons}."
    gains = [f"{row['model']} ({row['members']}) {spell_gain(read_gain(row))}" for row in rows]
    sentence = f"{what}: {'; '.join(gains)}"
    more = [read_gain(row, "difference") for row in rows if row["against"]]
    if more and more[0].defined:
        sentence += f"; the gain of {REC} is {compare(more[0], f'that of {JE}', 'accuracy')}"
    return sentence + "."


def spell_bare_gain(row: Mapping[str, Any]) -> str:
    """Format a gain of a probe that is not settled, without its interval and without a verdict.

    >>> spell_bare_gain({"gain": 0.125})
    '+12.5 points'
    """
    return f"{100 * row['gain']:+.1f} points"


def write_unsettled(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write that probes of a model are not settled, with their numbers; empty if they are.

    Args:
        name: the model.
        rows: the rows of the table `probes` that a sentence would be about.
    """
    reasons = [f"{row['tap']}: {row['why']}" for row in rows if not is_settled(row)]
    if not reasons:
        return ""
    numbers = ", ".join(spell_share(read_accuracy(row)) for row in rows)
    return f"{name}: not settled: {numbers}. Nothing rests on it: {'; '.join(reasons)}."


def name_best_control(rows: pd.DataFrame) -> str:
    """Name the control with the largest gain, in brackets after a space; empty without a control.

    Args:
        rows: rows of the table `probes` that are about one kind of probe.
    """
    controls = rows[rows.control].sort_values("gain", kind="stable").to_dict("records")
    if not controls:
        return ""
    best: Mapping[str, Any] = controls[-1]
    return f" (of the controls {best['model']} most: {spell_points(read_gain(best))})"
