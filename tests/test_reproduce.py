"""Reproducing the papers: which weights and images an exhibit is computed on, what is missing, what
is found beside what is printed; and a reproduction that is killed or fails in a step."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import checkpoints
from sslens import exhibits, load
from sslens.cli import main
from sslens.errors import InputError, Interrupted
from sslens.exhibits import Place
from sslens.report.outcomes import ComparedNumber, JudgedClaim, ReproducedExhibit
from sslens.report.reproduced import write_page
from sslens.report.writing.reproduced import list_lines, spell_claim_effect
from sslens.statistics.estimate import Estimate
from sslens.store import Store
from sslens.study.found_numbers import (
    find_number,
    name_models,
    read_claims,
    read_rows,
    read_warning,
)
from sslens.study.own_folders import find_images
from sslens.study.reproduce import Worker, run
from sslens.study.reproduce_request import ReproduceRequest, read_request
from sslens.study.reproduction import AUTHORS, SHIPPED, YOURS, Step, plan_steps
from sslens.study.reproduction_plan import describe_plan
from sslens.study.stored_results import find_stored, pack


def plan(*names: str, why: Mapping[str, str] | None = None, **options: object) -> Step:
    request = ReproduceRequest(names, **options)  # type: ignore[arg-type]
    (step,) = plan_steps(request, lambda source: (why or {}).get(source, ""))
    return step


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for part in ("train", "val"):
        for name in ("n01440764", "cat"):
            (tmp_path / "imagenet" / part / name).mkdir(parents=True)
    return str(tmp_path / "imagenet")


def test_without_images_shipped_models_are_studied_and_it_is_said() -> None:
    step = plan("cka-blocks")
    assert step.on == SHIPPED
    assert "needs ImageNet" in step.why
    assert step.differs
    assert not step.lacks
    assert all(source.startswith("scenes_") for source in step.models.values())


def test_with_images_the_authors_weights_are_studied(folder: str) -> None:
    step = plan("agreement", images=folder)
    assert (step.on, step.why) == (AUTHORS, "")
    assert step.images == f"{folder}/val"
    assert step.bank == f"{folder}/train"
    assert "not like ImageNet: it has 2 folders of classes, 1 of them" in step.differs[0]


def test_weights_that_cannot_be_had_are_named_and_shipped_ones_stand_in(folder: str) -> None:
    step = plan("agreement", images=folder, why={"mae_vitb16": "mae_vitb16 cannot be had"})
    assert (step.on, step.why) == (SHIPPED, "mae_vitb16 cannot be had")
    step = plan("published", images=folder, why={"mae_vitb16": "mae_vitb16 cannot be had"})
    assert not step.lacks  # each of its models fails alone


def test_a_folder_like_imagenet_but_for_its_images_is_said(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / "val" / f"n{number:08d}").mkdir(parents=True)
    (tmp_path / "val" / "n00000000" / "one.JPEG").touch()
    own = find_images(str(tmp_path))
    assert own.bank is None
    assert own.differs == (f"{tmp_path}/val has 1 image, and ImageNet's images 50,000",)
    assert "no folder train" in plan("agreement", images=str(tmp_path)).absent[0]


def test_own_models_play_roles(folder: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.touch()
    step = plan("cka-finetune", images=folder, models={"dino-ft": str(file)})
    assert step.models["dino-ft"] == str(file)
    assert step.on == AUTHORS
    assert any("dino-ft is yours" in text for text in step.differs)
    assert not any(text.startswith("dino-ft") for text in step.absent)
    assert any(text.startswith("moco-v3-ft") for text in step.absent)
    alone = plan("cka-finetune", images=folder, models={"dino-ft": str(file)}, alone=True)
    assert list(alone.models) == ["dino-ft"]
    assert alone.on == YOURS
    seeds = {"mae": str(file), "mae-seed1": str(file), "mae-seed1-ft": str(file)}
    first = dict(list(seeds.items())[:2])  # whose second has no place of its own in the exhibit
    assert list(plan("probe-depth", images=folder, models=first, alone=True).models) == list(first)
    assert list(plan("cka-finetune", images=folder, models=seeds, alone=True).models) == list(seeds)
    every = plan(
        "cka-blocks", models=dict.fromkeys(("moco-v3", "dino", "mae"), str(file)), alone=True
    )
    assert every.on == YOURS


def test_detection_needs_coco_and_long_exhibits_to_be_named(tmp_path: Path) -> None:
    request = ReproduceRequest(("all",))
    steps = {step.name: step for step in plan_steps(request)}
    assert steps["detection-frozen"].costly
    assert not plan("detection-frozen").costly
    assert not steps["cka-msn"].costly
    (tmp_path / "train2017").mkdir()
    coco = (str(tmp_path), "a/instances_train2017.json", "a/instances_val2017.json")
    step = plan("detection-frozen", coco=coco)
    assert step.on == AUTHORS
    assert step.bank == f"coco:{tmp_path}/train2017:a/instances_train2017.json"
    assert step.images == f"coco:{tmp_path}:a/instances_val2017.json"


def test_samples_are_by_the_generator_that_comes_along_or_left_out(folder: str) -> None:
    step = plan("invariance", limit=32)
    assert step.images == "scenes:1:32"
    for given, taken in ((None, "scenes_generator"), ("runs/fast", "runs/fast")):
        study = step.study(ReproduceRequest(("invariance",), generator=given))
        assert (study.analyses, study.generator) == (("invariance", "samples"), taken)
    step = plan("invariance", images=folder)
    assert "generator" in step.left_out["samples"]
    assert step.study(ReproduceRequest(("invariance",))).analyses == ("invariance",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cka-block"], "did you mean cka-blocks"),
        (["cka-finetune", "--models", "mae-f=x"], "did you mean mae-ft"),
        (["cka-blocks", "--models", "mae"], "ROLE=MODEL"),
        (["cka-blocks", "--models", "mae=no/such.pth"], 'no model "no/such.pth"'),
        (["cka-blocks", "--images", "no-such-folder"], "is not there"),
        (["cka-blocks", "--bank", "scenes:0"], "give --images too"),
        (["no-such.yaml"], "There is no file no-such.yaml"),
    ],
)
def test_mistakes_are_answered(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *arguments, "--dry-run"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_dry_run_says_steps_costs_and_what_would_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["reproduce", "all", "--dry-run"]) == 0
    said = capsys.readouterr().err
    for name in exhibits.names():
        assert f"\n{name} " in f"\n{said}"
    assert "published           would not run: it needs ImageNet: give --images" in said
    assert "of two processor cores" in said


def test_the_dry_run_says_what_takes_too_long_unless_it_is_stored(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "it would not run: name it, or give --costly"
    assert main(["reproduce", "all", "--dry-run"]) == 0
    assert long not in capsys.readouterr().err  # what takes long comes with sslens
    monkeypatch.setattr("sslens.study.reproduction_plan.find_stored", lambda step: None)
    assert main(["reproduce", "all", "--dry-run"]) == 0
    assert capsys.readouterr().err.count(long) == 3


def test_the_dry_run_says_what_is_missing_once(folder: str, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").touch()
    request = ReproduceRequest(
        ("cka-blocks", "knn-depth", "agreement"),
        images=folder,
        models={"mae": str(tmp_path / "mine.pth"), "dino": str(tmp_path / "none.pth")},
        made={"dino": "sslens pretrain dino"},
        alone=True,
        limit=64,
    )
    lines = list(describe_plan(request))
    missing = [line for line in lines if "sslens pretrain dino" in line]
    assert len(missing) == 1
    assert missing[0].startswith("without: dino: no such weights are here")
    assert not missing[0].endswith(")")  # told of all three
    (few,) = [line for line in lines if "64 images are taken, not all" in line]
    assert few.endswith("all")  # of both that have printed numbers
    assert all("your models" in line for line in lines if line.startswith(request.exhibits))
    assert sum("on the authors' weights and images about" in line for line in lines) == 3


@pytest.mark.parametrize("name", ["paper", "scenes", "cifar10"])
def test_the_files_of_runs_are_requests(name: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "runs" / f"{name}.yaml"
    sources = {"images": None, "bank": None, "coco": None}  # folders that are not here
    request = read_request(
        path, sources if name == "paper" else {"images": str(tmp_path)} if name == "cifar10" else {}
    )
    steps = plan_steps(request)
    assert len(steps) == len(request.chosen)
    if name == "cifar10":
        lines = "\n".join(describe_plan(request))
        assert "sslens pretrain mae --images cifar10/train" in lines
        assert all(step.lacks for step in steps)  # no model is there yet
    else:
        assert not any(step.costly for step in steps)


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_numbers_are_looked_up_by_roles(tmp_path: Path) -> None:
    rows = [
        {
            "model_a": "mae_vitb16",
            "model_b": "b",
            "tap": tap,
            "value": value,
            "low": low,
            "high": "",
        }
        for tap, value, low in (("x", "0.5", "0.4"), ("x + y", "0.6", ""), ("z", "", ""))
    ]
    write_rows(tmp_path / "tables" / "a" / "pairs.csv", rows)
    names = {"mae": "mae_vitb16"}

    def find(**where: str) -> Estimate | None:
        return find_number(tmp_path, Place("a/pairs", "value", {"model_a": "mae", **where}), names)

    found = find(tap="x")
    assert found is not None
    assert (found.value, found.low) == (0.5, 0.4)
    both = find(tap="* + *")
    assert both is not None
    assert both.value == 0.6
    assert np.isnan(both.low)
    assert find(tap="z") is None  # undefined
    assert find(model_b="b") is None  # not one row
    assert find(taps="x") is None  # no such column
    assert find_number(tmp_path, Place("b", "value", {}), names) is None


@pytest.mark.parametrize(
    ("pixels", "cards", "said"),
    [
        ("", [], "use a"),
        ("", [{"title": "a"}], ""),
        ("Pixels win.", [{"title": "a"}], "Pixels win."),
    ],
)
def test_what_must_not_be_overlooked_is_read(
    tmp_path: Path, pixels: str, cards: list[dict[str, str]], said: str
) -> None:
    """With a card the choice says which model to use, and is no warning."""
    assert read_warning(tmp_path) == ""
    front = {"pixels": pixels, "cards": cards, "choice": "use a"}
    (tmp_path / "front.json").write_text(json.dumps(front))
    assert read_warning(tmp_path) == said


def test_claims_are_read_from_verdicts(tmp_path: Path) -> None:
    columns = ("claim", "tokens", "outcome", "effect", "low", "high", "why", "reversed_with")
    rows = [
        ("c1", "all", "holds in these models", "0.2", "0.1", "0.3", "above 0", ""),
        ("c1", "all", "holds in these models", "0.1", "", "", "", ""),
        ("c1", "cls", "undecided", "0.0", "", "", "", ""),
        ("c20", "cls", "holds in these models", "0.2", "0.1", "0.3", "", "pixels regressed out"),
    ]
    write_rows(tmp_path / "verdicts.csv", [dict(zip(columns, row, strict=True)) for row in rows])
    first, second, third = read_claims(tmp_path, ("c1", "c2", "c20"))
    assert third.outcome == "holds in these models, the reverse with pixels regressed out"
    assert first.outcome == "holds in these models (all), undecided (cls)"
    assert first.effect == Estimate(0.2, 0.1, 0.3)
    assert second.outcome == "not run"
    row = (*rows[0][:-1], "", "ap", "REC, several blocks", "the last", "random #0 +1.2 points")
    names = (*columns, "kind", "a", "b", "controls")
    write_rows(tmp_path / "verdicts.csv", [dict(zip(names, row, strict=True))])
    (told,) = read_claims(tmp_path, ("c1",))
    assert spell_claim_effect(told) == (
        "REC, several blocks less the last +20.0 points [+10.0, +30.0]; beside it random #0"
        " +1.2 points"
    )


def test_models_are_named_as_in_the_reports_provenance(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(
        '{"models": {"a": {"source": "x.pth", "control": false},'
        ' "b": {"source": "y/last.safetensors", "control": false},'
        ' "pixels": {"source": "pixels", "control": true}}}'
    )
    assert name_models(tmp_path, {"mae": "x.pth", "dino": "y"}) == {"mae": "a", "dino": "b"}


def test_the_page_escapes_and_says_which_weights(tmp_path: Path) -> None:
    exhibit = exhibits.find("probe-depth")
    (published,) = exhibit.published
    numbers = (ComparedNumber(published, Estimate(0.0103, 0.0, 0.02), "other images <b>"),)
    claims = (JudgedClaim("c7", "Words.", "undecided", Estimate(0.01, -0.1, 0.2), "too few"),)
    computed = ReproducedExhibit(
        exhibit,
        "computed",
        "shipped models",
        {"mae": "<script>"},
        "no ImageNet",
        (),
        numbers,
        claims,
    )
    failed = ReproducedExhibit(exhibits.find("cka-msn"), "failed", "", {}, "it broke")
    page = write_page(tmp_path, [computed, failed], "sslens reproduce").read_text()
    assert "<script>" not in page
    assert "&lt;b&gt;" in page
    assert "+1.03 points" in page
    assert "Computed" not in page
    assert "On shipped models." in page
    assert page.count("probe-depth is not on the authors&#39; weights: no ImageNet.") == 1
    assert "C7 undecided" in page
    assert "Failed: it broke." in page
    rows = read_rows(tmp_path / "published.csv")
    assert [row["agreement"] for row in rows] == ["not comparable"]
    states = read_rows(tmp_path / "exhibits.csv")
    assert [row["state"] for row in states] == ["computed", "failed"]


def test_what_all_numbers_of_an_exhibit_share_is_said_once(tmp_path: Path) -> None:
    exhibit = exhibits.find("detection-finetuned")
    numbers = tuple(
        ComparedNumber(one, Estimate(0.5), "other weights") for one in exhibit.published
    )
    one = ReproducedExhibit(exhibit, "stored", "shipped models", {}, "", (), numbers)
    page = write_page(tmp_path, [one], "sslens reproduce").read_text()
    lines = "\n".join(list_lines(one))
    for text in (page, lines):
        assert text.count("not comparable: other weights") == 1
    assert page.count("is apparently copied from table 6") == 1
    assert lines.count(": published ") == len(numbers) > 10
    # where one differs, each says it
    mixed = replace(one, numbers=(replace(numbers[0], why="other images"), *numbers[1:]))
    assert "\n".join(list_lines(mixed)).count("not comparable: other") == len(numbers)


def test_a_failing_step_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def carry_out(self: Worker, step: Step, folder: Path) -> None:
        if step.name == "cka-blocks":
            raise ZeroDivisionError("of all things")
        if step.name == "cka-msn":
            raise InputError("The images are bad", mend="give other {images}")

    monkeypatch.setattr(Worker, "_run_study", carry_out)
    said: list[str] = []
    request = ReproduceRequest(("cka-blocks", "cka-msn", "cka-finetune"))
    run(request, tmp_path, store=Store(tmp_path / "store"), say=said.append)
    text = "\n".join(said)
    assert "cka-blocks          failed: ZeroDivisionError: of all things" in text
    assert "cka-msn             failed: The images are bad: give other images." in text
    assert "cka-finetune        on shipped models" in text
    assert "ZeroDivisionError" in (tmp_path / "cka-blocks" / "fault.txt").read_text()
    assert "1 computed, 2 failed" in said[-1]


def test_a_stop_ends_the_whole_reproduction(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops a training means all exhibits, and none of them has failed."""
    begun: list[str] = []

    def stop(self: Worker, step: Step, folder: Path) -> None:
        begun.append(step.name)
        raise Interrupted("Stopped after step 66", mend="say the same again to go on")

    monkeypatch.setattr(Worker, "_run_study", stop)
    said: list[str] = []
    with pytest.raises(Interrupted, match="Stopped after step 66: say the same again to go on"):
        run(ReproduceRequest(("cka-blocks", "cka-msn")), tmp_path / "out", say=said.append)
    assert (begun, said) == (["cka-blocks"], [])
    # what takes long says so before it begins
    monkeypatch.setattr("sslens.study.reproduce.find_stored", lambda step: None)
    with pytest.raises(Interrupted):
        run(ReproduceRequest(("detection-frozen",)), tmp_path / "long", say=said.append)
    (cost,) = said
    assert cost.startswith("detection-frozen    about ")
    assert cost.endswith(" of two processor cores; stopped, it goes on when said again")
    # of models that are not known nothing is known
    own = {"mae": str(tmp_path / "mine.pth")}
    Path(own["mae"]).touch()
    mine = ReproduceRequest(("knn-depth",), images=folder, models=own, alone=True)
    with pytest.raises(Interrupted):
        run(mine, tmp_path / "mine", say=said.append)
    assert said == [cost]


