"""Whatever a user has as images: what is left out of folders and said, layouts that were not meant,
links, thin images, index files, data sets, and classes matched by name."""

import os
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sslens.data import ImageSet, open_images
from sslens.data.classes import match_classes
from sslens.data.datasets import make_image
from sslens.data.folders import FolderImages, check, from_folder
from sslens.data.images import from_arrays
from sslens.data.transform import THIN, EvalTransform
from sslens.errors import InputError
from sslens.methods.labels import class_names
from sslens.store import home

OLD = 1_600_000_000  # seconds; old enough for a time stamp to be trusted


def save(path: Path, grey: int = 0, kind: str = "PNG", size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path, kind)
    return path


def age(root: Path) -> None:
    for one in (root, *root.rglob("*")):
        os.utime(one, (OLD, OLD), follow_symlinks=False)


class TestLeftOut:
    def test_images_of_all_endings_are_read_and_the_rest_is_counted_with_its_cure(
        self, tmp_path: Path
    ) -> None:
        kinds = {"a.jfif": "JPEG", "b.JPE": "JPEG", "c.jp2": "JPEG2000", "d.avif": "AVIF"}
        for name, kind in {**kinds, "e": "PNG", "f": "WEBP", "g": "BMP"}.items():
            save(tmp_path / "cat" / name, 40, kind)
        for name in ("x.txt", "y.txt", "z.mp4", "README", "w.DNG"):
            (tmp_path / "cat" / name).write_text("P1 is no picture")
        save(tmp_path / "cat/.hidden.png")
        save(tmp_path / "cat/h.jpg_large", kind="JPEG")
        os.mkfifo(tmp_path / "cat/pipe.log")
        age(tmp_path)
        for _ in range(2):  # the second from the index
            images = open_images(tmp_path)
            names = ("a.jfif", "b.JPE", "c.jp2", "d.avif", "e", "f", "g")
            assert sorted(images.ids) == [f"cat/{name}" for name in names]
            assert all(abs(int(photo.image.getpixel((1, 1))[0]) - 40) < 4 for photo in images)
            (said,) = [note for note in images.notes if "no images of the set" in note]
            assert said.startswith(f"8 files of {tmp_path.name}")
            for words in (
                "2 × .txt,",
                "1 × .mp4 (a film; take frames of it)",
                "1 × .dng (a camera's raw data; save it as JPEG or PNG)",
                "1 without an ending (no image inside)",
                "1 × .png (hidden: a name that begins with a dot)",
                "1 × .jpg_large (images by their content; name them .jpg",
                "1 × .log (a pipe, a device or a socket)",
            ):
                assert words in said
        assert "8 files left out" in repr(images)

    def test_photographs_of_telephones_want_the_extra(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png")
        try:
            import pillow_heif
        except ModuleNotFoundError:
            (tmp_path / "b.HEIC").write_bytes(b"....ftypheic....")
            (tmp_path / "c").write_bytes(b"....ftypheic....")
            (note,) = from_folder(tmp_path).notes
            assert "1 × .heic (photographs of a telephone; pip install 'sslens[heic]'" in note
            return
        pillow_heif.register_heif_opener()
        save(tmp_path / "b.HEIC", 60, "HEIF", (64, 64))
        (tmp_path / "c").write_bytes((tmp_path / "b.HEIC").read_bytes())
        images = check(from_folder(tmp_path))
        assert images.ids == ("a.png", "b.HEIC", "c")
        assert abs(int(images[1].image.getpixel((9, 9))[0]) - 60) < 5

    def test_an_index_of_other_rules_lists_anew_and_keeps_what_it_knows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(tmp_path / "a.png")
        save(tmp_path / "b.jfif", kind="JPEG")
        age(tmp_path)
        with monkeypatch.context() as before:
            before.setattr("sslens.data.listing.list_suffixes", lambda: ("png",))
            check(from_folder(tmp_path))
        (tmp_path / "a.png").write_bytes(b"x" * (tmp_path / "a.png").stat().st_size)
        os.utime(tmp_path / "a.png", (OLD, OLD))
        assert check(from_folder(tmp_path)).ids == ("a.png", "b.jfif")  # a.png was read before


@pytest.mark.parametrize(
    ("files", "classes", "said"),
    [
        ("images/ant/0 images/bee/0", ("images",), 'of one class, "images": ROOT/images was'),
        ("x/train/ant/0 x/val/ant/0", ("x",), "ROOT/x/train was probably meant"),
        ("x/y/ant/0 x/y/bee/0", ("x",), "ROOT/x/y was probably meant"),
        ("ant/0 ant/1", ("ant",), "nothing can be classified. Classes are the folders of ROOT"),
        ("ant/0 bee/0 top", (), "have no classes, because top.png lies beside the 2 folders"),
        (
            "pet/cat/0 pet/dog/0 car/bus/0 car/van/0",
            ("car", "pet"),
            "2 classes were taken, the folders of ROOT, such as car; they hold 4 folders of images,"
            " such as car/bus: if these are the classes, give ROOT/car",
        ),
        ("ant/train/0 ant/val/0 bee/train/0 bee/val/0", ("ant", "bee"), "a column split to take"),
        ("ant/0 ant/deep/1 bee/0", ("ant", "bee"), ""),
        ("ant/0 bee/0", ("ant", "bee"), ""),
        ("0 1", (), ""),
    ],
)
def test_a_layout_that_was_not_meant_is_noticed(
    tmp_path: Path, files: str, classes: tuple[str, ...], said: str
) -> None:
    for name in files.split():
        save(tmp_path / f"{name}.png")
    images = from_folder(tmp_path)
    assert images.classes == classes
    if said:
        assert said.replace("ROOT", str(tmp_path)) in images.doubts[0]
        assert images.doubts[0] in images.notes
    else:
        assert images.doubts == ()


class TestLinks:
    def test_trees_and_loops_of_links_are_bounded(self, tmp_path: Path) -> None:
        for level in range(40):  # 2⁴⁰ ways to the last one
            (tmp_path / f"{level:02d}").mkdir()
            for name in "ab":
                (tmp_path / f"{level:02d}" / name).symlink_to(tmp_path / f"{level + 1:02d}")
        save(tmp_path / "40" / "0.png")
        began = time.process_time()
        with pytest.raises(InputError, match=r"lead to one folder in more than 32 ways.*remove"):
            from_folder(tmp_path)
        ring = tmp_path / "ring"
        for name in "abc":
            save(ring / name / "0.png")
        for name in "abc":  # each leads to all
            for other in "abc":
                (ring / name / other).symlink_to(ring / other)
        images = from_folder(ring)
        assert len(images) == 3 * (1 + 2 + 2)
        assert "a link to a folder that it lies in" in " ".join(images.notes)
        assert time.process_time() - began < 5

    def test_a_link_to_itself_and_a_pipe_are_bad_images(self, tmp_path: Path) -> None:
        for number in range(4):
            save(tmp_path / f"{number}.png")
        (tmp_path / "l.png").symlink_to("l.png")
        (tmp_path / "m").symlink_to("m")
        os.mkfifo(tmp_path / "p.png")
        images = open_images(tmp_path, on_bad="skip")
        assert dict(images.skipped) == {
            "l.png": "Too many levels of symbolic links",
            "p.png": "it is not a regular file",
        }
        with pytest.raises(InputError, match="not a regular file"):
            FolderImages(tmp_path).image(FolderImages(tmp_path).ids.index("p.png"))


class TestUnicode:
    def test_two_spellings_of_a_name_are_one(self, tmp_path: Path) -> None:
        opened = []
        for form in ("NFC", "NFD"):
            name = unicodedata.normalize(form, "café")
            for number in range(4):
                save(tmp_path / form / "photos" / name / f"{name}{number}.png", number)
                save(tmp_path / form / "photos" / "bee" / f"{number}.png", number + 9)
            opened.append(open_images(tmp_path / form / "photos"))
        assert opened[0].ids == opened[1].ids
        assert opened[0].digest == opened[1].digest
        assert [int(photo.image.getpixel((0, 0))[0]) for photo in opened[1]] == [
            int(photo.image.getpixel((0, 0))[0]) for photo in opened[0]
        ]

    def test_one_name_twice_is_refused(self, tmp_path: Path) -> None:
        for form in ("NFC", "NFD"):
            save(tmp_path / f"{unicodedata.normalize(form, 'é')}.png")
        if len(list(tmp_path.iterdir())) < 2:
            pytest.skip("this file system knows one form alone")
        with pytest.raises(InputError, match=r"twice, spelt in two forms of Unicode"):
            from_folder(tmp_path)

    def test_classes_of_a_bank_are_matched_by_name(self) -> None:
        pixels = np.zeros((3, 2, 2), np.uint8)
        nfd = unicodedata.normalize("NFD", "é")
        images = from_arrays(pixels, [0, 1, 1], classes=["b", "é"])
        bank = from_arrays(pixels, [0, 1, 2], classes=["a", "b", nfd])
        before = images.digest, bank.digest
        images, bank = match_classes(images, bank)
        assert images.classes == bank.classes == ("b", "é", "a")
        assert images.labels is not None
        assert bank.labels is not None
        assert (images.labels.tolist(), bank.labels.tolist()) == ([0, 1, 1], [2, 0, 1])
        assert images.digest == before[0]
        assert before[1] == from_arrays(pixels, [0, 1, 2], classes=["a", "b", nfd]).digest
        other = from_arrays(pixels, [0, 0, 0], classes=["bb"])
        with pytest.raises(InputError, match=r'2 classes "b", "é", of which array has none'):
            match_classes(from_arrays(pixels, [0, 1, 1], classes=["b", "é"]), other)


class TestThin:
    @pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (30_000, 3)])
    def test_only_the_crop_of_a_thin_image_is_resized(self, size: tuple[int, int]) -> None:
        transform = EvalTransform()
        levels = np.linspace(0, 255, max(size)).astype(np.uint8)
        line = levels[None] if size[0] > size[1] else levels[:, None]
        grey = Image.fromarray(np.broadcast_to(line, size[::-1]).copy()).convert("RGB")
        began = time.process_time()
        crop = transform.crop_image(grey)
        assert time.process_time() - began < 1
        assert crop.shape == (224, 224, 3)
        assert abs(int(crop[112, 112, 0]) - 127) < 3  # the middle

    def test_it_is_the_crop_of_the_whole_but_for_rounding(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rng = np.random.default_rng(0)
        noise = Image.fromarray(rng.integers(0, 256, (7, 700, 3), np.uint8))
        transform = EvalTransform(resize=40, crop=32)
        thin = transform.crop_image(noise).astype(int)
        assert THIN * 32 * 32 < 40 * 4000
        monkeypatch.setattr("sslens.data.transform.THIN", 1e9)
        whole = transform.crop_image(noise).astype(int)
        assert np.abs(thin - whole).max() <= 1


@pytest.mark.parametrize("labels", [[0, 2**63], [0, 2**40]])
def test_labels_beyond_any_number_of_classes_take_no_memory(
    tmp_path: Path, labels: list[int]
) -> None:
    pixels = np.zeros((2, 2, 2), np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.array(labels, np.uint64))
    began = time.process_time()
    with pytest.raises(InputError, match=rf"labels reach from 0 to {labels[1]}, but at most 1,000"):
        open_images(tmp_path / "x.npz", minimum=1)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("key", ["ids", "classes"])
def test_a_name_with_half_a_character_is_refused(tmp_path: Path, key: str) -> None:
    pixels, names = np.zeros((2, 2, 2), np.uint8), np.array(["a", "\ud800"])
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.array([0, 1]), **{key: names})
    with pytest.raises(InputError, match=rf'x\.npz: "\\ud800" of {key} holds half'):
        open_images(tmp_path / "x.npz", minimum=1)


