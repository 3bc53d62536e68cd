"""The answers of the first screen in words: verdicts on claims in one line each, and the answers to
the questions of plain models."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from sslens.comparisons.inputs import Models
from sslens.comparisons.majorities import Majority
from sslens.comparisons.roles import CONTROL, JE, REC, TOKENS, is_labelled
from sslens.report.front.screen import Answer
from sslens.report.writing.numbers import (
    bracket,
    explain_width,
    list_names,
    spell_count,
    spell_difference,
    spell_effect,
    spell_over,
)
from sslens.statistics.estimate import FEWEST, SMALLEST, Contrast, explain
from sslens.statistics.verdicts import Part, Verdict

#: outcomes that a control may reverse
DECIDED = ("holds", "contradicted")
#: names that a sentence lists; of more it says how many there are
LISTED = 4
#: undecided claims below the first screen that are named in words
SPELT = 2
#: what the name of a difference says where the pixels' Gram is regressed out
WITHOUT_PIXELS = "pixels regressed out"
#: the scope of an answer that rests on images alone, and how it is said once for all
HERE = "in these models"
#: what the names of the families stand for
MEANINGS = {JE: "joint embedding", REC: "reconstruction"}
#: what stands before a difference of some kinds; others are in points, or their label names them
KINDS = {"cka": "CKA", "r2": "R²", "tau": "τ"}
#: what stands before the word of an answer that another draw of images may leave undecided
PROBABLY = "probably"
ALIKE = "Which models are alike?"
APART = "Where do they part?"
BEST = "Which separates the classes best?"
TOGETHER = "Does fine-tuning bring them together?"


def write_compared(models: Sequence[str], images: str, count: int, total: int | None) -> str:
    """Write what was compared, as the title of the page.

    Args:
        models: the names of the models under study.
        images: the name of the set of images; empty where there is none.
        count: the number of images that were taken.
        total: the number of images that there were; None if it is not known.

    >>> write_compared(["mae", "dino"], "birds/val", 1024, 5794)
    '2 models on birds/val, 1,024 of 5,794 images'
    >>> write_compared(["mae"], "", 0, None)
    'mae'
    """
    who = models[0] if len(models) == 1 else f"{spell_count(len(models))} models"
    if not images:
        return who
    of = f" of {spell_count(total)}" if total is not None and total != count else ""
    plural = "" if count == 1 and not of else "s"
    return f"{who} on {images}, {spell_count(count)}{of} image{plural}"


def write_scope(over: str) -> str:
    """Write what the intervals of all answers are over, and what the answers are about.

    Args:
        over: what most intervals are over.

    >>> write_scope("64 images")
    '95% intervals over 64 images unless said: of these models, not other trainings.'
    """
    over = over.removesuffix(" of images")
    if over == "1 minibatch":
        return f"Numbers over {over} have no interval; of these models, not other trainings."
    return f"95% intervals over {over} unless said: of these models, not other trainings."


def write_few(overs: Iterable[str]) -> str:
    """Write that there are too few minibatches to decide anything, and what makes more of them, as
    the end of a sentence; empty where there are enough.

    Args:
        overs: what intervals are over (`spell_over`).

    >>> write_few(["300 images", "2 minibatches of images"]).partition(":")[0]
    '2 minibatches, too few to decide anything'
    >>> write_few(["300 images", "32 minibatches of images"])
    ''
    """
    fewest = FEWEST["minibatches"]
    for count, unit in (over.split()[:2] for over in overs if over):
        if unit.startswith("minibatch") and int(count) < fewest:
            few = f"{count} {unit}, too few to decide anything"
            return f"{few}: take more images or smaller minibatches, for {fewest} or more"
    return ""


def write_terms(families: Sequence[str]) -> str:
    """Write what the families' names stand for.

    >>> write_terms(["REC", "JE"])
    'JE: joint embedding; REC: reconstruction.'
    """
    known = [f"{name}: {meaning}" for name, meaning in MEANINGS.items() if name in families]
    return f"{'; '.join(known)}." if known else ""


def write_labelled(models: Models) -> str:
    """Write which of the models under study were trained with labels; empty where none or all
    were.

    >>> from sslens.comparisons.inputs import ModelInfo
    >>> from sslens.models.about import About
    >>> mae, tuned = About("REC", "mae"), About("REC", "mae", tuned="fine-tuned")
    >>> write_labelled(Models((ModelInfo("mae", about=mae), ModelInfo("ft", about=tuned))))
    'Trained with labels: ft.'
    """
    named = [name for name in models.studied if is_labelled(models.about(name))]
    if len(named) in (0, len(models.studied)):
        return ""
    return f"Trained with labels: {list_few(named)}."


def write_claim_answer(verdicts: Sequence[Verdict], link: str) -> Answer:
    """Write the verdicts on one claim, one for each choice of tokens, as one answer.

    If the outcomes differ by tokens, the answer is that it depends on them; it is as strong as the
    weakest of them, and undecided if one is. So it is where over some tokens a control reverses the
    difference or leaves nothing of it, as with the pixels regressed out, or where it is reversed at
    some depths.
    """
    first = verdicts[0]
    outcomes = list(dict.fromkeys(one.outcome for one in verdicts))
    word, told = str(outcomes[0]), [first]
    if len(outcomes) > 1:
        word, told = ("undecided" if "undecided" in outcomes else "depends"), list(verdicts)
    judged = [one for one in told if one.parts]
    effects, shown = [_write_effect(first)], judged
    if len(told) > 1:  # of an open claim only what leaves it open comes with its numbers
        shown = [one for one in judged if word != "undecided" or one.outcome == word]
        effects = [
            f"{_write_outcome(one)}: {_write_effect(one)}"
            if word != "undecided" or one.outcome == word
            else _write_outcome(one)
            for one in told
        ]
    elif word in DECIDED and any(one.shaken for one in verdicts):
        effects = [f"{word}: {effects[0]}", *_write_other_caveats(verdicts)]
        word = "depends"
    else:
        effects += _write_other_caveats(verdicts)
    controls = _write_controls(shown)
    over = ""
    if judged:
        over = spell_over(_choose_part(judged[0]).choose_contrast(judged[0].scope).difference)
    return Answer(
        first.short or first.words.rstrip("."),
        word,
        "; ".join(effects),
        over,
        "; ".join(controls),
        link,
        min(one.strength for one in verdicts),
        first.label,
        scope=next((one.scope for one in judged if one.scope), ""),
    )


def _write_effect(verdict: Verdict) -> str:
    """Write the difference that decides a verdict, and what speaks against the outcome but for a
    control that is shown beside it."""
    shown = verdict.noted if verdict.reversed_by else verdict.caveats
    return "; ".join((_write_verdict(verdict), *shown))


def _write_other_caveats(verdicts: Sequence[Verdict]) -> list[str]:
    """Write what speaks against the outcome over other tokens than the first, where that is not
    the same over these."""
    first, *others = verdicts
    return [
        f"{TOKENS.get(one.tokens, '')} {', '.join(one.caveats)}".strip()
        for one in others
        if one.caveats and one.caveats != first.caveats
    ]


def _write_controls(verdicts: Sequence[Verdict]) -> list[str]:
    """Write the control of the difference that is shown of each verdict, and over which tokens it
    is if there are several verdicts; one that reverses a difference comes before all others, then
    one that leaves nothing of it."""
    written = []
    for one in verdicts:
        where = f"{TOKENS.get(one.tokens, '')} " if len(verdicts) > 1 else ""
        part = _choose_part(one)
        beside = [control for control in one.find_controls(part) if control.difference.defined]
        reverse = [control for control in one.reversed_by.values() if control in beside]
        vanished = [control for control in one.vanished_by.values() if control in beside]
        of = "the reverse, " if reverse else ""
        written += [
            f"{where}{of}{_write_control(control, part)}".strip()
            for control in (*reverse, *vanished, *beside)[:1]
        ]
    return written


def _write_control(control: Contrast, part: Part) -> str:
    """Write a control of a part; of the same difference without the pixels only that it is, and
    where both subtract the same only what is in the part's place."""
    spelt = spell_effect(control.difference, part.kind)
    if WITHOUT_PIXELS in control.a:
        return f"{WITHOUT_PIXELS} {spelt}"
    if control.b == part.contrast.b:
        return f"{_name_pair(control.a)} {spelt}"
    return f"{_subtract(control)} {spelt}"


