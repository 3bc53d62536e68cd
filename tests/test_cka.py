"""Minibatch CKA against the paper's equation in float64, what may be compared, and its bootstrap
interval."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

import sslens
from sslens.capture import Grams
from sslens.errors import InputError
from sslens.measures import cka
from sslens.measures.cka import (
    Comparison,
    all_pairs,
    hsic1,
    list_constant_taps,
    minibatch_cka,
    pack,
    require_same_images,
    u_centre,
)
from sslens.plan import Plan


def features(seed: int, dims: Sequence[int], n: int = 64, mixed: float = 0.7) -> list[torch.Tensor]:
    """Features that share a part over images, so that CKA lies well inside (0, 1)."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).standard_normal((n, 6))
    made = [
        mixed * shared @ rng.standard_normal((6, d)) + rng.standard_normal((n, d)) for d in dims
    ]
    return [torch.from_numpy(x).float() for x in made]


def sizes(*lengths: int) -> np.ndarray:
    return np.array(lengths, dtype=np.int64)


def reference_hsic1(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 3 as it stands, on uncentred float64 features."""
    n = len(x)
    K, L = x @ x.T, y @ y.T
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    one = np.ones(n)
    trace = np.trace(K @ L)
    product = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return float((trace + product - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3)))


def reference_cka(
    xs: Sequence[torch.Tensor], ys: Sequence[torch.Tensor], lengths: Sequence[int]
) -> np.ndarray:
    """Equation 2: numerators and denominators are averaged over minibatches before they are
    divided."""
    ends = np.cumsum(lengths)
    parts = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]

    def mean(x: torch.Tensor, y: torch.Tensor) -> float:
        a, b = x.double().numpy(), y.double().numpy()
        return float(np.mean([reference_hsic1(a[part], b[part]) for part in parts]))

    return np.array([[mean(x, y) / np.sqrt(mean(x, x) * mean(y, y)) for y in ys] for x in xs])


@pytest.mark.parametrize(
    "lengths", [(64,), (32, 32), (16, 16, 16, 16), (30, 30, 4), (25, 39)], ids=str
)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_cka_agrees_with_the_papers_equation_in_float64(
    lengths: tuple[int, ...], offset: float
) -> None:
    xs, ys = (
        [x + offset for x in features(seed, dims)]
        for seed, dims in ((0, (20, 50)), (1, (30, 8, 100)))
    )
    found = minibatch_cka(*(Grams.of_features(f, sizes=sizes(*lengths)) for f in (xs, ys)))
    expected = reference_cka(xs, ys, lengths)
    assert found.shape == (2, 3)
    assert 0.1 < expected.min() < expected.max() < 0.95  # neither end would show an error
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_mean_of_ratios_is_another_number() -> None:
    """The reference above can tell the papers' average from the wrong one."""
    xs, ys = features(0, (20,)), features(1, (30,))
    lengths = (25, 25, 10, 4)
    starts = np.cumsum((0, *lengths))
    ratios = [
        reference_cka([xs[0][a:b]], [ys[0][a:b]], [b - a])[0, 0]
        for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    found = minibatch_cka(*(Grams.of_features(f, sizes=sizes(*lengths)) for f in (xs, ys)))
    assert abs(found[0, 0] - np.mean(ratios)) > 1e-3


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_tiny_features_give_the_same_cka(offset: float) -> None:
    xs, ys = ([1e-4 * (x + offset) for x in features(seed, (24, 40))] for seed in (0, 1))
    lengths = (32, 32)
    found = minibatch_cka(*(Grams.of_features(f, sizes=sizes(*lengths)) for f in (xs, ys)))
    np.testing.assert_allclose(found, reference_cka(xs, ys, lengths), rtol=0, atol=1e-6)
    own = Grams.of_features(xs, sizes=sizes(*lengths))
    np.testing.assert_allclose(minibatch_cka(own, own).diagonal(), 1, rtol=0, atol=1e-12)


def test_cka_agrees_with_pytorch_cka() -> None:
    cka = pytest.importorskip("cka", reason="pytorch-cka is not installed")
    # images of very unequal norm: among equal ones each row of a Gram without its diagonal has
    # nearly the same sum, and an error in the terms of rows or columns would not be seen
    norms = torch.from_numpy(np.exp(np.random.default_rng(2).standard_normal((48, 1)))).float()
    xs, ys = (
        [norms * x for x in features(s, d, n=48)] for s, d in ((0, (20, 50)), (1, (30, 8, 100)))
    )
    theirs = cka.cka_from_features(xs, ys).double().numpy()
    found = minibatch_cka(Grams.of_features(xs), Grams.of_features(ys))
    assert theirs.min() > 0.1  # it clips below 0
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)


def test_hsic1_of_independent_features_is_zero_in_the_mean_and_keeps_its_sign() -> None:
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.standard_normal((400, 10, 5))) for _ in range(2))
    found = hsic1(x @ x.mT, y @ y.mT).numpy()
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))
    assert 0.3 < (found < 0).mean() < 0.7
    ckas = np.concatenate(
        [
            minibatch_cka(Grams.of_features([a.float()]), Grams.of_features([b.float()])).ravel()
            for a, b in zip(x, y, strict=True)
        ]
    )
    assert abs(ckas.mean()) < 3 * ckas.std() / np.sqrt(len(ckas))
    assert (ckas < 0).any()


