"""The CKA exhibits on features whose family resemblances were built in: the verdicts come out
right, or undecided."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t

from given import Given, compute, draw, excuse, make_models, write
from sslens.capture import Grams
from sslens.comparisons import compared as _compared
from sslens.comparisons import pairs as _pairs
from sslens.comparisons.inputs import Models
from sslens.comparisons.tuned import describe_match, match_origins
from sslens.figure import Heatmap
from sslens.find import names, plugin
from sslens.measures import wants_pixels
from sslens.measures.cka import Comparison, minibatch_cka
from sslens.models.about import About
from sslens.models.taps import Tap
from sslens.report.writing.left_over import write_left
from sslens.statistics.estimate import Estimate
from sslens.statistics.trainings import estimate_over_trainings
from sslens.table import Results, Table

IMAGES, BATCH, BLOCKS = 240, 24, 6
IDS = tuple(f"{i:03d}.png" for i in range(IMAGES))
#: what images have in common with each other, by what a model may see of them
LATENT = {
    name: np.random.default_rng(i).standard_normal((IMAGES, 5))
    for i, name in enumerate(["any", "je", "rec"])
}
ABOUT: dict[str, dict[str, Any]] = {
    "dino": {"family": "JE", "objective": "dino", "arch": "vit"},
    "moco": {"family": "JE", "objective": "moco-v3", "arch": "vit"},
    "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
    "msn": {"family": "JE", "objective": "msn", "arch": "vit"},
    "mae-ft": {"family": "REC", "objective": "mae", "arch": "vit", "tuned": "fine-tuned"},
    "moco-ft": {"family": "JE", "objective": "moco-v3", "arch": "vit", "tuned": "fine-tuned"},
    "dino-cnn": {"family": "JE", "objective": "dino", "arch": "resnet50", "network": "cnn"},
    "fcmae-cnn": {
        "family": "REC",
        "objective": "fcmae",
        "arch": "convnextv2_base",
        "network": "cnn",
    },
    "random #0": {"family": "control", "objective": None, "arch": "vit"},
    "random #1": {"family": "control", "objective": None, "arch": "vit"},
    "random-ft": {"family": "control", "objective": None, "arch": "vit", "tuned": "fine-tuned"},
}
#: of the blocks at 1/6 … 1 the nearest to each of those at 1/9 … 1
NEAREST = [0, 0, 1, 2, 2, 3, 4, 4, 5]
SEES = {"JE": "je", "REC": "rec", "control": None}


@pytest.fixture(autouse=True, scope="module")
def _few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compared, "PERMUTATIONS", 20)
        yield


def taps_of(name: str) -> list[Tap]:
    """Blocks, and in transformers their norm1, qkv and fc1; the CNNs have half as many blocks
    more."""
    if "cnn" in name:
        return [Tap(f"layer1.{i}", "block", (i + 1) / 9) for i in range(9)]
    inside = {"norm1": ".norm1", "qkv": ".attn.qkv", "fc1": ".mlp.fc1", "block": ""}
    return [
        Tap(f"blocks.{i}{end}", kind, (i + 1) / BLOCKS)
        for i in range(BLOCKS)
        for kind, end in inside.items()
    ]


def seen(name: str, tap: Tap, *, noise: bool) -> torch.Tensor:
    """Features of a tap: what all models see of the images, early and in fc1; what their family
    sees, late; and noise."""
    rng = np.random.default_rng(sum(f"{name}{tap.name}".encode()))
    family = SEES[ABOUT[name]["family"]]
    if ABOUT[name].get("tuned"):
        family = "je"  # fine-tuning on classes makes all alike
    own = 0.0 if tap.kind == "fc1" or family is None else tap.depth
    latent = np.concatenate([(1 - own) * LATENT["any"], own * LATENT[family or "any"]], 1)
    drawn = rng.standard_normal((IMAGES, 12))
    return torch.from_numpy(
        drawn if noise else latent @ rng.standard_normal((10, 12)) + 0.8 * drawn
    ).float()


@functools.cache
def grams(name: str, noise: bool, tokens: str = "all", batch: int = BATCH) -> Grams:
    taps = taps_of(name)
    given = [seen(name, tap, noise=noise) for tap in taps]
    made = Grams.of_features(given, ids=IDS, sizes=np.full(IMAGES // batch, batch))
    return replace(made, model=name, taps=tuple(taps))


def inputs(
    models: Sequence[str],
    *,
    noise: bool = False,
    controls: Sequence[str] = ("random #0", "random #1"),
) -> Given:
    names = [*models, *controls]
    values = {
        "grams": {"all": {name: grams(name, noise) for name in names}},
        "wide": {name: grams(name, noise, batch=IMAGES) for name in names},
    }
    return Given(make_models(models, controls, ABOUT), values)


def computed(
    name: str, models: Sequence[str], *, noise: bool = False, **options: Any
) -> tuple[Results, str]:
    """The results of an analysis, and what is said of them as one text."""
    results = compute(name, inputs(models, noise=noise, **options))
    assert draw(name, results).name == name
    return results, " ".join(write(name, results))


def change_about(models: Models, change: Callable[[str, About], About]) -> Models:
    """The same models, of which something else is known."""
    return Models(tuple(replace(model, about=change(model.name, model.about)) for model in models))


def only(frame: pd.DataFrame, **values: Any) -> Any:
    """The one row of a table with these values."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    (row,) = frame.itertuples()
    return row


