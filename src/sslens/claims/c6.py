"""C6: joint-embedding models are right and wrong alike (figure 4 of Shekhar et al., 2022; figure 13
of 2023)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sslens.comparisons.parts import find_rows, make_part, refuse, split_members
from sslens.comparisons.roles import JE, REC
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.verdicts import Part, Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = (
    "Joint-embedding models rank classes more alike with each other than with reconstruction"
    " models, on all images, on those that both have right and on those that both have wrong."
)
GROUP_WORDS = (
    "Models of {a} rank classes more alike with each other than with models of {b}, on all images,"
    " on those that both have right and on those that both have wrong."
)
SHORT = "JE models rank classes more alike with each other than with REC"
PAPERS = (
    Quotation(
        "contrastive models make similar class predictions which are also right and wrong in"
        " similar ways",
        "2022, section 2.4",
        "F1 of DINO and MoCo-V3 0.9341, of MAE and MoCo-V3 0.88",
    ),
)
READS = ("agreement",)
#: F1 of DINO with MoCo-v3 less F1 of MAE with MoCo-v3 in section 2.4 of 2022. The papers leave open
#: which F1 they mean
F1 = 0.9341 - 0.88
#: what tells rows of one number apart
PLACE = ("pooling", "measure", "k", "images")
#: the measures of the claim, in words; of each the smallest k counts
MEASURES = {"tau": "Kendall's tau", "f1": "F1 of the first choice", "f1 right": "F1 of being right"}


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether tau and F1 are higher between JE models than between JE and REC models.

    The claim holds where Kendall's tau over the smallest top k, on all images, on images that both
    have right and on images that both have wrong, and F1, are higher by 0.02 or more. Models of
    high accuracy agree by that alone: what is left of a difference less that of chance stands
    beside it, where chance predicts each class, or is right, as often, whatever the image.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict for each pooling of the probes' features; a single verdict "not run" without
        both families.
    """
    if READS[0] not in results:
        return ()
    agreement = results[READS[0]]
    rows = find_rows(agreement, "families", model_b=JE)
    others = find_rows(agreement, "families", model_b=REC)
    if not rows:
        why = f"it needs pre-trained {JE} models of two objectives and a pre-trained {REC} model"
        return (refuse("c6", why),)
    poolings = dict.fromkeys(row["pooling"] for row in rows)
    return tuple(
        _judge_pooling([row for row in rows if row["pooling"] == pooling], others, pooling)
        for pooling in poolings
    )


def _judge_pooling(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], pooling: str
) -> Verdict:
    """The verdict for one pooling of the features; `others` are the rows of JE with REC."""
    smallest = min(row["k"] for row in rows if row["measure"] == "tau")
    chosen = [row for row in rows if row["measure"] in MEASURES and row["k"] in (0, smallest)]
    members = split_members(rows[0]["members"])
    chances = {tuple(row[name] for name in PLACE): row["chance"] for row in others}
    parts = [
        _make_part(row, row["chance"] - chances[tuple(row[name] for name in PLACE)])
        for row in chosen
        if row["difference"] == row["difference"]
    ]
    tokens = pooling if pooling in ("cls", "patch") else ""
    return reach_verdict("c6", parts, members=members, tokens=tokens)


def _make_part(row: Mapping[str, Any], by_chance: float) -> Part:
    """The part of one measure and group of images, with what is left of it beyond chance, of which
    the images decide nothing here."""
    images = "" if row["images"] == "all" else f" of images that are {row['images']}"
    difference = Estimate.from_row(row, "difference", "images", "count")
    contrast = Contrast(f"{JE} · {JE}", row["less"], difference)
    published = F1 if row["measure"] != "tau" and not images else None
    measure = f"{MEASURES[row['measure']]}{images}"
    part = make_part(row, f"{measure},", contrast, "tau", published=published)
    if math.isnan(by_chance):
        return part
    value, low, high = (
        number - by_chance for number in (difference.value, difference.low, difference.high)
    )
    left = Estimate(value, low, high, difference.over, difference.n)
    beyond = Contrast(f"{measure} beyond chance, {JE} · {JE}", row["less"], left)
    return replace(part, controls=(beyond,))
