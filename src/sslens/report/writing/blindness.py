"""The answers of the first screen to what models are blind to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import pandas as pd

from sslens.comparisons.invariance_families import RAW
from sslens.comparisons.parts import find_row
from sslens.comparisons.roles import PIXELS
from sslens.data.transform_names import label_transform
from sslens.report.front.screen import Answer
from sslens.report.writing.front import HERE, explain_effect
from sslens.report.writing.numbers import (
    bracket,
    explain_width,
    list_names,
    spell,
    spell_difference,
    spell_level,
    spell_over,
)
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate, subtract_unpaired
from sslens.table import Results

#: models of which it is asked what each is blindest to; of more the questions by transform are left
FEW = 2
LINK = "invariance"
TERMS = "Invariance of the last layer: 1 is blind to a change, 0 sees another image."
#: a name of a model or a transform, with its invariance
Named = tuple[str, Estimate]
Row = Mapping[str, Any]


def write_blindest(results: Results) -> Iterator[Answer]:
    """Write to what each model is blindest, of at most two models: the last layer's invariance, 1
    where a transform changes nothing and 0 where a changed image is as different as another one."""
    rows = _select_last(results)
    models = list(rows[~rows.control].groupby("model", sort=False))
    for name, own in models if len(models) <= FEW else ():
        ranked = _rank((_label(row), _read(row)) for row in own.to_dict("records"))
        if len(ranked) < 2:
            continue
        (first, most), (second, next_), (last, least) = ranked[0], ranked[1], ranked[-1]
        ahead = subtract_unpaired(most, next_)
        lead = Contrast(first, second, ahead, paired=False)
        beside = f"{second} {spell(next_)}{_explain_lead(lead)}"
        effect = f"invariance to {first} {spell(most)}; least to {beside}"
        if len(ranked) > 2:
            effect = (
                f"invariance to {first} {spell(most)}, then to {beside}; least to {last}"
                f" {spell(least)}"
            )
        every: list[Row] = rows[rows.control].to_dict("records")
        controls = [row for row in every if _label(row) == first]
        yield _decide(
            Answer(
                f"To what is {name} blindest?",
                spell_level(most.value),
                effect,
                spell_over(most),
                _write_controls(controls),
                LINK,
                names=first,
                scope=HERE,
            ),
            lead,
            ranked,
        )


def write_blinder(results: Results) -> Iterator[Answer]:
    """Write of each transform which model is blindest to it; of one model whether it is blinder
    than an untrained network."""
    rows = _select_last(results)
    for _, own in rows.groupby(["transform", "strength"], sort=False):
        records = own.to_dict("records")
        models = _rank((str(row["model"]), _read(row)) for row in records if not row["control"])
        controls = [row for row in records if row["control"]]
        pairs = _Pairs(results, records)
        if len(models) > 1:
            yield _compare_models(_label(records[0]), models, _write_controls(controls), pairs)
        elif models:
            yield from _compare_with_untrained(_label(records[0]), models[0], controls, pairs)


@final
class _Pairs:
    """The differences of two models' invariance to one transform.

    Args:
        results: of the exhibit.
        records: the rows of the models' last layers, of this transform.
    """

    def __init__(self, results: Results, records: Sequence[Row]) -> None:
        self._own = {str(row["model"]): row for row in records}
        self._results = results

    def subtract(self, a: Named, b: Named) -> Contrast:
        """The first model's invariance less the second's: on the same images where both are read
        in one pooling, else by their two intervals."""
        (one, own), (other, next_) = a, b
        alike = {key: self._own[one][key] for key in ("pooling", "transform", "strength")}
        if self._own[other]["pooling"] == alike["pooling"]:
            for first, less, sign in ((one, other, -1), (other, one, 1)):  # of sensitivities
                pair = find_row(
                    *(self._results, "pairs"), model_a=first, model_b=less, features=RAW, **alike
                )
                if pair is not None:
                    gap = Estimate.from_row(pair, "difference", "images", "images")
                    low, high = sorted((sign * gap.low, sign * gap.high))
                    return Contrast(
                        one, other, replace(gap, value=sign * gap.value, low=low, high=high)
                    )
        return Contrast(one, other, subtract_unpaired(own, next_), paired=False)


def _compare_models(label: str, models: Sequence[Named], control: str, pairs: _Pairs) -> Answer:
    """Which of several models is blindest to a transform."""
    (first, most), (second, _) = models[:2]
    lead = pairs.subtract(*models[:2])
    ahead = lead.difference
    why = bracket(explain_width(lead), _explain_open(lead))
    effect = f"invariance {spell(most)}, {spell_difference(ahead)} over {second}{why}"
    if len(models) > 2:
        last, least = models[-1]
        effect += f"; least {last} {spell(least)}"
    answer = Answer(
        f"Which is blindest to {label}?",
        spell_level(most.value),
        effect,
        spell_over(most),
        control,
        LINK,
        names=first,
        scope=HERE,
    )
    return _decide(answer, lead, models)


def _compare_with_untrained(
    label: str, model: Named, controls: Sequence[Row], pairs: _Pairs
) -> Iterator[Answer]:
    """Whether a model is blinder to a transform than the blindest untrained network beside it."""
    name, own = model
    untrained = _rank((str(row["model"]), _read(row)) for row in controls if _is_untrained(row))
    question, control = f"How blind is {name} to {label}?", _write_controls(controls)
    if not untrained:
        effect, over = f"invariance {spell(own)}", spell_over(own)
        yield Answer(question, spell_level(own.value), effect, over, control, LINK, scope=HERE)
        return
    lead = pairs.subtract(model, untrained[0])
    ahead = lead.difference
    side = ahead.find_side(SMALLEST["sensitivity"])
    words = {"more": "yes", "less": "no, less", "the same": "no, as blind"}
    word = words.get(side, "undecided")
    reason = bracket(explain_width(lead), _explain_open(lead))
    yield Answer(
        f"Is {name} blinder to {label} than {lead.b}?",
        word,
        f"invariance {spell(own)}, {spell_difference(ahead)} over {lead.b}{reason}",
        spell_over(own),
        control,
        LINK,
        ahead.measure_strength(SMALLEST["sensitivity"]),
        scope=HERE,
    )


def _decide(answer: Answer, ahead: Contrast, ranked: Sequence[Named]) -> Answer:
    """The answer if the first of all `ranked` is ahead of the second, or else which are the same as
    the first, or that the two are not told apart."""
    smallest = SMALLEST["sensitivity"]
    side = ahead.difference.find_side(smallest)
    strength = ahead.difference.measure_strength(smallest)
    if side == "more":
        return replace(answer, strength=strength)
    if side == "the same":
        gaps = {name: subtract_unpaired(ranked[0][1], own) for name, own in ranked[2:]}
        same = [name for name, gap in gaps.items() if gap.find_side(smallest) == "the same"]
        names = list_names([ahead.a, ahead.b, *same])
        return replace(answer, word="the same", names=names, strength=strength)
    return replace(answer, word="undecided", names=f"{ahead.a} or {ahead.b}")


def _explain_open(contrast: Contrast) -> str:
    """Say why a difference decides nothing; empty where it decides."""
    smallest = SMALLEST["sensitivity"]
    is_open = contrast.difference.find_side(smallest) in ("undecided", "too few")
    return explain_effect(contrast, smallest) if is_open else ""


def _explain_lead(lead: Contrast) -> str:
    """The difference of two numbers that stand before it, and why it decides nothing; empty where
    it decides. It is written out, for the intervals of the two do not show whether it holds 0."""
    why = _explain_open(lead)
    difference = f"difference {spell_difference(lead.difference)}"
    return bracket(difference, explain_width(lead), why) if why else ""


def _select_last(results: Results) -> pd.DataFrame:
    """The rows of the last layer of each model, in its usual pooling, that have an invariance."""
    frame = results["changes"]
    return frame[frame.main & frame["last"] & frame.invariance.notna()]


def _rank(named: Iterable[Named]) -> list[Named]:
    return sorted(named, key=lambda one: -one[1].value)


def _label(row: Row) -> str:
    return label_transform(str(row["transform"]), float(row["strength"]))


def _read(row: Row) -> Estimate:
    return Estimate.from_row(row, "invariance", "images", "images")


def _is_untrained(row: Row) -> bool:
    return bool(row["control"]) and row["model"] != PIXELS


def _write_controls(rows: Sequence[Row]) -> str:
    """The invariance of the blindest untrained network and of raw pixels."""
    untrained = _rank((str(row["model"]), _read(row)) for row in rows if _is_untrained(row))
    pixels = [float(row["invariance"]) for row in rows if row["model"] == PIXELS]
    parts = []
    if untrained:
        name, blindest = untrained[0]
        parts.append(f"{name} {spell_level(blindest.value)}")
    parts += [f"raw pixels {spell_level(value)}" for value in pixels]
    return ", ".join(parts)
