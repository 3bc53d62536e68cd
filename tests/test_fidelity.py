"""Numbers of generated images against loops, scikit-learn and scipy."""

import numpy as np
import pytest
import scipy

from sslens.errors import InputError
from sslens.probes.fidelity import Whitening, measure_cosines, rank_sources, shift_right
from sslens.probes.realism import compare_sets, measure_frechet_distance

RNG = np.random.default_rng(0)


def test_whitening_is_ledoit_and_wolfs() -> None:
    from sklearn.covariance import LedoitWolf

    for count, dim in ((200, 5), (30, 60)):
        rows = RNG.normal(size=(count, dim)) @ RNG.normal(size=(dim, dim)) + 3
        oracle, found = LedoitWolf().fit(rows), Whitening.fit(rows)
        assert found.shrinkage == pytest.approx(oracle.shrinkage_, rel=1e-10)
        np.testing.assert_allclose(
            found.matrix @ oracle.covariance_ @ found.matrix, np.eye(dim), atol=1e-8
        )
    whitened = Whitening.fit(rows, shrinkage=0.0).apply(rows)  # more dimensions than images
    values = np.linalg.eigvalsh(whitened.T @ whitened / count)
    np.testing.assert_allclose(values[-count + 1 :], 1, atol=1e-6)
    np.testing.assert_allclose(values[: -count + 1], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((1, 2)), "of 1 images cannot be whitened"),
        (np.array([[1.0], [np.nan]]), "cannot be whitened: give finite"),
        (np.ones((3, 2)), "do not vary"),
    ],
)
def test_features_that_cannot_be_whitened_are_refused(rows: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Whitening.fit(rows)


def test_ranks_and_cosines_are_those_of_loops() -> None:
    images, samples = RNG.normal(size=(40, 6)), RNG.normal(size=(7, 3, 6))
    sources = RNG.permutation(40)[:7]
    samples += images[sources][:, None]
    ranks, cosines = (find(samples, images, sources) for find in (rank_sources, measure_cosines))
    for source in range(7):
        for draw in range(3):
            one = samples[source, draw]
            every = [one @ x / np.linalg.norm(one) / np.linalg.norm(x) for x in images]
            own = every[sources[source]]
            assert cosines[source, draw] == pytest.approx(own, abs=1e-12)
            assert ranks[source, draw] == 1 + sum(value > own for value in every)
    assert (ranks == 1).mean() > 0.3


def test_a_representation_that_tells_nothing_apart_has_the_last_rank() -> None:
    images = np.ones((10, 2))
    assert rank_sources(np.ones((1, 2, 2)), images, np.array([4])).tolist() == [[10, 10]]
    assert rank_sources(np.zeros((1, 1, 2)), images, np.array([4])).tolist() == [[10]]


def test_sources_and_widths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="row 5 of 3 images"):
        rank_sources(np.zeros((1, 1, 2)), np.zeros((3, 2)), np.array([5]))
    with pytest.raises(InputError, match="do not fit"):
        measure_cosines(np.zeros((1, 1, 2)), np.zeros((3, 3)), np.array([0]))
    with pytest.raises(InputError, match="3 dimensions are whitened by those of 2"):
        Whitening.fit(RNG.normal(size=(4, 2))).apply(np.zeros((1, 3)))


def test_a_shifted_image_has_its_pixels_one_to_the_right() -> None:
    images = RNG.integers(0, 255, (2, 4, 5, 3), dtype=np.uint8)
    shifted = shift_right(images)
    assert (shifted[:, :, 1:] == images[:, :, :-1]).all()
    assert (shifted[:, :, 0] == images[:, :, 0]).all()


def test_precision_and_recall_are_those_of_loops() -> None:
    real, generated = RNG.normal(size=(31, 3)), RNG.normal(size=(25, 3)) * 0.7 + 1.5
    for k in (1, 3):
        found = compare_sets(generated, real, k)

        def radius(rows: np.ndarray, i: int, k: int = k) -> float:
            return float(np.sort(np.linalg.norm(rows - rows[i], axis=1))[k])

        precise = [
            any(np.linalg.norm(g - r) <= radius(real, i) for i, r in enumerate(real))
            for g in generated
        ]
        recalled = [
            any(np.linalg.norm(r - g) <= radius(generated, i) for i, g in enumerate(generated))
            for r in real
        ]
        assert found.precise.tolist() == precise
        assert found.recalled.tolist() == recalled
        assert 0 < np.mean(precise) < 1


def test_one_image_again_and_again_is_precise_and_recalls_little() -> None:
    real = RNG.normal(size=(50, 2))
    found = compare_sets(real[[0] * 20] + 1e-6 * RNG.normal(size=(20, 2)), real)
    assert found.precise.all()
    assert found.recalled.mean() < 0.05


def test_frechet_distance_is_scipys() -> None:
    one, other = RNG.normal(size=(60, 4)), RNG.normal(size=(80, 4)) @ RNG.normal(size=(4, 4)) + 1
    covariances = [np.cov(rows, rowvar=False) for rows in (one, other)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    gap = one.mean(0) - other.mean(0)
    expected = gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root.real)
    assert measure_frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)
    assert measure_frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert measure_frechet_distance(one[:3], one[:3]) == pytest.approx(0, abs=1e-6)  # of low rank


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (np.zeros((3, 2)), np.zeros((9, 2)), "3 generated and 9 real images are too few"),
        (np.zeros((9, 2)), np.zeros((9, 3)), "of 2 and of 3 dimensions"),
        (np.full((9, 2), np.inf), np.zeros((9, 2)), "not finite"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(
    one: np.ndarray, other: np.ndarray, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        compare_sets(one, other)
