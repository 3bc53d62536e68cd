"""Measures: a contract for every file in measures/, and each measure but CKA against an independent
implementation."""

import gc
import inspect
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import scipy.stats
import torch

from sslens import find
from sslens.capture import Grams
from sslens.capture.grams import mask_undefined, require_same_images, vary_over_images
from sslens.errors import InputError
from sslens.find import names, plugin
from sslens.measures import (
    bures,
    debiased_cka,
    explain_lack,
    measure,
    neighbours,
    rsa,
    wants_pixels,
)
from sslens.measures.cka import pack

#: a measure that needs three Grams, which is there while these tests run
PARTIAL = "partial-cka"
EACH = pytest.mark.parametrize("name", [*names("measures"), PARTIAL])
LENGTHS = (24, 24, 9)


@pytest.fixture(autouse=True)
def partial(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """CKA of what the pixels' U-centred Gram leaves of both models' Grams."""

    def compute(a: Grams, b: Grams, pixels: Grams) -> np.ndarray:
        """What is alike beyond the pixels.

        >>> 1 + 1
        2
        """
        require_same_images(a, b)
        p = pack(pixels).flatten()
        left, right = (pack(side).flatten(1) for side in (a, b))
        left, right = (x - (x @ p)[:, None] * p / (p @ p) for x in (left, right))
        left, right = (x / x.norm(dim=1, keepdim=True) for x in (left, right))
        return mask_undefined((left @ right.T).numpy(), vary_over_images(a), vary_over_images(b))

    module = ModuleType("sslens.measures.partial_cka")
    compute.__module__ = module.__name__
    module.TITLE, module.RANGE, module.compute = "partial CKA", (-1.0, 1.0), compute  # type: ignore[attr-defined]
    module.INVARIANCES = ("orthogonal", "isotropic scaling", "translation")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    files = find.names
    monkeypatch.setattr(
        find, "names", lambda folder: (*files(folder), *([PARTIAL] * (folder == "measures")))
    )
    return module


def of(name: str, a: Grams, b: Grams, order: torch.Tensor | slice = slice(None)) -> np.ndarray:
    """A measure by its name, with pixels that share a part with the features."""
    (x,) = features(5, (12,), n=len(a.ids))
    pixels = Grams.of_features([x[order]], ids=a.ids, sizes=a.sizes.numpy())
    return measure(name, a, b, pixels)


def features(seed: int, dims: Sequence[int], n: int = sum(LENGTHS)) -> list[torch.Tensor]:
    """Features that share a part over images, of unequal variance, so that a measure lies well
    inside its range."""
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).standard_normal((n, 6))
    made = [
        (0.7 * shared @ rng.standard_normal((6, d)) + rng.standard_normal((n, d)))
        * rng.uniform(0.5, 2, d)
        for d in dims
    ]
    return [torch.from_numpy(x).float() for x in made]


def grams(xs: Sequence[torch.Tensor], lengths: Sequence[int] = LENGTHS) -> Grams:
    return Grams.of_features(xs, sizes=np.array(lengths, dtype=np.int64))


def parts(xs: Sequence[torch.Tensor], lengths: Sequence[int] = LENGTHS) -> list[list[np.ndarray]]:
    """Float64 features by minibatch, then by tap."""
    return [
        [x.double().numpy()[end - n : end] for x in xs]
        for n, end in zip(lengths, np.cumsum(lengths), strict=True)
    ]


def by_hand(
    one: Callable[[np.ndarray, np.ndarray], float],
    xs: Sequence[torch.Tensor],
    ys: Sequence[torch.Tensor],
) -> np.ndarray:
    """A measure of features of one minibatch, in a loop over taps, as the mean over minibatches."""
    return np.mean(
        [[[one(x, y) for y in b] for x in a] for a, b in zip(parts(xs), parts(ys), strict=True)],
        axis=0,
    )


# ------------------------------------------------------------------------------------------------
# contract


@EACH
def test_a_measure_is_documented_functions_of_arrays_with_an_example(name: str) -> None:
    module = plugin("measures", name)
    own = [
        f
        for _, f in inspect.getmembers(module, inspect.isfunction)
        if f.__module__ == module.__name__
    ]
    public = [f for f in own if not f.__name__.startswith("_")]
    assert public
    assert all(f.__doc__ for f in public)
    assert ">>>" in inspect.getdoc(module.compute)
    assert isinstance(module.TITLE, str)
    assert module.TITLE


