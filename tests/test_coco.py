"""COCO's folders and users': what is read, and every bad input named, counted, refused or left
out."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from sslens.data.coco import open_coco
from sslens.data.coco_file import COCO_CATEGORIES
from sslens.data.detections import DetectionSet
from sslens.data.images import from_arrays
from sslens.data.opening import open_images
from sslens.data.rle import Rle, decompress
from sslens.data.scene_objects import scene_objects
from sslens.data.targets import Targets
from sslens.errors import InputError
from sslens.study.image_sets import describe_skipped

DATA = os.environ.get("SSLENS_DATA")
real = pytest.mark.skipif(not DATA, reason="SSLENS_DATA is not set")
SQUARE = [1, 1, 5, 1, 5, 4, 1, 4]  # 4 × 3 pixels


def annotation(number: int, image: int = 1, category: int = 1, **other: Any) -> dict[str, Any]:
    """A good annotation, or one of which a part is replaced; None removes it."""
    whole = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [1, 1, 4, 3],
        "area": 12,
        "iscrowd": 0,
        "segmentation": [SQUARE],
    } | other
    return {key: value for key, value in whole.items() if value is not None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 8 × 10 pixels and an annotation file: two objects, one, and none."""
    (tmp_path / "images").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (10, 8), (number, 0, 0)).save(tmp_path / f"images/{number}.png")
    write(tmp_path, [annotation(7), annotation(8, category=3), annotation(9, image=3)])
    return tmp_path


def write(folder: Path, annotations: list[dict[str, Any]], **other: Any) -> Path:
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "height": 8, "width": 10}
            for number in (1, 2, 3)
        ],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
    } | other
    path = folder / "annotations.json"
    path.write_text(json.dumps({key: one for key, one in content.items() if one is not None}))
    return path


def opened(folder: Path, **other: Any) -> DetectionSet:
    return open_coco(folder / "images", folder / "annotations.json", **other)


def refusal(folder: Path, **other: Any) -> str:
    with pytest.raises(InputError) as error:
        opened(folder, **other)
    return str(error.value)


