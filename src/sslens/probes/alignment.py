"""Alignment and uniformity of features on the unit sphere: two measures of a representation that
need no label (Wang & Isola, 2020, arXiv:2005.10242)."""

import math

from jaxtyping import Float, Float64
from torch import Tensor

from sslens.errors import InputError

#: rows of the matrix of distances that are held at a time
ROWS = 1024


def measure_alignment(
    one: Float[Tensor, "image dim"], other: Float[Tensor, "view dim_2"], alpha: float = 2.0
) -> float:
    """Measure how near two views of an image lie,

        E_x ‖f(x) − f(x⁺)‖^α,  f(x) = features / ‖features‖,

    where x and x⁺ are two views of one image (equation 3 of Wang & Isola, 2020, there with α = 2
    too). It is 0 where views do not matter, and 2 for α = 2 where views are no nearer than random
    directions. Computed in float64; nan where the features of an image are all zeros.

    Args:
        one, other: features of the first and of the second view of the same images in one order.
        alpha: the exponent.

    Raises:
        InputError: the two are of other images.

    >>> import torch
    >>> one, other = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 2.0], [0.0, 5.0]])
    >>> round(measure_alignment(one, other), 9)  # the mean of ‖(1, 0) − (0, 1)‖² = 2 and 0
    1.0
    """
    if one.shape != other.shape:
        raise InputError(
            f"Two views have features {list(one.shape)} and {list(other.shape)}: give both of the"
            " same images."
        )
    distances = (_normalise(one) - _normalise(other)).norm(dim=1)
    return float((distances**alpha).mean())


def measure_uniformity(features: Float[Tensor, "image dim"], t: float = 2.0) -> float:
    """Measure how evenly features fill the sphere,

        log E_{x ≠ y} exp(−t ‖f(x) − f(y)‖²),  f(x) = features / ‖features‖,

    over pairs of different images (equation 4 of Wang & Isola, 2020, there with t = 2 too). It is 0
    where all images have one direction, and falls as they spread: towards −2t for directions at
    random in many dimensions. Computed in float64; nan where the features of an image are all
    zeros.

    Args:
        features: one row an image, of two images or more.
        t: the width of the Gaussian.

    Raises:
        InputError: there is one image.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> round(measure_uniformity(x), 9)  # −2 ‖(1, 0) − (0, 1)‖²
    -4.0
    """
    count = len(features)
    if count < 2:
        raise InputError("Uniformity is over pairs of images: give two images or more.")
    x = _normalise(features)
    total = 0.0
    for start in range(0, count, ROWS):
        # on the unit sphere ‖f(x) − f(y)‖² = 2 − 2 f(x)·f(y)
        squares = (2 - 2 * x[start : start + ROWS] @ x.T).clamp(min=0)
        kernel = (-t * squares).exp()
        kernel.diagonal(start).zero_()
        total += float(kernel.sum())
    return math.log(total / (count * (count - 1)))


def _normalise(features: Float[Tensor, "image dim"]) -> Float64[Tensor, "image dim"]:
    x = features.double()
    return x / x.norm(dim=1, keepdim=True)  # 0/0 is nan
