"""The first screen of a report as data: plain texts and numbers, which the page only draws."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from sslens.counts import spell_count

#: answers and cards that the first screen holds at most
MOST_ANSWERS, MOST_CARDS = 8, 4
#: answers beside which the first screen only lists the claims that are undecided
ENOUGH_ANSWERS = 6


@final
@dataclass(frozen=True)
class Answer:
    """The answer to a question, or the verdict on a claim, in one line.

    Attributes:
        question: a question, or a claim as a sentence.
        word: the answer in a word or two, such as "holds" or "undecided".
        effect: the difference or the level that decides, with its interval.
        over: what the interval is over and of how many.
        control: what the effect is held against; empty where there is nothing.
        link: the name of the section with the evidence; empty where there is none.
        strength: by how many smallest differences worth a word the nearer end of the interval is
            away from 0; 0 where nothing is decided.
        label: the name of the claim, such as "C1"; empty for a question.
        names: the models that are the answer to the question; empty where it asks for none.
        scope: what the answer is about, "in these models" or "of these objectives"; empty where
            nothing is decided.
        controlled: whether the control that matters stands beside it; a likeness without the raw
            pixels' is a number, and no answer.
    """

    question: str
    word: str
    effect: str
    over: str
    control: str = ""
    link: str = ""
    strength: float = 0.0
    label: str = ""
    names: str = ""
    scope: str = ""
    controlled: bool = True

    @property
    def decided(self) -> bool:
        """Whether there is a sure answer: not one that is undecided, only probable, or not run, or
        without the control that matters.

        >>> Answer("Which are alike?", "undecided", "", "").decided
        False
        """
        open_words = "undecided", "probably", "not run", "not compared"
        return self.controlled and not self.word.startswith(open_words)


@final
@dataclass(frozen=True)
class Point:
    """A model or control in the overview picture.

    Attributes:
        name: the model's name.
        x, y: its place, in units of the dissimilarity; the picture keeps their ratio.
        size: how well it separates classes, a share of images; None where that is not known.
        family: "JE", "REC", the name of a group, or empty.
        control: whether it is a control.
        note: what more is known, for a reader who points at it.
        low, high: the ends of the interval of `size`; None where it has none.
        read: of which features `size` is, in words, where the sentence about sizes names others.
    """

    name: str
    x: float
    y: float
    size: float | None = None
    family: str = ""
    control: bool = False
    note: str = ""
    low: float | None = None
    high: float | None = None
    read: str = ""


@final
@dataclass(frozen=True)
class Overview:
    """The overview picture: models and controls, the more alike the nearer.

    Attributes:
        points: the models, then the controls.
        placed_by: what decides the places, as a sentence.
        sized_by: what decides the sizes, as a sentence; empty where no size is known.
        stress: Kruskal's stress-1 of the picture, 0 where all distances are as they should be.
        chance: the share of images of the most frequent class, the least size that means
            something; None where no size is known.
    """

    points: tuple[Point, ...]
    placed_by: str
    sized_by: str
    stress: float
    chance: float | None = None


@final
@dataclass(frozen=True)
class Card:
    """What to use of a model.

    Attributes:
        title: the model's name.
        use: the block, pooling and classifier to use.
        gain_usual: what that gains over the usual choice, with its interval, or that nothing beats
            the usual choice.
        gain_pixels: what that gains over raw pixels, with its interval, or that nothing beats raw
            pixels.
        why: how it was chosen and judged, and how sure it is.
        beats_pixels: whether it does; None where that is not known.
    """

    title: str
    use: str
    gain_usual: str
    gain_pixels: str
    why: str = ""
    beats_pixels: bool | None = None


@final
@dataclass(frozen=True)
class Front:
    """The first screen of a report.

    Attributes:
        compared: what was compared, in a line.
        answers: at most eight answers, the strongest first.
        overview: the overview picture; None where the similarity of no two models is known.
        cards: what to use, at most four.
        more_cards: the cards of the other models.
        undecided: what is undecided or was not run beyond `answers`, in a line; empty if nothing.
        more_answers: the answers that the first screen has no room for, the strongest first.
        pixels: that raw pixels beat every model, as a sentence; empty where they do not.
        scope: what all answers are about, as a sentence; empty where they are about several things,
            which is then said after what their intervals are over.
        over: what most intervals are over, where `scope` says it; else empty.
        choice: which model to use, or why none is to be preferred or can be chosen, in sentences.
        families: the family of each model under study, by the model's name, where it is known.
        terms: what the answers' numbers mean where they do not say so, and which network of a file
            that holds several was compared, in sentences.
    """

    compared: str
    answers: tuple[Answer, ...] = ()
    overview: Overview | None = None
    cards: tuple[Card, ...] = ()
    more_cards: tuple[Card, ...] = ()
    undecided: str = ""
    more_answers: tuple[Answer, ...] = ()
    pixels: str = ""
    scope: str = ""
    over: str = ""
    choice: str = ""
    terms: str = ""
    families: Mapping[str, str] = field(default_factory=dict)

    @property
    def warning(self) -> str:
        """What a reader must not overlook: that raw pixels are as good as any model, or why no
        model can be chosen; empty where the cards and an answer say which to use."""
        return self.pixels or ("" if self.cards else self.choice)

    def __repr__(self) -> str:
        cards = len(self.cards) + len(self.more_cards)
        return (
            f"<Front of {self.compared}: {len(self.answers)} answers, {spell_count(cards, 'card')}>"
        )
