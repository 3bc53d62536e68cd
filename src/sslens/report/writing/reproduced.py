"""Words for a reproduction: what became of an exhibit, and a published number beside ours."""

from collections.abc import Collection, Iterator, Sequence

from sslens.counts import spell_count
from sslens.report.outcomes import ComparedNumber, JudgedClaim, ReproducedExhibit
from sslens.report.writing.numbers import list_names, spell_effect, spell_printed

#: columns of a terminal that the names of exhibits take
WIDTH = 20


def spell_found(number: ComparedNumber) -> str:
    """Format the number found, with its interval."""
    found = number.found
    if found is None:
        return "–"
    kind = number.published.kind
    text = spell_printed(found.value, kind)
    if found.low != found.low:
        return text
    ends = (spell_printed(end, kind).removesuffix(" points") for end in (found.low, found.high))
    return f"{text} [{', '.join(ends)}]"


def write_agreement(number: ComparedNumber) -> str:
    """Say how the number found lies beside the published one."""
    printed = number.published
    tolerance = spell_printed(printed.tolerance, printed.kind).lstrip("+")
    words = {
        "the same": f"the same within {tolerance}",
        "differs": f"differs by more than {tolerance}",
        "undecided": f"not decided within {tolerance}: the interval reaches into it",
        "not found": "no such number was found",
    }
    return words.get(number.agreement, f"not comparable: {number.why}")


def find_shared_agreement(one: ReproducedExhibit) -> str:
    """How all numbers of an exhibit lie beside the published ones, to be said once; empty where
    they differ, or where there is one."""
    return _find_shared([write_agreement(number) for number in one.numbers])


def find_shared_note(one: ReproducedExhibit) -> str:
    """What is noted beside each number of an exhibit, to be said once; empty where notes differ."""
    return _find_shared([number.published.note or "" for number in one.numbers])


def _find_shared(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) > 1 and len({*texts}) == 1 else ""


def write_state(one: ReproducedExhibit, *, why: bool = True) -> str:
    """Say in a line what became of an exhibit.

    Args:
        one: the exhibit.
        why: whether it is said why it is not on the authors' weights.
    """
    if one.state in ("not run", "failed"):
        return f"{one.state}: {one.why}"
    stored = "stored, " if one.state == "stored" else ""
    because = f" (not on the authors' weights: {one.why})" if one.why and why else ""
    return f"{stored}on {one.on}{because}"


def write_reasons(exhibits: Sequence[ReproducedExhibit]) -> Iterator[str]:
    """Say why exhibits are not on the authors' weights: each reason once, with the exhibits."""
    by_reason: dict[str, list[str]] = {}
    for one in exhibits:
        if one.why and one.state in ("computed", "stored"):
            by_reason.setdefault(one.why, []).append(one.exhibit.name)
    for reason, names in by_reason.items():
        verb = "is" if len(names) == 1 else "are"
        yield f"{list_names(names)} {verb} not on the authors' weights: {reason}."


def write_outcomes(one: ReproducedExhibit) -> str:
    """Say in a line what became of the claims of an exhibit.

    >>> from sslens.exhibits import find
    >>> claim = JudgedClaim("c1", "It is so.", "undecided", None, "")
    >>> exhibit = find("cka-blocks")
    >>> write_outcomes(ReproducedExhibit(exhibit, "computed", "", {}, "", claims=(claim,)))
    'C1 undecided'
    """
    return "; ".join(f"{claim.claim.upper()} {claim.outcome}" for claim in one.claims)


def spell_claim_effect(claim: JudgedClaim) -> str:
    """Format the effect of a claim, with what it is of and the controls beside it.

    >>> from sslens.statistics.estimate import Estimate
    >>> effect = Estimate(-0.048, -0.059, -0.037)
    >>> claim = JudgedClaim("c17", "It is so.", "holds", effect, "", "ap", "dino less msn")
    >>> spell_claim_effect(claim)
    'dino less msn -4.8 points [-5.9, -3.7]'
    """
    if claim.effect is None:
        return "–"
    effect = " ".join(filter(None, (claim.of, spell_effect(claim.effect, claim.kind))))
    return "; beside it ".join(filter(None, (effect, claim.beside)))


def summarise(exhibits: Sequence[ReproducedExhibit]) -> str:
    """Say how many exhibits were computed and how many numbers were reproduced."""
    counts = {
        state: sum(one.state == state for one in exhibits)
        for state in ("computed", "stored", "not run", "failed")
    }
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    numbers = [number.agreement for one in exhibits for number in one.numbers]
    text = f"Of {len(exhibits)} exhibit{'s' if len(exhibits) != 1 else ''} {', '.join(parts)}."
    held = [said for said in numbers if said in ("the same", "differs", "undecided")]
    if held:
        text += (
            f" Of {len(held)} published numbers on the same weights and images"
            f" {held.count('the same')} are the same within their tolerance,"
            f" {held.count('differs')} differ and {held.count('undecided')} are undecided."
        )
    elif numbers:
        text += (
            " No published number is of these weights and images: those found beside them say how"
            " such models compare, and not whether the papers' numbers are right."
        )
    return text


def list_lines(one: ReproducedExhibit, noted: Collection[str] = ()) -> Iterator[str]:
    """Write what became of an exhibit in lines for a terminal, without notes that were told."""
    yield f"{one.exhibit.name:<{WIDTH}}{write_state(one)}"
    begin = " " * WIDTH
    if one.exhibit.no_value and one.state != "failed":
        yield f"{begin}published: no value printed"
    shared = find_shared_agreement(one)
    if shared:
        yield f"{begin}published and found, {spell_count(len(one.numbers), 'number')}: {shared}"
    for number in one.numbers:
        published = spell_printed(number.published.value, number.published.kind)
        said = "" if shared else f"; {write_agreement(number)}"
        yield (
            f"{begin}{number.published.what}: published {published}, found"
            f" {spell_found(number)}{said}"
        )
    for claim in one.claims:
        told = f" ({claim.why})" if claim.outcome == "not run" else f": {spell_claim_effect(claim)}"
        yield f"{begin}{claim.claim.upper()} {claim.outcome}{told}"
    for note in one.notes:
        if note not in noted:
            yield f"{begin}note: {note}"
