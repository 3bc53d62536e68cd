"""Gaussian diffusion against its equations, worked out in another way."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sslens.diffusion.chain import Chain
from sslens.diffusion.gaussian import Gaussian
from sslens.diffusion.likelihood import log_likelihood
from sslens.diffusion.process import Process
from sslens.diffusion.respacing import choose_times
from sslens.diffusion.sampling import sample_ancestral, sample_ddim
from sslens.errors import InputError


def draw(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


class Oracle:
    """Knows the clean image, and so the noise in a noisy one; its variances are its own."""

    def __init__(self, clean: Tensor, place: float = 0.0) -> None:
        self.clean, self.place = clean, place
        self.times: list[int] = []

    def __call__(self, noisy: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is None
        self.times.append(int(times[0]))
        share = Chain().alpha_bar[times][:, None, None, None].to(noisy.dtype)
        noise = (noisy - share.sqrt() * self.clean) / (1 - share).sqrt()
        return torch.cat([noise, torch.full_like(noise, self.place)], 1)


def test_the_posterior_is_bayes_rule() -> None:
    chain = Chain("cosine", 50)
    number, clean, noisy = 30, 0.3, -0.8
    # q(x_{t−1} | x_0) q(x_t | x_{t−1}) as a product of two normal densities over x_{t−1}
    beta, before = float(chain.betas[number]), float(chain.alpha_bar[number - 1])
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (math.sqrt(before) * clean / (1 - before) + math.sqrt(1 - beta) * noisy / beta) / (
        precision
    )
    images = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    found = chain.posterior_mean(clean * images, noisy * images, torch.tensor([number]))
    assert float(found[0, 0, 0, 0]) == pytest.approx(mean, rel=1e-12)
    assert float(chain.posterior_log_variance[number].exp()) == pytest.approx(1 / precision)


def test_noise_and_clean_image_say_the_same() -> None:
    chain, times = Chain(), torch.tensor([0, 400, 999])
    clean, noise = draw(0, 3, 3, 4, 4), draw(1, 3, 3, 4, 4)
    noisy = chain.add_noise(clean, times, noise)
    assert torch.allclose(chain.find_clean(noisy, times, noise), clean, atol=1e-10)
    assert torch.allclose(chain.find_noise(noisy, times, clean), noise, atol=1e-10)
    variance = 1 - float(chain.alpha_bar[400])
    expected = math.sqrt(1 - variance) * clean[1] + math.sqrt(variance) * noise[1]
    assert torch.allclose(noisy[1], expected, atol=1e-12)


def test_the_bound_is_a_divergence_of_normals_in_bits() -> None:
    """Beside torch's own divergence; the variances lie where v says: a quarter of the way up."""
    chain, numbers = Chain().respace("20"), torch.tensor([3, 19])
    clean, noise = draw(0, 2, 3, 4, 4).clamp(-1, 1), draw(1, 2, 3, 4, 4)
    noisy = chain.add_noise(clean, numbers, noise)
    output = torch.cat([draw(2, 2, 3, 4, 4), torch.full_like(noise, -0.5)], 1)
    bits = chain.bound(output, clean, noisy, numbers)
    for row, number in enumerate(numbers.tolist()):
        beta, before = float(chain.betas[number]), float(chain.alpha_bar_before[number])
        now = float(chain.alpha_bar[number])
        small = beta * (1 - before) / (1 - now)
        guessed = (noisy[row] - math.sqrt(1 - now) * output[row, :3]) / math.sqrt(now)
        means = [
            (math.sqrt(before) * beta * x + math.sqrt(1 - beta) * (1 - before) * noisy[row])
            / (1 - now)
            for x in (clean[row], guessed)
        ]
        own = small**0.75 * beta**0.25
        normals = [
            torch.distributions.Normal(mean, math.sqrt(variance))
            for mean, variance in zip(means, (small, own), strict=True)
        ]
        expected = torch.distributions.kl_divergence(*normals).mean() / math.log(2)
        assert float(bits[row]) == pytest.approx(float(expected), rel=1e-9)


def test_at_the_first_time_the_bound_is_the_levels_likelihood() -> None:
    chain, numbers = Chain(), torch.zeros(1, dtype=torch.int64)
    levels = torch.tensor([0, 100, 255, 17], dtype=torch.float64)
    clean = (levels / 127.5 - 1).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    noisy = chain.add_noise(clean, numbers, draw(1, 1, 3, 2, 2))
    output = torch.cat([draw(2, 1, 3, 2, 2), torch.ones(1, 3, 2, 2).double()], 1)
    predicted = chain.read(output, noisy, numbers, clip=False)
    normal = torch.distributions.Normal(predicted.mean, (predicted.log_variance / 2).exp())
    upper = torch.where(clean > 0.999, 1.0, normal.cdf(clean + 1 / 255))
    lower = torch.where(clean < -0.999, 0.0, normal.cdf(clean - 1 / 255))
    expected = -(upper - lower).log2().mean()
    bits = float(chain.bound(output, clean, noisy, numbers)[0])
    assert bits == pytest.approx(float(expected), rel=2e-3)  # Φ is approximated


def test_levels_probabilities_sum_to_one() -> None:
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean, deviation in ((0.2, 0.3), (-0.9, 2.0), (1.5, 0.01)):
        means = torch.full_like(levels, mean)
        deviations = torch.full_like(levels, math.log(deviation))
        total = log_likelihood(levels, means, deviations).exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-9)


