"""The exhibits of detection and their claims: from detectors that were made up, numbers that are
known beforehand."""

from dataclasses import replace

import numpy as np
import pytest

from detectors import find_near, levels_of, make_detectors, scenes
from given import Given, compute, draw, make_models, write
from sslens.comparisons.detection_pictures import EACH, choose_images, pair_objects
from sslens.comparisons.detection_rows import FROZEN, TUNED
from sslens.comparisons.detectors import MULTI, SINGLE, Found, read_number, read_sides
from sslens.comparisons.multicrop import uses_multicrop
from sslens.figure import Heatmap, Picture
from sslens.find import plugin
from sslens.models.about import About
from sslens.report.writing import places
from sslens.report.writing.claims import write_claim
from sslens.statistics.verdicts import Verdict
from sslens.table import Results

ABOUT = {
    "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
    "moco": {"family": "JE", "objective": "moco-v3", "arch": "vit"},
    "dino": {"family": "JE", "objective": "dino", "arch": "vit"},
    "dino 2": {"family": "JE", "objective": "dino", "arch": "vit", "local_crops": 0},
    "random #0": {"family": "control", "objective": None, "arch": "vit"},
    "pixels": {"family": "control", "objective": None, "arch": None},
}
STUDIED, CONTROLS = ("mae", "moco", "dino", "dino 2"), ("random #0", "pixels")
MODELS = make_models(STUDIED, CONTROLS, ABOUT)
LOW = {"random #0": 0.05, "pixels": 0.02}


def frozen(**levels: float | dict[str, float]) -> Results:
    named = {name.replace("_", " "): level for name, level in levels.items()}
    return compute("detection-frozen", Given(MODELS, {"detections": make_detectors(named | LOW)}))


def judge(claim: str, analysis: str, results: Results) -> Verdict:
    (verdict,) = plugin("claims", claim).judge({analysis: results})
    assert isinstance(verdict, Verdict)
    return verdict


# ------------------------------------------------------------------------------------------------
# tables


def test_each_model_is_held_against_its_random_initialisation() -> None:
    rows = frozen(mae=0.3, moco=0.4)["models"]
    own = rows[(rows.model == "mae") & (rows.kind == "box") & (rows.measure == "AP")].iloc[0]
    assert (own.ap, own.less) == (0.3, "random #0")
    assert own.difference == pytest.approx(0.25)
    assert own.difference_low < 0.25 < own.difference_high
    # what all models share cancels: the paired interval is much narrower than the model's own
    assert own.difference_high - own.difference_low < 0.3 * (own.high - own.low)
    assert (rows[rows.control].less == "").all()


def test_sides_are_means_over_objectives() -> None:
    results = frozen(mae=0.3, moco=0.4, dino=0.5, dino_2=0.2)
    rows = results["families"]
    own = rows[(rows.kind == "mask") & (rows.measure == "AP75")].set_index("less")
    # JE: moco 0.4, and dino the mean of its two trainings, 0.35
    assert own.difference["JE"] == pytest.approx(0.3 - (0.4 + 0.35) / 2)
    assert own.difference[SINGLE] == pytest.approx(0.3 - (0.4 + 0.2) / 2)
    assert own.difference[MULTI] == pytest.approx(0.3 - 0.5)
    assert read_sides(own.members[SINGLE])[SINGLE] == ("moco", "dino 2")
    crops = results["multi-crop"]
    assert crops.difference.unique() == pytest.approx([0.3])
    assert "published" not in results


def test_on_coco_the_published_numbers_stand_beside() -> None:
    models = ("mae", "dino", "dino 2")
    given = make_detectors(dict.fromkeys(models, 0.3) | LOW, coco=True)
    results = compute("detection-frozen", Given(MODELS, {"detections": given}))
    rows = results["published"]
    assert len(rows) == 3 * 6
    own = rows[(rows.model == "dino 2") & (rows.kind == "mask") & (rows.measure == "AP small")]
    assert own.published.item() == pytest.approx(0.1299)
    assert own.difference.item() == pytest.approx(0.3 - 0.1299)
    table = draw("detection-frozen", results).panels[0][0]
    assert isinstance(table, Heatmap)
    assert table.rows[0] == "the paper's dino, beside dino 2"  # at the bottom
    assert table.values[0].tolist() == pytest.approx([29.97, 40.82, 17.55, 28.16, 42.53, 12.99])
    said = write("detection-frozen", results)
    assert any("the paper's mae 30.2%" in sentence for sentence in said)
    assert said[1].endswith(f"; sizes of objects: {given.sizes}.")


