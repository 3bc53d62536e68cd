"""Sentences about the analysis cka-blocks."""

import itertools

import pandas as pd

from sslens.analyses.cka_blocks import KIND
from sslens.comparisons.pairs import read_cka, read_contrast, select_pair
from sslens.comparisons.panels import Cells
from sslens.comparisons.roles import TOKENS
from sslens.report.writing.families import write_families
from sslens.report.writing.numbers import spell, spell_difference
from sslens.report.writing.similarity import (
    tell_lack_of_pixels,
    write_below,
    write_beyond,
    write_ceilings,
    write_same,
    write_undefined,
)
from sslens.statistics.estimate import SMALLEST
from sslens.table import Results

#: sentences at most
MOST = 6


def sentences(results: Results) -> tuple[str, ...]:
    """Write which models are the same, which families and which models are alike, what is left of
    it beside the pixels, and how far it is from two trainings of one objective."""
    cells = Cells.of(results["cells"])
    tokens = cells.tokens()
    pairs = list(itertools.combinations(cells.models(), 2))
    written = [write_families(results, one, KIND) for one in tokens]
    written += [write_ceilings(results, tokens[0], KIND)]
    written += [_write_pair(results, a, b, one) for one in tokens for a, b in pairs]
    told = [sentence for sentence in written if sentence]
    around = (write_same(results), tell_lack_of_pixels(results) if told else None)
    first, last = ([one] if one else [] for one in around)
    most = MOST - len(first) - len(last)
    left = len(told) - most
    if left > 0:
        told = [
            *told[: most - 1],
            f"{left + 1} more such comparisons of {pairs[0][0]} and the others are in the table.",
        ]
    return (*first, *told, *last)


def _write_pair(results: Results, a: str, b: str, tokens: str) -> str | None:
    """Write two models' mean CKA, how much is left without the pixels, and late against early
    blocks; None for two trainings of one objective, about which `write_ceilings` writes."""
    means = select_pair(results["means"], a, b, tokens).to_dict("records")
    if not means or _is_ceiling(results, a, b):
        return None
    if pd.isna(means[0]["cka"]):
        return (
            f"{a} and {b}: no CKA is defined {TOKENS[tokens]}, for the blocks of one of them give"
            " the same output for every image."
        )
    mean = means[0]
    depths = select_pair(results["same-depth"], a, b, tokens)
    sentence = (
        f"{a} and {b}: mean CKA at the same depth {spell(read_cka(mean))} {TOKENS[tokens]}"
        f"{write_undefined(depths)}{write_beyond(mean, len(depths))}"
        f"{write_below(results, a, b, tokens, KIND)}"
    )
    if "late" in results:
        for late in select_pair(results["late"], a, b, tokens).to_dict("records"):
            difference = read_contrast(late).difference
            side = difference.find_side(SMALLEST["cka"])
            if side in ("more", "less"):
                sentence += (
                    f"; {side} alike in the last third than in the first"
                    f" ({spell_difference(difference)})"
                )
    return sentence + "."


def _is_ceiling(results: Results, a: str, b: str) -> bool:
    if "ceilings" not in results:
        return False
    rows = results["ceilings"]
    return bool(((rows.model_a == a) & (rows.model_b == b)).any())
