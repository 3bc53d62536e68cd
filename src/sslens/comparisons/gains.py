"""Verdicts on what a second probe gains: for reconstruction, and not for joint embedding."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from sslens.comparisons.parts import find_rows, make_part, refuse, split_members
from sslens.comparisons.roles import JE, REC
from sslens.comparisons.trainings import TRAININGS
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.verdicts import Part, Verdict, reach_verdict
from sslens.table import Results


def judge_gains(
    claim: str,
    results: Results,
    *,
    layers: int = 1,
    tuned: bool = False,
    published: float | None = None,
) -> Verdict:
    """Judge whether a second probe gains accuracy for REC and none for JE.

    Args:
        claim: the claim's name.
        results: the results of an exhibit of probes.
        layers: number of layers of the second probe.
        tuned: whether fine-tuned REC models, if there are any, must gain nothing.
        published: the gain of REC that the papers print, as a share.
    """
    rows = {row["model"]: row for row in find_rows(results, "families", main=True, layers=layers)}
    if not {JE, REC} <= set(rows):
        return refuse(claim, f"it needs probes of pre-trained {JE} and {REC} models")
    members = {
        family: split_members(f"{family}: {row['members']}")[family] for family, row in rows.items()
    }
    after = [
        row
        for row in (find_rows(results, "fine-tuned", main=True) if tuned else [])
        if row["against"] in members[REC]
    ]
    unsettled = [row for row in (*rows.values(), *after) if not row.get("settled", False)]
    if unsettled:
        reason = unsettled[0].get("why") or "they may not have converged"
        why = f"no verdict rests on the probes of {unsettled[0]['model']}: {reason}"
        return refuse(claim, why, members)
    more = _read(rows[REC], "difference", f"the gain of {REC}", f"the gain of {JE}")
    parts = [
        replace(_make_part(rows[REC], REC, 1), published=published),
        _make_part(rows[JE], JE, 0),
        make_part(rows[REC], "", more, "accuracy"),
        *(_make_part(row, str(row["model"]), 0) for row in after),
    ]
    return reach_verdict(claim, parts, members=members)


def _make_part(row: Mapping[str, Any], name: str, expected: Literal[1, 0]) -> Part:
    """The part of the gain of one family or model, with its interval over trainings if the row has
    one."""
    contrast = _read(row, "gain", f"{name}, second probe", "first")
    over = {column: row[f"gain_{column}"] for column in TRAININGS if f"gain_{column}" in row}
    return make_part(over, "", contrast, "accuracy", expected)


def _read(row: Mapping[str, Any], column: str, a: str, b: str) -> Contrast:
    return Contrast(a, b, Estimate.from_row(row, column, "images", "images"))