def cka_of(a: str, b: str, kind: str = "block", *, noise: bool = False) -> np.ndarray:
    return minibatch_cka(grams(a, noise).at(kind), grams(b, noise).at(kind))


def mean(a: str, b: str, kind: str = "block", *, noise: bool = False) -> float:
    """The mean CKA at the same depth of two transformers: the diagonal."""
    return float(cka_of(a, b, kind, noise=noise).diagonal().mean())


def left_out(pairs: Sequence[tuple[str, str]], kind: str = "block") -> np.ndarray:
    """The mean over pairs of models of their mean CKA at the same depth: first of all minibatches,
    then without each of them."""
    count = IMAGES // BATCH
    weights = torch.ones(1 + count, count, dtype=torch.float64)
    weights[1:].fill_diagonal_(0)
    compared = [Comparison.of(grams(a, False).at(kind), grams(b, False).at(kind)) for a, b in pairs]
    return np.array(
        [np.mean([each.cka(row).diagonal().mean() for each in compared]) for row in weights]
    )


def ends_of(values: np.ndarray) -> tuple[float, float]:
    """The jackknife's interval with t of one degree fewer than there are minibatches."""
    n = len(values) - 1
    error = ((n - 1) / n * ((values[1:] - values[1:].mean()) ** 2).sum()) ** 0.5
    half = float(t.ppf(0.975, n - 1) * error)
    return values[0] - half, values[0] + half


def about(ends: Sequence[float]) -> Any:
    """An interval up to 8 % of its width: minibatches of unequal size have fewer degrees."""
    return pytest.approx(tuple(ends), abs=0.08 * abs(ends[1] - ends[0]))


# ------------------------------------------------------------------------------------------------
# cka-blocks


PAPER = ["dino", "moco", "mae"]


def test_difference_to_the_control_is_paired() -> None:
    results, _ = computed("cka-blocks", PAPER)
    row = only(results["means"], model_a="dino", model_b="mae")
    assert row.less == "random #0 · random #1"
    assert row.difference == pytest.approx(
        mean("dino", "mae") - mean("random #0", "random #1"), abs=1e-12
    )
    draws = left_out([("dino", "mae")]) - left_out([("random #0", "random #1")])
    assert (row.difference_low, row.difference_high) == about(ends_of(draws))


def test_joint_embedding_is_more_alike_than_with_reconstruction() -> None:
    """Claim C1, with both numbers and the paired interval computed here again."""
    results, said = computed("cka-blocks", PAPER)
    row = only(results["families"], model_b="JE")
    across = [("dino", "mae"), ("moco", "mae")]
    assert (row.pairs, row.less, row.members) == (1, "JE · REC", "JE: dino and moco; REC: mae")
    assert row.cka == pytest.approx(mean("dino", "moco"), abs=1e-12)
    assert row.difference == pytest.approx(
        mean("dino", "moco") - np.mean([mean(a, b) for a, b in across]), abs=1e-12
    )
    draws = left_out([("dino", "moco")]) - left_out(across)
    assert (row.difference_low, row.difference_high) == about(ends_of(draws))
    whole = only(results["families-all-pairs"], model_b="JE")
    assert whole.cka == pytest.approx(cka_of("dino", "moco").mean(), abs=1e-12)
    assert "families-ceilings" not in results  # of no objective are there two trainings
    members = results["family-members"]
    assert members.groupby("family").model.apply(list).to_dict() == {
        "JE": ["dino", "moco"],
        "REC": ["mae"],
    }
    assert "more than JE with REC at 0." in said
    assert "in these models; more from relative depth" in said


