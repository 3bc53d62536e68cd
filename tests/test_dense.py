"""Dense probes against scikit-learn and brute force on every single pixel."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, normalize

from sslens.errors import InputError
from sslens.probes import dense
from sslens.probes._newton import Problem
from sslens.probes._targets import Classes, Shares
from sslens.probes.dense import fit_dense
from sslens.probes.dense_knn import segment_nearest
from sslens.probes.knn import Scale
from sslens.probes.logistic import GAP, PENALTIES, fit_logistic
from sslens.probes.patches import PatchLabels, count_labels, join_maps

GRID = 3, 4


def draw(
    images: int = 12,
    dim: int = 6,
    classes: int = 4,
    *,
    seed: int = 0,
    shape: tuple[int, int] = (9, 8),
) -> tuple[Tensor, Tensor]:
    """Maps of features of very different scales, and masks that they know something of: pixels of
    several classes in a patch, and some without a label."""
    generator = torch.Generator().manual_seed(seed)
    patch = torch.randint(classes, (images, *GRID), generator=generator)
    masks = upsample(patch, shape)
    other = torch.randint(classes, masks.shape, generator=generator)
    masks = torch.where(torch.rand(masks.shape, generator=generator) < 0.3, other, masks)
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = 255
    middles = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    maps = middles[patch] + 0.7 * torch.randn(images, *GRID, dim, generator=generator)
    return maps.double() * torch.logspace(-2, 2, dim) + 5, masks


def upsample(patches: Tensor, shape: tuple[int, int]) -> Tensor:
    """[image, row, column] by torch's nearest neighbours."""
    return interpolate(patches[:, None].double(), size=shape, mode="nearest")[:, 0].long()


