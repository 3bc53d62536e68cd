"""CKA of taps with known quantities of the images, against numbers by hand and in float64."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sslens import fingerprint, zoo
from sslens.analyses import cka_targets
from sslens.capture import Grams
from sslens.comparisons.inputs import ModelInfo, Models
from sslens.comparisons.targets import Targets, code_factors
from sslens.data import open_images
from sslens.data.appearance import VIEW, measure_appearance
from sslens.data.images import from_arrays
from sslens.data.scene_images import factors_of
from sslens.errors import InputError
from sslens.figure import Heatmap, to_plotly
from sslens.models.about import About
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.report.writing import sentences
from sslens.store import Store
from sslens.study import Study, run
from sslens.study.needs import targets as need
from sslens.study.situation import Captured, Situation
from sslens.table import Results

NANO = "random:vit_nano_patch8_32"


def hsic1(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """HSIC_1 of two Grams, term by term as in Song et al. (2012)."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    terms = (
        np.trace(k @ l)
        + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ l @ one)
    )
    return float(terms / (n * (n - 3)))


def cka(a: np.ndarray, b: np.ndarray, sizes: list[int]) -> float:
    """Minibatch CKA of two arrays of features, in float64 from beginning to end."""
    sums = np.zeros(3)
    start = 0
    for size in sizes:
        k, l = (x[start : start + size] @ x[start : start + size].T for x in (a, b))  # noqa: E741
        sums += hsic1(k, l), hsic1(k, k), hsic1(l, l)
        start += size
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def capture(
    features: list[np.ndarray], ids: list[str], sizes: list[int], kinds: tuple[str, ...]
) -> Grams:
    grams = Grams.of_features([torch.from_numpy(x).float() for x in features], ids, np.array(sizes))
    depths = np.linspace(0, 1, len(features))
    taps = [
        Tap(f"{kind}.{i}", kind, float(depth))
        for i, (kind, depth) in enumerate(zip(kinds, depths, strict=True))
    ]
    return Grams(
        "m", grams.ids, tuple(taps), grams.blocks, grams.energy, grams.sizes, {"images": "i"}
    )


def models(*names: str, controls: tuple[str, ...] = ()) -> Models:
    studied = [ModelInfo(name, about=About("REC")) for name in names]
    return Models((*studied, *(ModelInfo(name, control=True) for name in controls)))


def test_cka_with_every_kind_of_quantity_is_that_in_float64() -> None:
    rng = np.random.default_rng(0)
    images = open_images("scenes:0:44")
    sizes = [16, 16, 12]
    order = rng.permutation(44)
    ids = [images.ids[row] for row in order]
    frame = factors_of(images)
    values = code_factors(frame) | measure_appearance(images)
    x, hue = rng.standard_normal((44, 5)), np.deg2rad(frame.hue.to_numpy())[order]
    layers = [x, np.stack([np.cos(hue), np.sin(hue)], 1) + 0.1 * x[:, :2]]
    grams = capture(layers, ids, sizes, ("block", "block"))
    targets = Targets(images.ids, values)
    frame_of = cka_targets.compute(models("m"), grams={"all": {"m": grams}}, targets=targets)
    rows = frame_of["targets"].set_index(["tap", "target"])
    assert len(rows) == 2 * len(values)
    own = np.array(frame["class"].tolist())[order]
    independent = {  # each from the table of factors itself
        "hue": np.stack([np.cos(hue), np.sin(hue)], 1),
        "x": frame.x.to_numpy()[order][:, None],
        "class": np.stack([own == kind for kind in sorted(set(own))], 1) * 1.0,
    }
    for target, known in independent.items():
        for layer, features in enumerate(layers):
            row = rows.loc[(f"block.{layer}", target)]
            assert row.cka == pytest.approx(cka(features, known, sizes), abs=2e-6)
            assert row.low <= row.cka <= row.high
            assert row.minibatches == 3
    assert rows.loc[("block.1", "hue")].cka > 0.9


def test_cka_with_two_classes_by_hand() -> None:
    """Two features that are the class itself, and one that is its opposite half of the time."""
    labels = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4)
    same, other = labels @ np.diag([3.0, 3.0]), np.tile([[1.0, 0.0], [0.0, 1.0]], (4, 1))
    ids = list("abcdefgh")
    grams = capture([same, other], ids, [8], ("block", "norm"))
    results = cka_targets.compute(
        models("m"), grams={"all": {"m": grams}}, targets=Targets(tuple(ids), {"class": labels})
    )
    # K̃ = L̃ up to 9: CKA 1. For the other, of 12 pairs of a class two of each six agree: with
    # k = l = 3 a row, tr K̃L̃ = 8, 1ᵀK̃1 = 1ᵀL̃1 = 24, 1ᵀK̃L̃1 = 72: (8 + 576/42 − 144/6) / 40
    # = −2.2857/40; with itself tr K̃² = 24: (24 + 13.714 − 24) / 40 = 13.714/40
    assert results["targets"].cka.round(6).tolist() == [1.0, round(-2.285714 / 13.714286, 6)]


