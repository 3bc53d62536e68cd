"""The answer to the question which models are alike, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from sslens.comparisons import copies
from sslens.comparisons.likeness import Group, Likeness, is_unlike
from sslens.comparisons.with_pixels import WithPixels
from sslens.counts import spell_count
from sslens.report.front.screen import Answer
from sslens.report.writing.answer_rows import find_end
from sslens.report.writing.best_features import FEW
from sslens.report.writing.front import (
    ALIKE,
    HERE,
    LISTED,
    PROBABLY,
    WITHOUT_PIXELS,
    list_few,
    write_few,
)
from sslens.report.writing.numbers import set_minus, spell, spell_level, spell_over
from sslens.statistics.estimate import NAN, SMALLEST, Estimate


@final
@dataclass(frozen=True)
class Beside:
    """What the likeness of models is held against.

    Attributes:
        ceiling: an objective, and the CKA of two trainings of it; None without one.
        random: two random initialisations; None without them.
        pixels: the likeness of models to the raw pixels.
    """

    ceiling: tuple[str, Estimate] | None = None
    random: Likeness | None = None
    pixels: WithPixels = field(default_factory=lambda: WithPixels({}))


def write_alike(
    pairs: Sequence[Likeness], groups: Sequence[Group], beside: Beside, link: str
) -> Answer:
    """Write which models are alike: the groups, or without any the two that are most alike.

    Where the pixels are not regressed out, models that are no more alike than one of them is to the
    raw pixels are not called alike; where raw pixels are not compared, the answer is not sure.

    Args:
        pairs: all pairs of models under study, by one kind of CKA; at least one.
        groups: the groups among them (`likeness.find_groups`).
        beside: what stands beside it.
        link: the section with the evidence.
    """
    over = spell_over(pairs[0].value)
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.a, pair.b)))
    controlled = pairs[0].beyond or bool(beside.pixels.cka)
    if groups:
        answer = _write_groups(groups, beside, names)
        return replace(answer, over=over, link=link, controlled=controlled)
    if len(pairs) == 1:
        (pair,) = pairs
        word, effect, strength = _judge_pair(pair, beside.pixels)
        return Answer(
            f"How alike are {pair.a} and {pair.b}?",
            word,
            effect,
            over,
            _write_control(beside, pair, names),
            link,
            strength,
            scope=HERE,
            controlled=controlled,
        )
    ranked = sorted(pairs, key=lambda pair: -pair.value.value)
    top, low = ranked[0], ranked[-1]
    effect = (
        f"no group stands out by its intervals; most alike {top.a} and {top.b}, CKA"
        f"{_name_kind(top)} {spell(top.value)}, least {low.a} and {low.b} {spell(low.value)}"
    )
    return Answer(ALIKE, "undecided", effect, over, _write_control(beside, top, names), link)


def _write_groups(groups: Sequence[Group], beside: Beside, names: Sequence[str]) -> Answer:
    """Write which of the models are groups; undecided where raw pixels explain one."""
    clearest = min(groups, key=lambda one: one.gap.low)
    of = f", {list_few(clearest.members)}" if len(groups) > 1 else ""
    effect = (
        f"CKA{_name_kind(clearest.weakest)}{of}: {spell(clearest.weakest.value)} or more within, at"
        f" most {spell(clearest.nearest.value)} across{_write_rest(groups, len(names))}"
    )
    for group in groups:
        if _find_side(group.weakest, beside.pixels) not in ("more", None):
            effect = f"{effect}; {_write_as_pixels(group.weakest, beside.pixels)}"
            control = _write_control(beside, group.weakest, names)
            return Answer(ALIKE, "undecided", effect, "", control)
    word = f"{len(groups)} groups"
    if len(groups) == 1:
        word = f"{len(groups[0].members)} of {len(names)}"
    if not all(one.settled for one in groups):
        word = f"{PROBABLY} {word}"
    return Answer(
        ALIKE,
        word,
        effect,
        "",
        _write_control(beside, clearest.weakest, names),
        strength=clearest.gap.measure_strength(SMALLEST["cka"]),
        names="; ".join(list_few(one.members) for one in groups[:LISTED]),
        scope=HERE,
    )


def _name_kind(pair: Likeness) -> str:
    """Say that the pixels are regressed out, and at which depths, where they are."""
    if not pair.beyond:
        return ""
    depths = (
        f" at {pair.depths[0]} of {spell_count(pair.depths[1], 'depth')}" if pair.depths else ""
    )
    return f" with {WITHOUT_PIXELS}{depths}"


def _judge_pair(pair: Likeness, pixels: WithPixels) -> tuple[str, str, float]:
    """The word for how alike two models are, the numbers, and how strong the answer is."""
    plain = f" ({spell(pair.plain)} with them)" if pair.beyond else ""
    if pair.depths:
        plain = f" ({spell_level(pair.there)} with them there, {spell(pair.plain)} at all)"
    effect = f"mean CKA at the same depth {spell(pair.value)}{_name_kind(pair)}{plain}"
    strength = max(0.0, pair.value.low / SMALLEST["cka"]) if pair.value.sign else 0.0
    if is_unlike(pair.value):
        return "not alike", effect, strength
    if pair.value.sign == 0 and pair.value.value >= copies.ALIKE:  # the same on every minibatch
        return spell_level(pair.value.value), f"{effect}; they compute the same", 0.0
    if pair.value.sign == 0:
        return "undecided", f"{effect} (the interval holds 0)", strength
    if pair.value.n and pair.value.sign is None:
        return "undecided", f"{effect} (there are too few minibatches)", strength
    side = _find_side(pair, pixels)
    if side in ("more", None):
        return spell_level(pair.value.value), effect, strength
    word = "no more than pixels" if side in ("less", "the same") else "undecided"
    return word, f"{effect}; {_write_as_pixels(pair, pixels)}", 0.0


def _find_side(pair: Likeness, pixels: WithPixels) -> str | None:
    """On which side of the likeness that raw pixels explain that of two models is; None where they
    are regressed out, or where it is not known."""
    difference = None if pair.beyond else pixels.subtract(pair)
    return None if difference is None else difference.find_side(SMALLEST["cka"])


def _write_as_pixels(pair: Likeness, pixels: WithPixels) -> str:
    """Write that two models are not shown to be more alike than one of them is to raw pixels."""
    name = pixels.choose_nearest(pair)
    assert name is not None
    who = f"{pair.a} and {pair.b} are not shown to be"
    return f"{who} more alike than {name} is to raw pixels, {spell(pixels.cka[name])}"


def _write_rest(groups: Sequence[Group], count: int) -> str:
    """Write how many of so many models are in no group; empty if none."""
    rest = count - sum(len(one.members) for one in groups)
    return f"; {rest} in no group" if rest else ""


def _write_control(beside: Beside, pair: Likeness, models: Sequence[str]) -> str:
    """Write what the likeness of two of the models is held against: the raw pixels where they are
    not regressed out, two trainings of one objective, or two random initialisations."""
    parts = [] if pair.beyond else [_write_pixels(beside.pixels, pair, models)]
    if beside.ceiling is not None:
        parts.append(f"two trainings of {beside.ceiling[0]} {spell(beside.ceiling[1])}")
    if beside.random is not None:
        clause = "" if beside.random.beyond else " (plain)"
        level = spell_level(beside.random.value.value)
        parts.append(f"{beside.random.a} with {beside.random.b} {level}{clause}")
    return ", ".join(filter(None, parts))


def _write_pixels(pixels: WithPixels, pair: Likeness, models: Sequence[str]) -> str:
    """Write how alike two of the models are to the raw pixels, and of which of the models these
    cannot be regressed out; empty where one of the two is the pixels."""
    if not pixels.cka:
        return "raw pixels are not compared"
    if pixels.choose_nearest(pair) is None:
        return ""
    levels = (f"{name} {spell_level(pixels.cka[name].value)}" for name in (pair.a, pair.b))
    why, explained = "", pixels.list_explained(models)
    if explained:
        why = f" (not regressed out: over 95% of {list_few(explained)} is pixels)"
    return f"with raw pixels {' and '.join(levels)}{why}"


def write_as_pixels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the models that are shown to be more alike to the raw pixels than to their nearest
    relative, and those that are not shown to be less, with the CKA of model and pixels, where the
    pixels are not regressed out; nobody where there are too few minibatches."""
    more, near = [], []
    for row in () if is_undecidable(rows) else rows:
        if row["control"] or row["pixels_regressed_out"] or not row["nearest_relative"]:
            continue
        name = f"{row['model']} {_spell_to_pixels(row)}"
        if find_end(row, "cka", "high", "cka_to_it") < find_end(row, "cka_to_pixels", "low"):
            more.append(name)
        elif find_end(row, "cka", "low", "cka_to_it") <= find_end(row, "cka_to_pixels", "high"):
            near.append(name)
    told = {
        "Raw pixels are nearer": more,
        "Raw pixels are not told apart from that relative": near,
    }
    return [
        f"{what}: {', '.join(names[:FEW])}{f' and {len(names) - FEW} more' * (len(names) > FEW)}."
        for what, names in told.items()
        if names
    ]


