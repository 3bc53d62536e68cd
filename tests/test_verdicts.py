"""Verdicts on claims: what an interval over images, and one over trainings, can decide; and each
claim on tables whose answer is known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind

from sslens.comparisons.inputs import ModelInfo, Models
from sslens.comparisons.parting import Parting
from sslens.comparisons.trainings import count_trainings_once, list_across_objectives
from sslens.find import plugin
from sslens.models.about import About
from sslens.report.verdicts import judge_all, make_table, order_naturally, write_verdicts
from sslens.report.writing.families import write_disagreements, write_parting
from sslens.report.writing.front import write_claim_answer
from sslens.report.writing.numbers import compare, spell_effect
from sslens.statistics.estimate import Contrast, Estimate, unite
from sslens.statistics.trainings import estimate_over_trainings
from sslens.statistics.verdicts import Part, Verdict, reach_verdict
from sslens.study.conditions import ClaimCondition, Evidence
from sslens.study.finished import read_verdicts
from sslens.study.judged import Judged
from sslens.table import Results, Table

NONE = {"trainings_low": np.nan, "trainings_high": np.nan, "trainings": 1}


def results_of(**tables: Sequence[Mapping[str, Any]]) -> Results:
    """Results with these rows, by the table's name with _ for -."""
    frames = {name.replace("_", "-"): pd.DataFrame(rows) for name, rows in tables.items()}
    return Results({name: Table(frame, {c: c for c in frame}) for name, frame in frames.items()})


def difference(value: float, half: float = 0.01, over: Any = None, **others: Any) -> dict[str, Any]:
    """The columns of a difference with an interval over 32 minibatches, and over trainings."""
    row = {"cka": 0.5, "low": 0.45, "high": 0.55, "minibatches": 32, "tokens": "all"}
    row |= {"difference": value, "difference_low": value - half, "difference_high": value + half}
    row |= dict(zip(NONE, over, strict=True)) if over else NONE
    return row | others


def judge(claim: str, analysis: str, results: Results) -> tuple[Verdict, ...]:
    verdicts: tuple[Verdict, ...] = plugin("claims", claim).judge({analysis: results})
    return verdicts


# ------------------------------------------------------------------------------------------------
# what an interval decides


@pytest.mark.parametrize(
    ("value", "low", "high", "side"),
    [
        (0.3, 0.1, 0.5, "more"),
        (-0.3, -0.5, -0.1, "less"),
        (0.3, -0.1, 0.5, "undecided"),
        (0.01, 0.005, 0.015, "the same"),
        (0.0, -0.02, 0.02, "the same"),
        (0.01, 0.005, 0.03, "undecided"),  # it may be worth a word, or not
        (0.3, 0.3, 0.3, "undecided"),  # an interval of no width
        (np.nan, np.nan, np.nan, "too few"),
    ],
)
def test_the_side_of_a_difference(value: float, low: float, high: float, side: str) -> None:
    assert Estimate(value, low, high, "minibatches", 32).find_side(0.02) == side


def test_two_and_three_trainings_decide_nothing_and_four_do() -> None:
    """Of all ways to divide n + n trainings the two most extreme ones are 33, 10 and 2.9 %."""
    for n, decides in ((2, False), (3, False), (4, True)):
        estimate = Estimate(0.3, 0.1, 0.5, "images and trainings", n)
        assert (estimate.sign == 1) == decides


def test_parts_are_united() -> None:
    assert unite(["holds", "holds"]) == "holds"
    assert unite(["holds", "contradicted"]) == "in part"
    assert unite(["holds", "the same"]) == "in part"
    assert unite(["contradicted", "the same"]) == "contradicted"
    assert unite(["holds", "contradicted", "undecided"]) == "undecided"


def test_what_is_under_the_smallest_difference_is_the_same_and_never_more() -> None:
    small = Estimate(0.003, 0.001, 0.005, "images", 1000)
    assert (
        compare(small, "it", "straightness")
        == "the same as it within 0.02 (+0.003 [+0.001, +0.005])"
    )
    assert compare(small, "it", "accuracy") == (
        "the same as it within half a point (+0.3 points [+0.1, +0.5])"
    )
    assert compare(Estimate(-0.05, -0.06, -0.04, "images", 1000), "it").startswith(
        "less than it (-0.05"
    )
    assert "more" not in compare(Estimate(np.nan), "it")