def test_quantities_follow_the_images_and_not_their_order() -> None:
    rng = np.random.default_rng(1)
    x, ids = rng.standard_normal((12, 3)), [f"image {i}" for i in range(12)]
    shuffled = rng.permutation(12)
    grams = capture([x], ids, [6, 6], ("block",))
    first, second = (
        cka_targets.compute(models("m"), grams={"all": {"m": grams}}, targets=targets)
        for targets in (
            Targets(tuple(ids), {"x": x}),
            Targets(tuple(ids[i] for i in shuffled), {"x": x[shuffled]}),
        )
    )
    assert first["targets"].equals(second["targets"])
    assert first["targets"].cka.item() == pytest.approx(1.0)


def test_a_quantity_that_does_not_vary_in_a_layer_s_images_is_undefined() -> None:
    grams = capture(
        [np.random.default_rng(0).standard_normal((8, 3))], list("abcdefgh"), [8], ("block",)
    )
    targets = Targets(tuple("abcdefgh"), {"x": np.ones((8, 1))})
    results = cka_targets.compute(models("m"), grams={"all": {"m": grams}}, targets=targets)
    assert results["targets"].cka.isna().all()
    assert to_plotly(cka_targets.draw(results)).data
    assert sentences("cka-targets", results) == (
        "The CKA of m with x is undefined: it does not vary here.",
    )


def test_images_of_one_class_are_told_to_be(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.zeros(8, int))
    values = need.gather(Captured(situation(str(tmp_path / "a.npz")), {}))
    grams = capture([np.random.default_rng(0).standard_normal((8, 3))], values.ids, [8], ("block",))
    results = cka_targets.compute(models("m"), grams={"all": {"m": grams}}, targets=values)
    assert sentences("cka-targets", results)[-1] == (
        "The CKA of m with class is undefined: it does not vary here."
    )


def test_maps_show_quantities_by_block_of_each_model_and_one_of_each_control() -> None:
    rng = np.random.default_rng(0)
    ids = [str(i) for i in range(16)]
    grams = {
        name: capture([rng.standard_normal((16, 4)) for _ in range(3)], ids, [8, 8], kinds)
        for name, kinds in (("a", ("norm1", "block", "block")), ("r0", ("block",) * 3))
    } | {"pixels": capture([rng.standard_normal((16, 4))], ids, [8, 8], ("pixels",))}
    grams["r1"] = grams["r0"]
    targets = Targets(tuple(ids), {"x": rng.standard_normal((16, 1)), "y": np.ones((16, 1))})
    results = cka_targets.compute(
        models("a", controls=("r0", "r1", "pixels")), grams={"all": grams}, targets=targets
    )
    first, random, pixels = cka_targets.draw(results).shown()
    assert isinstance(first, Heatmap)
    assert (first.title, random.title, pixels.title) == (
        "a, all tokens",
        "r0, all tokens",
        "pixels",
    )
    assert first.rows == ("y", "x")  # the first at the top
    rows = results["targets"]
    rows = rows[(rows.model == "a") & (rows.kind == "block")].set_index(["target", "tap"])
    assert first.values[1].tolist() == [rows.cka["x", f"block.{i}"] for i in (1, 2)]
    assert np.isnan(first.values[0]).all()


# ------------------------------------------------------------------------------------------------
# what images look like


def test_appearance_is_of_the_pixels_that_the_control_sees() -> None:
    pixels = zoo.load("pixels").transform
    assert VIEW.geometry == pixels.geometry
    images = open_images("scenes:3:9")
    seen = np.stack([VIEW.crop_image(images.image(row)) for row in range(9)]) / 255
    numbers = measure_appearance(images)
    np.testing.assert_allclose(numbers["mean colour"], seen.mean((1, 2)), atol=1e-12)
    luminance = 0.2126 * seen[..., 0] + 0.7152 * seen[..., 1] + 0.0722 * seen[..., 2]
    np.testing.assert_allclose(numbers["luminance"][:, 0], luminance.mean((1, 2)), atol=1e-12)
    cells = [
        np.mean(
            [
                luminance[i, y : y + 4, x : x + 4].std()
                for y in range(0, 32, 4)
                for x in range(0, 32, 4)
            ]
        )
        for i in range(9)
    ]
    np.testing.assert_allclose(numbers["local contrast"][:, 0], cells, atol=1e-12)


def test_local_contrast_is_blind_to_what_varies_slowly() -> None:
    flat = np.full((32, 32, 3), 100, np.uint8)
    halves, stripes = flat.copy(), flat.copy()
    halves[:, 16:], stripes[:, ::2] = 200, 200
    numbers = measure_appearance(from_arrays(np.stack([flat, halves, stripes])))
    contrast = numbers["local contrast"][:, 0]
    assert contrast[:2].round(12).tolist() == [0.0, 0.0]
    assert contrast[2] == pytest.approx(50 / 255)
    assert numbers["luminance"][1, 0] == pytest.approx(150 / 255)


