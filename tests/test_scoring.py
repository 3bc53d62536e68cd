"""Scores of detections: equal to pycocotools' to the last digit, and their draws over images equal
to scores of images that are there several times."""

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from forks import forked
from sslens.data.coco import open_coco
from sslens.data.detections import DetectionSet
from sslens.data.images import ImageSet
from sslens.data.rle import Rle
from sslens.data.scene_objects import scene_objects
from sslens.data.targets import Targets
from sslens.errors import InputError
from sslens.scoring.areas import COCO_AREAS, AreaBins, choose_areas
from sslens.scoring.detected import Detected, encode_masks
from sslens.scoring.score import PRECISIONS, RECALLS, Kind, Scores, score
from sslens.statistics.bootstrap import draw_weights

DATA = os.environ.get("SSLENS_DATA")
real = pytest.mark.skipif(not DATA, reason="SSLENS_DATA is not set")
KINDS: tuple[Kind, Kind] = ("box", "mask")
SIZES = [(60, 80), (90, 40), (64, 64)]


@dataclass(frozen=True)
class Made:
    """Images of targets that a test makes."""

    all_targets: tuple[Targets, ...]
    categories: tuple[str, ...] = ("a", "b", "c")
    has_masks: bool = True
    is_coco: bool = False
    left_out: tuple[tuple[str, int], ...] = ()

    def image(self, row: int) -> Image.Image:
        raise NotImplementedError

    def targets(self, row: int) -> Targets:
        return self.all_targets[row]

    def digests(self, rows: Sequence[int]) -> list[str]:
        return [str(row) for row in rows]


def make_set(all_targets: Sequence[Targets], **other: Any) -> DetectionSet:
    source = Made(tuple(all_targets), **other)
    ids = tuple(f"{row:03d}" for row in range(len(all_targets)))
    return DetectionSet(ImageSet("made", ids, None, (), source, objects=source))


