"""The bootstrap over images, for statistics that are no smooth function of sums, such as average
precision.

An image is drawn as often as a weight says, and a statistic is computed once for each draw of
weights. Two statistics of the same draws can be subtracted, draw by draw: variation that both
share, such as images that are hard for both models, cancels.

The interval is θ̂ ± t √V, with V = n/(n − 1) · the variance of the draws, and t the quantile of
Student's t distribution of n − 1 degrees of freedom, for n images (the standard interval: Efron &
Tibshirani, 1993, chapter 12). Average precision is biased upwards where a category has few objects,
and a draw of images, which holds fewer different ones, still more: percentiles of the draws would
lie too high. `runs/trials/bootstrap.py` measures how often each kind of interval covers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float64

from sslens.errors import InputError
from sslens.statistics.estimate import Estimate
from sslens.statistics.jackknife import compute_ends

#: draws of images
DRAWS = 1000


def draw_weights(
    images: int, draws: int = DRAWS, seed: int = 0
) -> Float64[np.ndarray, "image draw"]:
    """Draw how often each image is taken, in each of `draws` samples of all images with
    replacement.

    >>> draw_weights(4, draws=3).sum(axis=0).tolist()
    [4.0, 4.0, 4.0]
    """
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(images, np.full(images, 1 / max(1, images)), size=draws)
    return np.ascontiguousarray(counts.T, np.float64)


@final
@dataclass(frozen=True, eq=False)
class Bootstrapped:
    """Values with their values in each draw of images.

    Attributes:
        value: the value of each cell; nan where it is undefined.
        draws: each value in each draw; nan where it is undefined there.
        drawn: identifies the images and the draws.
        images: number of images that are drawn.
        span: the lowest and highest possible value; intervals end there.

    >>> draws = np.array([0.25, 0.5, 0.75])  # of standard deviation 1/4; with 2 images √2/4
    >>> one = Bootstrapped(np.array(0.5), draws, ("set", 3, 0), images=2, span=(-9.0, 9.0))
    >>> one.estimate()  # 0.5 ± 12.706 √2/4
    Estimate(value=0.5, low=-3.99..., high=4.99..., over='images', n=2)
    >>> (one - one).estimate().high
    0.0
    """

    value: Float64[np.ndarray, "*cell"]
    draws: Float64[np.ndarray, "*cell draw"]
    drawn: tuple[Any, ...]
    images: int
    span: tuple[float, float] = (0.0, 1.0)

    def __sub__(self, other: "Bootstrapped") -> "Bootstrapped":
        """The paired difference, cell by cell.

        Raises:
            InputError: the two are not of the same draws of the same images.
        """
        _require_paired((self, other))
        value, draws = np.asarray(self.value - other.value), self.draws - other.draws
        span = (self.span[0] - other.span[1], self.span[1] - other.span[0])
        return Bootstrapped(value, draws, self.drawn, self.images, span)

    def __getitem__(self, cells: Any) -> "Bootstrapped":
        """Select cells along the first axes."""
        return Bootstrapped(
            np.asarray(self.value[cells]), self.draws[cells], self.drawn, self.images, self.span
        )

    def errors(self) -> Float64[np.ndarray, "*cell"]:
        """The standard error √V of each value; nan where it is undefined in all draws but one, or
        with one image. Other draws in which it is undefined are left out."""
        fine = np.isfinite(self.draws)
        count = fine.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(fine, self.draws, 0).sum(-1) / count
            squares = np.where(fine, self.draws - mean[..., None], 0) ** 2
            variance = squares.sum(-1) / (count - 1) * np.float64(self.images) / (self.images - 1)
        return np.asarray(np.where(count > 1, np.sqrt(variance), np.nan))

    def interval(
        self, level: float = 0.95
    ) -> tuple[Float64[np.ndarray, "*cell"], Float64[np.ndarray, "*cell"]]:
        """Compute the ends of the interval of each value; nan where it has no error.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        freedom = np.full(self.value.shape, max(1.0, self.images - 1.0))
        low, high = compute_ends(self.value, self.errors(), freedom, level)
        return np.asarray(np.maximum(low, self.span[0])), np.asarray(np.minimum(high, self.span[1]))

    def estimate(self, level: float = 0.95) -> Estimate:
        """The value of a single cell with its interval over images.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        low, high = self.interval(level)
        return Estimate(float(self.value), float(low), float(high), "images", self.images)

    @classmethod
    def average(cls, parts: Sequence["Bootstrapped"]) -> "Bootstrapped":
        """Average values of equal shape, such as several trainings', cell by cell.

        Raises:
            InputError: the values are not of the same draws of the same images.
        """
        _require_paired(parts)
        value = np.asarray(np.mean([part.value for part in parts], axis=0))
        draws = np.mean([part.draws for part in parts], axis=0)
        return cls(value, draws, parts[0].drawn, parts[0].images, parts[0].span)


def _require_paired(parts: Sequence[Bootstrapped]) -> None:
    if any(part.drawn != parts[0].drawn for part in parts):
        raise InputError(
            "A paired difference needs values of the same draws of the same images. Score all"
            " models alike on one set of images, and draw with one seed."
        )