@pytest.mark.parametrize("second", ["dino", "mae"])
def test_the_ceiling_of_a_family_is_of_its_own_objectives(second: str) -> None:
    """MSN stands for a second training: of MAE it is no ceiling of JE with JE."""
    given = inputs([*PAPER, "msn"])
    family = "REC" if second == "mae" else "JE"
    models = change_about(
        given.models,
        lambda name, about: (
            replace(about, family=family, objective=second) if name == "msn" else about
        ),
    )
    results = compute("cka-blocks", given.but(models=models))
    rows = results["families-ceilings"]
    less = ["JE · REC"] if second == "mae" else ["JE · JE", "JE · REC"]
    assert rows.less.tolist() == less
    assert set(rows.model_a) == {second}
    assert rows.cka.tolist() == pytest.approx([mean(second, "msn")] * len(less), abs=1e-12)
    (verdict,) = plugin("claims", "c1").judge({"cka-blocks": results})
    ceilings = [one for one in verdict.controls if "trainings" in one.a]
    assert [one.a for one in ceilings] == [f"two trainings of {second}"] * len(less)
    assert [one.b for one in ceilings] == less


def test_two_trainings_of_each_objective_give_an_interval_over_trainings() -> None:
    """By hand: with one training of an objective in its place, the means that it changes."""
    given = inputs([*PAPER, "msn"])
    as_ = {"dino": ("JE", "dino"), "moco": ("JE", "dino"), "mae": ("REC", "mae")}
    as_["msn"] = ("REC", "mae")
    models = change_about(
        given.models,
        lambda name, about: (
            replace(about, family=as_[name][0], objective=as_[name][1]) if name in as_ else about
        ),
    )
    je, rec = ("dino", "moco"), ("mae", "msn")
    results = compute("cka-layer-types", given.but(models=models))
    assert "families" not in results  # two trainings of one objective are no pair of the family
    for less in ("norm1", "qkv"):
        row = only(results["families-types"], kind="fc1", less=less, model_b="REC")
        pairs = np.array([[mean(a, b, "fc1") - mean(a, b, less) for b in rec] for a in je])
        alone = {"JE": {"dino": list(pairs.mean(1))}, "REC": {"mae": list(pairs.mean(0))}}
        draws = np.array(
            [
                left_out([(a, b)], "fc1") - left_out([(a, b)], less)
                for a, b in itertools.product(je, rec)
            ]
        ).mean(0)
        low, high = ends_of(draws)
        images = Estimate(pairs.mean(), low, high, "minibatches", IMAGES // BATCH)
        expected = estimate_over_trainings(images, alone, together=row.together)
        assert (row.trainings, expected.n) == (2, 2)
        assert (row.trainings_low, row.trainings_high) == about((expected.low, expected.high))


def test_the_families_part_where_they_were_made_to() -> None:
    """Claim C2: features of depth d are (1 - d) shared and d the family's, so that the first block
    tells no difference."""
    results, said = computed("cka-blocks", PAPER)
    points = results["families-by-depth"]
    points = points[points.model_b == "JE"]
    np.testing.assert_allclose(points.depth, np.arange(1, 7) / 6)
    np.testing.assert_allclose(points.cka, cka_of("dino", "moco").diagonal(), atol=1e-12)
    assert set(points.together) == {6}
    apart = points.difference_low > 0
    assert apart.tolist() == [False, False, True, True, True, True]
    assert "from relative depth 0.50 on" in said


def test_noise_decides_nothing() -> None:
    for name, models in (
        ("cka-blocks", PAPER),
        ("cka-layer-types", PAPER),
        ("cka-msn", [*PAPER, "msn"]),
        ("cka-finetune", ["moco", "mae", "mae-ft"]),
        ("cka-distance", ["dino", "dino-cnn", "mae"]),
    ):
        _, said = computed(name, models, noise=True)
        assert any(words in said for words in ("not decided", "the same as")), name
        for claim in (
            "more alike",
            "less alike",
            "more than",
            "less than",
            "nearer to JE:",
            "decides more",
            "rises",
        ):
            assert claim not in said, (name, said)


def test_few_minibatches_decide_nothing() -> None:
    """The same features in four minibatches: intervals far from 0, and no verdict."""
    few = {name: grams(name, False, batch=60) for name in [*PAPER, "random #0", "random #1"]}
    given = inputs(PAPER).but(grams={"all": few})
    for name in ("cka-blocks", "cka-layer-types"):
        said = " ".join(write(name, compute(name, given)))
        assert "4 minibatches, which are too few" in said
        assert "more alike" not in said
        assert "more than" not in said


def test_an_unrelated_pair_stays_under_the_threshold_of_permuted_images() -> None:
    alike = computed("cka-blocks", PAPER)[0]["cells"]
    noise = computed("cka-blocks", PAPER, noise=True)[0]["cells"]
    for found, pair in ((alike, ("dino", "moco")), (noise, ("dino", "mae"))):
        cells = _pairs.select_pair(found, *pair, "all")
        assert cells.threshold.nunique() == 1
        assert ((cells.cka > cells.threshold) == (cells.p <= 0.05)).all()
    cells = _pairs.select_pair(alike, "dino", "moco", "all")
    assert (
        cells.p[cells.tap_a == cells.tap_b] == 1 / 21
    ).all()  # no one of 20 permutations reaches it
    unrelated = _pairs.select_pair(noise, "dino", "mae", "all")
    assert (unrelated.p > 0.05).all()
    assert alike[alike.control].p.isna().all()


def test_a_cnn_is_in_no_family_of_transformers() -> None:
    with_cnn, _ = computed("cka-blocks", [*PAPER, "dino-cnn"])
    without, _ = computed("cka-blocks", PAPER)
    for results in (with_cnn, without):
        assert only(results["families"], model_b="JE").members == "JE: dino and moco; REC: mae"
    pair = only(with_cnn["means"], model_a="dino", model_b="dino-cnn")
    cells = cka_of("dino", "dino-cnn")
    assert pair.cka == pytest.approx(cells[NEAREST, np.arange(9)].mean(), abs=1e-12)


# ------------------------------------------------------------------------------------------------
# cka-layer-types


def test_fc1_is_alike_where_attention_and_normalisation_are_not() -> None:
    """Claim C3."""
    results, said = computed("cka-layer-types", PAPER)
    across = [("dino", "mae"), ("moco", "mae")]
    for less in ("norm1", "qkv"):
        row = only(results["families-types"], kind="fc1", less=less, model_b="REC")
        expected = np.mean([mean(a, b, "fc1") - mean(a, b, less) for a, b in across])
        assert row.difference == pytest.approx(expected, abs=1e-12)
        draws = left_out(across, "fc1") - left_out(across, less)
        low, high = ends_of(draws)
        assert (
            row.difference_low < low < row.difference < high < row.difference_high
        )  # it holds for three at once
        assert row.together == 3
    assert "more alike in fc1 than in normalisation (norm1)" in said
    assert "more alike in fc1 than in attention (qkv)" in said


# ------------------------------------------------------------------------------------------------
# cka-distance


def test_objective_outweighs_architecture() -> None:
    """Claim C4, for both families."""
    results, said = computed("cka-distance", [*PAPER, "dino-cnn", "fcmae-cnn"])
    row = only(results["objective"], family="REC")
    inside = cka_of("mae", "fcmae-cnn")[NEAREST, np.arange(9)].mean()
    assert row.cka == pytest.approx(inside, abs=1e-12)
    assert row.difference == pytest.approx(
        inside - np.mean([mean("dino", "mae"), mean("moco", "mae")]), abs=1e-12
    )
    assert said.count("the objective decides more than the architecture") == 2
    for family, one, cnn in (("JE", "dino", "dino-cnn"), ("REC", "mae", "fcmae-cnn")):
        names = said.partition(f"{family} (")[2].partition(")")[0]
        assert one in names
        assert cnn in names
        assert {"JE": "mae", "REC": "dino"}[family] not in names


def test_the_architecture_may_decide_instead() -> None:
    """A CNN that sees nothing of what transformers see: its own objective does not help it."""
    given = inputs([*PAPER, "dino-cnn"])
    blind = given.values["grams"]["all"] | {"dino-cnn": grams("dino-cnn", True)}
    results = compute("cka-distance", given.but(grams={"all": blind}))
    said = " ".join(write("cka-distance", results))
    assert "the architecture decides more than the objective" in said


def test_distances_are_those_of_relative_depths() -> None:
    curves = computed("cka-distance", ["dino", "moco"])[0]["curves"]
    curve = curves[curves.unit == "depth"]
    cells = cka_of("dino", "moco")
    # |i - j|/6 = 0, 0.17, 0.33, 0.5, 0.67, 0.83 in steps of 0.1: 0.5 on the edge of no step
    np.testing.assert_allclose(curve.distance, [0.0, 0.2, 0.3, 0.5, 0.7, 0.8])
    assert curve.cells.tolist() == [6, 10, 8, 6, 4, 2]
    offset = [np.concatenate([cells.diagonal(k), cells.diagonal(-k)]).mean() for k in range(6)]
    np.testing.assert_allclose(curve.cka, offset, atol=1e-12)
    layers = curves[curves.unit == "layers"]
    assert layers.distance.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(layers.cka, offset, atol=1e-12)


def test_distances_in_layers_count_the_blocks_of_each_model() -> None:
    results = computed("cka-distance", ["dino", "dino-cnn"])[0]
    layers = results["curves"]
    layers = layers[layers.unit == "layers"]
    cells = cka_of("dino", "dino-cnn")  # 6 × 9
    apart = np.abs(np.arange(6)[:, None] - np.arange(9)[None])
    assert layers.distance.tolist() == list(range(9))
    assert layers.cells.tolist() == [(apart == d).sum() for d in range(9)]
    np.testing.assert_allclose(layers.cka, [cells[apart == d].mean() for d in range(9)], atol=1e-12)


def test_slopes_over_distance_are_those_of_least_squares() -> None:
    """Claim C20: each slope by numpy's polynomial fit, and the difference of the families'."""
    results, said = computed("cka-distance", [*PAPER, "dino-cnn", "fcmae-cnn"])
    slopes = {}
    for a, b in (("mae", "fcmae-cnn"), ("dino", "mae"), ("moco", "mae")):
        rows, columns = (
            np.array([tap.depth for tap in taps_of(n) if tap.kind == "block"]) for n in (a, b)
        )
        for unit, apart in {
            "depth": np.abs(rows[:, None] - columns[None]),
            "layers": np.abs(np.arange(len(rows))[:, None] - np.arange(len(columns))[None]),
        }.items():
            slope = np.polyfit(apart.ravel(), cka_of(a, b).ravel(), 1)[0]
            row = only(results["slopes"], model_a=a, model_b=b, unit=unit)
            assert row.slope == pytest.approx(slope, abs=1e-12)
            assert row.low < row.slope < row.high
            slopes[a, b, unit] = slope
    row = only(results["slope-differences"], family="REC", unit="depth")
    across = [slopes[name, "mae", "depth"] for name in ("dino", "moco")]
    expected = slopes["mae", "fcmae-cnn", "depth"] - np.mean(across)
    assert row.difference == pytest.approx(expected, abs=1e-12)
    assert "with distance" in said


# ------------------------------------------------------------------------------------------------
# cka-msn


def test_msn_is_nearer_to_joint_embedding() -> None:
    """Claim C13."""
    results, said = computed("cka-msn", [*PAPER, "msn"])
    row = only(results["families"], model_b="JE")
    near, far = [("dino", "msn"), ("moco", "msn")], [("mae", "msn")]
    expected = np.mean([mean(a, b) for a, b in near]) - mean("mae", "msn")
    assert row.difference == pytest.approx(expected, abs=1e-12)
    draws = left_out(near) - left_out(far)
    assert (row.difference_low, row.difference_high) == about(ends_of(draws))
    assert "it is nearer to JE" in said


def test_msn_that_resembles_reconstruction_is_said_to() -> None:
    given = inputs([*PAPER, "msn"])
    families = {"dino": "REC", "moco": "REC", "mae": "JE"}
    turned = change_about(
        given.models, lambda name, about: replace(about, family=families.get(name, about.family))
    )
    results = compute("cka-msn", given.but(models=turned))
    assert "it is nearer to REC" in " ".join(write("cka-msn", results))


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (PAPER, "there is no MSN model"),
        (["msn"], "no other joint-embedding or reconstruction model"),
        (["msn", "mae"], None),
    ],
)
def test_without_msn_there_is_nothing_to_show(models: list[str], reason: str | None) -> None:
    said = excuse("cka-msn", make_models(models, ["random #0"], ABOUT))
    assert said is None if reason is None else reason in said


