"""Sentences about the analysis finetune-path."""

import pandas as pd

from sslens.analyses.finetune_path import ATTENTION, DRAWN, read_path_contrast
from sslens.report.writing.numbers import spell, spell_difference, spell_share
from sslens.statistics.estimate import Contrast, Estimate
from sslens.table import Results

#: runs that are spoken of where there are no families
MOST = 6
#: groups that overlap with kinds of parameters, and are not listed beside these
OVERLAPPING = ("backbone", "head", "attention qkv", "attention projection")


def sentences(results: Results) -> tuple[str, ...]:
    """Write claim C10, for attention first; without families, write how straight each run's path
    is."""
    if "differences" in results:
        rows = results["differences"]
        straight = rows[rows.measure == "straightness"]
        claims = [_write_claim(own) for _, own in straight.groupby(["role", "less"], sort=False)]
        if claims:
            return tuple(claims)
    runs = results["records"].groupby("model", sort=False)
    return tuple(_write_run(str(model), rows) for model, rows in runs)[:MOST]


def _write_claim(rows: pd.DataFrame) -> str:
    """Whether one role goes straighter than another, and by kind of parameter."""
    attention = rows[rows.group == ATTENTION]
    row = (attention if len(attention) else rows).to_dict("records")[0]
    sentence = (
        f"In fine-tuning the {row['group']} parameters of {row['role']} have a straightness of"
        f" {spell(Estimate(row['value']))} ({row['members']})"
    )
    if row["unlike"]:
        return f"{sentence}; it is not held against that of the {row['less']}, for {row['unlike']}."
    contrast = read_path_contrast(row)
    sentence += (
        f", {spell_difference(contrast.difference)} more than those of the"
        f" {row['less']}{_write_verdict(contrast)}"
    )
    others = [
        f"{other['group']} {spell_difference(read_path_contrast(other).difference)}"
        for other in rows.to_dict("records")
        if other["group"] not in (row["group"], *OVERLAPPING)
    ]
    if not others:
        return f"{sentence}."
    return f"{sentence}; by kind of parameter the same difference is {', '.join(others)}."


def _write_verdict(contrast: Contrast) -> str:
    """What a difference decides, as the end of a sentence."""
    if contrast.sign is None:
        return (
            " (one run of an objective has no interval: what another seed would give is not known)"
        )
    return {
        1: ": they go straighter",
        0: ", which is not decided",
        -1: ": they go less straight",
    }[contrast.sign]


def _write_run(model: str, rows: pd.DataFrame) -> str:
    """How straight a run went by kind of parameter, and how far."""
    last = rows[(rows.record == rows.record.max()) & rows.depth.isna() & rows.straightness.notna()]
    ends = last.set_index("group")
    kinds = [kind for kind in DRAWN if kind in ends.index]
    if not kinds:
        return f"{model} did not move."
    parts = [f"{kind} {spell(Estimate(ends.straightness[kind]))}" for kind in kinds]
    sentence = (
        f"{model}: straightness after {rows.record.max():.0f} epochs or checkpoints"
        f" {', '.join(parts)}"
    )
    distance = Estimate(ends.relative[kinds[0]])
    if not distance.defined:
        return f"{sentence}."
    return f"{sentence}; its {kinds[0]} parameters moved by {spell_share(distance)} of their norm."