class TestRle:
    @given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)))
    @settings(max_examples=200, deadline=None)
    def test_equals_pycocotools(self, mask: np.ndarray) -> None:
        theirs = coco_masks.encode(np.asfortranarray(mask, np.uint8))
        ours = Rle.from_mask(mask)
        assert decompress(theirs["counts"]).tolist() == ours.counts.tolist()
        assert (ours.to_mask() == mask).all()
        assert ours.area == coco_masks.area(theirs)
        x, y, width, height = coco_masks.toBbox(theirs)
        assert ours.box.tolist() == [x, y, x + width, y + height]
        if mask.any():
            rows, columns = np.nonzero(mask)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert ours.box.tolist() == edges
        back = coco_masks.frPyObjects(ours.to_coco(), *mask.shape)
        assert back["counts"] == theirs["counts"]

    def test_long_runs_are_decompressed(self) -> None:
        mask = np.zeros((700, 900), bool)
        mask[13, 5] = mask[600:, 300:] = True
        theirs = coco_masks.encode(np.asfortranarray(mask, np.uint8))
        assert (Rle.from_coco(theirs, 700, 900).to_mask() == mask).all()

    def test_a_huge_image_is_looked_up(self) -> None:
        # 4 × 10⁸ pixels, of which the lower right quarter is inside
        height = width = 20_000
        column = [height // 2, height // 2] * (width // 2)
        counts = [height * width // 2 + column[0], *column[1:]]
        rle = Rle(height, width, np.array(counts))
        assert rle.to_mask((4, 4)).astype(int).tolist() == [[0] * 4] * 2 + [[0, 0, 1, 1]] * 2
        assert rle.box.tolist() == [10_000, 10_000, 20_000, 20_000]

    def test_both_ways_of_looking_up_agree(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mask = np.random.default_rng(0).random((13, 9)) < 0.4
        whole = Rle.from_mask(mask).to_mask((5, 20))
        monkeypatch.setattr("sslens.data.rle._WHOLE", 0)
        assert (Rle.from_mask(mask).to_mask((5, 20)) == whole).all()
        assert (Rle.from_mask(mask).to_mask() == mask).all()

    @pytest.mark.parametrize("text", ["P", "1\x7f", "/1"])
    def test_damaged_text(self, text: str) -> None:
        with pytest.raises(InputError, match="damaged"):
            decompress(text)


class TestOpen:
    def test_reads_everything(self, folder: Path) -> None:
        found = opened(folder)
        assert found.ids == ("1.png", "2.png", "3.png")
        assert found.categories == ("cat", "dog")  # in the order of their ids
        assert [found.targets(row).labels.tolist() for row in range(3)] == [[0, 1], [], [0]]
        first = found.targets(0)
        assert first.boxes.tolist() == [[1, 1, 5, 4]] * 2
        assert first.area.tolist() == [12, 12]
        mask = np.zeros((8, 10), bool)
        mask[1:4, 1:5] = True
        assert (first.masks() == mask).all()
        assert found.targets(1).masks().shape == (0, 8, 10)
        assert found.image(2).getpixel((0, 0)) == (3, 0, 0)
        assert (found.is_coco, found.has_masks, found.source.left_out) == (False, True, ())
        assert found.counts() == {"cat": 2, "dog": 1}
        again = pickle.loads(pickle.dumps(found))
        assert again.digest == found.digest
        assert found.take([2, 0]).targets(0).labels.tolist() == [0]

    def test_masks_in_three_formats(self, folder: Path) -> None:
        mask = np.zeros((8, 10), np.uint8, order="F")
        mask[1:4, 1:5] = 1
        packed = coco_masks.encode(mask)
        runs = [9, 3, 5, 3, 5, 3, 5, 3, 44]
        forms = [
            [SQUARE],
            {"size": [8, 10], "counts": runs},
            {"size": [8, 10], "counts": packed["counts"].decode()},
            [[1, 1, 3, 1, 3, 4, 1, 4], [3, 1, 5, 1, 5, 4, 3, 4]],  # in two parts
        ]
        write(folder, [annotation(n, segmentation=form) for n, form in enumerate(forms, 1)])
        masks = opened(folder).targets(0).masks()
        assert len(masks) == 4
        assert (masks == mask.astype(bool)).all()

    def test_boxes_alone(self, folder: Path) -> None:
        write(folder, [annotation(1, segmentation=[], area=None)])
        found = opened(folder)
        assert not found.has_masks
        assert found.targets(0).area.tolist() == [12]
        with pytest.raises(InputError, match="boxes and no masks"):
            found.targets(0).masks()

    def test_crowds_and_areas_that_are_not_given(self, folder: Path) -> None:
        triangle = [[0, 0, 8, 0, 0, 8]]
        write(folder, [annotation(1, iscrowd=1), annotation(2, area=None, segmentation=triangle)])
        targets = opened(folder).targets(0)
        assert targets.crowd.tolist() == [True, False]
        assert targets.area[1] == targets.masks()[1].sum()
        assert targets.take(~targets.crowd).area.tolist() == [targets.area[1]]
        assert opened(folder).counts() == {"cat": 1, "dog": 0}

    def test_some_categories(self, folder: Path) -> None:
        found = opened(folder, categories=["dog"])
        assert found.categories == ("dog",)
        assert [found.targets(row).labels.tolist() for row in range(3)] == [[0], [], []]
        assert found.digest != opened(folder).digest
        assert "did you mean dog" in refusal(folder, categories=["dogs"])
        write(folder, [annotation(1)])
        assert "no object of the categories dog" in refusal(folder, categories=["dog"])

    def test_one_category(self, folder: Path) -> None:
        write(folder, [annotation(1)], categories=[{"id": 1, "name": "cell"}])
        assert opened(folder).categories == ("cell",)

    def test_categories_of_one_name(self, folder: Path) -> None:
        write(
            folder,
            [annotation(1)],
            categories=[{"id": 0, "name": "cell"}, {"id": 1, "name": "cell"}],
        )
        assert opened(folder).categories == ("cell (0)", "cell (1)")

    def test_objects_above_each_other(self) -> None:
        masks = np.zeros((3, 4, 4), bool)
        masks[0, :2], masks[1], masks[2, 0, 0] = True, True, True
        targets = Targets.from_masks(masks, np.array([5, 6, 7]))
        painted = targets.paint_objects()
        assert painted[0].tolist() == [2, 0, 0, 0]
        assert painted[3].tolist() == [1] * 4
        assert targets.paint_labels((2, 2)).tolist() == [[6, 6], [7, 7]]

    def test_the_parts_of_a_split_share_nothing(self, folder: Path) -> None:
        first, second = opened(folder).split(0.67)
        assert sorted(first.ids + second.ids) == ["1.png", "2.png", "3.png"]
        assert (len(first), len(second)) == (2, 1)
        with pytest.raises(InputError, match="both parts"):
            first.split(0.1)


#: annotations that are bad, and what is said of them
BAD = {
    "of an image that is not listed": {"image": 77},
    "of a category that is not listed": {"category": 2},
    "without a box": {"bbox": None},
    "with a box without extent": {"bbox": [1, 1, 0, 3]},
    "with a box outside its image": {"bbox": [10, 1, 4, 3]},
    "with a box that reaches over its image's edge": {"bbox": [7, 1, 4.5, 3]},
    "without a mask, where others have one": {"segmentation": []},
    "with a damaged mask": {"segmentation": [[1, 1, 5, 1]]},
    "with an iscrowd that is neither 0 nor 1": {"iscrowd": "1"},
    "with a mask outside its image": {"segmentation": [[11, 1, 15, 1, 15, 4, 11, 4]]},
    "with a mask of another size than its image": {
        "segmentation": {"size": [4, 5], "counts": [9, 11]}
    },
}


def test_run_lengths_cannot_wrap_around() -> None:
    """2⁶² four times and 12 are 12 to an int64."""
    counts = np.array([2**62] * 4 + [12], np.int64)
    with pytest.raises(InputError, match="and its image has 3 × 4"):
        Rle(3, 4, counts)


class TestBadAnnotations:
    @pytest.mark.parametrize("words", BAD)
    def test_refused_or_left_out(self, folder: Path, words: str) -> None:
        write(folder, [annotation(4), annotation(5, **BAD[words]), annotation(6, **BAD[words])])
        said = refusal(folder)
        assert f"of 3 annotations 2 cannot be used: 2 {words} (the first has the id 5)" in said
        assert 'on_bad="skip"' in said
        found = opened(folder, on_bad="skip")
        assert found.source.left_out == ((words, 2),)
        assert found.counts()["cat"] == 1

    @pytest.mark.parametrize(
        "mask",
        [
            "a text",
            [["a"]],
            [[1, 1, 2, 2, 3]],
            [[1, 1, 5, 1, float("nan"), 4]],
            {"size": [8, 10]},
            {"size": [8, 10], "counts": [3, 4]},
            {"size": [8, 10], "counts": [90, -10]},
            {"size": [8, 10], "counts": "P"},
            {"size": [8, 10], "counts": ["a"]},
        ],
    )
    def test_damaged_masks(self, folder: Path, mask: Any) -> None:
        write(folder, [annotation(4), annotation(5, segmentation=mask)])
        assert "1 with a damaged mask" in refusal(folder)

    def test_boxes_with_rounding_are_cut_off(self, folder: Path) -> None:
        write(folder, [annotation(4, bbox=[-0.4, 1, 10.9, 3])])
        targets = opened(folder).targets(0)
        assert targets.boxes.tolist() == [[0, 1, 10, 4]]
        assert targets.bbox.tolist() == [[-0.4, 1, 10.9, 3]]  # as it is scored

    @pytest.mark.parametrize("box", [[1, 1, float("nan"), 3], [1, 1, 3], "1134", [1, 1, "3", 4]])
    def test_what_is_no_box(self, folder: Path, box: Any) -> None:
        write(folder, [annotation(4), annotation(5, bbox=box)])
        assert "1 without a box" in refusal(folder)


class TestBadImages:
    def test_missing_images(self, folder: Path) -> None:
        (folder / "images/2.png").unlink()
        said = refusal(folder)
        assert "1 of the 3 images of" in said
        assert "the first is 2.png" in said
        found = opened(folder, on_bad="skip")
        assert found.ids == ("1.png", "3.png")
        assert found.images.skipped == (("2.png", "it is not there"),)
        assert found.targets(1).labels.tolist() == [0]

    def test_the_wrong_folder(self, folder: Path) -> None:
        (folder / "other").mkdir()
        with pytest.raises(InputError, match="3 of the 3 images"):
            open_coco(folder / "other", folder / "annotations.json", on_bad="skip")
        with pytest.raises(InputError, match="is no folder"):
            open_coco(folder / "nothing", folder / "annotations.json")

    def test_an_image_that_cannot_be_decoded(self, folder: Path) -> None:
        (folder / "images/2.png").write_bytes(b"no image")
        assert "2.png cannot be decoded" in refusal(folder)
        found = opened(folder, on_bad="skip")
        assert found.ids == ("1.png", "3.png")
        assert found.targets(1).labels.tolist() == [0]

    def test_an_image_of_another_size(self, folder: Path) -> None:
        Image.new("RGB", (8, 10)).save(folder / "images/1.png")
        said = refusal(folder)
        assert "1.png (it has 10 × 8 pixels, the annotations say 8 × 10)" in said
        found = opened(folder, on_bad="skip")
        assert found.ids == ("2.png", "3.png")
        assert found.targets(1).labels.tolist() == [0]

    def test_a_turned_image_has_its_upright_size(self, folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (8, 10)).save(folder / "images/1.png", exif=exif)
        assert opened(folder).image(0).size == (10, 8)

    def test_an_image_of_20000_pixels(self, folder: Path) -> None:
        Image.new("1", (20_000, 20_000)).save(folder / "images/2.png")
        sizes = [(1, 8, 10), (2, 20_000, 20_000), (3, 8, 10)]
        images = [
            {"id": n, "file_name": f"{n}.png", "height": high, "width": wide}
            for n, high, wide in sizes
        ]
        large = annotation(2, image=2, segmentation=[[0, 0, 9999, 0, 9999, 9999, 0, 9999]])
        write(folder, [annotation(1), large], images=images)
        assert "pixels are not decoded, scale it down" in refusal(folder)
        assert opened(folder, on_bad="skip").ids == ("1.png", "3.png")

    def test_a_mask_of_a_long_image_is_small(self, folder: Path) -> None:
        Image.new("L", (20_000, 50)).save(folder / "images/2.png")
        images = [
            {"id": n, "file_name": f"{n}.png", "height": high, "width": wide}
            for n, high, wide in [(1, 8, 10), (2, 50, 20_000), (3, 8, 10)]
        ]
        half = [[0, 0, 10_000, 0, 10_000, 50, 0, 50]]
        write(folder, [annotation(1, image=2, segmentation=half)], images=images)
        assert opened(folder).targets(1).masks((2, 4)).astype(int).tolist() == [[[1, 1, 0, 0]] * 2]


class TestBadFiles:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "is no JSON"),
            ("[]", "it is a list)"),
            ('[{"image_id": 1, "score": 0.5}]', "it is a list of detections"),
            ('{"images": []}', "no list of annotations and none of categories, and holds images"),
            ('{"images": [], "annotations": [3], "categories": []}', "no list of annotations"),
        ],
    )
    def test_is_not_coco(self, folder: Path, text: str, words: str) -> None:
        (folder / "annotations.json").write_text(text)
        assert words in refusal(folder)

    def test_is_not_there(self, folder: Path) -> None:
        (folder / "annotations.json").unlink()
        assert "No such file" in refusal(folder)

    @pytest.mark.parametrize(
        ("key", "words"), [("segments_info", "panoptic"), ("caption", "captions")]
    )
    def test_holds_something_else(self, folder: Path, key: str, words: str) -> None:
        write(folder, [annotation(1, **{key: []})])
        assert f"holds {words}" in refusal(folder)

    def test_images_and_categories_that_cannot_be_told_apart(self, folder: Path) -> None:
        one = {"id": 1, "file_name": "1.png", "height": 8, "width": 10}
        write(folder, [annotation(1)], images=[one, one])
        assert '2 images have the id "1"' in refusal(folder)
        write(folder, [annotation(1)], images=[one | {"height": None}])
        assert "lacks an id, a file_name" in refusal(folder)
        write(folder, [annotation(1)], categories=[{"id": 1, "name": "a"}] * 2)
        assert "two categories have the id 1" in refusal(folder)
        write(folder, [annotation(1)], categories=[{"id": 1}])
        assert "lacks a whole number as id or a name" in refusal(folder)

    def test_no_objects(self, folder: Path) -> None:
        write(folder, [])
        assert "holds no object in its 3 images" in refusal(folder)
        write(folder, [annotation(1, iscrowd=1)])
        assert "holds no object" in refusal(folder)
        write(folder, [], images=[])
        assert "lists no image" in refusal(folder)

    def test_without_hotcoco(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "hotcoco", None)
        with pytest.raises(InputError, match=r"pip install 'sslens\[detect\]'"):
            opened(folder).targets(0).masks()