def test_the_papers_tables_are_as_printed() -> None:
    assert FROZEN["mae", False][2] == 18.69
    assert FROZEN["dino", False] == (29.97, 40.82, 17.55, 28.16, 42.53, 12.99)
    assert TUNED["moco-v3", False][1] == 64.83
    assert np.isnan(TUNED["dino", True][3])  # 30.04 beside 60.03 is a misprint


@pytest.mark.parametrize(
    ("about", "uses"),
    [
        (About("JE", "dino"), True),
        (About("JE", "msn"), True),
        (About("JE", "moco-v3"), False),
        (About("REC", "mae"), False),
        (About("JE", "dino", more={"local_crops": 0}), False),
        (About("JE", "dino", card="scenes_dino_two_crops"), False),
    ],
)
def test_multicrop_is_known(about: About, uses: bool) -> None:
    assert uses_multicrop(about) is uses


# ------------------------------------------------------------------------------------------------
# pictures


def test_objects_are_paired_as_by_hand() -> None:
    objects = scenes().take([0]).objects
    x, y, width, height = objects.bbox[0].tolist()
    box = [x, y, x + width, y + height]
    label = int(objects.labels[0])
    near = [x + 1, y, x + width, y + height]
    boxes = np.array([box, near, box, box, [0, 0, 1, 1]], np.float32)
    scores = np.array([0.6, 0.9, 0.4, 0.8, 0.7], np.float32)
    labels = np.array([label, label, label, (label + 1) % 10, label])
    right, f1 = pair_objects(Found(np.zeros(5, np.int64), boxes, scores, labels), objects)
    # the second has the highest score of those that overlap; the third's score is too low to count
    assert right.tolist() == [-1, 0, -1, -1, -1]
    assert f1[0] == pytest.approx(2 * 1 / (4 + len(objects.labels)))


def test_detections_that_are_the_objects_are_all_right() -> None:
    images = scenes()
    found = find_near(images, 1.1, seed=0)
    right, f1 = pair_objects(found, images.objects)
    counted = found.scores >= 0.5
    assert (right[counted] >= 0).all()
    assert (right[~counted] == -1).all()
    assert ((f1 > 0) | ~np.isin(np.arange(30), found.image[counted])).all()


def test_pictures_are_the_same_for_all_models_best_first() -> None:
    results = frozen(mae=0.3, moco=0.6)
    pictures = results["pictures"]
    assert pictures.place.tolist() == ["best"] * EACH + ["worst"] * EACH
    assert pictures.f1[:EACH].min() > pictures.f1[EACH:].max()
    outlines = results["outlines"]
    truth = outlines[outlines.outline == "object"]
    assert set(truth.image) == set(pictures.image)
    assert (outlines[outlines.outline != "object"].score >= 0.5).all()
    figure = draw("detection-frozen", results)
    assert isinstance(figure.panels[0][0], Heatmap)
    rows = figure.panels[1:]
    assert len(rows) == 4  # two models, two controls
    assert {len(row) for row in rows} == {2 * EACH}
    panels = [panel for row in rows for panel in row if isinstance(panel, Picture)]
    assert len(panels) == 8 * EACH
    titles = [panel.title for panel in panels if panel.title]
    assert titles[:3] == ["mae, best images", "worst images", "moco, best images"]
    drawn = [outline.name for outline in panels[0].outlines]
    objects = int((truth.image == pictures.image[0]).sum())
    assert drawn[:objects] == ["object"] * objects  # below what the model detects
    assert set(drawn[objects:]) <= {"detected", "detected wrongly"}
    np.testing.assert_array_equal(panels[0].pixels, panels[2 * EACH].pixels)


# ------------------------------------------------------------------------------------------------
# claims


def by_size(small: float, large: float) -> dict[str, float]:
    return {"AP": 0.3, "AP small": small, "AP large": large}


