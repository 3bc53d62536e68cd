"""Views: the colour operations and crops beside torchvision's, the draws' statistics, and
independence of the split."""

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from jaxtyping import TypeCheckError
from PIL import Image, ImageFilter
from scipy import ndimage, stats
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from sslens.data.colour import ColorJitter, GaussianBlur, Grayscale, Normalize, Solarize
from sslens.data.geometry import Flip, RandomResizedCrop
from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from sslens.data.streams import mask_noise, stream
from sslens.data.transform import EvalTransform
from sslens.data.views import (
    Colours,
    Operation,
    RandomViews,
    View,
    dino_views,
    mae_views,
    moco_v3_views,
    msn_views,
)
from sslens.errors import InputError
from sslens.methods import Rows
from sslens.models.vit import ViTArch
from sslens.objectives import dino, moco_v3


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def batch(count: int = 6, height: int = 9, width: int = 11) -> torch.Tensor:
    """Random images in [0, 1], with grey, black, white and two-channels-equal pixels among them."""
    x = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    x[:, :, 0] = x[:, :1, 0]
    x[:, :, 1, 0], x[:, :, 1, 1] = 0, 1
    x[:, 1, 2] = x[:, 0, 2]
    x[:, 2, 3] = x[:, 1, 3]
    x[:, 2, 4] = x[:, 0, 4]
    return x


ALL = np.ones(6, bool)
IMAGES = [noise(40 + 3 * i, 60 - 5 * i, seed=i) for i in range(8)]


# ------------------------------------------------------------------------------------------------
# each operation


@pytest.mark.parametrize(
    ("name", "amounts", "reference", "tolerance"),
    [
        ("brightness", [0.0, 0.6, 0.9, 1.0, 1.2, 1.7], TF.adjust_brightness, 1e-5),
        ("contrast", [0.0, 0.6, 0.9, 1.0, 1.2, 1.7], TF.adjust_contrast, 1e-5),
        ("saturation", [0.0, 0.6, 0.9, 1.0, 1.2, 1.7], TF.adjust_saturation, 1e-5),
        ("hue", [-0.5, -0.1, 0.0, 0.03, 0.2, 0.5], TF.adjust_hue, 1e-4),
    ],
)
def test_each_change_of_the_jitter_is_torchvisions(name, amounts, reference, tolerance) -> None:
    strengths = dict.fromkeys(["brightness", "contrast", "saturation", "hue"], 0.0) | {name: 0.5}
    jitter = ColorJitter(**strengths)
    x = batch()
    got = jitter.apply(x, jitter.draw(stream(0, 0), 6) | {"chosen": ALL, name: np.array(amounts)})
    wanted = torch.stack(
        [reference(image, amount) for image, amount in zip(x, amounts, strict=True)]
    )
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance)


def test_jitter_is_torchvisions_in_each_images_own_order() -> None:
    changes = [TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue]
    names = ["brightness", "contrast", "saturation", "hue"]
    jitter, x = ColorJitter(0.8, 0.8, 0.8, 0.3, p=0.7), batch(40)
    drawn = jitter.draw(stream(0, 1), 40)
    assert len({tuple(order) for order in drawn["order"]}) > 12
    wanted = x.clone()
    for i in np.flatnonzero(drawn["chosen"]):
        for change in drawn["order"][i]:
            wanted[i] = changes[change](wanted[i], float(drawn[names[change]][i]))
    torch.testing.assert_close(jitter.apply(x, drawn), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (Flip(), TF.hflip),
        (Grayscale(), lambda image: TF.rgb_to_grayscale(image, num_output_channels=3)),
        (Solarize(), lambda image: TF.solarize(image, 128 / 255)),
    ],
)
@pytest.mark.parametrize("chosen", [[0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1]])
def test_chosen_images_are_changed_as_by_torchvision_and_no_others(
    operation, reference, chosen
) -> None:
    x = batch()
    wanted = torch.stack(
        [reference(image) if yes else image for image, yes in zip(x, chosen, strict=True)]
    )
    got = operation.apply(x, {"chosen": np.array(chosen, bool)})
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_solarize_inverts_from_128_of_255_as_pil_does() -> None:
    x = torch.tensor([127.0, 128.0]).div(255).repeat(3, 1).view(1, 3, 1, 2)
    got = Solarize().apply(x, {"chosen": np.array([True])})[0, 0, 0] * 255
    assert got.round().tolist() == [127, 127]