# ------------------------------------------------------------------------------------------------
# trainings


def test_a_contradicted_claim_is_as_strong_as_what_contradicts_it() -> None:
    same, less = (
        Part("", Contrast("JE", "REC", Estimate(*ends, "images", 900)), 0.02, "cka")
        for ends in ((0.0, -0.001, 0.001), (-0.03, -0.05, -0.01))
    )
    verdict = reach_verdict("c1", [same, less], members={})
    assert verdict.outcome == "contradicted"
    assert verdict.strength == pytest.approx(0.5)


def test_an_interval_over_trainings_of_means_is_welchs() -> None:
    one, other = np.array([1.0, 1.5, 1.2, 1.1]), np.array([0.5, 0.9, 0.3, 0.4])
    alone = {"A": {"a": list(one - other.mean())}, "B": {"b": list(one.mean() - other)}}
    value = one.mean() - other.mean()
    sure = Estimate(value, value - 1e-9, value + 1e-9, "images", 10_000)
    estimate = estimate_over_trainings(sure, alone)
    peer = ttest_ind(one, other, equal_var=False).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((peer.low, peer.high), abs=1e-6)
    assert (estimate.over, estimate.n) == ("images and trainings", 4)


def test_an_objective_with_one_training_has_no_interval() -> None:
    images = Estimate(0.5, 0.4, 0.6, "images", 100)
    estimate = estimate_over_trainings(images, {"A": {"a": [1.0]}, "B": {"b": [0.4, 0.6]}})
    assert np.isnan(estimate.low)
    assert (estimate.value, estimate.n) == (0.5, 1)


def test_families_of_equal_objectives_are_decided_apart_in_five_percent() -> None:
    """A hierarchical null: pairs of trainings have an effect of either training and one of both,
    and images add a noise; JE has two objectives of four trainings, REC one of four."""
    rng = np.random.default_rng(0)
    wrong, missed = 0, 0
    for _ in range(1500):
        own = rng.normal(0, 0.1, 12)
        pairs = own[:, None] + own + rng.normal(0, 0.05, (12, 12))
        pairs = (pairs + pairs.T) / 2
        groups = {"a": range(4), "b": range(4, 8), "c": range(8, 12)}

        def measure(a: Any, b: Any, c: Any, pairs: np.ndarray = pairs) -> float:
            within = pairs[np.ix_(a, b)].mean()
            return float(within - (pairs[np.ix_(a, c)].mean() + pairs[np.ix_(b, c)].mean()) / 2)

        noise = rng.normal(0, 0.03)
        value = measure(**groups) + noise
        alone = {
            side: {name: [measure(**{**groups, name: [i]}) for i in groups[name]] for name in names}
            for side, names in {"JE": ("a", "b"), "REC": ("c",)}.items()
        }
        images = Estimate(value, value - 1.98 * 0.03, value + 1.98 * 0.03, "images", 100)
        estimate = estimate_over_trainings(images, alone)
        wrong += estimate.sign != 0
        missed += images.sign != 0
    assert wrong / 1500 < 0.06
    assert missed / 1500 > 0.3  # an interval over images alone is wrong of objectives


def test_pairs_of_a_family_have_different_objectives() -> None:
    known = {"a0": "dino", "a1": "dino", "b": "msn", "x": None}
    members = [ModelInfo(name, about=About("JE", one)) for name, one in known.items()]
    models = Models(tuple(members))
    expected = [("a0", "b"), ("a0", "x"), ("a1", "b"), ("a1", "x"), ("b", "x")]
    assert list_across_objectives(models, list(known)) == expected
    twins = Models((ModelInfo("a", digest="1"), ModelInfo("b", digest="1"), ModelInfo("c")))
    assert count_trainings_once(twins, ["a", "b", "c"]) == ["a", "c"]