@EACH
def test_values_of_all_pairs_of_taps_are_those_of_each_pair_and_in_range(name: str) -> None:
    module = plugin("measures", name)
    xs, ys = features(0, (20, 5)), features(1, (30, 4, 50))
    a, b = grams(xs), grams(ys)
    value = of(name, a, b)
    assert value.shape == (2, 3)
    assert value.dtype == np.float64
    single = [[of(name, grams([x]), grams([y])).item() for y in ys] for x in xs]
    np.testing.assert_allclose(value, single, rtol=0, atol=1e-12)
    low, high = module.RANGE
    assert low < value.min() < value.max() < high - 0.05
    np.testing.assert_allclose(of(name, b, a), value.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(of(name, a, a).diagonal(), high, rtol=0, atol=1e-9)


@EACH
def test_only_the_order_that_both_share_counts(name: str) -> None:
    """Images of one model in another order are other pairs: the value falls to that of unrelated
    features."""
    xs, ys = features(0, (20,), n=32), features(1, (30,), n=32)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    value = of(name, Grams.of_features(xs), Grams.of_features(ys))[0, 0]
    turned_both = (Grams.of_features([x[order]]) for x in (xs[0], ys[0]))
    both = of(name, *turned_both, order)[0, 0]
    assert both == pytest.approx(value, abs=1e-5)
    assert of(name, Grams.of_features([xs[0][order]]), Grams.of_features(ys))[0, 0] < value - 0.05


@EACH
def test_constant_taps_are_undefined(name: str) -> None:
    x, y = features(0, (20, 30))
    constant = x[:1].expand_as(x) * (
        1 + 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    )
    made = grams([x, constant, torch.zeros(len(x), 3), y])
    value = of(name, made, made)
    assert np.isnan(value[[1, 2]]).all()
    assert np.isnan(value[:, [1, 2]]).all()
    assert np.isfinite(value[np.ix_([0, 3], [0, 3])]).all()


@EACH
def test_other_images_and_too_few_are_refused(name: str) -> None:
    xs = features(0, (8,), n=12)
    with pytest.raises(InputError, match="cannot be compared: 2 ids differ, first 11"):
        of(name, Grams.of_features(xs), Grams.of_features(xs, ids=[*map(str, range(11)), "else"]))
    few = grams([x[:9] for x in xs], (8, 1))
    with pytest.raises(InputError, match=r"1 image.* so give minibatches of [234] or more"):
        of(name, few, few)


def changed(grams: Grams, change: Callable[[np.ndarray], np.ndarray]) -> Grams:
    """Grams of the same images at distances that are a function of what they were."""
    blocks = grams.blocks.double().numpy()
    new = np.zeros_like(blocks)
    for batch, n in enumerate(grams.sizes.tolist()):
        k = blocks[:, batch, :n, :n]
        own = k.diagonal(axis1=-2, axis2=-1)
        apart = change(np.maximum(own[:, :, None] + own[:, None, :] - 2 * k, 0))
        centre = np.eye(n) - 1 / n
        new[:, batch, :n, :n] = -centre @ apart @ centre / 2
    return replace(grams, blocks=torch.from_numpy(new).float())


def turned(x: torch.Tensor) -> torch.Tensor:
    rng = np.random.default_rng(x.shape[1])
    return (
        x.double() @ torch.from_numpy(np.linalg.qr(rng.standard_normal((x.shape[1],) * 2))[0])
    ).float()


#: what may be done to one of the models; the root of a squared Euclidean distance is one again
#: (Schoenberg, 1938)
DONE: dict[str, Callable[[Sequence[torch.Tensor]], Grams]] = {
    "orthogonal": lambda xs: grams([turned(x) for x in xs]),
    "isotropic scaling": lambda xs: grams([1e-3 * x for x in xs]),
    "translation": lambda xs: grams([x + torch.linspace(-5, 5, x.shape[1]) for x in xs]),
    "monotone in distance": lambda xs: changed(grams(xs), np.sqrt),
    "invertible linear": lambda xs: grams([x * torch.logspace(-1, 1, x.shape[1]) for x in xs]),
}


@EACH
@pytest.mark.parametrize("done", DONE)
def test_a_measure_is_invariant_to_what_it_says_and_to_nothing_else(name: str, done: str) -> None:
    module = plugin("measures", name)
    assert set(module.INVARIANCES) <= DONE.keys()
    xs, b = features(2, (12, 7, 20)), grams(features(3, (9, 15)))
    apart = np.abs(of(name, DONE[done](xs), b) - of(name, grams(xs), b))
    if done in module.INVARIANCES:
        assert apart.max() < 1e-5
    else:
        assert apart.max() > 0.02


def test_a_measure_that_needs_the_pixels_is_left_out_without_them(partial: ModuleType) -> None:
    a, b, pixels = (grams(features(seed, (8,))) for seed in range(3))
    assert wants_pixels(PARTIAL)
    assert not wants_pixels("cka")
    assert explain_lack(PARTIAL, pixels) is None
    assert explain_lack("cka", None) is None
    reason = "it needs the Grams of the raw pixels over the same images, and there are none"
    assert explain_lack(PARTIAL, None) == reason
    with pytest.raises(InputError, match=f"partial-cka cannot be computed: {reason}: give pixels"):
        measure(PARTIAL, a, b)
    assert measure(PARTIAL, a, b, pixels) == pytest.approx(partial.compute(a, b, pixels))
    assert measure("cka", a, b, pixels) == measure("cka", a, b)
    with pytest.raises(InputError, match="The pixels are one tap, and the Grams of arrays have 2"):
        measure(PARTIAL, a, b, grams(features(0, (8, 9))))
    with pytest.raises(InputError, match="cannot be compared"):
        measure(PARTIAL, a, b, grams(features(0, (8,)), (30, 27)))


def test_a_measure_of_other_parameters_is_refused(partial: ModuleType) -> None:
    a = grams(features(0, (8,)))
    partial.compute = lambda one, two: None  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"takes \(one, two\), and a measure takes \(a, b\), or"):
        measure(PARTIAL, a, a)
    with pytest.raises(InputError, match='no "ckaa" in measures: did you mean cka'):
        measure("ckaa", a, a)


