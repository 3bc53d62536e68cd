"""Folders: what is listed, read, remembered and refused, and opening whatever a user names."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslens.data import ImageSet, open_images
from sslens.data.folders import FolderImages, check, from_folder
from sslens.data.images import from_arrays
from sslens.errors import InputError
from sslens.store import home

OLD = 1_600_000_000_000_000_000  # nanoseconds; old enough for a time stamp to be trusted


def aged(path: Path, at: int = OLD) -> None:
    """Set the time of change of a file or of a whole tree."""
    for one in (path, *path.rglob("*")):
        os.utime(one, ns=(at, at))


def png(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2), grey).save(path, "PNG")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of three images, of the greys 0 to 5, a class's images not all at one depth."""
    root = tmp_path / "photos"
    for grey, name in enumerate(
        ["cat/0.png", "cat/1.PNG", "cat/deep/2.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    ):
        png(root / name, grey)
    (root / "dog/notes.txt").write_text("not an image")
    png(root / "dog/.hidden.png", 9)
    aged(root)
    return root


def greys(images: ImageSet) -> list[int]:
    return [images.image(row).getpixel((0, 0))[0] for row in range(len(images))]


class TestFolder:
    def test_classes_are_the_first_folders(self, tree: Path) -> None:
        images = from_folder(tree)
        assert images.ids == (
            "cat/0.png",
            "cat/1.PNG",
            "cat/deep/2.png",
            "dog/0.png",
            "dog/1.png",
            "dog/2.png",
        )
        assert images.classes == ("cat", "dog")
        assert images.labels is not None
        assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert images.name == "photos"
        assert greys(images) == [0, 1, 2, 3, 4, 5]

    def test_folder_without_images_is_no_class(self, tree: Path) -> None:
        (tree / "bird").mkdir()
        images = from_folder(tree)
        assert images.classes == ("cat", "dog")
        assert images.labels is not None
        assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]

    def test_flat_folder_has_no_classes(self, tree: Path) -> None:
        images = from_folder(tree / "dog")
        assert (images.ids, images.labels, images.classes) == (
            ("0.png", "1.png", "2.png"),
            None,
            (),
        )

    def test_image_at_the_top_takes_the_classes_away(self, tree: Path) -> None:
        png(tree / "top.png", 7)
        images = from_folder(tree)
        assert images.labels is None
        assert images.classes == ()
        assert greys(images) == [7, 0, 1, 2, 3, 4, 5]

    def test_links(self, tree: Path) -> None:
        (tree / "cat/link.png").symlink_to(tree / "dog/2.png")
        (tree / "fox").symlink_to(tree / "dog", target_is_directory=True)
        (tree / "cat/round").symlink_to(tree, target_is_directory=True)
        images = from_folder(tree)
        assert images.classes == ("cat", "dog", "fox")
        assert len(images) == 6 + 1 + 3
        assert images.image(images.ids.index("cat/link.png")).getpixel((0, 0)) == (5, 5, 5)

    def test_added_removed_and_renamed_files_are_noticed(self, tree: Path) -> None:
        from_folder(tree)
        (tree / "cat/0.png").unlink()
        png(tree / "dog/a.png", 6)
        (tree / "dog/1.png").rename(tree / "dog/z.png")
        png(tree / "fox/0.png", 7)
        (tree / "cat/deep/2.png").unlink()
        (tree / "cat/deep").rmdir()
        images = from_folder(tree)
        assert images.ids == (
            "cat/1.PNG",
            "dog/0.png",
            "dog/2.png",
            "dog/a.png",
            "dog/z.png",
            "fox/0.png",
        )
        assert greys(images) == [1, 3, 5, 6, 4, 7]

    def test_unchanged_directory_is_not_listed_again(self, tree: Path) -> None:
        first = from_folder(tree).ids
        png(tree / "dog/new.png", 8)
        os.utime(tree / "dog", ns=(OLD, OLD))
        # the contract: only the directory's own time of change is looked at
        assert from_folder(tree).ids == first
        os.utime(tree / "dog", ns=(OLD + 1, OLD + 1))
        assert "dog/new.png" in from_folder(tree).ids

    def test_young_directory_is_listed_again(self, tree: Path) -> None:
        os.utime(tree / "dog")
        from_folder(tree)
        now = (tree / "dog").stat().st_mtime_ns
        png(tree / "dog/new.png", 8)
        os.utime(tree / "dog", ns=(now, now))
        assert "dog/new.png" in from_folder(tree).ids

    @pytest.mark.parametrize("damage", ["garbage", "cut", "flipped", "other"])
    def test_damaged_index_is_made_anew(self, tree: Path, damage: str) -> None:
        expected = check(from_folder(tree)).digest
        (index,) = (home() / "indexes").iterdir()
        content = bytearray(index.read_bytes())
        if damage == "garbage":
            index.write_bytes(b"\x80\x04garbage")
        elif damage == "cut":
            index.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            content[content.index(b"0.png")] ^= 1
            index.write_bytes(content)
        else:
            np.savez(index, folders=np.zeros(3))
        images = from_folder(tree)
        assert (len(images), check(images).digest) == (6, expected)


class TestCheck:
    def test_digest_is_of_ids_classes_and_bytes_in_order(self, tree: Path) -> None:
        images = check(from_folder(tree))
        listed = [
            [name, name[:3], hashlib.sha256((tree / name).read_bytes()).hexdigest()]
            for name in images.ids
        ]
        assert (
            images.digest
            == hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()
        )

    def test_digest_without_check_is_the_same(self, tree: Path) -> None:
        unchecked = from_folder(tree).digest
        assert unchecked == check(from_folder(tree)).digest

    def test_a_file_in_the_index_is_not_read_again(self, tree: Path) -> None:
        before = check(from_folder(tree)).digest
        file = tree / "cat/0.png"
        size = file.stat().st_size
        # the contract: a file of the same size and time of change is the same file
        file.write_bytes(b"x" * size)
        os.utime(file, ns=(OLD, OLD))
        assert check(from_folder(tree)).digest == before
        os.utime(file, ns=(OLD + 1, OLD + 1))
        with pytest.raises(InputError, match=r"cat/0\.png cannot be decoded"):
            check(from_folder(tree))

    def test_changed_file_is_read_again(self, tree: Path) -> None:
        before = check(from_folder(tree)).digest
        file = tree / "cat/0.png"
        Image.new("L", (3, 2), 77).save(file)
        os.utime(file, ns=(OLD, OLD))  # another size alone
        after = check(from_folder(tree))
        assert after.digest != before
        png(file, 0)
        os.utime(file, ns=(OLD, OLD))
        assert check(from_folder(tree)).digest == before

    def test_young_file_is_read_again(self, tree: Path) -> None:
        file = tree / "cat/0.png"
        os.utime(file)
        now = file.stat().st_mtime_ns
        before = check(from_folder(tree)).digest
        # the checksum of the last chunk, which Pillow does not read
        file.write_bytes(file.read_bytes()[:-1] + b"\x83")
        os.utime(file, ns=(now, now))
        assert check(from_folder(tree)).digest != before

    def test_knowledge_survives_a_new_listing(self, tree: Path) -> None:
        before = check(from_folder(tree)).take([3, 4, 5]).digest
        png(tree / "dog/00.png", 8)
        png(tree / "ant/0.png", 9)
        size = (tree / "dog/1.png").stat().st_size
        (tree / "dog/1.png").write_bytes(b"x" * size)
        os.utime(tree / "dog/1.png", ns=(OLD, OLD))
        images = check(from_folder(tree))
        assert (
            images.take([images.ids.index(f"dog/{name}.png") for name in range(3)]).digest == before
        )

    def test_only_the_sample_is_read(self, tree: Path) -> None:
        sample = from_folder(tree).sample(2, seed=0)
        for name in set(from_folder(tree).ids) - set(sample.ids):
            (tree / name).write_bytes(b"broken")
        assert len(check(sample)) == 2

    def test_what_was_read_before_a_bad_file_is_kept(self, tree: Path) -> None:
        whole = (tree / "dog/2.png").read_bytes()
        (tree / "dog/2.png").write_bytes(b"broken")
        with pytest.raises(InputError):
            check(from_folder(tree))
        (tree / "cat/0.png").write_bytes(b"x" * (tree / "cat/0.png").stat().st_size)
        os.utime(tree / "cat/0.png", ns=(OLD, OLD))
        (tree / "dog/2.png").write_bytes(whole)
        assert len(check(from_folder(tree))) == 6

    def test_all_bad_files_are_named_at_once(self, tree: Path) -> None:
        for i in range(2):
            (tree / f"dog/bad{i}.jpg").write_bytes(b"")
        said = (
            r"^2 of 8 images: .*dog/bad0\.jpg cannot be decoded \(it is empty\); .*bad1\.jpg .*them"
        )
        with pytest.raises(InputError, match=said):
            check(from_folder(tree))
        for i in range(2, 9):
            (tree / f"dog/bad{i}.jpg").write_bytes(b"")
        with pytest.raises(
            InputError, match=r"^9 of 15 images: .*bad4\.jpg .*; and 4 more: repair"
        ):
            check(from_folder(tree))

    @pytest.mark.parametrize("damage", ["cut", "empty", "dangling"])
    def test_bad_file_stops_or_is_skipped(self, tree: Path, damage: str) -> None:
        file = tree / "dog/0.jpg"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        if damage == "dangling":
            file.symlink_to("nowhere.jpg")
        else:
            Image.fromarray(noise).save(file)
            whole = file.read_bytes()
            file.write_bytes(whole[: len(whole) * 9 // 10] if damage == "cut" else b"")
        reason = {
            "cut": "image file is truncated",
            "empty": "it is empty",
            "dangling": "No such file",
        }[damage]
        with pytest.raises(
            InputError, match=rf"photos/dog/0\.jpg cannot be decoded \({reason}.*on_bad=.skip"
        ):
            check(from_folder(tree))
        for _ in range(2):  # the second from the index
            images = check(from_folder(tree), "skip")
            assert [name for name, _ in images.skipped] == ["dog/0.jpg"]
            assert images.skipped[0][1].startswith(reason)
            assert greys(images) == [0, 1, 2, 3, 4, 5]
            assert images.labels is not None
            assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert images.take([0]).skipped == images.skipped

    def test_first_bad_file_in_order_is_named(self, tmp_path: Path) -> None:
        for at in range(100):
            (
                (tmp_path / f"{at:03d}.png").write_bytes(b"bad")
                if at >= 40
                else png(tmp_path / f"{at:03d}.png", at)
            )
        for _ in range(3):
            with pytest.raises(InputError, match=r"040\.png"):
                check(from_folder(tmp_path))

    def test_all_bad(self, tmp_path: Path) -> None:
        for name in "abcd":
            (tmp_path / f"{name}.png").write_bytes(b"bad")
        with pytest.raises(InputError, match=r"None of the 4 images .* beginning with a\.png"):
            check(from_folder(tmp_path), "skip")

    def test_progress_ends_with_all(self, tmp_path: Path) -> None:
        for at in range(70):
            png(tmp_path / f"{at}.png", at)
        seen: list[tuple[int, int]] = []
        check(from_folder(tmp_path), progress=lambda done, total: seen.append((done, total)))
        assert seen == [(32, 70), (64, 70), (70, 70)]

    def test_change_after_the_check_is_noticed(self, tree: Path) -> None:
        images = check(from_folder(tree))
        png(tree / "cat/0.png", 99)
        with pytest.raises(InputError, match=r"cat/0\.png was changed while"):
            images.image(0)
        (tree / "cat/1.PNG").unlink()
        with pytest.raises(InputError, match=r"cat/1\.PNG cannot be decoded"):
            images.image(1)

    def test_unknown_time_of_change_is_no_special_one(self, tree: Path) -> None:
        aged(tree, 0)  # archives are often unpacked to 1970
        before = check(from_folder(tree))
        assert greys(before) == [0, 1, 2, 3, 4, 5]
        assert check(from_folder(tree)).digest == before.digest

    def test_it_travels_to_a_worker(self, tree: Path) -> None:
        images = check(from_folder(tree)).take([5, 0])
        copy = pickle.loads(pickle.dumps(images))
        assert (greys(copy), copy.ids, copy.digest) == ([5, 0], images.ids, images.digest)


class TestOpen:
    def test_folder_is_sampled_then_checked(self, tree: Path) -> None:
        everything = open_images(tree)
        assert everything.ids == from_folder(tree).sample(None, 0).ids
        for name in everything.ids[4:]:
            (tree / name).write_bytes(b"broken")
        assert open_images(str(tree), limit=4).ids == everything.ids[:4]
        with pytest.raises(InputError, match=r"on_bad=.skip"):
            open_images(tree)
        assert open_images(tree, on_bad="skip").ids == everything.ids[:4]

    def test_seed_reaches_the_sample(self, tree: Path) -> None:
        assert open_images(tree, limit=4, seed=5).ids == from_folder(tree).sample(4, 5).ids

    def test_array_and_set(self, tmp_path: Path) -> None:
        pixels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1)
        images = open_images(pixels, seed=2)
        assert images.ids == from_arrays(pixels).sample(None, 2).ids
        turned = images.take([5, 4, 3, 2, 1])
        assert open_images(turned).ids == turned.ids
        assert open_images(turned, limit=4, seed=2).ids == turned.sample(4, 2).ids
        np.savez(tmp_path / "six.npz", images=pixels)
        assert open_images(tmp_path / "six.npz").digest == open_images(pixels).digest

    def test_home_folder(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tree.parent))
        assert len(open_images("~/photos")) == 6

    def test_scenes(self) -> None:
        from sslens.data.scene_images import scene_images

        assert open_images("scenes:3:5").digest == scene_images(5, seed=3).sample(None, 0).digest
        assert len(open_images("scenes")) == 2000
        for text in ("scenes:x", "scenes:1:2:3", "scenes:-1", "scenes:1:"):
            with pytest.raises(
                InputError, match="should be scenes, scenes:SEED or scenes:SEED:COUNT"
            ):
                open_images(text)

    def test_missing_folder(self, tree: Path) -> None:
        with pytest.raises(
            InputError,
            match=r'fotos is not there; in .* there is no "fotos": did you mean photos\?',
        ):
            open_images(tree.parent / "fotos")
        with pytest.raises(InputError, match=r'there is no "fotos": did you mean photos\?'):
            open_images(tree.parent / "fotos" / "cat")

    def test_misspelt_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=r"did you mean cifar10\?"):
            open_images("cifar-10")

    @pytest.mark.parametrize(
        ("name", "exact"), [("scenes", "scenes:0"), ("cifar10", "cifar10:val")]
    )
    def test_name_that_is_also_a_folder(
        self, name: str, exact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for at in range(4):
            png(tmp_path / name / f"{at}.png", at)
        with pytest.raises(InputError, match=rf"also lies here: write \./{name} for it, {exact}"):
            open_images(name)
        assert sorted(greys(open_images(f"./{name}"))) == [0, 1, 2, 3]
        assert sorted(greys(open_images(Path(name)))) == [0, 1, 2, 3]

    def test_file_instead_of_a_folder(self, tree: Path) -> None:
        with pytest.raises(InputError, match=r"0\.png is one image: give a folder .*photos/dog"):
            open_images(tree / "dog/0.png")
        with pytest.raises(
            InputError, match=r"notes\.txt is a file: images come from a folder, an \.npz"
        ):
            open_images(tree / "dog/notes.txt")

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"holds no image \(it is empty\): images end in jpg, jpeg"
        ):
            open_images(tmp_path)
        for name in ("a.npy", "b.npy", "sub/c.txt", "sub/README"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("")
        with pytest.raises(
            InputError, match=r"holds no image \(its files: 2 × \.npy, 1 × .*\): images end in"
        ):
            open_images(tmp_path)

    @pytest.mark.parametrize("splits", [("train", "val"), ("train2017", "val2017"), ("Test",)])
    def test_split_folders(self, tmp_path: Path, splits: tuple[str, ...]) -> None:
        for split in splits:
            png(tmp_path / split / "cat" / "0.png", 0)
        with pytest.raises(
            InputError,
            match=rf"holds {', '.join(splits)}, which are no classes: choose one.*/{splits[0]}",
        ):
            open_images(tmp_path)
        assert from_folder(tmp_path / splits[0]).classes == ("cat",)

    def test_too_few(self, tree: Path) -> None:
        with pytest.raises(
            InputError, match=r"At least 4 images are needed; .*dog holds 3: add images"
        ):
            open_images(tree / "dog")
        assert len(open_images(tree / "dog", minimum=3)) == 3
        with pytest.raises(InputError, match="At least 4 images are needed; the limit is 3"):
            open_images(tree, limit=3)
        for name in ("cat/0.png", "dog/0.png", "dog/1.png"):
            (tree / name).write_bytes(b"bad")
        with pytest.raises(
            InputError, match="photos holds 3 that can be decoded, beside 3 skipped"
        ):
            open_images(tree, on_bad="skip")

    def test_name_that_is_not_utf8(self, tmp_path: Path) -> None:
        try:
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(b"")
        except OSError:
            pytest.skip("this file system refuses such names itself")
        with pytest.raises(InputError, match=r"the name b'caf\\xe9.png' is not UTF-8: rename it"):
            open_images(tmp_path)


def test_index_is_one_file_a_folder(tree: Path) -> None:
    FolderImages(tree)
    FolderImages(tree / "dog")
    FolderImages(tree)
    assert len(list((home() / "indexes").iterdir())) == 2


@pytest.mark.slow
def test_photographs(tmp_path: Path) -> None:
    if not (data := os.environ.get("SSLENS_DATA")):
        pytest.skip("SSLENS_DATA is not set")
    images = open_images(Path(data) / "imagenet_sample_256")
    assert (len(images), images.labels, images.skipped) == (1000, None, ())
    assert len({hash(images.image(row).tobytes()) for row in range(0, 1000, 10)}) == 100
