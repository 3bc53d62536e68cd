"""Groups of models that a study names, a user's own claims, and conditions that `sslens check`
holds against a study or a report."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import sslens
from sslens.cli import main
from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import ModelInfo, Models
from sslens.comparisons.lookup import MAIN, Place, TableNumber
from sslens.comparisons.naming import SideNames
from sslens.comparisons.own_claims import OwnClaim
from sslens.errors import InputError
from sslens.figure import Figure, Line, Lines
from sslens.find import names, plugin
from sslens.models.about import About
from sslens.report.verdicts import judge_all, make_table, write_verdicts
from sslens.report.writing.numbers import spell_effect, spell_number
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.verdicts import Part, reach_verdict
from sslens.study import Study, read
from sslens.study.checking import check_study, narrow
from sslens.study.choosing import Choice, require_claims
from sslens.study.conditions import ClaimCondition, Evidence, parse_condition
from sslens.study.finished import read_verdicts
from sslens.study.groups import assign_families, parse_group_words, parse_groups
from sslens.study.judged import Judged
from sslens.study.members import Member
from sslens.study.places import require_places
from sslens.study.situation import Lack
from sslens.table import Results, Table

CLAIMS = [name for name in names("claims") if name != "advice"]
FAMILIES = {"model_a": "JE", "model_b": "JE", "less": "JE · REC", "tokens": "all", "kind": "block"}


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    frame = pd.DataFrame(rows)
    return Table(frame, dict.fromkeys(frame, "JE, joint embedding"))


def accuracies() -> Results:
    """k-NN accuracies of two models and a control, whose intervals are 0.02 wide."""
    rows = [
        {"model": model, "tap": tap, "pooling": pooling, "vote": vote, "features": "raw"}
        | {"accuracy": value, "low": value - 0.01, "high": value + 0.01, "images": 1000}
        for model, level in (("mine", 0.72), ("dino_vitb16", 0.7), ("pixels", 0.4))
        for tap, off in (("blocks.0", 0.3), ("norm", 0.0))
        for pooling, less in (("cls", 0.0), ("patch", 0.1))
        for vote, value in (("weighted", level - off - less), ("majority", level - off - less))
    ]
    standardising = [{"model": "mine", "change": 0.1, "change_low": 0.05, "change_high": 0.2}]
    return Results({"accuracies": table(rows), "standardising": table(standardising)})


def blocks(value: float = 0.3) -> Results:
    """The tables of cka-blocks that claim C1 reads."""
    row = FAMILIES | {"cka": 0.8, "low": 0.7, "high": 0.9, "minibatches": 32}
    row |= {"difference": value, "difference_low": value - 0.05, "difference_high": value + 0.05}
    row |= {"trainings_low": np.nan, "trainings_high": np.nan, "trainings": 1, "pairs": 1}
    row |= {"members": "JE: dino and moco; REC: mae"}
    members = [
        {"family": family, "model": model, "objective": model}
        for family, model in (("JE", "dino"), ("JE", "moco"), ("REC", "mae"))
    ]
    cells = [{"model_a": one["model"], "tokens": "all"} for one in members]
    return Results(
        {
            "families": table([row]),
            "families-all-pairs": table([row]),
            "family-members": table(members),
            "cells": table(cells),
        }
    )


RESULTS = {"knn-depth": accuracies(), "cka-blocks": blocks()}
MINE: Mapping[str, Any] = {
    "name": "mine-separates",
    "words": "Mine separates classes better than DINO",
    "table": "knn-depth",
    "column": "accuracy",
    "a": {"model": "mine", "tap": "norm"},
    "b": {"model": "dino_vitb16", "tap": "norm"},
    "kind": "accuracy",
    "control": {"model": "pixels", "tap": "norm"},
}


# ------------------------------------------------------------------------------------------------
# the papers' claims


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_quotes_the_papers_and_names_groups_where_it_is_about_two(name: str) -> None:
    claim = plugin("claims", name)
    assert claim.PAPERS
    for quotation in claim.PAPERS:
        assert quotation.source.startswith(("2022, ", "2023, "))
        assert 4 <= len(quotation.words.split()) <= 40
    assert hasattr(claim, "GROUP_WORDS") == (name not in ("c13", "c17", "c21"))
    words = getattr(claim, "GROUP_WORDS", claim.WORDS).format(a="old", b="new")
    assert words.endswith(".")
    if hasattr(claim, "GROUP_WORDS"):
        assert not any(word in words for word in ("JE", "REC", "joint embedding", "{"))


@pytest.mark.slow
def test_quotations_stand_in_the_papers_letter_by_letter() -> None:
    folder = Path(os.environ.get("SSLENS_DATA", "")) / ".." / "paper"
    files = sorted(folder.glob("*-20*.txt"))
    if not os.environ.get("SSLENS_DATA") or not files:
        pytest.skip("SSLENS_DATA is not set, or the papers' texts are not beside it")
    text = " ".join(" ".join(one.read_text(encoding="utf-8") for one in files).split())
    for name in CLAIMS:
        for quotation in plugin("claims", name).PAPERS:
            assert quotation.words in text.replace("*", ""), (name, quotation.words)


def test_verdicts_have_the_papers_words_and_numbers_beside() -> None:
    (verdict,) = judge_all({"cka-blocks": RESULTS["cka-blocks"]})[:1]
    (sentence,) = write_verdicts([verdict])
    assert sentence.startswith("C1 holds in these models: Joint-embedding models are alike")
    assert "The papers: “two contrastive learning procedures" in sentence
    row = make_table([verdict]).frame.iloc[0]
    assert row.papers.count("“") == 2
    assert (row.level, row.smallest, row.trainings) == ("images", 0.02, 1)
    assert row.strength == pytest.approx(0.25 / 0.02)
    detection = {"model": "REC", "members": "REC: mae; JE: dino", "less": "JE without multi-crop"}
    detection |= {"difference": 0.05, "difference_low": 0.02, "difference_high": 0.08}
    detection |= {"trainings_low": np.nan, "trainings_high": np.nan, "trainings": 1, "images": 500}
    rows = [detection | {"kind": "box", "measure": size} for size in ("AP small", "AP large")]
    (verdict,) = plugin("claims", "c12").judge(
        {"detection-frozen": Results({"families": table(rows)})}
    )
    # table 6 of 2023: 18.69 less the mean of 15.49 and 17.55; 39.93 less that of 40.21 and 40.82
    published = [part.published for part in verdict.parts]
    assert published == pytest.approx([0.0217, -0.00585])
    assert "(the papers +2.2 points)" in write_verdicts([verdict])[0]


def test_verdicts_are_ordered_by_their_weakest_part() -> None:
    def part(low: float, high: float, expected: Any = 1, over: Any = None) -> Part:
        contrast = Contrast("a", "b", Estimate((low + high) / 2, low, high, "images", 500))
        trainings = over and Contrast("a", "b", Estimate((low + high) / 2, *over, "trainings", 4))
        return Part("", contrast, 0.02, "cka", expected, trainings, 4 if over else 1)

    def strength(*parts: Part) -> tuple[str, float]:
        verdict = reach_verdict("c1", parts, members={})
        return verdict.outcome, verdict.strength

    assert strength(part(0.1, 0.5), part(0.04, 0.5)) == ("holds", pytest.approx(2))
    assert strength(part(0.1, 0.5, over=(0.06, 0.6))) == ("holds", pytest.approx(3))
    assert strength(part(-0.5, -0.1), part(-0.5, -0.2)) == ("contradicted", pytest.approx(10))
    assert strength(part(-0.5, -0.1), part(0.06, 0.5)) == ("in part", pytest.approx(3))
    assert strength(part(-0.005, 0.01)) == ("the same", pytest.approx(0.5))
    assert strength(part(-0.5, -0.02, 0)) == ("holds", pytest.approx(2))  # no gain: a loss
    assert strength(part(-0.005, 0.01, 0)) == ("holds", pytest.approx(0.5))
    assert strength(part(-0.1, 0.5)) == ("undecided", 0.0)
    assert (
        replace(reach_verdict("c1", [part(0.1, 0.2)], members={}), outcome="not run").strength == 0
    )


# ------------------------------------------------------------------------------------------------
# groups


def test_names_of_groups_take_the_place_of_the_families_everywhere_but_in_models() -> None:
    sides = SideNames("JE", "A/B", ("my JE", "REC.pth", "a"))  # a group may be called like a role
    assert sides.rename("JE · REC: my JE and REC.pth; REC, fine-tuned. (REC)") == (
        "JE · A/B: my JE and REC.pth; A/B, fine-tuned. (A/B)"
    )
    swapped = SideNames("REC", "JE")
    assert swapped.rename("JE with REC") == "REC with JE"
    results = swapped.rename(blocks())
    assert results["families"].less.tolist() == ["REC · JE"]
    assert results["families"].difference.tolist() == [0.3]
    assert results.tables["families"].units["less"] == "REC"
    line = Line("JE · REC", np.array([0.0]), np.array([1.0]))
    figure = swapped.rename(Figure("f", ((Lines("JE", "x", "y", (line,), None),),)))
    panel = figure.panels[0][0]
    assert isinstance(panel, Lines)
    assert (panel.title, panel.lines[0].name) == ("REC", "REC · JE")


def test_claims_are_about_the_groups_and_the_others_are_not_run() -> None:
    verdicts = judge_all(
        {"cka-blocks": blocks(), "cka-msn": Results({})}, sides=SideNames("old", "new", ("dino",))
    )
    by_claim = {verdict.claim: verdict for verdict in verdicts}
    c1 = by_claim["c1"]
    assert c1.words == "Models of old are alike, and models of new differ from them."
    assert c1.members == {"old": ("dino", "moco"), "new": ("mae",)}
    assert c1.contrast is not None
    assert (c1.contrast.a, c1.contrast.b) == ("old · old", "old · new")
    assert c1.papers == ()
    assert by_claim["c13"].outcome == "not run"
    assert "the study names groups" in by_claim["c13"].why
    written = " ".join(write_verdicts(verdicts[:-2]))
    assert "JE" not in written
    assert "REC" not in written


def member(name: str, given: str = "", **about: Any) -> Member:
    class Described:
        digest, source = name, given

    described = Described()
    described.about = About(**about)  # type: ignore[attr-defined]
    return Member(name, about.get("family") == "control", model=described, given=given)  # type: ignore[arg-type]


def test_groups_decide_the_families() -> None:
    members = [
        member("mae", "runs/mae", family="REC", objective="mae"),
        member("dino", "dino_vitb16", family="JE", objective="dino"),
        member("msn", "msn", family="JE", objective="msn"),
        member("pixels", family="control"),
    ]
    groups = {"old": ("runs/mae", "msn"), "new": ("dino",)}
    models = Models(assign_families(members, groups))
    assert [one.about.family for one in models] == ["JE", "REC", "JE", "control"]
    assert list_families(models) == (["mae", "msn"], ["dino"])
    assert models.grouped
    assert not Models(assign_families(members, {})).grouped
    left = Models(assign_families(members, {"old": ("mae",), "new": ("dino",)}))
    assert left.about("msn").family is None
    for wrong, message in (
        (("dino", "runs/mea"), r'has "runs/mea", which is no model .*: did you mean runs/mae\?'),
        (("dino", "pixels"), "is a control"),
        (("dino", "mae"), "in a group by another name too"),
    ):
        with pytest.raises(InputError, match=message):
            assign_families(members, {"old": ("runs/mae",), "new": wrong})


def test_a_group_of_tuned_models_or_of_cnns_is_compared_whole() -> None:
    known = {
        "a": About("JE", "a"),
        "a-ft": About("JE", "a", tuned="fine-tuned"),
        "b-ft": About("REC", "b", tuned="fine-tuned", network="cnn"),
    }
    for grouped, families in ((True, (["a"], ["b-ft"])), (False, (["a"], []))):
        members = (ModelInfo(name, about=one, grouped=grouped) for name, one in known.items())
        assert list_families(Models(tuple(members))) == families


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"old": ["a"]}, "There is one group of models"),
        ({"old": ["a"], "new": ["b"], "third": ["c"]}, "There are 3 groups of models"),
        ({"old": ["a"], "new": []}, 'The group "new" has no members'),
        ({"old": ["a"], "new": None}, 'The group "new" has no members'),
        ({"old": ["a", "b"], "new": ["b"]}, 'The groups "old" and "new" both have b'),
        ({"old": ["a", "a"], "new": ["b"]}, 'The group "old" has a twice'),
        ({"old": ["a"], "new": [3]}, "expected a list"),
        (["a", "b"], "expected two names"),
        ({" ": ["a"], "new": ["b"]}, "A group of models has no name"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(groups: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_groups(groups, "study.yaml")


def test_groups_of_the_command_line() -> None:
    assert parse_group_words(["old=a,b", "new=c"]) == {"old": ("a", "b"), "new": ("c",)}
    for words, message in (
        (["old"], "is no group"),
        (["old=a", "old=b"], "given twice"),
        (["old=a", "new="], "has no members"),
    ):
        with pytest.raises(InputError, match=message):
            parse_group_words(words)


# ------------------------------------------------------------------------------------------------
# a user's own claims


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({}, "undecided"),  # 72 % against 70 %, each within a point
        ({"b": {"model": "pixels", "tap": "norm"}}, "holds"),
        ({"b": {"model": "pixels", "tap": "norm"}, "direction": "less"}, "contradicted"),
        ({"b": {"model": "pixels", "tap": "norm"}, "direction": "no more"}, "contradicted"),
        ({"b": {"model": "pixels", "tap": "norm"}, "smallest": 0.5}, "the same"),
        ({"b": {"model": "pixels", "tap": "norm"}, "smallest": 0.33}, "undecided"),
    ],
)
def test_an_own_claim_is_judged_as_the_papers_are(changed: dict[str, Any], outcome: str) -> None:
    claim = OwnClaim.parse({**MINE, **changed})
    (verdict,) = judge_all({"knn-depth": RESULTS["knn-depth"]}, [claim])[-1:]
    assert verdict.outcome == outcome
    if changed:
        (part,) = verdict.parts
        difference = part.contrast.difference
        # [0.71 − 0.41, 0.73 − 0.39]: the two have no images in common, as far as is known
        assert (difference.low, difference.high) == pytest.approx((0.30, 0.34))
        assert not part.contrast.paired
    (sentence,) = write_verdicts([verdict])
    assert sentence.startswith("mine-separates ")
    assert ": Mine separates classes better than DINO. " in sentence
    assert "mine less pixels +32.0 points [+30.0, +34.0]" in sentence  # the control
    assert verdict.why.endswith("by default pooling cls, vote weighted")


def test_an_own_claim_about_a_difference_is_paired_and_has_its_trainings() -> None:
    values = {"name": "near", "words": "They differ.", "table": "cka-blocks/families"}
    values |= {"column": "difference", "where": {"model_b": "old"}}
    claim = OwnClaim.parse(values)
    sides = SideNames("old", "new")
    verdict = judge_all({"cka-blocks": blocks()}, [claim], sides)[-1]
    assert verdict.phrase == "holds in these models"
    assert verdict.limit == "an objective has one training"
    assert verdict.contrast is not None
    assert (verdict.contrast.a, verdict.contrast.b) == ("old · old", "old · new")
    assert verdict.members == {"old": ("dino", "moco"), "new": ("mae",)}
    assert verdict.strength == pytest.approx(12.5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"table": "knn-dept"}, r'no analysis "knn-dept": did you mean knn-depth\?'),
        ({"table": "knn-depth/acuracies"}, r'no table "acuracies": did you mean accuracies\?'),
        ({"column": "acuracy"}, r'no column "acuracy": did you mean accuracy\?'),
        ({"a": {"modle": "mine"}}, r'no column "modle": did you mean model\?'),
        ({"a": {"model": "mien", "tap": "norm"}}, 'has model "mien": did you mean mine'),
        ({"a": {"model": "mine"}}, r"2 rows .* fit model mine: say also tap \(blocks.0, norm\)"),
        ({"b": None}, "expected columns and values"),
        ({"where": {"model": "mine"}}, "needs a and b, .*, or where"),
        ({"name": "c1"}, 'cannot be called "c1"'),
        ({"name": "knn-depth"}, 'cannot be called "knn-depth"'),
        ({"name": ""}, "has no name"),
        ({"words": " "}, "says nothing"),
        ({"direction": "higher"}, "The direction of the claim"),
        ({"kind": "acc"}, "The kind of the claim"),
        ({"smallest": 0}, "must be above 0"),
        ({"smallest": "much"}, "expected a number"),
        ({"colour": "red"}, 'has a key "colour"'),
        ({"column": "tap"}, 'The column "tap" holds no numbers'),
        ({"column": "images"}, "images of accuracies has no interval"),
    ],
)
def test_a_wrong_own_claim_is_refused_with_the_nearest(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        OwnClaim.parse({**MINE, **changed}).judge(RESULTS)


def test_a_claim_about_what_did_not_run_says_so() -> None:
    with pytest.raises(InputError, match=r"no results of knn-depth \(there are cka-blocks\)"):
        OwnClaim.parse(MINE).judge({"cka-blocks": RESULTS["cka-blocks"]})


def test_a_place_finds_numbers_as_they_are_written() -> None:
    rows = [
        {"model": "a", "main": m, "depth": d, "x": d} for m in (True, False) for d in (1 / 3, 1)
    ]
    results = {"knn-depth": Results({"t": table(rows)})}
    number = Place("knn-depth", "x", {"depth": 0.333333}).find(results)
    assert (number.value.value, number.interval) == (1 / 3, False)
    assert number.supposed == {"main": True}
    assert Place("knn-depth", "x", {"depth": 1, "main": False}).find(results).row["main"] is False
    assert number.models == ("a",)


# ------------------------------------------------------------------------------------------------
# the gate


def report(folder: Path, check: Sequence[object] = (), claims: Sequence[OwnClaim] = ()) -> Path:
    """A finished report of the made-up tables."""
    for analysis, results in RESULTS.items():
        for name, one in results.tables.items():
            one.save(folder / "tables" / analysis / f"{name}.csv")
    make_table(judge_all(RESULTS, claims)).save(folder / "verdicts.csv")
    study = {"models": ["gone.pth"], "check": list(check)}  # the models need not be there any more
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


def bound(**values: Any) -> dict[str, Any]:
    return {"knn-depth": {"where": {"model": "mine", "tap": "norm"}, "column": "accuracy"} | values}


def test_a_model_that_is_not_there_is_refused_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sslens.study.capturing.capture", lambda *_: pytest.fail("it computes"))
    study = Study(
        models={"mine": "random:vit_nano_patch8_32"},
        images="scenes:0:16",
        analyses=("knn-depth",),
        controls=False,
    )
    wrong = parse_condition(bound(at_least=0.7, where={"model": "mien", "tap": "norm"}))
    other = parse_condition(bound(at_least=0.7, where={"model": "mine", "tap": "nrom"}))
    with pytest.raises(
        InputError, match='has model "mien", which is not in the study: did you mean mine'
    ) as caught:
        check_study(study, [wrong, other], quiet=True)
    assert 'a tap "nrom" that mine does not have: did you mean norm?' in str(caught.value)


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ([bound(at_least=0.7)], 0),
        ([bound(at_least=0.715)], 3),
        ([bound(at_least=0.75)], 1),
        ([bound(at_most=0.75)], 0),
        ([bound(at_least=0.6, at_most=0.65)], 1),
        ([bound(at_least=0.715), bound(at_least=0.75)], 1),  # a failure is more than a doubt
        (["c1"], 0),
        ([{"claim": "c1", "of": "objectives"}], 3),
        ([{"claim": "c1", "outcome": "contradicted"}], 1),
        ([{"claim": "c1", "tokens": "all"}, "mine-separates"], 3),
        ([{"knn-depth/accuracies": bound(at_least=900)["knn-depth"] | {"column": "images"}}], 0),
        ([bound(at_least=900, column="images")], 0),
        ([bound(at_least=1001, column="images")], 1),
    ],
)
def test_a_report_is_checked_from_its_files(
    conditions: list[object], status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = report(tmp_path, conditions[:1], [OwnClaim.parse(MINE)])
    further = [yaml.safe_dump(one) for one in conditions[1:]]
    options = ["--condition", *further] if further else []
    assert main(["check", str(folder), *options]) == status
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(conditions)
    outcomes = {0: {"holds"}, 1: {"does not hold"}, 3: {"undecided"}}[status]
    assert outcomes & {line[:14].strip() for line in lines}
    assert main(["check", str(folder), "--json", *options]) == status
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == status
    assert [one["outcome"] for one in told["conditions"]] == [line[:14].strip() for line in lines]


def test_a_line_says_the_number_and_what_was_supposed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(report(tmp_path, [bound(at_least=0.7)]))]) == 0
    assert capsys.readouterr().out == (
        "holds          knn-depth accuracy (model mine, tap norm) at least 0.7: 0.72 [0.71, 0.73]"
        " over 1,000 images, pooling cls, vote weighted by default\n"
    )
    main(["check", str(tmp_path), "--json"])
    (one,) = json.loads(capsys.readouterr().out)["conditions"]
    assert (one["value"], one["low"], one["high"], one["n"]) == (0.72, 0.71, 0.73, 1000)
    assert (one["table"], one["where"]["vote"], one["at_least"]) == ("accuracies", "weighted", 0.7)


def test_a_target_that_is_absent_may_have_been_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "none"), "--condition", "c1"]) == 2
    said = capsys.readouterr().err
    assert "none is not there: give the folder of a finished report, or the YAML file of" in said
    page = tmp_path / "report.html"
    page.write_text("<title>two: models</title>")
    assert main(["check", str(page), "--condition", "c1"]) == 2
    assert f"report.html is the page of a report: give the folder, {tmp_path}" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_line_of_a_claim_says_its_effect_interval_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conditions = ["mine-separates", {"claim": "c1", "of": "objectives"}, bound(at_least=0.715)]
    assert main(["check", str(report(tmp_path, conditions, [OwnClaim.parse(MINE)]))]) == 3
    own, papers, number = capsys.readouterr().out.splitlines()
    assert own == (
        "undecided      mine-separates holds: undecided, accuracy, mine less dino_vitb16"
        " +2.0 points [+0.0, +4.0] over 1,000 images (the interval holds 0)"
    )
    assert "less JE · REC +0.30 [+0.25, +0.35] over 32 minibatches of images (" in papers
    assert (
        "other trainings may differ, and the condition is on objectives; 1 of 2 differences)"
        in papers
    )
    assert number.endswith("pooling cls, vote weighted by default (the interval holds 0.715)")

    main(["check", str(tmp_path), "--json"])
    own, papers, number = json.loads(capsys.readouterr().out)["conditions"]
    (effect,) = own["verdicts"][0]["effects"]
    assert (effect["a"], effect["b"], effect["n"]) == ("mine", "dino_vitb16", 1000)
    assert [effect[name] for name in ("effect", "low", "high")] == pytest.approx([0.02, 0, 0.04])
    assert (effect["over"], effect["why"]) == ("images", "the interval holds 0")
    assert len(papers["verdicts"][0]["effects"]) == 2
    assert number["why"] == "the interval holds 0.715"


def test_a_line_has_a_minus_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turned = OwnClaim.parse({**MINE, "a": MINE["b"], "b": MINE["a"]})
    main(["check", str(report(tmp_path, ["mine-separates"], [turned]))])
    assert "less mine −2.0 points [−4.0, " in capsys.readouterr().out


def test_verdicts_and_their_file_tell_a_condition_the_same(tmp_path: Path) -> None:
    folder = report(tmp_path, [], [OwnClaim.parse(MINE)])
    verdicts = judge_all(RESULTS, [OwnClaim.parse(MINE)])
    direct = {(one.claim, one.tokens): Judged.of(one) for one in verdicts}
    for one in read_verdicts(folder):
        own = direct[one.claim, one.tokens]
        assert [effect.words for effect in one.effects] == [effect.words for effect in own.effects]
        for effect, other in zip(one.effects, own.effects, strict=True):
            assert effect.difference.low == pytest.approx(other.difference.low, abs=1e-5)
            assert effect.smallest == other.smallest


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"outcome": ""}, 'the outcome of "mine-separates" is ""'),
        ({"outcome": "great"}, 'the outcome of "mine-separates" is "great"'),
        ({"claim": ""}, 'the outcome of "" is'),
        ({"effect": "x"}, 'its effect is "x"'),
    ],
)
def test_a_damaged_verdict_fails_no_gate(
    tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    folder = report(tmp_path, [], [OwnClaim.parse(MINE)])
    rows = pd.read_csv(folder / "verdicts.csv", dtype=str, keep_default_na=False)
    rows = rows[rows.claim == "mine-separates"].assign(**changed)
    rows.to_csv(folder / "verdicts.csv", index=False)
    with pytest.raises(InputError, match=rf"verdicts\.csv is damaged in row 1 \({said}"):
        read_verdicts(folder)


def test_an_interval_that_is_text_is_no_interval() -> None:
    frame = RESULTS["knn-depth"]["accuracies"].assign(low="x")
    results = {"knn-depth": Results({"accuracies": Table(frame, dict.fromkeys(frame, ""))})}
    with pytest.raises(InputError, match='The column "low" holds no numbers'):
        Place("knn-depth", "accuracy", {"model": "mine", "tap": "norm"}).find(results)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("c99", 'No claim "c99" was judged'),
        ("c13", "c13 was not judged: the report has no results of cka-msn, from which"),
        ("c2", "c2 cannot be checked, as it was not run"),
        ("{claim: c1, tokens: cls}", "not judged for tokens cls"),
        ("{claim: c1, outcome: hold}", "did you mean holds"),
        ("knn-depth: {column: accuracy, where: {model: mine}}", "has no bound"),
        (
            "knn-depth: {column: accuracy, at_least: 90}",
            "is a share of 1: give 0.9 for 90",
        ),
        ("knn-depth: {column: accuracy, at_least: high}", "expected a number"),
        ("knn-depth: {column: accuracy, at_least: 2, at_most: 1}", "can never hold"),
        ("knn-depth: {where: {model: mine}, at_least: 0.7}", "does not say its column"),
        ("knn-depth: {column: accuracy, atleast: 0.7}", 'key "atleast": did you mean at_least'),
        ("knn-depth: {column: accuracy, where: {model: nobody}, at_least: 0.7}", "there are"),
        ("knn-depth: {column: accuracy, where: {tap: norm}, at_least: 0.7}", "3 rows of"),
        ("agreement: {column: value, at_least: 0}", "reads agreement, of which "),
        ("agreement: {column: value, at_least: 0}", "study.yaml 'analyses=[cka-blocks, "),
        ("{a: 1, b: 2}", "A condition has 2 keys"),
        ("3", "A condition is 3"),
        ("[", "is not YAML"),
    ],
)
def test_a_condition_on_what_is_not_there_is_the_users_error(
    condition: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = report(tmp_path, ["c1"])
    assert main(["check", str(folder), "--condition", condition]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


WRONG = {
    "knn-dept: {column: accuracy, atleast: 0.7}": ("mean knn-depth?", "mean at_least?"),
    "{claim: c1, outcome: hold, token: all}": ('a key "token": did you mean tokens?',),
    "{claim: c1, outcome: hold, of: model}": ("did you mean holds?", "did you mean models?"),
    "mine-separate": ("did you mean mine-separates?",),
    "knn-depth/accuracies: {column: acuracy, where: {modl: a}, at_least: 0.7}": (
        "did you mean accuracy?",
        "did you mean model?",
    ),
}


def test_all_conditions_that_are_wrong_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    analyses = ["cka-blocks", "knn-depth"]
    study = study_file(tmp_path, analyses=analyses, claims=[MINE], check=["c99"])
    for target in (report(tmp_path / "c", ["c1"], [OwnClaim.parse(MINE)]), study):
        assert main(["check", str(target), "--condition", *WRONG]) == 2
        said = capsys.readouterr().err
        for told in WRONG.values():
            assert all(one in said for one in told)
    assert 'no claim "c99"' in said
    study = study_file(tmp_path, check=[{"claim": "c1", "of": "a"}, 3])
    assert main(["check", str(study), "--condition", "3", "knn-dept: {}"]) == 2
    said = capsys.readouterr().err
    assert 'The condition on c1 says of "a": there are models, objectives. A cond' in said
    assert said.count("A condition is 3:") == 1
    assert "did you mean knn-depth?" in said


def test_what_check_advises_is_taken_by_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The keys of a study are no options of the command."""
    gate = study_file(tmp_path, check=["c1", bound(at_least=0.1)])
    assert main(["check", str(gate)]) == 2
    assert "(cka-blocks): add it to analyses=…." in capsys.readouterr().err
    assert main(["study", str(gate), "images=nowhere", "--dry-run"]) == 2
    assert "--images" not in capsys.readouterr().err
    assert main(["check", str(gate), "analyses=[cka-blocks, knn-depth]"]) == 2
    assert "not among the analyses" not in capsys.readouterr().err


