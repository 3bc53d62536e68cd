"""Models that compute the same, or almost, are one training: no ceiling, and no sample of an
objective."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from sslens import zoo
from sslens.capture import Features, Grams
from sslens.comparisons.ceilings import list_ceilings
from sslens.comparisons.copies import find_copies, mark_copies
from sslens.comparisons.inputs import FeatureSets, ModelInfo, Models
from sslens.comparisons.likeness import Likeness
from sslens.comparisons.rises import Stages
from sslens.comparisons.trainings import count_trainings_once
from sslens.models.about import About, Origin
from sslens.models.vit import ViTArch, describe
from sslens.paths.runs import TrainingState
from sslens.report.writing.alike import Beside, write_alike
from sslens.statistics.estimate import Estimate
from sslens.store import Store, write_tensors
from sslens.study.asked import Study
from sslens.study.running import run

ARCH = "vit_nano_patch8_32"
MAE = About("REC", "mae", "vit")


def write_network(folder: Path, seed: int, objective: str, family: str, noise: float = 0) -> str:
    """Write random weights that say to be trained by an objective, with noise or none."""
    arch = ViTArch.parse(ARCH)
    header = zoo.make_header(
        folder.name, describe(arch), {"family": family, "objective": objective, "arch": ARCH}
    )
    torch.manual_seed(1)
    state = arch.build(seed).state_dict()
    changed = {name: value + noise * torch.randn_like(value) for name, value in state.items()}
    write_tensors(folder / zoo.ENCODER, changed if noise else state, header)
    return str(folder)


def test_a_copy_with_noise_is_no_second_training(tmp_path: Path) -> None:
    """Two files of MAE, one of which has noise of 1e-6, and a third that is another training."""
    files = (
        write_network(tmp_path / "one", 0, "mae", "REC"),
        write_network(tmp_path / "noisy", 0, "mae", "REC", noise=1e-6),
        write_network(tmp_path / "other", 1, "mae", "REC"),
        write_network(tmp_path / "dino", 2, "dino", "JE"),
        write_network(tmp_path / "moco", 3, "moco-v3", "JE"),
    )
    study = Study(files, "scenes:0:64", ("cka-blocks",), controls=False, batch=8)
    run(study, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True)
    tables = tmp_path / "out/tables/cka-blocks"
    members = pd.read_csv(tables / "family-members.csv")
    assert members.model[members.family == "REC"].tolist() == ["one", "other"]
    ceilings = pd.read_csv(tables / "ceilings.csv")
    pairs = set(zip(ceilings.model_a, ceilings.model_b, strict=True))
    assert pairs == {("one", "other"), ("noisy", "other")}
    notes = json.dumps(json.loads((tmp_path / "out/provenance.json").read_text()))
    page = (tmp_path / "out/report.html").read_text()
    assert "one and noisy compute the same, or almost" in page + notes
    assert "They count as one training, by one," in page + notes


def test_copies_of_states_are_one_training_with_all_of_them() -> None:
    """A conversion of the last state is of the training of the ninth epoch too."""
    states = {"ninth": TrainingState("run", 9.0), "last": TrainingState("run", 10.0)}
    infos = [ModelInfo(name, about=MAE, digest=name, state=one) for name, one in states.items()]
    half = ModelInfo("half", about=MAE, digest="half", copy_of="last")
    models = Models((*infos, half, ModelInfo("other", about=MAE, digest="other")))
    assert models.are_one_training("ninth", "half")
    assert count_trainings_once(models, models.names) == ["last", "other"]
    assert {(one.a, one.b) for one in list_ceilings(models)} == {
        (name, "other") for name in ("ninth", "last", "half")
    }


def test_fine_tunings_of_a_copy_are_of_one_pre_training() -> None:
    firsts = [ModelInfo("mae", about=MAE, digest="0")]
    firsts.append(ModelInfo("copy", about=MAE, digest="1", copy_of="mae"))
    tuned = [
        ModelInfo(
            f"{one.name}-ft",
            about=replace(MAE, tuned="fine-tuned", pretrained=Origin(digest=one.digest)),
        )
        for one in firsts
    ]
    assert Stages.of(Models((*firsts, *tuned))).rec == ["mae-ft"]


def test_copies_are_told_by_features_where_there_are_no_grams() -> None:
    torch.manual_seed(0)
    x = torch.randn(70, 5)
    arrays = {"a": x, "rounded": x.bfloat16().float(), "b": torch.randn(70, 5)}
    features = {name: Features.of({("norm", "cls"): one}) for name, one in arrays.items()}
    models = Models(tuple(ModelInfo(name, about=MAE) for name in arrays))
    marked = mark_copies(models, models.names, {"features": FeatureSets(features)})
    assert [one.copy_of for one in marked] == [None, "a", None]
    assert mark_copies(models, models.names, {}) == models


def test_copies_are_told_by_weights_where_there_is_nothing_else() -> None:
    """Studies of detectors and of paths have neither Grams nor features."""
    torch.manual_seed(0)
    first = torch.nn.Linear(40, 40)
    networks = {name: copy.deepcopy(first) for name in ("a", "rounded", "tuned", "moved")}
    networks["rounded"].bfloat16()
    torch.nn.init.normal_(networks["moved"].weight)
    networks["wide"] = torch.nn.Linear(40, 41)
    abouts = {
        name: replace(MAE, tuned="fine-tuned" if name == "tuned" else False) for name in networks
    }
    models = Models(tuple(ModelInfo(name, about=one) for name, one in abouts.items()))
    marked = mark_copies(models, models.names, {"detections": {}}, networks)
    assert [one.copy_of for one in marked] == [None, "a", None, None, None]
    assert count_trainings_once(marked, ["a", "rounded", "moved"]) == ["a", "moved"]


@pytest.mark.parametrize(("share", "expected"), [(0.001, {"b": "a"}), (0.2, {})])
def test_models_that_differ_at_one_tap_are_two(share: float, expected: dict[str, str]) -> None:
    torch.manual_seed(0)
    x, y, noise = (torch.randn(32, 6) for _ in range(3))
    sets = {"a": [x, y], "b": [x + share * noise, y]}
    grams = {name: Grams.of_features(arrays) for name, arrays in sets.items()}
    assert find_copies(grams) == expected


def test_identical_models_are_not_undecided() -> None:
    value = Estimate(1.0, 1.0, 1.0, "minibatches", 9)
    answer = write_alike([Likeness("a", "b", False, value, value, True)], (), Beside(), "")
    assert answer.word == "1.00"
    assert "holds 0" not in answer.effect
    assert answer.effect.endswith("they compute the same")
