"""Labelled pixels of patches, and scores by them, against brute force on every single pixel."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from torch import Tensor
from torch.nn.functional import interpolate

from sslens.errors import InputError
from sslens.probes.overlap import score_patches
from sslens.probes.patches import SIZES, PatchLabels, count_labels, find_terciles

GRID = 3, 4
EDGES = (0.04, 0.12)


def draw(images: int = 30, shape: tuple[int, int] = (10, 13), seed: int = 0) -> tuple[Tensor, ...]:
    """Masks with boxes of some class on class 0 and some pixels without a label, and the number of
    each pixel's box; class 3 is stuff, without objects."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(images, *shape, dtype=torch.int64)
    objects = torch.full_like(masks, -1)
    for image in range(images):
        if image % 3 == 0:
            masks[image, :, :4] = 3
        for number in range(3):
            label = int(torch.randint(1, 3, (1,), generator=generator))
            top, left = (int(torch.randint(n - 2, (1,), generator=generator)) for n in shape)
            height, width = torch.randint(1, 7, (2,), generator=generator).tolist()
            masks[image, top : top + height, left : left + width] = label
            objects[image, top : top + height, left : left + width] = number
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = 255
    return masks, objects


def upsample(patches: Tensor, shape: tuple[int, int]) -> Tensor:
    return interpolate(patches[:, None].double(), size=shape, mode="nearest")[:, 0].long()


def guess(labels: PatchLabels, seed: int = 0) -> Tensor:
    """Predictions of which a half is right."""
    generator = torch.Generator().manual_seed(seed)
    best = labels.majority()
    other = torch.randint(labels.classes, best.shape, generator=generator)
    return torch.where(torch.rand(best.shape, generator=generator) < 0.5, best, other)


def count(masks: Tensor, objects: Tensor | None = None, classes: int = 4) -> PatchLabels:
    edges = None if objects is None else EDGES
    return count_labels(masks, GRID, classes, objects=objects, edges=edges)


def find_size(objects: Tensor) -> Tensor:
    """1 to 3 for pixels of small to large objects, else 0, one object after another."""
    size = torch.zeros_like(objects)
    for image, numbers in enumerate(objects):
        for number in numbers.unique()[numbers.unique() >= 0].tolist():
            share = float((numbers == number).sum()) / numbers.numel()
            size[image][numbers == number] = 1 + (share > EDGES[0]) + (share > EDGES[1])
    return size


def test_counts_are_of_the_pixels_that_nearest_neighbours_give_to_a_patch() -> None:
    masks, objects = draw()
    labels = count(masks, objects)
    place = upsample(torch.arange(12).view(1, *GRID), (10, 13))[0]
    size = find_size(objects)
    expected = {}
    for image in range(len(masks)):
        for patch in range(12):
            for label in range(4):
                for number in range(4):
                    here = (place == patch) & (masks[image] == label) & (size[image] == number)
                    if here.any():
                        expected[image * 12 + patch, label, number] = int(here.sum())
    entries = zip(*(x.tolist() for x in (labels.patch, labels.label, labels.size)), strict=True)
    assert dict(zip(entries, labels.count.tolist(), strict=True)) == expected
    assert list(expected) == sorted(expected)
    assert labels.sizes == SIZES
    assert int(labels.pixels.sum()) == int((masks != 255).sum())


def test_images_of_other_sizes_are_counted_each_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = (10, 13), (6, 8), (10, 13), (3, 3)
    pairs = [draw(2, shape, seed) for seed, shape in enumerate(shapes)]
    masks = [mask for some, _ in pairs for mask in some]
    objects = [one for _, some in pairs for one in some]
    for pixels in (1 << 22, 200):  # all at a time, and one or two
        monkeypatch.setattr("sslens.probes.patches.PIXELS", pixels)
        labels = count_labels(masks, GRID, 4, objects=objects, edges=EDGES)
        alone = [count(mask[None], one[None]) for mask, one in zip(masks, objects, strict=True)]
        for name in ("label", "size", "count"):
            every = torch.cat([getattr(one, name) for one in alone])
            assert torch.equal(getattr(labels, name), every)
        for image, one in enumerate(alone):
            assert torch.equal(labels.take([image]).patch, one.patch)
    # images with fewer pixels than patches have patches without any
    assert int((labels.pixels.view(8, 12)[6] > 0).sum()) <= 9


