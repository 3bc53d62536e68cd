"""A contract for every file of objectives/, and each objective beside its formulas, computed again
in float64."""

import ast
import contextlib
import copy
import dataclasses
import inspect
import math
import pickle
import textwrap
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sslens.data.streams import mask_noise
from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.methods import HOOKS, Method, Moment, Rows, WholeBatch
from sslens.methods.pixels import patchify
from sslens.models.cnn import CNNArch
from sslens.models.positions import make_sincos_positions
from sslens.models.vit import ViTArch
from sslens.objectives import mae, moco_v3
from sslens.training.gradients import backward, backward_whole

ARCH = ViTArch(image_size=32, patch_size=8, dim=64, blocks=2, heads=2)
ARCHS = {
    "vit": ARCH,
    "resnet": CNNArch.parse("resnet_8x12x16x20_1x1x1x1_64"),
    "convnextv2": CNNArch.parse("convnextv2_8x16x32x64_1x1x2x1_64"),
}
IMAGES = [
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (40 + i, 50 - i, 3), dtype=np.uint8))
    for i in range(8)
]
LABELS = (0, 1, 1, 0, 2, 0, 1, 2)
ROWS = Rows(seed=3, step=7, rows=slice(0, 8), total=8, labels=LABELS)


def run(
    objective: nn.Module, batch: dict[str, Tensor], dtype: torch.dtype = torch.float32
) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss: Tensor = objective(batch)
    return loss


def close(got: Any, wanted: Any, atol: float) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(wanted), rtol=0, atol=atol)


def near(got: Tensor, wanted: Tensor, tolerance: float, what: str = "") -> None:
    """Equal but for a tolerance that scales with the largest value, where that is above 1."""
    scale = max(1.0, float(wanted.detach().abs().max())) if wanted.numel() else 1.0
    torch.testing.assert_close(
        got, wanted, rtol=0, atol=tolerance * scale, msg=lambda text: f"{what}: {text}"
    )


# ------------------------------------------------------------------------------------- the contract
# of every objective


@pytest.fixture(scope="module", params=names("objectives"))
def built(request: pytest.FixtureRequest) -> SimpleNamespace:
    """An objective at its own settings, but for widths over 256, on a small network."""
    module = plugin("objectives", request.param)
    settings = module.Settings()
    wide = {
        name: 256
        for name, value in dataclasses.asdict(settings).items()
        if isinstance(value, int) and value > 256
    }
    named = {"classes": ("a", "b", "c")} if hasattr(module, "LABELLED") else {}
    settings = dataclasses.replace(settings, **wide, **named)
    arch = ARCHS[module.KINDS[0]]
    torch.manual_seed(0)
    objective = module.Objective(arch, settings).train()
    batch = module.batch(IMAGES, settings, arch, ROWS)
    return SimpleNamespace(
        module=module, settings=settings, arch=arch, objective=objective, batch=batch
    )