def test_a_pair_is_found_in_either_order_where_the_number_is_the_same() -> None:
    row = {"model_a": "dino", "model_b": "mae", "tokens": "all", "tap_a": "x", "tap_b": "y"}
    row |= {"cka": 0.5, "low": 0.4, "high": 0.6, "difference": 0.1, "minibatches": 8}
    results = {"cka-blocks": Results({"means": table([row])})}
    turned = {"model_a": "mae", "model_b": "dino", "tap_b": "x"}
    for where in (turned, {"model_b": "dino"}, {"model_a": "dino", "tap_a": "x"}):
        assert Place("cka-blocks", "cka", where, "means").find(results).value.value == 0.5
    with pytest.raises(InputError, match="ask for model_b mae, model_a dino, tap_a x"):
        Place("cka-blocks", "difference", turned, "means").find(results)
    with pytest.raises(InputError, match="No row of means"):
        Place("cka-blocks", "cka", turned | {"tap_b": "z"}, "means").find(results)


def test_nothing_to_check_and_no_report_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(report(tmp_path / "a"))]) == 2
    assert "There are no conditions to check: give --condition" in capsys.readouterr().err
    assert main(["check", str(tmp_path), "--condition", "c1"]) == 2
    assert "has no tables" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "a"), "limit=3"]) == 2
    assert main(["check", str(tmp_path / "none.yaml"), "--condition", "c1"]) == 2


