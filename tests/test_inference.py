"""The permutation null and the paired bootstrap of CKA, by brute force, by hand, and by how often
they are wrong."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import t

from sslens.capture import Grams
from sslens.comparisons.compared import Pair
from sslens.comparisons.nulls import (
    average_same_depth,
    compute_null,
    compute_nulls,
    match_depths,
    permute_entries,
)
from sslens.errors import InputError
from sslens.measures.cka import Comparison, minibatch_cka
from sslens.models.taps import Tap
from sslens.statistics.sampled import Sampled, average, combine


def related(seed: int, dims: Sequence[int], n: int, shared: float = 0.7) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    latent = np.random.default_rng(99).standard_normal((n, 6))
    made = [
        shared * latent @ rng.standard_normal((6, d)) + rng.standard_normal((n, d)) for d in dims
    ]
    return [torch.from_numpy(x).float() for x in made]


def grams(xs: Sequence[torch.Tensor], *lengths: int) -> Grams:
    return Grams.of_features(xs, sizes=np.array(lengths, dtype=np.int64))


# ------------------------------------------------------------------------------------------------
# null


def turned(
    xs: Sequence[torch.Tensor], lengths: Sequence[int], rng: np.random.Generator
) -> list[torch.Tensor]:
    """Features with the images of each minibatch in another order, the same at all taps."""
    starts = np.cumsum([0, *lengths[:-1]])
    order = np.concatenate(
        [start + rng.permutation(n) for start, n in zip(starts, lengths, strict=True)]
    )
    return [x[torch.from_numpy(order)] for x in xs]


def test_the_null_is_the_largest_cell_of_features_in_another_order() -> None:
    """By brute force on features: the distribution of the largest cell, hence the threshold and p,
    is the same."""
    lengths = (8, 8, 5)
    xs, ys = related(0, (12, 5), 21, 0.35), related(1, (9, 7, 4), 21, 0.35)
    a, b = grams(xs, *lengths), grams(ys, *lengths)
    rng = np.random.default_rng(5)
    top = np.array(
        [minibatch_cka(a, grams(turned(ys, lengths, rng), *lengths)).max() for _ in range(200)]
    )
    null = compute_null(a, b, permutations=2000)
    value = minibatch_cka(a, b)
    expected = (top[:, None, None] >= value).mean(0)
    assert 0.05 < expected.mean() < 0.95  # neither end would show an error
    assert np.abs(null.p - expected).max() < 4 * np.sqrt(0.25 / 200 + 0.25 / 2000)
    assert abs((top > null.threshold).mean() - 0.05) < 4 * np.sqrt(
        0.05 * 0.95 * (1 / 200 + 1 / 2000)
    )


@pytest.mark.parametrize("itself", [False, True], ids=["two models", "a model and itself"])
def test_the_null_takes_all_orders_of_four_images(itself: bool) -> None:
    """Four images have 24 orders, and CKA one value for each four of them: p is counted, and
    rounding may not lose a tie."""
    a = Grams.of_features(related(0, (6,), 4))
    ys = related(0 if itself else 7, (6,), 4)
    value = minibatch_cka(a, Grams.of_features(ys))[0, 0]
    orders = [list(order) for order in itertools.permutations(range(4))]
    every = np.array(
        [minibatch_cka(a, Grams.of_features([ys[0][order]]))[0, 0] for order in orders]
    )
    expected = (every >= value - 1e-6).mean()
    assert expected == (4 if itself else 12) / 24
    found = compute_null(a, Grams.of_features(ys), permutations=4000).p[0, 0]
    assert found == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 4000))


def test_entries_are_moved_as_rows_and_columns_are() -> None:
    lengths = np.array([5, 3, 5])
    seed = 7
    moved = permute_entries(lengths, np.random.default_rng(seed)).view(3, 10)
    assert torch.equal(
        moved[1, 3:], torch.arange(13, 20)
    )  # three images have three pairs; the rest is padding
    for batch, n in ((0, 5), (1, 3), (2, 5)):
        i, j = np.triu_indices(n, 1)
        pairs = list(zip(i.tolist(), j.tolist(), strict=True))
        got = [pairs[k] for k in (moved[batch, : len(pairs)] - 10 * batch).tolist()]
        maps = [
            order
            for order in itertools.permutations(range(n))
            if got == [tuple(sorted((order[x], order[y]))) for x, y in pairs]
        ]
        assert len(maps) == 1


@pytest.mark.slow
def test_unrelated_models_pass_the_threshold_as_rarely_as_it_says() -> None:
    """Of 150 pairs of independent models, any of 5 × 5 correlated cells is above it in 5 %: within
    binomial error."""
    wrong, uncorrected = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        base = [rng.standard_normal((32, 6)) for _ in "ab"]
        taps = [
            [torch.from_numpy(x + 0.8 * rng.standard_normal(x.shape)).float() for _ in range(5)]
            for x in base
        ]
        a, b = (grams(each, 16, 16) for each in taps)
        null = compute_null(a, b, permutations=39, seed=seed)
        value = minibatch_cka(a, b)
        assert ((null.p <= 0.05) == (value > null.threshold)).all()
        wrong.append((null.p <= 0.05).any())
        alone = (
            [
                compute_null(grams([x], 16, 16), grams([y], 16, 16), permutations=19, seed=seed).p[
                    0, 0
                ]
                for x, y in zip(*taps, strict=True)
            ]
            if seed < 30
            else []
        )
        uncorrected += [min(alone) <= 0.05] if alone else []
    error = np.sqrt(0.05 * 0.95 / 150)
    assert 0.05 - 3 * error < np.mean(wrong) < 0.05 + 3 * error
    assert (
        np.mean(uncorrected) > np.mean(wrong) + 0.03
    )  # cell by cell, some cell passes far more often


def test_related_models_are_found_and_undefined_cells_stay_out() -> None:
    xs, ys = related(0, (12, 9), 64), related(1, (10,), 64)
    constant = torch.ones(64, 3)
    a, b = grams([xs[0], constant, xs[1]], 32, 32), grams([constant, *ys], 32, 32)
    null = compute_null(a, b, permutations=99)
    assert null.p[[0, 2], 1].tolist() == [0.01, 0.01]
    assert np.isnan(null.p[1]).all()
    assert np.isnan(null.p[:, 0]).all()
    without = compute_null(grams(xs, 32, 32), grams(ys, 32, 32), permutations=99)
    assert null.threshold == without.threshold
    assert 0 < null.threshold < minibatch_cka(a, b)[0, 1]
    nothing = compute_null(grams([constant], 32, 32), b)
    assert np.isnan(nothing.p).all()
    assert np.isnan(nothing.threshold)


def test_the_null_is_reproducible_by_seed() -> None:
    a, b = grams(related(0, (12, 9), 32, 0.2), 16, 16), grams(related(1, (10,), 32, 0.2), 16, 16)
    one, again, other = (compute_null(a, b, permutations=99, seed=seed) for seed in (0, 0, 1))
    assert one.threshold == again.threshold != other.threshold
    assert (one.p == again.p).all()


def test_the_nulls_of_many_models_are_those_of_each_pair() -> None:
    constant = torch.ones(32, 3)
    given = [
        related(0, (12, 9), 32, 0.2),
        [constant],
        [constant, *related(1, (10,), 32, 0.2)],
        related(2, (5, 6, 7), 32, 0.2),
    ]
    models = [grams(xs, 18, 14) for xs in given]
    found = compute_nulls(models, permutations=99, seed=3)
    assert list(found) == list(itertools.combinations(range(4), 2))
    for (i, j), null in found.items():
        alone = compute_null(models[i], models[j], permutations=99, seed=3)
        np.testing.assert_array_equal(null.p, alone.p)
        np.testing.assert_allclose(null.threshold, alone.threshold, rtol=0, atol=1e-6)
    assert np.isnan(found[0, 1].threshold)
    assert len(np.unique(found[0, 3].p)) > 1


def test_few_permutations_and_other_images_are_refused() -> None:
    a = grams(related(0, (12,), 32), 16, 16)
    with pytest.raises(InputError, match="18 permutations are too few"):
        compute_null(a, a, permutations=18)
    with pytest.raises(InputError, match="minibatches differ"):
        compute_null(a, grams(related(0, (12,), 32), 20, 12))


# ------------------------------------------------------------------------------------------------
# bootstrap


def four(batches: int = 24, seed: int = 0, shared: tuple[float, float] = (0.9, 0.5)) -> list[Grams]:
    """Four models of the same images in minibatches of 8: c is like a and d like b, but for noise
    and how much is shared."""
    n = 8 * batches
    easy = np.repeat(np.random.default_rng(seed + 500).choice([0.3, 1.5], batches), 8)[
        :, None
    ]  # a minibatch's own
    latent = easy * np.random.default_rng(seed + 1000).standard_normal((n, 5))
    made = []
    for number, part in enumerate((shared[0], shared[0], shared[1], shared[1])):
        mixed, rng = np.random.default_rng(number % 2), np.random.default_rng(10 * seed + number)
        xs = [
            part * latent @ mixed.standard_normal((5, 20)) + rng.standard_normal((n, 20))
            for _ in range(3)
        ]
        made.append(grams([torch.from_numpy(x).float() for x in xs], *[8] * batches))
    return made


def test_the_values_left_out_are_cka_of_the_other_minibatches() -> None:
    """By brute force: features without a minibatch."""
    xs, ys = related(0, (6, 4), 40), related(1, (5,), 40)
    compared = Comparison.of(grams(xs, *[8] * 5), grams(ys, *[8] * 5))
    sampled = Sampled.of(compared)
    assert sampled.value.shape == (2, 1)
    for k in range(5):
        rows = torch.cat([torch.arange(8 * b, 8 * b + 8) for b in range(5) if b != k])
        again = minibatch_cka(*(grams([x[rows] for x in each], *[8] * 4) for each in (xs, ys)))
        np.testing.assert_allclose(sampled.left_out[..., k], again, rtol=0, atol=1e-6)
    chosen = Sampled.of(compared, [(1, 0)])
    np.testing.assert_allclose(chosen.left_out, sampled.left_out[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(sampled.share.sum(-1), 1, rtol=1e-12)


def test_a_difference_by_hand() -> None:
    """Without each of five minibatches: 0.3, 0.1, 0.2, −0.1, 0.5, mean 0.2, squares 0.2."""
    share = np.full((1, 5), 0.2)
    one = Sampled(np.array([0.6]), np.array([[0.7, 0.5, 0.6, 0.4, 0.8]]), share)
    other = Sampled(np.array([0.4]), np.array([[0.4, 0.4, 0.4, 0.5, 0.3]]), share)
    found = (one - other).estimate()
    assert found.value.tolist() == pytest.approx([0.2])
    error = (4 / 5 * 0.2) ** 0.5  # 0.4, with four degrees of freedom
    assert found.low.tolist() == pytest.approx([0.2 - 2.776445 * error], abs=1e-6)
    assert found.high.tolist() == pytest.approx([0.2 + 2.776445 * error], abs=1e-6)
    assert found.p.tolist() == pytest.approx([2 * t.sf(0.5, 4)], abs=1e-9)
    nothing = (one - one).estimate()
    assert [end.tolist() for end in nothing[:3]] == [[0.0], [0.0], [0.0]]
    assert np.isnan(nothing.p).all()  # an interval of no width decides nothing


def test_a_function_of_values_is_taken_without_each_minibatch_too() -> None:
    a, b, c, _ = four(8)
    c = replace(c, taps=c.taps[:1], blocks=c.blocks[:1], energy=c.energy[:1])
    xy, xz, zy = (Sampled.of(Comparison.of(*two)) for two in ((a, b), (a, c), (c, b)))
    found = combine(lambda x, y, z: x - y * z, xy, xz, zy)
    assert found.value == pytest.approx(xy.value - xz.value * zy.value)
    expected = xy.left_out[1, 2, 5] - xz.left_out[1, 0, 5] * zy.left_out[0, 2, 5]
    assert found.left_out[1, 2, 5] == pytest.approx(expected)
    np.testing.assert_allclose(found.share.sum(-1), 1)


def test_a_paired_interval_is_narrower_than_an_unpaired_one() -> None:
    """Minibatches differ in how much is shared in them; what all models have in common cancels in a
    paired difference."""
    ratios = []
    for seed in range(5):
        a, b, c, d = four(seed=seed, shared=(0.9, 0.8))
        one, other = (
            Sampled.of(Comparison.of(*pair), match_depths(*pair)).mean()
            for pair in ((a, b), (c, d))
        )
        turned = other.left_out[np.random.default_rng(seed).permutation(one.batches)]
        unpaired = Sampled(one.value, one.left_out - turned, one.share)
        widths = [float(np.subtract(*each.interval()[::-1])) for each in (one - other, unpaired)]
        ratios.append(widths[0] / widths[1])
    assert np.median(ratios) < 0.6


@pytest.mark.slow
def test_the_paired_interval_finds_a_difference_that_is_there_and_seldom_one_that_is_not() -> None:
    there, absent = [], []
    for seed in range(40):
        if seed < 15:
            a, b, c, d = four(seed=seed)
            there.append((average_same_depth(a, b) - average_same_depth(c, d)).estimate())
        a, b, c, d = four(48, seed=seed, shared=(0.7, 0.7))
        absent.append((average_same_depth(a, b) - average_same_depth(c, d)).estimate())
    assert np.mean([each.low > 0 for each in there]) > 0.9
    assert np.mean([each.p <= 0.05 for each in there]) > 0.9
    apart = np.mean([each.low > 0 or each.high < 0 for each in absent])
    assert apart <= 0.07 + 3 * np.sqrt(
        0.07 * 0.93 / 40
    )  # of 300 seeds 7 %, where minibatches are so unequal


def unrelated(seed: int, taps: int) -> Sampled:
    """Paired differences of CKAs that are 0 in the limit, of taps that resemble each other, with
    the fewest minibatches judged."""
    source = torch.Generator().manual_seed(seed)
    base = [torch.randn(48, 4, generator=source) for _ in range(4)]
    made = [
        grams(
            [torch.cat([x, torch.randn(48, 3, generator=source)], 1) for _ in range(taps)], *[8] * 6
        )
        for x in base
    ]
    cells = [(i, i) for i in range(taps)]
    one, other = (Sampled.of(Comparison.of(a, b), cells) for a, b in (made[:2], made[2:]))
    return one - other


def test_intervals_of_few_minibatches_are_seldom_wrong() -> None:
    wrong, small = [], []
    for seed in range(200):
        difference = unrelated(seed, 1)
        low, high = difference.interval()
        wrong.append(((low > 0) | (high < 0)).any())
        small.append(difference.p()[0] <= 0.05)
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert small == wrong  # p is under 0.05 where the interval leaves out 0


@pytest.mark.slow
def test_intervals_that_hold_at_once_are_seldom_wrong() -> None:
    wrong, plain = [], []
    for seed in range(120):
        difference = unrelated(seed, 6)
        low, high = difference.simultaneous_interval()
        wrong.append(((low > 0) | (high < 0)).any())
        low, high = difference.interval()
        plain.append(((low > 0) | (high < 0)).any())
    most = 0.06 + 2 * np.sqrt(0.06 * 0.94 / 120)
    assert np.mean(wrong) <= most < np.mean(plain)


def test_pairing_is_refused_where_minibatches_differ() -> None:
    a, b, c, _ = four()
    other, same = (Sampled.of(Comparison.of(*pair)) for pair in ((a, b), (a, c)))
    assert (other - same).value.shape == (3, 3)
    elsewhere = [replace(each, key={**each.key, "plan": "another"}) for each in (a, b)]
    for pair in (elsewhere, four(12)[:2]):
        apart = Sampled.of(Comparison.of(*pair))
        with pytest.raises(InputError, match="of the same images in the same minibatches"):
            same - apart
        with pytest.raises(InputError, match="one set of images with one seed"):
            average([same, apart])


def test_a_single_minibatch_has_values_and_no_inference() -> None:
    a, b = (Grams.of_features(related(seed, (6,), 16)) for seed in (0, 1))
    found = average_same_depth(a, b).estimate()
    assert found.value == pytest.approx(minibatch_cka(a, b)[0, 0])
    assert np.isnan([found.low, found.high, found.p]).all()
    assert np.isnan(average_same_depth(a, b).simultaneous_interval()).all()


def test_undefined_cells_stay_out_of_a_mean() -> None:
    xs, ys = related(0, (6, 5), 32), related(1, (4, 7), 32)
    a, b = (grams([x, torch.ones(32, 2), y], *[8] * 4) for x, y in (xs, ys))
    value = minibatch_cka(a, b)
    found = average_same_depth(a, b)
    assert found.value == pytest.approx((value[0, 0] + value[2, 2]) / 2, abs=1e-12)
    assert np.isfinite(found.left_out).all()
    everything = Sampled.of(Comparison.of(a, b))
    assert np.isnan(everything.left_out[1]).all()
    assert np.isnan(everything.p()[1]).all()


def test_taps_are_paired_at_the_nearest_relative_depth() -> None:
    a, b = grams(related(0, (3, 3, 3, 3), 16), 16), grams(related(1, (3, 3), 16), 16)
    a = replace(
        a, taps=tuple(Tap(str(i), "block", depth) for i, depth in enumerate((0.25, 0.5, 0.75, 1.0)))
    )
    b = replace(b, taps=tuple(Tap(str(i), "block", depth) for i, depth in enumerate((0.5, 1.0))))
    assert match_depths(a, b) == [(0, 0), (1, 0), (2, 0), (3, 1)]  # 0.75 lies between: the first
    assert match_depths(b, a) == [(0, 0), (0, 1), (0, 2), (1, 3)]


@pytest.mark.parametrize("blocks", [3, 6, 9, 12])
def test_of_equally_near_depths_the_earlier_one_is_taken(blocks: int) -> None:
    """Every other block of a model of twice as many lies in the middle of two: 5/24 of 2/12, 3/12,
    and in binary numbers nearer to either of them by chance."""
    a, b = (
        replace(
            grams(related(0, (2,) * count, 16), 8, 8),
            taps=tuple(Tap(str(i), "block", (i + 1) / count) for i in range(count)),
        )
        for count in (2 * blocks, blocks)
    )
    nearest = [max(0, (i + 1) // 2 - 1) for i in range(2 * blocks)]
    assert match_depths(a, b) == list(enumerate(nearest))
    grid, depths = (np.array([tap.depth for tap in one.taps]) for one in (a, b))
    every = list(itertools.product(range(blocks), repeat=2))
    cells = Sampled.of(Comparison.of(b, b), every)
    pair = Pair("b", "b", False, (b.taps, b.taps), cells, match_depths(b, b), depths)
    wanted = pair.same.value[nearest]
    np.testing.assert_array_equal(pair.at(grid).value, wanted)


def test_intervals_of_all_cells_at_once_are_wider_than_those_of_each() -> None:
    a, b, *_ = four()
    sampled = Sampled.of(Comparison.of(a, b))
    low, high = sampled.simultaneous_interval()
    each = sampled.interval()
    assert (high - low > each[1] - each[0]).mean() > 0.8
    one = sampled[0][np.array([1])]
    assert one.value.tolist() == [sampled.value[0, 1]]
    assert (np.subtract(*one.simultaneous_interval()) > np.subtract(low, high)[0, 1]).all()


def test_a_comparison_of_one_tap_with_one_has_an_interval() -> None:
    a, b = (grams(related(seed, (6,), 32), *[8] * 4) for seed in (0, 1))
    low, high = Comparison.of(a, b).interval()
    assert low < minibatch_cka(a, b) < high


def test_values_side_by_side() -> None:
    a, b, c, _ = four()
    parts = [Sampled.of(Comparison.of(a, other)).mean() for other in (b, c)]
    both = Sampled.stack(parts)
    assert both.value.tolist() == [float(part.value) for part in parts]
    assert both[1].value == parts[1].value
    assert average(parts).value == pytest.approx(both.value.mean())
    with pytest.raises(InputError, match="same images in the same minibatches"):
        Sampled.stack([parts[0], replace(parts[1], drawn=("other images", 24))])