def test_normalize_is_torchvisions() -> None:
    x = batch()
    assert torch.equal(Normalize().apply(x, {}), TF.normalize(x, IMAGENET_MEAN, IMAGENET_STD))


@pytest.mark.parametrize(("height", "width"), [(20, 33), (1, 7), (130, 70)])
def test_blur_is_the_gaussian_of_scipy(height: int, width: int) -> None:
    """Sizes: one product; an image narrower than the kernel; several bands."""
    x, sigma = batch(5, 140, 80)[:, :, -height:, -width:], np.array([0.1, 0.3, 0.59, 1.3, 2.0])
    got = GaussianBlur().apply(x, {"chosen": ALL[:5], "sigma": sigma})
    for image, blurred, s in zip(x.double().numpy(), got, sigma, strict=True):
        wanted = ndimage.gaussian_filter(image, (0, s, s), mode="nearest")
        np.testing.assert_allclose(blurred.numpy(), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_blur_is_near_pils(sigma: float) -> None:
    image = noise(6, 6).resize((48, 48), Image.Resampling.BICUBIC)
    drawn = {"chosen": np.array([True]), "sigma": np.array([sigma])}
    ours = GaussianBlur().apply(TF.to_tensor(image)[None], drawn)[0] * 255
    theirs = TF.to_tensor(image.filter(ImageFilter.GaussianBlur(radius=sigma))) * 255
    assert (ours - theirs).abs().max() < 3
    assert (ours - theirs).abs().mean() < 0.7


def test_operations_leave_their_input_as_it_was() -> None:
    for view in moco_v3_views(8).views:
        for operation in view.operations:
            assert isinstance(operation, Operation)
            x = batch()
            operation.apply(x, operation.draw(stream(0, 0), 6) | {"chosen": ALL})
            assert torch.equal(x, batch()), operation


# ------------------------------------------------------------------------------------------------
# crops


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crops_are_torchvisions_resized_crop(interpolation: str) -> None:
    crop = RandomResizedCrop(24, interpolation=interpolation)
    drawn = crop.draw(stream(0, 0), 8)
    boxes = crop.boxes(np.array([image.size for image in IMAGES]), drawn)
    got = crop.apply(IMAGES, drawn)
    for image, (left, upper, right, lower), pixels in zip(IMAGES, boxes.tolist(), got, strict=True):
        place = (upper, left, lower - upper, right - left)
        wanted = TF.resized_crop(image, *place, [24, 24], InterpolationMode(interpolation))
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(wanted))


def test_boxes_by_hand() -> None:
    """A 100 × 50 image: a try of 0.5 and 1 is 50 × 50; of 0.9 and 1 is 67 × 67, too high; the next
    try counts."""
    crop = RandomResizedCrop(8, scale=(0.1, 1.0))
    drawn = {
        "area": np.array([[0.5] * 10, [0.9] + [0.16] * 9]),
        "ratio": np.array([[1.0] * 10, [1.0] + [2.0] * 9]),
        "place": np.array([[0.999, 0.999], [0.5, 0.0]]),
    }
    boxes = crop.boxes(np.array([[100, 50], [100, 50]]), drawn)
    assert boxes.tolist() == [[50, 0, 100, 50], [30, 0, 70, 20]]


@pytest.mark.parametrize(
    ("size", "box"),
    [((100, 10), [43, 0, 56, 10]), ((10, 100), [0, 43, 10, 56]), ((40, 41), [0, 0, 40, 41])],
)
def test_without_a_fit_the_box_is_the_largest_central_one(size, box) -> None:
    """Areas of 1 with ratios over 1.2 fit none of these. 10 × 4/3 = 13 wide or high, or the whole
    if in bounds."""
    crop = RandomResizedCrop(8)
    drawn = {"area": np.ones((1, 10)), "ratio": np.full((1, 10), 1.3), "place": np.zeros((1, 2))}
    assert crop.boxes(np.array([size]), drawn).tolist() == [box]


def test_a_clipped_box_is_the_first_try_cut_down_to_the_image() -> None:
    """By hand, in 100 × 10: area 1 and ratio 1 is 32 × 32, cut to 32 × 10; area 0.1 and ratio 4 is
    20 × 5, which fits."""
    crop = RandomResizedCrop(8, clip=True)
    drawn = {
        "area": np.array([[1.0] + [0.1] * 9, [0.1] + [1.0] * 9]),
        "ratio": np.array([[1.0] + [4.0] * 9, [4.0] + [1.0] * 9]),
        "place": np.array([[0.5, 0.999], [0.999, 0.5]]),
    }
    assert crop.boxes(np.array([[100, 10], [100, 10]]), drawn).tolist() == [
        [34, 0, 66, 10],
        [80, 3, 100, 8],
    ]
    tiny = {"area": np.full((1, 10), 0.01), "ratio": np.ones((1, 10)), "place": np.zeros((1, 2))}
    # 0.3 px a side are one pixel, not none
    assert crop.boxes(np.array([[3, 3]]), tiny).tolist() == [[0, 0, 1, 1]]


