"""Intervals of mean gains: against Tango's closed form, a numerical maximum likelihood, the exact
binomial test, and by how often they cover."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, binomtest

from sslens.errors import InputError
from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import (
    compute_score_ends,
    compute_sign_flip_p,
    estimate_gain,
    estimate_gains,
    estimate_gains_at_once,
    hold_zero,
)
from sslens.statistics.proportions import difference_of_shares

Z = 1.959964


def gains(wins: int, losses: int, images: int) -> np.ndarray:
    return np.array([1.0] * wins + [-1.0] * losses + [0.0] * (images - wins - losses))


def tango(wins: int, losses: int, images: int, d: float) -> float:
    """Tango's score statistic of the difference d (1998, equations 8 and 9)."""
    a, c = 2 * images, -losses * d * (1 - d)
    b = -wins - losses + (2 * images - wins + losses) * d
    q = ((b * b - 4 * a * c) ** 0.5 - b) / (2 * a)
    return (wins - losses - images * d) / (images * (2 * q + d * (1 - d))) ** 0.5


@pytest.mark.parametrize(
    ("wins", "losses", "images"),
    [(7, 1, 21), (12, 2, 50), (1, 0, 44), (5, 0, 100), (0, 3, 40), (30, 10, 400), (1, 1, 10)],
)
def test_the_ends_are_where_tangos_statistic_is_as_large_as_the_quantile(
    wins: int, losses: int, images: int
) -> None:
    ends = compute_score_ends(gains(wins, losses, images)[None])
    assert tango(wins, losses, images, float(ends.low[0])) == pytest.approx(Z, abs=1e-6)
    assert tango(wins, losses, images, float(ends.high[0])) == pytest.approx(-Z, abs=1e-6)


def test_the_interval_of_a_published_example() -> None:
    """Fagerland, Lydersen & Laake (2014, BMC Medical Research Methodology 14:18), table 5: 1 loss
    and 7 wins of 21 patients, Tango's interval −0.517 to −0.026 of the reverse difference."""
    estimate = difference_of_shares(gains(7, 0, 21) > 0, gains(0, 1, 21)[::-1] < 0)
    assert estimate.value == pytest.approx(6 / 21)
    ends = compute_score_ends(gains(7, 1, 21)[None])
    assert (ends.low.round(3), ends.high.round(3)) == (0.026, 0.517)


def constrained_variance(values: np.ndarray, d: float, bound: float) -> float:
    """The variance of the most likely distribution with the mean d, by a numerical optimiser."""
    levels, counts = np.unique([*values, -bound, bound], return_counts=True)
    counts = counts - np.isin(levels, [-bound, bound])  # the extremes were added once
    logits = minimize(
        lambda p: -np.sum(counts * np.log(np.maximum(p, 1e-300))),
        np.full(len(levels), 1 / len(levels)),
        jac=lambda p: -counts / np.maximum(p, 1e-300),
        bounds=[(1e-12, 1)] * len(levels),
        constraints=[
            {"type": "eq", "fun": lambda p: p.sum() - 1},
            {"type": "eq", "fun": lambda p: p @ levels - d},
        ],
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-14},
    ).x
    return float(logits @ levels**2 - d**2)


@pytest.mark.parametrize("bound", [1.0, 2.0])
def test_the_ends_of_gains_of_families_are_those_of_a_numerical_likelihood(bound: float) -> None:
    """Gains in halves; of few images, so that the end lies where an unseen extreme has a share."""
    values = np.array([0.5] * 3 + [1.0] * 2 + [-0.5] + [0.0] * 14)
    ends = compute_score_ends(values[None], bound=bound)
    for end in (float(ends.low[0]), float(ends.high[0])):
        variance = constrained_variance(values, end, bound)
        z = abs(values.mean() - end) / (variance / len(values)) ** 0.5
        assert z == pytest.approx(Z, rel=2e-3)


def test_rows_are_independent_of_each_other_and_of_the_sign() -> None:
    rows = np.stack([gains(4, 1, 60), gains(0, 0, 60), gains(1, 9, 60)])
    every = estimate_gains(rows)
    assert every == [estimate_gain(row) for row in rows]
    mirrored = estimate_gain(-rows[2])
    assert (mirrored.low, mirrored.high) == pytest.approx((-every[2].high, -every[2].low))


def test_an_interval_has_a_width_where_no_image_differs() -> None:
    estimate = estimate_gain(np.zeros(40))
    # z² / (n + z²): the end of Wilson's interval of none of n
    assert estimate.high == pytest.approx(Z**2 / (40 + Z**2), abs=1e-6)
    assert estimate.low == pytest.approx(-estimate.high)
    assert estimate_gain(np.ones(30)).high == 1


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (6, 0), (9, 1), (8, 1), (7, 1), (14, 4)])
def test_the_exact_p_is_the_binomial_tests(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses).pvalue
    assert compute_sign_flip_p(gains(wins, losses, 50)) == pytest.approx(expected, rel=1e-9)
    assert (estimate_gain(gains(wins, losses, 50)).sign == 1) == (expected <= 0.05)