def test_what_is_made_of_grams_is_kept_as_long_as_they_are() -> None:
    made = grams(features(0, (8,)))
    rows = pack(made)
    assert pack(made) is rows
    assert pack(grams(features(0, (8,)))) is not rows
    gone = weakref.ref(rows)
    del made, rows
    gc.collect()
    assert gone() is None


# ------------------------------------------------------------------------------------------------
# each by other means


def debiased(x: np.ndarray, y: np.ndarray) -> float:
    """By equation 3 of Shekhar et al. (2023) as it stands."""

    def hsic(K: np.ndarray, L: np.ndarray) -> float:
        n, one = len(K), np.ones(len(K))
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
        sums = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
        return float((np.trace(K @ L) + sums - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3)))

    K, L = x @ x.T, y @ y.T
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


def test_debiased_cka_is_the_mean_of_ratios() -> None:
    xs, ys = features(0, (20, 5)), features(1, (30, 4, 50))
    found, expected = debiased_cka.compute(grams(xs), grams(ys)), by_hand(debiased, xs, ys)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    minibatch = plugin("measures", "cka").compute
    assert np.abs(found - minibatch(grams(xs), grams(ys))).max() > 1e-3
    whole = [Grams.of_features(each) for each in (xs, ys)]
    np.testing.assert_allclose(debiased_cka.compute(*whole), minibatch(*whole), rtol=0, atol=1e-12)


def test_images_equally_far_from_each_other_have_no_cka() -> None:
    """Nothing is left of such a Gram when it is U-centred: what float32 leaves is rounding, and
    would be a CKA of any size."""
    xs = features(0, (20,), n=24)
    made = Grams.of_features(
        [xs[0], 7 * torch.eye(24), 0.3 + torch.eye(24)], sizes=np.array([12, 12])
    )
    for name in ("cka", "debiased-cka", "rsa"):
        value = plugin("measures", name).compute(made, made)
        assert np.isnan(value).sum() == 8
        assert value[0, 0] == pytest.approx(1)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(
        scipy.stats.spearmanr(*(scipy.spatial.distance.pdist(z) for z in (x, y))).statistic
    )


def test_rsa_is_spearmans_correlation_of_distances() -> None:
    xs, ys = features(0, (20, 5)), features(1, (30, 4, 50))
    np.testing.assert_allclose(
        rsa.compute(grams(xs), grams(ys)), by_hand(spearman, xs, ys), rtol=0, atol=5e-5
    )


