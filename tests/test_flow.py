"""Flow matching, against closed forms for images that are normally distributed."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sslens.diffusion.flow import Flow, read_steps, solve
from sslens.diffusion.process import Process
from sslens.errors import InputError

#: mean and standard deviation of the images' numbers
MEAN, DEVIATION = 0.2, 0.3


def predict(noisy: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
    """The best prediction E[x | x_t] where x ~ N(m, s²): m + t s² (x_t − t m) / (t² s² + (1 − t)²).
    The mean is shifted by the condition."""
    t = (1 - times / 1000).to(noisy.dtype)[:, None, None, None]
    mean = MEAN if condition is None else MEAN + condition[:, :1, None, None]
    variance = (t * DEVIATION) ** 2 + (1 - t) ** 2
    return mean + t * DEVIATION**2 * (noisy - t * mean) / variance


def draw_noise(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("condition", [None, [[0.1], [-0.9]]])
def test_the_way_from_noise_ends_where_the_equation_does(
    condition: list[list[float]] | None,
) -> None:
    # with the best prediction (x_t − t m) / √(t² s² + (1 − t)²) does not change on the way, so
    # noise ε ends at m + s ε
    noise = draw_noise(2, 3, 4, 4)
    shift = None if condition is None else torch.tensor(condition, dtype=torch.float64)
    mean = MEAN if shift is None else MEAN + shift[:, :, None, None]
    solved = solve(predict, noise, shift, "heun", 200)
    torch.testing.assert_close(solved, mean + DEVIATION * noise, atol=2e-3, rtol=0)
    clipped = Flow().sample(predict, noise, shift, "heun200")
    assert clipped.equal(solved.clamp(-1, 1))
    assert not clipped.equal(solved)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_the_error_of_a_solver_falls_with_its_order(solver: str, order: int) -> None:
    noise = draw_noise(1, 3, 4, 4)
    exact = MEAN + DEVIATION * noise
    errors = [
        float((solve(predict, noise, None, solver, count) - exact).abs().max())
        for count in (200, 400)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_steps_of_euler_and_heun_are_those_worked_out_by_hand() -> None:
    # the network says x̂ = x_t / 2 whatever the time: v = −x_t / (2 (1 − t)), noise 1
    def halve(noisy: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        return noisy / 2

    noise = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    # Euler: 1 → 1 − 1/2 · 1/2 = 3/4 → the image 3/8
    assert solve(halve, noise, None, "euler", 2).unique().tolist() == [0.375]
    # Heun: v(0) = −1/2, v(1/2) = −3/4: 1 − 1/2 · 5/8 = 11/16 → 11/32
    assert solve(halve, noise, None, "heun", 2).unique().tolist() == [0.34375]
    assert solve(halve, noise, None, "heun", 1).unique().tolist() == [0.5]


@pytest.mark.parametrize("weighting", ["velocity", "image"])
def test_the_loss_is_the_least_that_can_be_reached(weighting: str) -> None:
    # E|x̂ − x|² = s² (1 − t)² / (t² s² + (1 − t)²), the variance of x given x_t
    flow = Flow(weighting=weighting)
    noise = draw_noise(3, 3, 128, 128)
    images = MEAN + DEVIATION * draw_noise(3, 3, 128, 128, seed=4)
    times = torch.tensor([0.1, 0.5, 0.99], dtype=torch.float64)
    losses = flow.loss(predict, images, None, {"time": times, "noise": noise})
    assert list(losses) == ["loss"]
    for loss, t in zip(losses["loss"].tolist(), times.tolist(), strict=True):
        spread = (DEVIATION * (1 - t)) ** 2 / ((t * DEVIATION) ** 2 + (1 - t) ** 2)
        weight = max(1 - t, 0.05) ** -2 if weighting == "velocity" else 1.0
        assert loss == pytest.approx(weight * spread, rel=0.03)


def test_the_weighted_error_of_the_image_is_the_error_of_the_velocity() -> None:
    images, noise, times = draw_noise(2, 3, 4, 4), draw_noise(2, 3, 4, 4, seed=4), [0.3, 0.8]
    time = torch.tensor(times, dtype=torch.float64)
    loss = Flow().loss(predict, images, None, {"time": time, "noise": noise})["loss"]
    for row, t in enumerate(times):
        noisy = t * images[row] + (1 - t) * noise[row]
        clean = predict(noisy[None], 1000 * (1 - time[row : row + 1]), None)[0]
        velocity = (clean - noisy) / (1 - t)
        error = (velocity - (images[row] - noise[row])).square().mean()
        assert loss[row].item() == pytest.approx(error.item())


def test_times_are_logit_normal_and_decided_by_the_generator() -> None:
    flow = Flow(mean=-0.5, deviation=1.2)
    draws = flow.draw(np.random.default_rng(1), 20_000, (3, 1, 1))
    again = flow.draw(np.random.default_rng(1), 20_000, (3, 1, 1))
    assert all(draws[name].equal(again[name]) for name in ("time", "noise"))
    logits = draws["time"].double().logit()
    assert logits.mean().item() == pytest.approx(-0.5, abs=0.03)
    assert logits.std().item() == pytest.approx(1.2, abs=0.03)
    assert draws["noise"].std().item() == pytest.approx(1, abs=0.02)


def test_the_gradient_reaches_the_network_in_reduced_precision() -> None:
    layer = torch.nn.Conv2d(3, 3, 1)

    def network(noisy: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        out: Tensor = layer(noisy)
        return out

    flow = Flow()
    draws = flow.draw(np.random.default_rng(0), 2, (3, 4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        loss = flow.loss(network, torch.zeros(2, 3, 4, 4), None, draws)["loss"]
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


def test_it_is_a_process_that_its_description_makes_again() -> None:
    flow = Flow(mean=0.25, deviation=0.5, weighting="image", nearest_end=0.1)
    assert isinstance(flow, Process)
    described = flow.describe()
    assert described.pop("process") == "flow"
    assert Flow(**described) == flow  # type: ignore[arg-type]
    flow.require_steps(flow.default_steps)


@pytest.mark.parametrize("steps", ["", "heun", "heun0", "-3", "ddim50", "10,15", "99999"])
def test_what_are_no_steps_is_refused(steps: str) -> None:
    with pytest.raises(InputError, match="steps"):
        Flow().require_steps(steps)


def test_a_misspelt_solver_is_corrected() -> None:
    assert read_steps("euler007") == ("euler", 7)
    with pytest.raises(InputError, match="did you mean euler"):
        read_steps("eulre40")


def test_a_network_that_learns_variances_is_refused() -> None:
    def double(noisy: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        return torch.cat([noisy, noisy], dim=1)

    with pytest.raises(InputError, match="6 channels: flow matching learns no variances"):
        Flow().sample(double, torch.zeros(1, 3, 4, 4), None)


@pytest.mark.parametrize(
    "wrong", [{"weighting": "velocty"}, {"deviation": -1.0}, {"nearest_end": 0.0}]
)
def test_what_is_no_flow_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"weighting|Flow matching has"):
        Flow(**wrong)  # type: ignore[arg-type]