@pytest.mark.parametrize(
    ("mae", "moco", "outcome"),
    [
        (by_size(0.2, 0.4), by_size(0.15, 0.45), "holds"),
        (by_size(0.15, 0.45), by_size(0.2, 0.4), "contradicted"),
        (by_size(0.2, 0.45), by_size(0.15, 0.4), "in part"),
        (by_size(0.2, 0.4), by_size(0.2, 0.4), "the same"),
    ],
)
def test_c12(mae: dict[str, float], moco: dict[str, float], outcome: str) -> None:
    verdict = judge("c12", "detection-frozen", frozen(mae=mae, moco=moco, dino=by_size(0.3, 0.5)))
    assert verdict.outcome == outcome
    assert verdict.scope == ("in these models")
    assert verdict.members == {"REC": ("mae",), SINGLE: ("moco",)}
    assert len(verdict.parts) == 4
    assert len(verdict.controls) == 2  # the same from JE with multi-crop


def test_with_boxes_alone_nothing_is_said_of_masks() -> None:
    levels = {"mae": by_size(0.2, 0.4), "moco": by_size(0.15, 0.45), **LOW}
    detectors = make_detectors(levels)
    for one in detectors.detectors.values():
        one.numbers.value[1] = one.numbers.draws[1] = np.nan
    results = compute("detection-frozen", Given(MODELS, {"detections": detectors}))
    for name in ("models", "families", "pairs"):
        assert {*results[name].kind} == {"box"}
    verdict = judge("c12", "detection-frozen", results)
    assert (verdict.outcome, len(verdict.parts)) == ("holds", 2)
    assert "nan" not in write_claim("c12", [verdict])
    assert "nan" not in " ".join(write("detection-frozen", results))
    table = draw("detection-frozen", results).panels[0][0]
    assert isinstance(table, Heatmap)
    assert all(label.startswith("box ") for label in table.columns)


def test_the_best_model_is_held_against_raw_pixels() -> None:
    detectors = make_detectors({"mae": 0.3, "moco": 0.2, "random #0": 0.05, "pixels": 0.6})
    results = compute("detection-frozen", Given(MODELS, {"detections": detectors}))
    answer = next(places.write_places({"detection-frozen": results}))
    assert (answer.word, answer.names) == ("pixels win", "mae")
    assert "-30.0 points [" in answer.effect
    assert "over raw pixels" in answer.effect
    shown = next(places.write_places({"detection-frozen": frozen(mae=0.3, moco=0.2)}))
    assert (shown.word, shown.names) == ("30.0%", "mae")


def test_c12_needs_models_without_multicrop() -> None:
    verdict = judge("c12", "detection-frozen", frozen(mae=0.3, dino=0.4))
    assert verdict.outcome == "not run"


@pytest.mark.parametrize(
    ("with_crops", "without", "outcome"),
    [(0.4, 0.3, "holds"), (0.3, 0.3, "holds"), (0.3, 0.4, "contradicted")],
)
def test_c17(with_crops: float, without: float, outcome: str) -> None:
    results = frozen(mae=0.3, dino=with_crops, dino_2=without)
    assert judge("c17", "detection-frozen", results).outcome == outcome
    assert judge("c17", "detection-frozen", frozen(mae=0.3, dino=0.4)).outcome == "not run"


def test_a_claim_of_unfinished_detectors_says_so() -> None:
    results = frozen(mae=0.3, dino=0.4, dino_2=0.35)
    results["trainings-made"]["gained"] = 0.2
    verdict = judge("c17", "detection-frozen", results)
    assert verdict.caveats == ("with detectors that ended while they still gained more than this",)
    assert "still gained" in write_claim("Words.", [verdict])
    results["trainings-made"]["gained"] = 0.01
    rows = results["models"]
    assert not judge("c17", "detection-frozen", results).caveats
    rows.loc[rows.model == "random #0", "model"] = "pixels"
    rows.loc[rows.model == "pixels", "ap"] = 0.5
    (caveat,) = judge("c17", "detection-frozen", results).caveats
    assert caveat == "of networks that all detect less than raw pixels do"


