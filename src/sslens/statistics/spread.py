"""How far the known quantities of some images lie from those of a source, against all images of a
pool."""

import numpy as np
from jaxtyping import Float64

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.statistics.draws import Draws
from sslens.statistics.estimate import Estimate
from sslens.statistics.sampled import Sampled


def measure_spread(
    sources: Float64[np.ndarray, "image part"],
    others: Float64[np.ndarray, "image other part"],
    pool: Float64[np.ndarray, "row part"],
) -> Sampled:
    """Measure how far a quantity lies from the sources' among images that belong to each source.

    With the quantity c_s of a source, c_o of the images that belong to it (its neighbours, or its
    samples) and c_p of the pool, each coded as numbers (`comparisons.targets.code_factors`),

        spread = Σ_s mean_o ‖c_o − c_s‖² / Σ_s mean_p ‖c_p − c_s‖²

    It is 0 where all have the source's value, and 1 where they are as far from it as any image. Of
    kinds, coded one-hot, it is the share of another kind, over the pool's; of angles, coded as
    cosine and sine, ‖c_o − c_s‖² = 2 − 2 cos of their difference. The sources are left out in turn
    (`statistics.draws`).

    Args:
        sources: of each source.
        others: of the images that belong to each.
        pool: of all images that could.

    Returns:
        The spread with its value without each source, or group of sources; nan where all images
        have one value.

    Raises:
        InputError: there is no source, no image that belongs to one, or an empty pool.

    >>> pool = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> sources, others = np.array([[0.0], [3.0]]), np.array([[[1.0], [0.0]], [[3.0], [2.0]]])
    >>> float(measure_spread(sources, others, pool).value)  # (1/2 + 1/2) / (7/2 + 7/2)
    0.1428...
    """
    if not sources.size or not others.size or not pool.size:
        raise InputError(
            f"A spread is measured of {spell_count(len(sources), 'source')},"
            f" {spell_count(others.shape[1], 'image')} of each and a pool of {len(pool)}: give at"
            " least one of each."
        )
    own = np.square(others - sources[:, None]).sum(-1).mean(1)
    mean = pool.mean(0)
    anywhere = np.square(sources - mean).sum(1) + np.square(pool - mean).sum(1).mean()
    draws = Draws.of(len(sources))
    sums = draws.sums(np.stack([own, anywhere], 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)
    return draws.sampled(ratios, reach=np.inf)


def estimate_spread(spread: Sampled, sources: int, least: float = -np.inf) -> Estimate:
    """Return a spread, an average, or the difference of two, with its 95 % interval over the
    sources; the interval ends at the least possible value.

    >>> pool = np.arange(4.0)[:, None]
    >>> near = measure_spread(pool, np.stack([pool, pool[::-1]], 1), pool)
    >>> estimate_spread(near, 4).value  # (0 + (9 + 1 + 1 + 9) / 2) / (3.5 + 1.5 + 1.5 + 3.5)
    1.0
    """
    low, high = spread.interval()
    low = np.maximum(low, least)
    return Estimate(float(spread.value), float(low), float(high), "images", sources)


def average_over_sources(
    values: Float64[np.ndarray, "source draw"], reach: float = np.inf
) -> Sampled:
    """Average a number over the draws of each source, and over the sources, with the average
    without each source, or group of sources.

    Args:
        values: the number of each draw.
        reach: the largest magnitude that it can have, 1 for shares and cosines: intervals end
            there.

    >>> mean = average_over_sources(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    >>> float(mean.value), mean.left_out.tolist()
    (0.5, [0.5, 0.25, 0.75])
    """
    draws = Draws.of(len(values))
    sums = draws.sums(np.stack([values.mean(1), np.ones(len(values))], 1))
    with np.errstate(invalid="ignore"):  # 0/0 without the only source
        return draws.sampled(sums[:, 0] / sums[:, 1], reach=reach)
