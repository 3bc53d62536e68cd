"""Deconfounded CKA: against explicit least squares, where it is undefined, and in tables."""

import html
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sslens import fingerprint, zoo
from sslens.analyses import cka_blocks
from sslens.capture import Grams, passes
from sslens.comparisons.beside import merge
from sslens.comparisons.ceilings import list_ceilings
from sslens.comparisons.compared import compare_pairs
from sslens.comparisons.deconfounding import find_pixels
from sslens.comparisons.families import list_families
from sslens.comparisons.inputs import ModelInfo, Models
from sslens.comparisons.trainings import count_trainings_once
from sslens.data import open_images
from sslens.errors import InputError
from sslens.measures import explain_lack, measure
from sslens.measures.cka import minibatch_cka
from sslens.measures.deconfounded_cka import LEAST, compute, share_left
from sslens.models.about import About
from sslens.models.taps import Tap
from sslens.paths.runs import find_training
from sslens.plan import Plan
from sslens.report.writing import sentences
from sslens.store import Store
from sslens.study import Study, run
from sslens.study.members import Member, describe_same
from sslens.study.related import describe_read_apart, describe_related
from sslens.study.untrained import describe_uncontrolled, find_untrained
from sslens.zoo.arrays import Array
from sslens.zoo.weights import NamedTensor, Weights

SIZES = (16, 16, 11)


def grams(features: Sequence[np.ndarray], kind: str = "block", name: str = "m") -> Grams:
    made = Grams.of_features([torch.from_numpy(x).float() for x in features], sizes=np.array(SIZES))
    taps = tuple(Tap(f"{kind}.{i}", kind, (i + 1) / len(features)) for i in range(len(features)))
    return replace(made, taps=taps, model=name)


def draw(seed: int, share: float, shared: np.ndarray, dim: int = 400) -> np.ndarray:
    """Features of which a share is what the pixels have; many, so that they keep its distances."""
    rng = np.random.default_rng(seed)
    n, width = shared.shape
    own = rng.standard_normal((n, dim))
    return share * shared @ rng.standard_normal((width, dim)) + (1 - share) * own


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((sum(SIZES), 3))


def lay_out(x: np.ndarray) -> np.ndarray:
    """The U-centred Grams of all minibatches as one vector, in float64, in plain loops; a Gram of n
    images counts 1 / √(n (n − 3))."""
    parts = []
    for end, n in zip(np.cumsum(SIZES), SIZES, strict=True):
        features = x[end - n : end].astype(np.float32).astype(np.float64)
        k = features @ features.T
        np.fill_diagonal(k, 0)
        centred = np.zeros_like(k)
        for i in range(n):
            for j in range(n):
                if i != j:
                    centred[i, j] = (
                        k[i, j]
                        - k[i].sum() / (n - 2)
                        - k[:, j].sum() / (n - 2)
                        + k.sum() / ((n - 1) * (n - 2))
                    )
        parts.append(centred.ravel() / np.sqrt(n * (n - 3)))
    return np.concatenate(parts)


def test_it_is_the_cosine_of_what_least_squares_leaves(pixels: np.ndarray) -> None:
    xs = [draw(seed, share, pixels, 6) for seed, share in enumerate((0.0, 0.4, 0.6))]
    ys = [draw(seed, share, pixels, 6) for seed, share in enumerate((0.2, 0.5), 10)]
    z = lay_out(pixels)
    value = compute(grams(xs), grams(ys), grams([pixels], "pixels"))
    for i, x in enumerate(xs):
        for j, y in enumerate(ys):
            residuals = []
            for vector in (lay_out(x), lay_out(y)):
                slope = np.linalg.lstsq(z[:, None], vector, rcond=None)[0]
                residuals.append(vector - slope[0] * z)
            one, other = residuals
            expected = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
            assert value[i, j] == pytest.approx(expected, abs=1e-6)  # Grams are float32
    assert measure("deconfounded-cka", grams(xs), grams(ys), grams([pixels], "pixels")) == (
        pytest.approx(value, abs=0)
    )


def test_two_models_that_share_the_pixels_alone_share_nothing_beyond(pixels: np.ndarray) -> None:
    a, b = (grams([draw(seed, 0.18, pixels)]) for seed in (0, 1))
    z = grams([pixels], "pixels")
    assert minibatch_cka(a, b).item() > 0.5
    assert abs(compute(a, b, z).item()) < 0.2
    assert compute(a, a, z).item() == pytest.approx(1, abs=1e-12)


