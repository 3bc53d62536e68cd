"""The task detection: views and objects, groups of weights, and whole runs, resumed and shared."""

import dataclasses
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sslens
from forks import together
from sslens.data.detections import DetectionSet
from sslens.data.scene_objects import scene_objects
from sslens.errors import InputError, Interrupted
from sslens.methods import Moment, Rows
from sslens.models.backbone import Backbone
from sslens.models.detection.objects import Objects
from sslens.models.sizes import at_size
from sslens.processes import Processes
from sslens.recipes import recipe
from sslens.tasks import Metric
from sslens.tasks.detection import (
    Detection,
    DetectionStart,
    Settings,
    batch,
    hide_images,
    job,
)
from sslens.tasks.detection_batch import pack_objects, place_objects, unpack_objects
from sslens.tasks.detection_maps import CachedMaps, View, make_maps, name_taps
from sslens.tasks.start import StartingPoint
from sslens.training.detect import TrainingRecord, load_detector, train_detector
from sslens.training.schedule import Training

NANO = "random:vit_nano_patch8_32:0"
SETTINGS = Settings(
    heads="small",
    size=64,
    scales=(0.5, 1.0),
    jitter=(0.8, 1.5),
    window=0,
    relative=False,
    drop_path=0.0,
    base_lr=0.01,
    warmup=0.25,
)
TRAINING = Training(
    epochs=2, batch_size=4, precision="float32", device="cpu", save_every=2, log_every=1
)
VIEWS = [View(side, flip) for side in (32, 64) for flip in (False, True)]
ROWS = Rows(seed=3, step=7, rows=slice(0, 6), total=6, numbers=(0, 1, 2, 3, 4, 5))


@pytest.fixture(scope="module")
def model() -> Backbone:
    return sslens.load(NANO)


@pytest.fixture(scope="module")
def scenes() -> DetectionSet:
    return scene_objects(12, seed=0)


@pytest.fixture(scope="module")
def maps(model: Backbone, scenes: DetectionSet) -> CachedMaps:
    return make_maps(model, scenes.images, VIEWS)


class Pretended:
    """An evaluation with a score that rises by a tenth a look; it may stop the run."""

    metrics = (Metric("box_ap", "box AP", "made up"),)

    def __init__(self, stops: bool = False) -> None:
        self.stops, self.looks = stops, 0

    def measure(
        self, method: Any, where: Processes, precision: str, workers: int = 0
    ) -> dict[str, float]:
        assert not method.training
        self.looks += 1
        if self.stops:
            os.kill(os.getpid(), signal.SIGINT)
        return {"box_ap": self.looks / 10}


def fit(
    model: Backbone, images: DetectionSet, out: Path, maps: CachedMaps | None = None, **more: Any
) -> Path:
    changed = {key: more.pop(key) for key in list(more) if key in ("accumulate", "epochs")}
    settings = dataclasses.replace(SETTINGS, tuned=maps is None)
    training = dataclasses.replace(TRAINING, **changed)
    return train_detector(
        model, images, out, settings=settings, training=training, maps=maps, **more
    )


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


# ------------------------------------------------------------------------------------------------
# maps, views, objects


def test_maps_are_those_of_the_network_at_that_size_and_flip(
    model: Backbone, scenes: DetectionSet, maps: CachedMaps
) -> None:
    read = maps.read([3, 0, 5], 64, [True, False, True])[0]
    assert (read.shape, read.dtype) == ((3, 8, 8, 64), torch.float16)
    for at, (row, flip) in enumerate([(3, True), (0, False), (5, True)]):
        pixels = np.asarray(scenes.image(row))
        pixels = np.ascontiguousarray(pixels[:, ::-1]) if flip else pixels.copy()
        larger = at_size(model, 64)
        x = larger.transform.normalise(pixels[None])
        tokens = sslens.activations(larger, x, taps=["blocks.3"])["blocks.3"][0, 1:]
        torch.testing.assert_close(
            read[at].float(), tokens.unflatten(0, (8, 8)), atol=2e-3, rtol=2e-3
        )
    assert maps.shape.dims == (64,)
    assert maps.shape.stride == 8
    assert maps.bytes == 12 * 2 * 2 * 64 * (16 + 64)


