"""What a terminal shows beside the table of the answer: what fine-tuning left of each model, and
how the models segment."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.comparisons.pairs import read_cka
from sslens.report.writing.answer_notes import cut
from sslens.report.writing.dense_depth import write_line
from sslens.report.writing.numbers import spell
from sslens.table import Table

#: models that are named
NAMED = 3
#: the tables that are told
MATCHED, SEGMENTED = "cka-finetune/matched", "dense-depth/scores"


def write_changes(tables: Mapping[str, Table], width: int) -> str:
    """Write what fine-tuning left of each model in a line, and how well each segments in two at
    most; empty where neither is known.

    Args:
        tables: all tables by their names.
        width: letters of a line.
    """
    lines = []
    if MATCHED in tables and (left := write_left(tables[MATCHED].frame, width)):
        lines.append(left)
    if SEGMENTED in tables:
        lines += cut(write_line(tables[SEGMENTED].frame), width, 2, " … (whole in the report)")
    return "\n".join(lines)


def write_left(matched: pd.DataFrame, width: int) -> str:
    """Write the CKA of each fine-tuned model with the same model before, of blocks and over all
    tokens where these are there, of as many models as fit a line; controls come last.

    Args:
        matched: the table `matched` of cka-finetune.
        width: letters of the line.

    >>> row = {"control": False, "tokens": "all", "kind": "block", "minibatches": 32}
    >>> row |= {"cka": 0.75, "low": 0.7, "high": 0.8, "recipe": ""}
    >>> rows = pd.DataFrame([{"model_a": "mae-ft", **row}, {"model_a": "dino-ft", **row}])
    >>> write_left(rows, 70)
    'CKA with before fine-tuning: mae-ft 0.75 [0.70, 0.80], 1 more.'
    """
    rows = matched[matched.kind == "block"]
    rows = rows[rows.tokens == rows.tokens.iloc[0]] if len(rows) else rows
    rows = rows.sort_values("control", kind="stable")
    end = " (recipes differ)" if name_recipes(rows.to_dict("records")) else ""
    told = [f"{row['model_a']} {spell(read_cka(row))}" for row in rows.to_dict("records")]
    for count in range(min(NAMED, len(told)), 0, -1):
        more = [f"{len(told) - count} more"] if len(told) > count else []
        line = f"CKA with before fine-tuning: {', '.join([*told[:count], *more])}{end}."
        if len(line) <= width:
            return line
    return ""


def name_recipes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say that models were fine-tuned by different recipes, as a clause; empty where they were not,
    or where that is not known.

    Args:
        rows: rows of the table `matched` of cka-finetune.

    >>> name_recipes([{"recipe": "a0"}, {"recipe": ""}, {"recipe": "b1"}])
    'fine-tuned by different recipes'
    >>> name_recipes([{"recipe": "a0"}, {"recipe": ""}])
    ''
    """
    known = {row["recipe"] for row in rows if row["recipe"]}
    return "fine-tuned by different recipes" if len(known) > 1 else ""
