"""The generator of the reference models that comes with the package."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sslens
from sslens import cards
from sslens.capture import FeatureReducer, Features, collect
from sslens.cli import main
from sslens.data import open_images
from sslens.data.images import ImageSet, from_arrays
from sslens.models.backbone import Backbone
from sslens.probes.fidelity import Whitening, rank_sources
from sslens.tasks.generator import Generator, open_generator

sys.path.insert(0, str(Path(__file__).parents[1] / "runs/generators"))
SHARED = importlib.import_module("shared")


@pytest.fixture(scope="module")
def generator() -> Generator:
    return open_generator(SHARED.NAME)


def test_it_takes_features_of_the_reference_models_as_they_are_now(generator: Generator) -> None:
    assert tuple(each.source for each in generator.conditions.values()) == SHARED.MODELS
    for name, condition in generator.conditions.items():
        if not condition.source.startswith("random:"):  # of which the last digits hang on the CPU
            assert generator.find_model(sslens.load(condition.source)) == name
    assert cards.list_generators()[SHARED.NAME].stat().st_size < SHARED.MOST


def test_a_command_takes_it_by_name(tmp_path: Path) -> None:
    words = ["rcdm", "sample", SHARED.NAME, "--models", "scenes_mae", "--images", "scenes:2:2"]
    words += ["--draws", "2", "--steps", "euler2", "--out", str(tmp_path / "samples")]
    assert main(words) == 0
    assert len(list((tmp_path / "samples").rglob("*.png"))) >= 4


def test_a_plan_has_the_cost_of_samples_and_says_of_which_models_there_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "scenes_mae", "random:vit_nano_patch8_32:3", "--images", "scenes:2:32"]
    words += ["--analyses", "samples", "--generator", SHARED.NAME, "--dry-run", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "1 model × 32 sources" in said or "2 models × 32 sources" in said  # and random weights
    assert f"none of random #3, of which {SHARED.NAME} takes no features" in said
    cost = next(line for line in said.splitlines() if line.startswith("cost"))
    assert "samples " in cost


def read(model: Backbone, images: ImageSet, tap: str, pooling: str) -> np.ndarray:
    features: Features
    (features,) = collect(model, images, (FeatureReducer((tap,)),), device="cpu")
    place = {name: row for row, name in enumerate(features.ids)}
    rows = np.array([place[name] for name in images.ids])
    return features.read(tap, pooling, rows).double().numpy()


@pytest.mark.slow
def test_its_samples_are_of_their_sources(generator: Generator) -> None:
    images, sources = open_images("scenes:2:300"), np.arange(12)
    for source in ("scenes_mae", "scenes_moco_v3"):
        model = sslens.load(source)
        name = generator.find_model(model)
        tap, pooling = generator.tap(name), generator.pooling(name)
        features = read(model, images, tap, pooling)
        samples = generator.sample(torch.from_numpy(features[sources]).float(), name, 2)
        own = read(model, from_arrays(samples.reshape(-1, 32, 32, 3)), tap, pooling)
        whitening = Whitening.fit(features)
        ranks = rank_sources(
            whitening.apply(own).reshape(12, 2, -1), whitening.apply(features), sources
        )
        assert (ranks == 1).mean() > 0.6, source  # one in 300 by chance
