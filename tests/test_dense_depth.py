"""The analysis dense-depth: on maps of which it is known what can be read from them, and through a
study."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sslens
from forks import together
from given import Given, compute, make_models, write
from sslens.capture import Maps
from sslens.capture.hooks import visit_taps
from sslens.comparisons.dense_advice import judge_dense
from sslens.comparisons.dense_families import LAST, TILT
from sslens.comparisons.dense_scores import to_estimate
from sslens.comparisons.inputs import MapSets
from sslens.comparisons.norms import find_outlying
from sslens.comparisons.segments import IGNORED, SegmentedImages, Segments, View
from sslens.data import open_images
from sslens.data.detections import DetectionSet
from sslens.find import plugin
from sslens.models.sizes import at_size
from sslens.models.taps import Tap
from sslens.probes.overlap import score_patches
from sslens.probes.patches import count_labels
from sslens.processes import processes
from sslens.report import answer
from sslens.report.writing import dense_advice
from sslens.report.writing.answer import Told, write_answer
from sslens.report.writing.cards import write_dense_card
from sslens.report.writing.left_over import write_changes
from sslens.statistics.estimate import Estimate
from sslens.store import Store
from sslens.study import Study, prepare
from sslens.study.capturing import capture, list_own_passes
from sslens.study.study_cost import estimate_study
from sslens.table import Results

NANO = "random:vit_nano_patch8_32"
IMAGES, GRID, PATCH = 60, 8, 4
TAPS = [Tap(f"blocks.{i}", "block", (i + 1) / 3) for i in range(3)]
ABOUT = {
    "dino": {"family": "JE", "objective": "dino", "arch": "vit"},
    "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
    "random #0": {"family": "control", "arch": "vit"},
}


def paint(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Squares of two classes in whole patches, of 1, 2 × 2 or 3 × 3 patches, two an image."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((IMAGES, GRID, GRID), np.int16)
    objects = np.full_like(masks, -1)
    for image in range(IMAGES):
        for number, start in enumerate((0, 4)):
            size, label = rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25]), rng.integers(1, 3)
            row, column = rng.integers(0, 9 - size), start + rng.integers(0, 5 - size)
            where = (image, slice(row, row + size), slice(column, column + size))
            masks[where], objects[where] = label, number
    enlarged = (
        torch.from_numpy(part.repeat(PATCH, 1).repeat(PATCH, 2)) for part in (masks, objects)
    )
    return tuple(enlarged)  # type: ignore[return-value]


def see(masks: torch.Tensor, objects: torch.Tensor, known: Mapping[str, float], seed: int) -> Maps:
    """Maps in which the class of a patch stands out so much, by size of its object."""
    generator = torch.Generator().manual_seed(seed)
    labels, owners = (part[:, ::PATCH, ::PATCH].long() for part in (masks, objects))
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    count = torch.stack([(owners == number).sum((1, 2)) for number in (0, 1)], 1)
    area = count.gather(1, owners.clamp_min(0).flatten(1)).view(labels.shape)
    strength = torch.full(labels.shape, known["background"])
    for patches, size in ((1, "small"), (4, "medium"), (9, "large")):
        strength[(owners >= 0) & (area == patches)] = known[size]
    noise = torch.randn(3, *labels.shape, 8, generator=generator)
    arrays = {}
    for place, tap in enumerate(TAPS):
        signal = one_hot * strength[..., None] * (place + 1) / 3
        arrays[tap.name] = torch.cat([signal, torch.zeros(*labels.shape, 5)], 3) + noise[place]
    return Maps.of(arrays, side=GRID * PATCH, taps=TAPS, ids=[f"{i:03d}" for i in range(IMAGES)])


@pytest.fixture(scope="module")
def given() -> Given:
    """JE sees large objects, REC small ones; a control sees nothing."""
    models = make_models(("dino", "mae"), ("random #0",), ABOUT)
    know = {
        "dino": {"background": 6.0, "small": 0.0, "medium": 4.0, "large": 8.0},
        "mae": {"background": 6.0, "small": 8.0, "medium": 4.0, "large": 0.0},
        "random #0": dict.fromkeys(("background", "small", "medium", "large"), 0.0),
    }
    sets: list[dict[str, Maps]] = []
    shown = []
    for role in range(2):
        masks, objects = paint(role)
        view = View(masks, objects)
        ids = tuple(f"{i:03d}" for i in range(IMAGES))
        shown.append(SegmentedImages(ids, dict.fromkeys(ABOUT, view), f"content {role}"))
        sets.append({name: see(masks, objects, known, role) for name, known in know.items()})
    segments = Segments(("background", "disc", "square"), shown[0], shown[1])
    return Given(models, {"maps": MapSets(*sets), "segments": segments})


@pytest.fixture(scope="module")
def results(given: Given) -> Results:
    return compute("dense-depth", given)


def test_what_maps_hold_is_read_by_size_and_depth(results: Results) -> None:
    scores = results["scores"].set_index(["model", "tap", "reading", "size"])
    for reading in ("k-NN", "linear"):
        for model, better, worse in (("dino", "large", "small"), ("mae", "small", "large")):
            one, other = (scores.miou[model, "blocks.2", reading, size] for size in (better, worse))
            assert one > other + 0.2
            first, last = (scores.miou[model, f"blocks.{i}", reading, "all"] for i in (0, 2))
            assert last > first + 0.1
            row = scores.loc[model, "blocks.2", reading, "all"]
            assert row.low < row.miou < row.high
            assert row.gain_low > 0.2
            assert row.over_last == 0.0
        assert (scores.over_last["mae", "blocks.0", reading, "all"]) < -0.1
    both = scores.miou["mae", "blocks.1 + blocks.2", "linear", "all"]
    assert both > scores.miou["mae", "blocks.2", "linear", "all"] - 0.05
    assert scores.images.unique().tolist() == [IMAGES]


def test_a_score_is_the_intersection_over_union_by_hand(given: Given, results: Results) -> None:
    """Of the control, of which k-NN with these very patches is computed again by loops."""
    from sslens.probes.dense_knn import segment_nearest
    from sslens.probes.patches import count_labels

    maps, segments = given.values["maps"], given.values["segments"]
    ids = segments.bank.ids
    rows = results["probes"].set_index(["model", "tap", "reading"])
    trained = int(rows.trained["mae", "blocks.1", "k-NN"])
    assert trained == 48  # four fifths of the bank
    from sslens.probes.splits import held_out

    train, _ = held_out(np.zeros(IMAGES, np.int64), ids, seed=1)
    labels = count_labels(segments.bank.views["mae"].masks[train], (GRID, GRID), 3, ignore=IGNORED)
    bank = maps.bank["mae"].read("blocks.1", train).float()
    test = maps.images["mae"].read("blocks.1").float()
    predicted = segment_nearest(bank, labels, test).predicted.numpy()
    truth = segments.images.views["mae"].masks[:, ::PATCH, ::PATCH].numpy()
    ious = []
    for label in range(3):
        inside = ((predicted == label) & (truth == label)).sum()
        either = ((predicted == label) | (truth == label)).sum()
        ious.append(inside / either)
    classes = results["classes"].set_index(["model", "tap", "reading", "class"])
    for label, name in enumerate(segments.classes):
        assert classes.iou["mae", "blocks.1", "k-NN", name] == pytest.approx(ious[label])
    scores = results["scores"].set_index(["model", "tap", "reading", "size"])
    assert scores.miou["mae", "blocks.1", "k-NN", "all"] == pytest.approx(np.mean(ious))
    accuracy = rows.accuracy["mae", "blocks.1", "k-NN"]
    assert accuracy == pytest.approx((predicted == truth).mean())
    assert rows.bound["mae", "blocks.1", "k-NN"] == 1.0  # objects are whole patches


def test_families_differ_by_size(results: Results) -> None:
    rows = results["families"].set_index(["reading", "size", "at"])
    for reading in ("k-NN", "linear"):
        read = {
            size: Estimate.from_row(
                rows.loc[reading, size, LAST].to_dict(), "difference", "images", "images"
            )
            for size in ("small", "large", TILT)
        }
        assert read["large"].find_side(0.005) == "more", read
        assert read["small"].value < 0, read
        assert read[TILT].find_side(0.005) == "more"
        assert read[TILT].value == pytest.approx(read["large"].value - read["small"].value)
    by_depth = results["families-by-depth"]
    last = by_depth[(by_depth.depth == 1.0) & (by_depth["size"] == "large")]
    assert np.allclose(
        last.set_index("reading").difference,
        [rows.difference[reading, "large", LAST] for reading in last.reading],
    )
    assert (by_depth.together == 3).all()
    assert rows.members.iloc[0] == "JE: dino; REC: mae"


def test_words_say_what_the_tables_hold(results: Results) -> None:
    text = " ".join(write("dense-depth", results))
    assert "segmented with an mIoU of: dino" in text
    assert "of the controls at best random #0" in text
    majority = "to give each patch of dino its most frequent class has 100.0%, which a prediction"
    assert f"{majority} may exceed; sizes of objects" in text
    assert "By a linear probe of the last block, JE is on all pixels" in text
    assert "what JE has over REC on large objects is more than what it has on small ones (" in text
    assert "found by neither" not in text
    families = results["families"]
    small = families["size"] == "small"
    lower = families.assign(
        miou_a=families.miou_a.where(~small, 0.004), miou_b=families.miou_b.where(~small, 0.002)
    )
    table = replace(results.tables["families"], frame=lower)
    floor = " ".join(write("dense-depth", Results({**results.tables, "families": table})))
    assert ", but small ones are found by neither (0.4% and 0.2%), so that no" in floor
    assert "3,072 remembered patches of 48 images has there: dino" in text
    assert "60 images are tested" in text
    assert "Of dino and mae no earlier block is clearly better than the last one." in text
    probes = results["probes"]
    under, over = probes.small_under.iloc[0], probes.large_over.iloc[0]
    assert 0 < under < over < 1
    assert f"small is under {under:.1%} of the image, large over {over:.1%}." in text
    assert "Under 0.1% of the patch tokens of dino and mae have a norm" in text
    advice = dense_advice.sentences(judge_dense({"dense-depth": results}))
    nothing = results["probes"].background.iloc[0]
    assert 0 < nothing < 0.5
    assert f"to call everything background has {nothing:.1%}, the least to beat; to give" in text
    assert len(advice) == 3
    assert f"the least to beat is {nothing:.1%}, that of calling everything" in advice[-1]
    assert "more than random #0, the best control (+" in advice[0]
    assert advice[0].startswith("dino: for dense tasks")
    assert "judged on 60 test images" in advice[-1]
    assert dense_advice.sentences(judge_dense({})) == ()


def test_advice_follows_the_held_out_images(results: Results) -> None:
    """An earlier block that is better there and clearly better on the test images is advised."""
    tables = {name: results[name].copy() for name in ("scores", "probes")}
    probes, scores = tables["probes"], tables["scores"]
    earlier = (probes.model == "mae") & (probes.tap == "blocks.1") & (probes.reading == "linear")
    probes.loc[earlier, "validation"] = 0.99
    chosen = (scores.model == "mae") & (scores.tap == "blocks.1") & (scores.reading == "linear")
    for difference, expected in (
        ((0.1, 0.05, 0.15), "mae: for dense tasks use the patch tokens at blocks.1: mIoU"),
        ((0.01, -0.05, 0.07), "mae: for dense tasks not decided; meanwhile use"),
        ((-0.1, -0.15, -0.05), "mae: for dense tasks use the patch tokens at blocks.2"),
    ):
        ends = ["over_last", "over_last_low", "over_last_high"]
        scores.loc[chosen, ends] = difference
        units = {name: results.tables[name].units for name in tables}
        changed = Results(
            {name: type(results.tables[name])(tables[name], units[name]) for name in tables}
        )
        said = dense_advice.sentences(judge_dense({"dense-depth": changed}))
        assert said[1].startswith(expected)
    for ends, card, sentence in (
        ((-0.065, -0.11, -0.02), "nothing recommended: a linear", "nothing is recommended"),
        ((0.0, -0.1, 0.1), "a linear probe of the patch", "use the patch tokens"),
    ):
        used = (scores.model == "mae") & (scores.tap == "blocks.2") & (scores.reading == "linear")
        scores.loc[used, ["gain", "gain_low", "gain_high"]] = ends
        (one,) = (one for one in judge_dense({"dense-depth": changed}) if one.model == "mae")
        (said,) = (one for one in dense_advice.sentences([one]) if one.startswith("mae"))
        assert f"mae: for dense tasks {sentence}" in said
        written = write_dense_card(one)
        assert written.use.startswith(card)
        assert written.beats_pixels == (False if ends[0] else None)
        against = "below random #0, the best control (-6.5" if ends[0] else "undecided against rand"
        assert written.gain_pixels.startswith(against)
    probes.loc[probes.model == "mae", "converged"] = False
    assert [one.model for one in judge_dense({"dense-depth": changed})] == ["dino"]


def test_a_terminal_shows_how_models_segment_beside_a_table(results: Results) -> None:
    line = write_changes({"dense-depth/scores": results.tables["scores"]}, 100)
    said = line.replace("\n", " ")
    assert said.startswith("mIoU of patches, last block: dino ")
    assert "; best control random #0 " in said
    row = {name: float("nan") for name in answer.UNITS} | {"model": "dino", "control": False}
    row |= dict.fromkeys(answer.TEXTS, "") | {"ap": 0.1, "ap_low": 0.0, "ap_high": 0.2}
    shown = write_answer([row | {"ap_images": 20}], Told("What dino knows", changes=line))
    assert [one.text for one in shown if one.kind == "finding"] == line.splitlines()


def test_intervals_of_shares_are_shares(results: Results) -> None:
    """Of few pixels or of none: an IoU is not below 0, and one of 0 is no certainty."""
    for table, column in (("scores", "miou"), ("classes", "iou"), ("norms", "share")):
        rows = results[table].dropna(subset=["low" if table != "norms" else "share_low"])
        low, high = (rows[f"share_{end}" if table == "norms" else end] for end in ("low", "high"))
        assert ((low >= 0) & (low < rows[column]) & (rows[column] < high) & (high <= 1)).all()
    predicted = torch.zeros(20, 2, 2, dtype=torch.int64)
    masks = torch.zeros(20, 4, 4, dtype=torch.int64)
    masks[:, 0, 0] = 1
    predicted[:2, 0, 0] = 1
    few = score_patches(predicted, count_labels(masks, (2, 2), classes=2)).iou
    rare = to_estimate(few[1], share=True)
    assert to_estimate(few[1]).low < 0 < rare.low < rare.value < rare.high < 1
    none = score_patches(torch.zeros_like(predicted), count_labels(masks, (2, 2), classes=2)).iou
    never = to_estimate(none[1], share=True)
    assert (never.value, np.isnan(never.low)) == (0.0, True)


def test_the_most_frequent_class_of_each_patch_is_no_bound_of_miou() -> None:
    """Every second patch has 3 of 8 pixels of an object: by hand 13/32, and calling them the object
    (16/26 + 6/16) / 2."""
    masks = torch.zeros(20, 4, 8, dtype=torch.int64)
    masks[:, 0, :3] = masks[:, 2, 4:7] = 1
    labels = count_labels(masks, (2, 2), classes=2)
    majority = score_patches(labels.majority(), labels).miou
    called = torch.eye(2, dtype=torch.int64).expand(20, 2, 2)
    assert float(majority.value) == pytest.approx(13 / 32)
    assert float(score_patches(called, labels).miou.value) == pytest.approx((16 / 26 + 6 / 16) / 2)


def test_norms_of_a_few_tokens_are_found() -> None:
    values = torch.ones(30, 4, 4, 2)
    values[:15, 0, 0] = 8.0
    values[0, 1, 1] = 2.9
    (row,) = find_outlying("x", Maps.of({"a": values}, side=8), control=False)
    assert row["share"] == pytest.approx(15 / 480)
    assert 0 < row["share_low"] < row["share"] < row["share_high"]  # type: ignore[operator]
    assert row["largest"] == pytest.approx(8.0, rel=1e-3)


# ------------------------------------------------------------------------------------------------
# through a study


@pytest.mark.parametrize("side", [None, 64])
def test_a_study_of_scenes_gives_masks_as_models_see_them(tmp_path: Path, side: int | None) -> None:
    study = Study(
        (NANO, f"{NANO}:1"),
        "scenes-detection:1:24",
        ("dense-depth",),
        batch=8,
        side=side,
        device="cpu",
    )
    plan = prepare(study, Store(tmp_path), quiet=True)
    # at another size the passes are the need's own, and cost as much
    own = list_own_passes(plan.situation, plan.analyses, plan.runner.store)
    assert bool(own) is (side is not None)
    assert all(one.model.transform.crop == side for one in own)
    cost = estimate_study(plan).seconds
    assert min(cost["dense probes"], cost["passes"]) > 0
    captured = capture(plan.situation, plan.passes, plan.runner)
    maps, segments = (plugin("study/needs", name).gather(captured) for name in ("maps", "segments"))
    assert set(maps.images) == set(segments.images.views)
    assert "pixels" in maps.images
    count = 4 if side is None else 8
    assert maps.images["pixels"].grids["pixels"] == (count, count, 192)
    first = next(iter(maps.images))
    assert maps.images[first].grids["blocks.0"] == (count, count, 64)
    view = segments.images.views[first]
    images = plan.situation.images
    assert images is not None
    targets = DetectionSet.of(images).targets(5)
    if side == 64:  # the images' own size: masks are as they are
        assert torch.equal(view.masks[5].long(), torch.from_numpy(targets.paint_labels()))
        assert torch.equal(view.objects[5].long(), torch.from_numpy(targets.paint_objects()))
    assert view.masks.shape[1:] == ((32, 32) if side is None else (64, 64))
    rows = maps.images[first].rows(images.ids[:2])
    model = at_size(sslens.load(NANO), side or 32)
    if side is not None:
        tokens = sslens.activations(
            model, torch.stack([model.transform(images.image(k)) for k in range(2)]), ["blocks.3"]
        )["blocks.3"]
        torch.testing.assert_close(
            maps.images[first].read("blocks.3", rows).flatten(1, 2).float(),
            tokens[:, 1:],
            atol=5e-3,
            rtol=2e-3,
        )
    again = plugin("study/needs", "segments").gather(captured)
    assert torch.equal(again.images.views[first].masks, view.masks)


def test_passes_at_another_size_are_costed_and_shared(tmp_path: Path) -> None:
    study = Study(
        (NANO,),
        "scenes-detection:1:24",
        ("dense-depth",),
        controls=False,
        batch=4,
        side=64,
        device="cpu",
    )
    plan = prepare(study, Store(tmp_path), quiet=True)
    (line,) = plugin("study/needs", "maps").describe(plan.situation, plan.runner.store)
    model, images = at_size(sslens.load(NANO), 64), plan.situation.images
    assert images is not None
    # 2 × weights × tokens, and attention's 4 × tokens² × width, of four blocks of width 64
    tokens, width = 65, 64
    blocks = 4 * (2 * 12 * width**2 * tokens + 4 * tokens**2 * width)
    cost = 24 * (blocks + 2 * 3 * 64 * width * 64) / 1e9
    assert line.endswith(f" over 24 images of {images.name}: {cost:,.0f} GFLOP, at 64 px"), line
    assert line in plan.describe()

    name = plan.situation.members[0].name

    def shared() -> None:
        seen: list[torch.Tensor] = []
        with (
            processes("cpu"),
            visit_taps(model, model.pick(["norm"]), lambda _, output: seen.append(output)),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr("sslens.study.needs.maps.list_seen", lambda _: {name: model})
            captured = capture(plan.situation, plan.passes, plan.runner)
            plugin("study/needs", "maps").complete(captured)
        assert 0 < sum(map(len, seen)) < 24

    together(shared)
    (line,) = plugin("study/needs", "maps").describe(plan.situation, plan.runner.store)
    assert line.endswith("in the store, at 64 px")


def test_images_without_masks_are_left_out_with_a_reason() -> None:
    need = plugin("study/needs", "segments")
    from sslens.study.situation import Situation

    for source in ("scenes:0:24", "scenes-detection:1:4"):
        situation = Situation(Study((NANO,), source), (), images=open_images(source))
        lack = need.unmet(situation)
        assert lack is not None
        assert lack.mend is not None
        assert "images" in lack.mend