def test_images_are_taken_in_any_order() -> None:
    masks, objects = draw(6)
    ids = [f"image {number}" for number in range(6)]
    labels = count_labels(masks, GRID, 4, objects=objects, edges=EDGES, ids=ids)
    some, rows = labels.take([4, 1, 1]), torch.tensor([4, 1, 1])
    again = count(masks[rows], objects[rows])
    for name in ("patch", "label", "size", "count"):
        assert torch.equal(getattr(some, name), getattr(again, name))
    assert some.ids == ("image 4", "image 1", "image 1")


def test_scores_are_of_every_pixel() -> None:
    masks, objects = draw()
    labels = count(masks, objects)
    predicted = guess(labels)
    scores = score_patches(predicted, labels)
    labelled = masks != 255
    said, true = upsample(predicted, (10, 13))[labelled].numpy(), masks[labelled].numpy()
    np.testing.assert_allclose(scores.iou.value, jaccard_score(true, said, average=None))
    assert float(scores.miou.value) == pytest.approx(jaccard_score(true, said, average="macro"))
    assert float(scores.accuracy.value) == pytest.approx(accuracy_score(true, said))


def test_scores_by_size_share_what_is_wrong_in_proportion_to_pixels() -> None:
    masks, objects = draw()
    labels = count(masks, objects)
    predicted = guess(labels)
    scores = score_patches(predicted, labels)
    said, size = upsample(predicted, (10, 13)), find_size(objects)
    labelled = masks != 255
    expected = np.full((3, 4), np.nan)
    for label in range(4):
        of_class = (masks == label) & labelled
        for number in (1, 2, 3):
            own = of_class & (size == number)
            if not own.any():
                continue
            right, wrong = int((own & (said == label)).sum()), 0.0
            for image in range(len(masks)):
                false = int(((said == label) & labelled & ~of_class)[image].sum())
                some = image if of_class[image].any() else slice(None)
                wrong += false * int(own[some].sum()) / int(of_class[some].sum())
            expected[number - 1, label] = right / (int(own.sum()) + wrong)
    np.testing.assert_allclose(scores.iou_by_size.value, expected)
    np.testing.assert_allclose(scores.by_size.value, np.nanmean(expected, 1))
    # the background and stuff have no objects
    assert np.isnan(scores.iou_by_size.value[:, [0, 3]]).all()
    assert np.isfinite(scores.iou_by_size.value[:, [1, 2]]).all()


def test_a_single_size_has_the_iou_of_the_class() -> None:
    masks, _ = draw()
    objects = (masks > 0).long() - 1
    labels = count_labels(masks, GRID, 4, objects=objects, edges=(1.0, 1.0))
    scores = score_patches(guess(labels), labels)
    np.testing.assert_allclose(scores.iou_by_size.value[0, 1:], scores.iou.value[1:])


def test_values_without_an_image_are_those_of_the_others() -> None:
    masks, objects = draw(12)
    labels = count(masks, objects)
    predicted = guess(labels)
    scores = score_patches(predicted, labels)
    for left in range(12):
        rest = [image for image in range(12) if image != left]
        others = score_patches(predicted[rest], labels.take(rest))
        for name in ("miou", "accuracy", "iou", "by_size", "iou_by_size"):
            whole, part = getattr(scores, name), getattr(others, name)
            np.testing.assert_allclose(whole.left_out[..., left], part.value, atol=1e-12)


def test_differences_are_paired_and_of_the_same_images() -> None:
    masks, _ = draw(40)
    ids = [str(number) for number in range(40)]
    labels = count_labels(masks, GRID, 4, ids=ids)
    one, other = (score_patches(guess(labels, seed), labels) for seed in (0, 1))
    difference = (one.miou - other.miou).estimate()
    alone = one.miou.estimate()
    assert difference.low < float(one.miou.value - other.miou.value) < difference.high
    assert 0 < alone.low < float(alone.value) < alone.high < 1
    renamed = count_labels(masks, GRID, 4, ids=[f"other {name}" for name in ids])
    with pytest.raises(InputError, match="paired difference"):
        one.miou - score_patches(guess(renamed), renamed).miou