def test_several_blocks_are_joined_in_their_order(model: Backbone, scenes: DetectionSet) -> None:
    joined = make_maps(model, scenes.images, [View(32)], (1, 3))
    one, other = (make_maps(model, scenes.images, [View(32)], (block,)) for block in (1, 3))
    expected = torch.cat([each.read([4], 32)[0] for each in (one, other)], dim=-1)
    assert torch.equal(joined.read([4], 32)[0], expected)
    assert joined.shape.dims == (128,)
    with pytest.raises(InputError, match="has the blocks 0 to 3, and no 4"):
        name_taps(model, (4,))


def test_objects_of_a_flipped_view_lie_where_the_image_shows_them(scenes: DetectionSet) -> None:
    placed, plain = (
        place_objects(scenes.targets(5), View(64, flip).place((64, 64))) for flip in (True, False)
    )
    assert torch.equal(placed.masks, plain.masks.flip(2))
    assert torch.equal(placed.boxes[:, 0], 64 - plain.boxes[:, 2])
    for box, mask in zip(placed.boxes, placed.masks, strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.tolist() == [float(edge) for edge in tight]


def test_objects_survive_packing(scenes: DetectionSet) -> None:
    place = View(64).place((64, 64))
    objects = [place_objects(scenes.targets(row), place) for row in range(4)]
    packed = pack_objects(objects)
    assert packed["masks"].shape[2:] == (64, 8)
    for one, other in zip(objects, unpack_objects(packed), strict=True):
        for name in ("boxes", "labels", "masks"):
            assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("tuned", [False, True])
def test_a_part_of_a_minibatch_is_the_same_as_in_the_whole(
    model: Backbone, scenes: DetectionSet, maps: CachedMaps, tuned: bool
) -> None:
    settings = dataclasses.replace(SETTINGS, tuned=tuned, drop_path=0.1)
    start = DetectionStart(scenes, StartingPoint.of(model), None if tuned else maps)
    images = [scenes.image(row) for row in range(6)]
    whole = batch(images, settings, start, ROWS)
    rows = dataclasses.replace(ROWS, rows=slice(2, 5), numbers=(2, 3, 4))
    part = batch(images[2:5], settings, start, rows)
    assert whole.keys() == part.keys()
    assert ("view" in whole) == tuned
    for name, value in part.items():
        count = value.shape[1] if name in ("boxes", "labels", "masks") else None
        expected = whole[name][2:5] if count is None else whole[name][2:5, :count]
        assert torch.equal(value, expected), name
    other = batch(images, settings, start, dataclasses.replace(ROWS, step=8))
    assert not torch.equal(other["noise"], whole["noise"])


# ------------------------------------------------------------------------------------------------
# the method


def test_groups_have_the_rates_of_vitdet(model: Backbone) -> None:
    settings = dataclasses.replace(SETTINGS, tuned=True, classes=("a", "b"))
    method = Detection(model, settings, None)
    names = {id(value): name for name, value in method.detector.named_parameters()}
    found = {
        names[id(p)]: (group["lr_scale"], group.get("weight_decay"))
        for group in method.parameter_groups()
        for p in group["params"]
    }
    trained = {n for n, p in method.detector.named_parameters() if p.requires_grad}
    assert found.keys() == trained
    by_hand = {
        "backbone.network.pos_embed": (0.7**5, 0.0),
        "backbone.network.patch_embed.proj.weight": (0.7**5, None),
        "backbone.network.blocks.0.norm1.weight": (0.7**4, 0.0),
        "backbone.network.blocks.3.mlp.fc2.bias": (0.7, None),
        "pyramid.p4.0.weight": (1.0, None),
        "pyramid.p4.0.norm.weight": (1.0, None),
    }
    for name, (scale, decay) in by_hand.items():
        assert found[name] == (pytest.approx(scale), decay), name
    assert all(found[name][0] == 1.0 for name in found if not name.startswith("backbone"))


def test_the_rate_rises_and_falls_in_steps(model: Backbone, maps: CachedMaps) -> None:
    settings = dataclasses.replace(SETTINGS, warmup=0.1, milestones=(0.5, 0.8), classes=("a",))
    method = Detection(model, settings, maps.shape)
    rates = [method.rates(Moment(step, 100, 10), 1.0)[0] for step in (0, 5, 10, 49, 50, 79, 80, 99)]
    assert rates == pytest.approx([0.001, 0.5005, 1, 1, 0.1, 0.1, 0.01, 0.01])
    defaults = Settings()
    assert (defaults.base_lr * 64 / 256, defaults.weight_decay) == (1e-4, 0.1)
    assert (defaults.layer_decay, defaults.drop_path, defaults.window) == (0.7, 0.1, 14)


def test_settings_that_cannot_be_are_refused() -> None:
    for changed, said in (
        ({"heads": "smal"}, "did you mean small"),
        ({"blocks": (2, 1)}, "in rising order"),
        ({"jitter": (2.0, 1.0)}, "a range that rises"),
        ({"scales": ()}, "numbers above 0"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
    ):
        with pytest.raises(InputError, match=said):
            dataclasses.replace(SETTINGS, **changed)


def test_images_without_objects_or_masks_are_refused(
    model: Backbone, scenes: DetectionSet, maps: CachedMaps
) -> None:
    hidden = hide_images(scenes)
    assert hidden.image(0).size == (1, 1)
    assert hidden.digest == scenes.images.digest
    built = job(model, scenes, SETTINGS, maps)
    assert built.settings.classes == scenes.categories
    with pytest.raises(ValueError, match="stays as it is"):
        job(model, scenes, SETTINGS)


def test_an_image_without_objects_trains(maps: CachedMaps, model: Backbone) -> None:
    settings = dataclasses.replace(SETTINGS, classes=("a", "b"))
    method = Detection(model, settings, maps.shape)
    none = Objects(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 64, 64).bool()
    )
    given = pack_objects([none]) | {
        "map.0": maps.read([0], 64)[0],
        "sizes": torch.tensor([[64, 64]]),
        "noise": torch.tensor([5]),
    }
    loss = method(given)
    loss.backward()
    assert math.isfinite(loss.item())


@pytest.mark.parametrize("tuned", [False, True])
def test_a_cnn_is_read_after_its_four_stages(scenes: DetectionSet, tuned: bool) -> None:
    cnn = sslens.load("random:resnet_8x12x16x20_1x1x1x1_64")
    settings = dataclasses.replace(SETTINGS, tuned=tuned, classes=scenes.categories)
    maps = None if tuned else make_maps(cnn, scenes.images.take([0, 1]), [View(64), View(64, True)])
    method = Detection(cnn, settings, None if maps is None else maps.shape)
    start = DetectionStart(scenes, StartingPoint("", cnn.transform, 0), maps)
    rows = Rows(seed=0, step=0, rows=slice(0, 2), total=2, numbers=(0, 1))
    given = batch([scenes.image(0), scenes.image(1)], settings, start, rows)
    shapes = [tuple(each.shape[2:]) for each in method.maps(given)]
    assert shapes == [(16, 16), (8, 8), (4, 4), (2, 2)]
    method(given).backward()
    assert method.detector.pyramid.lateral["p2"].weight.grad is not None
    with pytest.raises(InputError, match="read after its four stages"):
        name_taps(cnn, (1,))


# ------------------------------------------------------------------------------------------------
# runs


@pytest.mark.parametrize("tuned", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_stopped_and_resumed_a_run_ends_with_the_same_weights(
    model: Backbone, scenes: DetectionSet, maps: CachedMaps, tmp_path: Path, tuned: bool
) -> None:
    given = None if tuned else maps
    fit(model, scenes, tmp_path / "whole", given, evaluation=Pretended())
    with pytest.raises(Interrupted, match="after step 4 of 6"):
        fit(model, scenes, tmp_path / "parts", given, evaluation=Pretended(stops=True))
    fit(model, scenes, tmp_path / "parts", given, evaluation=Pretended(), resume=True)
    for name in ("last.safetensors", "state.safetensors"):
        one, other = ((tmp_path / run / name).read_bytes() for run in ("whole", "parts"))
        assert one == other, name
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert losses(tmp_path / "whole")[-1] < losses(tmp_path / "whole")[0]
    record = TrainingRecord.of(tmp_path / "whole", 4)
    assert record.steps == 6
    assert record.gained == pytest.approx(0.1)
    assert record.loss == pytest.approx(np.mean(losses(tmp_path / "whole")[4:]))
    settings = dataclasses.replace(SETTINGS, tuned=tuned, classes=scenes.categories)
    built = Detection(model, settings, None if tuned else maps.shape)
    loaded = load_detector(tmp_path / "whole", built)
    kept = load_file(tmp_path / "whole" / "last.safetensors")
    for name, value in loaded.detector.state_dict().items():
        assert torch.equal(value, kept[f"detector.{name}"])
    assert not loaded.training
    with pytest.raises(InputError, match="weights of a detector, and no network by itself"):
        sslens.load(tmp_path / "whole" / "last.safetensors")
    if not tuned:
        assert not any("backbone" in name for name in kept)


def test_two_processes_train_almost_as_one(
    model: Backbone, scenes: DetectionSet, maps: CachedMaps, tmp_path: Path
) -> None:
    fit(model, scenes, tmp_path / "one", maps, epochs=1)
    together(lambda: fit(model, scenes, tmp_path / "two", maps, epochs=1))
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    # the mask loss is a mean over the positive regions of a process
    np.testing.assert_allclose(one, two, rtol=0.05)
    assert one != two


def test_a_frozen_network_is_not_changed(
    model: Backbone, scenes: DetectionSet, maps: CachedMaps, tmp_path: Path
) -> None:
    before = model.digest
    fit(model, scenes, tmp_path / "frozen", maps, epochs=1)
    fit(model, scenes, tmp_path / "tuned", None, epochs=1)
    assert model.digest == before
    kept = load_file(tmp_path / "tuned" / "last.safetensors")
    name = "blocks.3.mlp.fc2.weight"
    moved = kept[f"detector.backbone.network.{name}"]
    assert not torch.equal(moved, model.network.state_dict()[name])


@pytest.mark.slow
def test_four_images_of_coco_are_learnt_by_heart(tmp_path: Path) -> None:
    """End to end with the heads `small`: AP50 of boxes on the same four images is 95 or more."""
    folder = os.environ.get("SSLENS_DATA")
    if folder is None:
        pytest.skip("SSLENS_DATA is not set")
    from sslens.data.coco import open_coco
    from sslens.scoring.score import score
    from sslens.tasks.detecting import Judged, find_all

    coco = Path(folder) / "coco_mini"
    every = open_coco(coco / "images", coco / "instances_train.json")
    images = every.take(choose_four(every))
    model = sslens.load("scenes_dino")
    settings = dataclasses.replace(
        recipe("detection", "small").settings,
        size=128,
        tuned=True,
        jitter=(1.0, 1.0),
        flip=False,
        base_lr=0.064,
        weight_decay=0.01,
        layer_decay=0.8,
        milestones=(0.7, 0.9),
    )
    training = Training(
        epochs=300, batch_size=4, precision="bfloat16", device="cpu", save_every=10**6
    )
    train_detector(model, images, tmp_path, settings=settings, training=training)
    settings = dataclasses.replace(settings, classes=images.categories)
    method = load_detector(tmp_path, Detection(model, settings, None))
    judged = Judged(images, View(128), StartingPoint("", model.transform, 0))
    found = find_all(judged, method, Processes(0, 1, "cpu"), "float32")
    assert score(found, images, "box", matches=False)["ap50"] >= 0.95


def choose_four(images: DetectionSet) -> list[int]:
    """The first four images with objects of which none is narrower than 8 % of its image."""
    rows = []
    for row in range(len(images)):
        targets = images.targets(row)
        longer = max(targets.width, targets.height)
        if len(targets) and not targets.crowd.any() and targets.bbox[:, 2:].min() > 0.08 * longer:
            rows.append(row)
    return rows[:4]
