"""A ViT on crops: positions beside a bicubic interpolation of our own, patches left out, branches
dropped."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from timm.models.vision_transformer import Block
from torch import Tensor

from sslens.data.streams import depth_noise
from sslens.errors import InputError
from sslens.models.blocks import Way, set_block_runs
from sslens.models.crops import (
    choose_local_size,
    compute_class_tokens,
    make_depth_factors,
    resize_positions,
)
from sslens.models.some_tokens import compute_for_some
from sslens.models.transformers import set_explicit_attention
from sslens.models.vit import ViTArch

ARCH = ViTArch(image_size=32, patch_size=8, dim=16, blocks=3, heads=2)


def network() -> torch.nn.Module:
    net = ARCH.build(seed=1).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def bicubic(rows: np.ndarray, size: int, scale: float) -> np.ndarray:
    """Keys' cubic convolution with a = −0.75 along the first axis, edges extended; pixel centres at
    (i + 1/2) / scale."""
    a, out = -0.75, []
    for i in range(size):
        at = (i + 0.5) / scale - 0.5
        left = int(np.floor(at))
        value = np.zeros(rows.shape[1:])
        for j in range(left - 1, left + 3):
            t = abs(at - j)
            near, far = (
                (a + 2) * t**3 - (a + 3) * t**2 + 1,
                a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a,
            )
            weight = near if t <= 1 else far
            value = value + weight * rows[min(max(j, 0), len(rows) - 1)]
        out.append(value)
    return np.array(out)


@pytest.mark.parametrize(
    ("old", "new", "shift"), [(14, 6, 0.1), (14, 6, 0.0), (8, 3, 0.1), (4, 2, 0.0), (4, 7, 0.1)]
)
def test_positions_are_resampled_by_cubic_convolution(old: int, new: int, shift: float) -> None:
    table = torch.randn(
        1, old**2 + 1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    got = resize_positions(table, new, shift=shift)
    grid = table[0, 1:].view(old, old, 5).numpy()
    scale = (new + shift) / old
    wanted = bicubic(bicubic(grid, new, scale).swapaxes(0, 1), new, scale).swapaxes(0, 1)
    np.testing.assert_allclose(got[0, 1:].view(new, new, 5), wanted, rtol=0, atol=1e-12)
    assert torch.equal(got[0, 0], table[0, 0])


def test_positions_of_the_same_grid_are_kept_whatever_the_shift() -> None:
    table = torch.randn(1, 17, 5)
    assert resize_positions(table, 4, shift=0.1) is table


@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_the_tokens_of_whole_images_are_the_networks_own(shape: tuple[int, ...]) -> None:
    net, images = network(), torch.randn(*shape, 3, 32, 32, dtype=torch.float64)
    wanted = net.forward_features(images.flatten(0, -4))[:, 0].unflatten(0, shape)
    torch.testing.assert_close(compute_class_tokens(net, images), wanted, rtol=0, atol=1e-12)
    same = torch.ones(*shape, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(
        compute_class_tokens(net, images, branches=same), wanted, rtol=0, atol=1e-12
    )


def test_small_crops_have_their_own_positions() -> None:
    net, crops = network(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    small = ViTArch(16, 8, 16, 3, 2).build(seed=1).double().eval()
    positions = resize_positions(net.pos_embed, 2, shift=0.1)
    small.load_state_dict(net.state_dict() | {"pos_embed": positions})
    got = compute_class_tokens(net, crops, shift=0.1)
    torch.testing.assert_close(got, small.forward_features(crops)[:, 0], rtol=0, atol=1e-12)
    assert (got - compute_class_tokens(net, crops)).abs().max() > 1e-4


def test_only_the_patches_that_are_kept_are_seen() -> None:
    net, images, kept = (
        network(),
        torch.randn(2, 3, 32, 32, dtype=torch.float64),
        torch.tensor([5, 0, 14]),
    )
    other = images.clone()
    for at in set(range(16)) - set(kept.tolist()):
        other[:, :, 8 * (at // 4) : 8 * (at // 4) + 8, 8 * (at % 4) : 8 * (at % 4) + 8] = 7.0
    seen = compute_class_tokens(net, images, patches=kept)
    torch.testing.assert_close(
        compute_class_tokens(net, other, patches=kept), seen, rtol=0, atol=1e-12
    )
    assert (compute_class_tokens(net, images) - seen).abs().max() > 1e-3
    # attention has no order: the same patches in another order, each with its own position
    torch.testing.assert_close(
        compute_class_tokens(net, images, patches=kept.flip(0)), seen, rtol=0, atol=1e-12
    )


def test_a_branch_is_scaled_for_each_image_and_block_by_itself() -> None:
    net, images = network(), torch.randn(4, 3, 32, 32, dtype=torch.float64)
    factors = 2 * torch.rand(4, 3, 2, dtype=torch.float64)
    factors[0], factors[1, 1] = 0, 0

    def by_hand(image: Tensor, own: Tensor) -> Tensor:
        x = torch.cat([net.cls_token[0], net.patch_embed(image[None])[0]]) + net.pos_embed[0]
        for block, (attention, mlp) in zip(net.blocks, own.tolist(), strict=True):
            if attention:
                x = x + attention * block.attn(block.norm1(x[None]))[0]
            if mlp:
                x = x + mlp * block.mlp(block.norm2(x))
        out: Tensor = net.norm(x)[0]
        return out

    wanted = torch.stack([by_hand(image, own) for image, own in zip(images, factors, strict=True)])
    torch.testing.assert_close(
        compute_class_tokens(net, images, branches=factors), wanted, rtol=0, atol=1e-12
    )


def test_depth_is_dropped_at_rates_that_rise_with_the_block() -> None:
    noise = depth_noise(0, 5, slice(0, 20_000), 20_000, 6).unflatten(1, (3, 2))
    factors = make_depth_factors(noise, 0.4)
    for block, rate in enumerate((0.0, 0.2, 0.4)):
        kept = factors[:, block][factors[:, block] > 0]
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-6, atol=0)
        dropped = (factors[:, block] == 0).double().mean().item()
        assert abs(dropped - rate) < 4 * (rate * (1 - rate) / 40_000) ** 0.5 + 1e-9
    parts = [depth_noise(0, 5, rows, 20_000, 6) for rows in (slice(0, 7), slice(7, 20_000))]
    assert torch.equal(torch.cat(parts).unflatten(1, (3, 2)), noise)
    assert stats.kstest(noise.flatten().numpy()[::3], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("asked", [12, 40, -8])
def test_crops_that_cannot_be_cut_into_patches_are_refused(asked: int) -> None:
    with pytest.raises(
        InputError,
        match=rf"Small crops of {asked} px .* multiple of the patch of 8 px, up to the images' 32",
    ):
        choose_local_size(32, 8, asked)


@pytest.mark.parametrize(
    ("image", "patch", "size"),
    [(224, 16, 96), (224, 14, 98), (32, 8, 16), (32, 16, 16), (64, 8, 24)],
)
def test_small_crops_are_three_sevenths_in_whole_patches(image: int, patch: int, size: int) -> None:
    assert choose_local_size(image, patch, 0) == size


@pytest.mark.parametrize("asked", [slice(0, 1), slice(2, None)])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("way", [Way(), Way(recompute=True)])
def test_some_tokens_are_those_of_the_whole_block_and_so_are_the_gradients(
    asked: slice, fused: bool, way: Way
) -> None:
    torch.manual_seed(0)
    whole = Block(16, 2, qkv_bias=True).double()
    some = copy.deepcopy(whole)
    set_explicit_attention(some, not fused)
    set_block_runs(some, way)
    x, weight = torch.randn(3, 7, 16).double(), torch.randn(16).double()
    attention, mlp = torch.rand(2, 3, 1, 1).double()
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    middle = inputs[0] + attention * whole.attn(whole.norm1(inputs[0]))
    wanted = (middle + mlp * whole.mlp(whole.norm2(middle)))[:, asked]
    got = compute_for_some(some, inputs[1], asked, attention, mlp)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)
    for out in (wanted, got):
        ((out * weight) ** 2).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=0, atol=1e-11)
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(
            some.get_parameter(name).grad, parameter.grad, rtol=0, atol=1e-11, msg=name
        )
    torch.testing.assert_close(
        compute_for_some(some, x, asked), whole(x)[:, asked], rtol=0, atol=1e-12
    )