def part(images: tuple[float, float, float], trainings: tuple[float, float, int] | None) -> Part:
    seen = Contrast("a", "b", Estimate(*images, "minibatches", 32))
    over = None
    if trainings:
        low, high, n = trainings
        over = Contrast("a", "b", Estimate(images[0], low, high, "minibatches and trainings", n))
    return Part("", seen, 0.02, "cka", 1, over, trainings[2] if trainings else 1)


@pytest.mark.parametrize(
    ("trainings", "phrase", "limit"),
    [
        (None, "holds in these models", "an objective has one training"),
        ((0.1, 0.5, 2), "holds in these models", "a side has 2 trainings, and fewer than 4 decide"),
        ((-0.1, 0.7, 4), "holds in these models", "trainings of one objective differ too much"),
        ((0.1, 0.5, 4), "holds of these objectives", ""),
    ],
)
def test_a_verdict_is_about_objectives_only_over_trainings(
    trainings: tuple[float, float, int] | None, phrase: str, limit: str
) -> None:
    verdict = reach_verdict("c1", [part((0.3, 0.2, 0.4), trainings)], members={})
    assert verdict.phrase == phrase
    assert verdict.limit.startswith(limit)
    assert bool(verdict.limit) == bool(limit)


# ------------------------------------------------------------------------------------------------
# depth


def by_depth(*values: float, **others: Any) -> list[dict[str, Any]]:
    names = {"model_a": "JE", "model_b": "JE", "less": "JE · REC", "kind": "block", "together": 6}
    return [
        difference(value, depth=(i + 1) / len(values), **names, **others)
        for i, value in enumerate(values)
    ]


def test_models_part_only_from_where_they_stay_apart() -> None:
    """Where all later differences are reversed, nothing is said to be so "on"."""
    stays = Parting.of(by_depth(0.0, 0.3, 0.3, 0.3))
    assert "from relative depth 0.50 on" in write_parting(stays)
    turned = Parting.of(by_depth(0.3, -0.3, -0.3, -0.3))
    said = write_parting(turned)
    assert " on (" not in said
    assert "more at relative depth 0.25, and not at every later depth" in said
    assert "less at relative depth 0.50, 0.75 and 1.00 (-0.30 [" in said
    gap = Parting.of(by_depth(0.3, 0.3, 0.01, 0.3))
    assert gap.first is not None
    assert gap.first["depth"] == 1.0
    assert write_parting(Parting.of(by_depth(0.0, 0.0))) == ""


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((0.0, 0.3, 0.3, 0.3), "holds"),
        ((0.3, -0.3, -0.3, -0.3), "in part"),
        ((0.0, 0.0, 0.0, 0.3), "the same"),
        ((-0.3, -0.3, 0.3, 0.3), "contradicted"),  # they part late, and early it is reversed
        ((-0.3, -0.3, -0.3, -0.3), "contradicted"),
    ],
)
def test_c2(values: tuple[float, ...], outcome: str) -> None:
    cells = [{"model_a": "dino", "tokens": "all"}]
    blocks = results_of(cells=cells, families_by_depth=by_depth(*values))
    (verdict,) = judge("c2", "cka-blocks", blocks)
    assert verdict.outcome == outcome
    reversed_at = [f"{(i + 1) / 4:.2f}" for i, value in enumerate(values) if value < 0]
    assert all(depth in verdict.why for depth in reversed_at)


# ------------------------------------------------------------------------------------------------
# claims of tables


@pytest.mark.parametrize(
    ("beyond", "outcome"), [(np.nan, "holds"), (0.2, "holds"), (-0.2, "in part")]
)
def test_c1_and_c13_also_ask_what_is_beyond_the_pixels(beyond: float, outcome: str) -> None:
    names = {"model_a": "JE", "model_b": "JE", "less": "JE · REC", "deconfounded": 0.3}
    names |= {"members": "msn; JE: dino; REC: mae"}
    row = difference(0.3, **names) | {
        "deconfounded_difference": beyond,
        "deconfounded_difference_low": beyond - 0.01,
        "deconfounded_difference_high": beyond + 0.01,
    }
    cells = [{"model_a": "dino", "tokens": "all"}]
    blocks = results_of(cells=cells, families=[row], families_all_pairs=[row])
    (verdict,) = judge("c1", "cka-blocks", blocks)
    assert verdict.outcome == outcome
    (verdict,) = judge("c13", "cka-msn", results_of(families=[{**row, "model_a": "MSN"}]))
    assert verdict.outcome == outcome


