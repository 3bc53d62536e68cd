"""Sentences about the analysis cka-finetune."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.analyses.cka_finetune import DRAWN, TYPES
from sslens.comparisons.pairs import read_cka, read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.comparisons.roles import JE, REC, TOKENS
from sslens.report.writing.numbers import explain_undecided, spell, spell_difference
from sslens.statistics.estimate import Contrast
from sslens.table import Results

#: sentences at most
MOST = 6
Rows = Mapping[str, Mapping[str, Any]]


def sentences(results: Results) -> tuple[str, ...]:
    """Write whether fine-tuning makes REC models more like pre-trained JE models, also more than it
    does the control; in which type of layer; and how far each model moved."""
    tokens = list_tokens_in(results["cells"])
    claims = [_write_families(results, one) for one in tokens]
    written = [sentence for sentence in claims if sentence]
    if not written:
        beyond = {
            (row["model_a"], row["model_b"]): row
            for row in _select_blocks(results, "beyond-control", tokens[0])
        }
        changes = _select_blocks(results, "fine-tuned", tokens[0])
        for row in [row for row in changes if not row["control"]][:DRAWN]:
            held = _write_control(beyond.get((row["model_a"], row["model_b"])), row["model_a"])
            written.append(_write_change(row, held))
    moves = [_write_move(row) for row in _select_blocks(results, "matched", tokens[0])]
    return (*written, *moves)[:MOST]


def _select_blocks(results: Results, table: str, tokens: str) -> list[dict[str, Any]]:
    """The rows of the blocks in a table, over a choice of tokens; none where there is no such
    table."""
    if table not in results:
        return []
    rows = results[table]
    return rows[(rows.tokens == tokens) & (rows.kind == "block")].to_dict("records")


def _select_kinds(results: Results, table: str, tokens: str) -> Rows:
    """The rows of a table over a choice of tokens, by kind of tap."""
    if table not in results:
        return {}
    rows = results[table]
    return {row["kind"]: row for row in rows[rows.tokens == tokens].to_dict("records")}


def _write_families(results: Results, tokens: str) -> str | None:
    """Claim C9: fine-tuned REC with pre-trained JE, against before; None without both."""
    rises = _select_kinds(results, "families", tokens)
    if "block" not in rises or pd.isna(rises["block"]["difference"]):
        return None
    row = rises["block"]
    contrast = read_contrast(row)
    sentence = (
        f"Fine-tuned {REC} and pre-trained {JE} ({row['members']}) have a mean CKA at the same"
        f" depth of {spell(read_cka(row))} {TOKENS[tokens]}"
    )
    beyond = _select_kinds(results, "families-beyond-control", tokens)
    control = _write_control(beyond.get("block"), REC)
    if not contrast.sign:
        return f"{sentence}; against that before fine-tuning {explain_undecided(contrast)}." + (
            f" {control}" if beyond else ""
        )
    side = "more" if contrast.sign > 0 else "less"
    sentence += f", {side} than before fine-tuning ({spell_difference(contrast.difference)})"
    by_type = _select_kinds(results, "families-rise-by-type", tokens)
    parts = [_write_type(kind, read_contrast(one)) for kind, one in by_type.items()]
    types = [
        f"{kind} {spell_difference(read_contrast(beyond[kind]).difference)}"
        for kind in TYPES
        if kind in beyond
    ]
    by_type_sentence = f" By type of layer it is {', '.join(types)}." if types else ""
    return f"{'; '.join([sentence, *parts])}. {control}{by_type_sentence}"


def _write_type(kind: str, contrast: Contrast) -> str:
    """Whether CKA rises more in a type of layer than in fc1."""
    if not contrast.sign:
        return f"the rise in {kind} against that in fc1 {explain_undecided(contrast)}"
    side = "more" if contrast.sign > 0 else "less"
    return f"{kind} rises {side} than fc1 ({spell_difference(contrast.difference)})"


def _write_control(row: Mapping[str, Any] | None, who: str) -> str:
    """How much of a rise is beyond the rise of the control, as a sentence: only that counts as
    nearness to the other model."""
    if row is None:
        return (
            "Without a random initialisation that was fine-tuned likewise, it may be what labels do"
            " to any network."
        )
    contrast = read_contrast(row)
    sentence = f"Beyond {row['less']} the rise"
    if contrast.sign is None:
        return f"{sentence} is {explain_undecided(contrast)}."
    # a rise beyond the control may also be less of a fall
    nearer = f", so {who} comes nearer" if read_cka(row, "rise").sign == 1 else ""
    verdict = {
        1: f"more than fine-tuning does to random weights{nearer}",
        0: "no more than fine-tuning does to random weights, as far as these images tell",
        -1: "less than fine-tuning does to random weights",
    }[contrast.sign]
    return f"{sentence} is {spell_difference(contrast.difference)}: {verdict}."


def _write_change(row: Mapping[str, Any], control: str) -> str:
    """A fine-tuned model with another model, against before."""
    contrast = read_contrast(row)
    sentence = (
        f"{row['model_a']} and {row['model_b']}: mean CKA at the same depth {spell(read_cka(row))}"
    )
    if not contrast.sign:
        return f"{sentence}; against that of {row['less']} {explain_undecided(contrast)}."
    side = "more" if contrast.sign > 0 else "less"
    spelt = spell_difference(contrast.difference)
    return f"{sentence}, {side} than {row['less']} ({spelt}). {control}"


def _write_move(row: Mapping[str, Any]) -> str:
    """Write how similar a model still is to itself before fine-tuning, in late and early blocks."""
    # a colon tells why the models were matched; else the weights say it
    why = f" ({row['members']})" if ":" in row["members"] else ""
    contrast = read_contrast(row)
    sentence = (
        f"{row['model_a']} keeps a mean CKA at the same depth of {spell(read_cka(row))} with"
        f" {row['model_b']}{why}"
    )
    if not contrast.sign:
        undecided = explain_undecided(contrast)
        return f"{sentence}; the last third of the depths less the first {undecided}."
    side = "more" if contrast.sign > 0 else "less"
    return (
        f"{sentence}, {side} in the last third of the depths than in the first"
        f" ({spell_difference(contrast.difference)})."
    )
