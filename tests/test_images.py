"""Images: what decoding makes of each kind of file, and what a set samples, digests and refuses."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from sslens.data import ImageSet, open_images
from sslens.data.arrays import cifar10, from_npz
from sslens.data.decoding import decode
from sslens.data.images import from_arrays
from sslens.errors import InputError
from sslens.store import home


def filed(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def decoded(image: Image.Image, kind: str, **options: object) -> np.ndarray:
    result = decode(filed(image, kind, **options))
    assert type(result) is Image.Image
    assert result.mode == "RGB"
    return np.asarray(result)


def greys(images: ImageSet) -> list[int]:
    return [images.image(row).getpixel((0, 0))[0] for row in range(len(images))]


class TestDecode:
    def test_sixteen_bits_are_scaled_not_clipped(self) -> None:
        values = np.array([[0, 128, 129, 0x8080, 0xFFFF]], np.uint16)  # 128 / 257 < 1/2 < 129 / 257
        for kind in ("png", "tiff", "ppm"):
            assert decoded(Image.fromarray(values), kind)[0].tolist() == [
                [v] * 3 for v in (0, 0, 1, 128, 255)
            ], kind

    def test_sixteen_bits_with_a_transparent_value(self) -> None:
        values = np.array([[0, 0x8080]], np.uint16)
        assert decoded(Image.fromarray(values), "png", transparency=0)[0, :, 0].tolist() == [
            255,
            128,
        ]

    def test_pgm_of_twelve_bits_reaches_white(self) -> None:
        assert decode(io.BytesIO(b"P5 2 1 4095 " + bytes([0x0F, 0xFF, 0x00, 0x00]))).getpixel(
            (0, 0)
        ) == (255, 255, 255)

    def test_floats_of_the_unit_interval(self) -> None:
        values = np.array([[0.0, 0.5, 1.0]], np.float32)
        assert decoded(Image.fromarray(values), "tiff")[0, :, 1].tolist() == [0, 128, 255]

    @pytest.mark.parametrize("bad", [1.5, -0.1, np.nan])
    def test_other_floats_are_refused(self, bad: float) -> None:
        with pytest.raises(InputError, match=r"outside \[0, 1\]"):
            decode(filed(Image.fromarray(np.array([[0.5, bad]], np.float32)), "tiff"))

    def test_integers_of_unknown_range_are_refused(self) -> None:
        with pytest.raises(InputError, match="32-bit integers"):
            decode(filed(Image.fromarray(np.array([[1, 70000]], np.int32)), "tiff"))

    @pytest.mark.parametrize("kind", ["png", "tiff", "gif", "bmp"])
    def test_one_bit_and_grey(self, kind: str) -> None:
        assert decoded(Image.fromarray(np.array([[True, False]])), kind).tolist() == [
            [[255] * 3, [0] * 3]
        ]
        assert decoded(Image.fromarray(np.array([[7, 200]], np.uint8)), kind).tolist() == [
            [[7] * 3, [200] * 3]
        ]

    @pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
    def test_alpha_is_composited_on_white(self, kind: str) -> None:
        pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 255, 51]]], np.uint8)
        options = {"lossless": True, "exact": True} if kind == "webp" else {}
        # 51/255 = 1/5 of blue over 4/5 of white
        expected = [[10, 20, 30], [255, 255, 255], [204, 204, 255]]
        assert decoded(Image.fromarray(pixels), kind, **options)[0].tolist() == expected

    def test_grey_with_alpha(self) -> None:
        pixels = np.array([[[100, 255], [100, 0], [0, 51]]], np.uint8)
        assert decoded(Image.fromarray(pixels, "LA"), "png")[0, :, 0].tolist() == [100, 255, 204]

    @pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])])
    def test_palette_with_a_transparent_entry(self, transparency: int | bytes) -> None:
        image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
        image.putpalette([9, 8, 7, 200, 0, 0, 0, 0, 250])
        assert decoded(image, "png")[0].tolist() == [[9, 8, 7], [200, 0, 0], [0, 0, 250]]
        assert decoded(image, "png", transparency=transparency)[0].tolist() == [
            [9, 8, 7],
            [255] * 3,
            [0, 0, 250],
        ]

    def test_colour_that_stands_for_transparent(self) -> None:
        image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
        assert decoded(image, "png", transparency=(1, 2, 3))[0].tolist() == [[255] * 3, [4, 5, 6]]

    @pytest.mark.parametrize("kind", ["jpeg", "tiff"])
    def test_cmyk(self, kind: str) -> None:
        # red is (1 - cyan)(1 - black): ink 0 % is white, all black is black; Pillow writes Adobe's
        # inverted JPEG
        inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)]
        colours = [decoded(Image.new("CMYK", (8, 8), ink), kind)[0, 0].astype(int) for ink in inks]
        expected = [[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0]]
        assert np.abs(np.array(colours) - expected).max() <= 2

    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, kind: str, orientation: int) -> None:
        scene = np.zeros((32, 48, 3), np.uint8)
        scene[:16, :16], scene[:16, 32:], scene[16:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
        undo = {  # how the stored array becomes from the upright one, by EXIF 2.3's table
            1: lambda a: a,
            2: np.fliplr,
            3: lambda a: np.rot90(a, 2),
            4: np.flipud,
            5: lambda a: np.swapaxes(a, 0, 1),
            6: lambda a: np.rot90(a, 1),
            7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
            8: lambda a: np.rot90(a, -1),
        }
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(np.ascontiguousarray(undo[orientation](scene)))
        result = decoded(stored, kind, exif=exif, **({"lossless": True} if kind == "webp" else {}))
        assert result.shape == scene.shape
        assert np.abs(result.astype(int) - scene)[4::8, 4::8].max() <= 6

    def test_animation_gives_its_first_frame(self) -> None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        for kind in ("gif", "png", "webp"):
            options = {"lossless": True} if kind == "webp" else {}
            result = decoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
            assert result[0, 0].tolist() == [255, 0, 0], kind

    def test_colour_profile_is_ignored(self) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        assert decoded(Image.new("RGB", (1, 1), (1, 2, 3)), "png", icc_profile=profile)[
            0, 0
        ].tolist() == [1, 2, 3]

    def test_path_is_named_when_it_fails(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"nothing of the kind")
        with pytest.raises(
            InputError, match=r"a\.jpg cannot be decoded \(it is not an image of a known format\)"
        ):
            decode(tmp_path / "a.jpg")
        with pytest.raises(InputError, match=r"gone\.jpg cannot be decoded \(No such file"):
            decode(tmp_path / "gone.jpg")

    @pytest.mark.parametrize("share", [0.5, 0.95])
    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "bmp"])
    def test_truncated_file(self, kind: str, share: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        whole = filed(Image.fromarray(noise), kind).getvalue()
        with pytest.raises(InputError, match="the image cannot be decoded"):
            decode(io.BytesIO(whole[: int(len(whole) * share)]))

    def test_huge_dimensions(self) -> None:
        for side in (9500, 20000):  # one and two of Pillow's limits
            with pytest.raises(InputError, match="more than 89,478,485 pixels are not decoded"):
                decode(filed(Image.new("1", (side, side)), "png"))

    def test_other_programs_are_not_run(self) -> None:
        with pytest.raises(InputError, match="not an image of a known format"):
            decode(filed(Image.new("RGB", (2, 2)), "eps"))


class TestSet:
    GOLDEN = ("000023", "000006", "000004", "000019")
    IDS = tuple(f"{at:06d}" for at in range(50))

    def test_sample_is_golden(self) -> None:
        images = from_arrays(np.zeros((50, 1, 1), np.uint8))
        # for i in $(seq -f %06g 0 49); do echo $(printf 7/$i | sha256sum) $i; done | sort | head -4
        assert images.sample(4, seed=7).ids == self.GOLDEN
        assert set(images.sample(4, seed=8).ids) != set(self.GOLDEN)

    def test_sample_does_not_depend_on_order(self) -> None:
        pixels = np.arange(50, dtype=np.uint8).reshape(50, 1, 1)
        images = from_arrays(pixels, labels=np.arange(50))
        shuffled = images.take(np.random.default_rng(0).permutation(50))
        one, other = images.sample(9, seed=3), shuffled.sample(9, seed=3)
        assert one.ids == other.ids
        assert one.digest == other.digest
        assert greys(other) == [int(name) for name in other.ids]

    def test_samples_are_nested(self) -> None:
        images = from_arrays(np.zeros((50, 1, 1), np.uint8))
        everything = images.sample(None, seed=3)
        assert sorted(everything.ids) == list(self.IDS)
        assert everything.ids == images.sample(50, seed=3).ids == images.sample(99, seed=3).ids
        assert images.sample(9, seed=3).ids == everything.ids[:9]

    def test_take_of_take(self) -> None:
        images = from_arrays(np.arange(5, dtype=np.uint8).reshape(5, 1, 1), labels=[0, 1, 2, 3, 4])
        taken = images.take([4, 2, 0]).take([1, 2])
        assert taken.labels is not None
        assert (greys(taken), taken.ids, taken.labels.tolist()) == (
            [2, 0],
            ("000002", "000000"),
            [2, 0],
        )

    def test_digest_sees_all_that_counts(self) -> None:
        pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
        plain = from_arrays(pixels)
        labelled = from_arrays(pixels, [0, 1, 1], ["cat", "dog"])
        other = pixels.copy()
        other[2, 1, 1] ^= 1
        digests = [
            plain.digest,
            labelled.digest,
            from_arrays(pixels, [0, 1, 0], ["cat", "dog"]).digest,
            from_arrays(pixels, [0, 1, 1], ["cat", "fox"]).digest,
            from_arrays(pixels, ids=["a", "b", "c"]).digest,
            from_arrays(pixels.reshape(3, 1, 4)).digest,
            from_arrays(other).digest,
            plain.take([1, 0, 2]).digest,
            plain.take([0, 1]).digest,
        ]
        assert len(set(digests)) == len(digests)
        # a class that no image has, the numbering of classes and the set's name do not count
        assert (
            from_arrays(pixels, [2, 0, 0], ["dog", "ant", "cat"], name="same").digest
            == labelled.digest
        )
        assert plain.take([2, 1, 0]).take([2, 1, 0]).digest == plain.digest

    def test_labels_cannot_be_changed(self) -> None:
        given = np.array([0, 1])
        source = from_arrays(np.zeros((2, 1, 1), np.uint8)).source
        images = ImageSet("two", ("a", "b"), given, ("cat", "dog"), source)
        given[0] = 1
        assert images.labels is not None
        assert images.labels.tolist() == [0, 1]
        with pytest.raises(ValueError, match="read-only"):
            images.labels[0] = 1

    def test_two_classes_of_one_name(self) -> None:
        with pytest.raises(InputError, match='2 classes are called "a": give every class a name'):
            from_arrays(np.zeros((2, 1, 1), np.uint8), labels=[0, 1], classes=["a", "a"])

    def test_two_equal_ids(self) -> None:
        with pytest.raises(InputError, match='array: 2 images have the id "a"'):
            from_arrays(np.zeros((3, 1, 1), np.uint8), ids=["a", "b", "a"])
        with pytest.raises(InputError, match='2 images have the id "000001"'):
            from_arrays(np.zeros((3, 1, 1), np.uint8)).take([1, 1])


class TestArrays:
    def test_colour_and_grey(self) -> None:
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
        assert np.array_equal(np.asarray(from_arrays(pixels).image(1)), pixels[1])
        assert np.asarray(from_arrays(pixels[..., 0]).image(0)).tolist() == [
            [[0] * 3, [3] * 3],
            [[6] * 3, [9] * 3],
        ]
        assert from_arrays(pixels).labels is None

    def test_strided_pixels_are_the_same_images(self) -> None:
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
        strided = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
        assert from_arrays(strided).digest == from_arrays(pixels).digest

    @pytest.mark.parametrize(
        ("images", "given", "message"),
        [
            (np.zeros((4, 2, 2, 3)), {}, r"must be uint8 .*, not float64 of shape \(4, 2, 2, 3\)"),
            (np.zeros((4, 3, 8, 8), np.uint8), {}, r"not uint8 of shape \(4, 3, 8, 8\)"),
            (np.zeros((4, 4), np.uint8), {}, r"not uint8 of shape \(4, 4\)"),
            (np.zeros((0, 8, 8, 3), np.uint8), {}, "holds no image"),
            (
                np.zeros((2, 1, 1), np.uint8),
                {"labels": [0]},
                r"2 whole numbers, one an image, not int64 of shape \(1,\)",
            ),
            (np.zeros((2, 1, 1), np.uint8), {"labels": np.array([0.5, 1.0])}, "not float64"),
            (
                np.zeros((2, 1, 1), np.uint8),
                {"labels": [-1, 0]},
                "labels reach from -1 to 0, but 1 classes",
            ),
            (
                np.zeros((2, 1, 1), np.uint8),
                {"labels": [0, 2], "classes": ["a", "b"]},
                "from 0 to 2, but 2 classes",
            ),
            (np.zeros((2, 1, 1), np.uint8), {"ids": ["a"]}, "2 images, but 1 ids"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, images: np.ndarray, given: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            from_arrays(images, **given)

    def test_npz(self, tmp_path: Path) -> None:
        pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
        path = tmp_path / "mine.npz"
        np.savez(
            path,
            images=pixels,
            labels=np.uint8([1, 0]),
            classes=["cat", "dog"],
            ids=["x", "y"],
            other=[1],
        )
        images = from_npz(path)
        assert (images.name, images.ids, images.classes) == ("mine", ("x", "y"), ("cat", "dog"))
        assert images.labels is not None
        assert images.labels.tolist() == [1, 0]
        assert np.array_equal(np.asarray(images.image(1)), pixels[1])

    def test_npz_that_does_not_fit(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.npz"
        pixels = np.zeros((2, 1, 1), np.uint8)
        for held, message in [
            ({"x": pixels, "y": pixels}, r'mine\.npz holds no array "images", only x, y'),
            ({"images": pixels.astype(float)}, r"mine\.npz: images must be uint8 .*not float64"),
            ({"images": pixels, "classes": [1, 2]}, "classes must be a list of text, not int64"),
            (
                {"images": pixels, "ids": np.array([{}, {}], object)},
                r"mine\.npz cannot be read as \.npz",
            ),
        ]:
            np.savez(path, **held)
            with pytest.raises(InputError, match=message):
                from_npz(path)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError, match=r"cannot be read as \.npz"):
            from_npz(path)


class TestCifar10:
    def batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two batches of two images as the published archive lays them out, for torchvision to
        find."""
        from torchvision.datasets import CIFAR10

        folder = home() / "datasets" / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        md5 = {}
        for name, first in (("train_1", 0), ("test_1", 100)):
            red, green, blue = (
                np.full((2, 1024), first + colour, np.uint8) for colour in (1, 2, 3)
            )
            content = pickle.dumps({"data": np.hstack([red, green, blue]), "labels": [1, 0]})
            (folder / name).write_bytes(content)
            md5[name] = hashlib.md5(content).hexdigest()
        (folder / "meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}))
        meta = hashlib.md5((folder / "meta").read_bytes()).hexdigest()
        monkeypatch.setattr(CIFAR10, "train_list", [["train_1", md5["train_1"]]])
        monkeypatch.setattr(CIFAR10, "test_list", [["test_1", md5["test_1"]]])
        monkeypatch.setattr(
            CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": meta}
        )

    def test_splits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches(monkeypatch)
        for source, split, first in (
            ("cifar10", "val", 100),
            ("cifar10:val", "val", 100),
            ("cifar10:train", "train", 0),
        ):
            images = open_images(source, minimum=2)
            assert (images.name, sorted(images.ids)) == (
                f"cifar10:{split}",
                [f"{split}/00000", f"{split}/00001"],
            )
            assert images.classes == ("airplane", "automobile")
            assert images.image(0).size == (32, 32)
            assert images.image(0).getpixel((31, 31)) == (first + 1, first + 2, first + 3)

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from torchvision.datasets import CIFAR10

        monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:1/cifar-10-python.tar.gz")
        with pytest.raises(
            InputError,
            match=r"CIFAR-10 could not be downloaded .* put cifar-10-python.tar.gz .* as images",
        ):
            cifar10()

    def test_no_such_split(self) -> None:
        with pytest.raises(InputError, match='no split "trian": did you mean train'):
            open_images("cifar10:trian")