def test_settings_are_frozen_and_have_what_the_loop_reads(built: SimpleNamespace) -> None:
    assert dataclasses.is_dataclass(built.module.Settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.settings.base_lr = 1.0
    assert built.settings.base_lr > 0
    assert built.settings.weight_decay >= 0
    assert len(built.settings.betas) == 2
    assert 0 <= built.settings.warmup < 1


def test_what_is_public_is_documented_with_its_paper(built: SimpleNamespace) -> None:
    module: ModuleType = built.module
    assert "arXiv:" in (module.__doc__ or "")
    assert "| papers | released code | here |" in module.Settings.__doc__
    for thing in (
        module.batch,
        module.Objective,
        *(f for _, f in inspect.getmembers(module.Objective, inspect.isfunction)),
    ):
        if getattr(thing, "__module__", None) == module.__name__ and not thing.__name__.startswith(
            "_"
        ):
            assert inspect.getdoc(thing), thing.__name__


def test_the_objective_is_a_method(built: SimpleNamespace) -> None:
    assert isinstance(built.objective, Method)
    assert isinstance(built.objective, WholeBatch) is built.objective.whole_batch
    assert built.module.FAMILY in ("JE", "REC", "supervised")


def test_what_is_named_like_a_hook_is_one_and_does_something(built: SimpleNamespace) -> None:
    for name, function in inspect.getmembers(type(built.objective), inspect.isfunction):
        if name.startswith(("before_", "after_")):
            assert name in HOOKS, f"the loop knows no {name}"
            body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
            assert isinstance(body, ast.FunctionDef)
            assert len(body.body) > 1, f"{name} does nothing: leave it out"


def test_a_minibatch_in_parts_has_the_gradient_of_the_whole(
    built: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not built.objective.divisible:
        pytest.skip("the loop refuses parts")
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    whole, parted = (copy.deepcopy(built.objective).double() for _ in range(2))
    batch = {name: value.double() for name, value in built.batch.items()}
    parts = [
        {name: value[rows] for name, value in batch.items()}
        for rows in (slice(0, 3), slice(3, 6), slice(6, 8))
    ]
    loss = whole(batch)
    loss.backward()
    if whole.whole_batch:
        got = backward_whole(parted, parts, contextlib.nullcontext())
    else:  # parts are of one length in a training
        parts = [
            {name: value[rows] for name, value in batch.items()}
            for rows in (slice(0, 4), slice(4, 8))
        ]
        got = backward(parted, parts, 2, contextlib.nullcontext())
    near(got.detach(), loss.detach(), 1e-10)
    for (name, wanted), parameter in zip(
        whole.named_parameters(), parted.parameters(), strict=True
    ):
        if wanted.grad is not None:
            near(parameter.grad, wanted.grad, 1e-9, name)
    for (name, value), other in zip(whole.named_buffers(), parted.buffers(), strict=True):
        near(other, value, 1e-10, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_loss_is_a_finite_float32_scalar(built: SimpleNamespace, dtype: torch.dtype) -> None:
    objective = copy.deepcopy(built.objective)
    loss = run(objective, built.batch, dtype)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert math.isfinite(loss.item())
    near(loss.detach(), run(built.objective, built.batch).detach(), 0.05)


def test_every_trained_parameter_is_in_one_group_and_has_a_gradient(built: SimpleNamespace) -> None:
    objective = copy.deepcopy(built.objective)
    grouped = [id(p) for group in objective.parameter_groups() for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in objective.parameters() if p.requires_grad}
    run(objective, built.batch).backward()
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
        else:
            assert parameter.grad is None, name


def test_the_encoder_is_the_archs_network(built: SimpleNamespace) -> None:
    shapes = {key: value.shape for key, value in built.objective.encoder.state_dict().items()}
    assert shapes == {key: value.shape for key, value in built.arch.build().state_dict().items()}
    assert any(module is built.objective.encoder for module in built.objective.modules())


def test_a_few_steps_lower_the_loss_while_nothing_else_moves(built: SimpleNamespace) -> None:
    objective = copy.deepcopy(built.objective)
    optimizer = torch.optim.AdamW(
        objective.parameter_groups(), lr=3e-4, weight_decay=0.0, fused=True
    )
    losses = []
    for _ in range(8):
        loss = run(objective, built.batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0], losses


def test_views_are_a_pure_function_whose_rows_concatenate(built: SimpleNamespace) -> None:
    def made(rows: slice, step: int = 7) -> dict[str, Tensor]:
        return built.module.batch(
            IMAGES[rows], built.settings, built.arch, Rows(3, step, rows, 8, LABELS[rows])
        )

    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = made(slice(0, 3)), made(slice(3, 8))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert first.keys() == built.batch.keys()
    for key, whole in built.batch.items():
        assert torch.equal(torch.cat([first[key], second[key]]), whole), key
        assert torch.equal(made(slice(0, 8), step=8)[key], whole) is (key == "label"), key


def test_views_can_be_made_by_data_workers(built: SimpleNamespace) -> None:
    assert pickle.loads(pickle.dumps(built.module.batch)) is built.module.batch


# ------------------------------------------------------------------------------------------------
# MAE


SMALL = mae.Settings(decoder_dim=16, decoder_blocks=2, decoder_heads=2)


def small_mae(**settings: Any) -> mae.Objective:
    torch.manual_seed(1)
    objective = mae.Objective(
        ViTArch(24, 6, 32, 2, 2), dataclasses.replace(SMALL, **settings)
    ).double()
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.ndim == 1:  # biases and norms of no special value
                parameter.add_(0.1 * torch.randn_like(parameter))
    return objective


def mae_by_hand(
    objective: mae.Objective, images: np.ndarray, noise: np.ndarray, ratio: float, normalise: bool
) -> float:
    """The loss, image by image and patch by patch: only attention blocks and norms are the
    objective's own."""
    net, p = objective.encoder, objective.arch.patch_size
    grid = objective.arch.grid
    weight = net.patch_embed.proj.weight.detach().numpy()  # [dim, channel, row, column]
    bias = net.patch_embed.proj.bias.detach().numpy()
    errors = []
    for image, scores in zip(images, noise, strict=True):
        cut = [
            image[:, p * i : p * i + p, p * j : p * j + p] for i in range(grid) for j in range(grid)
        ]
        kept = sorted(range(grid**2), key=lambda at: scores[at])[: int(grid**2 * (1 - ratio))]
        place = net.pos_embed[0].detach().numpy()
        tokens = [net.cls_token[0, 0].detach().numpy() + place[0]]
        tokens += [np.einsum("dcij,cij->d", weight, cut[at]) + bias + place[1 + at] for at in kept]
        x = torch.from_numpy(np.array(tokens))[None]
        for block in net.blocks:
            x = block(x)
        x = objective.embed(net.norm(x))[0]
        full = [x[0]] + [objective.mask_token[0, 0]] * grid**2
        for number, at in enumerate(kept):
            full[1 + at] = x[1 + number]
        predicted = (
            objective.decoder((torch.stack(full) + objective.positions[0])[None])[0, 1:]
            .detach()
            .numpy()
        )
        for at in set(range(grid**2)) - set(kept):
            target = cut[at].transpose(1, 2, 0).reshape(-1)
            if normalise:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            errors.append(np.mean((predicted[at] - target) ** 2))
    return float(np.mean(errors))


@pytest.mark.parametrize(("ratio", "normalise"), [(0.75, True), (0.75, False), (0.4, True)])
def test_mae_is_its_formulas_in_float64(
    monkeypatch: pytest.MonkeyPatch, ratio: float, normalise: bool
) -> None:
    objective = small_mae(mask_ratio=ratio, normalise_pixels=normalise)
    rng = np.random.default_rng(0)
    images, noise = rng.normal(size=(3, 3, 24, 24)), rng.random((3, 16)).astype(np.float32)
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # the loss is else float32
    loss = objective({"view": torch.from_numpy(images), "noise": torch.from_numpy(noise)})
    close(loss.item(), mae_by_hand(objective, images, noise, ratio, normalise), atol=1e-12)


def test_mae_keeps_49_of_196_patches() -> None:
    objective = mae.Objective(ViTArch(224, 16, 32, 1, 1), SMALL)
    seen: list[int] = []
    objective.encoder.blocks[0].register_forward_hook(
        lambda _module, inputs, _out: seen.append(inputs[0].shape[1])
    )
    objective.decoder[0].register_forward_hook(
        lambda _module, inputs, _out: seen.append(inputs[0].shape[1])
    )
    objective(
        {
            "view": torch.zeros(1, 3, 224, 224),
            "noise": mask_noise(0, 0, slice(0, 1), total=1, patches=196),
        }
    )
    assert seen == [1 + 49, 1 + 196]


def test_mae_cannot_see_masked_pixels() -> None:
    objective = small_mae().float()
    view, noise = torch.randn(2, 3, 24, 24), torch.rand(2, 16)
    masked = noise.argsort(dim=1)[:, 4:]
    other = view.clone()
    for image, patches in zip(other, masked.tolist(), strict=True):
        for at in patches:
            row, column = 6 * (at // 4), 6 * (at % 4)
            image[:, row : row + 6, column : column + 6] = 9.0
    kept = noise.argsort(dim=1)[:, :4]
    assert torch.equal(objective.encode(view, kept), objective.encode(other, kept))
    assert (
        objective({"view": view, "noise": noise}).item()
        != objective({"view": other, "noise": noise}).item()
    )


def test_mae_loss_is_of_masked_patches_alone() -> None:
    objective = small_mae().float()
    images, predicted, masked = (
        torch.randn(1, 3, 24, 24),
        torch.randn(1, 2, 108),
        torch.tensor([[2, 11]]),
    )
    loss = objective.loss(images, predicted, masked)
    changed = images.clone()
    changed[0, :, :6, :6] = 7.0  # patch 0
    assert objective.loss(changed, predicted, masked).item() == loss.item()
    changed[0, 0, 12, 18] += 1.0  # patch 11
    assert objective.loss(changed, predicted, masked).item() != loss.item()


def test_mae_patches_are_row_column_channel() -> None:
    images = torch.randn(2, 3, 12, 12)
    patches = patchify(images, 4)
    for i, j, p, q, c in np.random.default_rng(0).integers(0, 3, (20, 5)).tolist():
        assert patches[1, 3 * i + j, (4 * p + q) * 3 + c] == images[1, c, 4 * i + p, 4 * j + q]


def test_mae_initialises_as_the_paper_says() -> None:
    torch.manual_seed(0)
    objective = mae.Objective(ARCH, mae.Settings(decoder_dim=64, decoder_heads=2))
    encoder = objective.encoder
    assert torch.equal(encoder.pos_embed.data, make_sincos_positions(64, 4))
    assert torch.equal(objective.positions.data, make_sincos_positions(64, 4))
    # Xavier: uniform in ±√(6 / (in + out)), the patch embedding as a matrix
    for weight, bound in (
        (encoder.patch_embed.proj.weight, 6 / (192 + 64)),
        (encoder.blocks[0].attn.qkv.weight, 6 / 256),
    ):
        close(weight.abs().max().item(), math.sqrt(bound), atol=1e-3)
    close(objective.mask_token.std().item(), 0.02, atol=0.005)
    close(encoder.cls_token.std().item(), 0.02, atol=0.005)


def test_mae_decays_matrices_and_tokens_but_not_vectors() -> None:
    objective = small_mae()
    by_id = {id(p): name for name, p in objective.named_parameters()}
    decayed, free = (
        {by_id[id(p)] for p in group["params"]} for group in objective.parameter_groups()
    )
    assert [group.get("weight_decay") for group in objective.parameter_groups()] == [None, 0.0]
    assert {
        "encoder.cls_token",
        "mask_token",
        "embed.weight",
        "encoder.patch_embed.proj.weight",
    } <= decayed
    norms = {
        f"{name}.weight"
        for name, module in objective.named_modules()
        if isinstance(module, nn.LayerNorm)
    }
    assert free == norms | {name for name in by_id.values() if name.endswith(".bias")}


@pytest.mark.parametrize(
    "settings",
    [
        {"mask_ratio": 0.0},
        {"mask_ratio": 1.0},
        {"decoder_dim": 30, "decoder_heads": 4},
        {"decoder_blocks": -1},
        {"decoder_blocks": 10**20},
    ],
    ids=str,
)
def test_mae_refuses_impossible_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"mask_ratio is|cannot be built|4,096 or less"):
        mae.Settings(**settings)


# ------------------------------------------------------------------------------------------------
# MoCo-v3


def small_moco(**settings: Any) -> moco_v3.Objective:
    torch.manual_seed(2)
    return moco_v3.Objective(ARCH, moco_v3.Settings(head_dim=24, out_dim=12, **settings)).train()


def views(count: int = 6) -> dict[str, Tensor]:
    return {"first": torch.randn(count, 3, 32, 32), "second": torch.randn(count, 3, 32, 32)}


def info_nce(queries: Tensor, keys: Tensor, tau: float) -> float:
    """2τ · mean_i −log(exp(q_i·k_i / τ) / Σ_j exp(q_i·k_j / τ)), q and k of length 1."""
    q, k = (x.detach().double().numpy() for x in (queries, keys))
    q, k = (x / np.sqrt((x**2).sum(axis=1, keepdims=True)) for x in (q, k))
    terms = []
    for i in range(len(q)):
        similar = np.exp([q[i] @ k[j] / tau for j in range(len(k))])
        terms.append(-np.log(similar[i] / similar.sum()))
    return float(2 * tau * np.mean(terms))


def projected(branch: nn.ModuleDict, view: Tensor) -> Tensor:
    out: Tensor = branch["projector"](branch["encoder"].forward_features(view)[:, 0])
    return out


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_moco_is_info_nce_both_ways_in_float64(tau: float) -> None:
    objective = small_moco(temperature=tau)
    with torch.no_grad():  # else the two branches are one
        for parameter in objective.momentum.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = views()
    q1, q2 = (
        objective.predictor(projected(objective.base, batch[name])) for name in ("first", "second")
    )
    k1, k2 = (projected(objective.momentum, batch[name]) for name in ("first", "second"))
    wanted = info_nce(q1, k2, tau) + info_nce(q2, k1, tau)
    assert abs(wanted - info_nce(q1, k1, tau) - info_nce(q2, k2, tau)) > 1e-3
    close(objective(batch).item(), wanted, atol=2e-6)


def test_moco_contrast_of_two_orthogonal_images() -> None:
    objective = small_moco()
    eye = torch.eye(2)
    # 2 · 0.2 · log(1 + exp(−1 / 0.2))
    close(objective.contrast(3 * eye, 5 * eye).item(), 0.4 * 0.0067153485, atol=1e-7)


def test_moco_logits_are_float32_under_autocast() -> None:
    objective = small_moco(temperature=0.04)
    q, k = (torch.randn(16, 12).bfloat16() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective.contrast(q, k)
    close(loss.item(), info_nce(q, k, 0.04), atol=1e-5)


@pytest.mark.parametrize(("progress", "m"), [(0.0, 0.99), (0.5, 0.995), (1.0, 1.0)])
def test_moco_momentum_follows_parameters_alone(progress: float, m: float) -> None:
    objective = small_moco()
    with torch.no_grad():
        for parameter in objective.base.parameters():
            parameter.add_(torch.randn_like(parameter))
        for buffer in objective.base.buffers():
            buffer.add_(1.0)
    before = copy.deepcopy(objective.momentum.state_dict())
    base = dict(objective.base.named_parameters())
    objective.before_step(Moment(round(4 * progress), 4, 1))
    for name, after in objective.momentum.state_dict().items():
        if name in base:
            close(after, m * before[name] + (1 - m) * base[name].detach(), atol=1e-6)
        else:
            assert torch.equal(after, before[name]), name


def test_moco_momentum_branch_trains_its_norms_and_gets_no_gradient() -> None:
    objective = small_moco()
    norms = [branch["projector"][1] for branch in (objective.base, objective.momentum)]
    objective(views()).backward()
    assert all(parameter.grad is None for parameter in objective.momentum.parameters())
    assert all(norm.training and norm.running_mean.any() for norm in norms)


def test_moco_starts_with_two_equal_branches_and_a_frozen_patch_embedding() -> None:
    objective = small_moco()
    for name, value in objective.momentum.state_dict().items():
        assert torch.equal(value, objective.base.state_dict()[name]), name
    frozen = {name for name, p in objective.base.named_parameters() if not p.requires_grad}
    assert frozen == {
        "encoder.pos_embed",
        "encoder.patch_embed.proj.weight",
        "encoder.patch_embed.proj.bias",
    }
    assert objective.encoder is objective.base["encoder"]


def test_moco_trains_its_patch_embedding_where_asked() -> None:
    objective = small_moco(freeze_patches=False)
    frozen = {name for name, p in objective.base.named_parameters() if not p.requires_grad}
    assert frozen == {"encoder.pos_embed"}
    objective(views()).backward()
    assert objective.encoder.patch_embed.proj.weight.grad.abs().max() > 0
    assert not objective.momentum["encoder"].patch_embed.proj.weight.requires_grad


def test_moco_initialises_as_the_released_code() -> None:
    encoder = small_moco().encoder
    assert torch.equal(encoder.pos_embed.data, make_sincos_positions(64, 4, transposed=True))
    assert not encoder.patch_embed.proj.bias.any()
    # Xavier, q, k and v each by itself
    close(encoder.blocks[0].attn.qkv.weight.abs().max().item(), math.sqrt(6 / (64 + 64)), atol=1e-3)
    close(encoder.blocks[0].mlp.fc1.weight.abs().max().item(), math.sqrt(6 / (64 + 256)), atol=1e-3)
    close(
        encoder.patch_embed.proj.weight.abs().max().item(), math.sqrt(6 / (3 * 64 + 64)), atol=1e-3
    )
    assert encoder.cls_token.abs().max().item() < 1e-5


def test_moco_decays_all_that_is_trained() -> None:
    (group,) = small_moco().parameter_groups()
    assert "weight_decay" not in group
    assert any(parameter.ndim == 1 for parameter in group["params"])


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"momentum": 1.5}, {"head_dim": 0}], ids=str
)
def test_moco_refuses_impossible_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"temperature is|momentum is|cannot be built"):
        moco_v3.Settings(**settings)