def test_c3_says_where_the_sign_depends_on_the_tokens() -> None:
    names = {"model_a": "JE", "model_b": "REC", "kind": "fc1"}
    rows = [
        difference(value, tokens=tokens, less=less, **names)
        for tokens, value in (("all", 0.1), ("cls", -0.1))
        for less in ("norm1", "qkv")
    ]
    types = results_of(cells=[{"model_a": "dino", "tokens": "all"}], families_types=rows)
    verdicts = judge("c3", "cka-layer-types", types)
    assert [one.outcome for one in verdicts] == ["holds", "contradicted"]
    (sentence,) = write_verdicts(verdicts)
    assert sentence.startswith(
        "C3 holds in these models over all tokens and is contradicted in these models in the CLS"
    )


def test_one_sentence_says_where_the_sign_depends_on_the_tokens() -> None:
    more, less, none = (Estimate(v, v - 0.1, v + 0.1, "minibatches", 32) for v in (0.3, -0.3, 0.0))
    questions = {
        "the rise": {"all": more, "cls": less},
        "the end": {"all": less, "cls": more},
        "the level": {"all": more, "cls": none},
    }
    assert write_disagreements(questions, "mae, dino") == (
        "The sign depends on the tokens (mae, dino): the rise is more over all tokens, less in the"
        " CLS token; the end is less over all tokens, more in the CLS token."
    )
    assert write_disagreements({"the level": questions["the level"]}, "mae") is None


def test_c3_is_decided_of_objectives_by_four_trainings_a_side() -> None:
    names = {"model_a": "JE", "model_b": "REC", "kind": "fc1"}
    for n, scope in ((2, "in these models"), (4, "of these objectives")):
        rows = [
            difference(0.1, over=(0.05, 0.15, n), less=less, **names) for less in ("norm1", "qkv")
        ]
        types = results_of(cells=[{"model_a": "dino", "tokens": "all"}], families_types=rows)
        (verdict,) = judge("c3", "cka-layer-types", types)
        assert (verdict.outcome, verdict.scope) == ("holds", scope)


def test_c4_of_one_family_says_which_is_missing() -> None:
    row = difference(0.2, model_a="JE transformer", model_b="JE CNN", less="JE · REC", family="JE")
    curves = [{"family": "JE", "across": "architectures", "model_a": "dino", "model_b": "cnn"}]
    (verdict,) = judge("c4", "cka-distance", results_of(objective=[row], curves=curves))
    assert verdict.outcome == "holds"
    assert "of REC there is no CNN" in verdict.why
    assert verdict.members == {"JE": ("dino", "cnn")}


def agreement(value: float, half: float = 0.02) -> Results:
    keys = [("tau", 5, "all"), ("tau", 5, "both right"), ("tau", 5, "both wrong"), ("f1", 0, "all")]
    rows = [
        difference(
            value if images != "both wrong" else 0.3,
            half,
            model_b="JE",
            measure=measure,
            k=k,
            images=images,
            count=500,
            pooling="cls",
            less="JE · REC",
            members="JE: dino and msn; REC: mae",
            chance=0.75 if measure == "f1" else 0.0,
        )
        for measure, k, images in keys
    ]
    others = [row | {"model_b": "REC", "chance": 0.0 if row["k"] else 0.56} for row in rows]
    return results_of(families=[*rows, *others])


@pytest.mark.parametrize(
    ("value", "outcome"), [(0.3, "holds"), (-0.3, "in part"), (0.01, "undecided")]
)
def test_c6(value: float, outcome: str) -> None:
    (verdict,) = judge("c6", "agreement", agreement(value))
    assert verdict.outcome == outcome
    assert verdict.members == {"JE": ("dino", "msn"), "REC": ("mae",)}
    assert len(verdict.parts) == 4
    (left,) = verdict.parts[3].controls
    assert (left.a, left.b) == ("F1 of the first choice beyond chance, JE · JE", "JE · REC")
    assert left.difference.value == pytest.approx(value - (0.75 - 0.56))
    assert left.difference.high - left.difference.low == pytest.approx(0.04)


