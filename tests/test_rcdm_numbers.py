"""The network, losses and samplers beside numbers that RCDM's authors' own classes gave.

`rcdm_numbers.json` was made by running their UNetModel and SpacedDiffusion in float32 on the
weights, images and noise that are made here, and the numbers of `shorten` were kept: the mean, the
mean size and a few values of each tensor. The authors' code is not part of this repository.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sslens.diffusion.chain import Chain
from sslens.diffusion.gaussian import Gaussian
from sslens.diffusion.respacing import choose_times
from sslens.errors import InputError
from sslens.models.unet import UNet, UNetShape

NUMBERS = json.loads((Path(__file__).parent / "rcdm_numbers.json").read_text(encoding="utf-8"))
SHAPE = UNetShape(16, 32, 1, (1, 2), attention=(8,), condition=10)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def shorten(tensor: Tensor, count: int = 5) -> list[float]:
    """The mean, the mean size, and some values at equal distances."""
    x = tensor.detach().double().flatten()
    values: list[float] = x[:: max(1, len(x) // count)][:count].tolist()
    return [x.mean().item(), x.abs().mean().item(), *values]


def fill(network: nn.Module) -> UNet:
    """Fill all tensors in the order of their names."""
    state, values = np.random.RandomState(0), {}
    for name, value in sorted(network.state_dict().items()):
        normal = state.standard_normal(tuple(value.shape))
        values[name] = torch.from_numpy(normal * (0.05 if value.ndim > 1 else 0.3)).float()
    network.load_state_dict(values)
    assert isinstance(network, UNet)
    return network.eval()


@cache
def network() -> UNet:
    return fill(SHAPE.build())


def make_images() -> Tensor:
    """Whole levels; some are the first and some the last, which have a likelihood of their own."""
    levels = np.random.RandomState(1).randint(0, 256, (4, 3, 16, 16))
    images = torch.from_numpy(levels / 127.5 - 1).float()
    images[0, 0, 0, :8], images[0, 1, 0, :8] = -1, 1
    return images


FEATURES, NOISE = draw(2, 4, 10), draw(3, 4, 3, 16, 16)
TIMES = torch.tensor([0, 7, 500, 999])


def require_near(values: Sequence[float], expected: Sequence[float], bound: float) -> None:
    largest = max(1.0, np.abs(expected).max())
    assert np.abs(np.subtract(values, expected)).max() < bound * largest, (values, expected)


@torch.no_grad()
def test_every_stage_puts_out_the_authors_numbers() -> None:
    values: dict[str, list[float]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            values[name] = shorten(output)

        return hook

    names = [name for name in NUMBERS["activations"] if name != "out"]
    hooks = [network().get_submodule(n).register_forward_hook(keep(n)) for n in names]
    values["out"] = shorten(network()(NOISE, TIMES, FEATURES))
    for hook in hooks:
        hook.remove()
    assert values.keys() == NUMBERS["activations"].keys()
    assert {f"input_blocks.{i}" for i in range(4)} | {"ssl_emb", "middle_block"} < values.keys()
    for name, expected in NUMBERS["activations"].items():
        require_near(values[name], expected, 2e-5)


@torch.no_grad()
def test_without_a_representation_the_network_is_guided_diffusions() -> None:
    alone = replace(SHAPE, condition=None).build()
    state = network().state_dict()
    alone.load_state_dict({n: v for n, v in state.items() if not n.startswith("ssl_emb.")})
    require_near(shorten(alone(NOISE, TIMES)), NUMBERS["unconditional"], 2e-5)


@torch.no_grad()
def test_heads_may_be_given_by_their_width() -> None:
    other = fill(UNetShape(16, 32, 1, (1, 2), attention=(8,), head_width=16, condition=10).build())
    output = other(NOISE, TIMES, FEATURES)
    require_near(shorten(output), NUMBERS["heads of 16 channels"], 2e-5)
    same = fill(UNetShape(16, 32, 1, (1, 2), attention=(8,), heads=2, condition=10).build())
    different = shorten(same(NOISE, TIMES, FEATURES))  # 64 channels: 4 heads of 16, 2 of 32
    assert np.abs(np.subtract(different, shorten(output))).max() > 1e-4


def test_loss_terms_and_gradients_are_the_authors() -> None:
    trained = fill(SHAPE.build())
    for text, expected in NUMBERS["losses"].items():
        times = torch.tensor([int(time) for time in text.split(",")])
        losses = Gaussian().loss(trained, make_images(), FEATURES, {"time": times, "noise": NOISE})
        assert list(losses) == ["loss", "mse", "vlb"]
        for term, values in expected.items():
            require_near(losses[term].tolist(), values, 2e-5)
            assert losses[term].tolist() == pytest.approx(values, rel=2e-5)
    losses["loss"].mean().backward()
    for name, values in NUMBERS["gradients"].items():
        gradient = trained.get_parameter(name).grad
        assert gradient is not None
        size = float(gradient.abs().mean())
        assert shorten(gradient) == pytest.approx(values, rel=1e-3, abs=0.01 * size), name


def test_tables_are_the_authors() -> None:
    for name, expected in NUMBERS["tables"].items():
        schedule, _, steps = name.partition(" ")
        chain = Chain(schedule).respace(steps) if steps else Chain(schedule)
        at, one = torch.tensor(expected["at"]), torch.ones(len(expected["at"]), 3, 1, 1).double()
        tables = {
            "betas": chain.betas[at],
            "alpha_bar": chain.alpha_bar[at],
            "log_variance": chain.posterior_log_variance[at],
            "of_clean": chain.posterior_mean(one, 0 * one, at)[:, 0, 0, 0],
            "of_noisy": chain.posterior_mean(0 * one, one, at)[:, 0, 0, 0],
        }
        for key, values in tables.items():
            assert values.tolist() == pytest.approx(expected[key], rel=1e-10, abs=1e-10), key


def test_respacings_are_the_authors() -> None:
    expected = NUMBERS["respacings"]
    digest = hashlib.sha256()
    for times in (1000, 300):
        for count in range(1, times + 1, 9):
            digest.update(json.dumps(choose_times(times, str(count))).encode())
    assert digest.hexdigest() == expected["evenly"]
    for steps, value in expected["sections"].items():
        chosen = json.dumps(choose_times(1000, steps)).encode()
        assert hashlib.sha256(chosen).hexdigest() == value
    strides = {}
    for count in range(1, 1001):
        try:
            strides[str(count)] = choose_times(1000, f"ddim{count}")
        except InputError:
            continue
    assert strides.keys() == expected["ddim"].keys()
    for count, stride in expected["ddim"].items():
        assert strides[count] == tuple(range(0, 1000, stride))


@pytest.mark.parametrize("name", NUMBERS["samples"])
def test_whole_sampling_loops_are_the_authors(name: str) -> None:
    schedule, steps, kind = name.split()
    images = Gaussian(schedule).sample(
        network(),
        NOISE[:1],
        FEATURES[:1],
        steps,
        lambda time: draw(100 + time, 1, 3, 16, 16),
        None if kind == "ancestral" else float(kind),
    )
    require_near(shorten(images, 12), NUMBERS["samples"][name], 2e-5)
