"""Probes: a contract for every file in probes/, and k-NN against a plain implementation in float64."""

import inspect
from collections import defaultdict

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.probes import knn as module
from sslens.probes.knn import knn, neighbours, vote, wilson


@pytest.mark.parametrize("name", names("probes"))
def test_a_probe_is_documented_functions_of_features_with_an_example(name: str) -> None:
    plug = plugin("probes", name)
    own = [f for _, f in inspect.getmembers(plug, inspect.isfunction) if f.__module__ == plug.__name__]
    assert any(not f.__name__.startswith("_") for f in own)
    assert all(f.__doc__ for f in own if not f.__name__.startswith("_"))
    assert ">>>" in inspect.getsource(plug)


def drawn(seed: int, n: int, dim: int = 12) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def by_hand(
    queries: torch.Tensor,
    bank: torch.Tensor,
    labels: list[int],
    k: int,
    how: str,
    temperature: float,
    leave_one_out: bool,
) -> tuple[list[list[int]], list[int]]:
    """Sort all cosines, take k (the first of equals), add up the votes: one query at a time."""
    q, b = (x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True) for x in (queries, bank))
    rows, classes = [], []
    for i, query in enumerate(q):
        candidates = [(-round(float(query @ row), 6), j) for j, row in enumerate(b) if not (leave_one_out and i == j)]
        best = sorted(candidates)[:k]
        votes: dict[int, float] = defaultdict(float)
        for minus, j in best:
            votes[labels[j]] += np.exp(-minus / temperature) if how == "weighted" else 1.0
        rows.append([j for _, j in best])
        classes.append(min(votes, key=lambda c: (-votes[c], c)))
    return rows, classes


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("how", ["weighted", "majority"])
@pytest.mark.parametrize("k", [1, 7, 20])
def test_knn_is_the_plain_one(k: int, how: module.Vote, leave_one_out: bool) -> None:
    bank = drawn(0, 60)
    queries = bank if leave_one_out else drawn(1, 33)
    labels = np.random.default_rng(0).integers(0, 4, 60)
    rows, classes = by_hand(queries, bank, labels.tolist(), k, how, 0.07, leave_one_out)
    found, cosines = neighbours(queries, bank, k, leave_one_out=leave_one_out)
    assert found.tolist() == rows
    assert (cosines[:, :-1] >= cosines[:, 1:]).all()
    predicted = knn(queries, bank, torch.from_numpy(labels), k=k, how=how, leave_one_out=leave_one_out)
    assert predicted.tolist() == classes


