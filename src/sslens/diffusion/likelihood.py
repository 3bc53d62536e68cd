"""Normal distributions: how far one is from another, and how likely an image's levels are."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

#: half of the step between two of the 256 levels of [−1, 1]
HALF_STEP = 1 / 255
#: beyond these, a level takes all that lies further out
ENDS = 0.999
#: the least probability of which a logarithm is taken
LEAST = 1e-12

Values = Float[Tensor, "*shape"]
#: with axes of one number where the values have more
Broadcast = Float[Tensor, "*#shape"]


def diverge(
    mean: Values, log_variance: Broadcast, mean2: Values, log_variance2: Broadcast
) -> Values:
    """Compute KL(N(m₁, v₁) ‖ N(m₂, v₂)) in nats, number by number: (log v₂ − log v₁ + v₁ / v₂ +
    (m₁ − m₂)² / v₂ − 1) / 2.

    The log-variances may have one number where the means have many.

    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> diverge(zero, zero, one, zero).item(), round(diverge(zero, zero, zero, one).item(), 5)
    (0.5, 0.18394)
    """
    return (
        log_variance2
        - log_variance
        + (log_variance - log_variance2).exp()
        + (mean - mean2).square() * (-log_variance2).exp()
        - 1
    ) / 2


def log_likelihood(levels: Values, means: Values, log_deviations: Values) -> Values:
    """Compute the log-probability of images of 256 levels, in nats, number by number (Ho et al.,
    2020, arXiv:2006.11239, equation 13): the normal's mass within half a step of the level; at the
    first and the last level, all the mass beyond too.

    The normal's integral is Φ(x) ≈ (1 + tanh(√(2 / π) (x + 0.044715 x³))) / 2, as in guided
    diffusion, and no probability is below 1e-12.

    Args:
        levels: whole levels 0 … 255 as values in [−1, 1].
        means: the normal's means.
        log_deviations: the logarithms of its standard deviations.

    >>> levels = torch.tensor([-1.0, 1 / 255, 1.0])
    >>> found = log_likelihood(levels, torch.zeros(3), torch.zeros(3)).exp()
    >>> [round(value, 4) for value in found.tolist()]  # Φ(−1 + 1 / 255), 2 / 255 / √(2 π), again Φ
    [0.1598, 0.0031, 0.1598]
    """
    inverse = (-log_deviations).exp()
    below = _integrate(inverse * (levels - means - HALF_STEP))
    above = _integrate(inverse * (levels - means + HALF_STEP))
    mass = torch.where(levels < -ENDS, above, torch.where(levels > ENDS, 1 - below, above - below))
    return mass.clamp(min=LEAST).log()


def _integrate(x: Values) -> Values:
    """The normal's integral, approximated."""
    return (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
