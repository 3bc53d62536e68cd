"""The first screens of what models are blind to, of detection and of what changed between two
checkpoints, on tables that are made up; and groups of models that are a close call."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from given import make_models
from sslens.analyses import (
    detection_frozen,
    images_moved,
    invariance,
    layers_changed,
    weights_changed,
)
from sslens.comparisons import detection_rows
from sslens.comparisons.inputs import Models
from sslens.comparisons.likeness import Likeness, find_groups
from sslens.comparisons.readings import name_pooling_in
from sslens.comparisons.rows import make_results
from sslens.figure import Line, Lines
from sslens.report.answer import make_answer
from sslens.report.colours import choose_colours, number_curves
from sslens.report.front import Answer, Front, Overview, Point
from sslens.report.front.making import Compared, make_front
from sslens.report.overview import draw_overview
from sslens.report.stills import begins_at_zero, choose_reach, draw_still
from sslens.report.verdicts import make_table
from sslens.report.writing import sentences
from sslens.report.writing.alike import Beside, write_alike
from sslens.report.writing.answer import Told, write_answer
from sslens.report.writing.detection import write_nothing_learned
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.verdicts import Part, Verdict, reach_verdict
from sslens.table import Results, Table

CONTROLS = ("random #0", "pixels")


def models(*names: str) -> Models:
    known: Mapping[str, Mapping[str, Any]] = {name: {} for name in (*names, *CONTROLS)}
    return make_models(list(names), list(CONTROLS), known)


def screen(results: Mapping[str, Results], *names: str) -> tuple[Front, dict[str, Answer]]:
    front = make_front(results, (), models(*names), Compared("photos", 64, None))
    return front, {one.question: one for one in (*front.answers, *front.more_answers)}


# ------------------------------------------------------------------------------------------------
# invariance


def changes(values: Mapping[str, Mapping[str, float]], half: float = 0.02) -> Results:
    """The table `changes` of last layers: invariances by model and transform."""
    rows = [
        {"model": name, "control": name in CONTROLS, "tap": "norm", "depth": 1.0, "pooling": "cls"}
        | {"main": True, "last": True, "transform": transform, "strength": 1.0, "images": 64}
        | {"invariance": value, "invariance_low": value - half, "invariance_high": value + half}
        for name, own in values.items()
        for transform, value in own.items()
    ]
    table = [("changes", row) for row in rows]
    return make_results(table, invariance.TABLES, invariance.UNITS, invariance.TEXTS)


def test_the_screen_of_invariance_names_the_blindest_of_two_models() -> None:
    flips = {"mae": 0.3, "dino": 0.95, "random #0": 0.9, "pixels": 0.1}
    greys = {"mae": 0.5, "dino": 0.51, "random #0": 0.4, "pixels": 0.2}
    values = {
        name: {"horizontal-flip": flips[name], "grey": greys[name]}
        for name in ("mae", "dino", *CONTROLS)
    }
    front, answers = screen({"invariance": changes(values)}, "mae", "dino")
    flip = answers["Which is blindest to horizontal flip?"]
    assert (flip.word, flip.names, flip.over, flip.link) == (
        *("0.95", "dino", "64 images"),
        "invariance",
    )
    # unpaired: [0.93, 0.97] less [0.28, 0.32]
    assert flip.effect == (
        "invariance 0.95 [0.93, 0.97], +0.65 [+0.61, +0.69] over mae (unpaired, so wider)"
    )
    assert flip.control == "random #0 0.90, raw pixels 0.10"
    assert flip.strength == pytest.approx(0.61 / 0.02)
    grey = answers["Which is blindest to grey?"]
    assert (grey.word, grey.names, grey.strength) == ("undecided", "dino or mae", 0.0)
    assert grey.effect.endswith("over mae (unpaired, so wider; the interval holds 0)")
    own = answers["To what is mae blindest?"]
    assert (own.word, own.names) == ("0.50", "grey")
    assert own.effect == (
        "invariance to grey 0.50 [0.48, 0.52]; least to horizontal flip 0.30 [0.28, 0.32]"
    )
    assert front.answers[0] is flip  # the strongest first
    assert front.scope.startswith("95% intervals over 64 images")
    assert front.choice == ""  # which model to use is no question here, with or without labels
    close, _ = screen({"invariance": changes(values, half=0.001)}, "mae", "dino")
    assert close.answers[-1].word == "the same"


def test_a_lead_that_decides_nothing_shows_its_own_interval() -> None:
    """Not that of the least, which stands at the end and may hold no 0."""
    own = {"horizontal-flip": 0.89, "grey": 0.88, "vertical-flip": 0.45}
    _, answers = screen({"invariance": changes({"mae": own})}, "mae")
    assert answers["To what is mae blindest?"].effect == (
        "invariance to horizontal flip 0.89 [0.87, 0.91], then to grey 0.88 [0.86, 0.90]"
        " (difference +0.01 [-0.03, +0.05]; unpaired, so wider; the interval holds 0); least to"
        " vertical flip 0.45 [0.43, 0.47]"
    )


def test_of_several_untrained_networks_it_is_said_which_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    several = ("random #0", "random #1", "pixels")
    monkeypatch.setitem(globals(), "CONTROLS", several)
    values = {"mae": 0.5, "random #0": 0.81, "random #1": 0.88, "pixels": 0.1}
    made = changes({name: {"grey": value} for name, value in values.items()})
    answer = screen({"invariance": made}, "mae")[1]
    grey = answer["Is mae blinder to grey than random #1?"]
    assert grey.control == "random #1 0.88, raw pixels 0.10"
    assert " over random #1 (unpaired" in grey.effect


def test_models_are_held_against_each_other_on_the_same_images() -> None:
    """The table of pairs has a paired interval of sensitivities, in either order."""
    values = {"mae": {"grey": 0.5}, "dino": {"grey": 0.55}, "random #0": {"grey": 0.52}}
    pair = {"model_a": "mae", "model_b": "dino", "pooling": "cls", "features": "raw"}
    pair |= {"transform": "grey", "strength": 1.0, "images": 64, "difference": 0.05}
    pair |= {"difference_low": 0.03, "difference_high": 0.07}
    rows = [pair, pair | {"model_b": "random #0"}]
    made = [("pairs", row) for row in rows]
    pairs = make_results(
        made, {"pairs": invariance.TABLES["pairs"]}, invariance.UNITS, invariance.TEXTS
    )

    def ask(*names: str) -> dict[str, Answer]:
        own = changes({name: values[name] for name in (*names, "random #0")})
        return screen({"invariance": Results({**own.tables, **pairs.tables})}, *names)[1]

    grey = ask("mae", "dino")["Which is blindest to grey?"]
    assert (grey.word, grey.names) == ("0.55", "dino")
    assert grey.effect == "invariance 0.55 [0.53, 0.57], +0.05 [+0.03, +0.07] over mae"
    assert grey.strength == pytest.approx(0.03 / 0.02)
    untrained = ask("mae")["Is mae blinder to grey than random #0?"]
    assert untrained.word == "no, less"
    assert untrained.effect == "invariance 0.50 [0.48, 0.52], -0.05 [-0.07, -0.03] over random #0"


def test_all_that_a_model_is_as_blind_to_are_named() -> None:
    own = {"grey": 0.999, "vertical-flip": 0.998, "horizontal-flip": 0.996, "occlusion": 0.4}
    _, answers = screen({"invariance": changes({"mae": own}, half=0.001)}, "mae")
    blindest = answers["To what is mae blindest?"]
    assert (blindest.word, blindest.names) == (
        "the same",
        "grey, vertical flip and horizontal flip",
    )


def test_one_model_is_held_against_an_untrained_network() -> None:
    values = {"mae": {"grey": 0.9, "flip": 0.2, "turn": 0.5}}
    values["random #0"] = {"grey": 0.5, "flip": 0.6, "turn": 0.505}
    renamed = {"flip": "horizontal-flip", "turn": "vertical-flip"}
    values = {
        name: {renamed.get(one, one): value for one, value in own.items()}
        for name, own in values.items()
    }
    _, answers = screen({"invariance": changes(values)}, "mae")
    words = {question: one.word for question, one in answers.items()}
    assert words == {
        "To what is mae blindest?": "0.90",
        "Is mae blinder to grey than random #0?": "yes",
        "Is mae blinder to horizontal flip than random #0?": "no, less",
        "Is mae blinder to vertical flip than random #0?": "undecided",
    }
    _, alone = screen({"invariance": changes({"mae": values["mae"]})}, "mae")
    assert alone["How blind is mae to vertical flip?"].word == "0.50"


def test_a_family_has_its_colour_on_pages_without_an_overview() -> None:
    values = {name: {"grey": 0.5, "horizontal-flip": 0.1} for name in ("mae", "dino", *CONTROLS)}
    known = {"mae": {"family": "REC"}, "dino": {"family": "JE"}, **{one: {} for one in CONTROLS}}
    given = make_models(["mae", "dino"], list(CONTROLS), known)
    front = make_front({"invariance": changes(values)}, (), given, Compared())
    colours = choose_colours(front.families)
    assert number_curves(["mae", "dino"], colours) == [2, 1]
    lines = tuple(Line(name, np.arange(2.0), np.arange(2.0)) for name in ("mae", "dino"))
    drawn = draw_still(Lines("", "depth", "", lines, None), colours)
    assert re.findall(r'class="curve (c\d)"', drawn) == ["c2", "c1"]


def test_many_models_and_transforms_leave_eight_answers() -> None:
    names = [f"model {k} {'x' * 200}" for k in range(12)]
    transforms = ("grey", "hue", "blur", "shift", "scale", "rotation", "contrast", "occlusion")
    many = {
        name: {one: 0.05 * k + 0.01 * j for j, one in enumerate((*transforms, "noise"))}
        for k, name in enumerate(names)
    }
    front, answers = screen({"invariance": changes(many)}, *names)
    assert (len(front.answers), len(answers)) == (8, 9)
    assert {one.names for one in front.answers} == {names[-1]}


# ------------------------------------------------------------------------------------------------
# detection


def detection(ap: Mapping[str, float], *, second: float | None = None) -> Results:
    """The tables of detection-frozen: of the last two models the second has a difference of
    `second` from the first, ± 0.01."""
    rows: list[tuple[str, dict[str, Any]]] = []
    for name, value in ap.items():
        for kind in ("box", "mask"):
            for measure in ("AP", "AP large", "AP small"):
                row = {"model": name, "control": name in CONTROLS, "kind": kind, "images": 50}
                row |= {"measure": measure, "ap": value, "low": value - 0.03, "high": value + 0.03}
                if name not in CONTROLS:
                    gain = value - ap["random #0"]
                    row |= {"less": "random #0", "difference": gain}
                    row |= {"difference_low": gain - 0.01, "difference_high": gain + 0.01}
                rows.append(("models", row))
        trained = {"model": name, "control": name in CONTROLS, "gained": ap[name] / 10}
        rows.append(("trainings-made", trained))
    first, *others = [name for name in ap if name not in CONTROLS]
    for other in others:
        for kind in ("box", "mask"):
            for measure in ("AP", "AP large", "AP small"):
                row = {"model": first, "less": other, "kind": kind, "measure": measure}
                gain = -(second or 0.0)
                row |= {"difference": gain, "difference_low": gain - 0.01, "images": 50}
                rows.append(("pairs", row | {"difference_high": gain + 0.01}))
    return make_results(rows, detection_frozen.TABLES, detection_frozen.UNITS, detection_rows.TEXTS)


def test_the_screen_of_detection_names_the_best_by_paired_differences() -> None:
    ap = {"mae": 0.30, "dino": 0.34, "random #0": 0.10, "pixels": 0.02}
    front, answers = screen({"detection-frozen": detection(ap, second=0.04)}, "mae", "dino")
    best = answers["Which finds objects best, frozen?"]
    assert (best.word, best.names) == ("34.0%", "dino")
    assert best.effect == (
        "box AP 34.0% [31.0%, 37.0%], +24.0 points [+23.0, +25.0] over random #0,"
        " +4.0 points [+3.0, +5.0] over mae"
    )
    assert best.control == "random #0 10.0%, raw pixels 2.0%"
    assert best.strength == pytest.approx(0.03 / 0.005)
    assert len(front.answers) == 4
    assert front.warning.startswith("The detectors were still learning")
    assert "by 3.0 to 3.4 points" in front.warning
    assert "Which finds small objects best, frozen?" in answers
    _, near = screen({"detection-frozen": detection(ap, second=0.004)}, "mae", "dino")
    undecided = near["Which finds objects best, frozen, by masks?"]
    assert (undecided.word, undecided.names) == ("undecided", "dino or mae")
    assert undecided.effect.endswith("over mae (the interval holds 0)")
    _, alone = screen({"detection-frozen": detection({**ap, "dino": 0.0})}, "mae")
    assert alone["Which finds large objects best, frozen?"].names == "mae or dino"
    del ap["dino"]
    _, alone = screen({"detection-frozen": detection(ap)}, "mae")
    assert alone["Does mae find objects better than random #0, frozen?"].word == "yes"


def test_detectors_that_have_learned_nothing_decide_nothing() -> None:
    ap = {"mae": 0.002, "dino": 0.001, "random #0": 0.003, "pixels": 0.0}
    front, _ = screen({"detection-frozen": detection(ap)}, "mae", "dino")
    (answer,) = front.answers
    assert answer.word == "undecided"
    assert "no detector has learned to find objects: the highest box AP is 0.3%" in answer.effect
    assert front.choice.startswith(
        "No detector has learned to find objects, the controls' included"
    )
    rows = detection(ap)["models"]
    alone = Results({"models": Table(rows[~rows.control], dict.fromkeys(rows.columns, ""))})
    (sentence,) = write_nothing_learned(alone)
    assert sentence.startswith("No detector has learned to find objects: the highest box AP")


def test_the_terminal_has_the_precision_of_each_detector() -> None:
    ap = {"mae": 0.30, "dino": 0.34, "random #0": 0.10}
    results = {"detection-frozen": detection(ap, second=0.04)}
    table = make_answer(results, models("mae", "dino"))
    assert table.frame.model.tolist() == ["mae", "dino", "random #0"]  # pixels were not trained
    rows = table.frame.to_dict("records")
    lines = [line.text for line in write_answer(rows, Told("What they know about place"))]
    assert lines[1].split() == ["model", "box", "AP,", "%"]
    assert lines[2].split() == ["dino", "34.0", "[31.0,", "37.0]"]
    assert lines[4].split() == ["random", "#0", "*", "10.0", "[7.0,", "13.0]"]
    assert lines[5] == "* a control. Intervals: 95 %, over 50 images."


# ------------------------------------------------------------------------------------------------
# what changed

PAIR = {"model_a": "a", "model_b": "b"}


def difference(
    pair: Mapping[str, Any], rows: Sequence[tuple[str, Mapping[str, Any]]] = ()
) -> Results:
    """The tables of weights-changed: one pair, and rows of other tables."""
    usual = {"shared": 8, "equal": 0, "only_a": 0, "only_b": 0, "unlike": 0, "renamed": 0}
    usual |= {"reshaped": 0, "relative": 0.0, "angle": 0.0, "broken": 0, "first": "cls_token"}
    every = [("pairs", {**PAIR, **usual, **pair}), *((name, {**PAIR, **row}) for name, row in rows)]
    module = weights_changed
    return make_results(every, module.TABLES, module.UNITS, module.TEXTS)


def test_the_screen_of_a_difference_begins_with_the_weights() -> None:
    layers = [
        ("layers", {"block": "", "kind": "", "state": "changed", "relative": 0.12}),
        ("layers", {"block": "", "kind": "MLP fc2", "state": "changed", "relative": 0.22}),
        ("layers", {"block": "", "kind": "head", "state": "changed", "relative": 0.9}),
        ("layers", {"block": "0", "kind": "", "state": "equal", "relative": 0.0}),
        ("layers", {"block": "1", "kind": "", "state": "changed", "relative": 0.2}),
        ("layers", {"block": "1", "kind": "MLP fc2", "state": "changed", "relative": 0.25}),
    ]
    tensors = [("tensors", {"tensor": "head.weight", "state": "only in B", "beside": "the head"})]
    pair = {"state": "changed", "relative": 0.12, "angle": 6.9, "equal": 4, "only_b": 1}
    taps = [
        {"tap": tap, "difference": d, "rounding": 1e-7, "beyond": d > 1e-3, "depth": depth}
        | {"rounded_to": "float32", "same_view": True}
        for tap, d, depth in (("blocks.0", 1e-7, 0.5), ("blocks.1", 0.3, 1.0))
    ]
    depths = [
        {
            "depth": depth,
            "tap_a": tap,
            "tap_b": tap,
            "cka": cka,
            "low": cka - 0.1,
            "high": cka + 0.1,
        }
        | {"minibatches": 8}
        for tap, depth, cka in (("blocks.0", 0.5, 0.9), ("blocks.1", 1.0, 0.4))
    ]
    knn = {"depth": 1.0, "k": 20, "images": 64, "gain": 0.2, "gain_low": 0.1, "gain_high": 0.3}
    for side, value in (("a", 0.5), ("b", 0.7)):
        knn |= {
            f"accuracy_{side}": value,
            f"accuracy_{side}_low": 0.4,
            f"accuracy_{side}_high": 0.8,
        }
    rows = [*(("taps", PAIR | row) for row in taps), *(("depths", PAIR | row) for row in depths)]
    rows.append(("knn", PAIR | knn | {"pooling_a": "patch", "pooling_b": "patch"}))
    moved = {"images": 64, "movement": 0.3, "overlap": 0.5, "neighbours": 5, "by": "k-NN"}
    moved |= {"moved": 0.25, "moved_low": 0.1, "moved_high": 0.4, "gained": 20, "lost": 4}
    moved |= {"gain": 0.25, "gain_low": 0.1, "gain_high": 0.4}
    results = {
        "weights-changed": difference(pair, [*layers, *tensors]),
        "layers-changed": made(layers_changed, rows),
        "images-moved": made(images_moved, [("pairs", PAIR | moved)]),
    }
    front, answers = screen(results, "a", "b")
    found = {question: (one.word, one.names) for question, one in answers.items()}
    assert list(found.items()) == [
        ("Are the weights the same?", ("12% apart", "")),
        ("Which layer is the first to compute something else?", ("found", "blocks.1")),
        ("Which predictions moved?", ("25.0%", "")),
        ("Is b better at the classes than a?", ("yes", "")),
        ("Which layers were not touched?", ("these", "block 0")),
        ("How alike are the layers at the same depth?", ("0.40", "")),
        ("How far did images move among the others?", ("0.300", "")),
        ("What is in one of a and b alone?", ("1 tensor", "")),
    ]
    assert answers["Are the weights the same?"].effect == (
        "changed by 12% of their norm, at an angle of 6.9°, over the 8 tensors that both have in"
        " one shape (of 8 and 9); MLP fc2 by 22% of its own norm; most in block 1, MLP fc2: 25%"
    )
    assert results["layers-changed"]["depths"].minibatches.tolist() == [8, 8]
    few = results["layers-changed"]["depths"].assign(minibatches=2)
    table = replace(results["layers-changed"].tables["depths"], frame=few)
    own = {**results, "layers-changed": Results({"depths": table})}
    few_front, few_answers = screen(own, "a", "b")
    alike = few_answers["How alike are the layers at the same depth?"]
    assert alike.word == "undecided"
    assert alike.effect.endswith("(there are too few minibatches)")
    assert few_front.scope.endswith(
        "CKA is over 2 minibatches, too few to decide anything: take more images or smaller"
        " minibatches, for 6 or more."
    )
    assert front.terms == ""
    better = answers["Is b better at the classes than a?"]
    assert better.effect.startswith(
        "20-NN of the mean of patch tokens of both at the last layer +20.0 points [+10.0, +30.0]"
    )


def made(module: Any, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Results:
    return make_results(rows, module.TABLES, module.UNITS, module.TEXTS)


@pytest.mark.parametrize(
    ("pair", "word", "effect"),
    [
        ({"state": "equal", "equal": 8}, "the same", "all 8 tensors are equal, number for number"),
        (
            {"state": "equal in float16", "relative": 2e-4},
            "the same",
            "all 8 tensors round to the same numbers (they differ by 2e-4 of their norm)",
        ),
        (
            {"state": "changed", "relative": 1.9e-6, "equal": 5},
            "2e-6 apart",
            "the same weights to 2e-6 of their norm; 5 of 8 tensors are equal, and the first that"
            " is not is cls_token",
        ),
        ({"state": "nothing in common", "shared": 0, "only_a": 3}, "not compared", "no tensor"),
        ({"state": "not finite", "broken": 2}, "not finite", "2 of 8 tensors hold numbers"),
        (
            {"state": "changed", "relative": np.nan},
            "undecided",
            "the first is all zeros in the 8 tensors that both have",
        ),
    ],
)
def test_what_the_weights_came_to(pair: Mapping[str, Any], word: str, effect: str) -> None:
    results = difference(pair)
    _, answers = screen({"weights-changed": results}, "a", "b")
    answer = answers["Are the weights the same?"]
    assert answer.word == word
    assert answer.effect.startswith(effect)
    row = {"block": "", "kind": "norm", "state": "changed", "relative": 0.1, "angle": 1.0}
    (told, *_) = sentences("weights-changed", difference(pair, [("layers", row)]))
    assert answer.effect[:20] in told or "is all zeros in the 8 tensors that b has too" in told


def test_the_branches_that_were_compared_are_said() -> None:
    branches = {"branch_a": "teacher", "others_a": "student", "state": "equal"}
    front, _ = screen({"weights-changed": difference(branches)}, "a", "b")
    assert front.terms == "a is the teacher (beside it: student)."


def test_an_axis_of_even_changes_begins_at_zero() -> None:
    rows = [
        ("layers", {"block": str(k), "kind": "", "depth": k / 4, "relative": 0.02 + 1e-4 * k})
        for k in range(5)
    ]
    figure = weights_changed.draw(difference({"state": "changed"}, rows))
    (cells, relative, _) = figure.panels[0]
    assert cells is None
    assert relative is not None
    assert isinstance(relative, Lines)
    assert begins_at_zero(relative)
    assert choose_reach(relative) == (0.0, pytest.approx(0.0204, rel=1e-2))
    line = Line("", np.arange(2.0), np.array([0.5, 0.9]))
    assert choose_reach(Lines("", "", "", (line,), (0.0, 1.0)))[0] > 0.4


# ------------------------------------------------------------------------------------------------
# a close call, and CNNs


@pytest.mark.parametrize("width", [576.0, 352.0])
def test_a_group_of_200_letters_stays_in_the_legend(width: float) -> None:
    long = ("groups of models " * 13).strip()
    points = [Point("a", 0.0, 0.0, 0.5, long), Point("b", 1.0, 0.5, 0.6, "short")]
    drawn = draw_overview(Overview(tuple(points), "", "", 0.0), width)
    high = float(re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', drawn)[0])
    texts = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', drawn)
    legend = [(float(x), float(y), text) for x, y, text in texts if "models" in text]
    assert " ".join(text for *_, text in legend) == long
    assert len({y for _, y, _ in legend}) == len(legend) > 2
    assert all(x + 7 * len(text) <= width and y < high for x, y, text in legend)


def test_a_model_of_no_known_family_is_in_the_legend_beside_others() -> None:
    own, dino = Point("mine", 0.0, 0.0, 0.5, ""), Point("dino", 1.0, 0.5, 0.6, "JE")
    both = draw_overview(Overview((own, dino), "", "", 0.0), 576.0)
    assert ">no known family<" in both
    assert ">JE<" in both
    alone = (own, replace(own, name="other", x=1.0))  # one colour, which means nothing
    assert "family<" not in draw_overview(Overview(alone, "", "", 0.0), 576.0)


def pair(a: str, b: str, value: float, half: float) -> Likeness:
    cka = Estimate(value, value - half, value + half, "minibatches", 12)
    return Likeness(a, b, False, cka, cka, True)


@pytest.mark.parametrize(
    ("half", "word", "sure"), [(0.03, "2 of 3", True), (0.06, "probably 2 of 3", False)]
)
def test_a_group_that_another_draw_may_miss_is_no_sure_answer(
    half: float, word: str, sure: bool
) -> None:
    # the gap 0.15 ± 2 · half: another draw sees it for sure from 0.15 ≥ 2 · (2 · half) on
    pairs = [pair("a", "b", 0.66, half), pair("a", "c", 0.51, half), pair("b", "c", 0.5, half)]
    groups = find_groups(pairs)
    answer = write_alike(pairs, groups, Beside(), "")
    assert (answer.word, answer.decided, answer.names) == (word, sure, "a and b")
    assert answer.word.startswith("probably") is not sure


def test_a_second_draw_misses_a_settled_group_in_few_cases() -> None:
    """Two draws about one true gap: whenever the first one is settled, the second is found."""
    rng, half = np.random.default_rng(0), 0.04
    error = half / 1.96  # of each of the two CKA, independent
    for truth in (0.10, 0.14, 0.18):
        inside, across = (
            value + error * rng.standard_normal((4000, 2)) for value in (0.5 + truth, 0.5)
        )
        gaps = inside - across
        settled = gaps[:, 0] >= 2 * (2 * half)
        missed = gaps[:, 1] <= 2 * half
        assert (settled & missed).mean() < 0.05
        one = replace_gap(float(gaps[settled][0, 0]), half)
        assert one.settled


def replace_gap(gap: float, half: float) -> Any:
    groups = find_groups(
        [pair("a", "b", 0.5 + gap, half), pair("a", "c", 0.5, half), pair("b", "c", 0.5, half)]
    )
    return replace(groups[0])


def test_the_mean_of_a_network_without_tokens_is_over_places() -> None:
    rows = pd.DataFrame(
        {"model": ["cnn", "vit", "vit", "vit"], "pooling": ["mean", "cls", "mean", "patch"]}
    )
    assert name_pooling_in(rows[rows.model == "cnn"], "mean") == "mean over places"
    assert name_pooling_in(rows[rows.model == "vit"], "mean") == "mean of all tokens"
    assert name_pooling_in(rows, "patch") == "mean of patch tokens"
    told = sentences("invariance", changes_of_a_cnn())
    assert "cnn (mean over places): most to grey" in told[0]


def changes_of_a_cnn() -> Results:
    results = changes({"cnn": {"grey": 0.5, "hue": 0.4}})
    frame = results["changes"].assign(pooling="mean", cka=0.5, equivariance=0.0, linear=0.0)
    frame = frame.assign(equivariance_low=-0.1, equivariance_high=0.1, tested=32)
    table = replace(results.tables["changes"], frame=frame)
    return Results({"changes": table})


def test_a_claim_without_controls_says_where_its_control_is() -> None:
    rise = Estimate(0.3, 0.1, 0.5, "minibatches", 32)
    part = Part("", Contrast("the rise", "before", rise), 0.02, "cka")
    ran = [reach_verdict(claim, [part], members={}) for claim in ("c9", "c6")]
    table = make_table([*ran, Verdict("c8", "not run", why="no probes")]).frame
    assert table.controls.tolist() == [
        "fine-tuned random weights, in its second difference",
        "none",
        "",
    ]
    front = make_front({}, ran, models("a"), Compared())
    controls = {one.label: one.control for one in front.answers}
    assert controls == {"C9": "fine-tuned random weights", "C6": ""}
