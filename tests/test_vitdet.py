"""Backbones for detection: attention against its equation, names, shapes, counts, and refusals."""

import math

import numpy as np
import pytest
import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import sslens
from sslens.errors import InputError
from sslens.methods.layers import layer_scales
from sslens.models import networks
from sslens.models.backbone import Backbone
from sslens.models.blocks import Way, set_block_runs
from sslens.models.branches import drop_branches
from sslens.models.pyramid import Pyramid, StagePyramid
from sslens.models.relative import WindowAttention
from sslens.models.transformers import set_explicit_attention
from sslens.models.vit import ViTArch
from sslens.models.vitdet import DetectionBackbone, make_backbone
from sslens.models.windowed import WindowedViT, resample_positions


def randomise(module: nn.Module) -> None:
    """Draw all parameters, so that no bias, norm or table is the identity."""
    state = torch.random.manual_seed(0)
    module.double()
    for value in module.parameters():
        value.data = torch.randn(value.shape, generator=state, dtype=torch.float64) / 2


def attend_by_pairs(
    tokens: np.ndarray, attention: WindowAttention, window: tuple[int, int]
) -> np.ndarray:
    """softmax over one window, pair by pair: tokens [row, column, dim], before the projection."""
    p = {name: value.detach().numpy() for name, value in attention.named_parameters()}
    rows, columns, dim = tokens.shape
    heads, width = attention.num_heads, dim // attention.num_heads
    places = [(y, x) for y in range(rows) for x in range(columns)]
    qkv = {at: p["qkv.weight"] @ tokens[at] + p["qkv.bias"] for at in places}
    out = np.zeros((rows, columns, dim))
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for at in places:
            query = qkv[at][:dim][part]
            logits = []
            for other in places:
                key = qkv[other][dim : 2 * dim][part]
                logit = query @ key / math.sqrt(width)
                if attention.relative:
                    row = p["rel_pos_h"][at[0] - other[0] + window[0] - 1]
                    column = p["rel_pos_w"][at[1] - other[1] + window[1] - 1]
                    logit += query @ row + query @ column
                logits.append(logit)
            weights = np.exp(np.array(logits) - max(logits))
            weights /= weights.sum()
            values = np.stack([qkv[other][2 * dim :][part] for other in places])
            out[at][part] = weights @ values
    return out


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(("window", "grid"), [(0, (3, 4)), (2, (4, 2)), (3, (4, 5))])
def test_attention_is_its_equation(
    window: int, grid: tuple[int, int], relative: bool, fused: bool
) -> None:
    attention = WindowAttention(
        Attention(6, num_heads=2, qkv_bias=True), window=window, grid=grid, relative=relative
    )
    randomise(attention)
    set_explicit_attention(attention, not fused)
    x = np.random.default_rng(0).normal(size=(*grid, 6))
    rows, columns = (window, window) if window else grid
    padded = np.zeros((-(-grid[0] // rows) * rows, -(-grid[1] // columns) * columns, 6))
    padded[: grid[0], : grid[1]] = x
    mixed = np.zeros_like(padded)
    for top in range(0, len(padded), rows):
        for left in range(0, padded.shape[1], columns):
            part = (slice(top, top + rows), slice(left, left + columns))
            mixed[part] = attend_by_pairs(padded[part], attention, (rows, columns))
    weight, bias = (value.detach().numpy() for value in attention.proj.parameters())
    expected = mixed[: grid[0], : grid[1]] @ weight.T + bias
    out = attention(torch.from_numpy(x).flatten(0, 1)[None], grid)[0].unflatten(0, grid)
    np.testing.assert_allclose(out.detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("fused", [False, True])
def test_attention_has_the_gradients_of_what_it_computes(fused: bool) -> None:
    attention = WindowAttention(
        Attention(4, num_heads=2, qkv_bias=True), window=2, grid=(3, 3), relative=True
    )
    randomise(attention)
    set_explicit_attention(attention, not fused)
    names = list(dict(attention.named_parameters()))
    values = tuple(value.detach().requires_grad_() for value in attention.parameters())
    x = torch.randn(2, 9, 4, dtype=torch.float64, requires_grad=True)

    def compute(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, values, strict=True))
        out: torch.Tensor = torch.func.functional_call(attention, parameters, (x, (3, 3)))
        return out

    assert torch.autograd.gradcheck(compute, (x, *values))


def load_small() -> Backbone:
    return sslens.load("random:vit_nano_patch8_32")


def test_without_windows_and_relative_positions_it_is_the_network_without_cls() -> None:
    network = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=3,
        num_heads=2,
        num_classes=0,
        reg_tokens=2,
        init_values=0.5,
        no_embed_class=True,
    ).eval()
    images = torch.randn(2, 3, 32, 32)
    x = network.patch_embed(images) + network.pos_embed
    for block in network.blocks:
        x = block(x)
    windowed = WindowedViT(network, window=0, global_blocks=(), grid=(4, 4), relative=False)
    torch.testing.assert_close(windowed.forward_features(images), x, rtol=1e-5, atol=1e-5)
    names = set(windowed.state_dict())
    assert names < set(network.state_dict())
    assert {"blocks.0.ls1.gamma", "blocks.2.ls2.gamma"} < names
    assert not names & {"cls_token", "reg_token", "norm.weight"}


def test_windows_that_hold_the_whole_image_change_nothing() -> None:
    images = torch.randn(2, 3, 32, 32)
    model = load_small()
    every = make_backbone(model, 32, window=0).eval()
    windows = make_backbone(model, 32, window=4, global_blocks=()).eval()
    torch.testing.assert_close(windows(images), every(images), rtol=1e-5, atol=1e-5)
    smaller = make_backbone(model, 32, window=2, global_blocks=()).eval()
    assert (smaller(images) - every(images)).abs().max() > 1e-2


def test_a_window_sees_its_own_patches_only() -> None:
    backbone = make_backbone(load_small(), 32, window=2, global_blocks=()).eval()
    one, other = torch.randn(2, 1, 3, 32, 32)
    other[..., :16, :16] = one[..., :16, :16]
    same = (backbone(one) == backbone(other)).all(1)[0]
    assert same[:2, :2].all()
    assert not same[2:].any()
    assert not same[:, 2:].any()


def test_blocks_are_concatenated_in_the_order_given() -> None:
    model, images = load_small(), torch.randn(2, 3, 64, 48)
    each = [make_backbone(model, (64, 48), blocks=[i])(images) for i in range(4)]
    backbone = make_backbone(model, (64, 48), blocks=[-1, 0, 2])
    torch.testing.assert_close(backbone(images), torch.cat([each[3], each[0], each[2]], dim=1))
    assert backbone.dims == (192,)
    last = make_backbone(model, (64, 48))
    torch.testing.assert_close(last(images), each[3])
    pyramid = backbone.make_pyramid(channels=8)
    assert isinstance(pyramid, Pyramid)
    assert {n: tuple(v.shape[1:]) for n, v in pyramid(backbone(images)).items()} == {
        "p2": (8, 32, 24),
        "p3": (8, 16, 12),
        "p4": (8, 8, 6),
        "p5": (8, 4, 3),
        "p6": (8, 2, 2),
    }


def test_vit_b_has_detectron2s_names_windows_and_parameters() -> None:
    with torch.device("meta"):
        network = ViTArch.parse("vit_base_patch16_224").build()
    windowed = WindowedViT(network, window=14, global_blocks=(2, 5, 8, 11), grid=(64, 64))
    state = windowed.state_dict()
    tables = [tuple(state[f"blocks.{i}.attn.rel_pos_w"].shape) for i in range(12)]
    assert tables == [(27, 64), (27, 64), (127, 64)] * 4
    block = 2 * 2 * 768 + 768 * 3 * 768 + 3 * 768 + 768**2 + 768 + 8 * 768**2 + 5 * 768
    positions = 2 * 64 * (8 * 27 + 4 * 127)
    expected = 12 * block + positions + 197 * 768 + 16 * 16 * 3 * 768 + 768
    assert sum(value.numel() for value in windowed.parameters()) == expected
    assert len(state) == 12 * 14 + 3
    assert state["pos_embed"].shape == (1, 197, 768)


def test_rates_fall_by_layer_as_detectron2s() -> None:
    with torch.device("meta"):
        network = ViTArch.parse("vit_base_patch16_224").build()
    windowed = WindowedViT(network, window=14, global_blocks=(), grid=(64, 64))
    scales = layer_scales(windowed, 0.7)
    assert (
        scales["pos_embed"] == scales["patch_embed.proj.bias"] == pytest.approx(0.00969, rel=1e-3)
    )
    assert scales["blocks.11.attn.rel_pos_h"] == pytest.approx(0.7)
    assert scales["blocks.0.mlp.fc1.weight"] == pytest.approx(0.7**12)
    assert windowed.no_weight_decay() == {"pos_embed"}


def test_the_model_stays_as_it_is_and_the_copy_can_be_trained() -> None:
    model = load_small()
    before = model.digest
    backbone = make_backbone(model, 64).train()
    images = torch.randn(2, 3, 64, 64)
    backbone(images).square().sum().backward()
    for name, value in backbone.named_parameters():
        assert value.requires_grad
        # nothing is asked of positions that only CLS had, and the keys' bias cancels in a softmax
        assert value.grad is not None, name
    with torch.no_grad():
        for value in backbone.parameters():
            value.add_(1.0)
    assert model.digest == before
    assert all(not value.requires_grad for value in model.network.parameters())


def test_blocks_are_computed_again_and_branches_dropped_as_in_other_networks() -> None:
    backbone = make_backbone(load_small(), 64).train()
    images = torch.randn(2, 3, 64, 64, requires_grad=True)
    plain = torch.autograd.grad(backbone(images).square().sum(), images)[0]
    assert set_block_runs(backbone.network, Way(recompute=True)) == 4
    again = torch.autograd.grad(backbone(images).square().sum(), images)[0]
    assert (plain == again).all()
    assert len(drop_branches(backbone.network, 0.1)) == 8
    assert len(networks.list_taps(backbone.network)) == 16
    assert networks.find_kind(backbone.network) == "vit"


def test_positions_are_resampled_as_detectron2_does() -> None:
    table = torch.randn(1, 17, 3, dtype=torch.float64)
    weights = _cubic(4, 6), _cubic(4, 3)
    square = table[0, 1:].unflatten(0, (4, 4)).numpy()
    expected = np.einsum("ri,cj,ijd->rcd", *weights, square).reshape(-1, 3)
    found = resample_positions(table, 1, (6, 3))[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def _cubic(old: int, new: int) -> np.ndarray:
    """The matrix of Keys' cubic convolution (1981) with a = −3/4, half-pixel centres and borders
    repeated."""
    matrix, a = np.zeros((new, old)), -0.75
    for place in range(new):
        at = (place + 0.5) * old / new - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            x = abs(at - tap)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            far = a * (x**3 - 5 * x**2 + 8 * x - 4)
            matrix[place, min(max(tap, 0), old - 1)] += near if x <= 1 else far
    return matrix


@pytest.mark.parametrize(
    ("name", "stride", "dims"),
    [
        ("resnet18", 4, (64, 128, 256, 512)),
        ("resnet_mini_32", 1, (24, 48, 96, 192)),
        ("convnextv2_mini_32", 1, (24, 48, 96, 192)),
        ("convnextv2_atto", 4, (40, 80, 160, 320)),
    ],
)
def test_cnns_give_the_maps_of_their_stages(name: str, stride: int, dims: tuple[int, ...]) -> None:
    model = sslens.load(f"random:{name}")
    backbone = make_backbone(model, 64).train()
    images = torch.randn(2, 3, 64, 96)
    maps = backbone(images)
    sides = [(64 // stride // 2**i, 96 // stride // 2**i) for i in range(4)]
    assert [tuple(x.shape[1:]) for x in maps] == [(d, *s) for d, s in zip(dims, sides, strict=True)]
    assert (backbone.dims, backbone.stride) == (dims, stride)
    torch.testing.assert_close(maps[-1], model(images), rtol=1e-4, atol=1e-4)
    pyramid = backbone.make_pyramid(channels=8)
    assert isinstance(pyramid, StagePyramid)
    assert [tuple(level.shape[2:]) for level in pyramid(maps).values()][:4] == sides
    sum(level.square().sum() for level in pyramid(maps).values()).backward()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not module.training
            assert module.weight.grad is None
        elif isinstance(module, nn.Conv2d):
            assert module.weight.grad is not None
    assert all(
        (x == y).all() for x, y in zip(model.network.buffers(), backbone.buffers(), strict=True)
    )


@pytest.mark.parametrize(
    ("source", "settings", "said"),
    [
        ("random:vit_nano_patch8_32", {"size": 60}, "pad them to 64 × 64 px"),
        ("random:vit_nano_patch8_32", {"size": (64, 0)}, "cannot be cut into patches"),
        ("random:vit_nano_patch8_32", {"blocks": [4]}, "has 4 blocks, 0 to 3, and no block 4"),
        ("random:vit_nano_patch8_32", {"blocks": [-1, 3]}, "each once"),
        ("random:vit_nano_patch8_32", {"blocks": []}, "name one or more"),
        ("random:vit_nano_patch8_32", {"global_blocks": [9]}, "no block 9"),
        ("random:vit_nano_patch8_32", {"window": -1}, "0 for none"),
        ("random:resnet18", {"blocks": [3]}, "leave blocks and windows out"),
        ("random:timm/eva02_tiny_patch14_224", {"size": 224}, "Use it frozen"),
        ("random:timm/vit_tiny_r_s16_p8_224", {"size": 224}, "one convolution"),
        ("pixels", {}, "a Pixels, which cannot be tuned"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    source: str, settings: dict[str, object], said: str
) -> None:
    model = sslens.load(source)
    with pytest.raises(InputError, match=said):
        make_backbone(model, **({"size": 64} | settings))  # type: ignore[arg-type]


def test_images_of_other_sizes_are_refused_by_the_network_too() -> None:
    backbone = make_backbone(load_small(), 64)
    assert isinstance(backbone, DetectionBackbone)
    with pytest.raises(InputError, match="Images of 64 × 65 px cannot be cut"):
        backbone(torch.zeros(1, 3, 64, 65))