def gains(rec: float, je: float, *, settled: bool = True, tuned: float | None = None) -> Results:
    def row(model: str, value: float, **others: Any) -> dict[str, Any]:
        columns = {"model": model, "members": model.lower(), "main": True, "layers": 3}
        columns |= {"gain": value, "gain_low": value - 0.003, "gain_high": value + 0.003}
        columns |= {
            "images": 1000,
            "settled": settled,
            "why": "" if settled else "the rate is the highest",
        }
        return columns | {"difference": np.nan, "against": "", **others}

    difference = {
        "difference": rec - je,
        "difference_low": rec - je - 0.004,
        "difference_high": rec - je + 0.004,
    }
    tables = {"families": [row("JE", je), row("REC", rec, against="JE", **difference)]}
    if tuned is not None:
        tables["fine_tuned"] = [row("mae-ft", tuned, against="rec")]
    return results_of(**tables)


@pytest.mark.parametrize(
    ("rec", "je", "outcome"),
    [
        (0.05, 0.0, "holds"),
        (0.05, -0.03, "holds"),  # less is no gain
        (0.05, 0.05, "in part"),
        (-0.05, 0.0, "in part"),
        (0.004, 0.0, "undecided"),
    ],
)
def test_c7(rec: float, je: float, outcome: str) -> None:
    (verdict,) = judge("c7", "probe-depth", gains(rec, je))
    assert verdict.outcome == outcome


def test_c7_is_about_objectives_where_each_gain_has_an_interval_over_trainings() -> None:
    frame = gains(0.05, 0.0)["families"]
    over = {"trainings_low": [-0.004, 0.03], "trainings_high": [0.004, 0.07], "trainings": 4}
    frame = frame.assign(**over, **{f"gain_{name}": value for name, value in over.items()})
    families = Results({"families": Table(frame, {c: c for c in frame})})
    (verdict,) = judge("c7", "probe-depth", families)
    assert verdict.phrase == "holds of these objectives"
    without = frame.drop(columns=["gain_trainings_low"])
    (verdict,) = judge("c7", "probe-depth", results_of(families=without.to_dict("records")))
    assert verdict.phrase == "holds in these models"


def test_c7_and_c8_rest_on_converged_probes_alone() -> None:
    (verdict,) = judge("c7", "probe-depth", gains(0.05, 0.0, settled=False))
    assert verdict.outcome == "not run"
    assert verdict.why == "no verdict rests on the probes of JE: the rate is the highest"
    for tuned, outcome in ((0.0, "holds"), (0.05, "in part")):
        found = gains(0.05, 0.0, tuned=tuned)
        frames = {name: table.frame.assign(layers=1) for name, table in found.tables.items()}
        found = Results({name: Table(one, {c: c for c in one}) for name, one in frames.items()})
        (verdict,) = judge("c8", "probe-layers", found)
        assert verdict.outcome == outcome
        assert len(verdict.parts) == 4


def tuned(end: float, tokens: str = "all") -> Results:
    names = {"model_a": "REC, fine-tuned", "model_b": "JE", "tokens": tokens}
    names |= {"members": "mae-ft from mae; JE: dino", "kind": "block"}
    return results_of(
        families=[difference(0.21, less="REC · JE, both pre-trained", **names)],
        families_ends=[difference(end, less="random-ft · JE", **names)],
        families_rise_by_type=[
            difference(0.1, **{**names, "kind": kind}, less="the rise in fc1")
            for kind in ("norm1", "qkv")
        ],
    )