def test_classes_that_no_image_has_are_not_in_the_mean() -> None:
    masks, objects = draw()
    labels = count(masks, objects, classes=6)
    predicted = torch.where(guess(labels) == 2, 5, guess(labels))
    scores = score_patches(predicted, labels)
    assert np.isnan(scores.iou.value).tolist() == [False] * 4 + [True] * 2
    assert float(scores.miou.value) == pytest.approx(np.nanmean(scores.iou.value))
    assert np.isfinite(scores.miou.estimate().low)
    assert np.isnan(scores.iou.estimate().low[4])
    assert scores.sizes == SIZES


def test_without_objects_there_are_no_sizes() -> None:
    labels = count(draw()[0])
    scores = score_patches(guess(labels), labels)
    assert (scores.sizes, scores.by_size.value.shape, scores.iou_by_size.value.shape) == (
        (),
        (0,),
        (0, 4),
    )


def test_a_class_of_one_image_has_a_value_and_no_interval() -> None:
    masks, _ = draw(25)
    masks[masks == 3] = 0
    masks[7, :5] = 3
    labels = count(masks)
    scores = score_patches(labels.majority(), labels)
    estimate = scores.iou.estimate()
    assert estimate.value[3] > 0
    assert np.isnan(estimate.low[3])
    assert np.isfinite(scores.miou.estimate().low)


def test_no_prediction_of_a_class_a_patch_has_more_pixels_right_than_the_majority() -> None:
    labels = count(draw()[0])
    best = score_patches(labels.majority(), labels).accuracy.value
    for seed in range(5):
        assert score_patches(guess(labels, seed), labels).accuracy.value < best


def test_terciles_divide_objects_into_three() -> None:
    _, objects = draw(30)
    low, high = find_terciles(list(objects))
    shares = [
        float((one == number).sum()) / one.numel()
        for one in objects
        for number in one.unique()[one.unique() >= 0]
    ]
    np.testing.assert_allclose([low, high], np.quantile(shares, [1 / 3, 2 / 3]))
    with pytest.raises(InputError, match="2 objects"):
        find_terciles(torch.tensor([[[0, 1, -1]]]))


def test_masks_that_do_not_fit_are_refused() -> None:
    masks, objects = draw(3)
    with pytest.raises(InputError, match=r"labels such as 255, and there are 4 classes"):
        count_labels(masks, GRID, 4, ignore=254)
    with pytest.raises(InputError, match="no masks"):
        count_labels(masks[:0], GRID, 4)
    with pytest.raises(InputError, match="too few"):
        count_labels(masks, (0, 3), 4)
    with pytest.raises(InputError, match="2 ids for 3 masks"):
        count_labels(masks, GRID, 4, ids=["a", "b"])
    with pytest.raises(InputError, match="both the objects and the edges"):
        count_labels(masks, GRID, 4, objects=objects)
    wrong = [objects[0], objects[1][:5], objects[2]]
    with pytest.raises(InputError, match=r"Image b has a mask of \(10, 13\)"):
        count_labels(list(masks), GRID, 4, objects=wrong, edges=EDGES, ids=["a", "b", "c"])
    with pytest.raises(InputError, match="two shares in order"):
        count_labels(masks, GRID, 4, objects=objects, edges=(0.2, 0.1))
    labels = count(masks)
    with pytest.raises(InputError, match="expected"):
        score_patches(guess(labels)[:2], labels)
    with pytest.raises(InputError, match="none of the 4"):
        score_patches(guess(labels) + 4, labels)
    with pytest.raises(InputError, match="none of the 3"):
        labels.take([3])
    empty = count(torch.full_like(masks, 255))
    with pytest.raises(InputError, match="nothing to score by"):
        score_patches(empty.majority(), empty)
