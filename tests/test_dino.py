"""DINO beside its formulas, computed again in float64 and by hand; what moves between steps."""

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sslens.data.views import Colours
from sslens.errors import InputError
from sslens.methods import Moment, Rows
from sslens.models.crops import resize_positions
from sslens.models.vit import ViTArch
from sslens.objectives import dino

ARCH = ViTArch(image_size=32, patch_size=8, dim=32, blocks=3, heads=2)
SMALL = dino.Settings(
    prototypes=20, head_dim=24, out_dim=12, local_crops=2, local_size=16, drop_path=0.5
)
IMAGES = [
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 44, 3), dtype=np.uint8))
    for i in range(4)
]


@pytest.fixture(autouse=True)
def _in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed in float32 by the objective is float64 here."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


def small(**settings: Any) -> dino.Objective:
    """An objective whose teacher is not its student, and whose centre is not zero."""
    torch.manual_seed(1)
    objective = dino.Objective(ARCH, dataclasses.replace(SMALL, **settings)).double().train()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        objective.centre.normal_(std=0.2)
    return objective


def crop_batch(count: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    return {
        "global": normal(2, 3, 32, 32),
        "local": normal(2, 3, 16, 16),
        "depth": torch.rand(count, 4, 3, 2, generator=generator, dtype=torch.float64),
    }


def logits(branch: nn.ModuleDict, crop: Tensor, factors: list[tuple[float, float]]) -> np.ndarray:
    """One crop through encoder, head and prototypes; attention and MLP times their factors."""
    net = branch["encoder"]
    patches = net.patch_embed.proj(crop[None]).flatten(2)[0].T
    positions = resize_positions(net.pos_embed, round(len(patches) ** 0.5), shift=0.1)[0]
    x = torch.cat([net.cls_token[0], patches]) + positions
    for block, (attention, mlp) in zip(net.blocks, factors, strict=True):
        x = x + attention * block.attn(block.norm1(x[None]))[0]
        x = x + mlp * block.mlp(block.norm2(x))
    z = branch["head"](net.norm(x)[0]).detach().numpy()
    prototypes = branch["prototypes"].weight.detach().numpy()
    cosines: np.ndarray = (prototypes / np.linalg.norm(prototypes, axis=1)[:, None]) @ (
        z / np.linalg.norm(z)
    )
    return cosines


def softmax(x: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.exp(x) / np.exp(x).sum()
    return shares


def by_hand(objective: dino.Objective, batch: dict[str, Tensor], temperature: float) -> float:
    """The loss, image by image and pair by pair, with the drop path on the student alone: rates 0,
    0.25, 0.5."""
    terms = []
    for i in range(len(batch["global"])):
        images = [*batch["global"][i], *batch.get("local", torch.empty(len(batch["global"]), 0))[i]]
        teacher = [logits(objective.teacher, image, [(1, 1)] * 3) for image in images[:2]]
        student = []
        for view, image in enumerate(images):
            noise = batch["depth"][i, view].tolist() if "depth" in batch else [[1, 1]] * 3
            factors = [
                tuple(float(u >= rate) / (1 - rate if "depth" in batch else 1) for u in pair)
                for pair, rate in zip(noise, (0.0, 0.25, 0.5), strict=True)
            ]
            student.append(logits(objective.student, image, factors))
        for q, target in enumerate(teacher):
            p = softmax((target - objective.centre.numpy()) / temperature)
            terms += [
                -(p * np.log(softmax(guess / 0.1))).sum()
                for v, guess in enumerate(student)
                if v != q
            ]
    return float(np.mean(terms))


@pytest.mark.parametrize("with_locals", [True, False])
@pytest.mark.parametrize("with_depth", [True, False])
def test_dino_is_its_formulas_in_float64(with_locals: bool, with_depth: bool) -> None:
    objective, batch = small(), crop_batch()
    for name, wanted in (("local", with_locals), ("depth", with_depth)):
        if not wanted:
            del batch[name]
    objective.temperature = 0.06
    wanted = by_hand(objective, batch, 0.06)
    np.testing.assert_allclose(objective(batch).item(), wanted, rtol=0, atol=1e-10)


def test_a_head_with_batch_norms_has_the_statistics_of_all_crops_together() -> None:
    objective = small(head_norm=True, prototypes=2)
    assert not objective.divisible
    tokens = torch.randn(3, 2, ARCH.dim, dtype=torch.float64)
    first, norm, gelu, *rest = objective.student["head"]
    hidden = first(tokens).detach().numpy().reshape(6, -1)
    hidden = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + norm.eps)
    hidden = hidden * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    assert np.allclose(norm(first(tokens.flatten(0, 1))).detach().numpy(), hidden, atol=1e-10)
    later = nn.Sequential(gelu, *rest)(torch.from_numpy(hidden))
    wanted = (
        F.normalize(later, dim=1) @ F.normalize(objective.student["prototypes"].weight, dim=1).T
    )
    found = objective._logits(objective.student, tokens).flatten(0, 1)
    np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=0, atol=1e-10)