# ------------------------------------------------------------------------------------------------
# cka-finetune


TUNED = ["dino", "moco", "mae", "mae-ft", "moco-ft"]


def test_fine_tuned_reconstruction_resembles_joint_embedding() -> None:
    """Claim C9: and most in norm1 and qkv."""
    results, said = computed("cka-finetune", TUNED)
    after, before = [("dino", "mae-ft"), ("moco", "mae-ft")], [("dino", "mae"), ("moco", "mae")]
    rise = {}
    for kind in ("block", "norm1", "qkv", "fc1"):
        row = only(results["families"], kind=kind)
        rise[kind] = np.mean([mean(a, b, kind) for a, b in after]) - np.mean(
            [mean(a, b, kind) for a, b in before]
        )
        assert row.difference == pytest.approx(rise[kind], abs=1e-12)
        draws = left_out(after, kind) - left_out(before, kind)
        expected = ends_of(draws)
        assert (row.difference_low, row.difference_high) == about(expected)
    for kind in ("norm1", "qkv"):
        row = only(results["families-rise-by-type"], kind=kind)
        assert row.difference == pytest.approx(rise[kind] - rise["fc1"], abs=1e-12)
        assert f"the rise in {kind} is more than that in fc1 (+" in said
    assert "mae-ft from mae: both mae, vit" in said
    assert "more than that before fine-tuning (+" in said


