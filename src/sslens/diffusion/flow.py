"""Flow matching with a network that predicts the image: a straight way from noise to an image, and
a differential equation that leads along it."""

import itertools
import re
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sslens.counts import spell_count
from sslens.diffusion.process import Draws, Fresh, Network
from sslens.errors import InputError, nearest

Images = Float[Tensor, "image 3 size size"]
Times = Float[Tensor, " image"]

SOLVERS = ("euler", "heun")
WEIGHTINGS = ("velocity", "image")
#: what the network is given as the time of pure noise, as in Gaussian diffusion of 1000 times
NOISIEST = 1000.0
_STEPS = re.compile(r"([a-z]*)0*([1-9][0-9]{0,3})")


@final
@dataclass(frozen=True)
class Flow:
    """Flow matching (Lipman et al., 2023, arXiv:2210.02747) with prediction of the image (Li and
    He, 2025, arXiv:2511.13720).

    At time t from 0 to 1 an image x is mixed with noise ε: x_t = t x + (1 − t) ε. The network
    predicts x from x_t, which gives the velocity v = dx_t / dt = (x − x_t) / (1 − t) of the
    differential equation that leads from noise to images. Times of training are logit-normal (Esser
    et al., 2024, arXiv:2403.03206): logit t ~ N(mean, deviation²). The network is given the time
    1000 (1 − t).

    Attributes:
        mean: of logit t.
        deviation: the standard deviation of logit t.
        weighting: "velocity": the loss is the error of the velocity, |x̂ − x|² / (1 − t)²; or
            "image": |x̂ − x|².
        nearest_end: the smallest 1 − t by which the loss divides.

    Raises:
        InputError: there is no such weighting, or a number is out of bounds.

    >>> flow = Flow()
    >>> flow.mix(torch.ones(1, 3, 2, 2), torch.tensor([0.25]), torch.zeros(1, 3, 2, 2)).unique()
    tensor([0.2500])
    >>> flow.describe()["process"], Flow(weighting="image").weigh(torch.tensor([0.5])).tolist()
    ('flow', [1.0])
    >>> flow.weigh(torch.tensor([0.5, 0.75])).tolist()  # 1 / 0.5², 1 / 0.25²
    [4.0, 16.0]
    """

    mean: float = -0.8
    deviation: float = 0.8
    weighting: str = "velocity"
    nearest_end: float = 0.05

    learned_variance: ClassVar[bool] = False
    default_steps: ClassVar[str] = "euler20"

    def __post_init__(self) -> None:
        if self.weighting not in WEIGHTINGS:
            raise InputError(
                f'There is no weighting "{self.weighting}" of times:'
                f" {nearest(self.weighting, WEIGHTINGS)}"
            )
        if not (abs(self.mean) <= 10 and 0 <= self.deviation <= 10 and 0 < self.nearest_end <= 1):
            raise InputError(
                f"Flow matching has times of logit-normal mean {self.mean} and deviation"
                f" {self.deviation}, and divides by {self.nearest_end} or more: expected a mean"
                " from -10 to 10, a deviation from 0 to 10 and a divisor above 0, at most 1."
            )

    def draw(
        self, generator: np.random.Generator, count: int, shape: tuple[int, int, int]
    ) -> dict[str, Tensor]:
        """Draw a time and noise for each of some images.

        >>> draws = Flow(mean=0.0).draw(np.random.default_rng(0), 2, (3, 8, 8))
        >>> draws["time"].shape, draws["noise"].shape
        (torch.Size([2]), torch.Size([2, 3, 8, 8]))
        """
        logits = self.mean + self.deviation * generator.standard_normal(count)
        noise = generator.standard_normal((count, *shape), dtype=np.float32)
        time = torch.from_numpy(logits).sigmoid().float()
        return {"time": time, "noise": torch.from_numpy(noise)}

    def mix(self, images: Images, times: Times, noise: Images) -> Images:
        """Mix images with noise: x_t = t x + (1 − t) ε."""
        t = times.to(images.dtype)[:, None, None, None]
        return t * images + (1 - t) * noise

    def weigh(self, times: Times) -> Times:
        """Weigh the squared error of the image: 1 / (1 − t)² or 1."""
        if self.weighting == "image":
            return torch.ones_like(times)
        return (1 - times).clamp(min=self.nearest_end) ** -2

    def loss(
        self,
        network: Network,
        images: Images,
        condition: Float[Tensor, "image dim"] | None,
        draws: Draws,
    ) -> dict[str, Float[Tensor, " image"]]:
        """Compute the weighted squared error of the predicted image, a mean over its numbers.

        Args:
            network: see `Network`; it puts out images.
            images: clean images with values in [−1, 1].
            condition: a representation for each image, or None.
            draws: as `draw` makes them: a time and noise for each image.

        Returns:
            "loss".

        Raises:
            InputError: the network does not put out images of this shape.
        """
        times, noise = draws["time"], draws["noise"]
        clean = predict_image(network, self.mix(images, times, noise), times, condition)
        with torch.autocast(clean.device.type, enabled=False):
            squares = (clean - images).square().flatten(1).mean(1)
            return {"loss": self.weigh(times).to(squares.dtype) * squares}

    def require_steps(self, steps: str) -> None:
        """Raise InputError where `sample` cannot take these steps."""
        read_steps(steps)

    def sample(
        self,
        network: Network,
        noise: Images,
        condition: Float[Tensor, "image dim"] | None,
        steps: str = default_steps,
        fresh: Fresh | None = None,
    ) -> Images:
        """Turn noise into images with values in [−1, 1]: solve dx / dt = v(x, t) from 0 to 1 in
        equal steps.

        Args:
            network: see `Network`; in evaluation mode.
            noise: normal noise, one for each image.
            condition: a representation for each image, or None.
            steps: see `read_steps`.
            fresh: not used; nothing is drawn on the way.

        Raises:
            InputError: the steps are none.
        """
        solver, count = read_steps(steps)
        return solve(network, noise, condition, solver, count).clamp(-1, 1)

    def describe(self) -> dict[str, str | int | float]:
        """Return what a file says of the process, as plain JSON values."""
        return {
            "process": "flow",
            "mean": self.mean,
            "deviation": self.deviation,
            "weighting": self.weighting,
            "nearest_end": self.nearest_end,
        }


