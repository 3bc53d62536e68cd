"""The diffusion transformer, against its equations written out patch by patch in float64."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sslens.errors import InputError
from sslens.models.dit import DiT, DiTShape
from sslens.models.transformers import set_explicit_attention

SHAPE = DiTShape(size=8, patch=4, width=6, blocks=2, heads=2, embedding=5, canvas=3, condition=4)


def make_network(shape: DiTShape = SHAPE) -> DiT:
    """A network in float64 with no weight at zero."""
    network = shape.build(seed=0).double()
    draw = torch.Generator().manual_seed(1)
    for value in network.parameters():
        value.data = 0.3 * torch.randn(value.shape, generator=draw, dtype=torch.float64)
    return network


def make_input() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    images, conditions = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((2, 3, 8, 8), (2, 4))
    )
    return images, torch.tensor([3.5, 800.0], dtype=torch.float64), conditions


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def normalise(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6)


def predict_by_hand(w: dict[str, np.ndarray], image: np.ndarray, time: float, h: np.ndarray) -> Any:
    """The equations of `DiT` for one image of 2 × 2 patches of 4 px, with two heads of three."""

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    angles = [time * math.exp(-math.log(10_000) * i / 128) for i in range(128)]
    waves = np.array([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    e = linear("time_embed.2", silu(linear("time_embed.0", waves))) + linear("ssl_emb", h)
    e = silu(e)
    d = silu(linear("decoder.2", silu(linear("decoder.0", h)))) if "decoder.0.bias" in w else e
    corners = [(0, 0), (0, 4), (4, 0), (4, 4)]
    tokens = []
    for p, (row, column) in enumerate(corners):
        square = image[:, row : row + 4, column : column + 4].reshape(-1)
        said = silu(linear("canvas", d))[3 * p : 3 * p + 3]
        token = linear("patch_embed", square) + w["positions"][p]
        tokens.append(token + linear("canvas_embed", said))
    for b in range(2):
        s, r, g, s2, r2, g2 = np.split(linear(f"blocks.{b}.modulate", e), 6)
        qkv = [linear(f"blocks.{b}.qkv", normalise(z) * (1 + s) + r) for z in tokens]
        for p in range(4):
            taken = []
            for head in range(2):
                cut = [slice(part * 6 + head * 3, part * 6 + head * 3 + 3) for part in range(3)]
                scores = np.array([qkv[p][cut[0]] @ other[cut[1]] / math.sqrt(3) for other in qkv])
                shares = np.exp(scores) / np.exp(scores).sum()
                taken.append(sum(a * other[cut[2]] for a, other in zip(shares, qkv, strict=True)))
            z = tokens[p] + g * linear(f"blocks.{b}.proj", np.concatenate(taken))
            x = linear(f"blocks.{b}.fc1", normalise(z) * (1 + s2) + r2)
            tokens[p] = z + g2 * linear(f"blocks.{b}.fc2", silu(x))
    s, r = np.split(linear("modulate", e), 2)
    out = np.empty((3, 8, 8))
    for z, (row, column) in zip(tokens, corners, strict=True):
        square = linear("out", normalise(z) * (1 + s) + r)
        out[:, row : row + 4, column : column + 4] = square.reshape(3, 4, 4)
    return out


def test_it_paints_each_patch_from_what_its_decoder_says() -> None:
    network = make_network(replace(SHAPE, decoder=7))
    _, _, conditions = make_input()
    with torch.no_grad():
        painted = network.paint(conditions).numpy()
    w = {name: value.numpy() for name, value in network.state_dict().items()}
    for row, h in enumerate(conditions.numpy()):
        for name in ("decoder.0", "decoder.2", "canvas"):
            h = silu(w[f"{name}.weight"] @ h + w[f"{name}.bias"])
        for p, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
            square = w["paint_out.weight"] @ h[3 * p : 3 * p + 3] + w["paint_out.bias"]
            got = painted[row, :, top : top + 4, left : left + 4]
            np.testing.assert_allclose(got, square.reshape(3, 4, 4), atol=1e-12)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("decoder", [0, 7])
def test_it_computes_its_equations(explicit: bool, decoder: int) -> None:
    network = make_network(replace(SHAPE, decoder=decoder))
    set_explicit_attention(network, explicit)
    images, times, conditions = make_input()
    with torch.no_grad():
        output = network(images, times, conditions).numpy()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    for row in range(2):
        expected = predict_by_hand(
            weights, images[row].numpy(), float(times[row]), conditions[row].numpy()
        )
        # the waves' frequencies are rounded to float32
        np.testing.assert_allclose(output[row], expected, atol=1e-4 * np.abs(expected).max())


def test_it_begins_at_zero_and_all_weights_learn() -> None:
    images, times, conditions = make_input()
    network = SHAPE.build(seed=0).double()
    assert network(images, times, conditions).abs().max() == 0
    network = make_network()
    network(images, times, conditions).square().sum().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


def test_a_network_is_decided_by_its_seed_and_leaves_the_generator() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same = (SHAPE.build(seed=3).state_dict() for _ in range(2))
    assert torch.get_rng_state().equal(state)
    assert all(value.equal(same[name]) for name, value in one.items())


def test_it_can_learn_variances_and_do_without_condition_and_canvas() -> None:
    shape = DiTShape(8, 2, 8, 1, 2, 4, learned_variance=True)
    network = shape.build(seed=0)
    assert network(torch.zeros(1, 3, 8, 8), torch.tensor([1])).shape == (1, 6, 8, 8)
    assert not {name for name in network.state_dict() if "canvas" in name or "ssl" in name}


def test_reduced_precision_is_near_and_comes_out_as_float32() -> None:
    network = make_network().float()
    images, times, conditions = (value.float() for value in make_input())
    with torch.no_grad():
        exact = network(images, times, conditions)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = network(images, times, conditions)
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, exact, atol=0.1 * float(exact.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"patch": 5}, "Patches of 5 px do not tile images of 32 px: give a size of 30 or 35, or"),
        ({"heads": 5}, "cut into 5 heads"),
        ({"blocks": 0}, "The blocks are 0: expected 1 or more"),
        ({"blocks": 10**20}, "expected 4,096 or less"),
        ({"canvas": -1}, "The canvas is -1: expected 0 or more"),
        ({"condition": 0}, "The condition is 0: expected 1 or more"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(wrong: dict[str, int], match: str) -> None:
    with pytest.raises(InputError, match=match):
        DiTShape(**wrong)  # type: ignore[arg-type]


def test_other_images_and_conditions_are_refused() -> None:
    network = make_network()
    images, times, conditions = make_input()
    with pytest.raises(InputError, match="built for 8 px"):
        network(images[:, :, :4, :4], times, conditions)
    with pytest.raises(InputError, match="width of 3, and the generator was built for"):
        network(images, times, conditions[:, :3])