def test_it_is_undefined_where_under_a_twentieth_is_left(pixels: np.ndarray) -> None:
    shares = np.linspace(0.1, 0.5, 20)
    a = grams([draw(3, share, pixels) for share in shares])
    z = grams([pixels], "pixels")
    left = share_left(minibatch_cka(a, z)[:, 0])
    assert (left < LEAST).any()
    assert (left > LEAST).any()
    value = compute(a, a, z)
    few = left < LEAST
    assert (np.isnan(value) == (few[:, None] | few[None, :])).all()
    np.testing.assert_allclose(value.diagonal()[~few], 1, rtol=0, atol=1e-9)


def test_constant_taps_and_constant_pixels_are_undefined(pixels: np.ndarray) -> None:
    x, flat = draw(0, 0.3, pixels), np.full((sum(SIZES), 2), 1.5)
    z = grams([pixels], "pixels")
    value = compute(grams([x, flat]), grams([x]), z)
    assert np.isnan(value).tolist() == [[False], [True]]
    assert np.isnan(compute(grams([x]), grams([x]), grams([flat], "pixels"))).all()


def test_without_pixels_it_is_refused_and_said() -> None:
    assert explain_lack("deconfounded-cka", None) is not None
    one = grams([np.random.default_rng(0).standard_normal((sum(SIZES), 2))])
    with pytest.raises(InputError, match="raw pixels"):
        measure("deconfounded-cka", one, one)


# ------------------------------------------------------------------------------------------------
# pairs of models


def study(pixels: np.ndarray) -> tuple[Models, dict[str, Grams]]:
    infos = [
        ModelInfo("mae", about=About("REC", "mae", "vit"), digest="0"),
        ModelInfo("dino", about=About("JE", "dino", "vit"), digest="1"),
        ModelInfo("random", control=True, about=About("control", arch="vit"), digest="2"),
        ModelInfo("pixels", control=True, about=About("control")),
    ]
    made = {
        "mae": [draw(seed, 0.15, pixels) for seed in (0, 1)],
        "dino": [draw(seed, share, pixels) for seed, share in ((2, 0.1), (3, 0.9))],
        "random": [draw(seed, 0.9, pixels) for seed in (4, 5)],
    }
    sets = {name: grams(features, name=name) for name, features in made.items()}
    return Models(tuple(infos)), sets | {"pixels": grams([pixels], "pixels", "pixels")}


def test_pairs_have_the_measure_s_values_and_means_of_the_defined(pixels: np.ndarray) -> None:
    models, sets = study(pixels)
    found = find_pixels({"all": sets})
    assert found is not None
    pairs = compare_pairs(models, sets, "all", "block", pixels=found)
    beside = pairs.deconfounded
    assert beside is not None
    for pair in beside:
        expected = compute(sets[pair.a], sets[pair.b], sets["pixels"])
        np.testing.assert_allclose(
            pair.cells.value.reshape(expected.shape), expected, rtol=0, atol=1e-12
        )
    pair = beside.find("mae", "dino")
    assert pair is not None
    assert np.isnan(pair.same.value).tolist() == [False, True]
    assert pair.same.mean().value == pytest.approx(pair.same.value[0])
    low, high = pair.same.interval()
    assert low[0] < pair.same.value[0] < high[0]
    assert np.isnan([low[1], high[1]]).all()
    control = beside.find("random", "random")
    assert control is not None
    assert np.isnan(control.same.mean().value)


def test_without_grams_of_the_pixels_nothing_is_deconfounded(pixels: np.ndarray) -> None:
    models, sets = study(pixels)
    bare = {name: one for name, one in sets.items() if name != "pixels"}
    assert find_pixels({"all": bare}) is None
    pairs = compare_pairs(models, bare, "all", "block")
    assert pairs.deconfounded is None
    rows = [("means", {"model_a": "mae", "cka": 0.5})]
    assert list(merge(rows, ())) == rows


def test_rows_are_merged_by_what_they_are_about() -> None:
    rows = [("at", {"model_a": "mae", "depth": d, "cka": d, "low": 0.0}) for d in (0.25, 0.5)]
    others = [("at", {"model_a": "mae", "depth": d, "cka": -d, "left": 0.5}) for d in (0.5, 0.25)]
    merged = [row for _, row in merge(rows, others)]
    assert [row["deconfounded"] for row in merged] == [-0.25, -0.5]
    assert [row["cka"] for row in merged] == [0.25, 0.5]
    assert [row["left"] for row in merged] == [0.5, 0.5]


# ------------------------------------------------------------------------------------------------
# the ceiling


