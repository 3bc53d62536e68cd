"""Invariance: its numbers against independent ones, the passes that it takes, and claim C11."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import sslens
from given import Given, compute, make_models, write
from sslens.capture import FeatureReducer, Features, GramReducer, Grams, collect
from sslens.cli import main
from sslens.comparisons.altered import Altered, AlteredSets
from sslens.comparisons.invariances import compare_tokens, estimate_invariance
from sslens.comparisons.parts import find_row
from sslens.data import open_images
from sslens.data.alter import Transform
from sslens.data.images import from_arrays
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.find import plugin
from sslens.measures.cka import minibatch_cka
from sslens.models.taps import Tap
from sslens.probes.invariance import (
    LinearMaps,
    compute_cka,
    compute_sensitivity,
    decode_parameter,
)
from sslens.probes.ridge import LAMBDAS, ridge
from sslens.report.answer import leave_out_unknown, make_answer
from sslens.report.writing.invariance import (
    _list_sides,
    _write_decoded,
    _write_equivariances,
    _write_patches,
)
from sslens.statistics.verdicts import Verdict
from sslens.store import Store
from sslens.study import Study, prepare
from sslens.study.capturing import capture
from sslens.table import Results, Table

NANO = "random:vit_nano_patch8_32"


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------
# numbers


def loop_sensitivity(x: np.ndarray, y: np.ndarray) -> float:
    apart = [((x[i] - x[j]) ** 2).sum() for i in range(len(x)) for j in range(len(x)) if i != j]
    return float(((x - y) ** 2).sum(1).mean() / np.mean(apart))


def test_sensitivity_is_the_ratio_of_mean_squared_distances() -> None:
    x = drawn(30, 5) + 100
    y = x + 0.4 * drawn(30, 5, seed=1) + 0.1
    found = compute_sensitivity(x, y)
    assert float(found.value) == pytest.approx(loop_sensitivity(x.numpy(), y.numpy()), abs=1e-12)
    for row in (0, 17):
        left = [np.delete(part.numpy(), row, 0) for part in (x, y)]
        assert found.left_out[row] == pytest.approx(loop_sensitivity(*left), abs=1e-12)
    assert float(compute_sensitivity(x, x).value) == 0
    # 7 and −3 times the features are as sensitive
    scaled = compute_sensitivity(-3 * x + 7, -3 * y + 7)
    assert float(scaled.value) == pytest.approx(float(found.value), abs=1e-11)
    assert np.isnan(compute_sensitivity(torch.ones(9, 2), torch.ones(9, 2)).value)


def test_groups_of_many_images_are_left_out_exactly() -> None:
    x = drawn(1000, 2)
    y = x + 0.5 * drawn(1000, 2, seed=1)
    found = compute_sensitivity(x, y)
    assert found.left_out.shape == (500,)
    from sslens.statistics.draws import Draws

    kept = Draws.of(1000).group != 3
    left = (2 * np.cov(x.numpy()[kept].T).trace(), ((x - y) ** 2).sum(1).numpy()[kept].mean())
    assert found.left_out[3] == pytest.approx(left[1] / left[0], abs=1e-12)


def test_the_interval_of_an_invariance_holds_the_truth() -> None:
    """Of features x ~ N(0, 1) and f(Tx) = x + 0.3 e: 1 − 0.09 / 2 = 0.955."""
    inside = 0
    for seed in range(100):
        x = drawn(60, 1, seed=seed)
        one = estimate_invariance(compute_sensitivity(x, x + 0.3 * drawn(60, 1, seed=1000 + seed)))
        assert one.low < one.value < one.high < 1
        inside += one.low < 0.955 < one.high
    assert 90 <= inside <= 99
    same = estimate_invariance(compute_sensitivity(x, x))
    assert (same.value, np.isnan(same.low)) == (1.0, True)


def test_cka_is_that_of_the_grams() -> None:
    x, y = drawn(24, 6).float(), drawn(24, 6, seed=1).float()
    found = compute_cka([x, x], [y, x @ torch.linalg.qr(drawn(6, 6).float())[0]], [8, 8, 8])
    sizes = np.array([8, 8, 8])
    one, other = (Grams.of_features([part], sizes=sizes) for part in (x, y))
    assert found.value[0] == pytest.approx(minibatch_cka(one, other)[0, 0], abs=1e-9)
    assert found.value[1] == pytest.approx(1, abs=1e-5)  # turned: as different, and as similar


@pytest.mark.parametrize("dim", [6, 40])
def test_a_linear_map_is_the_ridge_regression_of_least_cross_validation_error(dim: int) -> None:
    x = drawn(50, dim)
    y = x @ drawn(dim, dim, seed=1) / dim**0.5 + 0.5 * drawn(50, dim, seed=2)
    train, test = np.arange(30), np.arange(30, 50)
    found = LinearMaps(x, train, test).fit(y)
    scaled = (x[:30] - x[:30].mean(0)) / x[:30].std(0, correction=0)
    best = None
    for start, target in (("identity", y - x), ("mean", y)):
        path = ridge(x[:30], target[:30])
        fitted = path.predict(x[:30])
        for place, penalty in enumerate(LAMBDAS):
            inverse = torch.linalg.inv(scaled.T @ scaled + 30 * penalty * torch.eye(dim))
            hat = scaled @ inverse @ scaled.T
            error = (target[:30] - fitted[place]).square().sum() / (29 - hat.trace()) ** 2
            if best is None or error < best[0]:
                predicted = path.predict(x[30:])[place] + (x[30:] if start == "identity" else 0)
                best = (float(error), start, penalty, predicted)
    assert best is not None
    assert (found.start, found.penalty) == best[1:3]

    def r2(predicted: Tensor) -> float:
        asked = y[30:]
        return 1 - float(
            (asked - predicted).square().sum() / (asked - asked.mean(0)).square().sum()
        )

    assert float(found.linear.value) == pytest.approx(r2(best[3]), abs=1e-7)
    assert float(found.identity.value) == pytest.approx(r2(x[30:]), abs=1e-10)
    assert float(found.gain.value) == pytest.approx(r2(best[3]) - r2(x[30:]), abs=1e-7)


def test_what_turns_is_equivariant_and_what_is_noise_is_not() -> None:
    x, rows = drawn(200, 5), np.arange(200)
    maps = LinearMaps(x, rows[:120], rows[120:])
    turned = maps.fit(x @ torch.linalg.qr(drawn(5, 5, seed=3))[0])
    assert float(turned.linear.value) > 1 - 1e-6
    assert float(turned.gain.value) > 0.5
    noise = maps.fit(drawn(200, 5, seed=4))
    assert abs(float(noise.linear.value)) < 0.1
    blind = maps.fit(x + 1e-3 * drawn(200, 5, seed=5))
    assert (blind.start, float(blind.identity.value) > 0.999) == ("identity", True)
    assert abs(float(blind.gain.value)) < 1e-5
    constant = LinearMaps(torch.ones(20, 3), rows[:10], rows[10:20]).fit(torch.ones(20, 3))
    assert np.isnan(constant.linear.value)


def test_what_was_drawn_is_decoded_as_far_as_features_tell_it() -> None:
    rows, ids = np.arange(300), [f"{i}" for i in range(300)]
    flipped = Transform("horizontal-flip", 1.0, drawn=True).parameters(ids, 8)
    place = Transform("occlusion", 0.4, drawn=True).parameters(ids, 32)
    x = drawn(300, 4)
    told = torch.cat([x, torch.from_numpy(3 * flipped) + 0.5 * x[:, :1]], 1)
    halves = rows[::2], rows[1::2]
    found = decode_parameter(told, flipped, *halves, switch=True)
    assert found.measure == "accuracy"
    assert found.estimate.value > 0.95
    assert found.decoded.value == pytest.approx(
        (found.estimate.value - found.chance) / (1 - found.chance)
    )
    silent = decode_parameter(x, flipped, *halves, switch=True)
    assert silent.decoded.low < 0.05
    # where the halves differ chance is that of the test images, and never below a coin's
    often = np.repeat([1.0, 0.0, 1.0, 0.0], [10, 5, 5, 12])[:, None]
    found = decode_parameter(x[:32], often, np.arange(15), np.arange(15, 32), switch=True)
    assert found.chance == pytest.approx(12 / 17)
    both = decode_parameter(torch.from_numpy(place) @ drawn(2, 6), place, *halves)
    assert (both.measure, both.estimate.value > 0.999) == ("R²", True)
    one = torch.cat([torch.from_numpy(place[:, :1]), x], 1)
    assert decode_parameter(one, place, *halves).estimate.value == pytest.approx(0.5, abs=0.15)


def test_features_that_cannot_be_compared_are_refused() -> None:
    x, rows = drawn(20, 3), np.arange(20)
    for other, message in (
        (drawn(19, 3), "give both of one tap, for the same images"),
        (drawn(20, 4), "give both of one tap"),
        (x * float("nan"), "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            compute_sensitivity(x, other)
        with pytest.raises(InputError, match=message):
            LinearMaps(x, rows[:10], rows[10:]).fit(other)
    for few in (1, 2):
        with pytest.raises(InputError, match=r"too few to tell.*give three or more images"):
            compute_sensitivity(x[:few], x[:few])
    with pytest.raises(InputError, match="fitted to 18 images and tested on 2"):
        LinearMaps(x, rows[:18], rows[18:])
    with pytest.raises(InputError, match="The same was done to all of 10 images"):
        decode_parameter(x, np.ones((20, 1)), rows[:10], rows[10:])


# ------------------------------------------------------------------------------------------------
# passes


def test_a_pass_for_each_way_and_every_image_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Study(
        (NANO, f"{NANO}:1"),
        "scenes:0:16",
        ("invariance",),
        batch=8,
        device="cpu",
        controls=False,
        transforms=("horizontal-flip", "rotation=20", "rotation=40"),
    )
    store = Store(tmp_path)
    plan = prepare(asked, store, quiet=True)
    models = len(plan.situation.members)
    assert len(plan.passes) == (1 + 3 + 3) * models
    assert "altered in 6 ways" in plan.describe()
    crops: list[int] = []
    crop_image = EvalTransform.crop_image

    def count(transform: EvalTransform, image: object) -> np.ndarray:
        crops.append(transform.crop)
        return crop_image(transform, image)  # type: ignore[arg-type]

    monkeypatch.setattr(EvalTransform, "crop_image", count)
    captured = capture(plan.situation, plan.passes, plan.runner)
    assert len(crops) == 16  # both models see the images alike
    need = plugin("study/needs", "invariance")
    sets = need.gather(captured)
    assert [one.label for one in sets.fixed] == ["horizontal flip", "rotation 20", "rotation 40"]
    assert not any(one.missing for one in prepare(asked, store, quiet=True).passes)

    images, model = plan.images, sslens.load(NANO)
    assert images is not None
    rows = [images.ids.index(name) for name in sets.ids]
    pixels = torch.stack(
        [torch.from_numpy(model.transform.crop_image(images.image(row))) for row in rows]
    )
    values = pixels.permute(0, 3, 1, 2).float() / 255
    mean, std = (
        torch.tensor(part).view(3, 1, 1) for part in (model.transform.mean, model.transform.std)
    )
    name = plan.situation.models.names[0]
    for ways in (sets.fixed, sets.drawn):
        for transform, own in ways.items():
            shown = (transform.apply(values, sets.ids) - mean) / std
            tokens = sslens.activations(model, shown, ["blocks.3"])["blocks.3"]
            torch.testing.assert_close(
                own.features[name].read("blocks.3", "cls"), tokens[:, 0], atol=1e-4, rtol=1e-4
            )
    way = next(iter(sets.fixed))
    reducers = [GramReducer("all")]
    (whole,) = collect(model, images, reducers, plan=plan.passes[0].plan, altered=way)
    values_of = minibatch_cka(sets.grams[name], whole).diagonal()
    expected = dict(zip([tap.name for tap in whole.taps], values_of, strict=True))
    rows_of = [
        row for row in compare_tokens(name, sets, control=False) if row["transform"] == way.name
    ]
    assert {row["kind"] for row in rows_of} == {"block", "norm"}
    for row in rows_of:
        assert row["cka"] == pytest.approx(expected[row["tap"]], abs=1e-5)
    shown = sets.examples["horizontal flip"]
    assert np.array_equal(shown, sets.examples["unchanged"][:, ::-1])
    assert sets.factors is not None
    assert "facing" in sets.factors.columns


def test_altered_features_are_not_taken_for_those_of_the_images(tmp_path: Path) -> None:
    model, images = sslens.load(NANO), open_images("scenes:0:8")
    reducers = [FeatureReducer(("norm",)), GramReducer("cls")]
    way = Transform("grey", 1.0)
    store = Store(tmp_path)
    plain = collect(model, images, reducers, store=store)
    grey = collect(model, images, reducers, store=store, altered=way)
    again = collect(model, images, reducers, store=store)
    for one, other, third in zip(plain, grey, again, strict=True):
        assert one.key == third.key
        assert one.key != other.key
    assert not torch.equal(plain[0].read("norm", "cls"), grey[0].read("norm", "cls"))
    with pytest.raises(InputError, match="does not apply to images of 32 px"):
        collect(model, images, reducers, store=store, altered=Transform("patch-shuffle", 5.0))


@pytest.mark.slow
def test_patch_shuffle_is_of_pixels_and_does_for_a_cnn(tmp_path: Path) -> None:
    model = sslens.load("random:resnet50")
    images = from_arrays(np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3)).astype(np.uint8))
    (made,) = collect(
        model,
        images,
        [FeatureReducer(("layer1.0",))],
        altered=Transform("patch-shuffle", 4.0),
    )
    assert made.columns == {("layer1.0", "mean"): 256}


# ------------------------------------------------------------------------------------------------
# the exhibit and the claim

IDS = tuple(f"{i:03d}.png" for i in range(120))
ABOUT = {
    "dino": {"family": "JE", "objective": "dino", "arch": "vit"},
    "moco": {"family": "JE", "objective": "moco-v3", "arch": "vit"},
    "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
    "mae 1": {"family": "REC", "objective": "mae", "arch": "vit", "seed": 1},
    "mae-ft": {"family": "REC", "objective": "mae", "arch": "vit", "tuned": "fine-tuned"},
    "random #0": {"family": "control", "arch": "vit"},
    "pixels": {"family": "control"},
}
TAPS = (Tap("blocks.0", "block", 0.5), Tap("norm", "norm", 1.0))


def alter(
    moves: dict[str, float], kinds: Sequence[str] = ("cls", "patch"), blocks: Sequence[Tap] = TAPS
) -> Given:
    """Models of which a flip moves the last layer so far, in half of the dimensions; of hue all are
    blind."""
    names = tuple(name for name in moves if name not in ("random #0", "pixels"))
    controls = tuple(name for name in moves if name not in names)
    features: dict[str, Features] = {}
    ways = {Transform("horizontal-flip", 1.0): 1.0, Transform("hue", 45.0): 0.001}
    made: dict[Transform, dict[str, Features]] = {way: {} for way in ways}
    for number, (name, strength) in enumerate(moves.items()):
        taps = blocks if name != "pixels" else (Tap("pixels", "pixels", 0.0),)
        poolings = kinds if name != "pixels" else ("flat",)
        columns = {
            (tap.name, pooling): drawn(120, 6, seed=10 * number + place).float()
            for place, tap in enumerate(taps)
            for pooling in poolings
        }
        features[name] = Features.of(columns, ids=IDS, taps=taps, model=name)
        for way, size in ways.items():
            noise = drawn(120, 6, seed=99).float() * torch.tensor([1.0, 1, 1, 0, 0, 0])
            moved = {column: x + size * strength * noise for column, x in columns.items()}
            made[way][name] = Features.of(moved, ids=IDS, taps=taps, model=name)
    grams = {
        name: replace(
            Grams.of_features(
                [own.read(*list(own.columns)[-1])], ids=IDS, sizes=np.array([40] * 3)
            ),
            taps=own.taps[-1:],
        )
        for name, own in features.items()
    }
    fixed = {way: Altered(own, grams) for way, own in made.items()}
    sets = AlteredSets(features, grams, dict.fromkeys(features, 32), fixed)
    return Given(make_models(names, controls, ABOUT), {"invariance": sets})


MOVES = {"dino": 0.1, "moco": 0.2, "mae": 1.0, "mae 1": 0.9, "mae-ft": 0.3}
CONTROLS = {"random #0": 0.5, "pixels": 0.8}


def judge(results: Results) -> tuple[Verdict, ...]:
    verdicts: tuple[Verdict, ...] = plugin("claims", "c11").judge({"invariance": results})
    return verdicts


@pytest.fixture(scope="module")
def results() -> Results:
    return compute("invariance", alter(MOVES | CONTROLS))


def test_c11_holds_where_a_flip_moves_rec_more_and_the_fine_tuned_less(results: Results) -> None:
    verdicts = judge(results)
    assert [one.tokens for one in verdicts] == ["cls", "patch"]
    for verdict in verdicts:
        assert verdict.phrase == "holds in these models"
        rec, tuned = (part.contrast for part in verdict.parts)
        assert (rec.a, rec.b) == ("REC", "JE")
        assert (tuned.a, tuned.b) == ("REC fine-tuned", "REC")
        assert rec.difference.value > 0.15
        assert tuned.difference.value < -0.15
        assert rec.difference.n == 120
        named = {control.a for control in verdict.controls}
        assert {"random #0", "pixels", "mae", "REC, standardised,"} <= named
    families = results["families"].set_index(["pooling", "features", "transform"])
    row = families.loc["cls", "raw", "horizontal-flip"]
    changes = results["changes"]
    level = changes[changes["last"] & (changes.pooling == "cls")].set_index(["model", "transform"])
    one = {name: 1 - level.invariance[name, "horizontal-flip"] for name in MOVES}
    assert row.sensitivity_a == pytest.approx((one["mae"] + one["mae 1"]) / 2)
    assert row.sensitivity_b == pytest.approx((one["dino"] + one["moco"]) / 2)
    assert np.isnan(row.trainings_low)  # one training of each JE objective
    named = {"model_a": "dino", "model_b": "mae", "pooling": "cls", "features": "raw"}
    pair = find_row(results, "pairs", **named, transform="horizontal-flip")
    assert pair is not None
    assert pair["difference"] == pytest.approx(one["dino"] - one["mae"])
    assert pair["difference_low"] < pair["difference"] < pair["difference_high"]
    hue = families.loc["cls", "raw", "hue"]
    assert abs(hue.difference) < 1e-5
    tuned = results["fine-tuned"].iloc[0]
    assert tuned.members == "mae-ft from mae: both mae, vit"
    assert tuned.sensitivity_b == pytest.approx(one["mae"])


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"dino": 1.4, "moco": 1.4}, "in part"),
        ({"dino": 1.4, "moco": 1.4, "mae-ft": 1.5}, "contradicted"),
        ({"dino": 1.0, "moco": 0.95}, "undecided"),
    ],
)
def test_c11_is_decided_by_both_differences(changed: dict[str, float], outcome: str) -> None:
    verdicts = judge(compute("invariance", alter(MOVES | changed, ("cls",), TAPS[1:])))
    assert {verdict.outcome for verdict in verdicts} == {outcome}


@pytest.mark.parametrize(
    "names", [("dino", "mae"), ("mae", "mae-ft"), ("dino", "moco"), ("dino", "mae-ft")]
)
def test_c11_is_not_run_without_all_sides(names: Sequence[str]) -> None:
    given = alter({name: MOVES[name] for name in names}, ("cls",), TAPS[1:])
    (verdict,) = judge(compute("invariance", given))
    assert verdict.outcome == "not run"
    assert "before and after fine-tuning" in verdict.why


def test_the_answer_has_the_invariances_where_nothing_else_ran(results: Results) -> None:
    answer = leave_out_unknown(make_answer({"invariance": results}, alter(MOVES | CONTROLS).models))
    rows = answer.frame.set_index("model")
    changes = results["changes"]
    hue = changes[changes.main & changes["last"] & (changes["transform"] == "hue")]
    hue = hue.set_index("model").loc[rows.index]
    assert rows.invariance_hue_45.tolist() == hue.invariance.tolist()
    assert rows.invariance_hue_45_low.tolist() == hue.invariance_low.tolist()
    assert set(rows.invariance_images) == {len(IDS)}
    assert list(rows.columns)[:2] == ["control", "invariance_horizontal_flip"]
    assert set(answer.units) == {"model", *rows.columns}


def test_words_say_what_the_tables_hold(results: Results) -> None:
    text = write("invariance", results)
    changes = results["changes"]
    flips = changes[changes.main & changes["last"] & (changes["transform"] == "horizontal-flip")]
    levels = flips.set_index("model").invariance
    assert f"Horizontal flip: most dino {levels['dino']:.2f} [" in text[0]
    assert f", least mae {levels['mae']:.2f} [" in text[0]
    assert f"]; of the controls random #0 {levels['random #0']:.2f} [" in text[0]
    assert "Hue 45: 1.00 in all models; of the controls " in text[0]
    assert any("is more sensitive to horizontal flip than JE (+0." in one for one in text)
    (tuned,) = (one for one in text if "REC fine-tuned (CLS token; mae-ft from mae" in one)
    assert "is less sensitive to horizontal flip than before (-0." in tuned
    assert tuned.endswith("; as sensitive as before, within 0.02, to hue 45.")


def test_what_no_layer_tells_of_a_factor_has_no_number(results: Results) -> None:
    read = {"x": 0.53, "rotation": -1.84, "scale": 0.0}
    rows = [
        {"model": "dino", "control": False, "main": True, "last": True}
        | {"factor": factor, "decoded": value}
        for factor, value in read.items()
    ]
    frame = pd.DataFrame(rows)
    table = Table(frame, dict.fromkeys(frame.columns, ""))
    text = write("invariance", Results({**results.tables, "factors": table}))
    told = "the same layers tell: dino x 0.53, nothing of scale and rotation."
    assert any(one.endswith(told) for one in text)


def test_a_sensitivity_that_is_the_same_is_not_called_undecided(results: Results) -> None:
    """The differences of four transforms in a run by a user: three within 0.02 of 0, and one that
    may be larger."""
    row = results["fine-tuned"].iloc[0].to_dict()
    ends = {"horizontal-flip": (0.0006, 0.0001, 0.0012), "blur": (0.0003, 0.0001, 0.0005)}
    ends |= {"hue": (0.0053, 0.0030, 0.0077), "rotation": (0.01, -0.01, 0.03)}
    names = ("difference", "difference_low", "difference_high")
    rows = [
        row | {"transform": key, "strength": 3.0} | dict(zip(names, ends[key], strict=True))
        for key in ends
    ]
    same, rest = _list_sides(rows, "before")
    assert same == "as sensitive as before, within 0.02, to horizontal flip 3, blur 3 and hue 3"
    assert rest == "more or less sensitive than before, which is not decided, to rotation 3"


def test_what_is_decided_is_told_beside_the_best_control() -> None:
    place = {"main": True, "last": True, "strength": 1.0, "tested": 32, "trained": 32}
    rows = []
    for model, told in {
        "mae": {"grey": (0.5, 0.2, 0.8), "hue": (0.1, -0.2, 0.4)},
        "dino": {"grey": (0.1, -0.2, 0.4), "hue": (0.1, -0.2, 0.4)},
        "random #1": {"grey": (0.47, 0.1, 0.72), "hue": (0.9, 0.8, 1.0)},
        "pixels": {"grey": (0.4, 0.03, 0.67), "hue": (0.9, 0.8, 1.0)},
    }.items():
        for transform, ends in told.items():
            row = {"model": model, "control": model in ("random #1", "pixels"), **place}
            row |= {"transform": transform, "cka": 0.5, "invariance": 0.5, "linear": ends[0] + 0.3}
            row |= {"linear_low": ends[1] + 0.3, "linear_high": ends[2] + 0.3, "minibatches": 3}
            for column in ("decoded", "equivariance"):
                names = (column, f"{column}_low", f"{column}_high")
                row |= dict(zip(names, ends, strict=True))
            rows.append(row)
    frame = pd.DataFrame(rows)
    table = Table(frame, dict.fromkeys(frame.columns, ""))
    assert _write_decoded(Results({"decoded": table})) == (
        "What was done to an image is decoded beyond chance (1 all, 0 nothing): mae grey 0.50"
        " [0.20, 0.80]; dino nothing that is decided; of the controls at best grey random #1 0.47"
        " [0.10, 0.72]."
    )
    assert _write_equivariances(frame) == (
        "Transforms that the last layer follows, all images together (CKA, or R² of a linear map"
        " fitted to 32 images): mae grey R² 0.80 [0.50, 1.10]; dino none clearly; of the controls"
        " at best grey random #1 R² 0.77 [0.40, 1.02]."
    )


def test_each_of_few_models_has_a_sentence() -> None:
    (first, *_) = write("invariance", compute("invariance", alter({"dino": 0.1} | CONTROLS)))
    assert "over 120 images. dino (CLS token): most to hue 45 1.00" in first
    assert "Of the controls to horizontal flip random #0" in first


def test_what_patch_tokens_say_otherwise_is_said_of_the_cls_token() -> None:
    place = {"model": "mae", "control": False, "tap": "norm", "last": True, "strength": 1.0}
    rows = [
        place
        | {"pooling": pooling, "main": pooling == "cls", "transform": way, "invariance": value}
        | {"invariance_low": value - 0.02, "invariance_high": value + 0.02, "images": 80}
        for pooling, way, value in (
            ("cls", "horizontal-flip", 0.47),
            ("patch", "horizontal-flip", 0.81),
            ("cls", "blur", 0.87),
            ("patch", "blur", 0.88),
        )
    ]
    said = _write_patches(pd.DataFrame(rows))
    assert said.endswith(": mae horizontal flip 0.81 [0.79, 0.83], not 0.47.")
    assert _write_patches(pd.DataFrame(rows[2:])) == ""


def test_models_of_other_images_are_refused() -> None:
    sets: AlteredSets = alter({"dino": 0.1}).values["invariance"]
    own = sets.features["dino"]
    other = Features.of(
        {column: own.read(*column) for column in own.columns}, ids=IDS[::-1], taps=own.taps
    )
    with pytest.raises(InputError, match="are of other images than those of dino"):
        replace(sets, features={"dino": own, "mae": other})


def test_a_study_says_which_transforms(tmp_path: Path) -> None:
    plain = Study((NANO,), "scenes:0:8")
    assert "transforms" not in plain.yaml()
    assert "decode" not in plain.yaml()
    asked = Study((NANO,), "scenes:0:8", transforms=("hue=20",), decode=False)
    from sslens.study.asked import read

    (tmp_path / "study.yaml").write_text(asked.yaml())
    assert read(tmp_path / "study.yaml") == asked
    with pytest.raises(InputError, match=r'There is no transform "hues": did you mean hue\?'):
        Study((NANO,), "scenes:0:8", transforms=("hues",))


LINE = ["invariance", NANO, "--images", "scenes:1:16", "--batch", "8", "--no-controls"]


@pytest.mark.slow
def test_the_command_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    line = [*LINE, "--transforms", "horizontal-flip", "grey", "--device", "cpu"]
    assert main([*line, "--no-decode", "--out", "report"]) == 0
    tables = sorted(path.name for path in Path("report/tables/invariance").iterdir())
    assert tables == ["changes.csv", "examples.csv", "factors.csv", "tokens.csv"]
    frame = pd.read_csv("report/tables/invariance/changes.csv")
    assert set(frame["transform"]) == {"horizontal-flip", "grey"}


def test_the_command_plans_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main([*LINE, "--transforms", "horizontal-flip", "grey", "--dry-run"]) == 0
    assert "altered in 4 ways" in capsys.readouterr().err
    for wrong, message in (
        (["invariance", "--images", "scenes:1:16"], "Give one or more models"),
        ([*LINE[:4], "--transforms", "flip"], 'There is no transform "flip"'),
        (["invariance", NANO, "--images", "scenes:1:5"], "8 images or more: give more --images"),
        ([*LINE[:4], "--transforms", "patch-shuffle=5"], "does not apply to images of 32 px"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
