"""A Gaussian chain from an image to noise, in equations: its steps forward, and the steps back
that a network predicts."""

import functools
import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sslens.counts import spell_count
from sslens.diffusion.likelihood import diverge, log_likelihood
from sslens.diffusion.process import Network
from sslens.diffusion.respacing import choose_times
from sslens.diffusion.schedules import make_schedule
from sslens.errors import InputError

Images = Float[Tensor, "image 3 size size"]
Times = Int64[Tensor, " image"]


@final
@dataclass(frozen=True)
class Prediction:
    """What the network says of the image one step less noisy, p(x_{t−1} | x_t), and of the
    clean one.

    Attributes:
        mean, log_variance: of that step.
        clean: the image without noise.
    """

    mean: Images
    log_variance: Images
    clean: Images


@final
@dataclass(frozen=True)
class Chain:
    """A chain of Gaussian steps (Ho et al., 2020, arXiv:2006.11239), the noise predicted and the
    variances learned between two bounds (Nichol and Dhariwal, 2021, arXiv:2102.09672).

    With ᾱ_t the product of 1 − β up to t: q(x_t | x_0) = N(√ᾱ_t x_0, 1 − ᾱ_t). Tables are computed
    in float64 and rounded to the images' type where they are used.

    Attributes:
        schedule: the name of the schedule of the variances β.
        times: the number T of times of the whole process. Times are counted from 0, the least
            noisy.
        kept: the times that are visited, in rising order; None for all. The chain over them has the
            same ᾱ at each. Functions take the numbers of the visited times, from 0; the network is
            given the times.

    Raises:
        InputError: there is no such schedule, or it has more times.

    >>> chain = Chain()
    >>> [round(float(chain.alpha_bar[t]), 6) for t in (0, 499, 999)]
    [0.9999, 0.078587, 4e-05]
    >>> float((chain.respace("ddim50").alpha_bar - chain.alpha_bar[::20]).abs().max()) < 1e-15
    True
    """

    schedule: str = "linear"
    times: int = 1000
    kept: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        make_schedule(self.schedule, self.times)

    @functools.cached_property
    def visited(self) -> Times:
        """The times that are visited."""
        return torch.tensor(range(self.times) if self.kept is None else self.kept)

    @functools.cached_property
    def betas(self) -> Float64[Tensor, " time"]:
        """The variance β of each step."""
        betas = make_schedule(self.schedule, self.times)
        if self.kept is not None:
            left = np.cumprod(1 - betas)[list(self.kept)]
            betas = 1 - left / np.append(1.0, left[:-1])
        return torch.from_numpy(betas)

    @functools.cached_property
    def alpha_bar(self) -> Float64[Tensor, " time"]:
        """ᾱ at each time: the share of the image's power that is left."""
        return (1 - self.betas).cumprod(0)

    @functools.cached_property
    def alpha_bar_before(self) -> Float64[Tensor, " time"]:
        """ᾱ one step before each time; 1 before the first."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])

    @functools.cached_property
    def posterior_log_variance(self) -> Float64[Tensor, " time"]:
        """log of β̃_t = β_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t), the variance of q(x_{t−1} | x_t, x_0).

        It is 0 at the first time, where the second time's stands instead; β where only one time is
        visited.
        """
        variances = self.betas * (1 - self.alpha_bar_before) / (1 - self.alpha_bar)
        second = variances[1:2] if len(variances) > 1 else self.betas[:1]
        return torch.cat([second, variances[1:]]).log()

    def respace(self, steps: str) -> "Chain":
        """Return the chain over fewer times (see `choose_times`).

        Raises:
            InputError: the chain has fewer times already, or the steps are none.
        """
        if self.kept is not None:
            raise InputError("The chain visits chosen times already: respace the whole chain.")
        return replace(self, kept=choose_times(self.times, steps))

    def add_noise(self, clean: Images, numbers: Times, noise: Images) -> Images:
        """Draw from q(x_t | x_0): √ᾱ_t x_0 + √(1 − ᾱ_t) ε."""
        share = self.alpha_bar
        return _at(share.sqrt(), numbers, clean) * clean + (
            _at((1 - share).sqrt(), numbers, clean) * noise
        )

    def posterior_mean(self, clean: Images, noisy: Images, numbers: Times) -> Images:
        """Compute the mean of q(x_{t−1} | x_t, x_0): √ᾱ_{t−1} β_t / (1 − ᾱ_t) x_0 +
        √(1 − β_t) (1 − ᾱ_{t−1}) / (1 − ᾱ_t) x_t."""
        before, noisiness = self.alpha_bar_before, 1 - self.alpha_bar
        of_clean = self.betas * before.sqrt() / noisiness
        of_noisy = (1 - before) * (1 - self.betas).sqrt() / noisiness
        return _at(of_clean, numbers, clean) * clean + _at(of_noisy, numbers, clean) * noisy

    def find_clean(self, noisy: Images, numbers: Times, noise: Images) -> Images:
        """Compute the clean image from the noise: x_0 = x_t / √ᾱ_t − √(1 / ᾱ_t − 1) ε."""
        share = self.alpha_bar
        return _at((1 / share).sqrt(), numbers, noisy) * noisy - (
            _at((1 / share - 1).sqrt(), numbers, noisy) * noise
        )

    def find_noise(self, noisy: Images, numbers: Times, clean: Images) -> Images:
        """Compute the noise from the clean image, the inverse of `find_clean`."""
        share = self.alpha_bar
        scaled = _at((1 / share).sqrt(), numbers, noisy) * noisy
        return (scaled - clean) / _at((1 / share - 1).sqrt(), numbers, noisy)

    def read(
        self,
        output: Float[Tensor, "image 6 size size"],
        noisy: Images,
        numbers: Times,
        clip: bool = True,
    ) -> Prediction:
        """Read what a network puts out: noise ε, and where the variance lies between its bounds.

        log σ² = u log β_t + (1 − u) log β̃_t with u = (v + 1) / 2 (Nichol and Dhariwal, 2021,
        equation 15). The mean is the posterior's, given the clean image that the noise implies.

        Args:
            output: the network's output: ε, then v.
            noisy: the noisy images x_t.
            numbers: the numbers of their times.
            clip: whether the clean image is clipped to [−1, 1].
        """
        noise, place = output.chunk(2, dim=1)
        share = (place + 1) / 2
        most = _at(self.betas.log(), numbers, noisy)
        least = _at(self.posterior_log_variance, numbers, noisy)
        clean = self.find_clean(noisy, numbers, noise)
        if clip:
            clean = clean.clamp(-1, 1)
        mean = self.posterior_mean(clean, noisy, numbers)
        return Prediction(mean, share * most + (1 - share) * least, clean)

    def run(
        self,
        network: Network,
        noisy: Images,
        numbers: Times,
        condition: Float[Tensor, "image dim"] | None,
    ) -> Float[Tensor, "image 6 size size"]:
        """Run a network, which is given the times and not their numbers.

        Raises:
            InputError: the network puts out no variances.
        """
        output = network(noisy, self.visited.to(numbers.device)[numbers], condition)
        if output.shape[1] != 2 * noisy.shape[1]:
            raise InputError(
                f"The network puts out {spell_count(output.shape[1], 'channel')}: Gaussian"
                f" diffusion learns variances and wants {2 * noisy.shape[1]}."
            )
        return output.to(noisy.dtype)

    def bound(
        self,
        output: Float[Tensor, "image 6 size size"],
        clean: Images,
        noisy: Images,
        numbers: Times,
    ) -> Float[Tensor, " image"]:
        """Compute a term of the variational bound, in bits for each number of the image: the
        divergence KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t)), and at time 0 −log p(x_0 | x_1) of
        images with 256 levels (Ho et al., 2020, equations 5 and 13)."""
        predicted = self.read(output, noisy, numbers, clip=False)
        mean = self.posterior_mean(clean, noisy, numbers)
        log_variance = _at(self.posterior_log_variance, numbers, clean)
        terms = diverge(mean, log_variance, predicted.mean, predicted.log_variance)
        first = -log_likelihood(clean, predicted.mean, predicted.log_variance / 2)
        nats = torch.where((numbers == 0)[:, None, None, None], first, terms)
        return nats.flatten(1).mean(1) / math.log(2)


def _at(table: Float64[Tensor, " time"], numbers: Times, like: Tensor) -> Float[Tensor, "_ 1 1 1"]:
    """The values of a table for each image, in the images' type."""
    return table.to(like.device)[numbers].to(like.dtype)[:, None, None, None]