def _name_pair(name: str) -> str:
    """Name a pair of models or families, or the runs that are their control, as the first screen
    does.

    >>> _name_pair("JE · REC"), _name_pair("control")
    ('JE with REC', 'fine-tuned random weights')
    """
    return "fine-tuned random weights" if name == CONTROL else name.replace(" · ", " with ")


def _subtract(contrast: Contrast) -> str:
    """Write which two things are subtracted, each of several words in brackets.

    >>> from sslens.statistics.estimate import Estimate
    >>> _subtract(Contrast("JE · JE", "JE", Estimate(0.1)))
    '(JE with JE) − JE'
    """
    names = (_name_pair(name) for name in (contrast.a, contrast.b))
    return " − ".join(f"({name})" if " " in name else name for name in names)


def _choose_part(verdict: Verdict) -> Part:
    """The difference that tells why the outcome is what it is: one that a control reverses or
    leaves nothing of, or else the first with that answer."""
    other = (*verdict.reversed_by.values(), *verdict.vanished_by.values())
    otherwise = other if verdict.outcome in DECIDED else ()
    turned = (part for part in verdict.parts if any(one in part.controls for one in otherwise))
    own = (part for part in verdict.parts if part.answer == verdict.outcome)
    return next(chain(turned, own), verdict.parts[0])


