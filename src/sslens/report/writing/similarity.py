"""Clauses about the CKA of two models that several analyses share: what is left beside the raw
pixels, and how far it is from two trainings of one objective."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.copies import ALIKE
from sslens.comparisons.pairs import read_cka, read_contrast, select_pair
from sslens.comparisons.roles import TOKENS, list_names
from sslens.counts import spell_count
from sslens.measures.deconfounded_cka import LEAST
from sslens.report.writing.numbers import compare, spell
from sslens.table import Results

#: two models with a CKA of at least this at every tap compute the same
SAME = 1 - 1e-6
REGRESSED = "when the pixels are regressed out"


def write_beyond(row: Mapping[str, Any], depths: int | None = None) -> str:
    """Write how much of a CKA is left without the pixels, as a clause that begins with a comma or a
    semicolon; "" where there are no Grams of the pixels.

    Args:
        row: a row with the columns of deconfounded CKA.
        depths: the number of depths that `row` averages, where it has `depths_left`.

    >>> row = {"deconfounded": 0.5, "deconfounded_low": 0.4, "deconfounded_high": 0.6}
    >>> row |= {"left": 0.4, "depths_left": 3, "minibatches": 8}
    >>> write_beyond(row, 4)
    ', and 0.50 [0.40, 0.60] when the pixels are regressed out (at 3 of 4 depths)'
    >>> write_beyond(row | {"deconfounded": float("nan"), "depths_left": 0}, 4)
    '; the pixels explain over 95 % of a layer, so that nothing is said of what is beyond them'
    """
    if pd.isna(row["left"]):
        return ""
    if pd.isna(row["deconfounded"]):
        return (
            f"; the pixels explain over {1 - LEAST:.0%} of a layer".replace("%", " %")
            + ", so that nothing is said of what is beyond them"
        )
    clause = f", and {spell(read_cka(row, 'deconfounded'))} {REGRESSED}"
    if depths is not None and row["depths_left"] < depths:
        clause += f" (at {int(row['depths_left'])} of {spell_count(depths, 'depth')})"
    return clause


def write_undefined(rows: pd.DataFrame) -> str:
    """Write at how many depths CKA is defined, after a mean over these depths alone; "" where it is
    defined at all.

    Args:
        rows: of a table `same-depth`, those of one pair.

    >>> write_undefined(pd.DataFrame({"cka": [0.5, float("nan"), 0.75, 0.25]}))
    ' (at 3 of 4 depths, and undefined at the others)'
    """
    defined = int(rows.cka.notna().sum())
    if defined == len(rows):
        return ""
    return f" (at {defined} of {spell_count(len(rows), 'depth')}, and undefined at the others)"


def write_ceilings(results: Results, tokens: str, kind: str) -> str | None:
    """Write how alike two trainings of one objective are; None where no objective has two."""
    if "ceilings" not in results:
        return None
    rows = results["ceilings"]
    rows = rows[(rows.tokens == tokens) & (rows.kind == kind)].dropna(subset="cka")
    parts = []
    for row in rows.to_dict("records"):
        beyond = write_beyond(row).removeprefix(",").removeprefix(";").strip()
        names = f"{row['objective']} ({row['model_a']} and {row['model_b']})"
        parts.append(f"{names} {spell(read_cka(row))}" + (f", {beyond}" if beyond else ""))
    if not parts:
        return None
    return (
        "The ceiling, two trainings of one objective by their mean CKA at the same depth"
        f" {TOKENS[tokens]}: {'; '.join(parts)}."
    )


def write_below(results: Results, a: str, b: str, tokens: str, kind: str) -> str:
    """Write how two models stand against two trainings of one of their objectives, as a clause; ""
    where there are none."""
    if "below-ceilings" not in results:
        return ""
    rows = select_pair(results["below-ceilings"], a, b, tokens)
    rows = rows[rows.kind == kind].dropna(subset="difference")
    if rows.empty:
        return ""
    # the lowest of the ceilings
    row = rows.sort_values("difference", kind="stable").to_dict("records")[-1]
    trainings = f"two trainings of {row['objective']}"
    return f"; {compare(read_contrast(row).difference, trainings)}"


def tell_lack_of_pixels(results: Results) -> str | None:
    """Say that CKA beyond the pixels is not known, where there are no Grams of the pixels."""
    means = results["means"]
    if means.left.notna().any():
        return None
    return (
        f"What {means.model_a.iloc[0]} shares with others beyond the raw pixels cannot be told, for"
        " the Grams of the pixels are not there: they need the images and the controls, or a"
        " fingerprint of the model pixels beside the others."
    )


def write_same(results: Results) -> str | None:
    """Say which models compute the same at every tap, or almost; None where no two do."""
    cells = results["cells"]
    cells = cells[(cells.tap_a == cells.tap_b) & (cells.model_a != cells.model_b) & ~cells.control]
    lowest = cells.groupby(["model_a", "model_b"], sort=False).cka.min()
    close = {list_names([str(a), str(b)]): cka for (a, b), cka in lowest.items() if cka >= ALIKE}
    same = [pair for pair, cka in close.items() if cka >= SAME]
    almost = [pair for pair in close if pair not in same]
    parts = []
    if same:
        parts.append(
            f"{'; '.join(same)} have the same weights, or compute the same: their CKA is 1 at"
            " every tap"
        )
    if almost:
        parts.append(
            f"{'; '.join(almost)} compute almost the same: their CKA is {ALIKE} or more at every"
            " tap"
        )
    if not parts:
        return None
    return f"{'; '.join(parts)}, which says nothing about how they were trained."