def read_steps(steps: str) -> tuple[str, int]:
    """Read a solver and a number of steps.

    Raises:
        InputError: there is no such solver, or the number is not from 1 to 9999.

    >>> read_steps("euler40"), read_steps("heun20"), read_steps("20")
    (('euler', 40), ('heun', 20), ('euler', 20))
    """
    match = _STEPS.fullmatch(steps)
    if match is None:
        raise InputError(
            f'"{steps}" are no steps of flow matching: expected a solver and a number, as in'
            " euler20 or heun10",
            mend="give other {steps}",
        )
    solver = match[1] or SOLVERS[0]
    if solver not in SOLVERS:
        raise InputError(
            f'Flow matching has no solver "{solver}": {nearest(solver, SOLVERS)}',
            mend="give other {steps}, such as euler20",
        )
    return solver, int(match[2])


def predict_image(
    network: Network, noisy: Images, times: Times, condition: Float[Tensor, "image dim"] | None
) -> Images:
    """Run a network, which is given 1000 (1 − t), on noisy images.

    Raises:
        InputError: it does not put out images of this shape.
    """
    output = network(noisy, NOISIEST * (1 - times), condition)
    if output.shape != noisy.shape:
        raise InputError(
            f"The network puts out {spell_count(output.shape[1], 'channel')}: flow matching learns"
            f" no variances and wants {noisy.shape[1]}."
        )
    return output.to(noisy.dtype)


@torch.no_grad()
def solve(
    network: Network,
    noise: Images,
    condition: Float[Tensor, "image dim"] | None,
    solver: str,
    count: int,
) -> Images:
    """Solve dx / dt = (x̂(x, t) − x) / (1 − t) from noise at t = 0 to t = 1, in equal steps.

    Euler: x ← x + h v(x, t). Heun: x ← x + h (v(x, t) + v(x + h v(x, t), t + h)) / 2. The last step
    is Euler's, which ends at the predicted image x̂; so v is not needed at t = 1, where it divides
    by 0. The order of the error stays 1 for Euler and 2 for Heun.

    Args:
        network: see `Network`.
        noise: normal noise, one for each image.
        condition: a representation for each image, or None.
        solver: "euler", with one run of the network a step, or "heun", with two.
        count: the number of steps.
    """
    x = noise
    for now, then in itertools.pairwise(np.linspace(0.0, 1.0, count + 1).tolist()):
        ahead, velocity = _step(network, x, condition, now, then)
        if solver == "heun" and then < 1:
            _, other = _step(network, ahead, condition, then, then)
            ahead = x + (then - now) * (velocity + other) / 2
        x = ahead
    return x


def _step(
    network: Network,
    x: Images,
    condition: Float[Tensor, "image dim"] | None,
    now: float,
    then: float,
) -> tuple[Images, Images]:
    """Take Euler's step; also returns the velocity at its beginning."""
    times = torch.full((len(x),), now, dtype=x.dtype, device=x.device)
    velocity = (predict_image(network, x, times, condition) - x) / (1 - now)
    return x + (then - now) * velocity, velocity
