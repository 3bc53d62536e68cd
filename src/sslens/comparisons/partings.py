"""Whether models part early or late: their CKA in the last third of the depths less that in the
first third."""

import pandas as pd

from sslens.comparisons.majorities import Majority, PairChange, find_majority
from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.table import Results


def read_partings(blocks: Results) -> Majority | None:
    """Read where the models of a study part, from the table `late` of cka-blocks for the first
    choice of tokens: the side is "less" if most pairs are less alike in the last third of the
    depths than in the first. None where no two models have three depths."""
    if "late" not in blocks:
        return None
    rows = blocks["late"]
    tokens = list_tokens_in(rows)
    rows = rows[(rows.tokens == tokens[0]) & rows.difference.notna()] if tokens else rows[:0]
    if rows.empty:
        return None
    beyond = bool(rows.deconfounded_difference.notna().all())
    of = "deconfounded" if beyond else "cka"
    changes = [
        PairChange(str(row["model_a"]), str(row["model_b"]), read_contrast(row, of).difference)
        for row in rows.to_dict("records")
        if pd.notna(row["difference"])
    ]
    return find_majority(changes, beyond=beyond)