@pytest.mark.parametrize(
    ("end", "outcome"), [(0.1, "holds"), (-0.01, "the same"), (-0.1, "contradicted")]
)
def test_c9_is_about_where_fine_tuning_ends(end: float, outcome: str) -> None:
    """MAE rose from 0.35 to 0.56 and random weights from 0.09 to 0.57: what counts is the end."""
    (verdict,) = judge("c9", "cka-finetune", tuned(end))
    assert verdict.outcome == outcome
    assert verdict.parts[1].contrast.b == "random-ft · JE"
    alone = Results({"families": tuned(end).tables["families"]})
    (verdict,) = judge("c9", "cka-finetune", alone)
    assert verdict.outcome == "not run"
    assert "the end has no control" in verdict.why


@pytest.mark.parametrize(
    ("runs", "phrase"), [(1, "undecided"), (2, "undecided"), (4, "holds of these objectives")]
)
def test_c10_needs_four_runs_a_side(runs: int, phrase: str) -> None:
    row = {"role": "REC", "less": "JE", "group": "attention", "measure": "straightness"}
    row |= {"members": "REC: mae-ft; JE: dino-ft", "unlike": "", "runs": runs, "value": 0.6}
    ends = (np.nan, np.nan) if runs == 1 else (0.05, 0.15)
    row |= dict(zip(("difference_low", "difference_high"), ends, strict=True), difference=0.1)
    (verdict,) = judge("c10", "finetune-path", results_of(differences=[row]))
    assert verdict.phrase == phrase
    (verdict,) = judge("c10", "finetune-path", results_of(differences=[row | {"unlike": "why"}]))
    assert verdict.outcome == "not run"


def test_c13_and_c21() -> None:
    names = {"model_b": "JE", "less": "MSN · REC", "members": "msn; JE: dino; REC: mae"}
    rows = [
        difference(0.3, model_a="MSN", **names),
        difference(-0.3, model_a="fine-tuned MSN", **names),
    ]
    found = results_of(families=rows)
    (verdict,) = judge("c13", "cka-msn", found)
    assert verdict.outcome == "holds"
    assert verdict.members == {"MSN": ("msn",), "JE": ("dino",), "REC": ("mae",)}
    (verdict,) = judge("c21", "cka-msn", found)
    assert verdict.outcome == "contradicted"
    assert [one.difference.value for one in verdict.controls] == [0.3]


