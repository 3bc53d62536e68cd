"""Copies of images: found by content, in whatever format, and left out of what learns or judges."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sslens
from sslens.capture import Features
from sslens.comparisons.image_copies import find_equal_rows, find_near_copies
from sslens.data import open_images
from sslens.data.copies import count_shared, find_copies, number_contents
from sslens.data.images import ImageSet, from_arrays
from sslens.models.taps import Tap
from sslens.store import Store
from sslens.study.asked import Study
from sslens.study.copies import describe_near_copies, leave_out_copies, match_bank
from sslens.study.running import carry_out

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 16, 24, 3), dtype=np.uint8)


def save(folder: Path, files: dict[str, Image.Image | bytes]) -> ImageSet:
    """Save images under their names, whose endings say the format, and open the folder."""
    for name, image in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path)
    return open_images(folder)


def encode(image: Image.Image, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    image.save(file, "jpeg", comment=comment)
    return file.getvalue()


def test_the_same_pixels_in_another_format_are_a_copy(tmp_path: Path) -> None:
    one, other = Image.fromarray(PIXELS[0]), Image.fromarray(PIXELS[1])
    jpeg = encode(other)
    decoded = Image.open(io.BytesIO(jpeg)).convert("RGB")
    files = {"a/1.png": one, "a/2.bmp": one, "b/3.tiff": other, "b/4.jpg": jpeg}
    images = save(
        tmp_path / "one", files | {"b/5.jpg": encode(other, b"of 2020"), "b/6.png": decoded}
    )
    place = {name: number for number, name in enumerate(images.ids)}
    (numbers,) = number_contents(images)
    same = {name: int(numbers[place[name]]) for name in images.ids}
    assert same["a/1.png"] == same["a/2.bmp"] != same["b/3.tiff"]
    assert same["b/4.jpg"] == same["b/5.jpg"] == same["b/6.png"] != same["b/3.tiff"]
    assert len(find_copies(images)[0]) == 3
    assert count_shared(from_arrays(PIXELS[:3], [0, 0, 1]), images) == 2


def test_jpegs_of_equal_means_are_not_taken_for_copies(tmp_path: Path) -> None:
    red, blue = (np.full((16, 16, 3), colour, np.uint8) for colour in ((60, 0, 0), (0, 0, 157)))
    images = save(
        tmp_path,
        {f"{at}.jpg": encode(Image.fromarray(one)) for at, one in enumerate((red, blue))}
        | {
            "2.jpg": encode(Image.fromarray(PIXELS[0, :, :16])),
            "3.jpg": encode(Image.fromarray(PIXELS[1, :, :16])),
        },
    )
    assert len(find_copies(images)[0]) == 0


def test_what_was_seen_is_remembered(tmp_path: Path) -> None:
    one = Image.fromarray(PIXELS[0])
    files = {f"{at}.png": Image.fromarray(PIXELS[at]) for at in range(4)}
    first = number_contents(save(tmp_path, files | {"4.bmp": one}))[0].tolist()
    again = number_contents(open_images(tmp_path))[0].tolist()
    assert first == again
    assert len(set(again)) == 4


def test_the_first_of_copies_is_kept_and_contradictions_are_told() -> None:
    images = from_arrays(PIXELS[[0, 1, 2, 0, 1]], [0, 0, 1, 1, 0], ["cat", "dog"], list("abcde"))
    rest = leave_out_copies(images)
    assert rest.ids == ("a", "b", "c")
    (note,) = rest.notes
    assert note.startswith("2 of 5 images of array are copies of others, with the same pixels")
    assert note.endswith(
        "1 copy has another class than the image that is kept: d (dog) of a (cat)."
    )
    assert leave_out_copies(rest) is rest
    unlabelled = from_arrays(PIXELS[[0, 0, 1]])
    assert leave_out_copies(unlabelled) is unlabelled


@pytest.mark.parametrize("labels", [None, [0, 1, 1]])
def test_images_that_are_all_alike_are_kept_and_told(labels: list[int] | None) -> None:
    rest = leave_out_copies(from_arrays(PIXELS[[0, 0, 0]], labels))
    assert len(rest) == 3
    assert rest.notes[0].startswith("All 3 images of array have the same pixels")
    assert not leave_out_copies(from_arrays(PIXELS[:1])).notes


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_a_bank_has_no_copy_of_what_is_judged(tmp_path: Path, ending: str) -> None:
    pictures = [Image.fromarray(one) for one in PIXELS]
    judged = save(tmp_path / "q", {f"{at % 2}/{at}.png": pictures[at] for at in range(4)})
    bank = save(tmp_path / "b", {f"{at % 2}/{at}.{ending}": pictures[at] for at in range(8)})
    images, rest = match_bank(judged, bank, "b")
    assert rest is not None
    assert (len(images), len(rest)) == (4, 4)
    assert "4 images of b were left out of 8 to learn from" in rest.notes[-1]


def shrink(pictures: list[Image.Image], ids: str) -> Features:
    """The features of the raw pixels of some pictures, with a class each."""
    shrunk = [np.asarray(one.resize((32, 32), Image.Resampling.BILINEAR)) for one in pictures]
    values = torch.from_numpy(np.stack(shrunk)).permute(0, 3, 1, 2).flatten(1).half() / 255
    taps = [Tap("pixels", "pixels", 0.0)]
    columns = {("pixels", "flat"): values}
    return Features.of(columns, taps=taps, ids=list(ids), labels=[0] * len(pictures))


def test_the_same_photograph_in_another_size_or_saved_again_is_told() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10, 7, 7, 3), dtype=np.uint8)
    pictures = [Image.fromarray(one).resize((96, 96)) for one in coarse]
    again = Image.open(io.BytesIO(encode(pictures[4])))
    larger = pictures[0].resize((150, 150))
    mirrored = pictures[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    images, bank = shrink(pictures[:4], "abcd"), shrink([*pictures[4:], again, larger], "efghijkl")
    assert find_near_copies(images, bank).tolist() == [[0, 11], [4, 10]]
    (note,) = describe_near_copies([images], [bank])
    assert note.startswith("4 of 12 images that vote, train or are judged have a near copy")
    assert "They are kept: a and l of the bank; e of the bank and k of the bank. Shrunk" in note
    assert not describe_near_copies([shrink([*pictures, mirrored], "abcdefghijk")])


def test_a_background_in_common_makes_no_near_copies() -> None:
    """Small things on white, and views through one round window."""
    rng = np.random.default_rng(0)
    white = np.full((40, 32, 32, 3), 250, np.uint8)
    for at, one in enumerate(white):
        one[at % 8 * 4 : at % 8 * 4 + 4, at // 8 * 6 : at // 8 * 6 + 6] = rng.integers(0, 256, 3)
    inside = np.hypot(*np.mgrid[-16:16, -16:16]) < 14
    noise = np.kron(rng.normal(0, 10, (40, 8, 8)), np.ones((4, 4)))
    round_views = (inside * (150 + noise)).astype(np.uint8)[..., None].repeat(3, 3)
    for several in (white, round_views):
        pictures = [*map(Image.fromarray, several)]
        assert not len(find_near_copies(shrink(pictures, "".join(map(chr, range(40))))))


def test_a_study_tells_near_copies(tmp_path: Path) -> None:
    scenes = open_images("scenes:0:24")
    pictures = [scenes.image(row) for row in range(24)]
    pixel = np.array(pictures[3])
    pixel[0, 0] ^= 1
    files = {f"{row % 2}/{row}.png": one for row, one in enumerate(pictures)}
    save(tmp_path / "images", files | {"0/again.png": Image.fromarray(pixel)})
    study = Study(("random:vit_nano_patch8_32",), str(tmp_path / "images"), ("knn-depth",))
    result = carry_out(study, store=Store(tmp_path / "store"), quiet=True)
    assert result is not None
    (note,) = (one for one in result.notes if "near copy" in one)
    assert note.startswith("2 of 25 images")


@pytest.mark.parametrize("in_bank", [False, True])
def test_equal_rows_of_stored_features_are_told(in_bank: bool) -> None:
    values = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    values[21 if in_bank else 2] = values[1]
    parts = [Features.of({("norm", "cls"): one}, labels=[0, 1] * 10) for one in values.split(20)]
    images, bank = (replace(one, classes=("a", "b")) for one in parts)
    (note,) = sslens.knn(images, bank=bank).notes
    assert note.startswith("2 of 40 images have the features of another image")
    assert note.endswith(f"1, {1 if in_bank else 2}.")
    assert "2 of 40 images have the features" in sslens.probe(images, test=bank, layers=1).notes[0]
    assert not len(find_equal_rows(Features.of({("norm", "cls"): torch.ones(3, 2)})))
