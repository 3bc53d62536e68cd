"""MSN beside its formulas, computed again in float64 and by hand; what moves between steps."""

import copy
import dataclasses
import math
import os
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from forks import together
from sslens.errors import InputError
from sslens.methods import Moment, Rows
from sslens.methods.balance import balance_assignments
from sslens.models.crops import resize_positions
from sslens.models.vit import ViTArch
from sslens.objectives import msn

ARCH = ViTArch(image_size=32, patch_size=8, dim=32, blocks=2, heads=2)
SMALL = msn.Settings(prototypes=10, head_dim=24, out_dim=12, focal_views=2, focal_size=16)
IMAGES = [
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 44, 3), dtype=np.uint8))
    for i in range(4)
]


@pytest.fixture(autouse=True)
def _in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed in float32 by the objective is float64 here."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


def small(**settings: Any) -> msn.Objective:
    """An objective whose target is not its anchor."""
    torch.manual_seed(1)
    objective = msn.Objective(ARCH, dataclasses.replace(SMALL, **settings)).double().train()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return objective


def views(count: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, dtype=torch.float64)

    noise = torch.rand(1, 16, generator=generator).repeat(count, 1)
    return {
        "target": normal(3, 32, 32),
        "random": normal(3, 32, 32),
        "focal": normal(2, 3, 16, 16),
        "noise": noise,
    }


def token(net: nn.Module, image: Tensor, kept: list[int] | None = None) -> np.ndarray:
    patches = net.patch_embed.proj(image[None]).flatten(2)[0].T
    positions = resize_positions(net.pos_embed, round(len(patches) ** 0.5))[0]
    patches = patches + positions[1:]
    x = torch.cat([net.cls_token[0] + positions[:1], patches if kept is None else patches[kept]])[
        None
    ]
    for block in net.blocks:
        x = block(x)
    cls: np.ndarray = net.norm(x)[0, 0].detach().numpy()
    return cls