def tuned(before: dict[str, float], after: dict[str, float]) -> Results:
    sides = [
        make_detectors(
            {name: {"AP": 0.3, "AP large": level} for name, level in levels.items()} | more,
            seed=0,
        )
        for levels, more in ((before, LOW), (after, {"random #0": 0.1}))
    ]
    values = {"detections": sides[0], "finetuned": sides[1]}
    return compute("detection-finetuned", Given(MODELS, values))


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        ({"mae": 0.3, "moco": 0.4}, {"mae": 0.6, "moco": 0.55}, "holds"),
        ({"mae": 0.3, "moco": 0.4}, {"mae": 0.5, "moco": 0.6}, "in part"),
        ({"mae": 0.5, "moco": 0.4}, {"mae": 0.5, "moco": 0.6}, "contradicted"),
    ],
)
def test_c16(before: dict[str, float], after: dict[str, float], outcome: str) -> None:
    results = tuned(before, after)
    verdict = judge("c16", "detection-finetuned", results)
    if outcome == "in part":  # behind before, still behind after, with the same gap
        assert verdict.outcome in ("in part", "undecided")
    else:
        assert verdict.outcome == outcome
    (row,) = (
        results["changes"]
        .query("kind == 'box' and measure == 'AP large' and less == 'JE'")
        .to_dict("records")
    )
    assert row["before"] == pytest.approx(before["mae"] - before["moco"])
    assert row["difference"] == pytest.approx(row["after"] - row["before"])


def layers(last: dict[str, float], several: dict[str, float]) -> Results:
    values = {
        "detections": make_detectors(last | LOW),
        "joined": make_detectors(several | {"random #0": 0.05}),
    }
    return compute("detection-layers", Given(MODELS, values))


@pytest.mark.parametrize(
    ("several", "outcome"),
    [
        ({"mae": 0.35, "moco": 0.45}, "holds"),
        ({"mae": 0.35, "moco": 0.4005}, "in part"),
        ({"mae": 0.25, "moco": 0.35}, "contradicted"),
    ],
)
def test_c15(several: dict[str, float], outcome: str) -> None:
    results = layers({"mae": 0.3, "moco": 0.4}, several)
    verdict = judge("c15", "detection-layers", results)
    assert verdict.outcome == outcome
    assert [control.difference.value for control in verdict.controls] == pytest.approx([0.0])
    assert results["gains"].model.unique().tolist() == ["mae", "moco", "random #0"]


def test_without_masks_their_numbers_are_not_there() -> None:
    made = make_detectors({"mae": by_size(0.5, 0.2), "moco": by_size(0.2, 0.5)} | LOW)
    for name, one in made.detectors.items():
        value, draws = one.numbers.value.copy(), one.numbers.draws.copy()
        value[1], draws[1] = np.nan, np.nan
        numbers = replace(one.numbers, value=value, draws=draws)
        made.detectors[name] = replace(one, numbers=numbers)  # type: ignore[index]
    results = compute("detection-frozen", Given(MODELS, {"detections": made}))
    said = write("detection-frozen", results)
    assert "Mask AP is not there: the objects that train or judge have boxes alone." in said
    assert "nan" not in " ".join(said)
    rows = results["models"]
    assert rows[rows.kind == "box"].ap.notna().all()
    assert rows[rows.kind == "mask"].ap.isna().all()
    assert isinstance(draw("detection-frozen", results).panels[0][0], Heatmap)
    verdict = judge("c12", "detection-frozen", results)
    assert verdict.outcome != "not run"
    assert "nan" not in str(verdict.why)


def test_a_number_that_no_draw_changes_has_no_interval() -> None:
    made = make_detectors({"mae": 0.3} | LOW)
    one = made.detectors["mae"]
    numbers = replace(one.numbers, value=one.numbers.value * 0, draws=one.numbers.draws * 0)
    read = read_number(numbers, "box", "AP")
    assert (read.value, np.isnan(read.low), np.isnan(read.high)) == (0.0, True, True)
    assert read_number(one.numbers, "box", "AP").low < 0.3