def test_a_file_that_unpacks_to_gigabytes_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((40, 100, 100), np.uint8))
    assert len(open_images(tmp_path / "x.npz")) == 40
    monkeypatch.setattr("sslens.data.arrays.LARGE", 100_000)
    with pytest.raises(InputError, match=r"unpacks to 0 GB, as no images do"):
        open_images(tmp_path / "x.npz")


class TestSequence:
    def test_images_are_a_sequence(self) -> None:
        pixels = np.arange(3, dtype=np.uint8).reshape(3, 1, 1)
        images = from_arrays(pixels, [1, 0, 1], classes=["cat", "dog"], ids=list("abc"))
        image, label, name = images[-1]
        assert (image.getpixel((0, 0)), label, name) == ((2, 2, 2), "dog", "c")
        assert [photo.id for photo in images] == ["a", "b", "c"]
        assert isinstance(images[1:], ImageSet)
        assert images[1:].ids == ("b", "c")
        assert from_arrays(pixels)[0].label is None
        with pytest.raises(IndexError):
            images[3]


class TestIndexFile:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        for number in range(6):
            save(tmp_path / "all" / f"{number}.dat", number)
        return tmp_path

    def write(self, photos: Path, text: str, name: str = "index.csv") -> Path:
        (photos / name).write_bytes(text.encode("utf-8"))
        return photos / name

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_paths_labels_and_splits(self, photos: Path, delimiter: str) -> None:
        rows = [
            f"all/{n}.dat,{'cat' if n % 2 else 'dog'},{'val' if n > 1 else 'train'}"
            for n in range(6)
        ]
        text = "\ufeff" + "\r\n".join(["Path,label,split", *rows, ""])
        file = self.write(photos, text.replace(",", delimiter))
        images = open_images(f"{file}:val")
        assert sorted(images.ids) == [f"all/{n}.dat" for n in range(2, 6)]
        assert {photo.id: photo.label for photo in images}["all/3.dat"] == "cat"
        assert [int(p.image.getpixel((0, 0))[0]) for p in images] == [int(p.id[4]) for p in images]
        assert images.name == "index:val"
        with pytest.raises(InputError, match=r"2 splits: val \(4\), train \(2\): choose one, such"):
            open_images(file)
        with pytest.raises(InputError, match=r'no split "vall": did you mean val\?'):
            open_images(f"{file}:vall")

    def test_it_reads_files_once(self, photos: Path) -> None:
        age(photos)
        file = self.write(photos, "path\n" + "\n".join(f"all/{n}.dat" for n in range(6)))
        before = open_images(file).digest
        (photos / "all/0.dat").write_bytes(b"x" * (photos / "all/0.dat").stat().st_size)
        os.utime(photos / "all/0.dat", (OLD, OLD))
        assert open_images(file).digest == before
        assert len(list((home() / "indexes").iterdir())) == 1

    def test_absolute_paths_and_those_of_windows(self, photos: Path) -> None:
        lines = [str(photos / "all/0.dat"), *(rf"all\{n}.dat" for n in range(1, 4))]
        images = open_images(self.write(photos, "\n".join(["image", *lines]), "x.tsv"))
        assert sorted(images.ids)[-1] == "all/3.dat"
        assert images.labels is None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", 'has no column "path"; its first line holds nothing'),
            ("all/0.dat,cat\n", r'no column "path"; its first line holds "all/0.dat", "cat"'),
            ("path,label\n", "lists no image"),
            ("path,label\nall/0.dat,cat\nall/1.dat,\n", "no label in line 3, but in others"),
            ("path,label\nall/0.dat,cat\n,dog\n", "no path of a file in line 3"),
            ("path,label\nall/0.dat,cat\n/,dog\n", "no path of a file in line 3"),
            ("path\nall/0.dat\nall/1.dat\nall/0.dat\n", 'lists "all/0.dat" in the lines 2, 4'),
            ("path\nall/0.dat\n./all/0.dat\n", r'lists "all/0.dat" in the lines 2, 3'),
            ("path,label\nall/0.dat,heron, grey\n", "has 3 cells in line 2, and 2 in its first"),
            (
                "path\nall/0.dat\nall/9.dat\n",
                r"all/9\.dat cannot be decoded \(No such .* its line from index",
            ),
            ('path\n"all/0.dat\n', "cannot be read as CSV"),
            ("path\nall/\0.dat\n", "holds zeros"),
        ],
    )
    def test_what_is_wrong_is_said(self, photos: Path, text: str, said: str) -> None:
        with pytest.raises(InputError, match=said):
            open_images(self.write(photos, text), minimum=1)

    def test_columns_that_are_not_read_are_named(self, photos: Path) -> None:
        lines = [f"all/{n}.dat,{'cat' if n % 2 else 'dog'},train" for n in range(6)]
        file = self.write(photos, "\n".join(["path,klass,splitt", *lines]))
        images = open_images(file)
        told = f'{file} has no column of labels, and "klass", "splitt" are not read: if the images'
        assert images.notes[0].startswith(f"{told} have classes, name the column one of label, cl")
        with pytest.raises(InputError, match=r"are not read.* have no classes, and a probe learns"):
            class_names("a probe", images)
        with pytest.raises(InputError, match=r'no column of splits, of which "val" is .* "splitt"'):
            open_images(f"{file}:val")

    def test_files_that_are_no_text(self, photos: Path) -> None:
        (photos / "latin.csv").write_bytes(b"path\ncaf\xe9.png\n")
        with pytest.raises(InputError, match="is not UTF-8"):
            open_images(photos / "latin.csv")
        os.mkfifo(photos / "pipe.csv")
        with pytest.raises(InputError, match="is a file: images come from"):
            open_images(photos / "pipe.csv")