def test_tied_distances_share_their_rank_though_float32_parts_them() -> None:
    """Binary features: a handful of distances, all of them many times."""
    xs, ys = ([(x > 0.3).float() for x in features(seed, (6, 9))] for seed in (0, 1))
    assert len(np.unique(scipy.spatial.distance.pdist(parts(xs)[0][0]))) < 8
    expected = by_hand(lambda x, y: spearman(x.round(), y.round()), xs, ys)
    shifted = [[x + 0.1 for x in each] for each in (xs, ys)]
    np.testing.assert_allclose(rsa.compute(*map(grams, shifted)), expected, rtol=0, atol=1e-9)


def mutual(x: np.ndarray, y: np.ndarray) -> float:
    """By a loop over images, the nearest of integer distances by distance and then by place."""
    n = len(x)
    k = min(10, n // 4)

    def near(z: np.ndarray, j: int) -> set[int]:
        apart = [(float(((z[i] - z[j]) ** 2).sum()), i) for i in range(n) if i != j]
        return {i for _, i in sorted(apart)[:k]}

    return float(np.mean([len(near(x, j) & near(y, j)) / k for j in range(n)]))


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "tied"])
def test_mutual_neighbours_are_those_of_a_loop(rounded: bool) -> None:
    xs, ys = ([x.round() if rounded else x for x in features(seed, (8, 5))] for seed in (0, 1))
    found = neighbours.compute(grams(xs), grams(ys))
    np.testing.assert_allclose(found, by_hand(mutual, xs, ys), rtol=0, atol=1e-12)


def test_unrelated_features_have_neighbours_in_common_by_chance() -> None:
    rng = np.random.default_rng(0)
    x, y = (
        Grams.of_features(
            [torch.from_numpy(rng.standard_normal((3200, 9))).float()], sizes=np.full(100, 32)
        )
        for _ in "xy"
    )
    found = neighbours.compute(x, y)[0, 0]
    error = np.sqrt(
        neighbours.chance(32) / (3200 * 8)
    )  # of a mean of 3,200 · 8 nearly independent hits
    assert abs(found - neighbours.chance(32)) < 4 * error
    assert neighbours.chance(32) == pytest.approx(8 / 31)


def procrustes(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The normalised nuclear norm, and the distance that the best rotation leaves."""
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(z - z.mean(0), ((0, 0), (0, width - z.shape[1]))) for z in (x, y))
    rotation, nuclear = scipy.linalg.orthogonal_procrustes(y, x)
    return nuclear / (np.linalg.norm(x) * np.linalg.norm(y)), float(
        np.linalg.norm(x - y @ rotation)
    )


def test_bures_is_the_solution_of_the_orthogonal_procrustes_problem() -> None:
    xs, ys = features(0, (20, 5)), features(1, (30, 4, 50))
    expected = by_hand(lambda x, y: procrustes(x, y)[0], xs, ys)
    np.testing.assert_allclose(bures.compute(grams(xs), grams(ys)), expected, rtol=0, atol=1e-5)
    x, y = (Grams.of_features(each[:1]).blocks[0, 0] for each in (xs, ys))
    similarity, distance = procrustes(xs[0].double().numpy(), ys[0].double().numpy())
    assert bures.procrustes_distance(x, y).item() == pytest.approx(distance, rel=1e-5)
    assert bures.angle(bures.compute(Grams.of_features(xs), Grams.of_features(ys)))[
        0, 0
    ] == pytest.approx(np.arccos(similarity), abs=1e-5)


def test_the_angle_is_a_metric_of_one_minibatch() -> None:
    rng = np.random.default_rng(0)
    made = Grams.of_features(
        [torch.from_numpy(rng.standard_normal((10, d))).float() for d in rng.integers(1, 12, 12)]
    )
    apart = bures.angle(bures.compute(made, made))
    assert (apart[:, None] <= apart[:, :, None] + apart[None] + 1e-6).all()
    assert np.abs(apart.diagonal()).max() < 1e-4  # arccos is steep at 1


def test_what_is_no_gram_has_no_root() -> None:
    with pytest.raises(InputError, match="is no Gram"):
        bures.fidelity(torch.diag(torch.tensor([1.0, -0.5])), torch.eye(2))