def list_pixels(maps: Tensor, masks: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Features and label of every labelled pixel."""
    number = torch.arange(maps.flatten(0, 2).shape[0]).view(maps.shape[:3])
    patch = upsample(number, (masks.shape[1], masks.shape[2]))
    labelled = masks != 255
    return maps.flatten(0, 2)[patch[labelled]].double().numpy(), masks[labelled].numpy()


def count(masks: Tensor, classes: int = 4) -> PatchLabels:
    return count_labels(masks, GRID, classes)


def score_pixels(predicted: Tensor, masks: Tensor) -> float:
    """Mean IoU over the classes that the masks have, by scikit-learn."""
    labelled = masks != 255
    said = upsample(predicted, (masks.shape[1], masks.shape[2]))[labelled].numpy()
    true = masks[labelled].numpy()
    return float(jaccard_score(true, said, labels=np.unique(true), average="macro"))


@pytest.mark.parametrize("shape", [(9, 8), (10, 13)])  # the grid divides the image, and does not
def test_the_loss_of_label_proportions_is_that_of_all_pixels(shape: tuple[int, int]) -> None:
    maps, masks = draw(shape=shape)
    labels = count(masks)
    chosen = labels.pixels.nonzero()[:, 0]
    counts = labels.counts(chosen)
    pixels = counts.sum(1)
    targets = Shares((counts / pixels[:, None]).T, pixels / pixels.sum())
    maps = (maps - 5) / torch.logspace(-2, 2, 6)
    x = maps.flatten(0, 2)[chosen]
    weights = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    ours = Problem(x[None], targets).evaluate(weights, torch.zeros(1, 4, 1).double(), 0.1)
    assert ours.level.all()
    w = weights[0].T.clone().requires_grad_()
    b = ours.intercept[0, :, 0].clone().requires_grad_()
    every, label = (torch.from_numpy(part) for part in list_pixels(maps, masks))
    loss = cross_entropy(every @ w + b, label) + 0.05 * w.square().sum()
    loss.backward()
    assert w.grad is not None
    assert b.grad is not None
    torch.testing.assert_close(ours.loss[0], loss.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.gradient[0], w.grad.T, rtol=1e-9, atol=1e-11)
    assert b.grad.abs().max() < 1e-11


def test_shares_of_one_class_are_classes() -> None:
    x = torch.randn(1, 60, 5, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.arange(60) % 3
    one_hot = torch.nn.functional.one_hot(labels).T.double()
    hard, soft = Classes(labels, 3), Shares(one_hot, torch.full((60,), 1 / 60, dtype=torch.float64))
    fits = []
    for targets in (hard, soft):
        problem = Problem(x, targets)
        start = problem.evaluate(*problem.start(), 1e-3)
        fits.append(problem.minimise(start, 1e-3, 1e-18)[0])
    torch.testing.assert_close(fits[0].weights, fits[1].weights, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(fits[0].loss, fits[1].loss, rtol=1e-12, atol=0)


def test_one_product_solves_a_step_where_all_rows_have_one_curvature() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(80, 5, generator=generator).double()
    x = torch.linalg.qr(x - x.mean(0)).Q * torch.logspace(0, 2, 5)  # the axes of a covariance
    shares = torch.rand(3, 80, generator=generator).double().softmax(0)
    even = torch.full((80,), 1 / 80, dtype=torch.float64)
    problem = Problem(x[None], Shares(shares, even))
    start = problem.evaluate(*problem.start(), 1e-2)  # every patch has the same probabilities
    fitted, products = problem.minimise(start, 1e-2, float(start.gap(1e-2)) / 2)
    assert products.tolist() == [1]
    step = fitted.weights.flatten()
    p = start.probability[0, :, 0]
    curvature = torch.kron(p.diag() - torch.outer(p, p), x.T @ x / 80)
    expected = -torch.linalg.solve(curvature + 1e-2 * torch.eye(15), start.gradient.flatten())
    torch.testing.assert_close(step, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("images", "dim"), [(12, 6), (4, 60)])  # more patches, and more dimensions
def test_all_penalties_are_as_scikit_learn_on_repeated_pixels(images: int, dim: int) -> None:
    (maps, masks), (asked, asked_masks) = draw(images, dim), draw(30, dim, seed=1)
    (probe,) = fit_dense(
        [maps], count(masks), [asked], count(asked_masks), penalties=PENALTIES, widen=False
    )
    assert [trial.penalty for trial in probe.path] == list(PENALTIES)
    x, y = list_pixels(maps, masks)
    mean, scale = x.mean(0), x.std(0)
    held, held_labels = list_pixels(asked, asked_masks)
    patches = (asked.flatten(0, 2)[count(asked_masks).pixels > 0].numpy() - mean) / scale
    for trial in probe.path:
        assert trial.gap <= GAP
        theirs = LogisticRegression(C=1 / (trial.penalty * len(x)), tol=1e-9, max_iter=100_000)
        theirs.fit((x - mean) / scale, y)
        chance = theirs.predict_proba((x - mean) / scale)
        loss = -np.log(chance[np.arange(len(y)), y]).mean()
        loss += trial.penalty / 2 * np.square(theirs.coef_).sum()
        assert trial.loss * (1 - trial.gap) <= loss
        assert trial.loss <= loss * (1 + trial.gap)
        assert (trial.predicted.numpy() == theirs.predict(patches)).mean() >= 0.98
        of_held = theirs.predict_log_proba((held - mean) / scale)
        entropy = -of_held[np.arange(len(held)), held_labels].mean()
        assert trial.cross_entropy == pytest.approx(entropy, rel=0.02)


def test_the_penalty_with_the_largest_mean_iou_of_held_out_pixels_is_chosen() -> None:
    (maps, masks), (asked, asked_masks) = draw(8, 20), draw(10, 20, seed=1)
    (probe,) = fit_dense([maps], count(masks), [asked], count(asked_masks))
    assert probe.miou == max(trial.validation for trial in probe.path)
    assert (probe.converged, probe.inside, probe.why) == (True, True, "")
    predicted = probe.predict(asked)
    assert probe.miou == pytest.approx(score_pixels(predicted, asked_masks), abs=1e-12)
    # what was seen is predicted better, and chance is a quarter right
    assert score_pixels(probe.predict(maps), masks) > 0.4


def test_patches_of_one_class_each_are_fitted_as_images_are() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(3, (20, *GRID), generator=generator)
    maps = torch.randn(20, *GRID, 5, generator=generator) + patches[..., None]
    labels = count(upsample(patches, (6, 8)), 3)
    (ours,) = fit_dense([maps], labels, [maps], labels, penalties=PENALTIES, widen=False)
    flat, label = maps.flatten(0, 2), patches.flatten()
    (theirs,) = fit_logistic([flat], label, [flat], label, widen=False)
    for one, other in zip(ours.path, theirs.path, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert (one.predicted == other.predicted).double().mean() > 0.99


def test_heads_together_are_as_alone_and_are_read_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads = [draw(8, dim) for dim in (3, 10, 30)]
    asked = [draw(6, dim, seed=1) for dim in (3, 10, 30)]
    labels, held = count(heads[0][1]), count(asked[0][1])
    # draws of other widths share the masks' seed, and so the masks
    assert all(torch.equal(masks, heads[0][1]) for _, masks in heads)
    read: list[int] = []

    def deliver() -> Iterator[Tensor]:
        for number, (maps, _) in enumerate(heads):
            read.append(number)
            yield maps

    together = fit_dense([maps for maps, _ in heads], labels, [maps for maps, _ in asked], held)
    monkeypatch.setitem(dense.TOGETHER, "cpu", 1)
    reached: list[tuple[int, int]] = []
    apart = fit_dense(
        deliver(),
        labels,
        (maps for maps, _ in asked),
        held,
        progress=lambda done: reached.append((done, len(read))),
    )
    assert reached == [(1, 1), (2, 2), (3, 3)]
    for one, other in zip(together, apart, strict=True):
        assert one.penalty == other.penalty
        torch.testing.assert_close(one.head.weights, other.head.weights, rtol=1e-3, atol=1e-6)
        assert one.miou == pytest.approx(other.miou, abs=0.02)


def test_several_taps_together_know_what_each_knows() -> None:
    (maps, masks), (asked, asked_masks) = draw(16, 8), draw(12, 8, seed=1)
    labels, held = count(masks), count(asked_masks)
    halves = [(slice(0, 4)), (slice(4, 8))]
    joined = join_maps([maps[..., half] for half in halves])
    torch.testing.assert_close(joined, maps)
    heads = [maps[..., half] for half in halves], [asked[..., half] for half in halves]
    *alone, both = fit_dense([*heads[0], joined], labels, [*heads[1], asked], held)
    assert both.miou > max(probe.miou for probe in alone)


def test_maps_of_other_grids_are_joined_by_nearest_neighbours() -> None:
    coarse = torch.arange(4.0).view(1, 2, 2, 1)
    fine = torch.arange(24.0).view(1, 6, 4, 1)
    joined = join_maps([coarse, fine])
    expected = interpolate(coarse[..., 0][None], size=(6, 4), mode="nearest")[0, ..., None]
    torch.testing.assert_close(joined, torch.cat([expected, fine], 3))


def test_constant_features_predict_the_largest_class() -> None:
    masks = torch.tensor([[[0, 1, 1, 1], [2, 1, 1, 0]]]).repeat(3, 1, 1)
    labels, maps = count_labels(masks, (2, 2), 3), torch.full((3, 2, 2, 5), 7.0)
    (probe,) = fit_dense([maps], labels, [maps], labels)
    assert not probe.head.varies
    assert (probe.why, probe.predict(maps).unique().tolist()) == ("", [1])
    nearest = segment_nearest(maps, labels, maps)
    assert (nearest.varies, nearest.predicted.unique().tolist()) == (False, [1])
    standardised = segment_nearest(maps + torch.tensor([1e-9, 0, 0, 0, 0]), labels, maps)
    assert standardised.predicted.unique().tolist() == [1]


def test_one_constant_feature_changes_nothing() -> None:
    (maps, masks), (asked, asked_masks) = draw(), draw(seed=1)
    labels, held = count(masks), count(asked_masks)
    wider = [torch.cat([x, torch.full_like(x[..., :1], 3.0)], 3) for x in (maps, asked)]
    one, other = fit_dense([maps, wider[0]], labels, [asked, wider[1]], held)
    assert one.penalty == other.penalty
    torch.testing.assert_close(one.head.weights, other.head.weights[:-1], rtol=1e-4, atol=1e-7)
    assert (other.head.weights[-1] == 0).all()


def test_a_class_without_training_pixels_is_missed_where_images_have_it() -> None:
    (maps, masks), (asked, asked_masks) = draw(), draw(seed=1)
    masks = torch.where(masks == 2, 255, masks)
    labels, held = count(masks), count(asked_masks)
    (probe,) = fit_dense([maps], labels, [asked], held)
    assert probe.head.classes.tolist() == [0, 1, 3]
    predicted = probe.predict(asked)
    assert 2 not in predicted
    # scikit-learn's IoU of class 2 is 0
    assert probe.miou == pytest.approx(score_pixels(predicted, asked_masks), abs=1e-12)


def test_a_class_that_held_out_images_lack_is_not_in_the_mean() -> None:
    (maps, masks), (asked, asked_masks) = draw(), draw(seed=1)
    asked_masks = torch.where(asked_masks == 2, 255, asked_masks)
    (probe,) = fit_dense([maps], count(masks), [asked], count(asked_masks))
    predicted = probe.predict(asked)
    assert probe.miou == pytest.approx(score_pixels(predicted, asked_masks), abs=1e-12)


def test_half_precision_maps_are_as_their_values() -> None:
    (maps, masks), (asked, asked_masks) = draw(dim=3), draw(dim=3, seed=1)
    labels, held = count(masks), count(asked_masks)
    half, asked_half = maps.half(), asked.half()
    (one,) = fit_dense([half], labels, [asked_half], held)
    (other,) = fit_dense([half.double()], labels, [asked_half.double()], held)
    assert one.path[2].loss == pytest.approx(other.path[2].loss, rel=1e-9)
    assert torch.equal(one.predict(asked_half), other.predict(asked_half.double()))


@pytest.mark.parametrize("scale", ["raw", "standardised"])
@pytest.mark.parametrize("temperature", [0.1, None])
def test_nearest_patches_vote_with_their_label_proportions(
    scale: Scale, temperature: float | None
) -> None:
    (maps, masks), (asked, _) = draw(), draw(seed=1)
    labels = count(masks)
    ours = segment_nearest(maps, labels, asked, k=5, temperature=temperature, scale=scale)
    bank, queries = maps.flatten(0, 2), asked.flatten(0, 2)
    fine = labels.pixels > 0
    assert ours.memory == int(fine.sum())
    counts = labels.counts(torch.arange(len(bank)))
    bank, shares = bank[fine], counts[fine] / counts[fine].sum(1, keepdim=True)
    if scale == "standardised":
        mean, deviation = bank.mean(0), bank.std(0, correction=0)
        bank, queries = (bank - mean) / deviation, (queries - mean) / deviation
    cosines = normalize(queries, dim=1) @ normalize(bank, dim=1).T
    expected = []
    for row in cosines:
        values, rows = row.topk(5)
        votes = torch.ones(5).double() if temperature is None else (values / temperature).exp()
        expected.append(int((votes[:, None] * shares[rows]).sum(0).argmax()))
    same = ours.predicted.flatten() == torch.tensor(expected)
    assert same.double().mean() >= 0.99  # the product is in float32


def test_the_memory_is_a_draw_of_patches_with_labels() -> None:
    maps, masks = draw(20)
    masks[:10] = 255
    labels = count(masks)
    found = segment_nearest(maps, labels, maps, memory=30)
    again = segment_nearest(maps, labels, maps, memory=30)
    other = segment_nearest(maps, labels, maps, memory=30, seed=1)
    assert found.memory == 30
    assert torch.equal(found.predicted, again.predicted)
    assert not torch.equal(found.predicted, other.predicted)
    everything = segment_nearest(maps, labels, maps, k=1)
    # a patch that is remembered is its own nearest
    assert everything.memory == int((labels.pixels > 0).sum())
    right = everything.predicted == labels.majority()
    assert bool(right.flatten()[labels.pixels > 0].all())
    few = segment_nearest(maps, labels, maps, memory=3, k=30)
    assert (few.memory, few.k) == (3, 3)


def test_what_no_probe_can_be_trained_on_is_refused() -> None:
    (maps, masks), (asked, asked_masks) = draw(), draw(seed=1)
    labels, held = count(masks), count(asked_masks)
    none, one = count(torch.full_like(masks, 255)), count(torch.where(masks < 255, 1, 255))
    broken = maps.clone()
    broken[3, 0, 0, 0] = torch.nan
    for wrong, message in [((maps, none), "not labelled"), ((maps, one), "of one class")]:
        with pytest.raises(InputError, match=message):
            fit_dense([wrong[0]], wrong[1], [asked], held)
        with pytest.raises(InputError, match=message):
            segment_nearest(wrong[0], wrong[1], asked)
    with pytest.raises(InputError, match="not finite"):
        fit_dense([broken], labels, [asked], held)
    with pytest.raises(InputError, match="not finite"):
        segment_nearest(maps, labels, broken)
    with pytest.raises(InputError, match=r"12 images of 3 × 4 patches, and the labels 12 of 3 × 2"):
        fit_dense([maps], count_labels(masks, (3, 2), 4), [asked], held)
    with pytest.raises(InputError, match="hold others out"):
        fit_dense([maps], labels, [asked], none)
    with pytest.raises(InputError, match="4 classes to train on and 5"):
        fit_dense([maps], labels, [asked], count(asked_masks, 5))
    with pytest.raises(InputError, match="a map to train on and a map to choose on"):
        fit_dense([maps, maps], labels, [asked], held)
    with pytest.raises(InputError, match="6 dimensions to train on and 3"):
        fit_dense([maps], labels, [asked[..., :3]], held)
    with pytest.raises(InputError, match="penalties"):
        fit_dense([maps], labels, [asked], held, penalties=[0.0])
    with pytest.raises(InputError, match="above 0"):
        segment_nearest(maps, labels, asked, k=0)
    with pytest.raises(InputError, match="3 dimensions and the memory 6"):
        segment_nearest(maps, labels, asked[..., :3])
    with pytest.raises(InputError, match="same images"):
        join_maps([maps, maps[:3]])
