"""Sentences about the analysis cka-finetune."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.analyses.cka_finetune import DRAWN
from sslens.comparisons.pairs import read_cka, read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.comparisons.parts import find_row, find_rows, make_beyond_part, tell_depths
from sslens.comparisons.roles import JE, REC, TOKENS
from sslens.report.writing.families import write_disagreements, write_scope
from sslens.report.writing.left_over import name_recipes
from sslens.report.writing.numbers import compare, spell, spell_level
from sslens.report.writing.similarity import REGRESSED
from sslens.statistics.estimate import SMALLEST
from sslens.table import Results

#: what is said where no random initialisation was fine-tuned likewise
NO_CONTROL = (
    "no random initialisation was fine-tuned likewise, so this may be what labels do to any network"
)


def sentences(results: Results) -> tuple[str, ...]:
    """Write how near fine-tuned REC models end to pre-trained JE models, beside before fine-tuning
    and beside fine-tuned random weights, and in which type of layer they come nearer; without such
    families, the same of each fine-tuned model; then how far the models moved."""
    tokens = list_tokens_in(results["cells"])
    claims = [_write_families(results, one) for one in tokens]
    written = [sentence for sentence in claims if sentence] + _write_disagreements(results)
    if not written:
        changes = find_rows(results, "fine-tuned", tokens=tokens[0], kind="block")
        written = [_write_change(results, row) for row in changes if not row["control"]][:DRAWN]
    moves = find_rows(results, "matched", tokens=tokens[0], kind="block")
    return (*written, *([_write_moves(moves)] if moves else []))


def _write_families(results: Results, tokens: str) -> str | None:
    """Write claim C9: the CKA of fine-tuned REC with pre-trained JE models, against the same before
    fine-tuning and against fine-tuned random weights; None without both."""
    row = find_row(results, "families", tokens=tokens, kind="block")
    if row is None or pd.isna(row["difference"]):
        return None
    contrast = read_contrast(row)
    sentence = (
        f"Fine-tuned {REC} and pre-trained {JE} ({row['members']}) have a mean CKA at the same"
        f" depth of {spell(read_cka(row))} {TOKENS[tokens]},"
        f" {compare(contrast.difference, 'that before fine-tuning')}{write_scope(row, contrast)}"
    )
    decided = contrast.difference.find_side(SMALLEST["cka"]) in ("more", "less")
    types = find_rows(results, "families-rise-by-type", tokens=tokens) if decided else []
    parts = [
        f"the rise in {one['kind']} is {compare(read_contrast(one).difference, 'that in fc1')}"
        for one in types
    ]
    end = find_row(results, "families-ends", tokens=tokens, kind="block")
    parts.append(NO_CONTROL if end is None else _write_end(end))
    return f"{'; '.join([sentence, *parts])}."


def _write_disagreements(results: Results) -> list[str]:
    """Write in one sentence which differences have another sign over other tokens."""
    named = {
        "the rise in norm1 against that in fc1": ("families-rise-by-type", "norm1"),
        "the rise in qkv against that in fc1": ("families-rise-by-type", "qkv"),
        "the end against that of fine-tuned random weights": ("families-ends", "block"),
    }
    rows = {label: find_rows(results, table, kind=kind) for label, (table, kind) in named.items()}
    questions = {
        label: {row["tokens"]: read_contrast(row).difference for row in same_kind}
        for label, same_kind in rows.items()
    }
    members = next((row["members"] for same_kind in rows.values() for row in same_kind), "")
    sentence = write_disagreements(questions, members)
    return [sentence] if sentence else []


def _write_end(row: Mapping[str, Any]) -> str:
    """Write where fine-tuning ends, against where fine-tuned random weights end, as a clause."""
    contrast = read_contrast(row)
    level = read_cka(row).value - contrast.difference.value
    other = f"fine-tuned random weights ({row['less']}, {spell_level(level)})"
    sentence = f"its end is {compare(contrast.difference, other, more='above', less='below')}"
    beyond = make_beyond_part(row, "") if "deconfounded_difference" in row else None
    if beyond is None:
        return sentence
    left = compare(beyond.contrast.difference, "theirs", more="above", less="below")
    return f"{sentence}; {REGRESSED} it is {left}{tell_depths(row)}"


def _write_change(results: Results, row: Mapping[str, Any]) -> str:
    """Write the CKA of a fine-tuned model with another model, against the same before fine-tuning
    and against fine-tuned random weights."""
    names = {column: row[column] for column in ("model_a", "model_b", "tokens", "kind")}
    end = find_row(results, "ends", **names)
    that = f"that of {row['less']}"
    sentence = (
        f"{row['model_a']} and {row['model_b']}: mean CKA at the same depth {spell(read_cka(row))},"
        f" {compare(read_contrast(row).difference, that)}"
    )
    return f"{sentence}; {NO_CONTROL if end is None else _write_end(end)}."


def _write_moves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write how similar each fine-tuned model still is to itself before fine-tuning, in late blocks
    against early ones, in one sentence."""
    parts = []
    for row in rows:
        # a colon tells why the models were matched; else the weights say it
        why = f" ({row['members']})" if ":" in row["members"] else ""
        late = compare(read_contrast(row).difference, "in the first third")
        parts.append(
            f"{row['model_a']} with {row['model_b']}{why} {spell(read_cka(row))}, in the last third"
            f" of the depths {late}"
        )
    told = "; ".join(parts)
    if name_recipes(rows):
        told += f"; {name_recipes(rows)}, so they are not to be held against each other"
    return f"What is left of each model after fine-tuning, as CKA at the same depth: {told}."
