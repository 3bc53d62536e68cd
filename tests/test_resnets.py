"""MoCo-v3 and DINO on ResNets: formulas beside torch's own layers, LARS by hand."""

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import sslens
from forks import together
from runs import IMAGES, LARGER, RESNET, SETTINGS, TRAINING, fit, module_state
from sslens.cli import main
from sslens.methods import Moment
from sslens.models import convolutions
from sslens.models.cnn import CNNArch
from sslens.models.heads import share_norms
from sslens.objectives import dino, moco_v3
from sslens.tasks import classification
from sslens.training import optim
from sslens.training.finetune import finetune
from sslens.training.pretrain import pretrain
from test_objectives import info_nce

ARCH = CNNArch.parse(RESNET)
MOCO, DINO = SETTINGS["moco-v3-on-resnet"], SETTINGS["dino-on-resnet"]
both = pytest.mark.parametrize("objective", ["moco-v3", "dino"])


def made(objective: str) -> Any:
    torch.manual_seed(0)
    module = {"moco-v3": moco_v3, "dino": dino}[objective]
    built: nn.Module = module.Objective(ARCH, SETTINGS[f"{objective}-on-resnet"]).double().train()
    with torch.no_grad():  # no two branches alike, no norm at 0 or 1
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def plain(encoder: nn.Module, images: Tensor) -> Tensor:
    """The mean of the last features of timm's network with torch's batch norms, at the same
    weights, in training."""
    network = ARCH.build().double().train()
    network.load_state_dict(encoder.state_dict())
    features: Tensor = network.forward_features(images)
    return features.flatten(2).mean(2)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is else float32 is float64."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


# ------------------------------------------------------------------------------------------------
# the losses


@pytest.mark.usefixtures("double")
def test_moco_is_info_nce_of_pooled_features() -> None:
    objective = made("moco-v3")
    batch = {name: torch.randn(6, 3, 64, 64).double() for name in ("first", "second")}
    before = copy.deepcopy(objective.state_dict())
    loss = objective(batch)
    objective.load_state_dict(before)
    q1, q2 = (
        objective.predictor(
            objective.base["projector"](plain(objective.base["encoder"], batch[name]))
        )
        for name in batch
    )
    k1, k2 = (
        objective.momentum["projector"](plain(objective.momentum["encoder"], batch[name]))
        for name in batch
    )
    np.testing.assert_allclose(
        loss.item(), info_nce(q1, k2, 1.0) + info_nce(q2, k1, 1.0), rtol=0, atol=1e-10
    )


def test_mocos_heads_have_two_layers_and_the_predictor_no_last_norm() -> None:
    objective = made("moco-v3")
    predictor, projector = (
        [type(layer).__name__ for layer in objective.get_submodule(name).children()]
        for name in ("predictor", "base.projector")
    )
    assert predictor == ["Linear", "BatchNorm", "ReLU", "Linear"]
    assert projector == [*predictor, "BatchNorm"]
    assert objective.base["projector"][4].weight is None
    assert objective.base["projector"][0].in_features == 20


def test_moco_trains_all_of_the_encoder_whose_blocks_start_as_the_identity() -> None:
    objective = moco_v3.Objective(CNNArch.parse("bottleneck_4x6x8x10_1x2x1x1_64"), MOCO)
    assert all(parameter.requires_grad for parameter in objective.base.parameters())
    for name, value in objective.momentum.state_dict().items():
        assert torch.equal(value, objective.base.state_dict()[name]), name
    weights = {
        name: value
        for name, value in objective.encoder.named_parameters()
        if "bn" in name and "weight" in name
    }
    assert {name for name, value in weights.items() if not value.any()} == {
        name for name in weights if "bn3" in name
    }
    assert len([name for name in weights if "bn3" in name]) == 5


