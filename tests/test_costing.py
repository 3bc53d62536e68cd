"""What a dry run says a run will cost, and that it refuses what the run would refuse."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sslens.cli import main
from sslens.data.images import from_arrays
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.store import Store
from sslens.study import knn, probing
from sslens.study.costing import Clock, Cost, PassProbe
from sslens.study.knn import KnnRequest
from sslens.study.members import Member
from sslens.study.passes import PassRunner
from sslens.study.probe_cost import make_up, time_head
from sslens.study.probe_request import ProbeRequest

NANO = "random:vit_nano_patch8_32:1"


def probe(**changed: Any) -> ProbeRequest:
    values = {"model": NANO, "images": "scenes:0:64", "test": "scenes:1:32", "device": "cpu"}
    return ProbeRequest(**(values | changed))  # type: ignore[arg-type]


def test_a_clock_counts_processor_time_and_no_waiting() -> None:
    clock = Clock()
    with clock.running():
        time.sleep(0.2)
    assert clock.seconds < 0.1
    assert Cost({"a": 1.0, "b": 2.5}).total == 3.5


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"taps": ("blocks.9",)}, 'no tap "blocks.9"'),
        ({"pooling": ("flat",)}, 'no pooling "flat"'),
        ({"test": "scenes:0:64"}, "are among those that are judged"),
        ({"top": 99}, "99"),
        ({"device": "cuda:99"}, 'no device "cuda:99"'),
    ],
)
def test_a_dry_run_of_probes_refuses_what_the_run_refuses_and_passes_nothing(
    changed: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    for dry_run in (True, False):
        with pytest.raises(InputError, match=said) as error:
            probing.train(probe(**changed), store=Store(tmp_path), quiet=True, dry_run=dry_run)
        refused.append(str(error.value))
        if dry_run:
            assert not list(tmp_path.iterdir())
    assert refused[0] == refused[1]


def test_a_dry_run_of_knn_refuses_too_many_neighbours(tmp_path: Path) -> None:
    asked = KnnRequest(NANO, "scenes:0:16", k=(20, 50), device="cpu", controls=False)
    refused = []
    for dry_run in (True, False):
        with pytest.raises(InputError) as error:
            knn.classify(asked, store=Store(tmp_path), quiet=True, dry_run=dry_run)
        refused.append(str(error.value))
    assert refused[0] == refused[1]


def test_a_dry_run_of_fine_tuning_refuses_held_out_images_of_other_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, labels in (("a", ("cat", "dog")), ("b", ("cat", "cow"))):
        pixels = np.zeros((8, 32, 32, 3), np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=np.array(labels * 4))
    monkeypatch.chdir(tmp_path)
    line = f"finetune {NANO} --images a.npz --val b.npz --batch-size 4 --epochs 1 --device cpu"
    said = []
    for more in (" --dry-run", ""):
        assert main((line + more).split()) == 2
        said.append(capsys.readouterr().err.splitlines()[-1])
    assert said[0] == said[1]
    assert "cow" in said[0] or "labels" in said[0]


def test_made_up_features_have_classes_and_a_falling_spectrum() -> None:
    features, labels = make_up(400, 16, 4)
    assert torch.bincount(labels).tolist() == [100] * 4
    deviations = torch.linalg.svdvals(features - features.mean(0))
    assert deviations[0] > 5 * deviations[-1]
    assert torch.equal(features, make_up(400, 16, 4)[0])


def test_the_cost_of_a_large_fit_is_in_proportion_to_its_images() -> None:
    small, large = (time_head(count, 768, 200, 1, 0, "cpu") for count in (20_000, 80_000))
    assert 2 < large / small < 8


def test_passes_of_a_kind_are_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sslens
    from sslens.capture import FeatureReducer
    from sslens.plan import Plan

    seen: list[int] = []
    forward = Backbone.forward

    def counting(self: Backbone, images: torch.Tensor) -> Any:
        seen.append(len(images) * (not images.is_meta))
        return forward(self, images)

    monkeypatch.setattr(Backbone, "forward", counting)
    images = from_arrays(np.zeros((64, 32, 32, 3), np.uint8))
    runner = PassRunner(Store(tmp_path))
    passes = [
        runner.plan(
            Member(f"m{seed}", False, sslens.load(f"random:vit_nano_patch8_32:{seed}")),
            images,
            Plan.in_order(images.ids),
            [FeatureReducer()],
        )
        for seed in (1, 2, 3)
    ]
    seen.clear()
    meter = PassProbe("cpu", "float32")
    total = meter.estimate(passes)
    assert 0 < sum(seen) <= 2 * (4 + 4 + 32)
    assert total == pytest.approx(3 * meter.estimate(passes[:1]), rel=0.4)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_cost_of_probes_is_within_a_factor_of_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processor time, without the start of a process: what is predicted for 600 images, and what
    it takes."""
    asked, costs = probe(images="scenes:0:600", test="scenes:1:300", taps=("all",)), list[Cost]()
    monkeypatch.setattr(Cost, "describe", lambda cost: costs.append(cost) or "")
    probing.train(asked, store=Store(tmp_path), quiet=True, dry_run=True)
    probing.train(probe(images="scenes:3:16"), store=Store(tmp_path), quiet=True)  # imports
    clock = Clock()
    with clock.running():
        probing.train(asked, store=Store(tmp_path), quiet=True)
    predicted = costs[0].total - costs[0].seconds["start"]
    assert clock.seconds / 2 < predicted < clock.seconds * 2, costs[0]