def is_undecidable(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the CKA of rows of the answer is over too few minibatches."""
    known = [one for row in rows if (one := read_nearest(row)).n]
    return bool(known) and bool(write_few([spell_over(known[0])]))


def _spell_to_pixels(row: Mapping[str, Any]) -> str:
    """Spell the CKA of a model and the raw pixels with its interval."""
    low, high = (float(row.get(f"cka_to_pixels_{end}", NAN)) for end in ("low", "high"))
    return spell(Estimate(row["cka_to_pixels"], low, high))


def read_nearest(row: Mapping[str, Any]) -> Estimate:
    """The CKA of a model and its nearest relative, of a row of the answer."""
    count = row.get("cka_minibatches", float("nan"))
    many = int(count) if count == count else 0
    return Estimate(row["cka_to_it"], row["cka_low"], row["cka_high"], "minibatches", many)


def write_nearest(row: Mapping[str, Any], apart: str | None = " ") -> str:
    """Write the nearest relative of a model with its CKA, of a row of the answer.

    Args:
        row: the row.
        apart: what parts the two; None leaves the CKA out, which is never without its interval.

    >>> row = {"nearest_relative": "b", "cka_to_it": 0.3, "cka_low": 0.2, "cka_high": 0.4}
    >>> write_nearest(row), write_nearest(row, None)
    ('b 0.30 [0.20, 0.40]', 'b')
    """
    if not row["nearest_relative"]:
        return ""
    cka = read_nearest(row)
    name = "none alike" if is_unlike(cka) else str(row["nearest_relative"])
    if apart is None:
        return name
    comma = "," if is_unlike(cka) and apart == " " else ""
    return f"{name}{comma}{apart}{set_minus(spell(cka))}"


def write_minibatches(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write what the intervals of CKA are over, or whether that is too few; nothing where none is
    known.

    >>> row = {"cka_to_it": 0.3, "cka_low": 0.2, "cka_high": 0.4, "cka_minibatches": 8}
    >>> write_minibatches([row])
    ['Intervals: 95 %, over 8 minibatches of images.']
    """
    known = [one for row in rows if (one := read_nearest(row)).n]
    if not known:
        return []
    over = spell_over(known[0])
    intervals = "No intervals:" if known[0].n == 1 else "Intervals: 95 %, over"
    return [f"{intervals} {write_few([over]) or over}."]
