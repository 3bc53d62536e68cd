"""Sentences about the analysis cka-blocks."""

import itertools

import pandas as pd

from sslens.analyses.cka_blocks import KIND
from sslens.comparisons.pairs import read_cka, read_contrast, select_pair
from sslens.comparisons.panels import Cells
from sslens.comparisons.roles import TOKENS
from sslens.report.writing.families import write_families
from sslens.report.writing.numbers import explain_undecided, spell, spell_difference
from sslens.table import Results

#: sentences at most
MOST = 6


def sentences(results: Results) -> tuple[str, ...]:
    """Write which families and which models are alike, compared with the control, and from which
    depth on they differ."""
    cells = Cells.of(results["cells"])
    tokens = cells.tokens()
    pairs = list(itertools.combinations(cells.models(), 2))
    written = [write_families(results, one, KIND) for one in tokens]
    written += [_write_pair(results, a, b, one) for one in tokens for a, b in pairs]
    told = [sentence for sentence in written if sentence]
    left = len(told) - MOST
    if left > 0:
        told = [
            *told[: MOST - 1],
            f"{left + 1} more such comparisons of {pairs[0][0]} and the others are in the table.",
        ]
    return tuple(told)


def _write_pair(results: Results, a: str, b: str, tokens: str) -> str | None:
    """Two models' mean CKA, against two random initialisations, and late against early."""
    means = select_pair(results["means"], a, b, tokens).to_dict("records")
    if not means or pd.isna(means[0]["cka"]):
        return None
    mean = means[0]
    sentence = f"{a} and {b}: mean CKA at the same depth {spell(read_cka(mean))} {TOKENS[tokens]}"
    if mean["less"]:
        contrast = read_contrast(mean)
        if contrast.sign:
            side = "more than" if contrast.sign > 0 else "less than"
            sentence += (
                f", {side} two random initialisations have with each other"
                f" ({spell_difference(contrast.difference)})"
            )
        else:
            sentence += f"; against two random initialisations {explain_undecided(contrast)}"
    if "late" in results:
        for late in select_pair(results["late"], a, b, tokens).to_dict("records"):
            contrast = read_contrast(late)
            if contrast.sign:
                side = "more" if contrast.sign > 0 else "less"
                sentence += (
                    f"; {side} alike in the last third than in the first"
                    f" ({spell_difference(contrast.difference)})"
                )
    return sentence + "."