def test_models_of_different_recipes_are_said_to_be_none_of_each_other() -> None:
    results, said = computed("cka-finetune", [*TUNED, "random-ft"])
    assert "different recipes" not in said  # none is known
    line = write("cka-finetune", results)[-1]
    frame = results["matched"]
    for own, differ in ((["mae-ft", "moco-ft"], True), (["mae-ft"], False)):
        recipes = frame.model_a.where(frame.model_a.isin(own), "")
        matched = Table(frame.assign(recipe=recipes), results.tables["matched"].units)
        told = write("cka-finetune", Results({**results.tables, "matched": matched}))[-1]
        clause = "; fine-tuned by different recipes, so they are not to be held against each other."
        assert told == (line.removesuffix(".") + clause if differ else line)
        left = write_left(matched.frame, 100)
        assert left.endswith(" (recipes differ).") == differ
        assert left


def test_the_rise_counts_beyond_that_of_random_weights_paired() -> None:
    """The control becomes as alike to JE as REC does, and was more alike before: REC comes nearer
    than it does."""
    results, said = computed("cka-finetune", [*TUNED, "random-ft"])
    je = ["dino", "moco"]
    changes = [[("mae-ft", each) for each in je], [("mae", each) for each in je]]
    changes += [[("random-ft", each) for each in je], [("random #0", each) for each in je]]
    for kind in ("block", "norm1", "qkv", "fc1"):
        row = only(results["families-beyond-control"], kind=kind)
        after, yet, after_control, yet_control = (
            np.mean([mean(a, b, kind) for a, b in each]) for each in changes
        )
        assert row.rise == pytest.approx(after - yet, abs=1e-12)
        assert row.difference == pytest.approx(
            (after - yet) - (after_control - yet_control), abs=1e-12
        )
        if kind in ("norm1", "fc1"):
            assert row.together == 3
            continue
        after_, yet_, after_control_, yet_control_ = (left_out(each, kind) for each in changes)
        expected = ends_of((after_ - yet_) - (after_control_ - yet_control_))
        if kind == "block":
            assert (row.difference_low, row.difference_high) == about(expected)
        else:  # further out than by itself: it is one of three at once
            assert row.difference_high - row.difference_low > 1.05 * np.ptp(expected)
    end, less = (np.mean([mean(a, b) for a, b in each]) for each in changes[::2])
    row = only(results["families-ends"], kind="block")
    assert (row.cka, row.difference) == pytest.approx((end, end - less), abs=1e-12)
    draws = left_out(changes[0]) - left_out(changes[2])
    assert (row.difference_low, row.difference_high) == about(ends_of(draws))
    # the control rises less because it starts nearer, which is no nearness of REC to JE
    assert "the rise of random-ft" not in said
    assert f"fine-tuned random weights (random-ft · JE, {less:.2f})" in said
    one = only(results["beyond-control"], kind="block", model_a="mae-ft", model_b="dino")
    hand = (
        mean("mae-ft", "dino")
        - mean("mae", "dino")
        - (mean("random-ft", "dino") - mean("random #0", "dino"))
    )
    assert one.difference == pytest.approx(hand, abs=1e-12)
    changes_table = results["fine-tuned"]
    assert set(changes_table[changes_table.control].model_a) == {"random-ft"}
    assert "this may be what labels do to any network" in computed("cka-finetune", TUNED)[1]