@pytest.mark.parametrize(
    ("moved", "half", "outcome"),
    [(0.005, 0.01, "holds"), (-0.1, 0.01, "contradicted"), (0.005, 0.05, "undecided")],
)
def test_c14(moved: float, half: float, outcome: str) -> None:
    rows = [
        {"model_a": "a", "model_b": "b", "control": False, "varied": "batch", "batch": batch}
        | {"images": 1024, "minibatches": 1024 // batch, "tap_a": tap}
        | {"cka": cka, "low": cka - half, "high": cka + half}
        for tap in ("x", "y")
        for batch, cka in ((32, 0.5), (64, 0.52), (128, 0.5 + moved))
    ]
    (verdict,) = judge("c14", "cka-convergence", results_of(points=rows))
    assert verdict.outcome == outcome
    assert verdict.contrast is not None
    assert verdict.contrast.difference.value == pytest.approx(abs(moved))
    (verdict,) = judge("c14", "cka-convergence", results_of(points=rows[:1]))
    assert verdict.outcome == "not run"


@pytest.mark.parametrize(("late", "outcome"), [(-0.1, "holds"), (0.1, "in part")])
def test_c19(late: float, outcome: str) -> None:
    thirds = [("fc1", "the first two thirds", 0.1), ("fc1", "the last third", late)]
    thirds += [("block", "the last third", -0.2)]
    names = {
        "model_a": "REC",
        "model_b": "JE",
        "less": "before",
        "members": "ft from mae; JE: dino",
    }
    rows = [difference(value, kind=kind, part=part, **names) for kind, part, value in thirds]
    (verdict,) = judge("c19", "cka-finetune", results_of(families_thirds=rows))
    assert verdict.outcome == outcome
    (verdict,) = judge("c19", "cka-finetune", results_of(families_thirds=rows[:2]))
    assert verdict.outcome == "not run"


def test_c20_reads_the_difference_of_slopes() -> None:
    row = difference(0.3, family="REC", unit="depth", less="JE · REC", model_a="REC", model_b="REC")
    (verdict,) = judge("c20", "cka-distance", results_of(slope_differences=[row], objective=[row]))
    assert verdict.outcome == "holds"
    (verdict,) = judge("c20", "cka-distance", results_of(curves=[row]))
    assert verdict.outcome == "not run"


def knn(values: Sequence[float], gap: float) -> Results:
    names = {"model_a": "JE", "model_b": "REC", "members": "JE: dino; REC: mae", "main": True}
    points = [
        difference(value, depth=(i + 1) / len(values), features=features, images=500, **names)
        | {"together": len(values)}
        for features in ("raw", "standardised")
        for i, value in enumerate(values)
    ]
    probes = [
        {"model": model, "main": True, "features": "raw", "place": "last block", "images": 500}
        | {"gap": 0.02, "gap_low": 0.01, "gap_high": 0.03}
        | {"difference": gap, "difference_low": gap - 0.01, "difference_high": gap + 0.01}
        for model in ("JE", "REC")
    ]
    return results_of(families_by_depth=points, families_probes=probes)


def test_c5() -> None:
    (verdict,) = judge("c5", "knn-depth", knn((0.0, 0.3, 0.3, 0.3), 0.1))
    assert verdict.outcome == "holds"
    assert len(verdict.parts) == 5  # two features with two depths each, and the gap
    (sentence,) = write_verdicts([verdict])
    assert sentence.count("(one of 4 that hold at once, so wider)") == 4  # the gap is alone
    assert make_table([verdict]).frame.together.tolist() == [4, 4, 4, 4, 1]
    assert [one.difference.value for one in verdict.controls] == [0.02]
    (verdict,) = judge("c5", "knn-depth", knn((0.3, -0.3, -0.3, -0.3), 0.1))
    assert verdict.outcome == "in part"
    assert "standardised 20-NN reversed at relative depth 0.50, 0.75 and 1.00" in verdict.why
    found = knn((0.0, 0.3, 0.3, 0.3), 0.1)
    without = Results({"families-by-depth": found.tables["families-by-depth"]})
    (verdict,) = judge("c5", "knn-depth", without)
    assert verdict.outcome == "not run"
    assert "has converged inside its path" in verdict.why


# ------------------------------------------------------------------------------------------------
# the table and the sentences


def test_claims_are_in_the_order_of_their_numbers() -> None:
    assert sorted(["c10", "c2", "c1"], key=order_naturally) == ["c1", "c2", "c10"]
    thirds = [("fc1", "the first two thirds", 0.1), ("fc1", "the last third", -0.1)]
    thirds += [("block", "the last third", -0.2)]
    names = {
        "model_a": "REC",
        "model_b": "JE",
        "less": "before",
        "members": "ft from mae; JE: dino",
    }
    rows = [difference(value, kind=kind, part=part, **names) for kind, part, value in thirds]
    tables = {**tuned(0.1).tables, **results_of(families_thirds=rows).tables}
    verdicts = judge_all({"cka-finetune": Results(tables)})
    assert [one.claim for one in verdicts] == ["c9", "c19"]


def test_a_row_of_the_table_has_both_intervals() -> None:
    parts = [part((0.3, 0.2, 0.4), (0.1, 0.5, 4))]
    verdict = reach_verdict("c1", parts, members={"JE": ("a", "b")}, tokens="cls")
    (row,) = make_table([verdict]).frame.to_dict("records")
    assert (row["effect"], row["low"], row["high"], row["over"], row["n"]) == (
        *(0.3, 0.2, 0.4),
        *("minibatches", 32),
    )
    assert (row["trainings_low"], row["trainings_high"], row["trainings"]) == (0.1, 0.5, 4)
    assert (row["outcome"], row["members"]) == ("holds of these objectives", "JE: a, b")
    (sentence,) = write_verdicts([verdict])
    assert "+0.30 [+0.20, +0.40], over trainings too [+0.10, +0.50]" in sentence


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-1.46, 1.69), "[-1.00, +1.00], all that is possible (2 trainings a side)"),
        ((0.1, 1.69), "[+0.10, +1.00] (2 trainings a side)"),
    ],
)
def test_no_interval_goes_beyond_what_is_possible(ends: tuple[float, float], said: str) -> None:
    verdict = reach_verdict("c1", [part((0.3, 0.2, 0.4), (*ends, 2))], members={})
    (sentence,) = write_verdicts([verdict])
    assert f"over trainings too {said}" in sentence