def test_words_name_models_and_points() -> None:
    said = write("detection-frozen", frozen(mae=0.3, moco=0.4))
    assert said[0].startswith("Box AP, frozen: moco 40.0% [")
    assert "] is the highest of 2 models, beside random #0 5.0% [" in said[0]
    assert said[1].startswith("Box AP, frozen, held against random #0: ")
    assert "mae 30.0%" in said[1]
    assert "], more than it (+25.0 points" in said[1]
    assert "pixels, a control, 2.0%" in said[1]
    (sides,) = (sentence for sentence in said if "REC against JE without multi-crop" in sentence)
    assert "on all objects less than it (-10.0 points" in sides
    assert sides.count("in these models") == 1
    assert levels_of(["a", "b"])["b"] == pytest.approx(0.35)


def test_nothing_learned_is_said_and_nothing_else() -> None:
    given = make_detectors(dict.fromkeys(("mae", "moco", *CONTROLS), 0.001))
    results = compute("detection-frozen", Given(MODELS, {"detections": given}))
    said = write("detection-frozen", results)
    assert len(said) == 1
    assert said[0].startswith("No detector has learned to find objects")


@pytest.mark.parametrize(
    ("pixels", "begins"),
    [
        (0.35, ""),
        (0.3, "No model is shown to beat raw pixels by box AP, frozen: moco, the nearest, has +0"),
        (0.4, "Raw pixels beat every model by box AP, frozen: moco, the nearest, has -10.0 points"),
    ],
)
def test_raw_pixels_that_no_model_beats_are_said(pixels: float, begins: str) -> None:
    levels = {"mae": 0.2, "moco": 0.4 if pixels == 0.35 else 0.3, "random #0": 0.1}
    given = make_detectors(levels | {"pixels": pixels})
    results = compute("detection-frozen", Given(MODELS, {"detections": given}))
    results["trainings-made"]["gained"] = 0.0
    warning = places.write_warning({"detection-frozen": results})
    assert warning.startswith(begins)
    assert bool(warning) == bool(begins)
    untrained = Results(
        {"models": results.tables["models"]} | {"trainings-made": results.tables["trainings-made"]}
    )
    assert places.write_warning({"detection-finetuned": untrained}) == ""
    table = untrained["models"]
    table.loc[table.less == "random #0", ["difference", "difference_low", "difference_high"]] = [
        -0.02,
        -0.03,
        -0.01,
    ]
    said = places.write_warning({"detection-finetuned": untrained})
    assert said.startswith("random #0 beats every model by box AP, trained end to end: ")
    assert said.endswith("the nearest, has -2.0 points [-3.0, -1.0] over it.")
    both = places.write_warning({"detection-frozen": results})  # whose table was changed above
    too = " too" if begins.startswith("Raw") else ""
    assert not both or both.endswith(f"over them; random #0 beats every model{too}.")
    rows = results["pairs"]
    row = rows[(rows.model == "mae") & (rows.less == "pixels") & (rows.measure == "AP small")]
    assert row.difference.iloc[0] == pytest.approx(0.2 - pixels, abs=1e-3)


def test_trainings_that_were_too_short_are_said() -> None:
    results = frozen(mae=0.3, moco=0.4)
    made = results["trainings-made"]
    made["gained"] = [0.051, 0.0862, 0.3, 0.3]
    warning = places.write_warning({"detection-frozen": results})
    assert warning == (
        "The detectors were still learning: over the last quarter of the steps box AP rose by 5.1"
        " to 8.6 points, most that of moco. Longer trainings may change these numbers."
    )
    assert write("detection-frozen", results)[-1] == warning
    made["gained"] = [0.004, 0.051, 0.3, 0.3]  # of the controls nothing is said
    said = places.write_warning({"detection-layers": results})
    assert said.startswith("A detector was still learning")
    assert "box AP of moco rose by 5.1 points" in said
    made["gained"] = 0.005
    assert places.write_warning({"detection-frozen": results}) == ""


def test_no_picture_is_both_best_and_worst() -> None:
    objects = scenes().objects
    count = len(objects.sizes)
    alike = choose_images(np.zeros(count), objects)
    assert [place for _, place in alike] == ["alike"] * EACH
    few = np.zeros(count)
    few[0] = 0.5
    chosen = [row for row, _ in choose_images(few, objects)]
    assert len(set(chosen)) == len(chosen) == 2 * EACH