def test_an_example_by_hand() -> None:
    """Cosines 1, 0.8, 0.6 with classes 0, 1, 1: two votes beat one, unless the weights e^(s/τ) say otherwise."""
    bank = torch.tensor([[2.0, 0.0], [0.8, 0.6], [0.6, -0.8], [-1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 0])
    query = torch.tensor([[5.0, 0.0]])
    rows, cosines = neighbours(query, bank, 3)
    assert rows.tolist() == [[0, 1, 2]]
    assert cosines[0].tolist() == pytest.approx([1, 0.8, 0.6])
    # e^(1/τ) against e^(0.8/τ) + e^(0.6/τ): at τ = 0.07 1 > 0.0574 + 0.0033, at τ = 1 1 < 0.82 + 0.67
    assert knn(query, bank, labels, k=3).tolist() == [0]
    assert knn(query, bank, labels, k=3, temperature=1.0).tolist() == [1]
    assert knn(query, bank, labels, k=3, how="majority").tolist() == [1]


def test_votes_are_exp_of_cosine_over_temperature() -> None:
    # class 1 wins when 2 e^(s/τ) > e^(0.9/τ): s > 0.9 − τ ln 2 = 0.8515
    labels = torch.tensor([[0, 1, 1]])
    assert vote(labels, torch.tensor([[0.9, 0.852, 0.852]]), 2).tolist() == [1]
    assert vote(labels, torch.tensor([[0.9, 0.851, 0.851]]), 2).tolist() == [0]
    assert vote(torch.tensor([[2, 1]]), torch.tensor([[0.5, 0.5]]), 3).tolist() == [1]  # of equals the first class


def test_large_similarities_over_a_small_temperature_do_not_overflow() -> None:
    assert vote(torch.tensor([[1, 0]]), torch.tensor([[1.0, 0.99]]), 2, temperature=1e-4).tolist() == [1]


def test_leave_one_out_never_finds_the_query_itself() -> None:
    bank = drawn(0, 40)
    rows, _ = neighbours(bank, bank, 39, leave_one_out=True)
    own = torch.arange(40)[:, None]
    assert not (rows == own).any()
    assert all(sorted([*found, i]) == list(range(40)) for i, found in enumerate(rows.tolist()))
    assert (neighbours(bank, bank, 1)[0] == own).all()


def test_of_duplicates_the_first_rows_are_taken_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # of ±1/4 in 16 dimensions, whose cosines are exact: a library's kernels may round equal rows apart in the last bit
    base = drawn(0, 41, 16).sign() / 4
    bank = torch.cat([base, base[:20], base[:20]])  # the same rows three times over
    queries = torch.cat([drawn(1, 29, 16).sign() / 4, base[:4]])
    expected = by_hand(queries, bank, [0] * len(bank), 10, "majority", 1.0, False)[0]
    own = by_hand(bank, bank, [0] * len(bank), 10, "majority", 1.0, True)[0]
    for rows_at_a_time in (1, 2, 5, 32, 33, 1000):
        monkeypatch.setattr(module, "BLOCK", rows_at_a_time * len(bank))
        assert neighbours(queries, bank, 10)[0].tolist() == expected
        assert neighbours(bank, bank, 10, leave_one_out=True)[0].tolist() == own
    monkeypatch.setattr(module, "BLOCK", 1)  # less than one row
    assert neighbours(queries, bank, 10)[0].tolist() == expected


def test_identical_images_are_ordered_by_row() -> None:
    rows, cosines = neighbours(torch.ones(3, 5), torch.ones(50, 5), 7)
    assert rows.tolist() == [list(range(7))] * 3
    torch.testing.assert_close(cosines, torch.ones(3, 7))
    assert neighbours(torch.ones(3, 5), torch.ones(3, 5), 2, leave_one_out=True)[0].tolist() == [[1, 2], [0, 2], [0, 1]]


def test_scale_and_precision_of_features_do_not_matter() -> None:
    bank, queries = drawn(0, 60), drawn(1, 20)
    expected = neighbours(queries, bank, 5)[0]
    scales = 10.0 ** torch.linspace(-6, 6, 60)[:, None]
    assert torch.equal(neighbours(queries * 1e-5, bank * scales, 5)[0], expected)
    assert torch.equal(neighbours(queries.double(), bank.double(), 5)[0], expected)


@pytest.mark.parametrize(("k", "leave_one_out", "most"), [(0, False, 6), (7, False, 6), (6, True, 5), (-1, False, 6)])
def test_a_number_of_neighbours_that_cannot_be_chosen_is_refused(k: int, leave_one_out: bool, most: int) -> None:
    bank = drawn(0, 6)
    with pytest.raises(
        InputError, match=f"{k} neighbours cannot be chosen among {most} images: give k between 1 and {most}"
    ):
        neighbours(bank, bank, k, leave_one_out=leave_one_out)


@pytest.mark.parametrize(("which", "value"), [("queries", float("nan")), ("bank", float("inf"))])
def test_broken_features_are_refused(which: str, value: float) -> None:
    given = {"queries": drawn(0, 6), "bank": drawn(1, 6)}
    given[which][2, 3] = value
    with pytest.raises(InputError, match=f"features of the {which} hold values that are not finite"):
        knn(given["queries"], given["bank"], torch.zeros(6, dtype=torch.int64), k=2)


@pytest.mark.parametrize(
    ("correct", "count"), [(0, 1), (1, 1), (0, 20), (20, 20), (3, 7), (8, 10), (731, 1024), (9999, 10000)]
)
def test_wilson_is_scipys(correct: int, count: int) -> None:
    expected = binomtest(correct, count).proportion_ci(0.95, method="wilson")
    assert wilson(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-7)
