"""Gaussian diffusion with learned variances, as guided diffusion and RCDM train it and sample."""

import functools
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sslens.diffusion.chain import Chain, Images
from sslens.diffusion.process import Draws, Fresh, Network
from sslens.diffusion.respacing import choose_times, is_ddim
from sslens.diffusion.sampling import sample_ancestral, sample_ddim
from sslens.errors import InputError


@final
@dataclass(frozen=True)
class Gaussian:
    """The process of RCDM (Bordes et al., 2022, arXiv:2112.09164): noise is added by a `Chain`; a
    network learns the noise and the variances of the steps back.

    Attributes:
        schedule: the name of the schedule of the chain's variances: "linear" (RCDM's) or "cosine".
        times: the number of the chain's times.

    Raises:
        InputError: there is no such schedule, or it has more times.

    >>> process = Gaussian()
    >>> process.describe(), float(process.chain.betas[-1])
    ({'process': 'gaussian', 'schedule': 'linear', 'times': 1000}, 0.02)
    """

    schedule: str = "linear"
    times: int = 1000

    learned_variance: ClassVar[bool] = True
    #: RCDM's README samples with 100 ancestral steps
    default_steps: ClassVar[str] = "100"

    def __post_init__(self) -> None:
        assert len(self.chain.betas) == self.times

    @functools.cached_property
    def chain(self) -> Chain:
        """The chain from an image to noise."""
        return Chain(self.schedule, self.times)

    def draw(
        self, generator: np.random.Generator, count: int, shape: tuple[int, int, int]
    ) -> dict[str, Tensor]:
        """Draw a time, uniformly, and noise for each of some images.

        >>> draws = Gaussian().draw(np.random.default_rng(0), 2, (3, 8, 8))
        >>> draws["time"].tolist(), draws["noise"].shape
        ([850, 636], torch.Size([2, 3, 8, 8]))
        """
        numbers = torch.from_numpy(generator.integers(0, self.times, count))
        noise = torch.from_numpy(generator.standard_normal((count, *shape), dtype=np.float32))
        return {"time": numbers, "noise": noise}

    def loss(
        self,
        network: Network,
        images: Images,
        condition: Float[Tensor, "image dim"] | None,
        draws: Draws,
    ) -> dict[str, Float[Tensor, " image"]]:
        """Compute RCDM's loss: the mean squared error of the noise, plus a term of the variational
        bound through which only the variances learn.

        Args:
            network: see `Network`.
            images: clean images with values in [−1, 1].
            condition: a representation for each image, or None.
            draws: as `draw` makes them: a time and noise for each image.

        Returns:
            "loss", and the terms of which it is the sum: "mse" and "vlb" (bits for each number).

        Raises:
            InputError: the network puts out no variances.
        """
        numbers, noise = draws["time"], draws["noise"]
        noisy = self.chain.add_noise(images, numbers, noise)
        output = self.chain.run(network, noisy, numbers, condition)
        with torch.autocast(output.device.type, enabled=False):
            predicted, place = output.chunk(2, dim=1)
            squares = (noise - predicted).square().flatten(1).mean(1)
            frozen = torch.cat([predicted.detach(), place], dim=1)
            bits = self.chain.bound(frozen, images, noisy, numbers)
        return {"loss": squares + bits, "mse": squares, "vlb": bits}

    def require_steps(self, steps: str) -> None:
        """Raise InputError where `sample` cannot take these steps."""
        choose_times(self.times, steps)

    def sample(
        self,
        network: Network,
        noise: Images,
        condition: Float[Tensor, "image dim"] | None,
        steps: str = default_steps,
        fresh: Fresh | None = None,
        eta: float | None = None,
    ) -> Images:
        """Turn noise into images with values in [−1, 1].

        Args:
            network: see `Network`; in evaluation mode.
            noise: normal noise, one for each image.
            condition: a representation for each image, or None.
            steps: see `choose_times`. "ddimN" samples by DDIM, others by ancestral steps.
            fresh: draws the noise of the steps that add some; deterministic DDIM has none.
            eta: how much noise DDIM adds: 0 none, 1 as much as ancestral steps with the posterior's
                variance. Where it is given, any steps are DDIM's.

        Raises:
            InputError: the steps are none, or they add noise and `fresh` is missing.
        """
        chain = self.chain.respace(steps)
        if eta is None and not is_ddim(steps):
            return sample_ancestral(chain, network, noise, condition, _require(fresh, steps))
        eta = eta or 0.0
        if eta:
            fresh = _require(fresh, steps)
        return sample_ddim(chain, network, noise, condition, eta=eta, fresh=fresh)

    def describe(self) -> dict[str, str | int | float]:
        """Return what a file says of the process, as plain JSON values."""
        return {"process": "gaussian", "schedule": self.schedule, "times": self.times}


def _require(fresh: Fresh | None, steps: str) -> Fresh:
    if fresh is None:
        raise InputError(
            f"Sampling in {steps} steps adds noise at each, and none is drawn",
            mend="give {fresh}, or {steps=ddim50}, which add none",
        )
    return fresh
