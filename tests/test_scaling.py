"""Multidimensional scaling, against an optimiser that knows nothing of it."""

import numpy as np
import pytest
import scipy.optimize

from sslens.statistics.scaling import Placement, measure_stress, place, place_classically


def measure(places: np.ndarray) -> np.ndarray:
    return np.linalg.norm(places[:, None] - places[None], axis=-1)


def test_places_in_the_plane_are_found_again() -> None:
    rng = np.random.default_rng(0)
    places = rng.normal(size=(9, 2)) * [3, 1]
    placed = place(measure(places), leftmost=4)
    np.testing.assert_allclose(measure(placed.places), measure(places), atol=1e-6)
    assert placed.stress < 1e-6
    assert placed.places[4, 0] <= 0
    # a picture that is turned and mirrored has the same dissimilarities, and gives the same picture
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    again = place(measure(places @ turn * [1, -1] + 5), leftmost=4)
    np.testing.assert_allclose(again.places, placed.places, atol=1e-6)


@pytest.mark.parametrize("hidden", [False, True])
def test_stress_is_as_low_as_an_optimiser_gets_it(hidden: bool) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(8, 5))  # five dimensions do not fit into a plane
    delta = measure(points)
    if hidden:
        delta[0, 3] = delta[3, 0] = delta[2, 5] = delta[5, 2] = np.nan
    first, second = np.triu_indices(8, 1)

    def raw(flat: np.ndarray) -> float:
        apart = measure(flat.reshape(8, 2))[first, second]
        return float(np.nansum((delta[first, second] - apart) ** 2))

    placed = place(delta)
    start = place_classically(np.where(np.isnan(delta), np.nanmax(delta), delta))
    lowest = scipy.optimize.minimize(raw, start.ravel(), method="BFGS", options={"gtol": 1e-9})
    assert raw(placed.places.ravel()) == pytest.approx(lowest.fun, rel=1e-4)
    known = ~np.isnan(delta[first, second])
    apart = measure(placed.places)[first, second][known]
    stress = np.sqrt(((delta[first, second][known] - apart) ** 2).sum() / (apart**2).sum())
    assert placed.stress == pytest.approx(stress)


def test_few_and_equal_things_have_places() -> None:
    assert place(np.zeros((1, 1))).places.tolist() == [[0, 0]]
    two = place(np.array([[0.0, 0.5], [0.5, 0.0]]))
    np.testing.assert_allclose(two.places, [[-0.25, 0], [0.25, 0]])
    assert place(np.zeros((3, 3))).stress == 0
    unknown = place(np.full((2, 2), np.nan))
    assert isinstance(unknown, Placement)
    assert unknown.stress == 0
    # of three equally unlike things no direction is the widest: the first one lies straight left
    three = place(1 - np.eye(3))
    np.testing.assert_allclose(three.places[0], [-(3**-0.5), 0], atol=1e-6)
    assert measure_stress(1 - np.eye(3), three.places) < 1e-6


def test_dissimilarities_that_cannot_be_are_refused() -> None:
    for wrong in ([[0.0, -1.0], [-1.0, 0.0]], [[0.0, 1.0], [2.0, 0.0]]):
        with pytest.raises(ValueError, match="symmetric"):
            place(np.array(wrong))