# ------------------------------------------------------------------------------------------------
# what speaks against an outcome


def depths(*values: float) -> Results:
    """JE·JE less JE·REC in equal steps of depth."""
    return results_of(
        families_by_depth=[
            difference(
                value,
                model_a="JE",
                model_b="JE",
                less="JE · REC",
                depth=(k + 1) / len(values),
                together=len(values),
            )
            for k, value in enumerate(values)
        ]
    )


def test_a_reversal_at_any_depth_is_said_of_c2() -> None:
    (early,) = judge("c2", "cka-blocks", depths(-0.3, 0.3, 0.3, 0.3))
    assert early.phrase == "holds in these models"
    assert early.caveats == ("reversed at relative depth 0.25",)
    (sentence,) = write_verdicts([early])
    assert sentence.startswith("C2 holds in these models, reversed at relative depth 0.25:")
    assert write_claim_answer([early], "").word == "depends"
    (late,) = judge("c2", "cka-blocks", depths(0.3, 0.3, 0.3, -0.3))
    assert [part.answer for part in late.parts] == ["holds", "contradicted"]
    assert late.caveats == ("reversed at relative depth 1.00",)


def test_check_tells_the_difference_that_decides_and_what_speaks_against(tmp_path: Path) -> None:
    (verdict,) = judge("c9", "cka-finetune", tuned(-0.1))
    assert verdict.outcome == "contradicted"
    effect = Judged.of(verdict).choose_effect()
    assert effect is not None
    assert effect.label == "the end,"
    (reversed_early,) = judge("c2", "cka-blocks", depths(-0.3, 0.3, 0.3, 0.3))
    make_table([verdict, reversed_early]).frame.to_csv(tmp_path / "verdicts.csv", index=False)
    nine, two = read_verdicts(tmp_path)
    found = nine.choose_effect()
    assert found is not None
    # older pandas reads a number a digit off
    assert found.difference.high == pytest.approx(effect.difference.high)
    assert replace(found, difference=effect.difference) == effect
    assert two.caveats == ("reversed at relative depth 0.25",)
    checked = ClaimCondition("c2").check(Evidence({}, (two,), str, spell_effect))
    assert "reversed at relative depth 0.25" in checked.found


def test_a_yardstick_that_shows_as_much_is_said() -> None:
    half, own = {"model_b": "JE, first half", "less": "with the second half"}, "first quarter"
    for size, said in ((0.3, ("JE with JE shows as much",)), (0.05, ())):
        rows = [
            difference(value, **half, model_a=f"{family}, {own}")
            for family, value in (("REC", 0.2), ("JE", size))
        ]
        (verdict,) = judge("c18", "cka-blocks", results_of(families_quarters=rows))
        assert (verdict.outcome, verdict.caveats) == ("holds", said)
        assert ("JE with JE shows as much" in write_claim_answer([verdict], "").effect) == bool(
            said
        )


def test_tokens_over_which_the_pixels_explain_a_difference_are_on_the_first_screen() -> None:
    half = {"model_b": "JE, first half", "less": "with the second half"}
    rows = [
        difference(0.2, **half, tokens=tokens, model_a="REC, first quarter")
        | {"deconfounded_difference": left, "deconfounded_difference_low": left - 0.01}
        | {"deconfounded_difference_high": left + 0.01}
        for tokens, left in (("all", 0.2), ("cls", 0.0))
    ]
    verdicts = judge("c18", "cka-blocks", results_of(families_quarters=rows))
    assert [one.caveats for one in verdicts] == [(), ("not seen with pixels regressed out",)]
    answer = write_claim_answer(verdicts, "")
    assert answer.word == "depends"
    assert answer.effect.endswith("; in the CLS token not seen with pixels regressed out")