def test_few_images_and_undefined_numbers_are_undecided() -> None:
    few = accuracies()
    frame = few["accuracies"].assign(images=10)
    results = {"knn-depth": Results({"accuracies": table(frame.to_dict("records"))})}

    def spell(number: TableNumber) -> str:
        return spell_number(number.value, interval=number.interval)

    for changed in (results, {"knn-depth": Results({"accuracies": table(_blank(frame))})}):
        checked = parse_condition(bound(at_least=0.1)).check(
            Evidence(changed, (), spell, spell_effect)
        )
        assert checked.outcome == "undecided"
    assert "it is undefined" in checked.found


def _blank(frame: pd.DataFrame) -> Any:
    return frame.assign(accuracy=np.nan, low=np.nan, high=np.nan).to_dict("records")


# ------------------------------------------------------------------------------------------------
# studies


NANO = "random:vit_nano_patch8_32"


def study_file(folder: Path, **changed: Any) -> Path:
    values = {
        "models": [f"{NANO}:0", f"{NANO}:1", f"{NANO}:2"],
        "images": "scenes:0:64",
        "analyses": ["cka-blocks"],
        "batch": 8,
        "tokens": ["all"],
        "controls": False,
        "device": "cpu",
        "groups": {"old": [f"{NANO}:0", f"{NANO}:1"], "new": [f"{NANO}:2"]},
        "claims": [
            {"name": "alike", "words": "The old are alike.", "table": "cka-blocks/families"}
            | {"column": "difference", "where": {"model_a": "old", "model_b": "old"}}
        ],
        "check": [
            {"cka-blocks/families": {"where": {"model_b": "new"}, "column": "cka", "at_least": 0}},
            {"cka-blocks/families": {"where": {"model_b": "new"}, "column": "cka", "at_most": 2}},
        ],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values | changed, sort_keys=False))
    return path