# ------------------------------------------------------------------------------------------------
# the need, and the whole


def situation(images: str, **more: object) -> Situation:
    opened = open_images(images)
    return Situation(Study((NANO,), images), (), opened, **more)  # type: ignore[arg-type]


def test_of_scenes_every_factor_is_known_and_of_others_the_class(tmp_path: Path) -> None:
    looks = {"mean colour", "luminance", "local contrast"}
    known = need.gather(Captured(situation("scenes:0:40"), {}))
    assert {"class", "hue", "x", "facing", *looks} <= set(known.values)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(8) % 2)
    labelled = need.gather(Captured(situation(str(tmp_path / "a.npz")), {}))
    assert set(labelled.values) == {"class", *looks}
    np.savez(tmp_path / "b.npz", images=pixels)
    assert set(need.gather(Captured(situation(str(tmp_path / "b.npz")), {})).values) == looks


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = Captured(situation("scenes:0:12"), {}, Store(tmp_path))
    first = need.gather(captured)
    monkeypatch.setattr("sslens.data.appearance.measure_appearance", None)
    again = need.gather(captured)
    assert need.key(again) == need.key(first)
    more = dict(first.values) | {"x": first.values["x"] + 1e-9}
    assert need.key(Targets(first.ids, more)) != need.key(first)


def test_a_study_of_targets_says_what_the_last_block_is_alike_to(tmp_path: Path) -> None:
    asked = Study((f"{NANO}:3",), "scenes:0:48", ("cka-targets",), batch=8, device="cpu")
    report = run(asked, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True)
    assert report is not None
    assert "random #3: its last CLS token shares most with" in report.read_text()
    frame = pd.read_csv(tmp_path / "out" / "tables" / "cka-targets.csv")
    assert set(frame.model) == {"random #3", "random #0", "random #1", "pixels"}
    colour = frame[
        (frame.target == "mean colour") & (frame.kind == "block") & (frame.tokens == "all")
    ]
    assert colour.cka.min() > 0.5  # a random network is little more than the mean colour
    provenance = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert provenance["images"]["count"] == 48


def test_sentences_name_the_largest_and_the_best_control() -> None:
    rows = [
        ("mae", False, "block", "b.1", 1.0, "hue", 0.5),
        ("mae", False, "block", "b.0", 0.0, "hue", 0.9),
        ("mae", False, "norm", "norm", 1.0, "hue", 0.8),
        ("mae", False, "block", "b.1", 1.0, "class", 0.25),
        ("random #0", True, "block", "b.1", 1.0, "hue", 0.125),
        ("pixels", True, "pixels", "pixels", 0.0, "hue", 0.375),
    ]
    columns = ["model", "control", "kind", "tap", "depth", "target", "cka"]
    frame = pd.DataFrame(rows, columns=columns).assign(tokens="all", minibatches=8)
    frame = frame.assign(low=frame.cka - 0.0625, high=frame.cka + 0.0625)
    from sslens.table import Table

    results = Results({"targets": Table(frame, cka_targets.UNITS)})
    assert sentences("cka-targets", results) == (
        "mae: its last block shares most with hue 0.50 [0.44, 0.56] (controls at most 0.38); class"
        " 0.25 [0.19, 0.31].",
    )


def test_fingerprints_alone_know_nothing_of_images(tmp_path: Path) -> None:
    model, images = zoo.load(NANO), open_images("scenes:0:8")
    from sslens.capture.passes import grams

    plan = Plan.draw(images.ids, 8)
    conditions = fingerprint.Conditions.of(model, images, plan, seed=0)
    fingerprint.write(tmp_path / "a.st", [grams(model, images, plan=plan)], conditions, model=model)
    asked = Study((str(tmp_path / "a.st"),), None, ("cka-targets",), batch=8)
    with pytest.raises(InputError, match=r"nothing is known .* without the images: give images\."):
        run(asked, tmp_path / "out", store=Store(tmp_path), quiet=True)


def test_of_the_class_is_told_however_little_is_shared() -> None:
    columns = ["model", "control", "kind", "tap", "depth", "target", "cka"]
    names = ("hue", "x", "y", "class")
    rows = [("mae", False, "block", "b", 1.0, name, 0.5 - 0.1 * i) for i, name in enumerate(names)]
    frame = pd.DataFrame(rows, columns=columns).assign(tokens="cls", minibatches=8)
    frame = frame.assign(low=frame.cka - 0.0625, high=frame.cka + 0.0625)
    from sslens.table import Table

    (said,) = sentences("cka-targets", Results({"targets": Table(frame, cka_targets.UNITS)}))
    assert said.startswith("mae: its last CLS token shares most with hue 0.50")
    assert said.endswith("; with the class 0.20 [0.14, 0.26].")