def draw_masks(generator: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Rectangles of all sizes, with a few pixels knocked out."""
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        height, width = np.minimum(np.exp(generator.normal(2.6, 0.9, 2)).astype(int) + 2, size)
        y = generator.integers(0, size[0] - height + 1)
        x = generator.integers(0, size[1] - width + 1)
        mask[y : y + height, x : x + width] = generator.random((height, width)) < 0.97
    return masks


def make_targets(generator: np.random.Generator, images: int) -> list[Targets]:
    """Images of 0 to 5 objects of two of three categories, a tenth of them crowds."""
    made = []
    for row in range(images):
        count, size = int(generator.integers(0, 6)), SIZES[row % 3]
        targets = Targets.from_masks(
            draw_masks(generator, count, size), generator.integers(0, 2, count)
        )
        made.append(replace(targets, crowd=generator.random(count) < 0.1))
    return made


def detect(
    generator: np.random.Generator, images: DetectionSet, levels: int = 8
) -> dict[str, Detected]:
    """Detections near the objects and elsewhere, with scores of which many are equal."""
    found = {}
    for row, name in enumerate(images.ids):
        targets = images.targets(row)
        size = (targets.height, targets.width)
        near = np.roll(targets.masks(), generator.integers(-2, 3, 2), axis=(1, 2))
        masks = np.concatenate([near, near[:2], draw_masks(generator, 2, size)])
        random = generator.integers(0, 3, len(masks) - len(targets))
        labels = np.concatenate([targets.labels, random])
        boxes = Targets.from_masks(masks, labels).boxes + generator.normal(0, 1, (len(masks), 4))
        scores = generator.integers(0, levels, len(masks)) / levels
        found[name] = Detected(boxes.astype(np.float32), scores, labels, encode_masks(masks))
    return found


def run_pycocotools(
    found: dict[str, Detected],
    images: DetectionSet,
    kind: Kind,
    areas: AreaBins,
    weights: Sequence[int] | None = None,
) -> COCOeval:
    """pycocotools' evaluation, with the images numbered in the order of their ids; an image of
    weight n is there n times."""
    images = images.take(sorted(range(len(images)), key=images.ids.__getitem__))
    rows = np.repeat(np.arange(len(images)), [1] * len(images) if weights is None else weights)
    objects: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    pixels = {}
    for number, row in enumerate(rows.tolist(), 1):
        targets, one = images.targets(row), found[images.ids[row]]
        pixels[number] = targets.height * targets.width if areas.relative else 1
        for at, mask in enumerate(targets.segmentations()):
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": number,
                    "category_id": int(targets.labels[at]),
                    "bbox": targets.bbox[at].tolist(),
                    "area": targets.area[at] / pixels[number],
                    "iscrowd": int(targets.crowd[at]),
                    "segmentation": mask,
                }
            )
        for at in range(len(one)):
            x0, y0, x1, y1 = one.boxes[at].astype(float).tolist()
            own: dict[str, Any] = {"bbox": [x0, y0, x1 - x0, y1 - y0]}
            if kind == "mask":
                own = {"segmentation": (one.masks or ())[at]}
            keys = {"image_id": number, "category_id": int(one.labels[at])}
            results.append({**keys, "score": float(one.scores[at]), **own})
    sizes = [(images.targets(row).height, images.targets(row).width) for row in rows.tolist()]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [
                {"id": number, "height": height, "width": width}
                for number, (height, width) in enumerate(sizes, 1)
            ],
            "annotations": objects,
            "categories": [{"id": at, "name": name} for at, name in enumerate(images.categories)],
        }
        truth.createIndex()
        detections = truth.loadRes(results)
        for annotation in detections.dataset["annotations"]:
            annotation["area"] = annotation["area"] / pixels[annotation["image_id"]]
        run = COCOeval(truth, detections, "bbox" if kind == "box" else "segm")
        run.params.areaRng = areas.ranges
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def require_equal(scores: Scores, run: COCOeval) -> None:
    theirs = np.where(run.stats > -1, run.stats, np.nan)
    assert np.array_equal(scores.numbers, theirs, equal_nan=True)  # to the last digit
    for label in range(len(scores.categories)):
        ours = run.eval["precision"][:, :, label, 0, 2]
        expected = ours[ours > -1].mean() if (ours > -1).any() else np.nan
        assert np.array_equal(scores.by_category[0, label], expected, equal_nan=True)


THIRDS = AreaBins(0.03, 0.1, relative=True)
PIXELS = AreaBins(150.0, 500.0, relative=False)


class TestEqualsPycocotools:
    @pytest.mark.parametrize("areas", [COCO_AREAS, PIXELS, THIRDS], ids=["coco", "px", "share"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("seed", range(3))
    def test_with_crowds_and_equal_scores(self, kind: Kind, areas: AreaBins, seed: int) -> None:
        generator = np.random.default_rng(seed)
        images = make_set(make_targets(generator, 24))
        found = detect(generator, images)
        scores = score(found, images, kind, areas)
        assert 0.05 < scores["ap"] < 0.95
        require_equal(scores, run_pycocotools(found, images, kind, areas))
        assert np.isnan(scores.by_category[:, 2]).all()  # a category without objects

    @pytest.mark.parametrize("kind", KINDS)
    def test_scenes(self, kind: Kind) -> None:
        images = scene_objects(6, seed=2)
        areas = choose_areas(scene_objects(6, seed=1))
        found = detect(np.random.default_rng(0), images)
        require_equal(
            score(found, images, kind, areas), run_pycocotools(found, images, kind, areas)
        )

    def test_more_than_a_hundred_detections(self) -> None:
        generator = np.random.default_rng(3)
        images = make_set(make_targets(generator, 3))
        found = detect(generator, images)
        boxes = np.abs(generator.normal(20, 9, (230, 2)))
        many = np.concatenate([boxes, boxes + generator.integers(3, 30, (230, 2))], axis=1)
        labels = generator.integers(0, 2, 230)
        found[images.ids[0]] = Detected(many, generator.random(230), labels)
        scores = score(found, images)
        require_equal(scores, run_pycocotools(found, images, "box", COCO_AREAS))
        assert scores.matches is not None
        assert (scores.matches.image == 0).sum() == 2 * 100 or np.bincount(labels).min() < 100

    def test_nothing_is_found(self) -> None:
        images = make_set(make_targets(np.random.default_rng(0), 5))
        nothing = Detected(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), [])
        for kind in KINDS:
            scores = score(dict.fromkeys(images.ids, nothing), images, kind)
            assert scores["ap"] == scores["ar100"] == 0
            assert scores.bootstrap(8).draws[0].tolist() == [0] * 8

    def test_the_order_of_the_images_does_not_matter(self) -> None:
        generator = np.random.default_rng(5)
        images = make_set(make_targets(generator, 12))
        found = detect(generator, images, levels=2)
        turned = images.take(list(range(11, -1, -1)))
        one, other = (score(found, some) for some in (images, turned))
        assert np.array_equal(one.numbers, other.numbers, equal_nan=True)
        assert (one.bootstrap(20) - other.bootstrap(20)).draws[0].tolist() == [0] * 20

    def test_the_box_of_a_mask_does_not_count(self) -> None:
        generator = np.random.default_rng(6)
        images = make_set(make_targets(generator, 12))
        found = detect(generator, images)
        moved = {name: replace(one, boxes=one.boxes * 3) for name, one in found.items()}
        one, other = (score(some, images, "mask", PIXELS) for some in (found, moved))
        assert one.numbers.tolist() == other.numbers.tolist()

    def test_a_process_forked_after_a_score_refuses_and_does_not_hang(self) -> None:
        images = make_set(make_targets(np.random.default_rng(7), 3))
        found = detect(np.random.default_rng(0), images)
        before = score(found, images, areas=PIXELS).numbers

        def forked_score() -> None:
            encode_masks(np.ones((2, 8, 8), bool))  # drawing masks needs no threads
            Rle.from_coco([[1, 1, 3, 1, 3, 3]], 4, 4)
            with pytest.raises(InputError, match="do not survive a fork"):
                score(found, images, areas=PIXELS)

        assert forked(forked_score) == [0]
        np.testing.assert_array_equal(score(found, images, areas=PIXELS).numbers, before)

    def test_names(self) -> None:
        images = make_set(make_targets(np.random.default_rng(7), 9))
        scores = score(detect(np.random.default_rng(0), images), images, areas=PIXELS)
        assert [scores[name] for name in (*PRECISIONS, *RECALLS)] == scores.numbers.tolist()
        with pytest.raises(InputError, match=r"did you mean .*ap50"):
            scores["ap05"]


class TestBootstrap:
    @pytest.mark.parametrize("kind", KINDS)
    def test_undrawn_equals_hotcoco(self, kind: Kind) -> None:
        generator = np.random.default_rng(8)
        images = make_set(make_targets(generator, 24))
        scores = score(detect(generator, images), images, kind, THIRDS)
        undrawn = scores._weigh(np.ones((24, 1)))[..., 0]
        assert np.allclose(undrawn, scores.by_category, rtol=0, atol=1e-12, equal_nan=True)

    @pytest.mark.parametrize("areas", [PIXELS, THIRDS], ids=["px", "share"])
    def test_a_draw_equals_images_that_are_there_several_times(self, areas: AreaBins) -> None:
        generator = np.random.default_rng(9)
        images = make_set(make_targets(generator, 10))
        found = detect(generator, images, levels=10**9)  # no two scores are equal
        scores = score(found, images, "box", areas)
        weights = draw_weights(10, draws=3, seed=4)
        drawn = scores.bootstrap(draws=3, seed=4)
        assert drawn.value.tolist() == scores.numbers[:6].tolist()
        for draw in range(3):
            times = weights[:, draw].astype(int).tolist()
            run = run_pycocotools(found, images, "box", areas, times)
            expected = np.where(run.stats > -1, run.stats, np.nan)[:6]
            assert np.allclose(drawn.draws[:, draw], expected, rtol=0, atol=1e-12, equal_nan=True)

    def test_pieces_of_draws_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        generator = np.random.default_rng(10)
        images = make_set(make_targets(generator, 10))
        scores = score(detect(generator, images), images)
        whole = scores.bootstrap(50).draws
        monkeypatch.setattr("sslens.scoring.matches._ROOM", 8 * 7 * 40)
        assert np.array_equal(scores.bootstrap(50).draws, whole, equal_nan=True)

    def test_differences_are_paired(self) -> None:
        generator = np.random.default_rng(11)
        images = make_set(make_targets(generator, 40))
        good = detect(generator, images)
        noise = np.random.default_rng(0)
        worse = {
            name: replace(one, boxes=one.boxes + noise.normal(0, 0.7, one.boxes.shape))
            for name, one in good.items()
        }
        one, other = (score(some, images).bootstrap(200) for some in (good, worse))
        difference = (one - other)[0]
        low, high = (float(end) for end in difference.interval())
        ends = [part[0].interval() for part in (one, other)]
        apart = [float(end[1] - end[0]) for end in ends]
        assert high - low < 0.7 * min(apart)
        assert difference.estimate().n == 40
        fewer = {name: good[name] for name in images.ids[:39]}
        with pytest.raises(InputError, match="same draws of the same images"):
            one - score(fewer, images.take(list(range(39)))).bootstrap(200)
        with pytest.raises(InputError, match="same draws of the same images"):
            one - score(worse, images).bootstrap(200, seed=1)

    def test_the_store_keeps_scores(self) -> None:
        generator = np.random.default_rng(12)
        images = make_set(make_targets(generator, 8))
        found = detect(generator, images)
        for matches in (True, False):
            scores = score(found, images, "mask", THIRDS, matches=matches)
            again = Scores.from_state(scores.state())
            assert np.array_equal(again.numbers, scores.numbers, equal_nan=True)
            assert (again.areas, again.categories, again.kind) == (THIRDS, ("a", "b", "c"), "mask")
            if matches:
                zero = scores.bootstrap(9) - again.bootstrap(9)
                assert np.nansum(np.abs(zero.draws)) == 0
            else:
                with pytest.raises(InputError, match="matches=True"):
                    again.bootstrap()


class TestAreas:
    def test_thirds_of_the_training_objects(self) -> None:
        generator = np.random.default_rng(13)
        images = make_set(make_targets(generator, 60))
        bins = choose_areas(images)
        shares = images.objects.relative_area[~images.objects.crowd]
        inside = [(shares <= bins.lower).mean(), (shares >= bins.upper).mean()]
        assert np.allclose(inside, 1 / 3, atol=0.02)
        assert bins.names == ("smallest third", "middle third", "largest third")

    def test_coco_has_its_own(self) -> None:
        empty = Targets.from_masks(np.zeros((0, 480, 640), bool), np.zeros(0, np.int64))
        assert choose_areas(make_set([empty], is_coco=True)) is COCO_AREAS

    def test_shrunken_coco_has_thirds(self) -> None:
        images = make_set(make_targets(np.random.default_rng(0), 3), is_coco=True)
        assert choose_areas(images).relative  # of 90 pixels at most

    def test_no_object(self) -> None:
        empty = Targets.from_masks(np.zeros((0, 4, 4), bool), np.zeros(0, np.int64))
        with pytest.raises(InputError, match="holds no object"):
            choose_areas(make_set([empty]))


class TestRefused:
    @pytest.fixture
    def images(self) -> DetectionSet:
        return make_set(make_targets(np.random.default_rng(14), 3))

    @pytest.fixture
    def found(self, images: DetectionSet) -> dict[str, Detected]:
        return detect(np.random.default_rng(14), images)

    def test_entries(self, images: DetectionSet, found: dict[str, Detected]) -> None:
        with pytest.raises(InputError, match="1 of 3 images have no entry"):
            score({name: found[name] for name in ("000", "002")}, images)
        with pytest.raises(InputError, match="Detections of 7 are given"):
            score(found | {"7": found["000"]}, images)

    def test_numbers(self, images: DetectionSet, found: dict[str, Detected]) -> None:
        one = found["000"]
        for wrong, words in (
            (replace(one, boxes=one.boxes + np.inf), "not finite"),
            (replace(one, scores=one.scores + np.nan), "not finite"),
            (replace(one, labels=one.labels + 3), "3 categories"),
        ):
            with pytest.raises(InputError, match=words):
                score(found | {"000": wrong}, images)

    def test_masks(self, images: DetectionSet, found: dict[str, Detected]) -> None:
        one = found["000"]
        with pytest.raises(InputError, match="and 0 masks"):
            score(found | {"000": replace(one, masks=None)}, images, "mask")
        small = encode_masks(np.ones((len(one), 4, 4), bool))
        with pytest.raises(InputError, match="not of the image's size, 60 × 80"):
            score(found | {"000": replace(one, masks=small)}, images, "mask")
        boxes = [replace(images.targets(row), rles=None) for row in range(3)]
        with pytest.raises(InputError, match='boxes and no masks: score with kind="box"'):
            score(found, make_set(boxes, has_masks=False), "mask")


@real
@pytest.mark.slow
class TestRealData:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", ["coco_mini/instances_val", "nuclei/instances"])
    def test_equals_pycocotools(self, name: str, kind: Kind) -> None:
        path = Path(str(DATA)) / f"{name}.json"
        images = open_coco(path.parent / "images", path)
        if not images.is_coco:
            images = images.split(0.9)[1]
            assert len(images) == 66
        areas = choose_areas(images)
        found = self.shift_objects(images)
        scores = score(found, images, kind, areas)
        require_equal(scores, run_pycocotools(found, images, kind, areas))
        assert 0.2 < scores["ap50"] < 0.95

    @staticmethod
    def shift_objects(images: DetectionSet) -> dict[str, Detected]:
        """Each object once or twice, a few pixels off, some of another category."""
        generator = np.random.default_rng(0)
        found = {}
        for row, name in enumerate(images.ids):
            targets = images.targets(row)
            size = (targets.height, targets.width)
            rows = np.repeat(np.arange(len(targets)), generator.integers(0, 3, len(targets)))
            moves = generator.integers(-3, 4, (len(rows), 2))
            masks = [
                encode_masks(np.roll(Rle.to_mask(targets.rles[at]), tuple(move), (0, 1))[None])[0]
                for at, move in zip(rows.tolist(), moves.tolist(), strict=True)
                if targets.rles is not None
            ]
            assert all(list(mask["size"]) == list(size) for mask in masks)
            x, y, width, height = targets.bbox[rows].T
            boxes = np.stack([x, y, x + width, y + height], axis=1) + np.tile(moves[:, ::-1], 2)
            other = generator.integers(0, len(images.categories), len(rows))
            labels = np.where(generator.random(len(rows)) < 0.1, other, targets.labels[rows])
            scores = generator.random(len(rows)).round(2)
            found[name] = Detected(boxes, scores, labels, masks)
        return found
