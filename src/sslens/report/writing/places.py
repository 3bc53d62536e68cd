"""The answers of the first screen to what models know about place: which finds objects best."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from sslens.comparisons.detectors import PAPERS
from sslens.comparisons.parts import find_row
from sslens.comparisons.roles import PIXELS
from sslens.report.front.screen import Answer
from sslens.report.writing.choosing import WORDS_OF_PIXELS
from sslens.report.writing.detection import (
    LEARNED,
    SIZES,
    read_ap,
    read_change,
    write_lengths,
    write_nothing_learned,
    write_unbeaten,
)
from sslens.report.writing.front import HERE, explain_effect
from sslens.report.writing.numbers import spell_over, spell_points, spell_share
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate
from sslens.table import Results

#: what is asked, as the end of a question
ASKED = (*(("box", measure) for measure in PAPERS), ("mask", "AP"))
#: what the networks were, by the exhibit
HOW = {"detection-frozen": "frozen", "detection-finetuned": "trained end to end"}
#: the exhibits that train detectors
DETECTORS = (*HOW, "detection-layers")
Row = Mapping[str, Any]


def write_places(results: Mapping[str, Results]) -> Iterator[Answer]:
    """Write which model's detector is best, of all, large and small objects by boxes, and of all by
    masks; of one model whether it is better than an untrained network."""
    for link, how in HOW.items():
        if link in results:
            rows = results[link]["models"]
            best = rows[(rows.kind == "box") & (rows.measure == "AP")].ap.max()
            if best < LEARNED:
                yield _write_nothing(float(best), how, link)
                continue
            for kind, measure in ASKED:
                yield from _write_one(results[link], (kind, measure), how, link)


def write_warning(results: Mapping[str, Results]) -> str:
    """Write what a reader must not overlook, in sentences: that no detector has learned to find
    objects; or else that raw pixels are as good, and that detectors were still learning when they
    ended."""
    trained = {link: results[link] for link in DETECTORS if link in results}
    for one in trained.values():
        for text in write_nothing_learned(one):
            return text
    unbeaten = (
        text
        for link, how in HOW.items()
        if link in trained
        for text in write_unbeaten(trained[link], how)
    )
    lengths = (text for one in trained.values() for text in write_lengths(one))
    return " ".join(filter(None, (next(unbeaten, ""), next(lengths, ""))))


def _write_nothing(best: float, how: str, link: str) -> Answer:
    """No detector has learned to find objects, those of controls included."""
    highest = spell_share(Estimate(best))
    effect = (
        f"no detector has learned to find objects: the highest box AP is {highest}; train longer,"
        " or on more images"
    )
    return Answer(f"Which finds objects best, {how}?", "undecided", effect, "", "", link)


def _write_one(results: Results, asked: tuple[str, str], how: str, link: str) -> Iterator[Answer]:
    """The answer for boxes or masks of objects of one size; none where there are no such objects.

    Args:
        results: of an exhibit with the tables `models` and `pairs`.
        asked: the kind, and which average precision.
        how: what the networks were.
        link: the section with the evidence.
    """
    kind, measure = asked
    rows = results["models"]
    rows = rows[(rows.kind == kind) & (rows.measure == measure) & rows.ap.notna()]
    ranked = rows[~rows.control].sort_values("ap", ascending=False, kind="stable")
    records: list[Row] = ranked.to_dict("records")
    if not records:
        return
    what = "objects" if measure == "AP" else SIZES[measure]
    first, control = records[0], _write_controls(rows, records[0])
    effect = [f"{kind} AP {spell_share(read_ap(first))}"]
    untrained = read_change(first) if first["less"] else Estimate(float("nan"))
    if untrained.defined:
        effect.append(f"{spell_points(untrained)} over {first['less']}")
    pixels = _read_over_pixels(results, asked, str(first["model"]))
    if pixels.defined:
        effect.append(f"{spell_points(pixels)} over raw pixels")
    by = "" if kind == "box" else ", by masks"
    answer = Answer(
        f"Which finds {what} best, {how}{by}?",
        spell_share(Estimate(float(first["ap"]))),
        ", ".join(effect),
        spell_over(read_ap(first)),
        control,
        link,
        names=str(first["model"]),
        scope=HERE,
    )
    if len(records) > 1:
        compared = _compare(answer, _read_pair(results, asked, records))
        beaten = pixels.find_side(SMALLEST["ap"]) == "less"
        yield replace(compared, word=WORDS_OF_PIXELS["less"]) if beaten else compared
    elif untrained.defined:
        question = f"Does {first['model']} find {what} better than {first['less']}, {how}{by}?"
        yield _judge(replace(answer, question=question, names=""), str(first["model"]), untrained)
    else:
        question = f"How well does {first['model']} find {what}, {how}{by}?"
        yield replace(answer, question=question, names="")


def _read_over_pixels(results: Results, asked: tuple[str, str], model: str) -> Estimate:
    """What a model has over raw pixels, paired over images; undefined without these."""
    row = find_row(results, "pairs", model=model, less=PIXELS, kind=asked[0], measure=asked[1])
    return Estimate(float("nan")) if row is None else read_change(row)


def _read_pair(results: Results, asked: tuple[str, str], records: Sequence[Row]) -> Contrast:
    """The first model's average precision less the second's, paired over images."""
    a, b = (str(row["model"]) for row in records[:2])
    for model, less, sign in ((a, b, 1), (b, a, -1)):
        row = find_row(results, "pairs", model=model, less=less, kind=asked[0], measure=asked[1])
        if row is not None:
            one = read_change(row)
            low, high = (one.low, one.high) if sign > 0 else (-one.high, -one.low)
            return Contrast(a, b, Estimate(sign * one.value, low, high, one.over, one.n))
    return Contrast(a, b, Estimate(float("nan")))


def _compare(answer: Answer, ahead: Contrast) -> Answer:
    """The answer for several models."""
    side = ahead.difference.find_side(SMALLEST["ap"])
    effect = f"{answer.effect}, {spell_points(ahead.difference)} over {ahead.b}"
    strength = ahead.difference.measure_strength(SMALLEST["ap"])
    if side == "more":
        return replace(answer, effect=effect, strength=strength)
    if side == "the same":
        both = f"{ahead.a} and {ahead.b}"
        return replace(answer, word="the same", effect=effect, names=both, strength=strength)
    effect = f"{effect} ({explain_effect(ahead, SMALLEST['ap'])})"
    names = f"{ahead.a} or {ahead.b}"
    return replace(answer, word="undecided", effect=effect, names=names)


def _judge(answer: Answer, name: str, gain: Estimate) -> Answer:
    """The answer for one model, against an untrained network."""
    words = {"more": "yes", "less": "no, worse", "the same": "no, as well"}
    side = gain.find_side(SMALLEST["ap"])
    if side in words:
        strength = gain.measure_strength(SMALLEST["ap"])
        return replace(answer, word=words[side], strength=strength)
    why = explain_effect(Contrast(name, "untrained", gain), SMALLEST["ap"])
    return replace(answer, word="undecided", effect=f"{answer.effect} ({why})")


def _write_controls(rows: pd.DataFrame, first: Row) -> str:
    """The average precision of the untrained network of the first model, and of raw pixels."""
    named = {first["less"] or None: first["less"], PIXELS: "raw pixels"}
    parts = []
    for name, words in named.items():
        own = rows[rows.control & (rows.model == name)]
        parts += [f"{words} {spell_share(Estimate(float(value)))}" for value in own.ap]
    return ", ".join(parts)
