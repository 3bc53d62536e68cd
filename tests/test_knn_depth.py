"""C5 in knn-depth: where JE and REC part, against numbers by hand, and what sentences may say."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from jaxtyping import Float

from given import Given, compute, draw, make_models, write
from sslens.capture import Features
from sslens.comparisons import probe_gaps
from sslens.comparisons.inputs import FeatureSets, Labels, Models
from sslens.comparisons.probing import Split
from sslens.comparisons.separation import (
    Curve,
    compare_curves,
    describe_sides,
    find_parting,
)
from sslens.models.taps import Tap
from sslens.probes.knn import SCALES, knn
from sslens.probes.logistic import LogisticProbe, fit_logistic
from sslens.statistics.estimate import Estimate
from sslens.statistics.gains import estimate_gains_at_once
from sslens.table import Results

ABOUT = {
    "moco": {"family": "JE", "objective": "moco-v3", "arch": "vit", "network": "vit"},
    "moco 1": {"family": "JE", "objective": "moco-v3", "arch": "vit", "network": "vit"},
    "dino": {"family": "JE", "objective": "dino", "arch": "vit", "network": "vit"},
    "mae": {"family": "REC", "objective": "mae", "arch": "vit", "network": "vit"},
}
MODELS = make_models(list(ABOUT), [], ABOUT)
IMAGES = 240


def right(share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(IMAGES) < share


def curve(shares: Sequence[float], seed: int) -> Curve:
    depths = np.arange(1, len(shares) + 1) / len(shares)
    return Curve(depths, np.stack([right(share, 100 * seed + i) for i, share in enumerate(shares)]))


def test_the_difference_by_depth_weighs_objectives_alike() -> None:
    curves = {
        "moco": curve([0.3, 0.5, 0.9], 1),
        "moco 1": curve([0.3, 0.5, 0.8], 2),
        "dino": curve([0.3, 0.6, 0.9, 0.9, 0.9, 0.9], 3),  # twice as deep
        "mae": curve([0.3, 0.3, 0.3], 4),
    }
    rows = list(compare_curves(MODELS, curves, {"main": True}, seed=0))
    by_depth = [row for table, row in rows if table == "families-by-depth"]
    assert [row["depth"] for row in by_depth] == pytest.approx(np.arange(1, 7) / 6)
    # the block of three nearest to 1/6, 2/6, …, of equally near ones the first
    nearest = [0, 0, 0, 1, 1, 2]
    for k, row in enumerate(by_depth):
        je = (
            curves["moco"].right[nearest[k]] / 4
            + curves["moco 1"].right[nearest[k]] / 4
            + curves["dino"].right[k] / 2
        )
        rec = curves["mae"].right[nearest[k]].astype(float)
        assert row["accuracy_a"] == pytest.approx(je.mean())
        assert row["accuracy_b"] == pytest.approx(rec.mean())
        assert row["difference"] == pytest.approx((je - rec).mean())
        # wider than an interval of one depth alone: about 2.5 standard errors
        error = (je - rec).std() / IMAGES**0.5
        half = (row["difference_high"] - row["difference_low"]) / 2
        assert 2.1 * error < half < 3.1 * error
        assert (row["together"], row["images"]) == (6, IMAGES)
    (parting,) = (row for table, row in rows if table == "families-parting")
    assert parting["members"] == "JE: moco, moco 1 and dino; REC: mae"
    signs = [row["difference_low"] > 0 for row in by_depth]
    assert parting["first"] == pytest.approx(by_depth[signs.index(True)]["depth"])
    assert np.isnan(parting["reversed"])


def test_intervals_over_trainings_need_two_of_each_objective() -> None:
    about = ABOUT | {"mae 1": ABOUT["mae"], "dino 1": ABOUT["dino"]}
    models = make_models(list(about), [], about)
    levels = {"moco": 0.8, "moco 1": 0.7, "dino": 0.9, "dino 1": 0.8, "mae": 0.3, "mae 1": 0.4}
    curves = {name: curve([level], i) for i, (name, level) in enumerate(levels.items())}
    rows = [row for table, row in compare_curves(models, curves, {}, seed=0) if "depth" in row]
    mean = {name: one.right.mean() for name, one in curves.items()}
    # by hand: half the variance of two trainings, each objective of JE with half its weight
    variance = sum(
        weight**2 * np.var([mean[name], mean[f"{name} 1"]], ddof=1) / 2
        for name, weight in (("moco", 0.5), ("dino", 0.5), ("mae", 1.0))
    )
    half = (rows[0]["trainings_high"] - rows[0]["trainings_low"]) / 2
    assert rows[0]["trainings"] == 2
    assert half > 1.96 * variance**0.5
    assert rows[0]["trainings_high"] + rows[0]["trainings_low"] == pytest.approx(
        2 * rows[0]["difference"]
    )
    few = list(compare_curves(MODELS, {name: curves[name] for name in ABOUT}, {}, seed=0))
    assert np.isnan(few[0][1]["trainings_low"])  # DINO and MAE have one


def test_nothing_is_compared_without_a_model_of_each_family() -> None:
    assert not list(compare_curves(MODELS, {"mae": curve([0.3], 0)}, {}, seed=0))
    assert describe_sides(["dino"], ["mae"]) == "JE: dino; REC: mae"


def test_intervals_hold_at_all_depths_at_once() -> None:
    """Of eight differences that are truly 0, some interval leaves 0 out in about 5 % of trials."""
    rng = np.random.default_rng(0)
    missed = 0
    for trial in range(100):
        values = (rng.random((8, 100)) < 0.6).astype(float) - (rng.random((8, 100)) < 0.6)
        _, (low, high) = estimate_gains_at_once(values, seed=trial)
        missed += bool(((low > 0) | (high < 0)).any())
    assert missed <= 0.1 * 100


def estimates(*values: float) -> list[Estimate]:
    return [Estimate(value, value - 0.02, value + 0.02, "images", IMAGES) for value in values]


def test_je_stays_above_only_if_it_does_at_every_later_depth() -> None:
    assert find_parting(estimates(0.01, 0.1, 0.2, 0.3)) == (1, None)
    assert find_parting(estimates(0.1, 0.01, 0.2, 0.3)) == (2, None)
    assert find_parting(estimates(0.1, 0.2, 0.3, 0.01)) == (None, None)
    assert find_parting(estimates(0.3, -0.3, -0.3, -0.3, -0.3, -0.3)) == (None, 1)
    assert find_parting(estimates(-0.1, 0.1, 0.2)) == (1, 0)
    few = [replace(one, n=19) for one in estimates(0.3, 0.3)]
    assert find_parting(few) == (None, None)
    hardly = [Estimate(0.004, 0.001, 0.007, "images", 10**6)]  # under half a point
    assert find_parting(hardly) == (None, None)


# ------------------------------------------------------------------------------------------------
# the analysis, and its sentences

BLOCKS = 6
TAPS = [
    *(Tap(f"blocks.{i}", "block", (i + 1) / BLOCKS) for i in range(BLOCKS)),
    Tap("norm", "norm", 1.0),
]
IDS = tuple(f"{i % 3}/{i:03}" for i in range(IMAGES))
LABELS = Labels({name: i % 3 for i, name in enumerate(IDS)}, classes=("a", "b", "c"))


def features_of(name: str, separation: Sequence[float]) -> Features:
    """The class by so much after each block and the norm, beside loud dimensions in mae's."""
    rng = np.random.default_rng(len(name))
    labels = np.arange(IMAGES) % 3
    loud = 30.0 if name == "mae" else 1.0
    columns = {}
    for pooling in ("cls", "mean", "patch"):
        for tap, apart in zip(TAPS, (*separation, separation[-1]), strict=True):
            told = apart * np.eye(3)[labels] + rng.normal(size=(IMAGES, 3))
            values = np.concatenate([told, loud * rng.normal(size=(IMAGES, 2))], 1)
            columns[tap.name, pooling] = torch.from_numpy(values.astype(np.float32))
    return Features.of(columns, ids=IDS, taps=TAPS, model=name)


