"""Sentences about the analysis cka-msn."""

from collections.abc import Mapping
from typing import Any

from sslens.comparisons.pairs import read_cka, read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.comparisons.roles import JE, REC, TOKENS
from sslens.report.writing.families import write_scope
from sslens.report.writing.numbers import compare, spell
from sslens.report.writing.similarity import REGRESSED
from sslens.statistics.estimate import SMALLEST
from sslens.table import Results

#: sentences at most
MOST = 6


def sentences(results: Results) -> tuple[str, ...]:
    """Write which family MSN is more like, for each choice of tokens, and how much it is like each
    model."""
    families = results["families"].to_dict("records") if "families" in results else []
    written = [_write_family(row) for row in families if row["less"]]
    cells = results["cells"]
    masked = list(dict.fromkeys(cells[cells.msn].model_a))
    return (*written, *(_write_models(results, own) for own in masked))[:MOST]


def _write_family(row: Mapping[str, Any]) -> str:
    contrast = read_contrast(row)
    sentence = (
        f"{row['model_a']} ({row['members']}) has a mean CKA at the same depth of"
        f" {spell(read_cka(row))} with {row['model_b']} {TOKENS[row['tokens']]}"
    )
    other = row["less"].split(" · ")[1]
    sentence += f", {compare(contrast.difference, f'with {other}')}{write_scope(row, contrast)}"
    beyond = read_contrast(row, "deconfounded").difference
    if beyond.defined:
        sentence += f"; {REGRESSED} {compare(beyond, f'with {other}')}"
    side = contrast.difference.find_side(SMALLEST["cka"])
    nearer = {"more": JE, "less": REC}.get(side)
    return f"{sentence}: it is nearer to {nearer}." if nearer else f"{sentence}."


def _write_models(results: Results, own: str) -> str:
    """Write the mean CKA with each other model, the most alike first."""
    means = results["means"]
    tokens = list_tokens_in(means)[0]
    rows = means[(means.tokens == tokens) & ~means.control & (means.model_a != means.model_b)]
    rows = rows[(rows.model_a == own) | (rows.model_b == own)].dropna(subset="cka")
    parts = [
        f"{row['model_b'] if row['model_a'] == own else row['model_a']} {spell(read_cka(row))}"
        for row in rows.sort_values("cka", ascending=False).to_dict("records")
    ]
    sentence = f"{own} at the same depth, {TOKENS[tokens]}: {', '.join(parts)}"
    if "families" in results:
        return sentence + "."
    return (
        f"{sentence}; to say which family it is nearer to, a pre-trained {JE} and a pre-trained"
        f" {REC} model are needed."
    )
