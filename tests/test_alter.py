"""Known changes of images: against independent implementations, and the same for an image in
whatever batch it comes."""

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch import Tensor

from sslens.data.alter import SWITCHES, Transform
from sslens.data.transform_names import STRENGTHS, USUAL, parse_transform, parse_transforms
from sslens.errors import InputError

SIDE = 16
COUNT = 12
IDS = tuple(f"{i:03d}.png" for i in range(COUNT))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def usual(name: str, *, drawn: bool = False) -> Transform:
    return Transform(name, STRENGTHS[name].usual, drawn=drawn)


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("name", STRENGTHS)
def test_an_image_is_changed_alike_in_any_batch(name: str, drawn: bool, images: Tensor) -> None:
    transform, before = usual(name, drawn=drawn), images.clone()
    made = transform.apply(images, IDS)
    assert torch.equal(images, before)
    assert made.shape == images.shape
    assert made.dtype == torch.float32
    assert float(made.min()) >= -1e-6
    assert float(made.max()) <= 1 + 1e-6
    order = [4, 1, 3]
    again = transform.apply(images[order], [IDS[row] for row in order])
    torch.testing.assert_close(again, made[order], rtol=0, atol=1e-6)
    assert not torch.equal(made, images)
    parameters = transform.parameters(IDS, SIDE)
    assert parameters.shape == (COUNT, len(transform.parts))
    assert len(np.unique(parameters, axis=0)) == 1 or drawn
    assert transform.spec()["drawn"] is drawn


def test_flips_grey_and_a_quarter_turn_are_what_they_are_called(images: Tensor) -> None:
    assert torch.equal(usual("horizontal-flip").apply(images, IDS), images.flip(3))
    assert torch.equal(usual("vertical-flip").apply(images, IDS), images.flip(2))
    turned = Transform("rotation", 90.0).apply(images, IDS)
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    weights = torch.tensor([0.2989, 0.587, 0.114])
    grey = torch.einsum("nchw,c->nhw", images, weights)[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(usual("grey").apply(images, IDS), grey)


def test_a_shift_shows_the_mirror_image_beyond_the_edge(images: Tensor) -> None:
    moved = Transform("shift", 0.25).apply(images, IDS)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (0, 0), (4, 0)), mode="symmetric")
    assert np.array_equal(moved.numpy(), padded[..., :SIDE])
    drawn = Transform("shift", 0.25, drawn=True)
    right, down = np.rint(drawn.parameters(IDS, SIDE) * SIDE).astype(int).T
    wide = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="symmetric")
    made = drawn.apply(images, IDS).numpy()
    for row in range(COUNT):
        top, left = 4 - down[row], 4 - right[row]
        assert np.array_equal(made[row], wide[row, :, top : top + SIDE, left : left + SIDE])
    assert len(set(right)) > 1


def test_larger_and_cut_out_images_are_bilinear(images: Tensor) -> None:
    for transform, top in ((Transform("scale", 2.0), 4), (Transform("crop", 0.5), 0)):
        part = images[:, :, top : top + 8, top : top + 8]
        wanted = F.interpolate(part, scale_factor=2, mode="bilinear", align_corners=False)
        made = transform.apply(images, IDS)
        # at its edge the part goes on
        torch.testing.assert_close(made[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1])


def test_colours_and_blur_are_as_they_are_defined(images: Tensor) -> None:
    half = usual("contrast").apply(images, IDS)
    grey = usual("grey").apply(images, IDS)[:, :1].mean((2, 3), keepdim=True)
    torch.testing.assert_close(half, 0.5 * images + 0.5 * grey)
    twice = Transform("hue", 180.0)
    torch.testing.assert_close(
        twice.apply(twice.apply(images, IDS), IDS), images, atol=1e-5, rtol=0
    )
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    green = Transform("hue", 120.0).apply(red.contiguous(), ["red"])[0, :, 0, 0]
    torch.testing.assert_close(green, torch.tensor([0.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    blurred = Transform("blur", 0.1).apply(images, IDS).numpy()
    wanted = scipy.ndimage.gaussian_filter(
        images.numpy(), 1.6, mode="nearest", truncate=4.0, axes=(2, 3)
    )
    np.testing.assert_allclose(blurred, wanted, atol=1e-5)
    noise = usual("noise").apply(images / 2 + 0.25, IDS) - (images / 2 + 0.25)
    torch.testing.assert_close(noise[0], noise[1], atol=1e-5, rtol=0)  # one pattern
    assert float(noise.std()) == pytest.approx(0.1, rel=0.1)


def test_a_square_is_covered_and_squares_are_shuffled(images: Tensor) -> None:
    made = Transform("occlusion", 0.5).apply(images, IDS)
    mean = images.mean((2, 3), keepdim=True)
    covered = (made == mean).all(1)
    assert covered.sum((1, 2)).tolist() == [64] * COUNT
    assert bool(covered[:, 4:12, 4:12].all())
    assert torch.equal(made[:, :, :4], images[:, :, :4])
    shuffled = usual("patch-shuffle").apply(images, IDS)

    def cut(whole: Tensor) -> Tensor:
        return whole.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)[0].transpose(0, 1).flatten(1)

    one, other = cut(images), cut(shuffled)
    same = (one[:, None] == other[None]).all(2)
    assert same.sum(0).tolist() == [1] * 16  # every square is there once
    assert not bool(same.diagonal().any())  # and none in its place


def test_what_is_drawn_is_uniform_up_to_the_strength() -> None:
    ids = [f"{i}" for i in range(2000)]
    for name in STRENGTHS:
        values = usual(name, drawn=True).parameters(ids, 224)
        if name in SWITCHES:
            assert set(values[:, 0]) == {0.0, 1.0}
            assert values.mean() == pytest.approx(0.5, abs=0.04)
            continue
        for part in values.T:
            assert kstest((part - part.min()) / np.ptp(part), "uniform").pvalue > 1e-3, name
    one, other = (usual(name, drawn=True).parameters(ids, 224) for name in ("hue", "rotation"))
    assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.08
    stronger = Transform("rotation", 60.0, drawn=True).parameters(ids, 224)
    np.testing.assert_allclose(stronger, 2 * other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("horizontalflip", r"did you mean horizontal-flip\?"),
        ("rotation=much", r"is no number: expected rotation=NUMBER, such as rotation=30\."),
        ("rotation=270", r"rotation is 270: give a number from 1 to 180 \(degrees"),
        ("patch-shuffle=2.5", "give a whole number from 2 to 16"),
        ("grey=0.5", "give 1, for it has no other strength"),
        ("blur=nan", "blur is nan: give a number from"),
    ],
)
def test_a_transform_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_transform(text)


def test_transforms_that_do_not_apply_are_refused(images: Tensor) -> None:
    with pytest.raises(InputError, match=r"does not apply to images of 15 px.*=3 to transforms"):
        usual("patch-shuffle").apply(images[..., :15, :15], IDS)
    with pytest.raises(InputError, match="less than a pixel of images of 16 px"):
        Transform("shift", 0.02).apply(images, IDS)
    with pytest.raises(InputError, match="12 images have 5 ids"):
        usual("grey").apply(images, IDS[:5])
    with pytest.raises(InputError, match="given twice"):
        parse_transforms(("hue", "hue=90"))
    assert len(USUAL) == 11
    assert {"noise", "crop"} == set(STRENGTHS) - set(USUAL)