@pytest.mark.usefixtures("double")
def test_dino_is_its_formula_on_pooled_features_of_each_resolution() -> None:
    objective = made("dino")
    objective.centre.copy_(0.01 * torch.randn(64))
    batch = {
        "global": torch.randn(4, 2, 3, 64, 64).double(),
        "local": torch.randn(4, 2, 3, 32, 32).double(),
    }
    before = copy.deepcopy(objective.state_dict())
    loss = objective(batch)
    objective.load_state_dict(before)

    def logits(branch: nn.ModuleDict, name: str) -> list[Tensor]:
        """The crops of one size go through the network together, view after view."""
        z = branch["head"](plain(branch["encoder"], torch.cat(list(batch[name].unbind(1)))))
        cosines = F.normalize(z) @ F.normalize(branch["prototypes"].weight).T
        return list(cosines.chunk(2))

    teachers = [
        F.softmax((t - objective.centre) / 0.04, dim=1) for t in logits(objective.teacher, "global")
    ]
    students = [
        F.log_softmax(s / 0.1, dim=1) for name in batch for s in logits(objective.student, name)
    ]
    terms = [
        -(p * s).sum(1).mean()
        for v, p in enumerate(teachers)
        for w, s in enumerate(students)
        if v != w
    ]
    assert len(terms) == 6
    np.testing.assert_allclose(
        loss.item(), torch.stack(terms).detach().sum().item() / 6, rtol=0, atol=1e-10
    )


def test_dino_drops_no_path_of_a_resnet_and_its_teachers_norms_move() -> None:
    assert DINO.drop_path > 0
    objective = made("dino").float()
    images = [LARGER["images"].image(row) for row in range(4)]
    batch = dino.batch(images, DINO, ARCH, dino.Rows(0, 0, slice(0, 4), 4))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "global": (4, 2, 3, 64, 64),
        "local": (4, 2, 3, 32, 32),
    }
    before = objective.encoder.bn1.running_mean.clone()
    objective(batch)
    assert not torch.equal(objective.encoder.bn1.running_mean, before)


def test_batch_norms_over_places_are_those_of_all_processes() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(8, 5, 3, 4, generator=generator) * 3 + 2 for _ in range(2))
    theirs = nn.Sequential(nn.BatchNorm2d(5))
    nn.init.uniform_(theirs[0].weight, 0.5, 2)
    nn.init.uniform_(theirs[0].bias, -1, 1)
    ours = copy.deepcopy(theirs)
    share_norms(ours)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mode in (True, False):
        close = {"rtol": 0, "atol": 0}
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x), **close)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), **close)

    def check() -> None:
        own = slice(4 * int(os.environ["RANK"]), 4 * int(os.environ["RANK"]) + 4)
        for network in (ours, theirs):
            network.train()
        wanted_in, got_in = x.clone().requires_grad_(), x[own].clone().requires_grad_()
        wanted = theirs(wanted_in)
        (wanted * weight).sum().backward()
        dist.init_process_group("gloo")
        got = ours(got_in)
        (got * weight[own]).sum().backward()
        close = {"rtol": 0, "atol": 1e-5}
        torch.testing.assert_close(got, wanted[own], **close)
        torch.testing.assert_close(got_in.grad, wanted_in.grad[own], **close)
        torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), **close)
        dist.destroy_process_group()

    together(check)


@both
def test_under_autocast_the_loss_is_float32_and_near(objective: str) -> None:
    built = made(objective).float()
    module = {"moco-v3": moco_v3, "dino": dino}[objective]
    images = [LARGER["images"].image(row) for row in range(16)]
    batch = module.batch(
        images, SETTINGS[f"{objective}-on-resnet"], ARCH, dino.Rows(0, 0, slice(0, 16), 16)
    )
    before = copy.deepcopy(built.state_dict())
    wanted = built(batch)
    built.load_state_dict(before)
    with torch.autocast("cpu", torch.bfloat16):
        loss = built(batch)
    assert loss.dtype == torch.float32
    np.testing.assert_allclose(loss.item(), wanted.item(), rtol=0.02)


# ------------------------------------------------------------------------------------------------
# the optimiser


def test_lars_by_hand() -> None:
    matrix, vector, idle = (
        nn.Parameter(torch.tensor(v)) for v in ([[3.0, 4.0]], [1.0, 2.0], [[0.0, 0.0]])
    )
    unused = nn.Parameter(torch.ones(1, 1))
    settings = dataclasses.replace(MOCO, weight_decay=0.5, betas=(0.9, 0.999))
    optimizer = optim.make_optimiser([{"params": [matrix, vector, idle, unused]}], settings)
    assert type(optimizer) is optim.LARS
    optim.set_rates(optimizer, 2.0, 0.5)
    for _ in range(2):
        matrix.grad, vector.grad = torch.tensor([[-1.5, 4.0]]), torch.tensor([0.5, -1.0])
        idle.grad = torch.tensor([[0.25, 0.0]])
        optimizer.step()
    # step 1: u = (0, 6), of length 6; trust 0.001 · 5 / 6; m = (0, 0.005), w = (3, 3.99)
    # step 2: u = (0, 5.995); trust · u = (0, 0.001 |w|), |w| = 4.991994; m = (0, 0.0045 +
    # 0.004991994), w₂ = 3.99 − 0.018983988
    np.testing.assert_allclose(matrix.detach(), [[3.0, 3.971016012]], rtol=0, atol=1e-6)
    # a vector has neither: m = g, then 0.9 g + g
    np.testing.assert_allclose(vector.detach(), [1 - 2 * 0.5 * 2.9, 2 + 2 * 2.9], rtol=0, atol=1e-6)
    # without a length there is no trust: u = g; m = 0.25, w = −0.5; then a trust of 0.001 · 0.5 /
    # |0.25 − 0.25|: u is 0
    np.testing.assert_allclose(idle.detach(), [[-0.5 - 2 * 0.9 * 0.25, 0.0]], rtol=0, atol=1e-6)
    assert unused.item() == 1.0