def test_stored_results_are_taken_for_the_same_weights_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = plan("detection-frozen", limit=8)
    row = {
        "model": "scenes_mae",
        "kind": "box",
        "measure": "AP",
        "ap": "0.25",
        "low": "",
        "high": "",
    }
    write_rows(tmp_path / "report" / "tables" / "detection-frozen" / "models.csv", [row])
    results = tmp_path / "results"
    assert find_stored(step, results) is None
    (tmp_path / "report" / "provenance.json").write_text(
        json.dumps({"command": f"sslens reproduce x --out {tmp_path}", "models": {}})
    )
    pack(step, tmp_path / "report", results)
    told = json.loads((results / "detection-frozen" / "provenance.json").read_text())
    assert told == {"command": "sslens reproduce detection-frozen", "models": {}}
    assert find_stored(step, results) == results / "detection-frozen"
    assert find_stored(plan("detection-frozen", limit=9), results) is None
    monkeypatch.setattr("sslens.study.reproduce.find_stored", lambda one: find_stored(one, results))
    said: list[str] = []
    monkeypatch.setattr(exhibits, "names", lambda: ("detection-frozen",))
    for asked in ("all", "detection-frozen"):  # named too: its results are here
        said.clear()
        run(
            ReproduceRequest((asked,), limit=8),
            tmp_path / "out",
            say=said.append,
            overwrite=True,
        )
        assert said[0].startswith("detection-frozen    stored, on shipped models")
    page = (tmp_path / "out" / "reproduce.html").read_text()
    linked = re.findall(r'<a href="(detection-frozen/[^"]*)">([^<]*)</a>', page)
    assert linked == [("detection-frozen/tables/detection-frozen/models.csv", "models.csv")]
    assert (tmp_path / "out" / linked[0][0]).is_file()
    assert any("box AP, MAE: published 30.25, found 25.00; not comparable" in line for line in said)