def test_u_centred_grams_sum_to_zero_and_do_not_see_the_diagonal() -> None:
    k = torch.randn(3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k = k + k.mT
    centred = u_centre(k)
    assert centred.sum(-1).abs().max() < 1e-13
    assert centred.diagonal(dim1=-2, dim2=-1).abs().max() == 0
    torch.testing.assert_close(u_centre(k + torch.diag(torch.arange(9.0))), centred)


def test_u_centring_is_the_equation_entry_by_entry() -> None:
    """Székely & Rizzo (2014), eq. 2.6, in plain Python, for a matrix with rows unlike columns."""
    n = 6
    a = np.random.default_rng(0).standard_normal((n, n))
    off = [(i, j) for i in range(n) for j in range(n) if i != j]
    total = sum(a[pair] for pair in off)
    expected = np.zeros((n, n))
    for i, j in off:
        row = sum(a[i, m] for m in range(n) if m != i)
        column = sum(a[m, j] for m in range(n) if m != j)
        expected[i, j] = a[i, j] - (row + column) / (n - 2) + total / ((n - 1) * (n - 2))
    np.testing.assert_allclose(u_centre(torch.from_numpy(a)).numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_than_four_images_are_refused(n: int) -> None:
    with pytest.raises(InputError, match=f"HSIC_1 of {n} images is undefined"):
        u_centre(torch.zeros(n, n))
    with pytest.raises(InputError, match="4 or more"):
        minibatch_cka(*[Grams.of_features([torch.randn(n, 5)])] * 2)


def test_a_short_minibatch_is_refused_also_among_long_ones() -> None:
    made = Grams.of_features(features(0, (8,), n=35), sizes=sizes(32, 3))
    with pytest.raises(InputError, match="HSIC_1 of 3 images"):
        minibatch_cka(made, made)


@pytest.mark.parametrize("together", [1, 5, 100])
def test_all_pairs_of_many_models_are_those_of_each(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(cka, "TAPS", together)
    made = [
        Grams.of_features(features(seed, dims), sizes=sizes(32, 32))
        for seed, dims in enumerate([(9, 8), (5,), (7, 6, 4)])
    ]
    found = all_pairs(made)
    assert list(found) == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    for (i, j), value in found.items():
        np.testing.assert_allclose(value, minibatch_cka(made[i], made[j]), rtol=0, atol=1e-13)
    other = Grams.of_features(features(3, (9,)), sizes=sizes(24, 40))
    with pytest.raises(InputError, match="minibatches differ"):
        all_pairs([*made, other])


def test_what_is_packed_are_the_entries_above_the_diagonal() -> None:
    """Their inner products are HSIC_1, of short minibatches too."""
    made, other = (
        Grams.of_features(features(seed, (12, 5), n=26), sizes=sizes(20, 6)) for seed in (0, 1)
    )
    a, b = pack(made), pack(other)
    assert a.shape == (2, 2, 190)
    for batch, n in enumerate((20, 6)):
        assert (a[:, batch, n * (n - 1) // 2 :] == 0).all()
        for i, j in ((0, 1), (1, 1)):
            k, l = (  # noqa: E741
                side.blocks[row, batch, :n, :n] for side, row in ((made, i), (other, j))
            )
            assert (a[i, batch] @ b[j, batch]).item() == pytest.approx(
                hsic1(k, l).item(), rel=1e-6, abs=1e-6
            )


# ------------------------------------------------------------------------------------------------
# what is paired


def keyed(artefact: Grams, name: str, **key: object) -> Grams:
    return replace(artefact, model=name, key={**artefact.key, **key})


def test_other_ids_are_refused_by_name() -> None:
    xs = features(0, (8,), n=6)
    a = keyed(
        Grams.of_features(xs, ids=["cat/0", "cat/1", "cat/2", "dog/0", "dog/1", "dog/2"]), "mae"
    )
    b = keyed(
        Grams.of_features(xs, ids=["cat/0", "cat/1", "cat/2", "dog/0", "dog/1", "dog/9"]), "moco"
    )
    with pytest.raises(
        InputError,
        match=(
            r"mae and moco cannot be compared: 2 ids differ, first dog/2, which only mae has seen"
        ),
    ):
        minibatch_cka(a, b)
    with pytest.raises(InputError, match="first dog/2, which only mae has seen"):
        minibatch_cka(b, a)


def test_other_minibatches_are_refused() -> None:
    xs = features(0, (8,), n=16)
    a, b = (Grams.of_features(xs, sizes=sizes(*lengths)) for lengths in ((8, 8), (6, 10)))
    with pytest.raises(InputError, match="the images are the same, but their minibatches differ"):
        minibatch_cka(a, b)
    ids = [str(i) for i in range(16)]
    with pytest.raises(InputError, match="minibatches differ"):  # the same sizes, another order
        require_same_images(Grams.of_features(xs, ids=ids), Grams.of_features(xs, ids=ids[::-1]))


def test_other_contents_under_the_same_ids_are_refused() -> None:
    model = sslens.load("pixels")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[3, 0, 0, 0] ^= 1
    a, b = (sslens.grams(model, sslens.open_images(array)) for array in (pixels, changed))
    assert a.ids == b.ids
    with pytest.raises(
        InputError, match="the ids are the same, but the contents or labels of the images differ"
    ):
        minibatch_cka(a, b)


# ------------------------------------------------------------------------------------------------
# undefined values


@pytest.mark.parametrize("scale", [1.0, 1e-4, 30.0])
def test_constant_features_are_undefined_and_named(scale: float) -> None:
    xs = features(0, (20, 30))
    constant = (
        torch.from_numpy(np.random.default_rng(5).standard_normal((1, 25))).float().expand(64, 25)
        * scale
    )
    rounding = constant * (
        1 + 1e-7 * torch.randn(64, 25, generator=torch.Generator().manual_seed(0))
    )
    made = Grams.of_features(
        [xs[0] * scale, constant, rounding, torch.zeros(64, 9), xs[1] * scale], sizes=sizes(32, 32)
    )
    assert list_constant_taps(made) == ["1", "2", "3"]
    value = minibatch_cka(made, made)
    low, high = Comparison.of(made, made).interval()
    for array in (value, low, high):
        assert np.isnan(array[[1, 2, 3]]).all()
        assert np.isnan(array[:, [1, 2, 3]]).all()
        assert np.isfinite(array[np.ix_([0, 4], [0, 4])]).all()


def test_little_variation_is_still_variation() -> None:
    x = features(0, (20,))[0]
    made = Grams.of_features([30 + 0.01 * x])
    assert list_constant_taps(made) == []
    assert minibatch_cka(made, Grams.of_features([x]))[0, 0] == pytest.approx(1, abs=1e-4)


def test_cls_token_before_the_first_attention_is_undefined() -> None:
    model = sslens.load("random:vit_nano_patch8_32")
    images = sslens.open_images("scenes:3:36")
    cls = sslens.grams(model, images, tokens="cls")
    assert list_constant_taps(cls) == ["blocks.0.norm1", "blocks.0.attn.qkv"]
    value = minibatch_cka(cls, cls)
    assert np.isnan(value[:2]).all()
    assert np.isnan(value[:, :2]).all()
    np.testing.assert_allclose(value.diagonal()[2:], 1, rtol=0, atol=1e-12)
    assert list_constant_taps(sslens.grams(model, images)) == []


# ------------------------------------------------------------------------------------------------
# invariance


def orthogonal(rng: np.random.Generator, dim: int) -> torch.Tensor:
    return torch.from_numpy(np.linalg.qr(rng.standard_normal((dim, dim)))[0])


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), log_scale=st.floats(-4, 4), short=st.integers(4, 20))
def test_cka_is_symmetric_and_invariant_to_rotation_scale_and_translation(
    seed: int, log_scale: float, short: int
) -> None:
    rng = np.random.default_rng(seed)
    lengths = sizes(20, short)
    xs, ys = features(seed, (12, 7), n=20 + short), features(seed + 1, (9, 15, 4), n=20 + short)
    a, b = Grams.of_features(xs, sizes=lengths), Grams.of_features(ys, sizes=lengths)
    value = minibatch_cka(a, b)
    np.testing.assert_allclose(minibatch_cka(b, a), value.T, rtol=0, atol=1e-14)
    np.testing.assert_allclose(minibatch_cka(a, a).diagonal(), 1, rtol=0, atol=1e-12)
    assert np.abs(value).max() <= 1 + 1e-12
    moved = [
        (10**log_scale * (x.double() @ orthogonal(rng, x.shape[1]) + rng.standard_normal())).float()
        for x in xs
    ]
    np.testing.assert_allclose(
        minibatch_cka(Grams.of_features(moved, sizes=lengths), b), value, rtol=0, atol=2e-6
    )


def test_another_order_of_images_within_a_minibatch_changes_nothing_when_both_have_it() -> None:
    xs, ys = features(0, (12,), n=20), features(1, (9,), n=20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    value = minibatch_cka(Grams.of_features(xs), Grams.of_features(ys))
    turned = minibatch_cka(*(Grams.of_features([x[order] for x in f]) for f in (xs, ys)))
    np.testing.assert_allclose(turned, value, rtol=0, atol=1e-7)
    only_one = minibatch_cka(Grams.of_features([x[order] for x in xs]), Grams.of_features(ys))
    assert abs(only_one[0, 0] - value[0, 0]) > 0.05


def test_padding_of_a_short_minibatch_is_never_read() -> None:
    made = Grams.of_features(features(0, (12,), n=26), sizes=sizes(20, 6))
    value = minibatch_cka(made, made)
    grams = made.blocks.clone()
    grams[:, 1, 6:], grams[:, 1, :, 6:] = 0, 0
    assert torch.equal(grams, made.blocks)
    rows = pack(made)
    own = rows.square().sum(-1)[0]
    x = made.blocks[0, 1, :6, :6]
    assert own[1].item() == pytest.approx(hsic1(x, x).item(), rel=1e-12)
    assert value[0, 0] == pytest.approx(1, abs=1e-12)


# ------------------------------------------------------------------------------------------------
# interval


def compared(batches: int, seed: int = 0, per: int = 8) -> Comparison:
    n = batches * per
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 6))
    x, y = (torch.from_numpy(shared + rng.standard_normal((n, 6))).float() for _ in range(2))
    lengths = np.full(batches, per)
    return Comparison.of(
        Grams.of_features([x], sizes=lengths), Grams.of_features([y], sizes=lengths)
    )


def ends(comparison: Comparison, **options: float) -> tuple[float, float]:
    low, high = comparison.interval(**options)
    return float(low[0, 0]), float(high[0, 0])


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_interval_is_that_of_the_jackknife_by_hand(level: float) -> None:
    """CKA without each minibatch in turn, and t of nearly as many degrees as there are minibatches
    less one."""
    made = compared(12)
    weights = torch.ones(12, 12, dtype=torch.float64).fill_diagonal_(0)
    values = np.array([made.cka(row)[0, 0] for row in weights])
    error = (11 / 12 * ((values - values.mean()) ** 2).sum()) ** 0.5
    low, high = ends(made, level=level)
    middle = float(made.cka()[0, 0])
    assert (low + high) / 2 == pytest.approx(middle, abs=1e-12)
    far = (high - middle) / error
    assert t.ppf((1 + level) / 2, 11) <= far < t.ppf((1 + level) / 2, 7)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(InputError, match=f"between 0 and 1, and {level:g} does not"):
        compared(6).interval(level=level)


def test_interval_contains_the_estimate() -> None:
    made = compared(16)
    low, high = ends(made)
    assert low < made.cka()[0, 0] < high
    assert ends(made) == (low, high)
    assert ends(made, level=0.5)[0] > low


def test_interval_is_narrower_with_more_minibatches() -> None:
    few, many = (
        np.median([high - low for low, high in (ends(compared(b, s)) for s in range(6))])
        for b in (6, 96)
    )
    assert many < 0.45 * few  # √(6/96) = 0.25


def test_interval_of_one_minibatch_is_undefined() -> None:
    made = compared(1, per=16)
    assert np.isfinite(made.cka()).all()
    assert np.isnan(ends(made)).all()


def test_interval_covers_the_limit_about_as_often_as_it_says() -> None:
    limit = compared(1500, seed=1234).cka()[0, 0]
    covered = [low <= limit <= high for low, high in (ends(compared(24, s)) for s in range(80))]
    assert 0.82 <= np.mean(covered) <= 0.99


def test_a_plan_of_short_batches_is_measured() -> None:
    """66 images are minibatches of 32 and 34: the last two join the one before, and CKA is still
    that of the equation."""
    lengths = Plan.draw([str(i) for i in range(66)]).sizes
    xs, ys = features(0, (12,), n=66), features(1, (9,), n=66)
    found = minibatch_cka(*(Grams.of_features(f, sizes=sizes(*lengths)) for f in (xs, ys)))
    np.testing.assert_allclose(found, reference_cka(xs, ys, lengths), rtol=0, atol=1e-6)