def test_a_control_of_another_recipe_or_architecture_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for change in ({"recipe": "0"}, {"arch": "vit_large"}):
        monkeypatch.setitem(ABOUT, "mae-ft", ABOUT["mae-ft"] | {"recipe": "1"})
        monkeypatch.setitem(ABOUT, "random-ft", {**ABOUT["random-ft"], "recipe": "1"} | change)
        results, said = computed("cka-finetune", ["dino", "mae", "mae-ft", "random-ft"])
        assert not {"beyond-control", "families-beyond-control"} & set(results)
        assert "this may be what labels do to any network" in said


def test_heat_maps_before_and_after() -> None:
    figure = draw("cka-finetune", compute("cka-finetune", inputs([*TUNED, "random-ft"])))
    titles = [[panel.title for panel in row if isinstance(panel, Heatmap)] for row in figure.panels]
    assert titles[:6] == [
        ["mae (PT) · dino (PT)", "mae-ft (FT) · dino (PT)"],
        *(
            [f"{kind}: mae (PT) · dino (PT)", f"{kind}: mae-ft (FT) · dino (PT)"]
            for kind in ("norm1", "qkv", "fc1")
        ),
        [
            "mae (PT) · moco (PT)",
            "mae-ft (FT) · moco (PT)",
            "mae (PT) · moco-ft (FT)",
            "mae-ft (FT) · moco-ft (FT)",
        ],
        ["moco (PT) · dino (PT)", "moco-ft (FT) · dino (PT)"],
    ]
    assert titles[6] == [
        "mae (PT) · mae-ft (FT)",
        "moco (PT) · moco-ft (FT)",
        "random #0 (PT) · random-ft (FT)",
    ]
    np.testing.assert_allclose(figure.panels[4][3].values, cka_of("mae-ft", "moco-ft"), atol=1e-12)
    np.testing.assert_allclose(
        figure.panels[2][1].values, cka_of("dino", "mae-ft", "qkv").T, atol=1e-12
    )
    curves = [[line.name for line in panel.lines] for panel in figure.panels[7][:1]]
    assert curves == [
        [
            "mae · dino",
            "mae-ft · dino",
            "random #0 · random #1",
            "random #0 · dino",
            "random-ft · dino",
        ]
    ]
    assert [line.control for line in figure.panels[7][0].lines] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("models", "pairs"),
    [
        (TUNED, {"mae-ft": "mae", "moco-ft": "moco"}),
        (["dino", "mae-ft"], {}),
        (["mae", "mae-ft"], {"mae-ft": "mae"}),
    ],
)
def test_versions_are_matched_by_objective_and_architecture(
    models: list[str], pairs: dict[str, str]
) -> None:
    given = make_models(models, [], ABOUT)
    assert match_origins(given) == pairs
    other = change_about(
        given, lambda _, about: replace(about, arch="vit_large") if about.tuned else about
    )
    assert match_origins(other) == {}
    assert (excuse("cka-finetune", given) is None) == bool(pairs)


