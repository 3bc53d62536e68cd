"""Parts of sentences that the analyses of probes share."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.probing import read_gain
from sslens.comparisons.roles import JE, REC
from sslens.report.writing.numbers import spell_points
from sslens.statistics.estimate import Estimate


def spell_gain(gain: Estimate) -> str:
    """Format a gain in accuracy; unless its interval lies above 0, say what it decides.

    >>> spell_gain(Estimate(0.125, -0.0625, 0.25, "images", 64))
    '+12.5 points [-6.2, +25.0], which is not decided'
    >>> spell_gain(Estimate(0.125, 0.0625, 0.25, "images", 8))
    '+12.5 points [+6.2, +25.0], of 8 images, which cannot decide'
    """
    if gain.sign is None:
        return f"{spell_points(gain)}, of {gain.n} images, which cannot decide"
    verdict = {1: "", 0: ", which is not decided", -1: ", which is a loss"}[gain.sign]
    return f"{spell_points(gain)}{verdict}"


def write_families(families: pd.DataFrame, what: str) -> str:
    """Write the gain of each family, and the difference between the gains of REC and JE.

    Args:
        families: rows of the table `families` that are about one pooling.
        what: the subject, as the beginning of the sentence.
    """
    rows = families.to_dict("records")
    gains = [f"{row['model']} ({row['members']}) {spell_gain(read_gain(row))}" for row in rows]
    sentence = f"{what}: {'; '.join(gains)}"
    more = [read_gain(row, "difference") for row in rows if row["against"]]
    if more and more[0].defined:
        sentence += f"; {REC} less {JE} {spell_gain(more[0])}"
    return sentence + "."


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
