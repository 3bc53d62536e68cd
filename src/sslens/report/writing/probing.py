"""What sentences on probes share."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.probing import read_gain
from sslens.comparisons.roles import JE, REC
from sslens.report.writing.numbers import spell_points
from sslens.statistics.estimate import Estimate


def spell_gain(gain: Estimate) -> str:
    """A gain in accuracy, and what it decides where it is not above 0.

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
    """What each family gains, and what REC gains more than JE.

    Args:
        families: rows of the table `families`, of one reading.
        what: what gains, as the beginning of the sentence.
    """
    rows = families.to_dict("records")
    gains = [f"{row['model']} ({row['members']}) {spell_gain(read_gain(row))}" for row in rows]
    sentence = f"{what}: {'; '.join(gains)}"
    more = [read_gain(row, "difference") for row in rows if row["against"]]
    if more and more[0].defined:
        sentence += f"; {REC} less {JE} {spell_gain(more[0])}"
    return sentence + "."


def name_best_control(rows: pd.DataFrame) -> str:
    """The control among some probes that gains most, in brackets after a space; nothing where there
    is none.

    Args:
        rows: rows of the table `probes`, all of one kind of probe.
    """
    controls = rows[rows.control].sort_values("gain", kind="stable").to_dict("records")
    if not controls:
        return ""
    best: Mapping[str, Any] = controls[-1]
    return f" (of the controls {best['model']} most: {spell_points(read_gain(best))})"
