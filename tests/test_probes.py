"""Probes: a contract for every file in probes/, and k-NN against a plain implementation in
float64."""

import inspect
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from sslens.capture import Features
from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.models.taps import Tap
from sslens.probes import _nearest as nearest
from sslens.probes import knn as module
from sslens.probes.knn import knn, neighbours, standardise, sweep, vote, votes
from sslens.statistics.proportions import wilson


@pytest.mark.parametrize("name", names("probes"))
def test_a_probe_is_documented_functions_of_features_with_an_example(name: str) -> None:
    plug = plugin("probes", name)
    own = [
        f for _, f in inspect.getmembers(plug, inspect.isfunction) if f.__module__ == plug.__name__
    ]
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
    q, b = (
        x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True)
        for x in (queries, bank)
    )
    rows, classes = [], []
    for i, query in enumerate(q):
        candidates = [
            (-round(float(query @ row), 6), j)
            for j, row in enumerate(b)
            if not (leave_one_out and i == j)
        ]
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
    predicted = knn(
        queries, bank, torch.from_numpy(labels), k=k, how=how, leave_one_out=leave_one_out
    )
    assert predicted.tolist() == classes


def test_an_example_by_hand() -> None:
    """Cosines 1, 0.8, 0.6 with classes 0, 1, 1: two votes beat one, unless the weights e^(s/τ) say
    otherwise."""
    bank = torch.tensor([[2.0, 0.0], [0.8, 0.6], [0.6, -0.8], [-1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 0])
    query = torch.tensor([[5.0, 0.0]])
    rows, cosines = neighbours(query, bank, 3)
    assert rows.tolist() == [[0, 1, 2]]
    assert cosines[0].tolist() == pytest.approx([1, 0.8, 0.6])
    # e^(1/τ) against e^(0.8/τ) + e^(0.6/τ): at τ = 0.07 1 > 0.0574 + 0.0033, at τ = 1 1 < 0.82 +
    # 0.67
    assert knn(query, bank, labels, k=3).tolist() == [0]
    assert knn(query, bank, labels, k=3, temperature=1.0).tolist() == [1]
    assert knn(query, bank, labels, k=3, how="majority").tolist() == [1]


def test_votes_are_exp_of_cosine_over_temperature() -> None:
    # class 1 wins when 2 e^(s/τ) > e^(0.9/τ): s > 0.9 − τ ln 2 = 0.8515
    labels = torch.tensor([[0, 1, 1]])
    assert vote(labels, torch.tensor([[0.9, 0.852, 0.852]]), 2).tolist() == [1]
    assert vote(labels, torch.tensor([[0.9, 0.851, 0.851]]), 2).tolist() == [0]
    assert vote(torch.tensor([[2, 1]]), torch.tensor([[0.5, 0.5]]), 3).tolist() == [
        1
    ]  # of equals the first class


def test_large_similarities_over_a_small_temperature_do_not_overflow() -> None:
    assert vote(
        torch.tensor([[1, 0]]), torch.tensor([[1.0, 0.99]]), 2, temperature=1e-4
    ).tolist() == [1]


def test_leave_one_out_never_finds_the_query_itself() -> None:
    bank = drawn(0, 40)
    rows, _ = neighbours(bank, bank, 39, leave_one_out=True)
    own = torch.arange(40)[:, None]
    assert not (rows == own).any()
    assert all(sorted([*found, i]) == list(range(40)) for i, found in enumerate(rows.tolist()))
    assert (neighbours(bank, bank, 1)[0] == own).all()


def test_of_duplicates_the_first_rows_are_taken_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = drawn(0, 41, 16)
    bank = torch.cat([base, base[:20], base[:20]])  # the same rows three times over
    queries = torch.cat([drawn(1, 29, 16), base[:4]])
    expected = by_hand(queries, bank, [0] * len(bank), 10, "majority", 1.0, False)[0]
    own = by_hand(bank, bank, [0] * len(bank), 10, "majority", 1.0, True)[0]
    ways = ((1, 100, (32,)), (2, 7, (2,)), (5, 11, (1,)), (33, 40, (3, 2)), (1000, 1000, (4, 2)))
    for at_a_time, of_the_bank, groups in ways:
        monkeypatch.setattr(nearest, "QUERIES", at_a_time)
        monkeypatch.setattr(nearest, "ROWS", of_the_bank)
        monkeypatch.setattr(nearest, "AT_A_TIME", 1 + of_the_bank // 3)
        monkeypatch.setattr(nearest, "GROUPS", groups)
        found, cosines = neighbours(queries, bank, 10)
        assert found.tolist() == expected
        assert neighbours(bank, bank, 10, leave_one_out=True)[0].tolist() == own
        equal = {
            row: {row % 41 if row < 41 else row - 41 if row < 61 else row - 61} for row in range(81)
        }
        for rows, values in zip(found.tolist(), cosines.tolist(), strict=True):
            by_row: dict[int, set[float]] = {}
            for row, value in zip(rows, values, strict=True):
                by_row.setdefault(min(equal[row]), set()).add(value)
            assert all(len(values) == 1 for values in by_row.values())  # to the last bit


@pytest.mark.parametrize(("values", "k"), [(2, 5), (3, 40), (5, 64), (1000, 17)])
def test_ties_go_to_the_lower_row_whatever_the_groups(
    values: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cosines on a grid, so that most are ties, also between groups of which not all are looked
    into."""
    cosines = torch.from_numpy(
        np.random.default_rng(0).integers(0, values, (50, 203)).astype(np.float32)
    )
    for groups in ((), (1,), (2,), (4, 2), (9, 4, 2), (32,)):
        monkeypatch.setattr(nearest, "GROUPS", groups)
        monkeypatch.setattr(nearest, "GROUPS_EACH", 1)
        rows, found = nearest._top(cosines, k)
        expected = np.lexsort((np.broadcast_to(np.arange(203), cosines.shape), -cosines.numpy()))[
            :, :k
        ]
        assert rows.tolist() == expected.tolist()
        assert torch.equal(found, cosines.gather(1, rows))


def test_rows_that_differ_in_few_columns_are_no_equals() -> None:
    rows = torch.zeros(40, 64)
    rows[:, 1] = 1  # not among the columns that are looked at first
    rows[7, 2] = rows[9, 2] = 0.5
    rows[11, 3] = -0.0
    first = nearest._first_of_equals(rows)
    assert first is not None
    assert first.tolist() == [7 if row in (7, 9) else 0 for row in range(40)]
    assert nearest._first_of_equals(drawn(0, 100)) is None
    assert neighbours(rows[7:8], rows, 3)[0].tolist() == [[7, 9, 0]]
    assert neighbours(rows[1:2], rows, 39)[0].tolist() == [[*range(7), 8, *range(10, 40), 7]]


def test_all_numbers_of_neighbours_and_temperatures_at_once_are_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (300, 30), generator=generator)
    cosines = (
        torch.rand(300, 30, generator=generator)
        .round(decimals=1)
        .sort(dim=1, descending=True)
        .values
    )
    ks, temperatures = [30, 1, 2, 7, 15], [0.05, None, 1.0]
    found = votes(labels, cosines, 7, ks=ks, temperatures=temperatures)
    assert found.shape == (3, 5, 300)
    for i, temperature in enumerate(temperatures):
        for j, k in enumerate(ks):
            for row in range(0, 300, 17):
                counts = np.zeros(7)
                for label, cosine in zip(
                    labels[row, :k].tolist(), cosines[row, :k].tolist(), strict=True
                ):
                    counts[label] += (
                        1
                        if temperature is None
                        else np.exp((cosine - float(cosines[row, 0])) / temperature)
                    )
                close = np.flatnonzero(np.isclose(counts, counts.max(), rtol=1e-5))
                assert found[i, j, row] in close
                if temperature is None:
                    assert found[i, j, row] == close[0]


@pytest.mark.parametrize("count", [1, 50, 99, 250])
def test_votes_are_those_of_dinos_evaluation(count: int) -> None:
    """The sum over neighbours of their one-hot class times exp(s/T), written as one product, for
    any number of test images.

    DINO's script takes a hundredth of the test images at a time, so that with 50 it stops at once.
    """
    bank, queries = drawn(0, 400, 32), drawn(1, count, 32)
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 10, 400))
    similarity = (
        torch.nn.functional.normalize(queries.double())
        @ torch.nn.functional.normalize(bank.double()).T
    )
    values, rows = similarity.topk(20, dim=1)
    one_hot = torch.nn.functional.one_hot(labels[rows], 10).double()
    expected = (one_hot * (values / 0.07).exp()[:, :, None]).sum(1).argmax(1)
    assert knn(queries, bank, labels, k=20).tolist() == expected.tolist()


def store(seed: int, n: int, **changes: object) -> Features:
    tensors = {
        ("blocks.0", "cls"): drawn(seed, n),
        ("blocks.0", "mean"): drawn(seed + 9, n),
        ("norm", "cls"): drawn(seed + 5, n, 6),
    }
    taps = (Tap("blocks.0", "block", 0.5), Tap("norm", "norm", 1.0))
    ids = tuple(f"{seed}/{i}" for i in range(n))
    labels = np.random.default_rng(seed).integers(0, 3, n)
    key = {"weights": "w", "transform": {}}
    made = Features.of(
        tensors, ids=ids, taps=taps, labels=labels, classes="abc", model="m", key=key
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("with_bank", [False, True])
def test_a_sweep_is_each_tap_and_pooling_alone(with_bank: bool) -> None:
    queries, bank = store(0, 40), store(1, 60)
    swept = dict(sweep(queries, bank if with_bank else None, ks=[3, 8], temperatures=[0.07, None]))
    assert list(swept) == list(queries.columns)
    among = bank if with_bank else queries
    assert among.labels is not None
    for column, found in swept.items():
        for i, how in enumerate(("weighted", "majority")):
            for j, k in enumerate((3, 8)):
                alone = knn(
                    queries.read(*column),
                    among.read(*column),
                    torch.tensor(among.labels),
                    k=k,
                    how=how,  # type: ignore[arg-type]
                    leave_one_out=not with_bank,
                )
                assert found[i, j].tolist() == alone.tolist()


def test_features_are_standardised_by_the_bank_alone() -> None:
    """Against NumPy in float64, with an offset and scales that float32 must not lose."""
    scales = torch.logspace(-4, 4, 12)
    bank, queries = (drawn(seed, 50) * scales + 300 * scales for seed in (0, 1))
    mine = standardise(queries, bank)
    values, asked = bank.double().numpy(), queries.double().numpy()
    mean, deviation = values.mean(0), values.std(0)
    for found, expected in zip(mine, (asked, values), strict=True):
        np.testing.assert_allclose(found, (expected - mean) / deviation, rtol=0, atol=1e-4)
    some = standardise(queries[:3], bank)  # other queries change nothing
    np.testing.assert_array_equal(some[0], mine[0][:3])
    np.testing.assert_array_equal(some[1], mine[1])


def test_dimensions_that_do_not_vary_over_the_bank_are_dropped() -> None:
    bank, queries = drawn(0, 30), drawn(1, 5)
    plain = standardise(queries, bank)
    constant = torch.full((30, 1), 1e5)
    rounding = 7.0 + 1e-6 * drawn(2, 30, 1)  # varies by 1.4e-7 of its size
    wide = torch.cat([constant, bank[:, :4], rounding, bank[:, 4:]], 1)
    asked = torch.cat([drawn(3, 5, 1), queries[:, :4], drawn(4, 5, 1), queries[:, 4:]], 1)
    for found, expected in zip(standardise(asked, wide), plain, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [x.shape for x in standardise(torch.ones(2, 3), torch.ones(4, 3))] == [(2, 0), (4, 0)]
    assert standardise(torch.ones(2, 3), drawn(0, 1, 3))[1].shape == (1, 0)  # one image
    with pytest.raises(InputError, match="The bank has no images"):
        standardise(queries, bank[:0])
    with pytest.raises(InputError, match="not finite"):
        standardise(queries, bank * torch.inf)


def test_a_few_dimensions_of_high_variance_no_longer_decide() -> None:
    """The class lies in ten small dimensions, beside two of a hundred times their deviation."""
    labels = torch.arange(120) % 2
    features = torch.cat([100 * drawn(0, 120, 2), drawn(1, 120, 10) + 2 * labels[:, None]], 1)
    right = {
        name: (knn(x, x, labels, k=20, leave_one_out=True) == labels.numpy()).mean()
        for name, x in (("raw", features), ("standardised", standardise(features, features)[1]))
    }
    assert right["raw"] < 0.65
    assert right["standardised"] > 0.95


@pytest.mark.parametrize("with_bank", [False, True])
def test_a_sweep_of_standardised_features_is_each_alone(with_bank: bool) -> None:
    queries, bank = store(0, 40), store(1, 60)
    among = bank if with_bank else queries
    assert among.labels is not None
    swept = sweep(queries, bank if with_bank else None, ks=[8], scale="standardised")
    for column, found in swept:
        alone = knn(
            *standardise(queries.read(*column), among.read(*column)),
            torch.tensor(among.labels),
            k=8,
            leave_one_out=not with_bank,
        )
        assert found[0, 0].tolist() == alone.tolist()
    constant = Features.of({("norm", "cls"): torch.ones(9, 2)}, labels=[0, 1, 2] * 3, classes="abc")
    assert not list(sweep(constant, ks=[2], scale="standardised"))


def test_a_sweep_refuses_what_cannot_be_compared() -> None:
    queries = store(0, 40)
    for bank, said in (
        (
            store(1, 60, key={"weights": "v", "transform": {}}),
            r"The bank's features are of another model \(m and m\)",
        ),
        (store(1, 60, key={"weights": "w", "transform": {"crop": 1}}), "of images seen otherwise"),
        (store(1, 60, classes=("a", "b", "d")), 'The bank has no image of the class "c"'),
        (store(1, 60, labels=None), "The images have no classes"),
        (
            store(1, 60, columns={("blocks.0", "cls"): 12, ("blocks.0", "mean"): 12}),
            'have no tap "norm"',
        ),
    ):
        with pytest.raises(InputError, match=said):
            list(sweep(queries, bank))
    with pytest.raises(InputError, match="41 neighbours cannot be chosen among 39 images"):
        list(sweep(queries, ks=[1, 41]))


def test_identical_images_are_ordered_by_row() -> None:
    rows, cosines = neighbours(torch.ones(3, 5), torch.ones(50, 5), 7)
    assert rows.tolist() == [list(range(7))] * 3
    torch.testing.assert_close(cosines, torch.ones(3, 7))
    assert neighbours(torch.ones(3, 5), torch.ones(3, 5), 2, leave_one_out=True)[0].tolist() == [
        [1, 2],
        [0, 2],
        [0, 1],
    ]


def test_scale_and_precision_of_features_do_not_matter() -> None:
    bank, queries = drawn(0, 60), drawn(1, 20)
    expected = neighbours(queries, bank, 5)[0]
    scales = 10.0 ** torch.linspace(-6, 6, 60)[:, None]
    assert torch.equal(neighbours(queries * 1e-5, bank * scales, 5)[0], expected)
    assert torch.equal(neighbours(queries.double(), bank.double(), 5)[0], expected)


@pytest.mark.parametrize(
    ("k", "leave_one_out", "most"), [(0, False, 6), (7, False, 6), (6, True, 5), (-1, False, 6)]
)
def test_a_number_of_neighbours_that_cannot_be_chosen_is_refused(
    k: int, leave_one_out: bool, most: int
) -> None:
    bank = drawn(0, 6)
    with pytest.raises(
        InputError,
        match=f"{k} neighbours cannot be chosen among {most} images: give k between 1 and {most}",
    ):
        neighbours(bank, bank, k, leave_one_out=leave_one_out)


@pytest.mark.parametrize(("which", "value"), [("queries", float("nan")), ("bank", float("inf"))])
def test_broken_features_are_refused(which: str, value: float) -> None:
    given = {"queries": drawn(0, 6), "bank": drawn(1, 6)}
    given[which][2, 3] = value
    with pytest.raises(
        InputError, match=f"features of the {which} hold values that are not finite"
    ):
        knn(given["queries"], given["bank"], torch.zeros(6, dtype=torch.int64), k=2)


@pytest.mark.parametrize(
    ("correct", "count"),
    [(0, 1), (1, 1), (0, 20), (20, 20), (3, 7), (8, 10), (731, 1024), (9999, 10000)],
)
def test_wilson_is_scipys(correct: int, count: int) -> None:
    expected = binomtest(correct, count).proportion_ci(0.95, method="wilson")
    assert wilson(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_no_queries_have_no_neighbours() -> None:
    assert [tuple(found.shape) for found in neighbours(drawn(0, 0), drawn(1, 20), 7)] == [
        (0, 7),
        (0, 7),
    ]


def test_both_libraries_products_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = drawn(0, 300), drawn(1, 50)
    found = []
    for numpys in (True, False):
        monkeypatch.setattr(nearest, "_gains_by_numpy", lambda numpys=numpys: numpys)
        found.append(neighbours(queries, bank, 7))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-6)


def test_a_product_off_the_cpu_is_torchs_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_gains_by_numpy", lambda: True)
    x, out = torch.empty(2, 3, device="meta"), torch.empty(2, 2, device="meta")
    assert nearest._mm(x, x.T, out) is out