def test_a_fine_tuned_model_is_matched_with_the_seed_that_it_began_with() -> None:
    about = {"seed 0": ABOUT["mae"] | {"digest": "0"}, "seed 1": ABOUT["mae"] | {"digest": "1"}}
    tuned = {
        f"ft {i}": ABOUT["mae-ft"] | {"pretrained": {"digest": str(i), "name": "mae"}}
        for i in range(3)
    }
    named = {
        "ft 3": (
            ABOUT["mae-ft"] | {"pretrained": {"digest": "of weights in float32", "name": "seed 1"}}
        )
    }
    models = make_models(list(about | tuned | named), [], about | tuned | named)
    origins = {"ft 0": "seed 0", "ft 1": "seed 1", "ft 2": "seed 0", "ft 3": "seed 1"}
    assert match_origins(models) == origins
    assert describe_match(models, "ft 1", "seed 1") == "ft 1 from seed 1"
    assert describe_match(models, "ft 2", "seed 0") == "ft 2 from seed 0: both mae, vit"


# ------------------------------------------------------------------------------------------------
# cka-convergence


def test_convergence_cuts_the_minibatches_that_the_features_give() -> None:
    """CKA at a size of minibatch from one wide Gram is that of Grams computed at this size."""
    results, said = computed("cka-convergence", ["dino", "mae"])
    frame = results["points"]
    for size in (32, 64, 128):
        sizes = np.array({32: [32] * 7 + [16], 64: [64, 64, 64, 48], 128: [128, 112]}[size])
        made = []
        for name in ("dino", "mae"):
            taps = taps_of(name)
            made.append(
                Grams.of_features(
                    [seen(name, tap, noise=False) for tap in taps], ids=IDS, sizes=sizes
                )
            )
        rows = frame[(frame.varied == "batch") & (frame.batch == size)]
        np.testing.assert_allclose(rows.cka, minibatch_cka(*made).diagonal(), atol=1e-6)
        assert set(rows.minibatches) == {len(sizes)}
        assert set(rows.images) == {IMAGES}
        assert rows.low.notna().all() == (len(sizes) >= 6)
        assert rows.high.notna().any() == (len(sizes) >= 6)
    assert "from 32 to 128 images in a minibatch the CKA of 24 taps moves by" in said


def test_convergence_takes_more_and_more_images() -> None:
    results, said = computed("cka-convergence", ["dino", "mae"])
    frame = results["points"]
    rows = frame[frame.varied == "images"]
    assert sorted(set(rows.images)) == [64, 128, 240]
    assert set(rows.batch) == {32}
    first = [
        Grams.of_features(
            [seen(name, tap, noise=False)[:64] for tap in taps_of(name)], sizes=np.array([32, 32])
        )
        for name in ("dino", "mae")
    ]
    np.testing.assert_allclose(
        rows[rows.images == 64].cka, minibatch_cka(*first).diagonal(), atol=1e-6
    )
    spread = frame[frame.varied == "batch"].groupby("tap_a").cka.agg(np.ptp)
    assert f"{spread.median():.3f} in the median and {spread.max():.3f} at most" in said


