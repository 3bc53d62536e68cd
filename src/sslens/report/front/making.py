"""From the results of a study to its first screen."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from sslens.claims import advice
from sslens.claims.advice import Recommendation
from sslens.comparisons.choices import Choice, rank_choices, read_choices
from sslens.comparisons.dense_advice import judge_dense
from sslens.comparisons.inputs import Models
from sslens.comparisons.likeness import (
    compare_alike,
    list_placed,
    make_dissimilarities,
    read_likenesses,
)
from sslens.comparisons.readings import find_over_places
from sslens.comparisons.roles import CONTROL, PIXELS
from sslens.comparisons.tuned import is_control
from sslens.find import names, plugin
from sslens.report.front.questions import (
    PROBES,
    SEPARATION,
    add_classes,
    answer_by_the_way,
    answer_questions,
)
from sslens.report.front.screen import (
    ENOUGH_ANSWERS,
    MOST_ANSWERS,
    MOST_CARDS,
    Answer,
    Card,
    Front,
    Overview,
    Point,
)
from sslens.report.verdicts import name_control
from sslens.report.writing import blindness, changes, choosing, places
from sslens.report.writing import front as words
from sslens.report.writing.cards import write_card, write_dense_card
from sslens.report.writing.numbers import spell_classes
from sslens.report.writing.overview import (
    find_shared,
    write_note,
    write_placed,
    write_read,
    write_sized,
)
from sslens.statistics.scaling import place
from sslens.statistics.verdicts import Verdict
from sslens.table import Results

#: claims that answer a question of plain models: where they part, and what fine-tuning does
ANSWERED = {"c2": words.APART, "c9": words.TOGETHER}


@final
@dataclass(frozen=True)
class Compared:
    """The images of a study, and why analyses were left out.

    Attributes:
        images: the name of the set; empty where there is none.
        count: the number of images that were taken.
        total: the number of images that there were; None if it is not known.
        left_out: why an analysis that would apply to any models was left out, by its name.
        classes: the number of classes of the images, and the number of classes of which these were
            drawn; None where none were drawn.
        labelled: whether the images have classes to tell apart; True where there are no images.
    """

    images: str = ""
    count: int = 0
    total: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[int, int] | None = None
    labelled: bool = True


def make_front(
    results: Mapping[str, Results],
    verdicts: Sequence[Verdict],
    models: Models,
    compared: Compared,
    links: Mapping[str, str] | None = None,
) -> Front:
    """Make the first screen of a report.

    Answers are put in order by their strength, but those to what changed between checkpoints, which
    come first in their own order. The questions which models are alike and which
    separates the classes best are on the screen in any case; the questions where models part and
    what fine-tuning does are asked where the claims about them have no verdict.

    Args:
        results: the results of the analyses that ran, by the analysis' name.
        verdicts: the verdicts on claims.
        models: the models and the controls.
        compared: the images.
        links: the analysis that a user's own claim reads, by the claim's name.
    """
    choices = _read_separation(results)
    claimed = list(_answer_claims(verdicts, results, links or {}))
    judged = {one.claim for one in verdicts if one.parts}
    asked = [
        one
        for one in answer_questions(results, models, choices)
        if not any(ANSWERED[claim] == one.question for claim in judged & set(ANSWERED))
    ]
    ordered = [*asked, *claimed, *answer_by_the_way(results)]
    ordered.sort(key=lambda one: -one.strength)
    changed = list(changes.write_changes(results))
    answers, over = _say_scope([*changed, *ordered])
    kept = [one.question for one in (*changed, *asked) if one.question not in ANSWERED.values()]
    shown = _choose(answers, kept)
    few = words.write_few(one.over for one in answers)
    few = f"CKA is over {few}." if few else ""
    rest = tuple(one for one in answers if one not in shown)
    advised = tuple(advice.judge(results))
    cards = list(_make_cards(results, models, choices, advised))
    title = words.write_compared(models.studied, compared.images, compared.count, compared.total)
    if compared.classes is not None:
        title = f"{title}, {spell_classes(*compared.classes)}"
    return Front(
        title,
        tuple(shown),
        _make_overview(results, models, choices),
        tuple(cards[:MOST_CARDS]),
        tuple(cards[MOST_CARDS:]),
        words.write_undecided(answers, _list_not_run(verdicts, compared), rest),
        rest,
        choosing.write_pixels(choices, advised, _read_probed(results)),
        " ".join(filter(None, (words.write_scope(over) if over else "", few))),
        over,
        _write_choice(results, models, choices, compared, advised),
        terms=_write_terms(results, models, choices),
        families={n: f for n in models.studied if (f := models.about(n).family)},
    )


def _write_choice(
    results: Mapping[str, Results],
    models: Models,
    choices: Sequence[Choice],
    compared: Compared,
    advised: Sequence[Recommendation],
) -> str:
    """Say which model to use, or what is missing to choose one and to judge how alike they are."""
    said = choosing.write_choice(choices, find_over_places(results), advised, _read_probed(results))
    compares = "cka-blocks" in results
    if compares and not choices and not compared.labelled:
        said = choosing.NO_LABELS
    elif not choices and SEPARATION[0] in compared.left_out:
        said = choosing.write_no_choice(compared.left_out[SEPARATION[0]])
    said = said or places.write_warning(results)
    alike = compares and len(models.studied) > 1
    missing = choosing.NO_PIXELS if alike and PIXELS not in models.names else ""
    return " ".join(filter(None, (said, missing)))


def _say_scope(answers: Sequence[Answer]) -> tuple[list[Answer], str]:
    """Say what the answers are about in each, unless all are about these models; then return what
    most of their intervals are over, which is said once."""
    if all(one.scope in ("", words.HERE) for one in answers):
        overs = Counter(one.over for one in answers if one.over)
        return list(answers), overs.most_common(1)[0][0] if overs else ""
    said = [", ".join(filter(None, (one.over, one.scope))) for one in answers]
    return [replace(one, over=text) for one, text in zip(answers, said, strict=True)], ""


def _choose(answers: Sequence[Answer], kept: Sequence[str]) -> list[Answer]:
    """Choose at most eight answers: the strongest, with those to the questions `kept` for sure;
    claims that are undecided only where fewer than six others are there."""
    sure = [one for one in answers if one.question in kept][:MOST_ANSWERS]
    rest = [one for one in answers if one not in sure]
    told = [one for one in rest if not one.label or one.word != "undecided"]
    if len(sure) + len(told) >= ENOUGH_ANSWERS:
        rest = told
    rest = rest[: MOST_ANSWERS - len(sure)]
    return [one for one in answers if one in sure or one in rest]


def _answer_claims(
    verdicts: Sequence[Verdict], results: Mapping[str, Results], links: Mapping[str, str]
) -> Iterator[Answer]:
    """The answers to claims of which at least one verdict was run."""
    by_claim: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.outcome != "not run":
            by_claim.setdefault(verdict.claim, []).append(verdict)
    for claim, several in by_claim.items():
        reads = plugin("claims", claim).READS if claim in names("claims") else (links.get(claim),)
        link = next((str(name) for name in reads if name in results), "")
        answer = words.write_claim_answer(several, link)
        beside = name_control(claim).partition(",")[0]  # which of its differences, the claim says
        yield replace(answer, control=answer.control or beside)


def _list_not_run(verdicts: Sequence[Verdict], compared: Compared) -> dict[str, str]:
    """What was not run, and why: claims, if any claim has a verdict, and how classes separate."""
    not_run = {}
    if any(verdict.parts for verdict in verdicts):
        ran = {verdict.claim for verdict in verdicts if verdict.outcome != "not run"}
        not_run = {one.label: one.why for one in verdicts if one.claim not in ran}
    if SEPARATION[0] in compared.left_out:
        not_run[words.BEST] = compared.left_out[SEPARATION[0]]
    return not_run


def _read_separation(
    results: Mapping[str, Results], analyses: Sequence[str] = SEPARATION
) -> tuple[Choice, ...]:
    """What was chosen of each model, by the first analysis that tells it."""
    for name in analyses:
        if name in results and "choices" in results[name]:
            return read_choices(results[name]["choices"])
    return ()


def _read_probed(results: Mapping[str, Results]) -> tuple[Choice, ...]:
    """What was chosen of each model among probes, where k-NN comes before them; else nothing."""
    return _read_separation(results, PROBES) if SEPARATION[0] in results else ()


def _make_overview(
    results: Mapping[str, Results], models: Models, choices: Sequence[Choice]
) -> Overview | None:
    """Place models and controls by 1 − CKA, of one kind for all pairs, sized by how well they
    separate classes; None where no two are known."""
    if "cka-blocks" not in results:
        return None
    pairs = compare_alike(read_likenesses(results["cka-blocks"]))
    placed = list_placed(pairs, models.names)
    if not placed:
        return None
    leftmost = placed.index(PIXELS) if PIXELS in placed else 0
    found = place(make_dissimilarities(pairs, placed), leftmost=leftmost)
    by_model = {one.model: one for one in choices}
    points, over_places = [], find_over_places(results)
    reads = {
        one.model: write_read(one, places=one.model in over_places)
        for one in choices
        if one.model in placed and one.model != PIXELS  # whose name says what they are
    }
    shared = find_shared([*reads.values()])
    for name, (x, y) in zip(placed, found.places.tolist(), strict=True):
        choice = by_model.get(name)
        size = None if choice is None else choice.use.value
        family = models.about(name).family or ""
        note = "" if choice is None else write_note(choice, places=name in over_places)
        read = reads.get(name, "")
        family = "" if family == CONTROL else family
        control = models.is_control(name) or is_control(models.about(name))
        low = None if choice is None else choice.use.low
        high = None if choice is None else choice.use.high
        points.append(
            Point(
                name, x, y, size, family, control, note, low, high, "" if read == shared else read
            )
        )
    known = [one for one in choices if one.model in placed]
    return Overview(
        tuple(points),
        write_placed(pairs, found.stress),
        write_sized(known, shared),
        found.stress,
        known[0].chance if known else None,
    )


def _write_terms(results: Mapping[str, Results], models: Models, choices: Sequence[Choice]) -> str:
    """Write what the answers' numbers mean where they do not say so, which network of a file each
    is, and which models saw labels where classes are told apart."""
    if blindness.LINK in results:
        return blindness.TERMS
    labelled = words.write_labelled(models) if choices else ""
    return " ".join(filter(None, (changes.write_branches(results), labelled)))


def _make_cards(
    results: Mapping[str, Results],
    models: Models,
    choices: Sequence[Choice],
    advised: Sequence[Recommendation],
) -> Iterator[Card]:
    """The cards of all models in the order of the choices, random weights that were fine-tuned
    behind all others, then those for dense tasks."""
    names = [one.model for one in rank_choices(choices)]
    places = {name: place for place, name in enumerate(names)}
    order = {
        one.model: (
            is_control(models.about(one.model)),
            places.get(one.model, len(names)),
            -one.use.accuracy.value,
        )
        for one in advised
    }
    over_places = find_over_places(results)
    for one in sorted(advised, key=lambda one: (bool(one.unsettled), *order[one.model])):
        card = write_card(one, places=one.model in over_places)
        source = next((results[name] for name in advice.READS if name in results), None)
        yield card if source is None else replace(card, why=add_classes(card.why, source))
    for dense in sorted(judge_dense(results), key=lambda one: -one.miou.value):
        yield write_dense_card(dense)