def test_trainings_of_one_objective_and_no_others_are_a_ceiling() -> None:
    mae = About("REC", "mae", "vit", recipe="r")
    infos = {
        "mae": ModelInfo("mae", about=mae, digest="0"),
        "seed 1": ModelInfo("seed 1", about=replace(mae, seed=1), digest="1"),
        "copy": ModelInfo("copy", about=mae, digest="0"),
        "other recipe": ModelInfo("other recipe", about=replace(mae, recipe="s"), digest="2"),
        "fine-tuned": ModelInfo("fine-tuned", about=replace(mae, tuned="fine-tuned"), digest="3"),
        "larger": ModelInfo("larger", about=replace(mae, arch="vit-l"), digest="4"),
        "dino": ModelInfo("dino", about=About("JE", "dino", "vit"), digest="5"),
        "unknown": ModelInfo("unknown", about=About(arch="vit"), digest="6"),
        "unknown 1": ModelInfo("unknown 1", about=About(arch="vit"), digest="7"),
    }
    found = {(one.a, one.b) for one in list_ceilings(Models(tuple(infos.values())))}
    assert found == {("mae", "seed 1"), ("seed 1", "copy")}


def test_states_of_one_training_are_no_two_trainings() -> None:
    """Two epochs in one folder; two seeds of it are, and count by their last states."""
    mae = About("REC", "mae", "vit")
    seed = replace(mae, recipe="r", seed=0, step=30)
    sources = {
        "ninth": ("run/checkpoint_9.pth", mae),
        "tenth": ("run/checkpoint_10.pth", mae),
        "other run": ("run2/checkpoint_10.pth", mae),
        "own": ("a/step_30.safetensors", seed),
        "own, later": ("a/encoder.safetensors", replace(seed, step=60)),
        "own, other seed": ("b/step_30.safetensors", replace(seed, seed=1)),
    }
    models = Models(
        tuple(
            ModelInfo(name, about=about, digest=name, state=find_training(source, about))
            for name, (source, about) in sources.items()
        )
    )
    found = {(one.a, one.b) for one in list_ceilings(models)}
    assert ("ninth", "tenth") not in found
    assert {("ninth", "other run"), ("tenth", "other run"), ("own", "own, other seed")} <= found
    counted = ["tenth", "other run", "own, later", "own, other seed"]
    assert count_trainings_once(models, models.names) == counted
    assert list_families(models)[1] == counted


# ------------------------------------------------------------------------------------------------
# the same weights


def test_models_of_the_same_weights_are_named(pixels: np.ndarray) -> None:
    models, sets = study(pixels)
    twin = replace(sets["mae"], model="twin")
    both = Models((*models.members, ModelInfo("twin", about=About("REC", "mae", "vit"))))
    results = cka_blocks.compute(both, grams={"all": sets | {"twin": twin}})
    said = sentences("cka-blocks", results)
    assert said[0].startswith("mae and twin have the same weights, or compute the same")
    cells = results["cells"]
    cells.loc[(cells.cka > 1 - 1e-9) & (cells.model_b == "twin"), "cka"] = 0.9994
    almost = sentences("cka-blocks", results)[0]
    assert almost.startswith("mae and twin compute almost the same: their CKA is 0.998 or more")
    assert "same weights" not in almost
    alone = sentences("cka-blocks", cka_blocks.compute(models, grams={"all": sets}))
    assert "same weights" not in " ".join(alone)


def test_states_of_one_training_are_noted(tmp_path: Path) -> None:
    mae = About("REC", "mae", "vit")
    weights = [
        Weights(name, str(tmp_path / f"{name}.pth"), mae, {name: make_tensor(number)})
        for number, name in enumerate(("epoch1", "epoch2"))
    ]
    members = [Member(one.name, False, given=one.source, weights=one) for one in weights]
    (sentence,) = describe_related(members)
    assert sentence.startswith("epoch1 and epoch2 are taken for states of one training")
    assert "it counts once, by epoch2" in sentence
    assert describe_related(members[:1]) == []


def make_tensor(number: int) -> NamedTensor:
    return NamedTensor(Array(np.full(1, number, np.float32), "float32"), "float32", ("w",))


def test_files_of_one_model_are_noted_in_the_plan() -> None:
    first, second = (zoo.load("random:vit_nano_patch8_32:0") for _ in range(2))
    other = zoo.load("random:vit_nano_patch8_32:1")
    members = [
        Member(name, control, model=model)
        for name, control, model in (
            ("a", False, first),
            ("b", False, second),
            ("c", False, other),
            ("d", True, first),
        )
    ]
    assert describe_same(members) == ["a and b have the same weights: they are one model."]
    assert describe_same(members[1:]) == []
    grey = (0.5, 0.5, 0.5)
    shown = replace(second.transform, mean=grey, interpolation="bilinear")
    members[1] = Member("b", False, model=second.copy_with(transform=shown))
    assert describe_same(members) == [
        "a and b have the same weights, and images are prepared for them in different ways, which"
        " alone sets their features apart: mean (0.485, 0.456, 0.406) and (0.5, 0.5, 0.5);"
        " interpolation where an image is resized bicubic and bilinear."
    ]


