"""The first screen: which answers stand on it and in which order, the overview picture, the cards,
and what is said where something is missing; on tables that are made up."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from given import make_models
from sslens.analyses.knn_depth import TABLES, TEXTS, UNITS
from sslens.capture import Features, Grams
from sslens.claims.advice import ProbeChoice, Recommendation, judge
from sslens.comparisons import apart, nearby
from sslens.comparisons.choices import (
    Choice,
    Standing,
    list_choices,
    merge_choices,
    read_choices,
)
from sslens.comparisons.classified import Classified, list_disagreements
from sslens.comparisons.inputs import FeatureSets, Labels, Models
from sslens.comparisons.likeness import Likeness, find_groups, make_dissimilarities
from sslens.comparisons.options import Option, Options
from sslens.comparisons.pairs import UNITS as PAIR_UNITS
from sslens.comparisons.pool import ShownImages
from sslens.comparisons.rows import make_results
from sslens.data.images import from_arrays
from sslens.data.transform import EvalTransform
from sslens.figure import Sheet
from sslens.measures.cka import hsic1
from sslens.models.taps import Tap
from sslens.report.answer import make_answer
from sslens.report.front import Front
from sslens.report.front.making import Compared, make_front
from sslens.report.front.screen import Overview, Point
from sslens.report.front.thumbnails import draw_thumbnails
from sslens.report.overview import find_reach, list_ranks
from sslens.report.writing.advice import sentences
from sslens.report.writing.alike import Beside, write_alike
from sslens.report.writing.answer import Told, write_answer
from sslens.report.writing.cards import write_card
from sslens.report.writing.choosing import write_choice, write_pixels, write_separation
from sslens.report.writing.claims import write_claim
from sslens.report.writing.front import ALIKE, APART, BEST, TOGETHER, WITHOUT_PIXELS
from sslens.report.writing.numbers import spell_points, spell_share
from sslens.report.writing.overview import write_read
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.proportions import difference_of_shares
from sslens.statistics.verdicts import Part, Verdict, reach_verdict
from sslens.table import Results, Table

NAMES = ("mae", "mae 1", "dino", "msn")
#: CKA of each two of them: the two MAE are a group, and the two others are no closer than dino–mae
CKA = {
    ("mae", "mae 1"): 0.95,
    ("mae", "dino"): 0.40,
    ("mae", "msn"): 0.20,
    ("mae 1", "dino"): 0.41,
    ("mae 1", "msn"): 0.21,
    ("dino", "msn"): 0.42,
}
CONTROLS = ("random #0", "random #1", "pixels")


def models(names: Sequence[str] = NAMES, **about: Mapping[str, str]) -> Models:
    known = {name: {} for name in (*names, *CONTROLS)} | {"pixels": {"family": "control"}}
    return make_models(list(names), list(CONTROLS), {**known, **about})


def mean(a: str, b: str, cka: float, half: float = 0.02, **more: Any) -> dict[str, Any]:
    own = {"model_a": a, "model_b": b, "tokens": "all", "kind": "block", "minibatches": 32}
    own |= {"control": a in CONTROLS or b in CONTROLS, "cka": cka}
    own |= {"low": cka - half, "high": cka + half, "deconfounded": np.nan}
    own |= {"deconfounded_low": np.nan, "deconfounded_high": np.nan}
    return own | more


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    frame = pd.DataFrame(list(rows))
    return Table(frame, {column: PAIR_UNITS.get(column, column) for column in frame.columns})


def blocks(cka: Mapping[tuple[str, str], float] = CKA, *, late: float = -0.3) -> Results:
    """The tables of cka-blocks, with a control that resembles mae alone."""
    names = list(dict.fromkeys(itertools.chain.from_iterable(cka)))
    rows = [mean(a, b, value) for (a, b), value in cka.items()]
    rows += [mean(a, a, 1.0) for a in (*names, *CONTROLS)]
    rows += [mean(a, "pixels", 0.9 - 0.2 * k) for k, a in enumerate(names[:4])]
    rows += [mean(a, b, 0.99, 0.001) for a, b in itertools.combinations(CONTROLS, 2)]
    less = [
        {**mean(a, b, value), "less": "the first third", "difference": late}
        | {"difference_low": late - 0.1, "difference_high": late + 0.1}
        | {"deconfounded_difference": np.nan}
        for (a, b), value in cka.items()
    ]
    return Results({"means": table(rows)} | ({"late": table(less)} if less else {}))


def right(share: float, count: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count) < share * count


def options(
    model: str, usual: float, other: float | None = None, *, control: bool = False, seed: int = 0
) -> Options:
    """A model of which the usual choice, and perhaps another one, has a share of images right."""
    made = [Option("norm", "cls", usual, right(usual, seed=seed), "raw", k=20, usual=True)]
    if other is not None:
        made.append(
            Option("blocks.3", "patch", other, right(other, seed=seed + 1), "standardised", k=20)
        )
    return Options(model, control, made)


def knn(made: Sequence[Options]) -> Results:
    return make_results(list_choices(made, 0.1), TABLES, UNITS, TEXTS)


USUAL = [
    options("mae", 0.3, 0.5, seed=1),
    options("mae 1", 0.3, seed=3),
    options("dino", 0.9, seed=5),
    options("msn", 0.7, 0.71, seed=7),
    options("random #0", 0.12, control=True, seed=9),
    options("pixels", 0.35, control=True, seed=11),
]


def verdict(claim: str, low: float, tokens: str = "", smallest: float = 0.02) -> Verdict:
    value = low + 0.1 if low > -1 else 0.0
    estimate = Estimate(value, low, value + 0.1, "minibatches", 32)
    part = Part("", Contrast("JE · JE", "JE · REC", estimate), smallest, "cka")
    return reach_verdict(claim, [part], members={"JE": ("dino",)}, tokens=tokens)


def front(results: Mapping[str, Results], verdicts: Sequence[Verdict] = (), **more: Any) -> Front:
    given = {"models": models(), "compared": Compared("birds/val", 1024, 5794)} | more
    return make_front(results, verdicts, **given)


def test_the_screen_of_plain_models() -> None:
    screen = front({"cka-blocks": blocks(), "knn-depth": knn(USUAL)})
    assert screen.compared == "4 models on birds/val, 1,024 of 5,794 images"
    words = {one.question: (one.word, one.names) for one in screen.answers}
    assert words[ALIKE] == ("2 of 4", "mae and mae 1")
    assert words[APART] == ("late", "")
    assert words[BEST] == ("beats pixels", "dino")
    assert screen.scope.startswith("95% intervals over 32 minibatches unless said: of these")
    assert [one.strength for one in screen.answers] == sorted(
        (one.strength for one in screen.answers), reverse=True
    )
    by_question = {one.question: one for one in screen.answers}
    alike = by_question[ALIKE]
    # the weakest inside is 0.95 ± 0.02; dino and msn, at 0.42, are no member: mae 1 and dino are
    assert alike.effect == (
        "CKA: 0.95 [0.93, 0.97] or more within, at most 0.41 [0.39, 0.43] across; 2 in no group"
    )
    assert alike.control == (
        "with raw pixels mae 0.90 and mae 1 0.70, random #0 with random #1 0.99 (plain)"
    )
    assert alike.strength == pytest.approx((0.93 - 0.43) / 0.02)
    assert alike.over == "32 minibatches of images"
    assert by_question[APART].strength == pytest.approx(0.2 / 0.02)
    best = by_question[BEST]
    assert best.effect.startswith("90.0% [")
    assert "+55.0 points [" in best.effect
    assert "+20.0 points [" in best.effect  # 0.9 less the usual 0.7 of msn, as on its card
    assert best.control.startswith("raw pixels 35.0% [")
    assert best.control.endswith("], random #0 12.0%")
    assert best.over == "400 images"
    assert (best.link, alike.link) == ("knn-depth", "cka-blocks")
    assert screen.pixels == ""
    assert screen.undecided == ""
    assert screen.choice.startswith("Use dino: 90.0% [")
    assert "by 20-NN (CLS token at norm), +20.0 points [" in screen.choice
    assert screen.choice.endswith(" over msn.")


def test_the_overview_is_placed_by_likeness_and_sized_by_accuracy() -> None:
    screen = front({"cka-blocks": blocks(), "knn-depth": knn(USUAL)})
    assert screen.overview is not None
    points = {one.name: one for one in screen.overview.points}
    assert list(points) == [*NAMES, *CONTROLS]
    assert points["dino"].size == pytest.approx(0.9)
    assert points["mae"].size == pytest.approx(0.5)  # of the choice, which is not the usual one
    assert points["random #1"].size is None
    assert points["pixels"].control
    assert points["pixels"].x <= 0
    assert screen.overview.chance == 0.1
    # the axis of the accuracies reaches chance, where its line is drawn
    accuracies = [one for one in screen.overview.points if one.size is not None]
    assert find_reach(accuracies)[0] > 0.05 == find_reach(accuracies, 0.05)[0]
    ranks = list_ranks(replace(screen.overview, chance=0.05))
    shared = "CLS token at norm"
    assert screen.overview.sized_by.startswith(f"Points: 20-NN of the {shared}, or as below")
    usual = {one.name for one in screen.overview.points if one.note.endswith(shared)}
    assert {one.name for one in ranks if not one.read} == usual | {"pixels"} & {*points}
    assert len(usual) < len(ranks)
    assert all(point.note.endswith(point.read) for point in screen.overview.points)
    bars = [str(rank.bar) for rank in ranks]
    assert len(bars) == len(accuracies)
    assert all('class="chance" x1="4.00%"' in bar for bar in bars)

    def distance(a: str, b: str) -> float:
        return float(np.hypot(points[a].x - points[b].x, points[a].y - points[b].y))

    near = distance("mae", "mae 1")
    assert near < 0.1 < distance("mae", "msn")
    pairs = [(a, b) for a, b in itertools.combinations(points, 2) if (a, b) in CKA]
    apart_by = np.array([distance(a, b) for a, b in pairs])
    assert np.corrcoef(apart_by, [1 - CKA[pair] for pair in pairs])[0, 1] > 0.9
    assert 0 < screen.overview.stress < 0.3
    assert front({"knn-depth": knn(USUAL)}).overview is None


def test_labels_are_told_and_fine_tuned_random_weights_come_last() -> None:
    """Models that saw labels are named where classes are told apart, and of random weights that
    were fine-tuned, a control, no card takes the place of another model."""
    tuned = {"family": "control", "tuned": "fine-tuned"}
    about = {"dino": tuned, "msn": {"objective": "msn", "tuned": "fine-tuned"}}
    screen = front({"knn-depth": knn(USUAL)}, models=models(**about))
    assert screen.terms == "Trained with labels: dino and msn."
    assert [one.title for one in (*screen.cards, *screen.more_cards)] == [
        *("msn", "mae", "mae 1", "dino")
    ]
    assert "labels" not in front({"cka-blocks": blocks()}, models=models(**about)).terms


def test_cards_say_what_is_gained_and_that_nothing_is() -> None:
    screen = front({"knn-depth": knn(USUAL)})
    cards = {one.title: one for one in (*screen.cards, *screen.more_cards)}
    assert list(cards) == ["dino", "msn", "mae", "mae 1"]
    assert cards["dino"].use.startswith("20-NN, CLS, norm: 90.0%")
    assert cards["dino"].gain_usual == "nothing beats the usual choice"
    assert cards["mae"].use.startswith("20-NN, mean of patch tokens, blocks.3, standardised: 50")
    assert cards["mae"].gain_usual.startswith("+20.0 points [")
    assert cards["mae"].beats_pixels is True
    assert cards["mae 1"].gain_pixels.startswith("undecided against raw pixels (-5.0 points [")
    assert cards["mae"].gain_pixels.endswith(" over raw pixels")
    assert cards["mae 1"].beats_pixels is None
    # one point of 400 images does not decide, so that the usual choice stays
    assert cards["msn"].use.startswith("20-NN, CLS, norm: 70.0%")
    assert cards["msn"].gain_usual.startswith("usual choice; best features +1.0 [")
    (told,) = [one for one in sentences_of(knn(USUAL)) if one.startswith("mae:")]
    assert "20-NN of the mean of patch tokens at blocks.3, standardised: 50.0%" in told
    assert "more than raw pixels (+15.0 points [" in told


def sentences_of(results: Results) -> tuple[str, ...]:
    from sslens.claims.advice import judge

    return sentences(judge({"knn-depth": results}))


def test_raw_pixels_that_beat_every_model_are_named() -> None:
    made = [
        options("mae", 0.3, seed=1),
        options("dino", 0.4, seed=3),
        options("pixels", 0.8, control=True, seed=5),
    ]
    screen = front({"knn-depth": knn(made)})
    assert screen.pixels.startswith(
        "Raw pixels beat every model by 20-NN on 400 images: dino, the nearest, has -40.0"
    )
    assert screen.choice == screen.pixels
    assert {one.gain_pixels.split(" (")[0] for one in screen.cards} == {"below raw pixels"}
    assert [one.beats_pixels for one in screen.cards] == [False, False]
    (answer,) = screen.answers
    assert (answer.word, answer.names) == ("pixels win", "dino")
    # no model is better, and one is as good
    made[1] = options("dino", 0.8, seed=5)
    choices = read_choices(knn(made)["choices"])
    nothing = write_pixels(choices)
    assert nothing.startswith("Nothing is shown to beat raw pixels by 20-NN on 400 images: dino")
    # a probe may tell more than k-NN, and the card under the sentence is of the probe
    usual = ProbeChoice(("norm",), "patch", 1, Estimate(0.442, 0.391, 0.493, n=249), 0.4)
    gain = Estimate(0.067, 0.015, 0.119, n=249)
    probed = Recommendation("mae", usual, usual, usual, "the same", None, 9, over_pixels=gain)
    assert write_pixels(choices, [probed]) == (
        f"{nothing} By a linear probe mae beats them: +6.7 points [+1.5, +11.9]."
    )
    near = [alone("mae", right(0.5)), alone("random #0", right(0.48, seed=1), control=True)]
    untrained = read_choices(knn(near)["choices"])[1]
    for share, beside in ((0.442, "; random #0 (untrained) has 48"), (0.6, "")):
        held = replace(probed, use=replace(usual, accuracy=Estimate(share)), untrained=untrained)
        assert write_card(held).gain_pixels.partition(" over raw pixels")[2][:30] == beside
    assert write_pixels(choices, [probed], read_choices(knn(near)["choices"])).endswith(
        "[+1.5, +11.9], not told apart from random #0 (untrained)."
    )
    assert write_pixels(choices, [replace(probed, over_pixels=Estimate(0.01))]) == nothing
    answer = write_separation(choices, "")
    assert answer.word == "undecided"
    # the accuracy is of k-NN's own features, whatever a card recommends
    (first,) = (one for one in choices if one.model == "dino")
    assert "% [" in answer.effect
    assert f" by 20-NN of the {write_read(first)}, " in answer.effect


def test_one_order_and_one_choice_of_features_everywhere() -> None:
    # the images that choose prefer the usual features of dino, and the others the best of mae
    made = [
        options("msn", 0.40, seed=1),
        Options(
            "dino",
            control=False,
            options=[Option("norm", "cls", 0.6, right(0.49), "raw", k=20, usual=True)],
        ),
        options("mae", 0.35, 0.52, seed=3),
        options("pixels", 0.50, control=True, seed=5),
    ]
    screen = front({"cka-blocks": blocks(), "knn-depth": knn(made)})
    (best,) = [one for one in screen.answers if one.question == BEST]
    assert best.names == "mae or dino, not told apart; mae is above msn"
    assert "+3.0 points [" in best.effect  # 52 less 49, though dino is preferred by what chooses
    assert "+2.0 points [" in best.effect
    assert "over raw pixels (the interval holds 0)" in best.effect
    # the bar and the answer have one number, of the same features
    (gain,) = [part for part in best.effect.split(", ") if part.startswith("+2.0 points")][:1]
    assert gain in screen.choice
    assert "mae, the nearest" in screen.choice
    assert "by 20-NN on" in screen.choice
    assert screen.choice.endswith("over them.")
    assert [one.title for one in screen.cards] == ["mae", "dino", "msn"]
    # without raw pixels the two are named as not told apart, and what is missing is said
    every = blocks()
    rows = every["means"]
    without = {**every.tables, "means": table(rows[rows.model_b != "pixels"].to_dict("records"))}
    alone = front(
        {"cka-blocks": Results(without), "knn-depth": knn(made[:3])},
        models=make_models(list(NAMES), [], {name: {} for name in NAMES}),
    )
    assert alone.choice.startswith("Not told apart on 400 images: mae or dino, +3.0 points [")
    assert "Raw pixels are not compared" in alone.choice
    assert (
        "raw pixels are not compared" in {one.question: one for one in alone.answers}[ALIKE].control
    )
    assert write_choice(()) == ""


def test_all_models_that_are_not_told_apart_are_named() -> None:
    made = [
        options("mae", 0.40, seed=1),
        options("mae 1", 0.39, seed=2),
        options("dino", 0.38, seed=3),
        options("msn", 0.10, seed=4),
        options("random #0", 0.39, control=True, seed=5),
    ]
    (best,) = [one for one in front({"knn-depth": knn(made)}).answers if one.question == BEST]
    named = "mae, mae 1 or dino"
    nor = "nor from random #0 (untrained)"
    assert best.names == f"{named}, not told apart, {nor}; mae is above msn"
    assert write_choice(read_choices(knn(made)["choices"])).startswith(
        f"Not told apart, {nor}, on 400 images: {named}, +1.0 points ["
    )


def test_the_features_of_the_next_model_are_named_where_they_are_others() -> None:
    """As before and after fine-tuning, each read where it is best."""
    said = write_choice(
        read_choices(knn([options("mae", 0.8), options("dino", 0.2, 0.5)])["choices"])
    )
    assert "(CLS token at norm)" in said
    assert said.endswith("over dino (mean of patch tokens at blocks.3, standardised).")
    alike = write_choice(read_choices(knn([options("mae", 0.8), options("dino", 0.5)])["choices"]))
    assert alike.endswith("over dino.")


def test_probes_that_tell_models_apart_where_knn_does_not_are_told() -> None:
    near = [options("mae", 0.40, seed=1), options("dino", 0.39, seed=2), options("msn", 0.1)]
    choices = read_choices(knn(near)["choices"])
    clear = [options("dino", 0.40, seed=1), options("mae", 0.20, seed=2), options("msn", 0.1)]
    probed = [replace(one, k=0, layers=1) for one in read_choices(knn(clear)["choices"])]
    said = write_choice(choices, probed=probed)
    assert said.startswith("Not told apart on 400 images: mae or dino, +1.0 points [")
    assert " By a linear probe dino is above mae: +20.0 points [" in said
    assert write_choice(choices, probed=choices) == write_choice(choices)  # it tells no more
    # by a probe the model that k-NN names is not told apart from the first: nothing is said
    third = [options("dino", 0.40, seed=1), options("mae", 0.39, seed=2), options("msn", 0.1)]
    assert write_choice(choices, probed=read_choices(knn(third)["choices"])).endswith("holds 0).")


def test_no_model_above_chance_is_said() -> None:
    made = [
        options("mae", 0.12, seed=1),
        options("dino", 0.10, seed=2),
        options("pixels", 0.05, control=True, seed=3),
    ]
    (chance,) = {one.chance for one in read_choices(knn(made)["choices"])}
    screen = front({"knn-depth": knn(made)})
    (best,) = [one for one in screen.answers if one.question == BEST]
    assert chance == pytest.approx(0.1)
    assert best.control.endswith(", chance 10.0%")
    assert screen.choice.startswith(
        "No model is shown to be above chance, 10.0%, always the most frequent class: mae, the"
        " first, has 12.0% [9."
    )
    better = [options("mae", 0.3, seed=1), *made[1:]]
    (best,) = [one for one in front({"knn-depth": knn(better)}).answers if one.question == BEST]
    assert "chance" not in best.control


def alone(model: str, judged: np.ndarray, *, control: bool = False) -> Options:
    """A model of which only the usual choice can be made."""
    only = Option("norm", "cls", 0.5, judged, "raw", k=20, usual=True)
    return Options(model, control, [only])


def test_of_models_that_are_all_alike_hardly_ever_one_is_above_another() -> None:
    """The first of twelve is picked on the images that judge, with its better features: at 95 % it
    may be above one of the others in 2 of 40 draws."""
    above, generator = 0, np.random.default_rng(0)
    for _ in range(40):
        made = []
        for number in range(12):
            usual, other = generator.random((2, 300)) < 0.3
            made.append(
                Options(
                    f"model {number}",
                    False,
                    [
                        Option("norm", "cls", 0.3, usual, "raw", k=20, usual=True),
                        Option("blocks.3", "cls", 0.4, other, "raw", k=20),
                    ],
                )
            )
        above += bool(Standing.of(read_choices(knn(made)["choices"])).below)
    assert above <= 4


def test_two_models_have_the_interval_of_their_difference() -> None:
    made = [alone("a", right(0.5)), alone("b", right(0.3, seed=1))]
    table = knn(made)["choices"].set_index("model")
    expected = difference_of_shares(right(0.5), right(0.3, seed=1))
    assert table.first_over_low["b"] == pytest.approx(expected.low)


def test_features_that_are_not_above_chance_replace_nothing_and_are_not_recommended() -> None:
    """Of shuffled labels the chosen features may gain over usual ones that are below chance."""
    less, more = (np.arange(400) < share * 400 for share in (0.05, 0.11))
    options = [
        Option("norm", "cls", 0.05, less, "raw", k=20, usual=True),
        Option("blocks.3", "cls", 0.11, more, "raw", k=20),
    ]
    results = knn([Options("mae", False, options)])
    assert difference_of_shares(more, less).low > 0.005
    assert results["choices"].use.tolist() == ["usual"]
    (one,) = judge({"knn-depth": results})
    assert (one.answer, one.use) == ("undecided", one.usual)
    card = write_card(one).use
    assert card.startswith("nothing recommended, not shown to be above chance (10.0%): 20-NN")
    assert "nothing is recommended" in sentences([one])[0]


def test_a_gain_that_is_one_of_twelve_must_be_surer() -> None:
    """A gain with an interval just above 0 is expected by chance in one of forty models."""
    usual = np.arange(400) < 120
    best = (np.arange(400) < 132) & (np.arange(400) > 2)  # 12 wins and 3 losses
    one = [
        Option("norm", "cls", 0.3, usual, "raw", k=20, usual=True),
        Option("blocks.3", "cls", 0.4, best, "raw", k=20),
    ]
    mae, others = Options("mae", False, one), [alone(f"model {at}", usual) for at in range(11)]
    assert difference_of_shares(best, usual).low > 0
    assert knn([mae])["choices"].use[0] == "chosen"
    assert knn([mae, *others])["choices"].use[0] == "usual"


def test_each_is_held_against_the_first_on_the_same_images() -> None:
    """Two that are below it on most images that they do not share are below, though their intervals
    overlap; which models the images that choose prefer plays no part."""
    best = right(0.30)
    less = best & (np.cumsum(best) % 4 > 0)  # right where the first is, but for every fourth
    made = [
        alone("random-ft", less),
        alone("dino", right(0.28, seed=1)),
        alone("ft", best),
        alone("random #0", less, control=True),
        alone("random #1", right(0.27, seed=2), control=True),
    ]
    table = knn(made)["choices"].set_index("model")
    assert table.high["random-ft"] > table.low["ft"]  # the intervals overlap
    assert table["first"].to_dict() == {name: name == "ft" for name in table.index}
    expected = difference_of_shares(best, less)
    assert table.first_over["random-ft"] == expected.value == pytest.approx(0.075)
    assert 0 < table.first_over_low["random-ft"] < expected.low  # it holds with the others at once
    answer = write_separation(read_choices(knn(made)["choices"]), "")
    assert answer.names == (
        "ft or dino, not told apart, nor from random #1 (untrained);"
        " ft is above random-ft and random #0 (untrained)"
    )
    # that one model is below tells nothing of an untrained one
    made = [made[0], made[2], made[4]]
    choices = read_choices(knn(made)["choices"])
    assert write_separation(choices, "").names == (
        "ft, not told apart from random #1 (untrained); ft is above random-ft"
    )
    said = write_choice(choices)
    assert said.startswith("Not told apart from random #1 (untrained) on 400 images: ft, 30.0% [")
    (random,) = [one for one in choices if one.model == "random #1"]
    assert f"; random #1 {spell_share(random.use)}." in said


def test_the_headline_the_table_and_the_cards_are_of_what_is_to_be_used() -> None:
    """Features that some images chose and others find worse are used nowhere."""
    worse = Options(
        "mae",
        False,
        [
            Option("norm", "cls", 0.3, right(0.5, seed=1), "raw", k=20, usual=True),
            Option("blocks.1", "patch", 0.4, right(0.3, seed=2), "standardised", k=20),
        ],
    )
    made = [worse, options("dino", 0.3, 0.45, seed=5), options("pixels", 0.4, control=True)]
    results = {"cka-blocks": blocks(), "knn-depth": knn(made)}
    screen = front(results)
    gain = difference_of_shares(worse.usual.right, made[2].best.right)
    spelt = spell_points(gain)
    assert spelt.startswith("+10.0 points [")
    (answer,) = [one for one in screen.answers if one.question == BEST]
    assert f"{spelt} over raw pixels" in answer.effect
    cards = {one.title: one for one in screen.cards}
    assert cards["mae"].gain_pixels == f"{spelt} over raw pixels"
    assert cards["mae"].use.startswith("20-NN, CLS, norm: 50.0% [")
    rows = make_answer(results, models()).frame.set_index("model")
    assert rows.over_pixels["mae"] == gain.value == pytest.approx(rows.knn["mae"] - 0.4)
    assert rows.best_tap.to_dict() | {"mae": "norm", "dino": "blocks.3"} == rows.best_tap.to_dict()
    assert (rows.knn_features["mae"], rows.knn_features["dino"]) == ("raw", "standardised")
    assert rows.over_usual["mae"] == pytest.approx(-0.2)  # why the chosen features are not used
    assert screen.overview is not None
    points = {one.name: one for one in screen.overview.points}
    assert points["mae"].size == 0.5
    assert points["mae"].note.endswith("CLS token at norm")
    said = " ".join(
        line.text
        for line in write_answer(
            make_answer(results, models()).frame.to_dict("records"), Told("t", choice=screen.choice)
        )
    )
    assert re.search(r"mae +norm, CLS +50\.0 \[", said)
    assert "What to use: usual features (last layer), or where better (dino) those chosen" in said


def test_a_word_over_several_models_holds_of_all_of_them() -> None:
    pixels = options("pixels", 0.10, control=True, seed=6)
    made = [options("mae", 0.40, seed=1), options("mae 1", 0.39, seed=2), pixels]

    def answer() -> Any:
        (best,) = [one for one in front({"knn-depth": knn(made)}).answers if one.question == BEST]
        return best

    assert answer().word == "beats pixels"
    assert answer().effect.startswith("mae 40.0% [")  # whose number it is
    untrained = options("random #0", 0.39, control=True, seed=5)
    made.append(untrained)  # which is as good: no training is rewarded
    assert answer().word == "undecided"
    made[1:3] = [options("mae 1", 0.35, seed=2), options("pixels", 0.33, control=True, seed=6)]
    made.remove(untrained)
    assert answer().names.startswith("mae or mae 1")
    assert answer().word == "undecided"  # mae 1 does not beat them, whatever mae does


def test_one_choice_of_probes_of_two_exhibits() -> None:
    """What validation images prefer equally is the usual choice, then the simplest."""

    def choose(*options: Option) -> Choice:
        (choice,) = read_choices(knn([Options("mae", False, options, 18)])["choices"])
        return choice

    usual = Option("norm", "cls", 0.2, right(0.2), layers=1, usual=True)
    deep = choose(usual, Option("norm", "patch", 0.4, right(0.3), layers=3))
    other = choose(usual, Option("blocks.2", "patch", 0.4, right(0.33), layers=1))
    for order in ([deep, other], [other, deep]):
        assert merge_choices(order)["mae"] is other
    better = choose(usual, Option("norm", "patch", 0.41, right(0.3), layers=3))
    assert merge_choices([better, other])["mae"] is better
    assert (deep.is_usual, choose(usual).is_usual, deep.chosen_on) == (False, True, 18)


def test_images_without_labels_and_fingerprints_choose_nothing_and_say_so() -> None:
    left_out = {"knn-depth": "the images have no classes"}
    flat = Compared("flat", 96, None, left_out, labelled=False)
    screen = front({"cka-blocks": blocks()}, compared=flat)
    assert screen.choice.startswith("Labels are needed to choose a model: ")
    left_out = {"knn-depth": "fingerprints hold Grams only"}
    prints = front({"cka-blocks": blocks()}, compared=Compared("photos", 96, None, left_out))
    assert prints.choice == "Nothing here tells which model to use: fingerprints hold Grams only."


def test_a_cnn_has_no_tokens() -> None:
    made = [
        Options(
            "own", False, [Option("layers.3", "mean", 0.9, right(0.9), "raw", k=20, usual=True)]
        ),
        options("pixels", 0.3, control=True, seed=5),
    ]
    given = make_models(["own"], ["pixels"], {"own": {"network": "cnn"}, "pixels": {}})
    screen = front({"cka-blocks": blocks({}), "knn-depth": knn(made)}, models=given)
    assert "(mean over places at layers.3)" in screen.choice
    assert screen.cards[0].use.startswith("20-NN, mean over places, layers.3: 90.0%")


def test_a_family_has_one_colour_whatever_else_is_compared() -> None:
    own, dino, mae = (
        Point(name, float(place), 0.0, 0.5, family)
        for place, (name, family) in enumerate({"own": "", "dino": "JE", "mae": "REC"}.items())
    )

    def colours(*points: Point) -> dict[str, str]:
        return {one.name: one.style for one in list_ranks(Overview(points, "", "", 0.0))}

    assert colours(own, dino)["dino"] == colours(mae, dino)["dino"] == "c1"
    assert colours(own, mae)["mae"] == colours(mae, dino)["mae"] == "c2"
    assert colours(own, dino)["own"] not in ("c1", "c2")
    assert colours(own)["own"] == "c1"


def test_models_that_share_no_more_than_pixels_are_not_called_alike() -> None:
    """Two models as alike as one of them is to the pixels, which explain the other."""

    def ask(value: float, *with_pixels: float) -> Any:
        rows = [mean("cnn", "vit", value)]
        rows += [
            mean(name, "pixels", own, 0.02)
            for name, own in zip(("cnn", "vit"), with_pixels, strict=False)
        ]
        rows += [mean("random #0", "random #1", 0.39)]
        known: dict[str, dict[str, str]] = {name: {} for name in ("cnn", "vit", *CONTROLS)}
        given = make_models(["cnn", "vit"], list(CONTROLS), known)
        (answer,) = front({"cka-blocks": Results({"means": table(rows)})}, models=given).answers
        return answer

    same = ask(0.704, 0.709, 0.9987)
    assert (same.word, same.decided, same.strength) == ("undecided", False, 0)
    assert same.effect == (
        "mean CKA at the same depth 0.70 [0.68, 0.72]; cnn and vit are not shown to be more alike"
        " than cnn is to raw pixels, 0.71 [0.69, 0.73]"
    )
    assert same.control.startswith(
        "with raw pixels cnn 0.71 and vit 1.00 (not regressed out: over 95% of vit is pixels)"
    )
    less = ask(0.6, 0.709, 0.9987)
    assert (less.word, less.strength) == ("no more than pixels", 0)
    more = ask(0.8, 0.709, 0.9987)
    assert (more.word, more.decided) == ("0.80", True)
    assert "over 95% of vit is pixels" in more.control
    alone = ask(0.8)
    assert (alone.word, alone.decided) == ("0.80", False)
    assert alone.control.startswith("raw pixels are not compared")


def test_a_group_that_pixels_explain_is_undecided_and_its_numbers_are_extremes() -> None:
    wide = {("mae", "mae 1"): 0.05, ("mae", "dino"): 0.1, ("mae 1", "dino"): 0.01}
    values = {("mae", "mae 1"): 0.9, ("mae", "dino"): 0.40, ("mae 1", "dino"): 0.43}
    rows = [mean(a, b, value, wide[a, b]) for (a, b), value in values.items()]

    def ask(level: float) -> Any:
        more = [mean(name, "pixels", level) for name in ("mae", "mae 1", "dino")]
        screen = front({"cka-blocks": Results({"means": table([*rows, *more])})})
        return next(one for one in screen.answers if one.question == ALIKE)

    # of the two across, 0.40 has the higher end, and 0.43 is the higher value
    assert ask(0.5).effect.startswith(
        "CKA: 0.90 [0.85, 0.95] or more within, at most 0.43 [0.42, 0.44] across"
    )
    assert (ask(0.5).word, ask(0.5).strength) == ("2 of 3", pytest.approx(0.35 / 0.02))
    explained = ask(0.98)
    assert (explained.word, explained.names) == ("undecided", "")
    assert explained.effect.endswith("more alike than mae is to raw pixels, 0.98 [0.96, 1.00]")
    assert "over 95% of mae, mae 1 and dino is pixels" in explained.control


def test_low_likeness_is_no_likeness_and_undecided_has_its_reason() -> None:
    def ask(value: float, half: float, n: int = 32) -> tuple[str, str]:
        cka = Estimate(value, value - half, value + half, "minibatches", n)
        answer = write_alike([Likeness("a", "b", False, cka, cka, False)], (), Beside(), "")
        return answer.word, answer.effect

    assert ask(-0.01, 0.06)[0] == "not alike"
    assert ask(0.5, 0.1)[0] == "0.50"
    word, effect = ask(0.2, 0.3)
    assert (word, effect[-23:]) == ("undecided", " (the interval holds 0)")
    few = blocks({("mae", "dino"): 0.4})
    late = few["late"].assign(minibatches=4)
    screen = front(
        {
            "cka-blocks": Results(
                {"means": table([mean("mae", "dino", 0.4)]), "late": table(late.to_dict("records"))}
            )
        }
    )
    (parting,) = [one for one in screen.answers if one.question == APART]
    assert parting.word == "undecided"
    assert parting.effect.endswith("(there are too few minibatches)")


@pytest.mark.parametrize(("holding", "shown"), [(4, []), (2, ["C7", "C8", "C13"])])
def test_undecided_claims_are_listed_where_enough_others_are_shown(
    holding: int, shown: list[str]
) -> None:
    """They take the room of an answer only where fewer than six others have something to say."""
    held = [verdict(f"c{number}", 0.1) for number in (1, 3, 5, 6)[:holding]]
    open_ones = [verdict(f"c{number}", -0.1) for number in (7, 8, 13)]
    results = {"cka-blocks": blocks(), "knn-depth": knn(USUAL)}
    screen = front(results, [verdict("c2", 0.1), *held, *open_ones])
    undecided = [one.label for one in screen.answers if one.label and one.word == "undecided"]
    assert undecided == shown
    expected = "C7; C8; C13, under “More answers”" if not shown else "C7; C8; C13"
    assert screen.undecided == f"Undecided: {expected}."


@pytest.mark.parametrize("several", [3, 30])
def test_at_most_eight_answers_the_strongest_first(several: int) -> None:
    verdicts = [verdict(f"c{k}", 0.02 * k) for k in range(3, several) if k not in (9,)]
    verdicts = [one for one in verdicts if one.claim in {f"c{k}" for k in range(1, 22)}]
    verdicts.append(verdict("c1", -2.0))
    screen = front({"cka-blocks": blocks(late=0.0), "knn-depth": knn(USUAL)}, verdicts)
    assert len(screen.answers) <= 8
    asked = [one.question for one in screen.answers]
    assert {ALIKE, BEST} <= set(asked)
    everything = [*screen.answers, *screen.more_answers]
    assert len(everything) == len(verdicts) + 3
    strengths = [one.strength for one in screen.answers]
    assert strengths == sorted(strengths, reverse=True)
    weakest = min(one.strength for one in screen.answers if one.question not in (ALIKE, BEST))
    assert all(one.strength <= weakest for one in screen.more_answers)
    # what is undecided is said, whether or not it is on the screen
    assert screen.undecided == f"Undecided: {APART} C1." or screen.undecided == "Undecided: C1."


def test_a_claim_that_depends_on_the_tokens_is_one_answer() -> None:
    holds, other = verdict("c3", 0.1, "all"), verdict("c3", 0.1, "cls")
    (same,) = front({}, [holds, other]).answers
    assert (same.word, same.label) == ("holds", "C3")
    assert same.effect == "CKA +0.20 [+0.10, +0.30], (JE with JE) − (JE with REC)"
    assert (same.over, same.scope) == ("32 minibatches of images", "in these models")
    against = Contrast("JE · JE", "JE · REC", Estimate(-0.2, -0.3, -0.1, "minibatches", 32))
    other = reach_verdict("c3", [Part("", against, 0.02, "cka")], members={}, tokens="cls")
    (both,) = front({}, [holds, other]).answers
    assert both.word == "depends"
    assert "over all tokens holds: CKA +0.20" in both.effect
    assert "in the CLS token contradicted: CKA -0.20" in both.effect
    assert both.strength == pytest.approx(5.0)


def test_a_claim_that_the_pixels_turn_round_depends() -> None:
    seen = verdict("c3", 0.1, "all").parts[0]
    controls = [
        Contrast(
            f"{seen.contrast.a}, {WITHOUT_PIXELS}",
            seen.contrast.b,
            Estimate(*ends, "minibatches", 32),
        )
        for ends in (
            (-0.2, -0.3, -0.1),
            (0.2, 0.1, 0.3),
            (-0.01, -0.3, 0.1),
            (-0.012, -0.015, -0.01),
        )
    ]
    words, texts = [], []
    for control in controls:
        reached = reach_verdict("c3", [seen], members={}, controls=[control], tokens="all")
        (answer,) = front({}, [reached]).answers
        words.append(answer.word)
        texts.append(write_claim("It is so.", [reached]))
        assert WITHOUT_PIXELS in answer.control
        assert answer.control.startswith("the reverse, ") == (control is controls[0])
        assert answer.effect.startswith("holds: ") == (answer.word == "depends")
    # an open one reverses nothing, and one that is too little leaves nothing
    assert words == ["depends", "holds", "holds", "depends"]
    said = f"C3 holds in these models, the reverse with {WITHOUT_PIXELS}: It is so."
    assert [said in text for text in texts] == [True, False, False, False]
    assert texts[3].startswith(f"C3 holds in these models, not seen with {WITHOUT_PIXELS}: It is")


def test_a_control_is_of_the_difference_and_the_tokens_that_are_shown() -> None:
    def estimate(value: float, half: float = 0.01) -> Estimate:
        return Estimate(value, value - half, value + half, "minibatches", 32)

    def part(less: str, value: float, beyond: float, half: float = 0.01) -> Part:
        control = Contrast(f"fc1, {WITHOUT_PIXELS},", less, estimate(beyond))
        seen = Contrast("fc1 of JE · REC", less, estimate(value, half))
        return Part(f"{less}:", seen, 0.02, "cka", controls=(control,))

    norms, attention = part("norm1", 0.2, 0.3), part("qkv", 0.01, 0.04, half=0.05)
    reached = reach_verdict("c3", [norms, attention], members={}, tokens="all")
    (answer,) = front({}, [reached]).answers
    assert answer.word == "undecided"
    assert answer.effect.startswith("CKA +0.01 [-0.04, +0.06], (fc1 of JE with REC) − qkv, qkv")
    assert answer.control == f"{WITHOUT_PIXELS} +0.04 [+0.03, +0.05]"
    assert "fc1, pixels regressed out, less norm1 +0.30" in write_claim("So.", [reached])

    turned = reach_verdict("c3", [norms, part("qkv", 0.2, -0.2)], members={}, tokens="all")
    (answer,) = front({}, [turned]).answers
    assert answer.effect.startswith("holds: CKA +0.20 [+0.19, +0.21], (fc1 of JE with REC) − qkv")
    assert answer.control == f"the reverse, {WITHOUT_PIXELS} -0.20 [-0.21, -0.19]"

    both = [
        reach_verdict(
            "c18",
            [Part("", Contrast("REC · JE", "late", estimate(value)), 0.02, "cka")],
            members={},
            controls=[Contrast("JE · JE", "late", estimate(control))],
            tokens=tokens,
        )
        for tokens, value, control in (("all", 0.13, 0.15), ("cls", 0.005, -0.01))
    ]
    (answer,) = front({}, both).answers
    assert answer.effect.startswith("over all tokens holds: CKA +0.13")
    assert answer.control == (
        "over all tokens JE with JE +0.15 [+0.14, +0.16]; in the CLS token JE with JE -0.01"
        " [-0.02, +0.00]"
    )
    open_one = Contrast("REC · JE", "late", estimate(0.005, 0.05))
    both[1] = replace(
        both[1], outcome="undecided", parts=(Part("", open_one, 0.02, "cka"),), scope=""
    )
    (answer,) = front({}, both).answers
    assert answer.effect.startswith("over all tokens holds; in the CLS token undecided: CKA")
    assert answer.control == "JE with JE -0.01 [-0.02, +0.00]"


def test_answers_about_models_and_about_objectives_say_so() -> None:
    holds = verdict("c3", 0.1)
    more = Contrast("JE", "REC", Estimate(0.3, 0.2, 0.4, "minibatches and trainings", 4))
    wide = reach_verdict("c4", [replace(holds.parts[0], trainings=more)], members={})
    screen = front({}, [holds, wide])
    assert screen.scope == ""
    overs = {one.label: one.over for one in screen.answers}
    assert overs["C3"] == "32 minibatches of images, in these models"
    assert overs["C4"] == "images and trainings, 4 or more a side, of these objectives"


def test_a_question_that_a_claim_answers_is_not_asked_again() -> None:
    results = {"cka-blocks": blocks()}
    asked = [one.question for one in front(results).answers]
    assert APART in asked
    assert APART not in [one.question for one in front(results, [verdict("c2", 0.1)]).answers]


def test_fine_tuning_is_held_against_random_weights_that_were_fine_tuned() -> None:
    family: dict[str, dict[str, Any]] = {"mae": {"family": "REC", "objective": "mae"}}
    family["dino"] = {"family": "JE", "objective": "dino"}
    for name in ("mae", "dino"):
        family[f"{name} ft"] = {**family[name], "tuned": "fine-tuned"}
    family["random ft"] = {"tuned": "fine-tuned", "pretrained": {"source": "random:vit:0"}}
    family = {name: {"arch": "vit", **about} for name, about in family.items()}
    given = make_models(list(family), [], family)

    def ask(end: float, control: float) -> tuple[str, float]:
        pairs = {("mae", "dino"): 0.3, ("mae ft", "dino ft"): end, ("mae", "mae ft"): 0.8}
        pairs |= {("dino ft", "random ft"): control, ("mae ft", "random ft"): 0.7}
        results = Results({"means": table([mean(a, b, v) for (a, b), v in pairs.items()])})
        screen = make_front({"cka-finetune": results}, (), given, Compared())
        (answer,) = [one for one in screen.answers if one.question == TOGETHER]
        assert "(unpaired, so wider" in answer.effect
        return answer.word, answer.strength

    # unpaired: 0.6 ± 0.02 less 0.3 ± 0.02
    assert ask(0.6, 0.4) == ("yes", pytest.approx((0.58 - 0.32) / 0.02))
    assert ask(0.6, 0.7)[0] == "only as labels do"
    assert ask(0.6, 0.6)[0] == "yes, undecided against labels alone"
    assert ask(0.1, 0.6)[0] == "no, apart"
    assert ask(0.31, 0.6) == ("undecided", 0.0)


def test_one_model_and_fingerprints_and_no_labels() -> None:
    alone = front(
        {"cka-blocks": blocks({}), "knn-depth": knn([USUAL[2], USUAL[5]])}, models=models(["dino"])
    )
    assert alone.compared == "dino on birds/val, 1,024 of 5,794 images"
    (answer,) = alone.answers
    assert answer.question == "Does dino separate the classes better than pixels?"
    assert (answer.word, answer.names) == ("beats pixels", "")
    left_out = {"knn-depth": "fingerprints hold the Grams of minibatches only"}
    prints = front({"cka-blocks": blocks()}, compared=Compared("photos", 96, None, left_out))
    assert prints.compared == "4 models on photos, 96 images"
    assert prints.cards == ()
    assert prints.overview is not None
    assert (prints.overview.sized_by, prints.overview.chance) == ("", None)
    assert prints.undecided.startswith(f"Not run: {BEST} (fingerprints hold")
    nothing = make_front({}, (), models(), Compared())
    assert (nothing.answers, nothing.overview, nothing.cards) == ((), None, ())


def test_forty_models() -> None:
    names = [f"model {k} " + "x" * 200 for k in range(40)]
    pairs = dict.fromkeys(itertools.combinations(names, 2), 0.3)
    for a, b in itertools.combinations(names[:30], 2):
        pairs[a, b] = 0.8
    made = [options(name, 0.2 + 0.01 * k, seed=k) for k, name in enumerate(names)]
    screen = front({"cka-blocks": blocks(pairs), "knn-depth": knn(made)}, models=models(names))
    assert (len(screen.answers), len(screen.cards), len(screen.more_cards)) == (3, 4, 36)
    alike = next(one for one in screen.answers if one.question == ALIKE)
    assert alike.word == "30 of 40"
    assert alike.names.endswith("and 27 more")
    assert screen.overview is not None
    assert len(screen.overview.points) == 43


def test_a_claim_about_a_group_without_members_is_not_run_and_said() -> None:
    empty = Verdict("c4", "not run", why="it needs a CNN", members={})
    screen = front({"cka-blocks": blocks()}, [verdict("c1", 0.1), empty])
    assert "C4" not in [one.label for one in (*screen.answers, *screen.more_answers)]
    assert screen.undecided == "Not run: C4."
    # of plain models no claim has a verdict, and none is spoken of
    assert front({"cka-blocks": blocks()}, [empty]).undecided == ""


# ------------------------------------------------------------------------------------------------
# what the screen reads


def likeness(a: str, b: str, value: float, half: float = 0.01) -> Likeness:
    estimate = Estimate(value, value - half, value + half, "minibatches", 32)
    return Likeness(a, b, False, estimate, estimate, True)


def test_groups_are_sets_of_which_any_two_are_more_alike_than_any_with_another() -> None:
    rng = np.random.default_rng(0)
    names = list("abcdef")
    for trial in range(40):
        values = {pair: rng.choice([0.2, 0.5, 0.9]) for pair in itertools.combinations(names, 2)}
        pairs = [likeness(a, b, value) for (a, b), value in values.items()]
        expected: list[set[str]] = []
        for size in range(len(names) - 1, 1, -1):  # all subsets, the larger ones first
            for some in itertools.combinations(names, size):
                own = [v for pair, v in values.items() if set(pair) <= set(some)]
                across = [v for pair, v in values.items() if len(set(pair) & set(some)) == 1]
                if min(own) - max(across) > 0.02 and not any(set(some) <= o for o in expected):
                    expected.append(set(some))
        found = [set(one.members) for one in find_groups(pairs)]
        assert sorted(map(sorted, found)) == sorted(map(sorted, expected)), trial
    assert find_groups([likeness("a", "b", 0.9)]) == ()
    wide = [likeness("a", "b", 0.9, 0.45), likeness("a", "c", 0.5), likeness("b", "c", 0.5)]
    assert find_groups(wide) == ()  # their intervals overlap
    assert make_dissimilarities(wide, ["c", "b"]).tolist() == [[0, 0.5], [0.5, 0]]


def test_images_on_which_models_differ_are_measured_row_by_row() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(24, 6, generator=rng)
    y = x.clone()
    y[5] = torch.randn(6, generator=rng) * 3
    sizes = np.array([10, 14])
    one, other = (Grams.of_features([z, z**2, z * 0], sizes=sizes) for z in (x, y))
    values = apart.compare_images(one, other)
    expected = np.zeros((2, 24))
    total = 0.0
    for tap, power in enumerate((1, 2)):
        for rows in (range(10), range(10, 24)):
            n, centred = len(rows), []
            for z in (x, y):
                part = (z[list(rows)] ** power).double().numpy()
                part = part - part.mean(0)
                k = part @ part.T
                np.fill_diagonal(k, 0)
                sums = k.sum(0)
                k = k - (sums[:, None] + sums[None]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
                np.fill_diagonal(k, 0)
                centred.append(k)
            a, b = centred
            for i, row in enumerate(rows):
                expected[tap, row] = a[i] @ b[i] / np.sqrt((a[i] @ a[i]) * (b[i] @ b[i]))
            if not tap:
                blocks_of = [g.blocks[0, 0, :10, :10] for g in (one, other)]
                total = total or float((a * b).sum() / (n * (n - 3)) - hsic1(*blocks_of))
    np.testing.assert_allclose(values, expected.mean(0), atol=1e-6)  # the constant tap has no part
    assert abs(total) < 1e-4  # the rows add up to HSIC_1
    assert values.argmin() == 5
    given = models(["a", "b"])
    rows = [
        row for _, row in apart.list_images_apart(given, {"a": one, "b": other}, "all", "array")
    ]
    assert [row["image"] for row in rows] == [str(i) for i in np.argsort(expected.mean(0))[:4]]
    assert rows[0]["mean_similarity"] == pytest.approx(expected.mean(), abs=1e-6)


def test_a_choice_is_made_on_other_images_than_it_is_judged_on() -> None:
    made = [
        Options(
            "mae",
            False,
            [
                Option("norm", "cls", 0.5, right(0.6), "raw", k=20, usual=True),
                Option("blocks.1", "cls", 0.5, right(0.9, seed=1), "raw", k=20),
                Option("blocks.2", "cls", 0.6, right(0.4, seed=2), "raw", k=20),
            ],
        )
    ]
    ((_, row),) = list_choices(made, 0.1)
    assert row["tap"] == "blocks.2"  # 0.9 of the images that judge play no part
    assert row["over_usual"] == pytest.approx(-0.2)
    choice = Choice.of({**row, **dict.fromkeys(missing(row), np.nan)})
    assert not choice.replaces_usual
    assert choice.use.value == pytest.approx(0.6)
    assert not choice.over_pixels.defined
    made[0] = Options("mae", False, made[0].options[:2])
    ((_, row),) = list_choices(made, 0.1)
    assert row["tap"] == "norm"  # of equally good ones the usual one
    assert "over_usual" not in row


def missing(row: Mapping[str, Any]) -> list[str]:
    return [name for name in TABLES["choices"] if name not in row]


def test_images_that_one_model_alone_has_right() -> None:
    ids = tuple(f"image {k}" for k in range(40))
    labels = Labels(dict.fromkeys(ids, 0), classes=("cat", "dog"))
    values = {("norm", "cls"): torch.zeros(40, 1)}
    given = models(["a", "b"])
    features = FeatureSets({name: Features.of(values, ids=ids) for name in ("a", "b")})
    predicted = {"a": np.zeros(40, np.int64), "b": np.ones(40, np.int64)}
    predicted["b"][:30] = 0
    predicted["a"][:2] = 1
    classified = {
        name: [Classified({}, classes == 0), Classified({}, classes == 0, classes)]
        for name, classes in predicted.items()
    }
    rows = [row for _, row in list_disagreements(given, features, labels, classified)]
    assert [(row["right"], row["count"], row["place"]) for row in rows] == [
        *(("a", 10, place) for place in range(3)),
        *(("b", 2, place) for place in range(2)),
    ]
    assert {(row["predicted_a"], row["predicted_b"]) for row in rows[:3]} == {("cat", "dog")}
    assert {row["image"] for row in rows[3:]} == {"image 0", "image 1"}


def test_thumbnails_are_of_the_images_that_the_tables_name() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 3), np.uint8)
    images = from_arrays(pixels, [0] * 6, ["cat"])
    view = EvalTransform(resize=48, crop=48)
    shown = ShownImages(images, view, {})
    names = {"model_a": "a", "model_b": "b"}
    apart_rows = [
        names | {"image": images.ids[row], "similarity": level, "place": place}
        for place, (row, level) in enumerate([(4, 0.1), (2, 0.25)])
    ]
    right_rows = [
        names | {"right": name, "count": 7, "images": 40, "image": images.ids[row]}
        for name, row in (("a", 0), ("a", 1), ("b", 5))
    ]
    results = {
        "cka-blocks": Results({"apart": plain(apart_rows)}),
        "knn-depth": Results({"disagreements": plain(right_rows)}),
    }
    drawn = draw_thumbnails(results, shown)
    (first,), (second,) = drawn["cka-blocks"], drawn["knn-depth"]
    assert isinstance(first, Sheet)
    assert isinstance(second, Sheet)
    assert first.facets == second.facets == {"pair": "a · b"}
    assert (first.columns, first.pixels.shape) == (
        ("0.10", "0.25"),
        (1, 2, 40, 40, 3),
    )
    small = Image.fromarray(pixels[4]).resize((40, 40), Image.Resampling.BOX)
    assert (first.pixels[0, 0] == np.asarray(small)).all()
    assert second.rows == ("only a right: 7 of 40", "only b right: 7 of 40")
    assert (second.pixels[1, 1] == 255).all()  # b has one such image, and a two
    assert draw_thumbnails({}, shown) == {}
    near_rows = [
        {"model": "a", "image": images.ids[0], "label": "cat", "tap": tap, "neighbour": other}
        | {"neighbour_label": label}
        for tap in ("blocks.0", "norm")
        for other, label in ((images.ids[3], "cat"), (images.ids[1], "dog"))
    ]
    bank = ShownImages(from_arrays(255 - pixels, [0] * 6, ["cat"]), view, {})
    tables = {"knn-depth": Results({"neighbours": plain(near_rows)})}
    for among in (None, bank):
        (sheet,) = draw_thumbnails(tables, shown, among)["knn-depth"]
        assert isinstance(sheet, Sheet)
        assert sheet.rows == ("blocks.0: 1 of 2 of its class", "norm: 1 of 2 of its class")
        assert sheet.facets == {"model": "a", "image": f"cat, {images.ids[0]}"}
        assert (sheet.pixels[0, 0] == first_of(pixels[0])).all()
        assert (sheet.pixels[1, 1] == first_of((among or shown).images.image(3))).all()


def first_of(pixels: Any) -> np.ndarray:
    return np.asarray(Image.fromarray(np.asarray(pixels)).resize((40, 40), Image.Resampling.BOX))


@pytest.mark.parametrize("own_bank", [False, True])
def test_neighbours_are_the_nearest_after_each_layer(own_bank: bool) -> None:
    rng, ids = np.random.default_rng(0), tuple(f"image {k}" for k in range(12))
    taps = ("blocks.0", "blocks.1", "norm")
    values = {(tap, "cls"): torch.tensor(rng.normal(size=(12, 4))).float() for tap in taps}
    values["blocks.1", "cls"][:] = 1.0  # all alike: no neighbours
    classes = {name: k % 3 for k, name in enumerate(ids)}
    known = Labels(classes, classes if own_bank else {}, classes=("cat", "dog", "bird"))
    places = [Tap(tap, "block" if tap[0] == "b" else "norm", k / 2) for k, tap in enumerate(taps)]
    every = Features.of(values, ids=ids, taps=places)
    features = FeatureSets({"a": every}, {"a": every} if own_bank else {})
    rows = [row for _, row in nearby.list_neighbours(models(["a"]), features, known)]
    sources = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:2]
    expected = []
    for tap in ("blocks.0", "norm"):
        x = values[tap, "cls"].double().numpy()
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        for source in sources:
            cosines = x @ x[ids.index(source)]
            order = [k for k in np.argsort(-cosines) if own_bank or ids[k] != source][:5]
            expected += [(tap, source, ids[k], round(cosines[k], 5)) for k in order]
    found = [(r["tap"], r["image"], r["neighbour"], round(r["cosine"], 5)) for r in rows]
    assert found == [(*one[:3], pytest.approx(one[3], abs=2e-5)) for one in expected]
    assert all(row["neighbour_label"] == known.classes[classes[row["neighbour"]]] for row in rows)


def plain(rows: Sequence[Mapping[str, Any]]) -> Table:
    frame = pd.DataFrame(list(rows))
    return Table(frame, {str(column): str(column) for column in frame.columns})