def _write_outcome(verdict: Verdict) -> str:
    """Write over which tokens a verdict is, and its outcome."""
    return " ".join(filter(None, (TOKENS.get(verdict.tokens, ""), verdict.outcome)))


def _write_verdict(verdict: Verdict) -> str:
    """Write the difference that decides a verdict, or why it does not."""
    if not verdict.parts:
        return verdict.why
    part = _choose_part(verdict)
    contrast = part.choose_contrast(verdict.scope)
    label = part.label.rstrip(",:")
    spelt = " ".join(
        filter(None, (KINDS.get(part.kind), spell_effect(contrast.difference, part.kind)))
    )
    effect = ", ".join(filter(None, (spelt, _subtract(contrast), label)))
    why = explain_effect(contrast, part.smallest) if part.answer == "undecided" else ""
    # of a curve's intervals, which hold at once, the claim's own text says why they are wider
    width = "" if contrast.together > 1 else explain_width(contrast)
    more = sum(one.answer == part.answer for one in verdict.parts) - 1
    agree = f"; {more} more agree{'s' if more == 1 else ''}"
    said = agree if more and verdict.outcome in DECIDED else ""
    return f"{effect}{bracket(width, why)}{said}"


def explain_effect(contrast: Contrast, smallest: float) -> str:
    """Say why a difference decides nothing."""
    if contrast.difference.sign and contrast.difference.find_side(smallest) == "undecided":
        return f"may be under {smallest:g}, too little"
    return explain(contrast, smallest)


def write_parting(partings: Majority, link: str) -> Answer:
    """Write whether models part early or late: the last third of the depths against the first."""
    clause = f" with {WITHOUT_PIXELS}" if partings.beyond else ""
    shown = partings.shown
    spelt = spell_difference(shown.difference)
    effect = f"CKA{clause} {spelt}, last third of {shown.a} and {shown.b} less first"
    over = spell_over(shown.difference)
    words = {"less": "late", "more": "early", "the same": "at no depth more"}
    word = words.get(partings.side, "undecided")
    if word == "undecided":
        effect = f"{effect}{bracket(_explain_majority(partings))}"
    if partings.side in words and partings.count < partings.pairs:
        word = f"{word}, in {partings.count} of {spell_count(partings.pairs, 'pair')}"
    return Answer(APART, word, effect, over, "", link, partings.strength, scope=HERE)


