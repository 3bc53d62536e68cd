"""The feature pyramids against their equations, written out without torch's modules."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sslens.errors import InputError
from sslens.models.channel_norm import ChannelNorm, ConvNorm
from sslens.models.doubling import Doubling
from sslens.models.pyramid import Pyramid, StagePyramid


def randomise(module: torch.nn.Module, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw all parameters, so that no norm is the identity; return them by name in float64."""
    state = torch.random.manual_seed(seed)
    module.double()
    for value in module.parameters():
        value.data = torch.randn(value.shape, generator=state, dtype=torch.float64) / 2
    return {name: value.numpy() for name, value in module.state_dict().items()}


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    normal = centred / np.sqrt((centred**2).mean(0) + 1e-6)
    return normal * weight[:, None, None] + bias[:, None, None]


def conv(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Correlate a map [channel, row, column] with a kernel of odd side, zeros around the map."""
    border = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (border, border), (border, border)))
    rows, columns = x.shape[1:]
    out = np.zeros((len(weight), rows, columns))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            out += np.tensordot(weight[:, :, i, j], padded[:, i : i + rows, j : j + columns], 1)
    return out


def deconv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """y[o, 2r + i, 2c + j] = b[o] + sum_k x[k, r, c] W[k, o, i, j]."""
    out = np.einsum("krc,koij->oricj", x, weight)
    return out.reshape(out.shape[0], 2 * x.shape[1], 2 * x.shape[2]) + bias[:, None, None]


def smooth(x: np.ndarray, p: dict[str, np.ndarray], level: str, first: int) -> np.ndarray:
    for number in (first, first + 1):
        name = f"{level}.{number}"
        x = norm(conv(x, p[f"{name}.weight"]), p[f"{name}.norm.weight"], p[f"{name}.norm.bias"])
    return x


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@pytest.mark.parametrize("shape", [(4, 6), (3, 5)])
def test_each_level_is_its_equation(shape: tuple[int, int]) -> None:
    pyramid = Pyramid(dim=8, stride=16, channels=6)
    p = randomise(pyramid)
    x = np.random.default_rng(0).normal(size=(8, *shape))
    finest = norm(deconv(x, p["p2.0.weight"], p["p2.0.bias"]), p["p2.1.weight"], p["p2.1.bias"])
    finest = deconv(gelu(finest), p["p2.3.weight"], p["p2.3.bias"])
    rows, columns = (side // 2 for side in shape)
    largest = x[:, : 2 * rows, : 2 * columns].reshape(8, rows, 2, columns, 2).max((2, 4))
    expected = {
        "p2": smooth(finest, p, "p2", 4),
        "p3": smooth(deconv(x, p["p3.0.weight"], p["p3.0.bias"]), p, "p3", 1),
        "p4": smooth(x, p, "p4", 0),
        "p5": smooth(largest, p, "p5", 1),
    }
    expected["p6"] = expected["p5"][:, ::2, ::2]
    levels = pyramid(torch.from_numpy(x)[None])
    assert list(levels) == list(expected)
    for name, level in levels.items():
        np.testing.assert_allclose(level[0].detach().numpy(), expected[name], atol=1e-11)


def test_a_pyramid_has_as_many_parameters_as_detectron2s_at_vit_b() -> None:
    pyramid = Pyramid(dim=768, stride=16)
    smoothing = 256 * 256 * 9 + 4 * 256  # the 3 × 3 convolution and both norms
    p2 = (768 * 384 * 4 + 384) + 2 * 384 + (384 * 192 * 4 + 192) + 192 * 256 + smoothing
    p3 = (768 * 384 * 4 + 384) + 384 * 256 + smoothing
    expected = p2 + p3 + 2 * (768 * 256 + smoothing)
    assert sum(value.numel() for value in pyramid.parameters()) == expected == 5_560_000
    assert len(pyramid.state_dict()) == 32
    assert pyramid.strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}


@pytest.mark.parametrize("sides", [(16, 24), (13, 9)])
def test_the_stages_levels_are_their_equations(sides: tuple[int, int]) -> None:
    dims = (3, 4, 5, 6)
    pyramid = StagePyramid(dims, stride=4, channels=4)
    p = randomise(pyramid)
    random, maps = np.random.default_rng(1), []
    for dim in dims:
        maps.append(random.normal(size=(dim, *sides)))
        sides = ((sides[0] + 1) // 2, (sides[1] + 1) // 2)
    above, expected = None, {}
    for name, x in zip(("p5", "p4", "p3", "p2"), reversed(maps), strict=True):
        merged = smooth_once(x, p, f"lateral.{name}")
        if above is not None:
            doubled = above.repeat(2, axis=1).repeat(2, axis=2)
            merged += doubled[:, : merged.shape[1], : merged.shape[2]]
        expected[name] = smooth_once(merged, p, f"output.{name}")
        above = merged
    expected["p6"] = expected["p5"][:, ::2, ::2]
    levels = pyramid([torch.from_numpy(x)[None] for x in maps])
    assert list(levels) == ["p2", "p3", "p4", "p5", "p6"]
    for name, level in levels.items():
        np.testing.assert_allclose(level[0].detach().numpy(), expected[name], atol=1e-11)
    assert pyramid.strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
    assert pyramid.multiple == 32


def smooth_once(x: np.ndarray, p: dict[str, np.ndarray], name: str) -> np.ndarray:
    return norm(conv(x, p[f"{name}.weight"]), p[f"{name}.norm.weight"], p[f"{name}.norm.bias"])


def test_a_norm_of_channels_has_gradients_of_its_equation() -> None:
    layer = ChannelNorm(5)
    randomise(layer)
    x = torch.randn(2, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))

    def write_out(x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        normal = (x - mean) / (variance + 1e-6).sqrt()
        return normal * layer.weight[:, None, None] + layer.bias[:, None, None]

    torch.testing.assert_close(layer(x), write_out(x), rtol=0, atol=1e-12)


def test_a_convolution_begins_as_torchs() -> None:
    bound = (1 / (64 * 9)) ** 0.5
    largest = ConvNorm(64, 64, 3).weight.abs().max().item()
    assert 0.98 * bound < largest <= bound


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.zeros(1, 16, 4, 4), "for maps of 8 channels, and this one has 16"),
        (torch.zeros(1, 8, 1, 4), "no level half as fine"),
    ],
)
def test_maps_that_do_not_fit_are_refused(x: Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Pyramid(dim=8, stride=16, channels=4)(x)


def test_shapes_that_make_no_pyramid_are_refused() -> None:
    with pytest.raises(InputError, match="multiple of 4"):
        Pyramid(dim=6, stride=16)
    with pytest.raises(InputError, match="needs four of them, and there are 3"):
        StagePyramid([8, 16, 32], stride=4)


def test_a_doubling_begins_computes_and_learns_as_torchs_deconvolution() -> None:
    made: list[torch.nn.Module] = []
    for build in (lambda: Doubling(6, 4), lambda: torch.nn.ConvTranspose2d(6, 4, 2, stride=2)):
        torch.manual_seed(3)
        made.append(build().double())
    assert {name: value.shape for name, value in made[0].state_dict().items()} == {
        "weight": (6, 4, 2, 2),
        "bias": (4,),
    }
    for value, other in zip(made[0].parameters(), made[1].parameters(), strict=True):
        assert torch.equal(value, other)
    state = torch.random.manual_seed(0)
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64, generator=state)
    wanted = torch.randn(2, 4, 6, 10, dtype=torch.float64, generator=state)
    gradients = []
    for layer in made:
        given = x.clone().requires_grad_()
        y = layer(given)
        gradients.append([y, *torch.autograd.grad(y, [given, *layer.parameters()], wanted)])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
