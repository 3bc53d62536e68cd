"""Kendall's tau over the top of two rankings: against scipy on the same sets, and by hand."""

from typing import Literal

import numpy as np
import pytest
import scipy.stats
import torch

from sslens.errors import InputError
from sslens.probes import rank
from sslens.probes.rank import Rankings, tau


def leading(logits: np.ndarray, k: int) -> list[int]:
    """The k classes with the largest logits, of equal ones the first: sorted in Python."""
    return sorted(range(len(logits)), key=lambda c: (-logits[c], c))[:k]


def by_hand(a: np.ndarray, b: np.ndarray, k: int, over: str) -> list[float]:
    """scipy's tau-b, one image at a time, over the set as the module's text has it."""
    found = []
    for x, y in zip(a, b, strict=True):
        chosen = set(leading(x, k)) | (set(leading(y, k)) if over == "union" else set())
        chosen = sorted(chosen)
        found.append(float(scipy.stats.kendalltau(x[chosen], y[chosen]).statistic))
    return found


def drawn(seed: int, images: int, classes: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Two models' logits that have something in common; tied in a few values, or in nearly all."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((images, classes))
    b = a + rng.standard_normal((images, classes))
    if kind == "distinct":
        return a, b
    steps = 1.0 if kind == "tied" else 0.2
    return np.round(a * steps), np.round(b * steps)


@pytest.mark.parametrize("over", ["union", "first"])
@pytest.mark.parametrize("kind", ["distinct", "tied", "nearly all tied"])
@pytest.mark.parametrize(
    ("classes", "k"), [(2, 2), (10, 5), (10, 10), (40, 5), (150, 100), (300, 130)]
)
def test_tau_is_scipys(classes: int, k: int, kind: str, over: Literal["union", "first"]) -> None:
    a, b = drawn(classes + k, 40, classes, kind)
    found = tau(*(Rankings.of(torch.from_numpy(x), k) for x in (a, b)), k, over)
    expected = np.array(by_hand(a, b, k, over))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)  # nan where scipy's is
    if kind == "nearly all tied" and classes == 10:
        assert np.isnan(found).any()
        assert np.isfinite(found).any()


def test_a_smaller_top_of_one_ranking_is_that_of_its_own() -> None:
    a, b = (torch.from_numpy(x) for x in drawn(0, 50, 30, "tied"))
    long = [Rankings.of(x, 20) for x in (a, b)]
    for k in (2, 5, 20):
        np.testing.assert_array_equal(tau(*long, k), tau(Rankings.of(a, k), Rankings.of(b, k), k))


def test_blocks_of_images_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (Rankings.of(torch.from_numpy(x), 5) for x in drawn(1, 23, 12, "tied"))
    whole, logits = tau(a, b, 5), a.logits
    monkeypatch.setattr(rank, "BLOCK", 60)  # six images at a time
    np.testing.assert_array_equal(tau(a, b, 5), whole)
    np.testing.assert_array_equal(Rankings.of(logits, 5).top, a.top)  # five at a time
    logits[17, 3] = torch.nan
    with pytest.raises(InputError, match="image 17"):
        Rankings.of(logits, 5)


def test_float32_logits_that_float16_would_tie_are_apart() -> None:
    a = torch.tensor([[1.0, 1.0 + 1e-6, 1.0 + 2e-6]])
    one = Rankings.of(a, 3)
    assert one.top.tolist() == [[2, 1, 0]]
    assert tau(one, Rankings.of(a.flip(1), 3), 3).tolist() == [-1.0]
    half = Rankings.of(a.bfloat16(), 3)  # where they are tied
    assert np.isnan(tau(half, one, 3)).all()


def test_by_hand_with_ties() -> None:
    """Top 3 of a: classes 0, 1, 2 (2 before 3, which equals it); of b: 3, 0, 2. Union: all four.

    a = 5 4 2 2, b = 3 1 2 9. Pairs 01 +, 02 +, 03 −, 12 −, 13 −, 23 tied in a: both −1, not tied in
    a 5, in b 6: −1 / √30.
    """
    a, b = (Rankings.of(torch.tensor([x]), 3) for x in ([5.0, 4, 2, 2], [3.0, 1, 2, 9]))
    assert a.top.tolist() == [[0, 1, 2]]
    assert tau(a, b, 3)[0] == pytest.approx(-1 / 30**0.5, abs=1e-15)
    assert tau(a, b, 3, "first")[0] == pytest.approx(1 / 3, abs=1e-15)  # 01 +, 02 +, 12 −
    assert tau(b, a, 3, "first")[0] == 0.0  # of 3, 0, 2: 30 −, 32 tied in a, 02 +


def test_infinite_logits_have_a_place() -> None:
    a = Rankings.of(torch.tensor([[-np.inf, 1.0, np.inf]]), 3)
    assert tau(a, a, 3).tolist() == [1.0]


def test_unrelated_rankings_are_opposed_over_the_union_alone() -> None:
    """Of j classes in both tops the union has 2k − j; each of one top alone is above each of the
    other alone in one model only.

    The mean of −(k − j)² over its pairs, j hypergeometric: −0.5528 for the top 5 of 1,000.
    """
    shared = np.arange(6)
    union = 10 - shared
    expected = -scipy.stats.hypergeom(1000, 5, 5).pmf(shared) @ (
        (5 - shared) ** 2 / (union * (union - 1) / 2)
    )
    assert expected == pytest.approx(-0.5528, abs=5e-5)
    rng = np.random.default_rng(0)
    a, b = (Rankings.of(torch.from_numpy(rng.random((5_000, 1000))), 5) for _ in "ab")
    for over, mean in (("union", expected), ("first", 0.0)):
        found = tau(a, b, 5, over)
        assert abs(found.mean() - mean) < 4 * found.std() / len(found) ** 0.5


def test_what_cannot_be_ranked_is_refused() -> None:
    logits = torch.rand(4, 10)
    with pytest.raises(
        InputError, match="top 100 of 10 classes cannot be ranked: give a k between 2 and 10"
    ):
        Rankings.of(logits, 100)
    with pytest.raises(InputError, match="top 1 of 10 classes"):
        Rankings.of(logits, 1)
    broken = logits.clone()
    broken[2, 3] = torch.nan
    with pytest.raises(InputError, match=r"logits of image 2 \(of 4\) hold nan"):
        Rankings.of(broken, 5)
    a = Rankings.of(logits, 5)
    with pytest.raises(
        InputError,
        match="4 images and 10 classes cannot be held against those of 3 images and 10 classes",
    ):
        tau(a, Rankings.of(logits[:3], 5), 5)
    with pytest.raises(InputError, match="top 6 needs a k between 2 and the 5 leading classes"):
        tau(a, a, 6)