def test_the_loss_of_two_prototypes_by_hand() -> None:
    objective = small(prototypes=2, teacher_start=0.5, student_temperature=1.0)
    objective.centre.copy_(torch.tensor([0.2, 0.0], dtype=torch.float64))
    objective.before_step(Moment(0, 9, 1))
    objective.temperature = 0.5
    teacher = torch.tensor(
        [[[0.2 + 0.5 * math.log(3), 0.0], [0.2, 0.0]]], dtype=torch.float64
    )  # p = (3/4, 1/4), (1/2, 1/2)
    student = torch.tensor(
        [[[math.log(4), 0.0], [0.0, math.log(9)]]], dtype=torch.float64
    )  # (4/5, 1/5), (1/10, 9/10)
    # each target with the other view: p = (3/4, 1/4) with (1/10, 9/10), (1/2, 1/2) with (4/5, 1/5)
    first = -(0.75 * math.log(0.1) + 0.25 * math.log(0.9))
    second = -(0.5 * math.log(0.8) + 0.5 * math.log(0.2))
    np.testing.assert_allclose(
        objective.loss(student, teacher).item(), (first + second) / 2, rtol=0, atol=1e-12
    )


def test_balanced_targets_by_hand() -> None:
    objective = small(prototypes=2, teacher_start=1.0, student_temperature=1.0, sinkhorn_steps=1)
    objective.centre.fill_(5.0)  # which is left out
    assert not objective.divisible
    # p = (0.9, 0.1), (0.6, 0.4), of which the columns sum to 1.5 and 0.5
    teacher = torch.tensor([[[math.log(9), 0.0], [math.log(1.5), 0.0]]], dtype=torch.float64)
    student = torch.tensor([[[math.log(4), 0.0], [0.0, math.log(9)]]], dtype=torch.float64)
    first = -(0.75 * math.log(0.1) + 0.25 * math.log(0.9))
    second = -(1 / 3 * math.log(0.8) + 2 / 3 * math.log(0.2))
    np.testing.assert_allclose(
        objective.loss(student, teacher).item(), (first + second) / 2, rtol=0, atol=1e-12
    )


def test_logits_are_float32_under_autocast_and_their_loss_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    objective = small().float()
    batch = {name: value.float() for name, value in crop_batch().items()}
    with torch.autocast("cpu", torch.bfloat16):
        exact = objective._logits(objective.teacher, torch.randn(3, 2, 32))
        assert exact.dtype == torch.float32
        assert objective.loss(exact, exact).dtype == torch.float32
    loss = objective(batch)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(objective(batch).item(), loss.item(), rtol=0, atol=0.1)


def test_the_centre_moves_after_the_step_to_what_the_teacher_said_in_all_its_parts() -> None:
    objective, batch = small(momentum=1.0), crop_batch(4)
    before = objective.centre.clone()
    with torch.no_grad():
        said = objective._logits(
            objective.teacher, dino.compute_class_tokens(objective.encoder, batch["global"])
        )
    loss = objective(batch).item()
    assert torch.equal(objective.centre, before)
    assert objective(batch).item() == loss
    objective._teacher_means.clear()
    for part in (slice(0, 2), slice(2, 4)):
        objective({name: value[part] for name, value in batch.items()})
    objective.after_update(Moment(0, 10, 1))
    torch.testing.assert_close(
        objective.centre, 0.9 * before + 0.1 * said.mean((0, 1)), rtol=0, atol=1e-12
    )
    once = objective.centre.clone()
    other = {name: value[:1] for name, value in batch.items()}
    objective(other)
    objective.after_update(Moment(1, 10, 1))
    torch.testing.assert_close(
        objective.centre, 0.9 * once + 0.1 * said[:1].mean((0, 1)), rtol=0, atol=1e-12
    )


