"""Sentences about the analysis cka-layer-types."""

import itertools
from dataclasses import replace

from sslens.comparisons.pairs import read_cka, read_contrast, select_pair
from sslens.comparisons.panels import Cells
from sslens.comparisons.parts import find_rows
from sslens.comparisons.roles import JE, REC, TOKENS
from sslens.report.writing.families import write_disagreements, write_scope
from sslens.report.writing.numbers import compare, spell, spell_difference
from sslens.report.writing.similarity import write_undefined
from sslens.statistics.estimate import SMALLEST, Contrast
from sslens.table import Results

#: sentences at most
MOST = 6


def sentences(results: Results) -> tuple[str, ...]:
    """Write whether JE and REC differ in attention and normalisation, and in which types of layer
    each pair is least and most alike."""
    cells = Cells.of(results["cells"])
    tokens, names = cells.tokens(), cells.models()
    written = [*(_write_families(results, one) for one in tokens), _write_disagreements(results)]
    written += [
        _write_pair(results, a, b, one)
        for one in tokens[:1]
        for a, b in itertools.combinations(names, 2)
    ]
    told = [sentence for sentence in written if sentence]
    left = len(told) - MOST
    if left > 0:
        told = [
            *told[: MOST - 1],
            f"{left + 1} more pairs, with {names[-1]} and others, are in the table.",
        ]
    return tuple(told)


def _write_families(results: Results, tokens: str) -> str | None:
    """Write claim C3: the CKA of JE with REC in fc1, against norm1 and against qkv."""
    if "families-types" not in results:
        return None
    rows = results["families-types"]
    rows = rows[(rows.tokens == tokens) & (rows.kind == "fc1") & (rows.model_b == REC)]
    by_less = {row["less"]: row for row in rows.to_dict("records")}
    if not {"norm1", "qkv"} <= set(by_less):
        return None
    parts = []
    for kind, label in (("norm1", "normalisation (norm1)"), ("qkv", "attention (qkv)")):
        difference = read_contrast(by_less[kind]).difference
        more, less = "more alike in fc1 than in", "less alike in fc1 than in"
        spelt = compare(difference, label, more=more, less=less)
        parts.append(spelt if spelt.startswith((more, less)) else f"fc1 is {spelt}")
    members = by_less["norm1"]["members"]
    scope = write_scope(by_less["norm1"], read_contrast(by_less["norm1"]))
    return f"{JE} and {REC} models ({members}) {TOKENS[tokens]}: {'; '.join(parts)}{scope}."


def _write_disagreements(results: Results) -> str | None:
    """Write for which types of layer fc1 less that type has another sign over other tokens."""
    rows = find_rows(results, "families-types", kind="fc1", model_b=REC)
    questions = {
        f"fc1 against {kind}": {
            row["tokens"]: read_contrast(row).difference for row in rows if row["less"] == kind
        }
        for kind in ("norm1", "qkv")
    }
    return write_disagreements(questions, rows[0]["members"]) if rows else None


def _write_pair(results: Results, a: str, b: str, tokens: str) -> str | None:
    """Write in which types of layer two models are least and most alike."""
    rows = select_pair(results["means"], a, b, tokens).dropna(subset="cka")
    means = {row["kind"]: read_cka(row) for row in rows.to_dict("records")}
    if len(means) < 2:
        return None
    least = min(means, key=lambda kind: means[kind].value)
    most = max(means, key=lambda kind: means[kind].value)
    depths = select_pair(results["same-depth"], a, b, tokens)
    spelt = {
        kind: f"{spell(means[kind])}{write_undefined(depths[depths.kind == kind])}"
        for kind in (least, most)
    }
    if least == most:
        return f"{a} and {b} are equally alike in all types of layer ({spelt[least]})."
    sentence = (
        f"{a} and {b} are least alike in {least} ({spelt[least]}) "
        f"and most in {most} ({spelt[most]})"
    )
    contrast = _find_contrast(results, (a, b), tokens, (least, most))
    if contrast is None:
        return sentence + "."
    if contrast.difference.find_side(SMALLEST["cka"]) == "more":
        return f"{sentence}: {spell_difference(contrast.difference)}."
    return f"{sentence}: {most} is {compare(contrast.difference, least)}."


def _find_contrast(
    results: Results, models: tuple[str, str], tokens: str, kinds: tuple[str, str]
) -> Contrast | None:
    """Find the CKA in the last of two types of layer less that in the first; None where the models
    were not compared in both."""
    if "types" not in results:
        return None
    rows = select_pair(results["types"], *models, tokens)
    between = rows[rows.kind.isin(kinds) & rows.less.isin(kinds)].to_dict("records")
    if not between:
        return None
    contrast = read_contrast(between[0])
    if between[0]["kind"] == kinds[1]:
        return contrast
    value = contrast.difference  # the table has the difference the other way round
    turned = replace(value, value=-value.value, low=-value.high, high=-value.low)
    return replace(contrast, difference=turned)