def points_of(spreads: dict[tuple[str, str], float]) -> pd.DataFrame:
    """Four taps of pairs whose CKA goes from 0.5 up by so much with the minibatch and the number of
    images, with intervals of 0.06."""
    made = []
    for (a, b), spread in spreads.items():
        names = {"model_a": a, "model_b": b, "control": False}
        for step, (batch, images) in enumerate([(32, 64), (64, 128), (128, 1024)]):
            cka = 0.5 + spread * step / 2
            more = {"cka": cka, "low": cka - 0.03, "high": cka + 0.03}
            for tap in range(4):
                row = names | {"tap_a": f"blocks.{tap}"} | more
                made.append(row | {"varied": "batch", "batch": batch, "images": 1024})
                made.append(row | {"varied": "images", "batch": 32, "images": images})
    return pd.DataFrame(made)


def test_convergence_of_several_pairs_is_said_once_with_the_exceptions() -> None:
    pairs = {("dino", "mae"): 0.01, ("dino", "msn"): 0.02, ("mae", "msn"): 0.2}
    frame = points_of(pairs)
    units = dict.fromkeys(frame.columns, "")
    pairs_of = "All 3 compared pairs of dino, mae and msn"
    assert write("cka-convergence", Results({"points": Table(frame, units)})) == (
        f"{pairs_of}: from 32 to 128 images in a minibatch the CKA of 4 taps moves by 0.020 in the"
        " median and 0.200 at most (mae and msn), less than the width of its 95 % interval at 32"
        " (0.060 in the median); more in mae and msn.",
        f"{pairs_of}: the CKA of 4 taps with 1,024 images is missed by 0.020 in the median and"
        " 0.200 at most (mae and msn) with 64, by 0.010 in the median and 0.100 at most (mae and"
        " msn) with 128.",
    )
    alone = frame[frame.model_b == "mae"]
    first, _ = write("cka-convergence", Results({"points": Table(alone, units)}))
    assert first.startswith("dino and mae: from 32 to 128 images")
    assert "more in" not in first
    few = frame[(frame.batch == 32) & (frame.images == 1024)]
    assert write("cka-convergence", Results({"points": Table(few, units)})) == (
        "All 3 compared pairs of dino, mae and msn: 1,024 images are too few to vary their number"
        " or the minibatch.",
    )


def test_taps_are_paired_by_kind_and_depth() -> None:
    matched = plugin("analyses", "cka-convergence").match_taps
    a = replace(
        grams("dino", False),
        taps=tuple(Tap(n, k, d) for n, k, d in [("a", "qkv", 0.5), ("b", "block", 0.9)]),
    )
    b = replace(
        grams("mae", False),
        taps=tuple(Tap(n, k, d) for n, k, d in [("c", "block", 0.1), ("d", "block", 0.8)]),
    )
    assert matched(a, b) == [(1, 1)]


# ------------------------------------------------------------------------------------------------
# other-measures


def test_every_measure_is_the_module_s_own() -> None:
    results, said = computed("other-measures", PAPER)
    frame = results["values"]
    bare = [name for name in names("measures") if not wants_pixels(name)]
    assert set(frame.measure) == set(bare)  # there are no pixels among these models
    for measure in bare:
        values = plugin("measures", measure).compute(
            grams("dino", False).at("block"), grams("mae", False).at("block")
        )
        rows = frame[
            (frame.measure == measure) & (frame.model_a == "dino") & (frame.model_b == "mae")
        ]
        np.testing.assert_allclose(rows.value, values.diagonal(), atol=1e-12)
    assert "dino and moco first" in said or "dino and moco most alike" in said


def test_measures_that_disagree_are_grouped_by_the_pair_that_they_find() -> None:
    pairs = [("dino", "mae"), ("dino", "msn"), ("mae", "msn")]
    values = {
        "cka": (0.9, 0.5, 0.4),
        "rsa": (0.8, 0.9, 0.1),
        "bures": (0.3, 0.8, 0.1),
        "neighbours": (0.9, 0.3, 0.4),
        "one": (np.nan, 0.2, 0.1),
        "two": (np.nan, 0.1, 0.3),
        "none": (np.nan, np.nan, np.nan),
    }
    frame = pd.DataFrame(
        [
            {"measure": name, "model_a": a, "model_b": b, "control": False, "value": value}
            for name, row in values.items()
            for (a, b), value in zip(pairs, row, strict=True)
        ]
    )
    table = Table(frame, dict.fromkeys(frame.columns, ""))
    assert write("other-measures", Results({"values": table})) == (
        "dino and mae are most alike by 2 of 4 measures, CKA among them; dino and msn by rsa and"
        " bures.",
        "The measures one and two are undefined at every depth of dino and mae.",
        "The measure none is undefined at every depth of all 3 pairs.",
    )
    for left in (frame.iloc[:0], frame.assign(control=True).astype({"control": object})):
        assert write("other-measures", Results({"values": replace(table, frame=left)})) == ()