def test_boxes_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    image, count = noise(90, 60), 3000
    theirs = np.array(
        [T.RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(count)]
    )
    crop = RandomResizedCrop(8)
    boxes = crop.boxes(np.array([[90, 60]] * count), crop.draw(stream(0, 0), count))
    assert boxes.min() >= 0
    assert (boxes[:, 2:].max(axis=0) == (90, 60)).all()
    ours = np.stack(
        [boxes[:, 1], boxes[:, 0], boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1
    )
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_crops_areas_are_uniform_and_their_ratios_log_uniform() -> None:
    crop = RandomResizedCrop(8, scale=(0.2, 0.5))
    boxes = crop.boxes(np.array([[2000, 2000]] * 4000), crop.draw(stream(0, 0), 4000))
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    assert stats.kstest(width * height / 4e6, stats.uniform(0.2, 0.3).cdf).pvalue > 1e-3
    log_ratio = stats.uniform(np.log(3 / 4), np.log(16 / 9))
    assert stats.kstest(np.log(width / height), log_ratio.cdf).pvalue > 1e-3
    place = boxes[:, :2] / (2000 - (boxes[:, 2:] - boxes[:, :2]))
    assert stats.kstest(place[:, 0], "uniform").pvalue > 1e-3
    assert stats.kstest(place[:, 1], "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(place[:, 0], place[:, 1]).statistic) < 0.06


# ------------------------------------------------------------------------------------------------
# draws


@pytest.mark.parametrize(
    "operation", [Flip(), ColorJitter(0.4, 0.4, 0.2, 0.1), Grayscale(), GaussianBlur(p=0.1)]
)
def test_images_are_chosen_with_probability_p(operation) -> None:
    chosen = operation.draw(stream(0, 0), 10_000)["chosen"]
    assert abs(chosen.mean() - operation.p) < 4 * (operation.p * (1 - operation.p) / 10_000) ** 0.5


def test_jitters_factors_and_orders_are_uniform() -> None:
    drawn = ColorJitter(0.4, 1.5, 0.2, 0.1).draw(stream(0, 0), 12_000)
    ranges = {
        "brightness": (0.6, 1.4),
        "contrast": (0.0, 2.5),
        "saturation": (0.8, 1.2),
        "hue": (-0.1, 0.1),
    }
    for name, (low, high) in ranges.items():
        assert stats.kstest(drawn[name], stats.uniform(low, high - low).cdf).pvalue > 1e-3, name
    _, counts = np.unique(drawn["order"], axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    assert (
        stats.kstest(
            GaussianBlur().draw(stream(0, 0), 5000)["sigma"], stats.uniform(0.1, 1.9).cdf
        ).pvalue
        > 1e-3
    )


def test_streams_are_golden() -> None:
    """NumPy keeps PCG64 and SeedSequence; should its methods change, runs are not resumed with
    other views unnoticed."""
    assert stream(3, 5, 0, 1, 2).integers(0, 1 << 32, 3).tolist() == [
        3006736378,
        2715383084,
        1473528411,
    ]
    assert RandomResizedCrop(8).draw(stream(0, 0), 2)["area"][:, :2].round(6).tolist() == [
        [0.947503, 0.37103],
        [0.866302, 0.162776],
    ]
    drawn = ColorJitter(0.4, 0.4, 0.2, 0.1).draw(stream(0, 0), 2)
    assert drawn["hue"].round(6).tolist() == [-0.046261, 0.035849]
    assert drawn["order"].tolist() == [[1, 0, 2, 3], [3, 0, 1, 2]]
    assert mask_noise(0, 0, slice(0, 1), 1, 3)[0].tolist() == pytest.approx(
        [0.59668, 0.36480, 0.37770], abs=1e-5
    )


def test_streams_of_seed_step_and_purpose_are_different() -> None:
    keys = [(0, 0), (1, 0), (0, 1), (0, 0, 0), (0, 0, 1), (0, 0, 0, 1), (1 << 32, 0), (0, 0, 1, 0)]
    assert len({stream(*key).random() for key in keys}) == len(keys)


def test_mask_noise_is_uniform_and_does_not_depend_on_the_split() -> None:
    whole = mask_noise(0, 4, slice(0, 60), 60, 49)
    parts = [mask_noise(0, 4, slice(start, start + 20), 60, 49) for start in (0, 20, 40)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(mask_noise(0, 5, slice(0, 60), 60, 49), whole)
    assert stats.kstest(whole.flatten().numpy(), "uniform").pvalue > 1e-3


# ------------------------------------------------------------------------------------------------
# recipes


@pytest.mark.parametrize(
    "recipe",
    [
        mae_views(16),
        moco_v3_views(16),
        moco_v3_views(96),
        dino_views(16, 8, 2),
        msn_views(16, 8, 2),
    ],
)
@pytest.mark.parametrize("width", [4, 1, 3])
def test_views_do_not_depend_on_the_split_of_the_batch(recipe: RandomViews, width: int) -> None:
    whole = recipe.batch(IMAGES, seed=1, step=9, rows=slice(0, 8), total=8)
    starts = range(0, 8, width)
    parts = [
        recipe.batch(
            IMAGES[start : start + width],
            seed=1,
            step=9,
            rows=slice(start, min(8, start + width)),
            total=8,
        )
        for start in starts
    ]
    for view, split in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(split), view)


def test_views_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, asked = moco_v3_views(16), {"seed": 0, "step": 0, "rows": slice(0, 8), "total": 8}
    whole = recipe.batch(IMAGES, **asked)
    monkeypatch.setattr("sslens.data.views._CHUNK", 3 * 3 * 16 * 16)
    monkeypatch.setattr("sslens.data.colour._CACHED", 2 * 3 * 16 * 16)
    for view, chunked in zip(whole, recipe.batch(IMAGES, **asked), strict=True):
        assert torch.equal(chunked, view)


def test_steps_seeds_and_views_differ() -> None:
    recipe = moco_v3_views(16)
    made = [
        view
        for seed, step in ((0, 0), (0, 1), (1, 0))
        for view in recipe.batch(IMAGES, seed=seed, step=step, rows=slice(0, 8), total=8)
    ]
    for i, view in enumerate(made):
        assert view.shape == (8, 3, 16, 16)
        assert all(not torch.equal(view[0], other[0]) for other in made[:i])


def test_a_view_is_its_crop_then_its_operations_in_order() -> None:
    crop, operations = RandomResizedCrop(10), (Solarize(p=0.5), GaussianBlur(), Flip(), Normalize())
    recipe = RandomViews((View(RandomResizedCrop(6), ()), View(crop, operations)))
    wanted = crop.apply(IMAGES, crop.draw(stream(2, 7, 0, 1, 0), 8)).float() / 255
    for place, operation in enumerate(operations):
        wanted = operation.apply(wanted, operation.draw(stream(2, 7, 0, 1, place + 1), 8))
    small, view = recipe.batch(IMAGES, seed=2, step=7, rows=slice(0, 8), total=8)
    assert torch.equal(view, wanted)
    assert small.shape == (8, 3, 6, 6)
    assert small.min() >= 0
    assert small.max() <= 1


def test_a_recipe_can_be_sent_to_a_worker() -> None:
    """Pickled for a process of our own, as the data workers' are; nothing from elsewhere is ever
    unpickled."""
    recipe = moco_v3_views(16)
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_recipes_have_the_papers_settings() -> None:
    (mae,) = mae_views(224).views
    assert (mae.crop.scale, mae.crop.interpolation) == ((0.2, 1.0), "bicubic")
    first, second = moco_v3_views(224).views
    assert (
        first.crop == second.crop == RandomResizedCrop(224, (0.08, 1.0), (3 / 4, 4 / 3), "bilinear")
    )
    colour = (ColorJitter(0.4, 0.4, 0.2, 0.1, 0.8), Grayscale(0.2))
    assert first.operations == (*colour, GaussianBlur((0.1, 2.0), 1.0), Flip(0.5), Normalize())
    assert second.operations == (
        *colour,
        GaussianBlur((0.1, 2.0), 0.1),
        Solarize(128 / 255, 0.2),
        Flip(0.5),
        Normalize(),
    )


def test_colours_change_what_they_name_in_every_view() -> None:
    colours = Colours(jitter=0.5, saturation=0.3, hue=0.4, grey=0.8, blur=0.05, solarise=0.0)
    change, blur = (ColorJitter(0.5, 0.5, 0.3, 0.4, 0.8), Grayscale(0.8)), (0.05, 0.05)
    for recipe in (moco_v3_views(32, colours=colours), dino_views(32, 16, 1, colours=colours)):
        for view, p in zip(recipe.views, (1.0, 0.1, 0.5), strict=False):
            kept = tuple(
                operation
                for operation in view.operations
                if not isinstance(operation, Flip | Normalize)
            )
            solarised = (Solarize(128 / 255, 0.0),) if p == 0.1 else ()
            assert kept == (*change, GaussianBlur(blur, p), *solarised)
    for view in msn_views(32, 16, 1, colours=colours).views:
        assert view.operations == (Flip(), *change, GaussianBlur(blur, 0.5), Normalize())


def test_dinos_views_have_the_released_codes_settings() -> None:
    first, second, *local = dino_views(224, 96).views
    crop = RandomResizedCrop(224, (0.4, 1.0), (3 / 4, 4 / 3), "bicubic")
    assert first.crop == second.crop == crop
    colour = (Flip(0.5), ColorJitter(0.4, 0.4, 0.2, 0.1, 0.8), Grayscale(0.2))
    assert first.operations == (*colour, GaussianBlur((0.1, 2.0), 1.0), Normalize())
    assert second.operations == (
        *colour,
        GaussianBlur((0.1, 2.0), 0.1),
        Solarize(128 / 255, 0.2),
        Normalize(),
    )
    small = View(
        RandomResizedCrop(96, (0.05, 0.4), (3 / 4, 4 / 3), "bicubic"),
        (*colour, GaussianBlur((0.1, 2.0), 0.5), Normalize()),
    )
    assert local == [small] * 8
    alone = dino_views(224, 96, 0, global_scale=(0.14, 1.0)).views
    assert [view.crop.scale for view in alone] == [(0.14, 1.0)] * 2


def test_msns_views_have_the_released_configurations_settings() -> None:
    target, random, *focal = msn_views(224, 96).views
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1, 0.8)
    operations = (Flip(0.5), jitter, Grayscale(0.2), GaussianBlur((0.1, 2.0), 0.5), Normalize())
    assert (
        target
        == random
        == View(RandomResizedCrop(224, (0.3, 1.0), (3 / 4, 4 / 3), "bilinear"), operations)
    )
    small = View(RandomResizedCrop(96, (0.05, 0.3), (3 / 4, 4 / 3), "bilinear"), operations)
    assert focal == [small] * 10


@pytest.mark.parametrize(
    "recipe", [dino_views(24, 16, 2), msn_views(24, 16, 2)], ids=["dino", "msn"]
)
def test_multi_crop_is_distributed_as_torchvisions(recipe: RandomViews) -> None:
    """Mean and spread of pixels and of neighbours' differences, of each view, over many draws of a
    few images."""
    count, sources = (
        600,
        [noise(9, 6, seed=i).resize((60, 40), Image.Resampling.BICUBIC) for i in range(6)],
    )
    images = [sources[i % 6] for i in range(count)]
    ours = recipe.batch(images, seed=0, step=0, rows=slice(0, count), total=count)
    torch.manual_seed(0)
    for view, got in zip(recipe.views, ours, strict=True):
        jitter = next(op for op in view.operations if isinstance(op, ColorJitter))
        blur = next(op.p for op in view.operations if isinstance(op, GaussianBlur))
        solarize = next((op.p for op in view.operations if isinstance(op, Solarize)), 0.0)
        mode = InterpolationMode(view.crop.interpolation)
        amounts = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        theirs = T.Compose(
            [
                T.RandomResizedCrop(view.crop.size, view.crop.scale, interpolation=mode),
                T.RandomHorizontalFlip(),
                T.RandomApply([T.ColorJitter(*amounts)], jitter.p),
                T.RandomGrayscale(0.2),
                T.RandomApply(
                    [
                        T.Lambda(
                            lambda x: x.filter(
                                ImageFilter.GaussianBlur(np.random.uniform(0.1, 2.0))
                            )
                        )
                    ],
                    blur,
                ),
                T.RandomSolarize(128, solarize),
                T.ToTensor(),
                T.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )
        np.random.seed(0)
        wanted = torch.stack([theirs(image) for image in images])
        assert got.shape == wanted.shape
        for measure in (
            lambda x: x.mean((1, 2, 3)),
            lambda x: x.std((1, 2, 3)),
            lambda x: x.diff(dim=3).abs().mean((1, 2, 3)),
            lambda x: (x[:, 0] - x[:, 2]).std((1, 2)),
        ):
            assert stats.ks_2samp(measure(got).numpy(), measure(wanted).numpy()).pvalue > 1e-3


# ------------------------------------------------------------------------------------------------
# evaluation


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(61, 40), (40, 61), (37, 37), (24, 24), (29, 24), (200, 23)])
@pytest.mark.parametrize(("resize", "crop"), [(32, 24), (24, 24), (31, 16)])
def test_evaluation_is_torchvisions(
    interpolation: str, size: tuple[int, int], resize: int, crop: int
) -> None:
    reference = T.Compose(
        [
            T.Resize(resize, InterpolationMode(interpolation)),
            T.CenterCrop(crop),
            T.ToTensor(),
            T.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    image = noise(*size)
    got = EvalTransform(resize=resize, crop=crop, interpolation=interpolation)(image)
    assert got.is_contiguous()
    assert torch.equal(got, reference(image))


def test_evaluation_of_an_image_of_the_right_size_keeps_its_pixels() -> None:
    image = noise(24, 24)
    transform = EvalTransform(24, 24, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert torch.equal(transform(image), TF.to_tensor(image))


def test_evaluations_spec_is_json() -> None:
    transform = EvalTransform(48, 32, "bilinear")
    spec = json.loads(json.dumps(transform.spec()))
    assert spec == transform.spec()
    assert (
        EvalTransform(**spec | {"mean": tuple(spec["mean"]), "std": tuple(spec["std"])})
        == transform
    )


# ------------------------------------------------------------------------------------------------
# mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EvalTransform(interpolation="bicubik"), "did you mean bicubic"),
        (lambda: RandomResizedCrop(8, interpolation="nearest"), "'nearest' is unknown"),
        (lambda: EvalTransform(resize=24, crop=32), "crop is 32"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 0.2)), "scale"),
        (lambda: RandomResizedCrop(8, ratio=(0.0, 0.2)), "ratio"),
        (lambda: Flip(p=1.5), "probability"),
        (lambda: ColorJitter(0.4, 0.4, 0.2, 0.6), "half the circle"),
        (lambda: GaussianBlur(sigma=(0.0, 1.0)), "sigma"),
        (lambda: stream(-1, 0), "seed is -1"),
        (lambda: stream(0, 1 << 32), "step below"),
        (
            lambda: mae_views(8).batch(IMAGES[:3], seed=0, step=0, rows=slice(0, 4), total=8),
            "3 images for rows 0 to 4",
        ),
        (lambda: mae_views(8).batch(IMAGES, seed=0, step=0, rows=slice(4, 12), total=8), "give 4"),
        (lambda: EvalTransform(24, 24)(noise(24, 24).convert("L")), "mode L"),
        (
            lambda: RandomResizedCrop(4).apply(
                [noise(4, 4).convert("L")], RandomResizedCrop(4).draw(stream(0, 0), 1)
            ),
            "RGB",
        ),
    ],
)
def test_mistakes_are_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_an_operation_wants_three_channels() -> None:
    with pytest.raises(TypeCheckError):
        Grayscale().apply(torch.rand(2, 1, 4, 4), {"chosen": ALL[:2]})


@pytest.mark.parametrize("objective", [moco_v3, dino], ids=["moco-v3", "dino"])
def test_objectives_shift_hues_as_far_as_their_setting_says(objective: Any) -> None:
    hues = np.stack([np.full((32, 32, 3), [180, 90, 60], np.uint8)] * 8)
    images, rows = [Image.fromarray(picture) for picture in hues], Rows(0, 0, slice(0, 8), 8)
    arch, most = ViTArch.parse("vit_nano_patch8_32"), []
    plain = {"jitter": 0.0, "grey": 0.0, "solarise": 0.0}
    for hue in (0.0, 0.1, 0.5):
        made = objective.batch(images, objective.Settings(hue=hue, **plain), arch, rows)
        views = next(iter(made.values())).reshape(-1, 3, 32, 32)
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        _, green, blue = (views.mean((2, 3)) * std + mean).T
        most.append(float((green - blue).abs().max()))
    assert most[0] < most[1] < most[2]
    with pytest.raises(InputError, match=r"at most 0\.5"):
        objective.batch(images, objective.Settings(hue=0.6), arch, rows)