class Items:
    """A data set of a few items, as torch's."""

    def __init__(self, make: Callable[[int], Any], count: int = 6, **about: Any) -> None:
        self.make, self.count = make, count
        self.__dict__.update(about)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


def grey(index: int) -> Image.Image:
    return Image.new("L", (4, 3), index * 10)


class TestDataset:
    @pytest.mark.parametrize(
        "dataset",
        [
            Items(lambda n: (grey(n), n % 2), classes=["dog", "cat"]),
            Items(lambda n: {"image": grey(n), "label": "cat" if n % 2 else "dog"}),
            Items(lambda n: (np.asarray(grey(n)), np.array(n % 2)), classes=("dog", "cat")),
            Items(
                lambda n: (np.asarray(grey(n), np.float32)[None].repeat(3, 0) / 255, None),
                targets=[0, 1] * 3,
                classes=["dog", "cat"],
            ),
        ],
    )
    def test_items_of_every_form(self, dataset: Items) -> None:
        images = open_images(dataset)
        assert sorted(images.ids) == [f"{n:06d}" for n in range(6)]
        for photo in images:
            number = int(photo.id)
            assert photo.image.size == (4, 3)
            assert photo.image.getpixel((1, 1)) == (number * 10,) * 3
            assert photo.label == ("cat" if number % 2 else "dog")
        assert images.digest == open_images(dataset).digest
        assert "The ids of Items are the numbers of its items" in images.notes[0]

    def test_ids_that_are_asked_for(self) -> None:
        dataset = Items(lambda n: grey(n))
        images = open_images(dataset, ids=list("abcdef"), limit=4)
        assert (
            images.ids
            == from_arrays(np.zeros((6, 1, 1), np.uint8), ids=list("abcdef")).sample(4, 0).ids
        )
        assert (images.labels, images.notes) == (None, ())
        with pytest.raises(InputError, match="6 images, but 2 ids"):
            open_images(dataset, ids=["a", "b"])

    def test_only_what_is_drawn_is_read(self) -> None:
        asked: list[int] = []

        def make(n: int) -> Any:
            asked.append(n)
            return grey(n), n % 2

        images = open_images(Items(make, count=100), limit=4)
        assert set(asked) == {int(name) for name in images.ids}
        assert images.labels is not None

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda n: np.random.default_rng().random((3, 8, 8)), "another image each time"),
            (lambda n: np.full((3, 4, 4), -1.5), "outside .0, 1.: leave out the normalisation"),
            (lambda n: {"text": "cat"}, "it has the keys text, and none of an image"),
            (lambda n: 1 // 0, "item . of Items cannot be decoded .*division"),
            (lambda n: "photo.jpg", "holds str and no image"),
            (lambda n: np.zeros((4, 4, 7), np.uint8), "it has 7 channels"),
            (lambda n: (grey(n), 2**63), "labels reach from"),
        ],
    )
    def test_what_is_wrong_is_said(self, make: Callable[[int], Any], said: str) -> None:
        with pytest.raises(InputError, match=said):
            open_images(Items(make))

    def test_bad_items_are_skipped(self) -> None:
        images = open_images(Items(lambda n: (grey(n), n % 2) if n else 1 // 0), on_bad="skip")
        assert [name for name, _ in images.skipped] == ["000000"]
        assert (len(images), images.classes) == (5, ("0", "1"))

    def test_no_length_and_no_items(self) -> None:
        with pytest.raises(InputError, match="holds no items"):
            open_images(Items(grey, count=0))

    def test_greyscale_with_a_channel(self) -> None:
        assert make_image(np.full((1, 5, 4), 9, np.uint8)).getpixel((3, 4)) == (9, 9, 9)