def test_an_evaluation_leaves_no_trace_and_drops_no_branch() -> None:
    objective, batch = small(), crop_batch()
    without = {name: value for name, value in batch.items() if name != "depth"}
    wanted = objective(without).item()
    objective._teacher_means.clear()
    assert objective.eval()(batch).item() == wanted
    assert objective._teacher_means == []


@pytest.mark.parametrize(
    ("epochs", "wanted"),
    [
        (0, [0.07] * 4),
        (1, [0.04, 0.07, 0.07, 0.07]),
        (3, [0.04, 0.055, 0.07, 0.07]),
        (4, [0.04, 0.05, 0.06, 0.07]),
    ],
)
def test_the_teachers_temperature_rises_epoch_by_epoch(epochs: int, wanted: list[float]) -> None:
    objective = small(teacher_start=0.04, teacher_temperature=0.07, teacher_epochs=epochs)
    got = []
    for step in range(0, 20, 5):
        objective.before_step(Moment(step, 20, 5))
        first = objective.temperature
        objective.before_step(Moment(step + 4, 20, 5))
        assert objective.temperature == first
        got.append(first)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)


def test_rates_by_hand() -> None:
    """Of 12 steps 4 warm up, at the peak in the last; then (1 + cos(k · 22.5°)) / 2 between peak
    and lowest."""
    objective = small(warmup=4 / 12, min_lr=0.01, weight_decay=0.04, last_weight_decay=0.4)
    got = [objective.rates(Moment(step, 12, 6), 1.01) for step in range(12)]
    falling = [(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    lrs = [0, 1.01 / 3, 2.02 / 3, 1.01, *(0.01 + share for share in falling)]
    np.testing.assert_allclose([lr for lr, _ in got], lrs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        [got[0][1], got[6][1], got[9][1]],
        [0.04, 0.22, 0.4 - 0.18 * (1 - 0.5**0.5)],
        rtol=0,
        atol=1e-12,
    )


def test_each_gradient_is_clipped_by_itself_and_prototypes_rest_for_an_epoch() -> None:
    objective = small(clip=2.0)
    objective(crop_batch()).backward()
    named = dict(objective.student.named_parameters())
    for number, parameter in enumerate(named.values()):
        assert parameter.grad is not None
        parameter.grad.mul_((1.0 if number % 2 else 4.0) / parameter.grad.norm())
    before = {name: p.grad.clone() for name, p in named.items() if p.grad is not None}
    objective.before_update(Moment(4, 20, 5))
    for number, (name, parameter) in enumerate(named.items()):
        if name == "prototypes.weight":
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            wanted = before[name] if number % 2 else before[name] / 2
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-6, atol=0)
    objective.student["prototypes"].weight.grad = before["prototypes.weight"]
    objective.before_update(Moment(5, 20, 5))
    assert objective.student["prototypes"].weight.grad is not None


@pytest.mark.parametrize(
    ("step", "m"), [(0, 0.996), (5, 0.998), (9, 1 - 0.002 * (1 + math.cos(0.9 * math.pi)))]
)
def test_the_teacher_follows_the_updated_student(step: int, m: float) -> None:
    objective = small()
    objective(crop_batch())
    teacher = copy.deepcopy(dict(objective.teacher.named_parameters()))
    objective.after_update(Moment(step, 10, 1))
    for name, after in objective.teacher.named_parameters():
        wanted = m * teacher[name] + (1 - m) * dict(objective.student.named_parameters())[name]
        torch.testing.assert_close(after, wanted, rtol=0, atol=1e-14)


def test_the_teacher_starts_as_the_student_has_no_gradient_and_is_kept() -> None:
    objective = dino.Objective(ARCH, SMALL)
    for name, value in objective.teacher.state_dict().items():
        assert torch.equal(value, objective.student.state_dict()[name]), name
    assert objective.encoder is objective.teacher["encoder"]
    objective.double()(crop_batch()).backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())