def test_the_exact_p_of_unequal_gains_is_counted() -> None:
    values = np.array([1.0, 1.0, 0.5, 0.5, 0.5, -0.5, 1 / 3, 0.0])
    moved = values[values != 0]
    sums = [abs(np.dot(signs, moved)) for signs in itertools.product((-1, 1), repeat=len(moved))]
    expected = np.mean(np.array(sums) >= abs(values.sum()) - 1e-9)
    assert compute_sign_flip_p(values) == pytest.approx(expected)


@pytest.mark.parametrize("small", [0.1 + 0.2 - 0.3, 1e-4])
def test_gains_that_are_nothing_beside_others_change_no_p(small: float) -> None:
    few = np.array([1.0] * 7 + [-1.0] + [0.0] * 40 + [small] * 3)
    assert compute_sign_flip_p(few) == compute_sign_flip_p(few[:-3])
    # and where all are small they are counted as large ones are
    assert compute_sign_flip_p(np.array([1 / 143] * 8)) == 2 * 2**-8
    assert estimate_gain(np.array([1.0] * 12 + [small] * 3 + [0.0] * 40)).sign == 1


def test_five_wins_and_no_loss_are_undecided() -> None:
    for images in (20, 100, 2000):
        assert estimate_gain(gains(5, 0, images)).sign == 0
        assert estimate_gain(gains(0, 5, images)).sign == 0
        assert estimate_gain(gains(6, 0, images)).sign == 1
    # of a family of two, half of each: the same five images
    assert estimate_gain(np.array([0.5] * 5 + [0.0] * 95)).sign == 0


def test_many_images_that_differ_need_no_exact_test() -> None:
    values = gains(150, 100, 1000)
    assert hold_zero(values, 0.01, 0.09) == (0.01, 0.09)
    assert binomtest(150, 250).pvalue < 0.05


def test_the_exact_coverage_is_that_which_is_claimed() -> None:
    """Over all tables of 100 images of which 10 % differ, weighted by their probability."""
    for share in (0.5, 0.75, 0.9):
        p, q, covered, total = 0.1 * share, 0.1 * (1 - share), 0.0, 0.0
        for wins, losses in itertools.product(range(24), range(18)):
            chance = binom.pmf(wins, 100, p) * binom.pmf(losses, 100 - wins, q / (1 - p))
            if chance < 1e-5:
                continue
            estimate = estimate_gain(gains(wins, losses, 100))
            covered += chance * (estimate.low <= p - q <= estimate.high)
            total += chance
        assert 0.93 <= covered / total <= 0.98


def test_intervals_that_hold_at_once() -> None:
    rng = np.random.default_rng(0)
    rows = rng.choice([-1.0, 0, 1], p=[0.05, 0.9, 0.05], size=(12, 300))
    value, ends = estimate_gains_at_once(rows)
    np.testing.assert_array_equal(value, rows.mean(1))
    alone = compute_score_ends(rows)
    assert (ends.low < alone.low).all()
    assert (ends.high > alone.high).all()
    wider = estimate_gains_at_once(rows, level=0.99)[1]
    assert (wider.high > ends.high).all()
    _, same = estimate_gains_at_once(np.repeat(rows[:1], 12, 0))
    np.testing.assert_allclose(same.low, alone.low[0], atol=0.002)
    _, constant = estimate_gains_at_once(np.zeros((2, 50)))
    assert (constant.high > 0).all()


@pytest.mark.slow
def test_intervals_that_hold_at_once_do() -> None:
    missed = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        shared = rng.choice([-1.0, 0, 1], p=[0.05, 0.9, 0.05], size=200)
        rows = np.where(rng.random((10, 200)) < 0.5, shared, 0) * rng.choice([-1, 1], 200)
        _, ends = estimate_gains_at_once(rows, seed=seed)
        missed.append(((ends.low > 0) | (ends.high < 0)).any())
    assert np.mean(missed) <= 0.05 + 2 * (0.05 * 0.95 / 300) ** 0.5


def test_gains_beyond_the_bound_and_of_no_image_are_refused() -> None:
    with pytest.raises(InputError, match="beyond the largest"):
        estimate_gain(np.array([1.5, 0.0]))
    with pytest.raises(InputError, match="no images"):
        estimate_gain(np.zeros(0))
    assert isinstance(estimate_gain(np.array([1.5, 0.0]), bound=2.0), Estimate)