def given(separations: Mapping[str, Sequence[float]]) -> Given:
    features = {name: features_of(name, several) for name, several in separations.items()}
    models = make_models(list(separations), [], ABOUT)
    return Given(models, {"features": FeatureSets(features), "labels": LABELS})


FAR, NEAR = (0, 0.5, 1, 1.5, 2, 2.2), (0, 0, 0, 0, 0, 1.5)


@pytest.fixture(scope="module")
def results() -> Results:
    return compute("knn-depth", given({"moco": FAR, "dino": FAR, "mae": NEAR}))


def test_families_part_where_they_do(results: Results) -> None:
    frame = results["families-parting"]
    assert frame[["main", "pooling", "features"]].to_numpy().tolist() == [
        [True, "", "raw"],
        [True, "", "standardised"],
        [False, "patch", "raw"],
        [False, "patch", "standardised"],
    ]
    by_depth = results["families-by-depth"]
    assert len(by_depth) == 4 * BLOCKS
    accuracies = results["accuracies"]
    for row in by_depth[by_depth.main].itertuples():
        alike = accuracies[
            (accuracies.kind == "block")
            & (accuracies.pooling == "cls")
            & (accuracies.vote == "weighted")
            & (accuracies.features == row.features)
            & np.isclose(accuracies.depth, row.depth)
        ].set_index("model")
        je = (alike.accuracy["moco"] + alike.accuracy["dino"]) / 2
        assert row.difference == pytest.approx(je - alike.accuracy["mae"])