def _explain_majority(majority: Majority) -> str:
    """Say why the differences of several pairs decide nothing."""
    shown, smallest = majority.shown, SMALLEST["cka"]
    if shown.difference.find_side(smallest) in ("undecided", "too few"):
        return explain_effect(shown.contrast, smallest)
    return f"most of the {majority.pairs} pairs do not agree"


def write_together(together: Majority, link: str) -> Answer:
    """Write whether fine-tuning brings models together, and whether it does so more than labels
    bring random weights to them."""
    shown = together.shown
    words = {"more": "yes", "less": "no, apart", "the same": "no, as before"}
    word = words.get(together.side, "undecided")
    if together.side == "more" and shown.over_control is not None:
        side = shown.over_control.find_side(SMALLEST["cka"])
        if side in ("less", "the same"):
            word = "only as labels do"
        elif side != "more":
            word = "yes, undecided against labels alone"
    if together.side in words and together.count < together.pairs:
        word = f"{word}, in {together.count} of {spell_count(together.pairs, 'pair')}"
    control = "no fine-tuned random weights beside it"
    if shown.over_control is not None:
        control = (
            f"the end less that of {shown.control}, random weights fine-tuned:"
            f" {spell_difference(shown.over_control)}"
        )
    clause = f" with {WITHOUT_PIXELS}" if together.beyond else ""
    effect = (
        f"CKA{clause} {spell_difference(shown.difference)} by fine-tuning, {shown.a} and {shown.b}"
    )
    why = _explain_majority(together) if word == "undecided" else ""
    effect = f"{effect}{bracket(explain_width(shown.contrast), why)}"
    over = spell_over(shown.difference)
    return Answer(TOGETHER, word, effect, over, control, link, together.strength, scope=HERE)


def write_undecided(
    answers: Sequence[Answer], not_run: Mapping[str, str], more: Sequence[Answer] = ()
) -> str:
    """Write in a line what is undecided, and what was not run.

    Args:
        answers: all answers.
        not_run: why, by the label of a claim or the question.
        more: those of the answers that are not on the first screen; one or two are named in
            words, of more it is said where they are.

    >>> nine, ten = (Answer(f"Is {k} so?", "undecided", "", "", label=f"C{k}") for k in (9, 10))
    >>> write_undecided([nine, ten], {"C4": "no CNN"}, [ten])
    'Undecided: C9; C10, Is 10 so? Not run: C4.'
    """
    # a question that is asked on the first screen says there that it is undecided
    undecided = [
        one for one in answers if one.word.startswith("undecided") and (one.label or one in more)
    ]
    folded = sum(one in more for one in undecided)
    spelt = folded <= SPELT
    names = [
        one.label if one.label and not (spelt and one in more) else _name_question(one)
        for one in undecided
    ]
    named = "; ".join(names).replace("?;", "?") + ("" if spelt else ", under “More answers”")
    lines = [f"Undecided: {named}{'' if named.endswith('?') else '.'}"] if names else []
    listed = [name if name[:1] == "C" else f"{name} ({why})" for name, why in not_run.items()]
    return " ".join([*lines, *([f"Not run: {', '.join(listed)}."] if listed else [])])


def _name_question(answer: Answer) -> str:
    """Name what is asked: the label of a claim, and the question.

    >>> _name_question(Answer("Is it so?", "yes", "", "", label="C3"))
    'C3, Is it so?'
    """
    return ", ".join(filter(None, (answer.label, answer.question)))


def list_few(names: Sequence[str]) -> str:
    """List names, and of more than four how many more there are.

    >>> list_few(["a", "b", "c", "d", "e", "f"])
    'a, b, c and 3 more'
    """
    if len(names) <= LISTED:
        return list_names(list(names))
    return f"{', '.join(names[: LISTED - 1])} and {len(names) - LISTED + 1} more"
