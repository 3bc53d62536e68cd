"""What a way of generating images has: it draws, gives a loss, and samples."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

#: network(noisy images [n, 3, size, size], times [n], condition [n, dim] or None)
Network = Callable[..., Tensor]
#: the random numbers of a training step by name, each [image, ...]
Draws = Mapping[str, Tensor]
#: fresh(time) draws the normal noise that a sampling step at this time adds, [image, 3, size, size]
Fresh = Callable[[int], Tensor]


@runtime_checkable
class Process(Protocol):
    """A way of generating images. All random numbers come from outside, so that a training step
    and a sample are pure functions of seeds."""

    @property
    def learned_variance(self) -> bool:
        """Whether the network puts out three channels more, for variances."""

    @property
    def default_steps(self) -> str:
        """The steps of `sample` where none are given."""

    def draw(
        self, generator: np.random.Generator, count: int, shape: tuple[int, int, int]
    ) -> dict[str, Tensor]:
        """Draw the random numbers of a training step for a number of images of some shape."""

    def loss(
        self,
        network: Network,
        images: Float[Tensor, "image 3 size size"],
        condition: Float[Tensor, "image dim"] | None,
        draws: Draws,
    ) -> dict[str, Float[Tensor, " image"]]:
        """Compute each image's loss, by the name "loss", and the terms of which it is the sum."""

    def require_steps(self, steps: str) -> None:
        """Raise InputError where `sample` cannot take these steps."""

    def sample(
        self,
        network: Network,
        noise: Float[Tensor, "image 3 size size"],
        condition: Float[Tensor, "image dim"] | None,
        steps: str,
        fresh: Fresh | None = None,
    ) -> Float[Tensor, "image 3 size size"]:
        """Turn noise into images with values in [−1, 1]."""

    def describe(self) -> dict[str, str | int | float]:
        """Return what a file says of the process, as plain JSON values."""