def test_what_standardising_changes_is_the_mean_over_blocks(results: Results) -> None:
    frame = results["standardising"]
    assert len(frame) == 3 * 3
    accuracies = results["accuracies"]
    accuracies = accuracies[(accuracies.vote == "weighted") & (accuracies.kind == "block")]
    means = accuracies.groupby(["model", "pooling", "features"]).accuracy.mean()
    for row in frame.itertuples():
        raw, scaled = (means[row.model, row.pooling, one] for one in ("raw", "standardised"))
        assert (row.raw, row.standardised) == (pytest.approx(raw), pytest.approx(scaled))
        assert row.change == pytest.approx(scaled - raw)
        assert row.change_low < row.change < row.change_high
    text = " ".join(write("knn-depth", results))
    assert "Standardised features have more accuracy than raw ones in mae (+" in text
    assert "moco (+" not in text


def test_a_probe_of_the_last_block_is_held_against_its_neighbours(results: Results) -> None:
    """The probe is fitted again, and all is averaged by hand."""
    probes, families = results["probes"], results["families-probes"]
    assert probes[["model", "features"]].to_numpy().tolist() == [
        [name, features] for name in ("moco", "dino", "mae") for features in SCALES
    ]
    assert set(probes.tap) == {"blocks.5"}
    split = Split.of(FeatureSets({"mae": features_of("mae", NEAR)}), LABELS, 0)
    labels, gaps = torch.from_numpy(split.labels), {}
    for name, separation in (("moco", FAR), ("dino", FAR), ("mae", NEAR)):
        values = features_of(name, separation).read("blocks.5", "cls")
        train, validation, test = (
            (values[rows], labels[rows]) for rows in (split.train, split.validation, split.test)
        )
        (probe,) = fit_logistic([train[0]], train[1], [validation[0]], validation[1])
        right = (probe.predict(test[0]) == test[1]).numpy()
        near = knn(values, values, labels, k=20, leave_one_out=True) == split.labels
        gaps[name] = right.astype(float) - near[split.test]
        row = probes[(probes.model == name) & (probes.features == "raw")].iloc[0]
        assert row.accuracy == pytest.approx(right.mean())
        assert row.knn == pytest.approx(near[split.test].mean())
        assert row.gap == pytest.approx(gaps[name].mean())
        assert (row.images, row.penalty) == (len(right), probe.penalty)
    raw = families[families.features == "raw"].set_index("model")
    assert raw.gap["JE"] == pytest.approx((gaps["moco"] + gaps["dino"]).mean() / 2)
    assert raw.gap["REC"] == pytest.approx(gaps["mae"].mean())
    assert raw.difference["REC"] == pytest.approx(raw.gap["REC"] - raw.gap["JE"])
    assert raw.difference_low["REC"] <= raw.difference["REC"] <= raw.difference_high["REC"]
    assert np.isnan(raw.trainings_low["REC"])  # one training of each objective
    text = " ".join(write("knn-depth", results))
    assert "A linear probe of the last block less 20-NN there, with the CLS token" in text
    assert "REC less JE +" in text
    assert "the probe learns from fewer than vote: from four fifths of a bank" in text