class TestScenes:
    def test_boxes_and_masks(self) -> None:
        scenes = scene_objects(3, seed=1, start=4)
        for row in range(3):
            targets = scenes.targets(row)
            masks = targets.masks()
            assert masks.shape == (len(targets), 64, 64)
            assert targets.area.tolist() == masks.sum(axis=(1, 2)).tolist()
            for mask, box in zip(masks, targets.boxes, strict=True):
                rows, columns = np.nonzero(mask)
                edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert box.tolist() == edges
            assert scenes.image(row).size == (64, 64)
        assert scenes.take([1]).digest == scene_objects(1, seed=1, start=5).digest
        assert scenes.has_masks
        assert not scenes.is_coco

    @pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 1, "start": -1}])
    def test_refused(self, wrong: dict[str, int]) -> None:
        with pytest.raises(InputError, match="scene"):
            scene_objects(**wrong)


class TestSources:
    def test_a_folder_by_its_name(self, folder: Path) -> None:
        source = f"coco:{folder / 'images'}:{folder / 'annotations.json'}"
        images = open_images(source, minimum=1)
        found = DetectionSet.of(images)
        assert sorted(found.ids) == ["1.png", "2.png", "3.png"]
        labels = {name: found.targets(row).labels.tolist() for row, name in enumerate(found.ids)}
        assert labels == {"1.png": [0, 1], "2.png": [], "3.png": [0]}
        assert len(DetectionSet.of(open_images(source, limit=2, minimum=1))) == 2
        write(folder, [annotation(1), annotation(2, category=9)])
        with pytest.raises(InputError, match="category that is not listed"):
            open_images(source, minimum=1)
        skipping = open_images(source, minimum=1, on_bad="skip")
        assert DetectionSet.of(skipping).source.left_out[0][1] == 1

    def test_what_is_left_out_is_counted_and_said(self, folder: Path) -> None:
        good = [annotation(1), annotation(2, image=3)]
        write(folder, [*good, annotation(5, category=9), annotation(6, bbox=[1, 1, 0, 4])])
        (folder / "images/2.png").unlink()
        source = f"coco:{folder / 'images'}:{folder / 'annotations.json'}"
        annotations, images = describe_skipped(open_images(source, minimum=1, on_bad="skip"))
        assert annotations.startswith("2 annotations of ")
        assert "1 of a category that is not listed" in annotations
        assert "1 with a box without extent" in annotations
        assert images.endswith("could not be used and was left out: 2.png (it is not there).")

    def test_scenes_by_their_name(self) -> None:
        images = open_images("scenes-detection:3:5")
        assert images.content == scene_objects(5, seed=3).images.content
        assert len(DetectionSet.of(images).targets(0)) >= 1

    def test_the_digest_holds_the_objects(self, folder: Path) -> None:
        before = opened(folder).images
        write(folder, [annotation(7), annotation(8, category=3, bbox=[1, 1, 4, 4]), annotation(9)])
        after = opened(folder).images
        assert before.digests == after.digests
        assert before.digest != after.digest

    def test_refused(self, folder: Path) -> None:
        with pytest.raises(InputError, match="should be coco:IMAGES:ANNOTATIONS"):
            open_images(f"coco:{folder}")
        with pytest.raises(InputError, match="is no file"):
            open_images(f"coco:{folder}:{folder}/nothing.json")
        with pytest.raises(InputError, match="scenes-detection:SEED:COUNT"):
            open_images("scenes-detection:x")
        with pytest.raises(InputError, match="no objects are known"):
            DetectionSet.of(from_arrays(np.zeros((2, 4, 4), np.uint8)))


@real
@pytest.mark.slow
class TestRealData:
    @pytest.mark.parametrize(
        ("name", "images", "objects"),
        [
            ("coco_mini/instances_val", 206, 1786),
            ("coco_mini/instances_train", 215, 2035),
            ("nuclei/instances", 664, 28986),
        ],
    )
    def test_equals_pycocotools(self, name: str, images: int, objects: int) -> None:
        path = Path(str(DATA)) / f"{name}.json"
        found = open_coco(path.parent / "images", path)
        assert (len(found), len(found.objects.labels)) == (images, objects)
        assert found.is_coco == (found.categories == COCO_CATEGORIES) == ("coco" in name)
        theirs = COCO(str(path))
        for row, number in enumerate(theirs.imgs):
            targets, wanted = found.targets(row), theirs.imgToAnns[number]
            assert theirs.imgs[number]["file_name"] == found.ids[row]
            assert targets.bbox.tolist() == [one["bbox"] for one in wanted]
            assert targets.crowd.tolist() == [one["iscrowd"] == 1 for one in wanted]
            for rle, one in zip(targets.rles, wanted, strict=True):
                assert decompress(theirs.annToRLE(one)["counts"]).tolist() == rle.counts.tolist()
