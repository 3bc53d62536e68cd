"""The jackknife: by hand, against the matrix form of its degrees of freedom, against means, and by
how often its intervals cover where minibatches weigh unequally."""

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from sslens.errors import InputError
from sslens.statistics.explained import estimate_r2
from sslens.statistics.jackknife import (
    Change,
    compute_ends,
    compute_ends_at_once,
    compute_errors,
    compute_freedom,
    compute_p,
    compute_unit_ends,
)


def test_the_jackknife_of_a_mean_is_its_t_test() -> None:
    x = np.random.default_rng(0).standard_normal(9) + 0.5
    left_out = (x.sum() - x) / 8
    value, error = np.array(x.mean()), compute_errors(left_out)
    freedom = compute_freedom(np.full(9, 1 / 9))
    test = ttest_1samp(x, 0)
    assert error == pytest.approx(x.std(ddof=1) / 3)
    assert freedom == pytest.approx(8)
    expected = test.confidence_interval(0.95)
    assert [float(end) for end in compute_ends(value, error, freedom)] == pytest.approx(
        [expected.low, expected.high]
    )
    assert compute_p(value, error, freedom) == pytest.approx(test.pvalue)


@pytest.mark.parametrize("power", [1.0, 1.25, 2.0])
def test_the_degrees_of_freedom_are_those_of_the_quadratic_form(power: float) -> None:
    """Satterthwaite's of the covariance matrix of the scaled residuals, written out."""
    w = np.random.default_rng(1).dirichlet(np.ones(7) * 0.5, size=4)
    expected = []
    for row in w:
        c = row**power
        residual = np.diag(c) - np.outer(row, c) - np.outer(c, row)
        scaled = (residual + c.sum() * np.outer(row, row)) / np.outer(1 - row, 1 - row)
        expected.append(max(1.0, np.trace(scaled) ** 2 / (scaled**2).sum()))
    np.testing.assert_allclose(compute_freedom(w, power), expected, rtol=1e-9)


def test_edges_of_the_degrees_of_freedom() -> None:
    assert compute_freedom(np.array([1.0, 0.0, 0.0])) == 1
    assert np.isnan(compute_freedom(np.array([np.nan, 0.5])))
    assert np.isnan(compute_errors(np.array([0.5])))
    assert np.isnan(compute_p(np.array(0.3), np.array(0.0), np.array(5.0)))
    with pytest.raises(InputError, match="between 0 and 1"):
        compute_ends(np.array(0.3), np.array(0.1), np.array(5.0), level=95.0)


def ratios(seed: int, batches: int, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators by minibatch, of a true ratio of 0.5; scales are log-normal."""
    rng = np.random.default_rng(seed)
    scale = np.exp(1.2 * rng.standard_normal((trials, batches)))
    noise = rng.standard_normal((2, trials, batches))
    return scale * (0.5 + 0.2 * noise[0]), scale * (1 + 0.2 * noise[1])


def test_unequal_minibatches_are_covered_and_by_n_less_one_degrees_less() -> None:
    top, bottom = ratios(0, 10, 4000)
    value = top.sum(1) / bottom.sum(1)
    left_out = (top.sum(1, keepdims=True) - top) / (bottom.sum(1, keepdims=True) - bottom)
    errors, share = compute_errors(left_out), bottom / bottom.sum(1, keepdims=True)
    low, high = compute_ends(value, errors, compute_freedom(share))
    plain = np.abs(value - 0.5) <= t.ppf(0.975, 9) * errors
    covered = np.mean((low <= 0.5) & (high >= 0.5))
    assert covered > 0.93
    assert covered > plain.mean()


def test_intervals_at_once_of_one_value_are_its_own() -> None:
    x = np.random.default_rng(0).standard_normal(30)
    left_out = np.tile((x.sum() - x) / 29, (3, 1))
    value, freedom = np.full(3, x.mean()), np.full(3, 29.0)
    alone = compute_ends(value, compute_errors(left_out), freedom)
    at_once = compute_ends_at_once(value, left_out, freedom)
    np.testing.assert_allclose(np.ptp(at_once, 0), np.ptp(alone, 0), rtol=0.04)


def test_the_interval_of_a_share_stays_within_it() -> None:
    value, errors = np.array([0.99, 0.99]), np.full(2, 0.02)
    change = Change(np.full(2, -0.01), np.array([0.0001, 0.0004]))
    low, high = compute_unit_ends(value, errors, 99.0, change)
    assert ((low > 0.5) & (low < 0.99)).all()
    assert ((high > 0.99) & (high < 1)).all()
    assert low[1] < low[0]


@pytest.mark.parametrize(("r2", "images"), [(0.3, 60), (0.9, 60), (0.99, 500)])
def test_r2_is_covered(r2: float, images: int) -> None:
    """Predictions with errors of Laplace's distribution; the truth is known."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        y = rng.uniform(-1, 1, (images, 1)) * 3**0.5
        noise = rng.laplace(size=(images, 1)) / 2**0.5
        estimate = estimate_r2(y, r2 * y + (r2 * (1 - r2)) ** 0.5 * noise)
        covered.append(estimate.low <= r2 <= estimate.high)
    assert np.mean(covered) > 0.95 - 2.5 * (0.05 * 0.95 / 400) ** 0.5


def test_r2_at_its_edges() -> None:
    y = np.arange(30.0)[:, None]
    perfect = estimate_r2(y, y)
    assert perfect.value == 1
    assert np.isnan(perfect.low)
    constant = estimate_r2(np.ones((30, 1)), y)
    assert not constant.defined
    for value in (0.1, 0.3):  # of which the mean is not the number itself
        assert not estimate_r2(np.full((7, 1), value), y[:7]).defined
    angle = np.deg2rad(np.arange(0, 360, 12.0))
    both = np.stack([np.sin(angle), np.cos(angle)], 1)
    mean = estimate_r2(both, np.zeros_like(both) + both.mean(0))
    assert mean.value == pytest.approx(0, abs=1e-12)
    assert mean.low <= mean.value <= mean.high