def test_a_probe_that_has_not_converged_is_in_no_family(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*given: object) -> list[LogisticProbe]:
        (probe,) = fit_logistic(*given)  # type: ignore[arg-type]
        return [replace(probe, path=tuple(replace(trial, gap=1.0) for trial in probe.path))]

    monkeypatch.setattr(probe_gaps, "fit_logistic", fit)
    results = compute("knn-depth", given({"moco": FAR, "mae": NEAR}))
    assert not results["probes"].converged.any()
    assert results["probes"].why.str.len().gt(0).all()
    assert "families-probes" not in results
    assert "A linear probe" not in " ".join(write("knn-depth", results))


def with_differences(results: Results, values: Sequence[float]) -> Results:
    """The same results, with other differences by depth on raw features."""
    first, back = find_parting(estimates(*values))
    grid = [(i + 1) / BLOCKS for i in range(BLOCKS)]
    tables = dict(results.tables)
    frame = tables["families-parting"].frame
    at = frame.main & (frame.features == "raw")
    frame = frame.assign(
        first=frame["first"].where(~at, np.nan if first is None else grid[first]),
        reversed=frame["reversed"].where(~at, np.nan if back is None else grid[back]),
    )
    tables["families-parting"] = replace(tables["families-parting"], frame=frame)
    return Results(tables)


def test_a_sentence_says_from_where_on_only_if_it_holds_at_every_later_depth(
    results: Results,
) -> None:
    said = write("knn-depth", with_differences(results, [0.3, *[-0.3] * 5]))[0]
    assert "on raw features there is no depth from which JE stays above REC" in said
    assert "at 0.33 REC is above" in said
    assert "from relative depth 0.17 on" not in said
    said = write("knn-depth", with_differences(results, [-0.3, *[0.3] * 5]))[0]
    assert "JE stays above REC from relative depth 0.33 on, and at 0.17 REC is above" in said
    said = write("knn-depth", with_differences(results, [0.3, 0.3, 0.0, 0.3, 0.3, 0.3]))[0]
    assert "JE stays above REC from relative depth 0.67 on" in said


def test_the_figure_has_raw_features_above_and_standardised_ones_below(results: Results) -> None:
    above, below = draw("knn-depth", results).panels
    assert [panel.title for panel in below] == [f"{panel.title}, standardised" for panel in above]


# ------------------------------------------------------------------------------------------------
# bad input


def small(columns: Mapping[tuple[str, str], Float[torch.Tensor, "image _"]]) -> Given:
    count = len(next(iter(columns.values())))
    ids = tuple(f"{i}.png" for i in range(count))
    taps = [Tap("blocks.0", "block", 0.5), Tap("blocks.1", "block", 1.0)]
    labels = Labels({name: i for i, name in enumerate(ids)}, classes=tuple(map(str, range(count))))
    features = FeatureSets({"mae": Features.of(columns, ids=ids, taps=taps, model="mae")})
    models = Models(tuple(model for model in MODELS if model.name == "mae"))
    return Given(models, {"features": features, "labels": labels})


def test_features_without_variance_have_no_accuracy() -> None:
    told = torch.eye(6)
    results = compute(
        "knn-depth", small({("blocks.0", "cls"): torch.ones(6, 6), ("blocks.1", "cls"): told})
    )
    frame = results["accuracies"]
    flat = frame[frame.tap == "blocks.0"]
    assert flat.dimensions.eq(0).all()
    assert flat[["accuracy", "low", "high"]].isna().all(axis=None)
    assert frame[frame.tap == "blocks.1"].accuracy.notna().all()
    assert results["standardising"].blocks.tolist() == [1]
    assert "at blocks.1" in write("knn-depth", results)[0]
    draw("knn-depth", results)
    nothing = compute(
        "knn-depth",
        small({("blocks.0", "cls"): torch.ones(6, 6), ("blocks.1", "cls"): torch.ones(6, 6)}),
    )
    assert nothing["accuracies"].accuracy.isna().all()
    assert write("knn-depth", nothing) == (
        "mae: no accuracy is defined, for the features are the same for every image.",
    )
    draw("knn-depth", nothing)


def test_one_image_a_class_is_always_wrong_and_k_is_what_there_is() -> None:
    results = compute(
        "knn-depth", small({("blocks.0", "cls"): torch.eye(6), ("blocks.1", "cls"): torch.eye(6)})
    )
    frame = results["accuracies"]
    assert set(frame.k) == {5}
    assert frame.accuracy.eq(0).all()
    assert "probes" not in results  # too few images to train one
    assert pd.notna(frame.high).all()