def test_dino_initialises_as_the_released_code() -> None:
    torch.manual_seed(0)
    objective = dino.Objective(ViTArch(64, 8, 128, 1, 2), dino.Settings(prototypes=500))
    student = objective.student
    for weight in (
        student["encoder"].pos_embed,
        student["encoder"].cls_token,
        student["encoder"].blocks[0].attn.qkv.weight,
        student["encoder"].blocks[0].mlp.fc2.weight,
        student["head"][0].weight,
        student["head"][4].weight,
    ):
        np.testing.assert_allclose(weight.std().item(), 0.02, rtol=0, atol=0.003)
    assert not student["head"][2].bias.any()
    assert student["encoder"].pos_embed.requires_grad
    # torch's own for a layer without normalisation: uniform in ±1 / √256, and ±1 / √(3 · 64) in the
    # patch embedding
    np.testing.assert_allclose(
        student["prototypes"].weight.abs().max().item(), 1 / 16, rtol=0, atol=1e-4
    )
    np.testing.assert_allclose(
        student["encoder"].patch_embed.proj.weight.abs().max().item(), 192**-0.5, rtol=0, atol=1e-4
    )
    assert [type(layer).__name__ for layer in student["head"]] == [
        "Linear",
        "GELU",
        "Linear",
        "GELU",
        "Linear",
    ]


def test_dino_decays_matrices_tokens_and_prototypes() -> None:
    objective = small()
    by_id = {id(p): name for name, p in objective.named_parameters()}
    decayed, free = (
        {by_id[id(p)] for p in group["params"]} for group in objective.parameter_groups()
    )
    assert {
        "student.encoder.pos_embed",
        "student.encoder.cls_token",
        "student.prototypes.weight",
    } <= decayed
    assert all(name.startswith("student.") for name in decayed | free)
    assert {"student.encoder.blocks.0.norm1.weight", "student.head.0.bias"} <= free


@pytest.mark.parametrize(("locals_", "low"), [(8, 0.4), (0, 0.14)])
def test_views_with_and_without_multi_crop(
    monkeypatch: pytest.MonkeyPatch, locals_: int, low: float
) -> None:
    asked: list[dict[str, Any]] = []
    views = dino.dino_views

    def spy(*sizes: int, **scales: Any) -> Any:
        asked.append({"sizes": sizes, **scales})
        return views(*sizes, **scales)

    monkeypatch.setattr(dino, "dino_views", spy)
    settings = dino.Settings(
        local_crops=locals_, jitter=0.3, hue=0.15, grey=0.4, blur=0.5, solarise=0.6
    )
    made = dino.batch(IMAGES, settings, ARCH, Rows(0, 0, slice(0, 4), 4))
    scales = {"global_scale": (low, 1.0), "local_scale": (0.05, 0.4)}
    assert asked == [
        {"sizes": (32, 16, locals_), "colours": Colours(0.3, 0.2, 0.15, 0.4, 0.5, 0.6), **scales}
    ]
    shapes = {name: tuple(value.shape) for name, value in made.items()}
    wanted = {
        "global": (4, 2, 3, 32, 32),
        "local": (4, 8, 3, 16, 16),
        "depth": (4, 2 + locals_, 3, 2),
    }
    assert shapes == {name: shape for name, shape in wanted.items() if locals_ or name != "local"}
    assert "depth" not in dino.batch(
        IMAGES, dino.Settings(drop_path=0.0), ARCH, Rows(0, 0, slice(0, 4), 4)
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"teacher_temperature": 0.0}, "teacher_temperature is 0.0: expected more than 0"),
        ({"student_temperature": -1.0}, "student_temperature is -1.0"),
        ({"centre_momentum": 1.5}, "centre_momentum is 1.5: expected a share"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"local_crops": -1}, "local_crops is -1: expected 0 or more"),
        ({"clip": math.nan}, "clip is nan"),
        ({"prototypes": 0}, "prototypes is 0"),
    ],
)
def test_dino_refuses_impossible_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        dino.Settings(**settings)
    with pytest.raises(InputError, match="Small crops of 12 px"):
        dino.Objective(ARCH, dataclasses.replace(SMALL, local_size=12))
    with pytest.raises(InputError, match="A crop's scale is"):
        dino.Objective(ARCH, dataclasses.replace(SMALL, local_scale=(0.5, 0.2)))