@pytest.mark.parametrize("form", ["mae", "moco-v3", "fcmae"])
def test_a_released_classifier_scores_as_the_whole_network(form: str, tmp_path: Path) -> None:
    from timm.models.convnext import ConvNeXt
    from timm.models.vision_transformer import VisionTransformer

    from sslens.zoo.classifiers import read_classifier

    torch.manual_seed(0)
    if form == "fcmae":
        theirs = ConvNeXt(
            num_classes=5,
            depths=(1, 1, 1, 1),
            dims=(8, 16, 24, 32),
            use_grn=True,
            ls_init_value=None,
        )
        names = {"head.norm.": "norm.", "head.fc.": "head."}
        state = checkpoints.theirs(
            {
                re.sub(r"^head\.(norm|fc)\.", lambda found: names[found[0]], name): value
                for name, value in theirs.state_dict().items()
            }
        )
    else:
        pooled = "avg" if form == "mae" else "token"
        theirs = VisionTransformer(
            img_size=32,
            patch_size=8,
            embed_dim=64,
            depth=2,
            num_heads=1,
            num_classes=5,
            global_pool=pooled,
        )
        start = checkpoints.vit("mae" if form == "mae" else "moco-v3").state_dict()["pos_embed"]
        if start.shape == theirs.pos_embed.shape:
            theirs.pos_embed.data.copy_(start)
        state = theirs.state_dict()
    with torch.no_grad():
        for value in theirs.parameters():
            if value.ndim < 2:
                value += 0.1 * torch.randn_like(value)
    file = tmp_path / "tuned.pth"
    torch.save({"model" if form != "moco-v3" else "state_dict": state}, file)
    model = load(file, num_heads=None if form == "fcmae" else 1)
    classifier = read_classifier(str(file))
    images = torch.randn(3, 3, *(2 * [64 if form == "fcmae" else 32]))
    with torch.no_grad():
        expected = theirs.eval()(images).double().numpy()
        tokens = model.network.forward_features(images)
    if classifier.pooling == "mean":
        features = tokens.mean((2, 3))
    else:
        features = tokens[:, 0] if classifier.pooling == "cls" else tokens[:, 1:].mean(1)
    assert classifier.pooling == {"mae": "patch", "moco-v3": "cls", "fcmae": "mean"}[form]
    np.testing.assert_allclose(classifier.score(features.double().numpy()), expected, atol=2e-5)