def test_a_study_with_groups_claims_and_conditions_is_written_as_it_is_read(tmp_path: Path) -> None:
    study = read(study_file(tmp_path))
    assert study.groups == {"old": (f"{NANO}:0", f"{NANO}:1"), "new": (f"{NANO}:2",)}
    assert [claim.name for claim in study.claims] == ["alike"]
    (tmp_path / "again.yaml").write_text(study.yaml())
    assert read(tmp_path / "again.yaml") == study
    plain = Study((f"{NANO}:0",), "scenes:0:8").yaml()
    assert not any(key in plain for key in ("groups", "claims", "check"))
    assert ClaimCondition("c1").to_yaml() == ClaimCondition("C1").to_yaml() == "c1"
    whole = {"claim": "c1", "outcome": "contradicted", "tokens": "cls", "of": "objectives"}
    assert parse_condition(parse_condition(whole).to_yaml()) == parse_condition(whole)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"claims": {"name": "x"}}, "expected a list"),
        ({"check": "c1"}, "expected a list"),
        ({"claims": [{**MINE}, {**MINE}]}, 'Two claims of the study are called "mine-separates"'),
        ({"groups": {"old": []}}, "There is one group"),
        ({"check": [{"cka-bloks": {}}]}, "did you mean cka-blocks"),
    ],
)
def test_a_wrong_study_is_refused_before_anything_is_loaded(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read(study_file(tmp_path, **changed))


def test_the_main_table_is_meant_where_several_fit() -> None:
    for analysis, table_name in MAIN.items():
        assert table_name in plugin("analyses", analysis).TABLES
    columns = {"probes": ["model", "accuracy"], "accuracies": ["accuracy", "model"]}
    place = Place("knn-depth", "accuracy", {"model": "mine"})
    assert place.choose_table(columns) == "accuracies"
    with pytest.raises(InputError, match="2 tables of cka-blocks have accuracy, model: say which"):
        replace(place, analysis="cka-blocks").choose_table(columns)


def test_only_what_conditions_read_is_computed(tmp_path: Path) -> None:
    study = read(study_file(tmp_path, analyses=["cka-blocks", "cka-msn"], claims=[]))
    assert narrow(study, study.check).analyses == ("cka-blocks",)
    assert narrow(study, [ClaimCondition("c13")]).analyses == ("cka-msn",)
    free = read(study_file(tmp_path, analyses=[], claims=[dict(MINE)]))
    conditions = [ClaimCondition("c15"), ClaimCondition("mine-separates")]
    assert narrow(free, conditions).analyses == ("detection-layers", "knn-depth")
    assert [claim.name for claim in narrow(free, conditions).claims] == ["mine-separates"]
    assert narrow(free, conditions[:1]).claims == ()
    with pytest.raises(InputError, match="reads knn-depth, which is not among the analyses"):
        narrow(study, [ClaimCondition("c5")])
    with pytest.raises(InputError, match=r'"mine-separate": did you mean mine-separates\?'):
        narrow(free, [ClaimCondition("mine-separate")])


def test_a_claim_that_the_study_cannot_judge_is_refused_before_anything_is_computed() -> None:
    claim = OwnClaim.parse(MINE)
    require_claims([claim], Choice(("knn-depth",)))
    left_out = {"knn-depth": Lack("the images have no labels")}
    with pytest.raises(InputError, match="does not carry out: the images have no labels: add it"):
        require_claims([claim], Choice(("cka-blocks",), left_out))
    with pytest.raises(InputError, match='no column "acuracy": did you mean accuracy'):
        require_claims([replace(claim, column="acuracy")], Choice(("knn-depth",)))


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("probe-depth/second-seeds", "gain"),
        ("probe-layers/fine-tuned", "difference"),
        ("probe-layers/choices", "over_usual"),
        ("detection-frozen/multi-crop", "difference"),
        ("detection-finetuned/changes", "difference"),
        ("detection-layers/gains", "difference"),
    ],
)
def test_a_claim_may_be_about_any_table_of_an_analysis(table: str, column: str) -> None:
    claim = {"name": "own", "words": "It is more.", "table": table, "column": column}
    own = OwnClaim.parse(claim | {"where": {"model": "mine"}})
    choice = Choice((table.partition("/")[0],))
    require_claims([own], choice)
    with pytest.raises(InputError, match='no column "modell": did you mean model'):
        require_claims([replace(own, where={"modell": "mine"})], choice)


