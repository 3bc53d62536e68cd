"""Supervised training: its loss by hand, labels that stay with their images, and what is
refused."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sslens
from sslens.data.images import ImageSet, from_arrays
from sslens.errors import InputError
from sslens.methods import Rows
from sslens.methods.labels import with_classes
from sslens.models.arch import parse
from sslens.objectives import supervised
from sslens.processes import Processes
from sslens.training.parts import Parts
from sslens.training.pretrain import make_pretraining_job, pretrain
from sslens.training.schedule import Training

ARCH = "vit_64x2_patch16_32"
#: every pixel of an image says its class, 0, 80 or 160
LABELS = np.arange(18) % 3
IMAGES = from_arrays(
    np.broadcast_to((80 * LABELS).astype(np.uint8)[:, None, None, None], (18, 32, 32, 3)).copy(),
    LABELS,
    classes=["a", "b", "c"],
)
SETTINGS = supervised.Settings(jitter=0.0, base_lr=0.05, warmup=0.2)
TRAINING = Training(epochs=2, batch_size=6, precision="float32", device="cpu", log_every=1)


def settings(**changed: Any) -> supervised.Settings:
    return dataclasses.replace(SETTINGS, classes=("a", "b", "c"), **changed)


def fit(out: Path, images: ImageSet = IMAGES, **more: Any) -> Path:
    return pretrain("supervised", images, ARCH, out, settings=SETTINGS, training=TRAINING, **more)


def batch(chosen: supervised.Settings, arch: str = ARCH) -> dict[str, Tensor]:
    images = [IMAGES.image(row) for row in range(6)]
    return supervised.batch(
        images, chosen, parse(arch), Rows(0, 0, slice(0, 6), 6, (0, 1, 2, 0, 1, 2))
    )


@pytest.mark.parametrize("accumulate", [1, 3])
def test_labels_stay_with_their_images(accumulate: int) -> None:
    training = dataclasses.replace(TRAINING, accumulate=accumulate)
    job = make_pretraining_job("supervised", ARCH, settings())
    parts = Parts(job, IMAGES, training, Processes(0, 1, "cpu"))
    seen = []
    for number in range(3 * accumulate):
        part = parts[number]
        assert isinstance(part, dict)
        grey = (part["view"][:, 0] * 0.229 + 0.485).mean((1, 2)) * 255
        assert (grey / 80).round().long().tolist() == part["label"].tolist()
        seen += part["label"].tolist()
    assert sorted(seen) == sorted(LABELS.tolist())
    assert seen != sorted(seen)


def test_the_loss_is_the_cross_entropy_with_smoothed_labels() -> None:
    chosen = settings(smoothing=0.3, drop_path=0.0)
    torch.manual_seed(0)
    objective = supervised.Objective(parse(ARCH), chosen).double()
    made = batch(chosen)
    view = made["view"].double()
    with torch.no_grad():
        tokens = objective.encoder.forward_features(view)[:, 0].numpy()
    weight, bias = (
        value.detach().numpy() for value in (objective.head.weight, objective.head.bias)
    )
    total = 0.0
    for token, label in zip(tokens, made["label"].tolist(), strict=True):
        scores = weight @ token + bias
        for k in range(3):
            q = 0.1 + (0.7 if k == label else 0.0)
            total -= q * (scores[k] - math.log(np.exp(scores).sum()))
    assert objective({"view": view, "label": made["label"]}).item() == pytest.approx(
        total / 6, abs=1e-6
    )


def test_branches_are_dropped_in_training_alone() -> None:
    chosen = settings(drop_path=0.5)
    torch.manual_seed(0)
    objective = supervised.Objective(parse(ARCH), chosen)
    made = batch(chosen)
    assert made["depth"].shape == (6, 2, 2)
    never, always = (dict(made, depth=torch.full((6, 2, 2), value)) for value in (0.999, 0.0))
    losses = [objective.train()(each).item() for each in (made, never, always)]
    assert len({round(loss, 5) for loss in losses}) == 3
    objective.eval()
    assert (
        objective(made).item()
        == objective(never).item()
        == objective({k: made[k] for k in ("view", "label")}).item()
    )


def test_tokens_and_vectors_are_not_decayed() -> None:
    objective = supervised.Objective(parse(ARCH), settings())
    decayed, free = (group["params"] for group in objective.parameter_groups())
    names = {id(value): name for name, value in objective.named_parameters()}
    assert {"encoder.cls_token", "encoder.pos_embed", "head.bias", "encoder.norm.weight"} <= {
        names[id(p)] for p in free
    }
    assert {names[id(p)] for p in decayed} == {
        name
        for name, p in objective.named_parameters()
        if p.ndim > 1 and not name.endswith(("cls_token", "pos_embed"))
    }


def test_a_resnet_is_classified_by_the_mean_over_places() -> None:
    arch = "resnet_8x12x16x20_1x1x1x1_64"
    torch.manual_seed(0)
    objective = supervised.Objective(parse(arch), settings()).eval()
    made = batch(settings(), arch)
    assert set(made) == {"view", "label"}
    features = objective.encoder.forward_features(made["view"]).mean((2, 3))
    torch.testing.assert_close(objective.logits(made["view"]), objective.head(features))
    assert not objective.divisible


def test_the_encoder_says_what_trained_it(tmp_path: Path) -> None:
    model = sslens.load(fit(tmp_path))
    assert (model.about.family, model.about.objective) == ("supervised", "supervised")
    assert model.about.tuned is False


@pytest.mark.parametrize("arch", [ARCH, "resnet_8x12x16x20_1x1x1x1_32"])
def test_classes_are_learnt(tmp_path: Path, arch: str) -> None:
    chosen = dataclasses.replace(SETTINGS, smoothing=0.0, drop_path=0.0, base_lr=0.2)
    pretrain(
        "supervised",
        IMAGES,
        arch,
        tmp_path,
        settings=chosen,
        training=dataclasses.replace(TRAINING, epochs=15),
    )
    losses = [
        json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()
    ]
    assert losses[0] > 0.9
    assert np.mean(losses[-6:]) < 0.7


def test_jitter_changes_views_and_can_be_left_out() -> None:
    grey = batch(settings())["view"] * 0.229 + 0.485
    jittered = batch(settings(jitter=0.3))["view"][:, 0] * 0.229 + 0.485
    assert grey[1, 0].mean().item() == pytest.approx(80 / 255, abs=1e-3)
    assert abs(jittered[1].mean().item() - 80 / 255) > 1e-3


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            dataclasses.replace(IMAGES, labels=None),
            r"The images of array have no classes, and supervised learns them: give a fold",
        ),
        (
            IMAGES.take([1, 4, 7, 10, 13, 16]),
            r'All 6 images of array are of the class "b", and supervised learns to tell classes',
        ),
    ],
)
def test_images_that_teach_nothing_are_refused(tmp_path: Path, images: ImageSet, said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit(tmp_path / "out", images)
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_go_on_with_other_classes(tmp_path: Path) -> None:
    fit(tmp_path)
    with pytest.raises(
        InputError, match=r"settings\.classes was \['a', 'b', 'c'\] and is now \['a', 'b', 'x'\]"
    ):
        fit(tmp_path, dataclasses.replace(IMAGES, classes=("a", "b", "x")), resume=True)


def test_others_learn_no_labels() -> None:
    assert with_classes("mae", "settings", dataclasses.replace(IMAGES, labels=None)) == "settings"


def test_a_classifier_of_no_classes_is_refused() -> None:
    with pytest.raises(InputError, match="of 0 classes learns nothing"):
        supervised.Objective(parse(ARCH), supervised.Settings())