def head(layers: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """Linear, batch norm by this batch, GELU; twice; linear."""
    for i in (0, 3):
        x = x @ layers[i].weight.detach().numpy().T + layers[i].bias.detach().numpy()
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
        x = x * layers[i + 1].weight.detach().numpy() + layers[i + 1].bias.detach().numpy()
        x = x * 0.5 * (1 + np.vectorize(math.erf)(x / 2**0.5))
    out: np.ndarray = x @ layers[6].weight.detach().numpy().T + layers[6].bias.detach().numpy()
    return out


def assigned(z: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    prototypes = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
    shares = np.exp(z @ prototypes.T / 0.1)
    rows: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
    return rows


def balanced(t: np.ndarray, steps: int) -> np.ndarray:
    """Prototypes to 1 / K of the whole, then images to 1 / B, in turn."""
    t = t / t.sum()
    for _ in range(steps):
        t = t / t.sum(axis=0) / t.shape[1]
        t = t / t.sum(axis=1, keepdims=True) / len(t)
    whole: np.ndarray = t * len(t)
    return whole


def by_hand(objective: msn.Objective, batch: dict[str, Tensor], kept: int, steps: int) -> float:
    order = sorted(range(16), key=lambda at: batch["noise"][0, at].item())
    prototypes = objective.prototypes.detach().numpy()
    anchor, target = objective.anchor, objective.target
    z = head(
        target["head"], np.stack([token(target["encoder"], image) for image in batch["target"]])
    )
    t = assigned(z, prototypes) ** 4
    t = balanced(t / t.sum(axis=1, keepdims=True), steps)
    random = np.stack([token(anchor["encoder"], image, order[:kept]) for image in batch["random"]])
    p = [assigned(head(anchor["head"], random), prototypes)]
    if "focal" in batch:
        focal = np.stack([token(anchor["encoder"], crop) for crop in batch["focal"].flatten(0, 1)])
        rows = assigned(head(anchor["head"], focal), prototypes)
        p += [rows[::2], rows[1::2]]
    match = np.mean([-(t * np.log(each)).sum(axis=1).mean() for each in p])
    mean = np.concatenate(p).mean(axis=0)
    return float(match + math.log(10) + (mean * np.log(mean)).sum())


@pytest.mark.parametrize(
    ("with_focal", "drop", "kept", "steps"),
    [(True, 0.15, 13, 3), (False, 0.5, 8, 3), (True, 0.3, 11, 0), (True, 0.0, 16, 1)],
)
def test_msn_is_its_formulas_in_float64(
    with_focal: bool, drop: float, kept: int, steps: int
) -> None:
    objective, batch = small(patch_drop=drop, sinkhorn_steps=steps), views()
    if not with_focal:
        del batch["focal"]
    np.testing.assert_allclose(
        objective(batch).item(), by_hand(objective, batch, kept, steps), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_the_entropy_of_the_mean_is_weighted(weight: float) -> None:
    batch = views()
    match, both = small(entropy_weight=0.0)(batch).item(), small(entropy_weight=1.0)(batch).item()
    assert both - match > 1e-3
    got = small(entropy_weight=weight)(batch).item()
    np.testing.assert_allclose(got, match + weight * (both - match), rtol=0, atol=1e-10)


def test_the_entropy_term_is_nought_for_uniform_use_and_log_k_for_one_prototype() -> None:
    objective = small(prototypes=4, out_dim=4, temperature=1e-3, sharpening=1.0)
    eye = torch.eye(4, dtype=torch.float64)
    objective.prototypes.data.copy_(eye)
    for branch in (objective.anchor, objective.target):
        branch["head"] = nn.Identity()

    def loss(rows: Tensor) -> float:
        value: Tensor = objective.loss({"random": rows}, {"target": rows})
        return value.item()

    np.testing.assert_allclose(loss(eye), 0.0, rtol=0, atol=1e-12)
    objective.settings = dataclasses.replace(objective.settings, sinkhorn_steps=0)
    np.testing.assert_allclose(loss(eye[:1].repeat(4, 1)), math.log(4), rtol=0, atol=1e-12)


def test_sinkhorn_balances() -> None:
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(6, 0.3), size=9))
    np.testing.assert_allclose(
        balance_assignments(p, 3), balanced(p.numpy(), 3), rtol=0, atol=1e-14
    )
    assert torch.equal(
        balance_assignments(p, 0), p / p.sum() / (p / p.sum()).sum(dim=1, keepdim=True)
    )
    converged = balance_assignments(p, 500)
    np.testing.assert_allclose(converged.sum(0), np.full(6, 9 / 6), rtol=0, atol=1e-9)
    np.testing.assert_allclose(converged.sum(1), np.ones(9), rtol=0, atol=1e-12)


def test_two_processes_have_one_processs_loss_and_gradient() -> None:
    batch = views(8)
    one = small()
    loss = one(batch)
    loss.backward()

    def check() -> None:
        rank = int(os.environ["RANK"])
        dist.init_process_group("gloo")
        objective = small()
        own = objective({name: value[4 * rank : 4 * rank + 4] for name, value in batch.items()})
        own.backward()
        mean = own.detach().clone()
        dist.all_reduce(mean)
        np.testing.assert_allclose(mean.item() / 2, loss.item(), rtol=0, atol=1e-10)
        for (name, wanted), got in zip(one.named_parameters(), objective.parameters(), strict=True):
            if wanted.grad is not None:
                dist.all_reduce(got.grad)
                torch.testing.assert_close(got.grad / 2, wanted.grad, rtol=0, atol=1e-10, msg=name)
        dist.destroy_process_group()

    together(check)


def test_the_random_view_alone_loses_patches_the_same_in_all_images() -> None:
    objective, batch = small(patch_drop=0.5), views()
    dropped = batch["noise"][0].argsort()[8:].tolist()
    other = {name: value.clone() for name, value in batch.items()}
    for at in dropped:
        other["random"][
            :, :, 8 * (at // 4) : 8 * (at // 4) + 8, 8 * (at % 4) : 8 * (at % 4) + 8
        ] = 5.0
        other["target"][
            :, :, 8 * (at // 4) : 8 * (at // 4) + 8, 8 * (at % 4) : 8 * (at % 4) + 8
        ] = 5.0
    seen, again = objective.features(batch), objective.features(other)
    for name in ("random", "focal"):
        torch.testing.assert_close(seen[name], again[name], rtol=0, atol=1e-12)
    assert (
        objective.targets(batch)["target"] - objective.targets(other)["target"]
    ).abs().max() > 1e-3
    noise = msn.batch(IMAGES, SMALL, ARCH, Rows(0, 3, slice(0, 4), 8))["noise"]
    assert torch.equal(noise, noise[:1].repeat(4, 1))
    assert torch.equal(noise, msn.batch(IMAGES, SMALL, ARCH, Rows(0, 3, slice(4, 8), 8))["noise"])


def test_the_views_are_a_target_a_random_and_focal_ones() -> None:
    made = msn.batch(IMAGES, msn.Settings(), ARCH, Rows(0, 0, slice(0, 4), 4))
    shapes = {name: tuple(value.shape) for name, value in made.items()}
    whole = (4, 3, 32, 32)
    assert shapes == {
        "target": whole,
        "random": whole,
        "noise": (4, 16),
        "focal": (4, 10, 3, 16, 16),
    }
    assert not torch.equal(made["target"], made["random"])
    assert "focal" not in msn.batch(
        IMAGES, msn.Settings(focal_views=0), ARCH, Rows(0, 0, slice(0, 4), 4)
    )


def test_rates_by_hand() -> None:
    """16 steps and 1.25 · 16 = 20 of the schedule; 4 of warm-up; steps count from 1, as in the
    released code."""
    objective = small(warmup=4 / 16, base_lr=1.0, first_lr=0.2, min_lr=0.01)
    got = [objective.rates(Moment(step, 16, 4), 2.0) for step in range(16)]
    rising = [0.4 + 1.6 * done / 4 for done in (1, 2, 3)]
    falling = [0.01 + 1.99 * (1 + math.cos(math.pi * done / 16)) / 2 for done in range(13)]
    np.testing.assert_allclose([lr for lr, _ in got], rising + falling, rtol=0, atol=1e-12)
    decay = [0.4 - 0.36 * (1 + math.cos(math.pi * done / 20)) / 2 for done in range(1, 17)]
    np.testing.assert_allclose([wd for _, wd in got], decay, rtol=0, atol=1e-12)


def test_the_anchors_gradients_are_clipped_together_and_the_prototypes_not() -> None:
    objective = small(clip=3.0)
    objective(views()).backward()
    parameters = [p for p in objective.anchor.parameters() if p.grad is not None]
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in parameters))
    for parameter in [*parameters, objective.prototypes]:
        parameter.grad *= 6.0 / norm
    before = [p.grad.clone() for p in parameters]
    prototypes = objective.prototypes.grad.clone()
    objective.before_update(Moment(0, 10, 1))
    for parameter, was in zip(parameters, before, strict=True):
        torch.testing.assert_close(parameter.grad, was / 2, rtol=1e-6, atol=0)
    assert torch.equal(objective.prototypes.grad, prototypes)


@pytest.mark.parametrize(("step", "m"), [(0, 0.996), (5, 0.9976), (8, 0.99856)])
def test_the_target_follows_linearly_over_a_longer_training(step: int, m: float) -> None:
    objective = small()
    target = copy.deepcopy(dict(objective.target.named_parameters()))
    buffers = copy.deepcopy(dict(objective.target.named_buffers()))
    objective.after_update(Moment(step, 10, 1))
    for name, after in objective.target.named_parameters():
        wanted = m * target[name] + (1 - m) * dict(objective.anchor.named_parameters())[name]
        torch.testing.assert_close(after, wanted, rtol=0, atol=1e-14)
    assert all(
        torch.equal(after, buffers[name]) for name, after in objective.target.named_buffers()
    )


def test_the_target_trains_its_norms_starts_as_the_anchor_and_is_kept() -> None:
    objective = msn.Objective(ARCH, SMALL).double().train()
    for name, value in objective.target.state_dict().items():
        assert torch.equal(value, objective.anchor.state_dict()[name]), name
    objective(views()).backward()
    assert all(parameter.grad is None for parameter in objective.target.parameters())
    norm = objective.target["head"][1]
    assert norm.training
    assert norm.running_mean.any()
    assert objective.encoder is objective.target["encoder"]


def test_msn_initialises_as_the_released_code() -> None:
    torch.manual_seed(0)
    objective = msn.Objective(ViTArch(64, 8, 128, 1, 2), msn.Settings())
    encoder, layers = objective.anchor["encoder"], objective.anchor["head"]
    weights = (
        encoder.pos_embed,
        encoder.cls_token,
        encoder.blocks[0].attn.qkv.weight,
        layers[0].weight,
        layers[6].weight,
    )
    for weight in weights:
        np.testing.assert_allclose(weight.std().item(), 0.02, rtol=0, atol=0.003)
    np.testing.assert_allclose(
        encoder.patch_embed.proj.weight.std().item(), (2 / 192) ** 0.5, rtol=0.02
    )
    assert not encoder.patch_embed.proj.bias.any()
    np.testing.assert_allclose(objective.prototypes.abs().max().item(), 1 / 16, rtol=0, atol=1e-4)
    names = ["Linear", "BatchNorm", "GELU", "Linear", "BatchNorm", "GELU", "Linear"]
    assert [type(layer).__name__ for layer in layers] == names


def test_msn_decays_matrices_but_not_vectors_and_prototypes() -> None:
    objective = small()
    by_id = {id(p): name for name, p in objective.named_parameters()}
    decayed, vectors, prototypes = (
        {by_id[id(p)] for p in g["params"]} for g in objective.parameter_groups()
    )
    assert [group.get("weight_decay") for group in objective.parameter_groups()] == [None, 0.0, 0.0]
    assert {"anchor.encoder.pos_embed", "anchor.head.0.weight"} <= decayed
    assert {"anchor.head.1.weight", "anchor.head.0.bias", "anchor.encoder.norm.weight"} <= vectors
    assert prototypes == {"prototypes"}
    assert "prototypes" not in decayed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.0}, "temperature is 0.0: expected more than 0"),
        ({"patch_drop": 1.0}, "patch_drop is 1.0: expected a share"),
        ({"stretch": 0.9}, "stretch is 0.9: expected 1 or more"),
        ({"focal_views": -1}, "focal_views is -1: expected 0 or more"),
    ],
)
def test_msn_refuses_impossible_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        msn.Settings(**settings)
    with pytest.raises(InputError, match="Small crops of 12 px"):
        msn.Objective(ARCH, dataclasses.replace(SMALL, focal_size=12))
    with pytest.raises(InputError, match="A crop's scale is"):
        msn.Objective(ARCH, dataclasses.replace(SMALL, random_scale=(0.0, 1.0)))