def test_equal_tensors_under_different_readings_are_noted() -> None:
    first = zoo.load("random:vit_nano_patch8_32:0")
    second, other = (zoo.load(f"random:vit_nano_patch8_32:{seed}", heads=4) for seed in (0, 1))
    assert other.network.load_state_dict(second.network.state_dict())
    members = [
        Member(name, False, model=one)
        for name, one in zip("abc", (first, second, other), strict=True)
    ]
    (said,) = describe_read_apart(members)
    assert said.startswith("a, b and c hold the same tensors")
    assert "(1, 4 and 4 heads of attention)" in said
    assert describe_read_apart(members[1:]) == []


def test_a_model_without_an_untrained_control_is_named_beside_others() -> None:
    first, other, pixels = map(zoo.load, ("scenes_mae", "random:vit_nano_patch8_32:1", "pixels"))
    own = replace(first.about, arch=None)
    members = [
        Member("ours", False, model=first.copy_with(about=own)),
        Member("mae", False, model=first),
        Member("random #1", True, model=other),
        Member("pixels", True, model=pixels),
    ]
    assert describe_uncontrolled(members, {}) == [
        "ours has no untrained control: those here are of vit_nano_patch8_32. Give a copy with"
        " random weights as one more model, to see what its training added."
    ]
    # a copy with random weights among the models is no control by its name
    copy = Member(
        "copy", False, model=other.copy_with(about=replace(other.about, arch=None, family=None))
    )
    assert find_untrained([members[0], copy]) == {
        "The network seems untrained: all 9 normalisations are as at initialisation (weight 1,"
        " bias 0).": ["copy"]
    }
    found = find_untrained([*members, copy])
    assert describe_uncontrolled([*members, copy], found) == [
        "ours has no untrained control: those here are of vit_nano_patch8_32. copy seems untrained"
        " and is no control by name: where the architecture is the same, the difference to it says"
        " what its training added."
    ]
    assert describe_uncontrolled([*members[1:], copy], found) == []
    assert describe_uncontrolled(members[1:], {}) == []
    assert describe_uncontrolled(members[:2], {}) == []


def test_a_fingerprint_of_the_pixels_serves_as_their_grams(tmp_path: Path) -> None:
    images = open_images("scenes:0:64")
    plan = Plan.draw(images.ids, 8, 0)
    names = ("scenes_mae", "scenes_dino", "pixels")
    for name in names:
        model = zoo.load(name)
        conditions = fingerprint.Conditions.of(model, images, plan, seed=0)
        path = tmp_path / f"{name}.safetensors"
        fingerprint.write(path, [passes.grams(model, images, plan=plan)], conditions, model=model)
    files = tuple(str(tmp_path / f"{name}.safetensors") for name in names)
    store = Store(tmp_path / "store")
    for given, some in ((files, True), (files[:2], False)):
        asked = Study(given, None, ("cka-blocks",), batch=8)
        out = tmp_path / f"out-{len(given)}"
        run(asked, out, store=store, quiet=True)
        means = pd.read_csv(out / "tables" / "cka-blocks" / "means.csv")
        assert means.left.notna().any() == some
        text = (out / "report.html").read_text()
        assert ("the Grams of the pixels are not there" in html.unescape(text)) == (not some)


def test_sentences_say_what_is_left_of_families_and_pairs(pixels: np.ndarray) -> None:
    models, sets = study(pixels)
    moco = ModelInfo("moco", about=About("JE", "moco-v3", "vit"), digest="4")
    sets["moco"] = grams([draw(seed, 0.1, pixels) for seed in (8, 9)], name="moco")
    results = cka_blocks.compute(Models((*models.members, moco)), grams={"all": sets})
    said = sentences("cka-blocks", results)
    assert said[0].startswith("JE models with each other (JE: dino and moco; REC: mae)")
    assert "; when the pixels are regressed out " in said[0]
    own = results["families"].query("model_b == 'JE'").iloc[0]
    assert (own.depths, own.depths_left) == (2, 1)
    by_depth = results["families-by-depth"].query("model_b == 'JE'")
    assert own.difference == pytest.approx(by_depth.difference.mean())
    assert own.there == pytest.approx(by_depth.difference.iloc[0])  # where both are defined
    assert own.deconfounded_difference == pytest.approx(by_depth.deconfounded_difference.iloc[0])
    assert f"(at 1 of 2 depths, with the pixels {own.there:+.2f} there)" in said[0]
    pair = next(one for one in said if one.startswith("mae and dino"))
    assert "when the pixels are regressed out (at 1 of 2 depths)" in pair
    assert "random" not in " ".join(said)