def test_another_classifier_on_the_same_network_is_measured_anew(tmp_path: Path) -> None:
    from sslens import cards, zoo
    from sslens.study.accuracies import AccuracyRequest, measure_accuracy

    file = cards.cards()["scenes_mae_ft"].shipped
    assert file is not None
    header, tensors = zoo.read(file)
    bias = "classifier.head.bias"
    accuracies = []
    for name, more in (("one", 0.0), ("two", 99.0)):
        own = tensors | {bias: tensors[bias] + more * torch.arange(len(tensors[bias])).half()}
        save_file(own, tmp_path / f"{name}.safetensors", dict(header))
        request = AccuracyRequest(
            str(tmp_path / f"{name}.safetensors"), "classifier", "scenes:1:40", None, tmp_path / "f"
        )
        table = measure_accuracy(request, Store(tmp_path / "store"))
        accuracies.append(table.frame.accuracy.item())
    assert accuracies[0] > 0.6 > 0.3 > accuracies[1]


@pytest.mark.slow
def test_accuracies_of_one_model(tmp_path: Path) -> None:
    from sslens.study.accuracies import AccuracyRequest, measure_accuracy

    store, rows = Store(tmp_path / "store"), {}
    for evaluation in ("20-NN", "linear", "classifier"):
        request = AccuracyRequest(
            "scenes_moco_v3_ft", evaluation, "scenes:1:200", "scenes:2:600", tmp_path / "features"
        )
        table = measure_accuracy(request, store)
        rows[evaluation] = table.frame.iloc[0]
        assert measure_accuracy(request, store).csv() == table.csv()
    assert rows["classifier"]["bank"] == 0
    assert rows["20-NN"]["bank"] == 600
    assert all(row["accuracy"] > 0.3 and row["images"] == 200 for row in rows.values())
    with pytest.raises(InputError, match="needs labelled images"):
        AccuracyRequest("scenes_mae", "linear", "scenes:1:9", None, tmp_path)
    with pytest.raises(InputError, match="no classifier"):
        measure_accuracy(
            AccuracyRequest("scenes_mae", "classifier", "scenes:1:9", None, tmp_path), store
        )


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_tables(tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "sslens",
        "reproduce",
        "finetune-path",
        "cka-msn",
        "--limit",
        "48",
    ]

    def start(home: str, out: str) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"SSLENS_HOME": str(tmp_path / home)}
        words = [*line, "--device", "cpu", "--out", str(tmp_path / out)]
        return subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)

    assert start("whole", "whole-out").wait() == 0
    kills = 0
    # before the first result is kept, amid the passes, and when the first exhibit is done
    for moment, count in (
        ("home/cards-*", 1),
        ("home/store/grams/*/*", 2),
        ("out/exhibits.csv", 1),
    ):
        process, began = start("home", "out"), time.monotonic()
        while process.poll() is None and time.monotonic() - began < 300:
            if len(list(tmp_path.glob(moment))) >= count:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        process.wait()
    assert kills == 3
    assert start("home", "out").wait() == 0
    whole = sorted((tmp_path / "whole-out").rglob("*.csv"))
    assert len(whole) > 8
    for table in whole:
        other = tmp_path / "out" / table.relative_to(tmp_path / "whole-out")
        assert other.read_bytes() == table.read_bytes(), table.name
