"""Sentences about the analysis finetune-path."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from sslens.analyses.finetune_path import ATTENTION, DRAWN, read_path_contrast
from sslens.comparisons.roles import CONTROL
from sslens.report.writing.numbers import (
    compare,
    list_names,
    spell,
    spell_effect,
    spell_share,
)
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: runs that are spoken of where there are no families
MOST = 6
#: groups that overlap with kinds of parameters, and are not listed beside these
OVERLAPPING = ("backbone", "head", "attention qkv", "attention projection")


def sentences(results: Results) -> tuple[str, ...]:
    """Write claim C10, for attention first, then how JE and REC differ from the control; without
    families, write how straight each run's path is. Then write which models have no path."""
    return (*_write_paths(results), *_write_absent(results))


def _write_absent(results: Results) -> Iterator[str]:
    """Write which models are not shown, and why."""
    if "not-shown" in results:
        for why, rows in results["not-shown"].groupby("why", sort=False):
            yield f"Not shown: {list_names([str(name) for name in rows.model])} ({why})."


def _write_paths(results: Results) -> tuple[str, ...]:
    if "differences" in results:
        rows = results["differences"]
        straight = rows[rows.measure == "straightness"]
        pairs = [own for _, own in straight.groupby(["role", "less"], sort=False)]
        claims = [_write_claim(own) for own in pairs if own.less.iloc[0] != CONTROL]
        controls = [own for own in pairs if own.less.iloc[0] == CONTROL]
        if controls:
            claims.append(_write_control(controls))
        if claims:
            return (*claims, *_write_others(results))
    runs = results["records"].groupby("model", sort=False)
    return tuple(_write_run(str(model), rows) for model, rows in runs)[:MOST]


def _write_others(results: Results) -> Iterator[str]:
    """Write the paths of runs that stand in no difference, and why they stand in none."""
    members = {
        name
        for told in results["differences"].members
        for side in str(told).split("; ")
        for name in re.split(", | and ", side.partition(": ")[2])
    }
    for model, rows in results["records"].groupby("model", sort=False):
        if str(model) not in members:
            told = _write_run(str(model), rows).removesuffix(".")
            yield f"{told}. It is of no family that is held against another."


def _select_attention(rows: pd.DataFrame) -> dict[str, Any]:
    """Select the row about attention, or the first row if there is none."""
    attention = rows[rows.group == ATTENTION]
    return (attention if len(attention) else rows).to_dict("records")[0]


def _write_claim(rows: pd.DataFrame) -> str:
    """Write whether the weights of REC move on a straighter path than those of JE, by kind of
    parameter."""
    row = _select_attention(rows)
    sentence = (
        f"In fine-tuning the {row['group']} parameters of {row['role']} have a straightness of"
        f" {spell(Estimate(row['value']))} ({row['members']})"
    )
    if row["unlike"]:
        return f"{sentence}; it is not held against that of {row['less']}, for {row['unlike']}."
    difference = read_path_contrast(row).difference
    other = f"that of {row['less']}"
    sentence += f", {compare(difference, other, 'straightness')}"
    others = [
        f"{other['group']} {spell_effect(read_path_contrast(other).difference, 'straightness')}"
        for other in rows.to_dict("records")
        if other["group"] not in (row["group"], *OVERLAPPING)
    ]
    if not others:
        return f"{sentence}."
    return f"{sentence}; by kind of parameter the same difference is {', '.join(others)}."


def _write_control(pairs: Sequence[pd.DataFrame]) -> str:
    """Write how the straightness of JE and REC differs from fine-tuned random weights."""
    rows = [_select_attention(own) for own in pairs]
    parts = []
    for row in rows:
        own = row["members"].partition(f"{row['role']}: ")[2].partition(";")[0]
        told = f"{row['role']} ({own}) has {spell(Estimate(row['value']))}"
        if row["unlike"]:
            parts.append(f"{told}, and is not held against theirs, for {row['unlike']}")
        else:
            difference = read_path_contrast(row).difference
            parts.append(f"{told}, which is {compare(difference, 'theirs', 'straightness')}")
    members = rows[0]["members"].partition(f"{CONTROL}: ")[2]
    straight = Estimate(rows[0]["value"] - rows[0]["difference"])
    value = f", which have {spell(straight)}" if straight.defined else ""
    return (
        f"Straightness of {rows[0]['group']} parameters, beside what the recipe does to random"
        f" weights ({members}){value}: {'; '.join(parts)}."
    )


def _count_moves(rows: pd.DataFrame) -> int:
    """Count the records at which weights had moved: a last checkpoint is often written twice."""
    moved = rows[rows.move_of_whole > 0]
    return int(moved.record.nunique())


def _write_run(model: str, rows: pd.DataFrame) -> str:
    """Write how straight the path of one run is, by kind of parameter, and how long it is."""
    last = rows[(rows.record == rows.record.max()) & rows.depth.isna() & rows.straightness.notna()]
    ends = last.set_index("group")
    kinds = [kind for kind in DRAWN if kind in ends.index]
    if not kinds:
        return f"{model} did not move."
    parts = [f"{kind} {spell(Estimate(ends.straightness[kind]))}" for kind in kinds]
    moves = _count_moves(rows)
    sentence = f"{model}: straightness after {moves} epochs or checkpoints {', '.join(parts)}"
    if moves == 1:
        sentence = f"{model}: one move, which is straight by definition"
    distance = Estimate(ends.relative[kinds[0]])
    if not distance.defined:
        return f"{sentence}."
    return f"{sentence}; its {kinds[0]} parameters moved by {spell_share(distance)} of their norm."
