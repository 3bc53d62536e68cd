"""Copies of images: found by content, in whatever format, and left out of what learns or judges."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslens.data import open_images
from sslens.data.copies import count_shared, find_copies, number_contents
from sslens.data.images import ImageSet, from_arrays
from sslens.study.copies import leave_out_copies, match_bank

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
    unlabelled = from_arrays(PIXELS[[0, 0]])
    assert leave_out_copies(unlabelled) is unlabelled


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_a_bank_has_no_copy_of_what_is_judged(tmp_path: Path, ending: str) -> None:
    pictures = [Image.fromarray(one) for one in PIXELS]
    judged = save(tmp_path / "q", {f"{at % 2}/{at}.png": pictures[at] for at in range(4)})
    bank = save(tmp_path / "b", {f"{at % 2}/{at}.{ending}": pictures[at] for at in range(8)})
    images, rest = match_bank(judged, bank, "b")
    assert rest is not None
    assert (len(images), len(rest)) == (4, 4)
    assert "4 images of b were left out of 8 to learn from" in rest.notes[-1]
