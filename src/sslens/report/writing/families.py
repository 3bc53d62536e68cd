"""Sentences about the CKA of families of objectives."""

from collections.abc import Mapping
from typing import Any

from sslens.comparisons.pairs import read_cka, read_contrast
from sslens.comparisons.roles import JE, REC, TOKENS
from sslens.report.writing.numbers import explain_undecided, spell, spell_difference
from sslens.table import Results


def write_families(results: Results, tokens: str, kind: str) -> str | None:
    """Write whether JE models are more like each other than like REC models, and from which depth
    on; None if there are no families."""
    if "families" not in results:
        return None
    rows = results["families"]
    rows = rows[(rows.tokens == tokens) & (rows.kind == kind)]
    by_family = {row["model_b"]: row for row in rows.to_dict("records")}
    if not by_family or rows.cka.isna().any():
        return None
    own, other = by_family[JE], by_family[REC]
    contrast = read_contrast(own)
    sentence = (
        f"{JE} models with each other ({own['members']}): mean CKA at the same depth"
        f" {spell(read_cka(own))} {TOKENS[tokens]}, {JE} with {REC} {spell(read_cka(other))}"
    )
    if not contrast.sign:
        return f"{sentence}; the difference is {explain_undecided(contrast)}."
    side = "more alike" if contrast.sign > 0 else "less alike"
    spelt = spell_difference(contrast.difference)
    sentence += f"; they are {side} to each other than to {REC} ({spelt})"
    parting = _find_parting(results, tokens, kind) if contrast.sign > 0 else None
    if parting is not None:
        spelt = spell_difference(read_contrast(parting).difference)
        sentence += f", from relative depth {parting['depth']:.2f} on ({spelt} there)"
    return sentence + "."


def _find_parting(results: Results, tokens: str, kind: str) -> Mapping[str, Any] | None:
    """The row of the least depth at which JE models are surely more alike than JE and REC."""
    rows = results["families-by-depth"]
    rows = rows[(rows.tokens == tokens) & (rows.kind == kind) & (rows.model_b == JE)]
    points = rows.sort_values("depth").to_dict("records")
    return next((row for row in points if read_contrast(row).sign == 1), None)
