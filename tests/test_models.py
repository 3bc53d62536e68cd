"""Vision Transformers beside timm's, positions, taps in the order of computation, and batch
normalisation beside torch's."""

import math

import numpy as np
import pytest
import timm
import torch
from torch import nn

import sslens
from sslens.errors import InputError
from sslens.models import transformers, vit
from sslens.models.backbone import spell_settings
from sslens.models.heads import BatchNorm, build_mlp
from sslens.models.positions import make_sincos_positions
from sslens.models.transformers import set_explicit_attention
from sslens.models.vit import ViTArch

TINY = ViTArch(image_size=32, patch_size=8, dim=24, blocks=3, heads=2)


def positions(dim: int, grid: int, transposed: bool = False) -> np.ndarray:
    """[token, dim], value by value from the formula."""
    table = np.zeros((grid**2 + 1, dim))
    for row in range(grid):
        for column in range(grid):
            first, second = (row, column) if transposed else (column, row)
            for i in range(dim // 4):
                for part, place in enumerate((first, second)):
                    angle = place / 10000 ** (i / (dim / 4))
                    at = 1 + row * grid + column
                    table[at, part * dim // 2 + i] = math.sin(angle)
                    table[at, part * dim // 2 + dim // 4 + i] = math.cos(angle)
    return table


# ------------------------------------------------------------------------------------------------
# Vision Transformers


def test_a_named_arch_is_timms_model_of_that_name() -> None:
    name = "vit_tiny_patch16_224"
    theirs = timm.create_model(name, num_classes=0).eval()
    ours = ViTArch.parse(name).build().eval()
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(2, 3, 224, 224)
        torch.testing.assert_close(
            ours.forward_features(x), theirs.forward_features(x), rtol=0, atol=0
        )


def test_layer_norms_have_eps_1e_6_and_qkv_a_bias() -> None:
    network = TINY.build()
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-6] * 7
    assert network.blocks[0].attn.qkv.bias.shape == (72,)
    assert network.blocks[0].attn.num_heads == 2


@pytest.mark.parametrize("transposed", [False, True])
def test_positions_are_the_formulas_in_float64(transposed: bool) -> None:
    table = make_sincos_positions(24, 5, transposed=transposed)
    assert table.shape == (1, 26, 24)
    np.testing.assert_allclose(
        table[0].double().numpy(), positions(24, 5, transposed), rtol=0, atol=6e-8
    )


def test_a_built_network_has_fixed_sincos_positions() -> None:
    network = TINY.build()
    assert not network.pos_embed.requires_grad
    assert torch.equal(network.pos_embed.data, make_sincos_positions(24, 4))


def test_a_seed_decides_the_weights_and_leaves_the_process_random_numbers_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (TINY.build(seed).blocks[1].mlp.fc1.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("explicit", [False, True])
def test_taps_come_in_the_order_of_computation(explicit: bool) -> None:
    network = TINY.build(0).eval()
    set_explicit_attention(network, explicit)
    ran: list[str] = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    network.forward_features(torch.zeros(1, 3, 32, 32))
    taps = list(transformers.list_taps(network))
    names = [tap.name for tap in taps]
    assert len(names) == 4 * 3 + 1
    assert [name for name in ran if name in names] == names


def test_taps_say_their_kind_and_depth() -> None:
    taps = list(transformers.list_taps(TINY.build()))
    depths = [tap.depth for tap in taps]
    assert depths == sorted(depths)
    assert [(tap.kind, round(tap.depth, 3)) for tap in taps[3:6]] == [
        ("block", 0.333),
        ("norm1", 0.667),
        ("qkv", 0.667),
    ]
    assert (taps[-1].kind, taps[-1].depth) == ("norm", 1.0)


def test_explicit_attention_computes_the_same() -> None:
    network = TINY.build(0).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    set_explicit_attention(network, True)
    assert not any(block.attn.fused_attn for block in network.blocks)
    explicit = network.forward_features(x)
    set_explicit_attention(network, False)
    assert all(block.attn.fused_attn for block in network.blocks)
    torch.testing.assert_close(explicit, network.forward_features(x), rtol=0, atol=1e-12)


def test_overrides_and_heads_change_the_arch() -> None:
    arch = ViTArch.parse("vit_nano_patch8_32", num_heads=4, blocks=2)
    assert arch == ViTArch(32, 8, dim=64, blocks=2, heads=4)
    assert ViTArch(**vit.describe(arch)) == arch


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("vit_nano_patch7_32", {}, "multiple of the patch size"),
        ("vit_nano_patch0_32", {}, "patch_size is 0"),
        ("vit_nano_patch8_0", {}, "image_size is 0"),
        ("vit_nano_patch8_32", {"blocks": 0}, "blocks is 0"),
        ("vit_nano_patch8_32", {"heads": 5}, "cannot be shared by 5 heads"),
        ("vit_nano_patch8_32", {"depth": 5}, "no depth: it has .*blocks"),
        ("vit_medium_patch8_32", {}, "expected vit_SIZE_patchP_S"),
        ("resnet50", {}, '"resnet50" is not an architecture'),
    ],
)
def test_an_impossible_arch_is_refused(name: str, overrides: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ViTArch.parse(name, **overrides)


def test_positions_need_a_multiple_of_four() -> None:
    with pytest.raises(InputError, match="multiple of 4, got 10"):
        make_sincos_positions(10, 2)


# ------------------------------------------------------------------------------------------------
# Backbone


def test_a_backbone_is_frozen_and_picks_taps_in_order() -> None:
    model = sslens.load("random:vit_nano_patch8_32:0", blocks=2)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.network.training
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 17, 64)
    assert [tap.name for tap in model.pick(["norm", "blocks.0", "blocks.0.norm1"])] == [
        "blocks.0.norm1",
        "blocks.0",
        "norm",
    ]
    assert len(model.pick(None)) == 9
    with pytest.raises(InputError, match=r"did you mean blocks\.0\.norm1"):
        model.pick(["blocks.0.norm3"])


def test_the_digest_of_a_backbone_follows_every_weight() -> None:
    one, other = (sslens.load("random:vit_nano_patch8_32:0", blocks=1) for _ in range(2))
    assert one.digest == other.digest
    changed = sslens.load("random:vit_nano_patch8_32:0", blocks=1)
    changed.network.norm.bias.data[-1] += 1e-6
    assert changed.digest != one.digest


# ------------------------------------------------------------------------------------------------
# heads


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_torchs(affine: bool) -> None:
    ours, theirs = BatchNorm(5, affine=affine), nn.BatchNorm1d(5, affine=affine)
    if affine:
        with torch.no_grad():
            theirs.weight.uniform_(0.5, 2)
            theirs.bias.normal_()
            ours.weight.copy_(theirs.weight)
            ours.bias.copy_(theirs.bias)
    for _ in range(3):
        x = 3 + 2 * torch.randn(7, 5)
        pair = [x.clone().requires_grad_() for _ in range(2)]
        outs = [norm(each) for norm, each in zip((ours, theirs), pair, strict=True)]
        for out in outs:
            out.mul(torch.arange(35.0).view(7, 5).sin()).sum().backward()
        torch.testing.assert_close(outs[0], outs[1], rtol=0, atol=1e-6)
        torch.testing.assert_close(pair[0].grad, pair[1].grad, rtol=0, atol=1e-6)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-6)
    if affine:
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=0, atol=1e-6)
    x = torch.randn(1, 5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("dims", "linear"),
    [((6, 8, 8, 4), [(8, 6), (8, 8), (4, 8)]), ((4, 8, 4), [(8, 4), (4, 8)])],
    ids=["projector", "predictor"],
)
def test_heads_have_no_biases_and_a_last_norm_without_affine(
    dims: tuple[int, ...], linear: list[tuple[int, int]]
) -> None:
    head = build_mlp(dims)
    layers = [module for module in head if isinstance(module, nn.Linear)]
    norms = [module for module in head if isinstance(module, BatchNorm)]
    assert [tuple(layer.weight.shape) for layer in layers] == linear
    assert all(layer.bias is None for layer in layers)
    assert [norm.weight is not None for norm in norms] == [True] * (len(layers) - 1) + [False]
    assert [len(norm.running_mean) for norm in norms] == list(dims[1:])
    out = head(torch.randn(64, dims[0]))
    torch.testing.assert_close(out.mean(0), torch.zeros(dims[-1]), rtol=0, atol=1e-6)
    torch.testing.assert_close(out.var(0, unbiased=False), torch.ones(dims[-1]), rtol=0, atol=1e-2)


def test_a_head_may_end_without_a_norm() -> None:
    assert isinstance(build_mlp((4, 8, 4), last_norm=False)[-1], nn.Linear)


@pytest.mark.parametrize(
    ("module", "older"),
    [
        (nn.LayerNorm(8, eps=1e-6), "(8,), eps=1e-06, elementwise_affine=True"),
        (nn.LayerNorm(8, bias=False), "(8,), eps=1e-05, elementwise_affine=True"),
        (nn.GroupNorm(2, 8), "2, 8, eps=1e-05, affine=True"),
        (
            nn.BatchNorm2d(8),
            "8, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True",
        ),
    ],
)
def test_the_digest_is_the_same_with_older_releases_of_torch(
    module: nn.Module, older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = spell_settings(module)
    monkeypatch.setattr(type(module), "extra_repr", lambda _: older)
    assert spell_settings(module) == now
    assert f"bias={module.bias is not None}" in now