def test_the_examples_of_the_documentation_are_read() -> None:
    text = (Path(__file__).parent.parent / "docs" / "claims.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    read_blocks = {
        key: yaml.safe_load(block)[key]
        for block in blocks
        for key in ("groups", "claims", "check")
        if f"    {key}:" in block
    }
    assert list(parse_groups(read_blocks["groups"], "docs")) == ["public", "ours"]
    assert [OwnClaim.parse(one).direction for one in read_blocks["claims"]] == ["more", "more"]
    assert len([parse_condition(one) for one in read_blocks["check"]]) == 5


@pytest.mark.slow
def test_a_study_is_run_and_checked_on_its_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = study_file(tmp_path), tmp_path / "out"
    assert main(["study", str(path), "--out", str(out)]) == 0
    verdicts = pd.read_csv(out / "verdicts.csv", keep_default_na=False)
    c1 = verdicts[verdicts.claim == "c1"].iloc[0]
    assert (c1.a, c1.b) == ("old · old", "old · new")
    assert c1.members.startswith("old: ")
    own = verdicts[verdicts.claim == "alike"].iloc[0]
    assert float(own.effect) == pytest.approx(float(c1.effect))
    families = pd.read_csv(out / "tables" / "cka-blocks" / "families.csv")
    assert families.model_b.tolist() == ["old", "new"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Models of old are alike, and models of new differ from them." in page
    capsys.readouterr()
    for target in (path, out):  # what the study computes, and what the report says
        assert main(["check", str(target)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.startswith("holds") for line in lines] == [True, True]
    option = [
        "--condition",
        "{cka-blocks/families: {column: cka, where: {model_b: nwe}, at_most: 1}}",
    ]
    assert main(["check", str(path), *option]) == 2
    assert 'has model_b "nwe"' in capsys.readouterr().err
    assert main(["check", str(path), "--condition", "c5"]) == 2  # what the study leaves out
    assert "is not among the analyses of the study" in capsys.readouterr().err
    wrong = study_file(tmp_path, claims=[{**MINE, "table": "cka-blocks"}])
    assert main(["study", str(wrong), "--out", str(tmp_path / "wrong")]) == 2
    assert 'cka-blocks has no column "accuracy"' in capsys.readouterr().err


def test_a_tap_or_model_that_will_not_be_there_is_refused_before_any_pass() -> None:
    """A fine-tuned model may have no final norm, which others of the study have."""
    model = sslens.load("random:vit_nano_patch8_32")
    members = (Member("mine", False, model), Member("pixels", True, sslens.load("pixels")))

    def require(**where: str | bool) -> None:
        body = {"where": where, "column": "accuracy", "at_least": 0.3}
        condition = parse_condition({"knn-depth": body})
        require_places(Study(models=("pixels",), images="scenes:0:8"), (condition,), members)

    require(model="mine", tap="norm")
    require(model="mine", last=True)
    for where, said in (
        ({"model": "pixels", "tap": "norm"}, '"norm" that pixels does not have: there are pixels'),
        ({"model": "pixels", "tap": "norm"}, "last: true is the last layer of any model"),
        ({"model": "mine", "tap": "blocks.33"}, "did you mean blocks.3"),
        ({"model": "min"}, 'is about a model "min": did you mean mine'),
    ):
        with pytest.raises(InputError, match=said):
            require(**where)