# ------------------------------------------------------------------------------------------------
# what is trained


@both
def test_a_run_loads_as_the_resnet_that_was_trained(tmp_path: Path, objective: str) -> None:
    fit(tmp_path, f"{objective}-on-resnet", epochs=1)
    model = sslens.load(tmp_path)
    assert (model.about.arch, model.prefix, model.transform.crop) == (RESNET, None, 64)
    kept = module_state(tmp_path)
    start = {"moco-v3": "base.encoder.", "dino": "teacher.encoder."}[objective]
    network = ARCH.build().eval()
    network.load_state_dict(
        {key.removeprefix(start): v for key, v in kept.items() if key.startswith(start)}
    )
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), network.forward_features(x), rtol=0, atol=1e-6)
    passes = {"moco-v3": 2, "dino": 1}[objective]
    assert kept[f"{start}bn1.num_batches_tracked"].item() == passes * 5
    control = sslens.load(f"random:{RESNET}:3")
    assert [tap.name for tap in control.taps.values()] == [tap.name for tap in model.taps.values()]
    assert control.transform == model.transform


@pytest.mark.parametrize(
    ("objective", "arch"),
    [
        ("moco-v3", "resnet_8x12x16x20_1x1x1x1_stem1_32"),
        ("fcmae", "convnextv2_8x12x16x20_1x1x1x1_stem1_32"),
    ],
)
def test_a_cnn_for_small_images_is_loaded_and_tuned_as_it_was_trained(
    tmp_path: Path, objective: str, arch: str
) -> None:
    case = "fcmae" if objective == "fcmae" else f"{objective}-on-resnet"
    short = dataclasses.replace(TRAINING, epochs=1, batch_size=10)
    pretrain(objective, IMAGES, arch, tmp_path, settings=SETTINGS[case], training=short)
    model = sslens.load(tmp_path)
    assert (model.about.arch, model.transform.crop) == (arch, 32)
    last = list(model.taps)[-1]
    (values,) = sslens.activations(model, torch.randn(1, 3, 32, 32), taps=[last]).values()
    assert values.shape == (1, 20, 4, 4)
    settings = classification.Settings(pooling="patches")
    finetune(model, IMAGES, tmp_path / "ft", settings=settings, training=short)
    assert sslens.load(tmp_path / "ft").about.arch == arch


@pytest.mark.slow
def test_the_recipe_of_a_resnet_is_meant_unless_another_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [
        "pretrain",
        "moco-v3",
        "--images",
        "scenes:0:32",
        "--arch",
        "resnet18_64",
        "--batch-size=8",
        "--dry-run",
    ]
    assert main(asked) == 0
    assert "optimiser lars" in " ".join(capsys.readouterr().err.split())
    assert main([*asked, "--recipe", "official"]) == 0
    assert "optimiser adamw" in " ".join(capsys.readouterr().err.split())


def test_pooled_features_are_the_mean_over_places() -> None:
    network = ARCH.build(0).eval()
    images = torch.randn(2, 3, 3, 64, 64)
    wanted = torch.stack([network.forward_features(each).flatten(2).mean(2) for each in images])
    torch.testing.assert_close(convolutions.pool(network, images), wanted, rtol=0, atol=1e-5)


def test_rates_of_a_moment_are_those_of_a_vit() -> None:
    objective = moco_v3.Objective(ARCH, MOCO)
    # a quarter of warm-up: half-way through it, then at its end
    assert objective.rates(Moment(1, 8, 4), 4.0) == (2.0, 1e-6)
    assert objective.rates(Moment(2, 8, 4), 4.0)[0] == 4.0
    assert TRAINING.accumulate == 1
