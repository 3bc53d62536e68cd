"""The exhibits of probes and the advice, on features of which it is known what can be read from
them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from given import Given, compute, make_models, shorten_probes, write
from sslens.analyses import probe_depth, probe_layers
from sslens.capture import Features
from sslens.claims import advice, c8
from sslens.comparisons.choices import merge_choices, read_choices
from sslens.comparisons.inputs import Factors, FeatureSets, Labels, ProbeSettings
from sslens.comparisons.lookup import Place
from sslens.comparisons.probe_split import Split, explain_unfit
from sslens.comparisons.probing import ProbeSetup, make_usual_head, read_accuracy, read_gain
from sslens.comparisons.readings import read_features
from sslens.errors import InputError
from sslens.models.taps import Tap
from sslens.probes.factors import decode
from sslens.probes.linear.training import GRIDS, Point
from sslens.probes.logistic import GAP, fit_logistic
from sslens.report import page
from sslens.report.answer import make_answer
from sslens.report.front.making import Compared, make_front
from sslens.report.writing.advice import sentences as write_advice
from sslens.report.writing.answer import Told, write_answer
from sslens.report.writing.cards import write_card
from sslens.report.writing.front import BEST
from sslens.report.writing.numbers import spell_points, spell_share
from sslens.store import Store
from sslens.study import Study, prepare
from sslens.table import Results, Table

TAPS = (*(Tap(f"blocks.{i}", "block", (i + 1) / 3) for i in range(3)), Tap("norm", "norm", 1.0))
CLASSES = ("ant", "bee", "cat", "dog")
BANK, TEST, DIM = 240, 200, 12
GRID = (Point(80.0, warmup=2, epochs=20), Point(20.0, warmup=2, epochs=20))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRIDS, "small", lambda batch, steps: GRID)


def drawn(what: str, labels: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
    """Features that know nothing, the class as one direction a class, or the class as an XOR of two
    signs."""
    x = generator.standard_normal((len(labels), DIM))
    if what == "class":
        x[:, :4] += 6 * np.eye(4)[labels]
    if what == "xor":
        signs = generator.choice([-1.0, 1.0], len(labels))
        x[:, 0], x[:, 1] = 3 * signs, 3 * signs * (2 * (labels % 2) - 1)
        x[:, :2] += 0.3 * generator.standard_normal((len(labels), 2))
    return torch.from_numpy(x).float()


def study(
    models: dict[str, dict[str, str]],
    about: dict[str, dict[str, Any]] | None = None,
    *,
    classes: int = 4,
) -> Given:
    """Models by what is known where: `{"dino": {"blocks.1/cls": "class"}}`; all else is noise."""
    generator = np.random.default_rng(0)
    ids = {
        "bank": tuple(f"b{i:03d}" for i in range(BANK)),
        "images": tuple(f"i{i:03d}" for i in range(TEST)),
    }
    labels = {part: np.arange(len(names)) % classes for part, names in ids.items()}
    made: dict[str, dict[str, Features]] = {"bank": {}, "images": {}}
    for part, names in ids.items():
        for model, known in models.items():
            keys = (
                [("pixels", "flat")]
                if model == "pixels"
                else [(tap.name, p) for tap in TAPS for p in ("cls", "mean", "patch")]
            )
            taps = (Tap("pixels", "pixels", 0.0),) if model == "pixels" else TAPS
            columns = {
                key: drawn(known.get("/".join(key), ""), labels[part], generator) for key in keys
            }
            made[part][model] = Features.of(columns, ids=names, taps=taps, model=model)
    controls = tuple(name for name in models if name in ("pixels", "random"))
    studied = tuple(name for name in models if name not in controls)
    known_of = {name: (about or {}).get(name, {}) for name in models}
    numbers = {part: dict(zip(ids[part], labels[part].tolist(), strict=True)) for part in ids}
    values = {
        "features": FeatureSets(made["images"], made["bank"]),
        "labels": Labels(numbers["images"], numbers["bank"], CLASSES[:classes]),
        "probes": ProbeSettings(),
    }
    return Given(make_models(studied, controls, known_of), values)


def without_bank(given: Given) -> Given:
    """The same without a bank."""
    features, labels = given.values["features"], given.values["labels"]
    return given.but(features=replace(features, bank={}), labels=replace(labels, bank={}))


def split(given: Given) -> Split:
    """Which images train, choose and test."""
    return Split.of(given.values["features"], given.values["labels"], 0)


def points(row: Any, column: str = "gain") -> str:
    """A gain of a row, as sentences have it."""
    return spell_points(read_gain(dict(row), column))


def paired(frame: pd.DataFrame) -> pd.DataFrame:
    """The probes of two taps."""
    return frame[frame.tap.str.contains(" + ", regex=False)]


def only(frame: pd.DataFrame, **wanted: Any) -> Any:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


# ------------------------------------------------------------------------------------------------
# probe-layers


@pytest.fixture(scope="module")
def layered() -> tuple[Given, Results]:
    """mae knows the class in its second block alone, dino and a fine-tuned mae at the end alone."""
    about = {
        "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
        "dino": {"family": "JE", "objective": "dino", "arch": "vit"},
    }
    about["mae-ft"] = about["mae"] | {"tuned": "fine-tuned"}
    known = {
        "mae": {"blocks.1/cls": "class"},
        "dino": {"norm/cls": "class"},
        "mae-ft": {"norm/cls": "class"},
        "random": {},
        "pixels": {},
    }
    given = study(known, about)
    return given, compute("probe-layers", given)


@pytest.mark.slow
def test_nothing_rests_on_a_point_at_the_edge_of_a_grid(
    layered: tuple[Given, Results],
) -> None:
    """Both points of the short grid are ends of it: numbers are told, and nothing is concluded."""
    given, converged = layered
    sets = given.values["features"]
    names = ("mae", "dino")
    few = {name: {one: by[one] for one in names} for name, by in vars(sets).items()}
    short = Given(
        make_models(names, (), {one: given.models.about(one).to_json() for one in names}),
        given.values | {"features": FeatureSets(**few), "probes": ProbeSettings(grid="small")},
    )
    results = compute("probe-layers", short)
    probes, families = results["probes"], results["families"]
    assert not probes.inside.any()
    assert set(probes.why) <= {
        "the chosen learning rate, 80, is the highest that was tried",
        "the chosen learning rate, 20, is the lowest that was tried",
    }
    assert not families.settled.any()
    for sentence in write("probe-layers", results):
        assert "not settled" in sentence
        assert "Nothing rests on it" in sentence
    judged = [c8.judge({"probe-layers": one})[0] for one in (results, converged)]
    assert judged[0].outcome == "not run"
    assert judged[0].why.startswith("no verdict rests on the probes of")
    assert judged[1].outcome != "not run"
    *advised, _ = write_advice(advice.judge({"probe-layers": results}))
    assert len(advised) == 2
    assert all("not to be relied on: the chosen learning rate" in one for one in advised)


@pytest.mark.slow
def test_the_one_block_that_knows_the_class_is_found(layered: tuple[Given, Results]) -> None:
    frame = layered[1]["probes"]
    mae = frame[(frame.model == "mae") & (frame.pooling == "cls")]
    assert set(mae.tap) == {
        *(tap.name for tap in TAPS),
        "blocks.0 + norm",
        "blocks.1 + norm",
    }  # the last block is the last layer
    assert mae[mae.chosen].tap.tolist() == ["blocks.1", "blocks.1 + norm"]
    for row in mae.itertuples():
        assert row.accuracy > 0.97 if "blocks.1" in row.tap else 0.1 < row.accuracy < 0.4
        assert (row.chance, row.images) == (0.25, TEST)
    end, pair = only(mae, tap="norm"), only(mae, tap="blocks.1 + norm")
    assert end.usual
    assert pd.isna(end.gain)
    assert pair.gain == pytest.approx(pair.accuracy - end.accuracy)
    assert pair.gain_low < pair.gain < pair.gain_high
    patch = only(frame, model="mae", pooling="patch", tap="blocks.0")
    assert patch.gain == pytest.approx(
        patch.accuracy - only(frame, model="mae", pooling="patch", tap="norm").accuracy
    )
    assert patch.over == pytest.approx(patch.accuracy - end.accuracy)
    assert only(frame, model="pixels").usual


@pytest.mark.slow
def test_a_row_is_a_probe_trained_chosen_and_tested_on_parts_of_their_own(
    layered: tuple[Given, Results],
) -> None:
    given, results = layered
    images, sets = split(given), given.values["features"]
    features = sets.bank["mae"].read("blocks.1", "cls")
    labels = torch.from_numpy(images.bank_labels)
    assert not set(images.train) & set(images.validation)
    assert (
        np.bincount(images.bank_labels[images.validation]).tolist() == [12] * 4
    )  # a fifth of each class
    assert sorted([*images.train, *images.validation]) == list(range(BANK))
    train, validation = (torch.from_numpy(rows) for rows in (images.train, images.validation))
    (probe,) = fit_logistic(
        [features[train]], labels[train], [features[validation]], labels[validation]
    )
    own = torch.tensor(list(given.values["labels"].images.values()))
    predicted = probe.predict(sets.images["mae"].read("blocks.1", "cls"))
    row = only(results["probes"], model="mae", tap="blocks.1", pooling="cls")
    assert row.accuracy == pytest.approx(float((predicted == own).double().mean()))
    assert row.validation == pytest.approx(probe.validation)
    assert row.penalty == probe.penalty
    assert row.certificate == pytest.approx(probe.gap, rel=0.1)
    assert row.converged
    path = results["penalties"]
    path = path[(path.model == "mae") & (path.tap == "blocks.1") & (path.pooling == "cls")]
    assert path.penalty.tolist() == [trial.penalty for trial in probe.path]
    assert path.certificate.max() <= GAP
    assert path.penalty[path.taken].tolist() == [probe.penalty]


@pytest.mark.slow
def test_what_an_intermediate_block_adds_is_held_against_the_other_family(
    layered: tuple[Given, Results],
) -> None:
    results = layered[1]
    pairs = paired(results["probes"])
    gains = {
        name: only(pairs, model=name, pooling="cls", chosen=True).gain
        for name in ("mae", "dino", "mae-ft")
    }
    family = results["families"][results["families"].main]
    assert family.gain.tolist() == pytest.approx([gains["dino"], gains["mae"]])
    rec = only(family, model="REC")
    assert (rec.members, rec.against) == ("mae", "JE")
    assert rec.difference == pytest.approx(gains["mae"] - gains["dino"])
    assert rec.difference_low > 0.4
    tuned = only(results["fine-tuned"], main=True)
    assert tuned.difference == pytest.approx(gains["mae-ft"] - gains["mae"])
    said = write("probe-layers", results)
    assert said[0].startswith(
        "An intermediate block beside the last layer, both as CLS token (the mean where there is"
        " none), gains: JE (dino) "
    )
    more = f"the gain of REC is more than that of JE ({points(rec, 'difference')})."
    assert f"REC (mae) {points(rec)}; {more}" in said[0]
    mae = only(pairs, model="mae", pooling="cls", chosen=True)
    assert (
        said[3]
        == "mae-ft from mae: an intermediate block beside the last layer, both as CLS token,"
        " gained "
        f"{points(mae)} before fine-tuning and gains {points(tuned)} after, "
        f"a difference of {points(tuned, 'difference')}: the gain vanishes."
    )
    assert "mean of patch tokens" in said[4]
    assert said[4].endswith("there was no sure gain that could vanish.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "difference", "said"),
    [
        ((0.10, 0.14), (0.03, 0.06), (-0.10, -0.05), "the gain shrinks."),
        ((0.10, 0.14), (-0.01, 0.06), (-0.14, -0.05), "the gain vanishes."),
        ((0.10, 0.14), (0.03, 0.12), (-0.10, 0.01), "whether the gain shrinks is not decided."),
        ((0.00, 0.04), (-0.03, 0.02), (-0.05, -0.01), "there was no sure gain that could vanish."),
        ((0.00, 0.04), (0.07, 0.12), (0.05, 0.10), "the gain grew."),
    ],
)
def test_what_is_said_of_a_gain_before_and_after(
    layered: tuple[Given, Results],
    before: tuple[float, float],
    after: tuple[float, float],
    difference: tuple[float, float],
    said: str,
) -> None:
    tables = {name: table.frame.copy() for name, table in layered[1].tables.items()}
    probes, tuned = tables["probes"], tables["fine-tuned"]
    pair = probes.main & probes.chosen & probes.tap.str.contains(" + ", regex=False)
    columns = ["gain", "gain_low", "gain_high"]
    probes.loc[pair & (probes.model == "mae"), columns] = (sum(before) / 2, *before)
    columns += ["difference", "difference_low", "difference_high"]
    middles = sum(after) / 2, sum(difference) / 2
    tuned.loc[tuned.main, columns] = (middles[0], *after, middles[1], *difference)
    results = Results(
        {name: replace(layered[1].tables[name], frame=frame) for name, frame in tables.items()}
    )
    assert write("probe-layers", results)[3].endswith(said)


@pytest.mark.slow
def test_the_accuracy_after_fine_tuning_is_held_against_that_before_image_by_image(
    layered: tuple[Given, Results],
) -> None:
    results = layered[1]
    row = only(results["before-after"])
    usual = results["probes"][results["probes"].usual]
    after, before = (only(usual, model=name) for name in ("mae-ft", "mae"))
    assert (row.members, row.against, row.images) == ("mae-ft from mae", "mae", TEST)
    assert (row.accuracy, row.before) == (after.accuracy, before.accuracy)
    assert row.change == pytest.approx(after.accuracy - before.accuracy)
    assert row.change_high - row.change_low < (after.high - after.low) + (before.high - before.low)
    assert write("probe-layers", results)[2] == (
        f"By a linear probe of the last layer, after fine-tuning and before on the same {TEST}"
        f" images: mae-ft has {spell_share(read_accuracy(after.to_dict()))}, more than mae with"
        f" {spell_share(read_accuracy(before.to_dict()))} ({points(row, 'change')})."
    )


@pytest.mark.slow
def test_probes_of_layers_are_drawn_by_depth(layered: tuple[Given, Results]) -> None:
    figure = probe_layers.draw(layered[1])
    assert [[panel and panel.title for panel in row] for row in figure.panels] == [
        ["CLS token", "mean of patch tokens"],
        ["last + one: CLS token", "last + one: mean of patch tokens"],
    ]
    lines = {line.name: line for line in figure.panels[0][0].lines}  # type: ignore[union-attr]
    np.testing.assert_allclose(lines["mae"].x, [1 / 3, 2 / 3, 1, 1])
    assert lines["mae"].y[1] > 0.97
    assert [line.control for line in lines.values()] == [False, False, False, True, True]
    assert lines["pixels"].y[0] == lines["pixels"].y[1]


# ------------------------------------------------------------------------------------------------
# probe-depth


@pytest.fixture(scope="module")
def deepened() -> Results:
    """Two classes: of mae's last CLS token an XOR of two signs, of dino's a direction."""
    about = {"mae": {"family": "REC", "arch": "vit"}, "dino": {"family": "JE", "arch": "vit"}}
    known = {"mae": {"norm/cls": "xor"}, "dino": {"norm/cls": "class"}, "random": {}}
    return compute("probe-depth", study(known, about, classes=2))


@pytest.mark.slow
def test_classes_that_no_line_parts_are_read_by_a_deeper_probe(deepened: Results) -> None:
    probes = deepened["probes"]
    mae = probes[(probes.model == "mae") & probes.main].set_index("layers")
    assert 0.35 < mae.accuracy[1] < 0.65
    assert min(mae.accuracy[2], mae.accuracy[3]) > 0.9
    assert mae.chosen[2] or mae.chosen[3]
    assert mae.gain[3] == pytest.approx(mae.accuracy[3] - mae.accuracy[1]) == mae.over[3]
    assert mae.gain_low[3] > 0.2
    linear = only(probes, model="dino", main=True, layers=1)
    assert linear.accuracy > 0.97
    assert probes.best.isna().all()  # the mean of the best five is told of the papers' grid
    assert set(probes.pooling) == {"cls", "patch"}


@pytest.mark.slow
def test_what_depth_gains_is_held_against_the_other_family_and_another_seed(
    deepened: Results,
) -> None:
    rec = only(deepened["families"], model="REC", main=True, layers=3)
    assert rec.difference_low > 0.2
    assert rec.less == "1 layer"
    again = deepened["second-seeds"]
    # of dino's no interval decides what deeper probes gain
    assert again.model.tolist() == ["mae"] * 2
    assert again.layers.tolist() == [2, 3]
    dino = deepened["probes"].query("model == 'dino' and main and layers > 1")
    assert ((dino.gain_low <= 0) & (dino.gain_high >= 0)).all()
    first = deepened["probes"]
    first = first[first.main & (first.model == "mae")]
    np.testing.assert_allclose(
        again.gain.to_numpy(),
        again.accuracy.to_numpy() - first.accuracy.to_numpy()[1:],
        atol=1e-12,
    )
    assert again.gain.abs().max() < 0.15
    said = write("probe-depth", deepened)
    assert len(said) == 2
    more = f"the gain of REC is more than that of JE ({points(rec, 'difference')})."
    assert f"REC (mae) {points(rec)}; {more}" in said[0]
    assert ", which is not decided" in said[1]  # patch tokens know nothing
    (top,) = probe_depth.draw(deepened).panels
    assert [panel.title for panel in top if panel] == ["CLS token", "mean of patch tokens"]
    assert [line.x.tolist() for line in top[0].lines] == [[1, 2, 3]] * 3  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------
# factors-depth


def test_a_factor_that_only_one_tap_holds_is_found_there() -> None:
    given = study({"mae": {}, "random": {}})
    generator = np.random.default_rng(1)
    features, frames = given.values["features"], {}
    for part in ("bank", "images"):
        own = getattr(features, part)["mae"]
        x, size = generator.uniform(-1, 1, (2, len(own.ids)))
        own.read("blocks.0", "cls")[:, 3] = torch.from_numpy(5 * x)
        side = np.where(x > 0, "right", "left")
        # in no order of the images: rows are found by id
        frames[part] = pd.DataFrame(
            {"x": x, "side": side, "size": size, "one": 1.0}, index=own.ids
        ).sample(frac=1, random_state=0)
    given = given.but(factors=Factors(frames["images"], frames["bank"]))
    results = compute("factors-depth", given)
    frame = results["factors"]
    assert set(frame.factor) == {"x", "side", "size"}  # what never varies cannot be decoded
    mae = frame[(frame.model == "mae") & frame.main].set_index(["factor", "tap"])
    assert mae.decoded["x", "blocks.0"] > 0.99
    assert mae.decoded["side", "blocks.0"] > 0.8
    others = mae[mae.index != ("x", "blocks.0")].drop(index=("side", "blocks.0"))
    assert others.decoded.max() < 0.2
    bank, images = (sets["mae"] for sets in (features.bank, features.images))
    known = ["x", "side", "size"]
    expected = decode(
        bank.read("norm", "patch"),
        frames["bank"].loc[list(bank.ids), known],
        images.read("norm", "patch"),
        frames["images"].loc[list(images.ids), known],
    )
    found = frame[(frame.model == "mae") & (frame.tap == "norm") & (frame.pooling == "patch")]
    np.testing.assert_allclose(found.value, expected.value, rtol=0, atol=1e-9)
    side = mae.loc["side", "blocks.0"]
    assert side.decoded_low == pytest.approx((side.low - side.chance) / (1 - side.chance))
    assert side.decoded_low < side.decoded < side.decoded_high
    end, lost, constant = write("factors-depth", results)
    told = "The last layer tells best of the scene, beyond the controls:"
    assert end.startswith(f"{told} mae (CLS token) ")
    assert lost.startswith("An earlier block tells more than the last layer: mae x 1.00 [")
    assert " at blocks.0 against " in lost
    assert "; of the controls, any block, " in end
    assert end.endswith("(random).")
    lower = frame.assign(decoded=frame.decoded.where(frame.control, 0.0))
    for column in ("decoded_low", "decoded_high"):
        lower[column] = lower.decoded
    beaten = write("factors-depth", as_results("factors", lower))[0]
    assert beaten.startswith(f"{told} mae (CLS token) nothing; of the controls, any block, ")
    assert constant == (
        "Not decoded, because it does not vary among the training or the test images: one."
    )
    same = frame.assign(decoded=0.5, decoded_low=0.49, decoded_high=0.51)
    same.loc[same.tap == "blocks.0", ["decoded", "decoded_low", "decoded_high"]] = (
        0.515,
        0.512,
        0.52,
    )
    (none,) = write("factors-depth", as_results("factors", same))  # 0.015 is worth no word
    assert none.endswith("; no earlier block tells clearly more.")
    with pytest.raises(InputError, match="of generated scenes alone"):
        compute("factors-depth", given.but(factors=Factors(frames["images"])))
    alike = Factors(frames["images"][["one"]], frames["bank"][["one"]])
    with pytest.raises(InputError, match="None of the factors one varies"):
        compute("factors-depth", given.but(factors=alike))


# ------------------------------------------------------------------------------------------------
# what they share


def test_without_a_bank_half_of_the_images_take_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    given = without_bank(study({"mae": {"norm/cls": "class"}}))
    images, features = split(given), given.values["features"]
    parts = [set(rows.tolist()) for rows in (images.train, images.validation, images.test)]
    assert [len(part) for part in parts] == [80, 20, 100]
    assert len(set.union(*parts)) == TEST
    assert all(len(set(np.bincount(images.labels[sorted(part)]))) == 1 for part in parts)
    head = make_usual_head(features.images["mae"])
    setup = ProbeSetup(given.models, features, images, ProbeSettings(), 0)
    row = setup.train("mae", [head]).rows[head]
    assert (row["images"], row["points"], row["converged"]) == (100, 7, True)
    assert row["accuracy"] > 0.95


def test_the_parts_depend_on_ids_and_not_on_their_order() -> None:
    given = study({"mae": {}})
    features = given.values["features"]
    turned = {"mae": replace(features.bank["mae"], ids=features.bank["mae"].ids[::-1])}
    one, other = split(given), split(given.but(features=replace(features, bank=turned)))
    names = [{images.bank_ids[row] for row in images.validation} for images in (one, other)]
    assert names[0] == names[1]


def test_raw_pixels_are_probed_as_a_small_picture() -> None:
    picture = torch.arange(16.0 * 16).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    known = Features.of({("pixels", "flat"): picture.flatten(1)})
    found = read_features(known, "pixels", "flat")
    assert found.shape == (2, 192)
    assert found[0, :2].tolist() == [8.5, 10.5]  # means of 0, 1, 16, 17 and of 2, 3, 18, 19
    torch.testing.assert_close(found, F.avg_pool2d(picture, 2).flatten(1))


def test_features_of_other_images_are_refused() -> None:
    given = study({"mae": {}, "dino": {}})
    images = given.values["features"].images
    other = replace(images["dino"], ids=images["dino"].ids[::-1])
    with pytest.raises(InputError, match="features of dino are of other images than those of mae"):
        split(given.but(features=FeatureSets({**images, "dino": other})))


@pytest.mark.parametrize(
    ("labels", "bank", "said"),
    [
        ([0, 0, 0, 0, 1, 1, 1], None, "bee has 3"),
        (
            [0, 1],
            [0, 0, 1],
            "a class of the bank needs two images, to train and to choose on, and bee has 1",
        ),
        ([0, 0, 0, 0], None, "of one class"),
        ([0, 1], [0, 0], "of one class"),
        ([0, 0, 0, 0, 1, 1, 1, 1], None, None),
        ([0, 1], [0, 0, 1, 1], None),
    ],
)
def test_too_few_images_of_a_class_are_known_before_anything_is_computed(
    labels: list[int], bank: list[int] | None, said: str | None
) -> None:
    reason = explain_unfit(np.array(labels), None if bank is None else np.array(bank), CLASSES)
    assert reason is None if said is None else said in str(reason)
    if said is None:
        names = [str(i) for i in range(len(labels))]
        column, taps = ("blocks.0", "cls"), TAPS[:1]
        x = Features.of({column: torch.randn(len(labels), 3)}, ids=names, taps=taps)
        banked = (
            {"m": Features.of({column: torch.randn(4, 3)}, ids=tuple("wxyz"), taps=taps)}
            if bank
            else {}
        )
        own = dict(zip(names, labels, strict=True))
        known = Labels(own, dict(zip("wxyz", bank or [], strict=False)), CLASSES)
        parts = Split.of(FeatureSets({"m": x}, banked), known, 0)
        assert parts.read(x, banked.get("m"), [("blocks.0", "cls")], 0)


def test_a_study_plans_what_its_images_allow(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    few = prepare(Study(("pixels",), "scenes:1:12", controls=False), store, quiet=True)
    assert not {"probe-depth", "probe-layers", "factors-depth"} & set(few.analyses)
    assert few.notes == (
        "3 of 12 images are the only one of their class: without a bank no vote on them can be"
        " right.",
        (
            "factors-depth, probe-depth and probe-layers were left out:"
            f" {few.left_out['probe-depth'].reason}."
        ),
    )
    assert "without a bank a class needs four images" in few.notes[1]
    asked = Study(("pixels",), "scenes:1:16", bank="scenes:2:96", controls=False)
    assert {"probe-depth", "probe-layers", "factors-depth"} <= set(
        prepare(asked, store, quiet=True).analyses
    )
    x = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "photos.npz", images=x, labels=np.arange(16) % 2)
    photos = prepare(
        Study(("pixels",), str(tmp_path / "photos.npz"), controls=False), store, quiet=True
    )
    assert (
        photos.left_out["factors-depth"].reason
        == "the images are not generated scenes, and of no others are the factors known"
    )
    assert "probe-depth" in photos.analyses
    assert photos.notes == ()
    with pytest.raises(
        InputError, match="factors-depth was asked for, but the images are not generated scenes"
    ):
        prepare(
            Study(("pixels",), str(tmp_path / "photos.npz"), ("factors-depth",), controls=False),
            store,
            quiet=True,
        )
    with pytest.raises(InputError, match='grid is "large": there are converged, paper, small'):
        Study(("pixels",), "scenes", grid="large")


# ------------------------------------------------------------------------------------------------
# advice


def advise(results: dict[str, Results]) -> tuple[str, ...]:
    """The advice on these results, in sentences."""
    return write_advice(advice.judge(results))


@pytest.mark.slow
def test_advice_is_made_of_what_the_tables_hold(
    layered: tuple[Given, Results], deepened: Table
) -> None:
    said = advise({"probe-layers": layered[1]})
    assert len(said) == 4
    row = only(layered[1]["probes"], model="mae", tap="blocks.1", pooling="cls")
    assert said[0].startswith("mae: use a linear probe of the CLS token at blocks.1: ")
    assert (
        f"{points(row, 'over')} over the usual choice, a linear probe of the CLS token at"
        " norm (" in said[0]
    )
    assert said[1].startswith(
        "dino: keep the usual choice, a linear probe of the CLS token at norm: "
    )
    assert "test images that had no part in it" in said[-1]
    assert f"{TEST} test images" in said[-1]
    # what deeper probes gain is said where it is measured, and chosen for no model
    assert "layers" not in " ".join(advise({"probe-depth": deepened}))
    assert advise({}) == ()
    kept, *_ = advice.judge({"probe-layers": layered[1]})
    assert (kept.model, kept.answer, kept.use) == ("mae", "holds", kept.best)
    assert kept.gain is not None
    assert kept.gain.difference == read_gain(dict(row), "over")


CHOICES = pd.DataFrame(
    {
        "control": False,
        "model": "mae",
        "tap": ["norm", "blocks.1", "blocks.1 + norm"],
        "pooling": "cls",
        "layers": 1,
        "usual": [True, False, False],
        "validation": [0.5, 0.6, 0.6],
        "accuracy": [0.5, 0.55, 0.56],
        "low": 0.4,
        "high": 0.6,
        "over": [np.nan, 0.05, 0.06],
        "over_low": [np.nan, 0.02, 0.02],
        "over_high": [np.nan, 0.08, 0.09],
        "images": 100,
        "chance": 0.1,
    }
)


def told(**changed: Any) -> str:
    frame = CHOICES.assign(
        **{
            name: [0.5, value, 0.5] if name == "validation" else value
            for name, value in changed.items()
        }
    )
    return advise({"probe-layers": as_results("probes", frame)})[0]


def as_results(name: str, frame: pd.DataFrame) -> Results:
    """Results of one table."""
    return Results({name: Table(frame, dict.fromkeys(frame.columns, "unit"))})


def test_advice_says_when_a_difference_is_worth_nothing() -> None:
    usual = (
        "mae: keep the usual choice, a linear probe of the CLS token at norm: 50.0% [40.0%, 60.0%]"
    )
    # two are equal on the validation images: the simpler is taken, though the other is better on
    # the test images
    assert told() == told(validation=0.6)
    assert told().startswith(
        "mae: use a linear probe of the CLS token at blocks.1: 55.0% [40.0%, 60.0%], +5.0 points"
        " [+2.0, +8.0]"
    )
    undecided = usual.replace("keep", "not decided; meanwhile keep")
    assert told(over_low=-0.01).startswith(
        f"{undecided}. The best of 3 probes on the validation images, "
    )
    assert "is not decided against it (+5.0 points [-1.0, +8.0])" in told(over_low=-0.01)
    assert told(over_low=0.01, images=19).startswith("mae: not decided")
    assert "of 19 images, which are too few" in told(over_low=0.01, images=19)
    slight = told(over=0.003, over_low=0.001, over_high=0.004)
    assert slight.startswith(f"{usual}. The best")
    assert "is the same as it within half a point (+0.3 points" in slight
    worse = told(over=-0.05, over_low=-0.08, over_high=-0.02)
    assert worse.startswith(f"{usual}. The best")
    assert "is less than it (-5.0 points" in worse
    assert "not decided" in told(over=0.004, over_low=0.001)
    assert (
        told(validation=0.5)
        == f"{usual}; no other of 3 probes does better on the validation images."
    )


def test_advice_rests_on_converged_probes_alone() -> None:
    assert told(converged=[True, False, True], inside=True).startswith(
        "mae: use a linear probe of the CLS token at blocks.1 and norm"
    )
    ended = told(converged=True, inside=[False, True, True], why="the penalty is the least tried")
    assert ended == (
        "mae: not decided, for the usual choice, a linear probe of the CLS token at norm, is not to"
        " be relied on: the penalty is the least tried."
    )


def test_advice_names_what_knn_has_at_the_same_place() -> None:
    knn = pd.DataFrame(
        {
            "model": "mae",
            "tap": ["norm", "blocks.1"],
            "pooling": "cls",
            "vote": "weighted",
            "features": "raw",
            "k": 20,
            "accuracy": [0.3, 0.4],
            "low": 0.2,
            "high": 0.5,
            "images": 100,
        }
    )
    tables = {
        "probe-layers": as_results("probes", CHOICES),
        "knn-depth": as_results("accuracies", knn),
    }
    assert advise(tables)[0].endswith(
        "; 20-NN, which trains nothing, has 40.0% [20.0%, 50.0%] at blocks.1."
    )


def test_advice_stands_at_the_top_of_the_report_as_text(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "title": "t",
        "sections": (),
        "command": "c",
        "study": "",
        "provenance": {},
    }
    text = page.write(tmp_path / "a", advice=("Use <b>mae</b>.",), **given).read_text(
        encoding="utf-8"
    )
    assert "<li>Use &lt;b&gt;mae&lt;/b&gt;.</li>" in text
    assert text.index("What to use for these images") < text.index("How this was made")
    assert "What to use" not in page.write(tmp_path / "b", **given).read_text(encoding="utf-8")


def test_a_model_is_read_as_its_own_classifier_reads() -> None:
    """Fine-tuned on the mean of the patch tokens, a model has a CLS token that nothing trained."""
    # another block is better than the last one on the patches, and the CLS token knows nothing
    known = {
        "mae": {"norm/cls": "class"},
        "ft": {"norm/patch": "class", "blocks.1/patch": "class"},
        "pixels": {},
    }
    about = {
        "mae": {"family": "REC", "objective": "mae"},
        "ft": {"family": "REC", "tuned": "fine-tuned", "pooling": "patches"},
    }
    given = study(known, about)
    sets = given.values["features"]
    own = {
        part: sets_ | {"ft": replace(sets_["ft"], read_pooling="patch")}
        for part, sets_ in (("images", sets.images), ("bank", sets.bank))
    }
    given = given.but(features=FeatureSets(**own))
    results = {name: compute(name, given) for name in ("probe-layers", "knn-depth")}

    probes = results["probe-layers"]["probes"]
    usual = only(probes, model="ft", usual=True)
    assert (usual.tap, usual.pooling, bool(usual.main)) == ("norm", "patch", True)
    assert usual.accuracy > 0.9
    assert {"cls", "patch"} == set(probes[probes.model == "ft"].pooling)
    assert only(probes, model="mae", usual=True).pooling == "cls"

    choice = only(results["knn-depth"]["choices"], model="ft")
    assert (choice.usual_pooling, choice.usual_accuracy > 0.9) == ("patch", True)
    number = Place("knn-depth", "accuracy", {"model": "ft", "tap": "norm"}).find(results)
    assert number.value.value > 0.9
    assert dict(number.supposed) == {"pooling": "patch", "vote": "weighted", "features": "raw"}
    number = Place("knn-depth", "accuracy", {"model": "mae", "tap": "norm"}).find(results)
    assert number.supposed["pooling"] == "cls"

    (one,) = (one for one in advice.judge(results) if one.model == "ft")
    assert "mean of patch tokens" in write_card(one).use
    # both panels show it: as its classifier reads, and among the patch tokens of all models
    figure = probe_layers.draw(results["probe-layers"])
    shown = [[line.name for line in panel.lines] for panel in figure.panels[0]]
    assert all("ft" in names for names in shown)
    assert len(shown) == 2


@pytest.mark.slow
def test_terminal_csv_cards_and_banner_have_one_choice_and_one_baseline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of models and controls the linear probe that validation images prefer, on one set of images,
    against raw pixels read in the same way."""
    shorten_probes(monkeypatch)
    known = {
        "mae": {"norm/cls": "class", "blocks.1/patch": "class"},
        "dino": {"norm/patch": "xor", "blocks.2/cls": "class"},
        "random": {"norm/cls": "xor"},
        "pixels": {"pixels/flat": "xor"},
    }
    given = study(known, {name: {"arch": "vit"} for name in known})
    results = {name: compute(name, given) for name in ("probe-depth", "probe-layers", "knn-depth")}
    rows = {
        str(row["model"]): row
        for row in make_answer(results, given.models).frame.to_dict("records")
    }
    assert {row["probe_layers"] for row in rows.values()} == {1}
    choices = {name: read_choices(one["choices"]) for name, one in results.items()}
    for one in (*choices["probe-depth"], *choices["probe-layers"]):
        assert one.layers == 1
    merged = merge_choices([*choices["probe-depth"], *choices["probe-layers"]])
    recommended = {one.model: one for one in advice.judge(results)}
    front = make_front(results, (), given.models, Compared("photos", TEST))
    cards = {card.title: card for card in (*front.cards, *front.more_cards)}
    said = write_answer(list(rows.values()), Told("four"), 200)
    pixels = rows["pixels"]
    for name, one in recommended.items():
        row, choice = rows[name], merged[name]
        # the answer's row is what the card says to use, chosen of the same probes
        assert row["probe"] == choice.use.value == one.use.accuracy.value
        assert choice.accuracy.value == one.best.accuracy.value
        assert (row["probe_tap"], row["probe_pooling"]) == (
            " + ".join(one.use.taps),
            one.use.pooling,
        )
        assert row["probe_chosen_on"] == choice.chosen_on == one.chosen_on == BANK / 5
        # its gain over pixels is the difference of the two numbers that stand in the table
        assert row["over_pixels"] == pytest.approx(row["probe"] - pixels["probe"])
        # both gains have columns, though the answer reads the probe
        for by in ("knn", "probe"):
            difference = row[f"{by}_over_pixels"]
            assert difference == pytest.approx(row[by] - pixels[by])
            assert row[f"{by}_over_pixels_low"] < difference < row[f"{by}_over_pixels_high"]
        (near,) = [own for own in choices["knn-depth"] if own.model == name]
        assert row["knn_usual"] == near.usual.value
        assert row["knn_over_usual"] == pytest.approx(near.gains["over_usual"].value, nan_ok=True)
        assert one.over_pixels is not None
        used = one.use.accuracy.value
        assert one.over_pixels.value == pytest.approx(used - pixels["probe"])
        assert spell_points(one.over_pixels) in cards[name].gain_pixels
        assert spell_share(one.use.accuracy) in cards[name].use
        (line,) = [line.text for line in said if line.text.startswith(f"{name} ")]
        assert f"{100 * row['probe']:.1f} [" in line
        if one.gain is not None:
            assert row["over_usual"] == pytest.approx(one.gain.difference.value)
    # the banner is of k-NN, and says so: the numbers of that column
    first = max((name for name in recommended), key=lambda name: rows[name]["knn"])
    ahead = rows[first]["knn"] - pixels["knn"]
    (gain,) = [one for one in choices["knn-depth"] if one.model == first]
    assert gain.over_pixels.value == pytest.approx(ahead)
    (best,) = [one for one in front.answers if one.question == BEST]
    assert f"{spell_points(gain.over_pixels)} over raw pixels" in best.effect
    assert "by 20-NN" in best.effect