def test_only_variances_learn_from_the_bound() -> None:
    network = torch.nn.Conv2d(3, 6, 1).double()
    images, draws = (
        draw(0, 2, 3, 4, 4),
        {"time": torch.tensor([0, 9]), "noise": draw(1, 2, 3, 4, 4)},
    )
    losses = Gaussian().loss(lambda x, _times, _condition: network(x), images, None, draws)
    losses["vlb"].sum().backward(retain_graph=True)
    assert network.weight.grad is not None
    assert not network.weight.grad[:3].any()
    assert network.weight.grad[3:].all()
    network.zero_grad()
    losses["mse"].sum().backward()
    assert network.weight.grad is not None
    assert network.weight.grad[:3].all()
    assert not network.weight.grad[3:].any()
    assert torch.equal(losses["loss"], losses["mse"] + losses["vlb"])


@pytest.mark.parametrize("steps", ["ddim10", "3,4", "1", "40"])
def test_an_oracle_leads_to_the_clean_image(steps: str) -> None:
    clean = draw(0, 2, 3, 4, 4).clamp(-1, 1)
    oracle = Oracle(clean)
    fresh = {time: draw(2 + time, 2, 3, 4, 4) for time in range(1000)}
    images = Gaussian().sample(oracle, draw(1, 2, 3, 4, 4), None, steps, fresh.__getitem__)
    assert torch.allclose(images, clean, atol=1e-8)
    assert oracle.times == list(choose_times(1000, steps))[::-1]


def test_deterministic_steps_follow_one_noise() -> None:
    """With the clean image known, DDIM without noise stays at √ᾱ x_0 + √(1 − ᾱ) ε for the noise ε
    with which it began."""
    chain, clean = Chain().respace("ddim10"), draw(0, 1, 3, 4, 4).clamp(-1, 1)
    first, last = torch.tensor([9]), torch.tensor([0])
    noise = draw(1, 1, 3, 4, 4)
    seen = []

    def network(noisy: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        seen.append(noisy)
        return Oracle(clean)(noisy, times, condition)

    sample_ddim(chain, network, chain.add_noise(clean, first, noise), None)
    assert torch.allclose(seen[-1], chain.add_noise(clean, last, noise), atol=1e-9)


def test_ancestral_steps_have_the_variance_that_was_learned() -> None:
    """Two visited times: one noisy step, of which the spread is known, then a last one without."""
    chain = Chain().respace("2")
    clean, spread = torch.zeros(1, 3, 64, 64, dtype=torch.float64), []

    def network(noisy: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        spread.append(noisy)
        return Oracle(clean, place=1.0)(noisy, times, condition)  # v = 1: σ² = β

    noise = torch.zeros_like(clean)
    sample_ancestral(chain, network, noise, None, lambda time: draw(time, 1, 3, 64, 64))
    assert float(spread[1].var()) == pytest.approx(float(chain.betas[1]), rel=0.02)


def test_a_sample_depends_on_its_own_row() -> None:
    process, network = Gaussian(), torch.nn.Conv2d(3, 6, 3, padding=1).double()
    noise, fresh = draw(0, 4, 3, 8, 8), draw(1, 4, 3, 8, 8)

    def run(rows: slice) -> Tensor:
        return process.sample(
            lambda x, _times, _condition: network(x), noise[rows], None, "5", lambda _: fresh[rows]
        )

    assert torch.allclose(torch.cat([run(slice(0, 1)), run(slice(1, 4))]), run(slice(0, 4)))


def test_gaussian_is_a_process_that_its_description_makes_again() -> None:
    process = Gaussian("cosine", 200)
    described: dict[str, Any] = dict(process.describe())
    assert isinstance(process, Process)
    assert described.pop("process") == "gaussian"
    assert Gaussian(**described) == process
    draws = process.draw(np.random.default_rng(0), 500, (3, 2, 2))
    assert (draws["time"].min(), draws["time"].max()) == (0, 199)
    assert draws["noise"].dtype == torch.float32


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("ddim7x", '"ddim7x" are no steps of a diffusion: expected a number as in 100'),
        ("", '"" are no steps'),
        ("0", '"0" visit no time: expected one or more'),
        ("10,,2", "are no steps"),
        ("-3", "are no steps"),
        ("²", "are no steps"),
        ("1001", "1001 steps are more than the 1000 times that there are: give fewer steps."),
        ("501,1", "501 steps are more than the 500 times that there are in their section"),
        ("ddim0", "No whole stride visits 0 of 1,000 times"),
        ("ddim300", 'visits 300 of 1,000 times: the nearest .* is 334: give steps="ddim334".'),
    ],
)
def test_steps_that_cannot_be_are_refused(steps: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Gaussian().require_steps(steps)


def test_what_cannot_be_sampled_is_refused() -> None:
    noise, oracle = draw(0, 1, 3, 4, 4), Oracle(draw(1, 1, 3, 4, 4))
    with pytest.raises(
        InputError, match=r"Sampling in 10 steps adds noise .* give fresh, or steps"
    ):
        Gaussian().sample(oracle, noise, None, "10")
    with pytest.raises(InputError, match="Sampling in ddim10 steps adds noise"):
        Gaussian().sample(oracle, noise, None, "ddim10", eta=0.5)
    with pytest.raises(InputError, match="The network puts out 3 channels"):
        Gaussian().sample(lambda x, *_: x, noise, None, "ddim10")
    with pytest.raises(InputError, match="did you mean cosine"):
        Gaussian("cosin")
    with pytest.raises(InputError, match="A linear schedule has 21 times or more, not 20"):
        Gaussian(times=20)
    with pytest.raises(InputError, match="respace the whole chain"):
        Chain().respace("10").respace("5")
