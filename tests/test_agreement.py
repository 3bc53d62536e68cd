"""What two models' predictions have in common: F1, error consistency, tau over kinds of images, and
their intervals."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.stats import t
from sklearn.linear_model import LogisticRegression

from given import Given, compute, make_models, shorten_predictions, write
from sslens.analyses import agreement as analysis
from sslens.capture import Features
from sslens.comparisons.inputs import FeatureSets, Labels, Models, ProbeSettings
from sslens.comparisons.predictions import compute_probe_logits, deal_out, predict_classes
from sslens.comparisons.probe_split import Split
from sslens.comparisons.probing import ProbeSetup, make_usual_head
from sslens.errors import InputError
from sslens.models.taps import Tap
from sslens.probes.agreement import (
    SUBSETS,
    Draws,
    Predicted,
    agreement,
    error_consistency,
    f1,
    f1_of_being_right,
)
from sslens.probes.rank import tau, tau_by_position
from sslens.statistics.proportions import Counts


def drawn(seed: int, images: int = 60, classes: int = 6) -> tuple[np.ndarray, list[torch.Tensor]]:
    """Labels, and the logits of three models, of which the first two share more than the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    known = np.eye(classes)[labels] + rng.standard_normal((images, classes)) * 0.3
    shared = known + rng.standard_normal((images, classes)) * 0.6
    parts = [(shared, 0.2), (shared, 0.2), (known, 0.6)]
    return labels, [torch.from_numpy(x + s * rng.standard_normal(x.shape)) for x, s in parts]


def plain_f1(first: list[int], second: list[int]) -> tuple[float, float]:
    """Precision and recall class by class, in loops."""
    each, weight = [], []
    for c in sorted({*first, *second}):
        hits = sum(a == b == c for a, b in zip(first, second, strict=True))
        recall = hits / first.count(c) if first.count(c) else 0.0
        precision = hits / second.count(c) if second.count(c) else 0.0
        each.append(2 * precision * recall / (precision + recall) if hits else 0.0)
        weight.append(first.count(c))
    return float(np.mean(each)), float(np.average(each, weights=weight))


def test_f1_is_precision_and_recall() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 9, 25), rng.integers(3, 7, 25)
        found = f1(first, second)
        assert (float(found.macro), float(found.weighted)) == pytest.approx(
            plain_f1(first.tolist(), second.tolist())
        )
        assert found.macro == pytest.approx(f1(second, first).macro, abs=1e-15)


def test_one_class_predicted_by_both_has_f1_of_one() -> None:
    one = np.full(5, 3)
    assert f1(one, one) == (1.0, 1.0)
    assert f1(one, np.zeros(5, int)) == (0.0, 0.0)
    assert f1(one, np.array([3, 3, 3, 3, 0])).macro == pytest.approx((8 / 9 + 0) / 2)


def test_error_consistency_is_cohens_kappa() -> None:
    """Against Cohen's (1960) table of two raters, and the values that it must have."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.random(40) < 0.7, rng.random(40) < 0.5
        table = np.array([[np.mean((a == x) & (b == y)) for y in (0, 1)] for x in (0, 1)])
        expected = float(table.sum(0) @ table.sum(1))
        assert error_consistency(a, b) == pytest.approx(
            (np.trace(table) - expected) / (1 - expected), abs=1e-12
        )
    half = np.array([True, True, False, False])
    assert error_consistency(half, half) == 1.0
    assert error_consistency(half, ~half) == -1.0
    assert error_consistency(half, np.array([True, False, True, False])) == 0.0
    assert (
        error_consistency(half, np.ones(4, bool)) == 0.0
    )  # one right on all says nothing of the other
    for same in (np.ones(4, bool), np.zeros(4, bool)):
        assert np.isnan(error_consistency(same, same))


def test_f1_of_being_right_is_f1_of_two_classifications_of_the_images() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random(50) < 0.7, rng.random(50) < 0.6
    hits = (one & other).sum()
    precision, recall = hits / other.sum(), hits / one.sum()
    expected = 2 * precision * recall / (precision + recall)
    assert f1_of_being_right(one, other) == pytest.approx(expected, abs=1e-15)
    assert np.isnan(f1_of_being_right(np.zeros(4, bool), np.zeros(4, bool)))


def test_every_value_is_that_of_the_plain_function() -> None:
    labels, logits = drawn(0)
    a, b = (Predicted.of(x, labels, 6) for x in logits[1:])
    found = agreement(a, b, [3, 6], Draws.of(len(labels), 20))
    assert {asked.k for asked in found} == {0, 3, 6}
    right_a, right_b = ((x.numpy().argmax(1) == labels) for x in logits[1:])
    members = dict(
        zip(SUBSETS, (np.ones(60, bool), right_a & right_b, ~(right_a | right_b)), strict=True)
    )
    for k, (subset, rows) in itertools.product((3, 6), members.items()):
        value, count, *_ = found["tau", k, subset]  # type: ignore[index]
        assert 3 < count == rows.sum()
        assert float(value.value) == pytest.approx(
            tau(a.rankings, b.rankings, k)[rows].mean(), abs=1e-12
        )
        either = tau(a.rankings, b.rankings, k, "first"), tau(b.rankings, a.rankings, k, "first")
        value, *_ = found["tau first", k, subset]  # type: ignore[index]
        assert float(value.value) == pytest.approx(
            (either[0][rows].mean() + either[1][rows].mean()) / 2, abs=1e-12
        )
        listed = [
            scipy.stats.kendalltau(one, other).statistic
            for one, other in zip(a.rankings.top[:, :k], b.rankings.top[:, :k], strict=True)
        ]
        np.testing.assert_allclose(tau_by_position(a.rankings, b.rankings, k), listed, atol=1e-12)
        value, *_ = found["tau listed", k, subset]  # type: ignore[index]
        assert float(value.value) == pytest.approx(np.mean(np.array(listed)[rows]), abs=1e-12)
    expected = {
        "f1": f1(a.first, b.first).macro,
        "f1 weighted": (f1(a.first, b.first).weighted + f1(b.first, a.first).weighted) / 2,
        "f1 right": f1_of_being_right(right_a, right_b),
        "same": (a.first == b.first).mean(),
        "kappa": error_consistency(right_a, right_b),
    }
    for measure, value in expected.items():
        assert float(found[measure, 0, "all"].sampled.value) == pytest.approx(
            float(value), abs=1e-12
        )  # type: ignore[index]


def test_every_value_without_a_group_is_the_statistic_of_the_other_images() -> None:
    labels, logits = drawn(1, images=30)
    draws = Draws.of(30, 8, seed=5)
    a, b = (Predicted.of(x, labels, 4) for x in logits[:2])
    found = agreement(a, b, [4], draws)
    for number in range(8):
        rows = np.flatnonzero(draws.group != number)
        again = [Predicted.of(x[rows], labels[rows], 4) for x in logits[:2]]
        alone = agreement(*again, [4], Draws.of(len(rows), 2))
        assert found.keys() == alone.keys()
        for asked, each in found.items():
            assert each.sampled.left_out[number] == pytest.approx(
                float(alone[asked].sampled.value), abs=1e-12, nan_ok=True
            )


def test_groups_are_even_and_their_seeds_apart() -> None:
    draws = Draws.of(50, 20, seed=0)
    assert set(np.bincount(draws.group).tolist()) == {2, 3}
    np.testing.assert_array_equal(draws.group, Draws.of(50, 20, seed=0).group)
    assert (draws.group != Draws.of(50, 20, seed=1).group).any()
    np.testing.assert_array_equal(Draws.of(5).group, np.arange(5))  # an image a group


def test_an_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    labels, logits = drawn(2, images=400)
    a, b = (Predicted.of(x, labels, 6) for x in logits[:2])
    value = agreement(a, b, [6], Draws.of(400))["tau", 6, "all"].sampled  # type: ignore[index]
    each = tau(a.rankings, b.rankings, 6)
    half = t.ppf(0.975, 399) * each.std(ddof=1) / 20
    assert [float(end) for end in value.interval()] == pytest.approx(
        [each.mean() - half, each.mean() + half], abs=1e-9
    )


def test_how_one_image_more_changes_f1_is_counted() -> None:
    """By hand over all pairs of different classes, weighted by how often both are predicted."""
    labels, logits = drawn(4, images=60)
    a, b = (Predicted.of(x, labels, 4) for x in logits[:2])
    found = agreement(a, b, [4], Draws.of(60))
    often = np.bincount(np.concatenate([a.first, b.first]), minlength=logits[0].shape[1]) / 120
    for measure, value in (("f1", lambda x, y: f1(x, y).macro),):
        before = value(a.first, b.first)
        weights, changes = [], []
        for i, j in itertools.permutations(np.flatnonzero(often), 2):
            more = value(np.append(a.first, i), np.append(b.first, j))
            weights.append(often[i] * often[j])
            changes.append(float(more - before))
        change = found[measure, 0, "all"].change  # type: ignore[index]
        assert change.mean == pytest.approx(np.average(changes, weights=weights))
        assert change.square == pytest.approx(np.average(np.square(changes), weights=weights))


def test_f1_of_the_same_predictions_has_an_interval() -> None:
    labels, logits = drawn(4, images=60)
    one = Predicted.of(logits[0], labels, 4)
    found = agreement(one, one, [4], Draws.of(60))
    for measure in ("f1", "f1 weighted", "same"):
        low, high = found[measure, 0, "all"].interval()  # type: ignore[index]
        assert 0.6 < low < 0.999
        assert high == 1


def test_shares_of_images_have_exact_intervals_also_where_no_image_differs() -> None:
    """F1 of being right is 2 J / (1 + J) of J = both right / either right."""
    labels, logits = drawn(4, images=60)
    models = [Predicted.of(x, labels, 4) for x in logits[:2]]
    for a, b in itertools.product(models, models):
        found = agreement(a, b, [4], Draws.of(60, 20))
        same, right = (found[name, 0, "all"] for name in ("same", "f1 right"))  # type: ignore[index]
        assert same.interval() == pytest.approx(exact(int((a.first == b.first).sum()), 60))
        both, either = int((a.right & b.right).sum()), int((a.right | b.right).sum())
        assert float(right.sampled.value) == pytest.approx(2 * both / (both + either))
        ends = [2 * share / (1 + share) for share in exact(both, either)]
        assert right.interval() == pytest.approx(ends)
        assert ends[0] < float(right.sampled.value) <= ends[1]
    wrong = Predicted.of(logits[0], (logits[0].argmax(1).numpy() + 1) % 4, 4)
    assert not wrong.right.any()
    found = agreement(wrong, wrong, [4], Draws.of(60))
    assert np.isnan(found["f1 right", 0, "all"].interval()).all()  # type: ignore[index]
    assert found["same", 0, "all"].interval()[1] == 1  # type: ignore[index]


def exact(hits: int, images: int) -> tuple[float, float]:
    """The exact interval of a share, by scipy."""
    ends = scipy.stats.binomtest(hits, images).proportion_ci(method="exact")
    return float(ends.low), float(ends.high)


@pytest.mark.parametrize("share", [0.9, 0.97, 0.995])
def test_the_interval_of_f1_of_being_right_covers(share: float) -> None:
    """Summed over all numbers of images on which both of 200 are right."""
    hits = np.arange(201)
    ends = np.array([Counts(int(count), 200, f1=True).interval() for count in hits])
    f1_of_all = 2 * share / (1 + share)
    holds = (ends[:, 0] <= f1_of_all) & (f1_of_all <= ends[:, 1])
    covered = scipy.stats.binom.pmf(hits, 200, share)[holds].sum()
    assert covered >= 0.95
    assert covered <= 0.98 or 200 * (1 - share) < 10


def test_a_difference_is_paired() -> None:
    """What the first two models share beside the label is found, more surely than from two unpaired
    intervals."""
    labels, logits = drawn(3, images=200)
    draws = Draws.of(200)
    models = [Predicted.of(x, labels, 5) for x in logits]
    near, far = (
        agreement(models[0], models[j], [5], draws)["tau", 5, "all"].sampled for j in (1, 2)
    )  # type: ignore[index]
    difference = near - far
    assert difference.interval()[0] > 0
    np.testing.assert_allclose(difference.left_out, near.left_out - far.left_out)
    other = agreement(models[0], models[2], [5], Draws.of(200, 100, seed=1))[
        "tau", 5, "all"
    ].sampled  # type: ignore[index]
    with pytest.raises(InputError, match="paired difference"):
        near - other


def test_what_no_image_is_there_for_is_undefined() -> None:
    labels = np.array([0, 1, 2, 0])
    right = 2 * torch.eye(3)[torch.from_numpy(labels)] + torch.tensor([0.0, 0.1, 0.2])
    one = Predicted.of(right, labels, 3)
    found = agreement(one, one, [3], Draws.of(4))
    value, count, *_ = found["tau", 3, "both wrong"]  # type: ignore[index]
    assert count == 0
    assert np.isnan(value.value)
    assert np.isnan(value.interval()[0])
    assert np.isnan(found["kappa", 0, "all"].sampled.value)  # type: ignore[index]
    assert found["tau", 3, "both right"].sampled.value == 1.0  # type: ignore[index]
    tied = Predicted.of(torch.zeros(4, 3), labels, 3)  # all tied: the first class, and no tau
    found = agreement(one, tied, [3], Draws.of(4))
    assert (tied.first == 0).all()
    assert found["tau", 3, "all"].images == 0  # type: ignore[index]
    assert np.isnan(found["tau", 3, "all"].sampled.value)  # type: ignore[index]
    assert found["same", 0, "all"].sampled.value == 0.5  # type: ignore[index]


def test_chance_is_what_is_left_when_images_are_mixed_up() -> None:
    """Two models that like the same classes, whatever they see: tau is high, and no higher than
    chance says."""
    rng = np.random.default_rng(0)
    liked = np.linspace(3, 0, 8)
    labels = rng.integers(0, 8, 500)
    blind = [
        Predicted.of(torch.from_numpy(liked + rng.standard_normal((500, 8))), labels, 8)
        for _ in "ab"
    ]
    found = agreement(*blind, [3, 8], Draws.of(500))
    for asked, each in found.items():
        # being right is not without images: both are right on those of the classes that they like
        if asked.images != "both right" and asked.measure not in ("kappa", "f1 right"):
            low, high = each.sampled.interval()
            assert low - 0.02 < each.chance < high + 0.02, asked
    assert found["tau", 8, "all"].chance > 0.3  # type: ignore[index]
    assert found["same", 0, "all"].chance == pytest.approx(  # type: ignore[index]
        sum(np.mean(blind[0].first == c) * np.mean(blind[1].first == c) for c in range(8))
    )
    assert found["kappa", 0, "all"].chance == 0  # type: ignore[index]
    labels, logits = drawn(5, images=300)
    a, b = (Predicted.of(x, labels, 6) for x in logits[:2])
    for asked, each in agreement(a, b, [6], Draws.of(300)).items():
        assert each.sampled.interval()[0] > each.chance, asked


def test_other_images_are_refused() -> None:
    labels, logits = drawn(4)
    a, b = Predicted.of(logits[0], labels, 5), Predicted.of(logits[1][:50], labels[:50], 5)
    with pytest.raises(InputError, match="of 60 and of 50 images, drawn from 60"):
        agreement(a, b, [5], Draws.of(60, 10))


# ------------------------------------------------------------------------------------------------
# the analysis

FAMILIES = {"dino": "JE", "moco": "JE", "mae": "REC"}


def study(images: int = 120, classes: int = 6, *, bank: bool = False) -> Given:
    """Features of two JE models that know something in common, of a REC model, and of controls that
    know nothing."""
    rng = np.random.default_rng(3)
    ids = {
        "images": tuple(f"i{n}" for n in range(images)),
        "bank": tuple(f"b{n}" for n in range(images)),
    }
    labels = {
        which: {name: n % classes for n, name in enumerate(names)} for which, names in ids.items()
    }
    made: dict[str, dict[str, Features]] = {"images": {}, "bank": {}}
    shared = rng.standard_normal((4, classes, 12))
    for which, names in ids.items():
        known = np.eye(classes)[list(labels[which].values())]
        hidden = known + rng.standard_normal((images, classes)) * 0.7
        for number, name in enumerate([*FAMILIES, "random #0", "random #1"]):
            seen = (
                hidden
                if FAMILIES.get(name) == "JE"
                else known + rng.standard_normal((images, classes))
            )
            seen = seen * (name in FAMILIES)
            x = seen @ shared[min(number, 3)] + 0.3 * rng.standard_normal((images, 12))
            x = torch.from_numpy(x).float()
            columns = {("norm", "cls"): x, ("norm", "mean"): x, ("norm", "patch"): x.flip(1) + 1}
            made[which][name] = Features.of(
                columns, ids=names, taps=[Tap("norm", "norm", 1.0)], model=name
            )
    about = {
        name: {
            "family": FAMILIES.get(name, "control"),
            "objective": name if name in FAMILIES else None,
            "arch": "vit",
        }
        for name in made["images"]
    }
    values = {
        "features": FeatureSets(made["images"], made["bank"] if bank else {}),
        "labels": Labels(labels["images"], labels["bank"] if bank else {}, tuple("abcdef")),
    }
    return Given(make_models(tuple(FAMILIES), ("random #0", "random #1"), about), values)


def take(given: Given) -> tuple[FeatureSets, Labels]:
    """The features and the labels."""
    return given.values["features"], given.values["labels"]


def test_a_probe_is_logistic_regression_at_the_penalty_chosen_on_held_out_images() -> None:
    features, known = take(study(bank=True))
    x, asked = (sets["dino"].read("norm", "cls") for sets in (features.bank, features.images))
    labels = np.array(list(known.bank.values()))
    held = deal_out(labels, tuple(known.bank)) == 0
    assert held.sum() == 24  # any images may choose the penalty
    found, why = compute_probe_logits(x, labels, held, asked, 6)
    assert why == ""
    train = x[~held].double().numpy()
    mean, scale = train.mean(0), train.std(0)
    right = {}
    for power in range(-7, 2):
        penalty = 10.0**power
        model = LogisticRegression(C=1 / (len(train) * penalty), tol=1e-8, max_iter=10_000)
        model.fit((train - mean) / scale, labels[~held])
        logits = model.decision_function((asked.double().numpy() - mean) / scale)
        right[penalty] = float((logits.argmax(1) == found.numpy().argmax(1)).mean())
    assert max(right.values()) >= 0.99


def test_each_fold_is_predicted_by_probes_of_the_others() -> None:
    features, known = take(study())
    made = predict_classes(features, known, "cls")
    x, labels = features.images["moco"].read("norm", "cls"), np.array(list(known.images.values()))
    fold = deal_out(labels, tuple(known.images))
    assert np.bincount(fold).tolist() == [24] * 5
    rest = fold != 2
    logits, _ = compute_probe_logits(x[rest], labels[rest], fold[rest] == 3, x[~rest], 6)
    torch.testing.assert_close(made.by_model["moco"].rankings.logits[~rest], logits)
    assert made.by_model["moco"].right.mean() > 0.4


def test_with_a_bank_a_probe_has_one_accuracy_in_all_exhibits() -> None:
    """The same images train it and choose its penalty as of the linear probes of `probe-depth`."""
    given, names = study(bank=True), ("dino", "mae")
    features, known = take(given)
    sets = ({name: own[name] for name in names} for own in (features.images, features.bank))
    features = FeatureSets(*sets)
    made = predict_classes(features, known, "cls", seed=3)
    assert made.folds == 0
    split = Split.of(features, known, 3)
    setup = ProbeSetup(given.models, features, split, ProbeSettings(), 3)
    head = make_usual_head(features.images["dino"])
    for name in names:
        (outcome,) = setup.train(name, [head]).outcomes.values()
        np.testing.assert_array_equal(made.by_model[name].right, outcome.right)
    # a part of the bank that another seed draws chooses another penalty, or trains another probe
    other = predict_classes(features, known, "cls", seed=4)
    logits = (one.by_model["dino"].rankings.logits for one in (made, other))
    assert not np.array_equal(*logits)


def test_raw_pixels_are_predicted_from_at_the_size_at_which_probes_read_them() -> None:
    features, known = take(study())
    rng = np.random.default_rng(0)
    wide = torch.from_numpy(rng.random((120, 3 * 16 * 16))).float()
    small = torch.nn.functional.avg_pool2d(wide.view(-1, 3, 16, 16), 2).flatten(1)

    def predict(values: torch.Tensor) -> torch.Tensor:
        ids, taps = features.images["dino"].ids, [Tap("pixels", "pixels", 0.0)]
        pixels = Features.of({("pixels", "flat"): values}, ids=ids, taps=taps, model="pixels")
        made = predict_classes(FeatureSets({"pixels": pixels}), known, "mean")
        return made.by_model["pixels"].rankings.logits

    torch.testing.assert_close(predict(wide), predict(small))


def test_without_a_bank_the_sentence_says_of_which_probes_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten_predictions(monkeypatch)
    for bank in (False, True):
        given = study(60, bank=bank)
        members = [one for one in given.models if one.name in ("dino", "moco")]
        features, _ = take(given)
        sets = (
            {one.name: own[one.name] for one in members} if own else {}
            for own in (features.images, features.bank)
        )
        alone = given.but(models=Models(tuple(members)), features=FeatureSets(*sets))
        (said,) = write("agreement", compute("agreement", alone))
        how = " of all 60, each image by one of 3 probes trained on others)"
        assert (how in said) is not bank


@pytest.mark.slow
def test_two_trainings_of_one_objective_are_no_pair_of_joint_embedding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten_predictions(monkeypatch)
    given = study()
    members = tuple(
        replace(one, about=replace(one.about, objective="dino")) if one.name == "moco" else one
        for one in given.models
    )
    assert "families" in compute("agreement", given)
    assert "families" not in compute("agreement", given.but(models=Models(members)))


@pytest.mark.parametrize("bank", [False, True])
def test_the_claim_is_the_paired_difference_of_pairs(
    bank: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_predictions(monkeypatch)
    given = study(bank=bank)
    results = compute("agreement", given)
    predictions = predict_classes(*take(given), "cls")
    predicted, count = predictions.by_model, predictions.classes
    assert count == 6
    draws = Draws.of(120)
    pairs = {
        (a, b): agreement(predicted[a], predicted[b], [5], draws)
        for a, b in itertools.combinations(predicted, 2)
    }
    frame, claims = (
        results[name][results[name].pooling == "cls"] for name in ("pairs", "families")
    )
    for row in frame.itertuples():
        each = pairs[row.model_a, row.model_b][row.measure, row.k, row.images]  # type: ignore[index]
        assert row.value == pytest.approx(float(each.sampled.value), nan_ok=True)
        assert row.low == pytest.approx(each.interval()[0], nan_ok=True)
        assert row.control is ("random" in row.model_a + row.model_b)
        assert row.accuracy_a == predicted[row.model_a].right.mean()
    claims = claims[claims.model_b == "JE"]
    assert len(claims) == 3 * 3 + 5
    assert set(claims.trainings) == {1}  # of one training an objective there is no interval
    assert claims.trainings_low.isna().all()
    for row in claims.itertuples():
        near, *far = (
            pairs[pair][row.measure, row.k, row.images].sampled  # type: ignore[index]
            for pair in (("dino", "moco"), ("dino", "mae"), ("moco", "mae"))
        )
        assert row.difference == pytest.approx(
            float(near.value) - (float(far[0].value) + float(far[1].value)) / 2
        )
        apart = near.left_out - (far[0].left_out + far[1].left_out) / 2
        error = (119 / 120 * ((apart - apart.mean()) ** 2).sum()) ** 0.5
        half = (row.difference_high - row.difference_low) / 2
        # few images of both right or both wrong have fewer degrees of freedom
        assert np.isnan(half) or 1.97 * error < half < 3 * error
        if row.images == "all":
            assert half == pytest.approx(t.ppf(0.975, 119) * error, rel=0.02)
    tau_all = claims[(claims.measure == "tau") & (claims.images == "all")].iloc[0]
    assert tau_all.difference_low > 0  # they share what they see
    said = write("agreement", results)
    assert len(said) == 2
    assert "JE: dino and moco; REC: mae" in said[0]
    number = f"tau over the top 5, all images {tau_all.value:.2f} ({tau_all.difference:+.2f}"
    assert number in said[0]
    assert said[0].count("against") == 1
    pair = frame[(frame.model_b == "mae") & (frame.measure == "kappa")].iloc[0]
    assert pair.less == "random #0 · random #1"
    panels = analysis.draw(results).shown()
    assert [line.name for line in panels[-1].lines] == [  # type: ignore[union-attr]
        "dino · moco",
        "dino · mae",
        "moco · mae",
        "random #0 · random #1",
    ]
    assert [panel.title for panel in panels][:3] == [
        "tau, top 5: all",
        "tau, top 5: both right",
        "tau, top 5: both wrong",
    ]


def test_classes_that_no_training_image_has_are_always_wrong() -> None:
    features, labels = take(study(bank=True))
    few = {name: label for name, label in labels.bank.items() if label != 2}
    rows = torch.tensor([label != 2 for label in labels.bank.values()])
    bank = {
        name: Features.of(
            {column: each.read(*column)[rows] for column in each.columns},
            ids=tuple(few),
            taps=each.taps,
            model=name,
        )
        for name, each in features.bank.items()
    }
    predictions = predict_classes(replace(features, bank=bank), replace(labels, bank=few), "cls")
    predicted, count = predictions.by_model, predictions.classes
    assert count == 5
    of_it = np.array(list(labels.images.values())) == 2
    assert not predicted["dino"].right[of_it].any()
    assert predicted["dino"].right[~of_it].mean() > 0.5


def test_what_cannot_be_analysed_is_said() -> None:
    given = study()
    images = given.values["features"].images

    def refuse(match: str, **values: Any) -> None:
        with pytest.raises(InputError, match=match):
            compute("agreement", given.but(**values))

    refuse("of one class", labels=Labels(dict.fromkeys(given.values["labels"].images, 0)))
    other = replace(images["mae"], ids=images["mae"].ids[::-1])
    refuse("features of mae are of other images", features=FeatureSets(images | {"mae": other}))
    refuse("the images have none: give labelled images", labels=Labels({}))
    for some in ({}, {"mae": images["mae"]}):
        refuse(
            "compared of two models: give the features of two or more", features=FeatureSets(some)
        )
    alone = make_models(("mae",), ("pixels",), {"mae": {}, "pixels": {}})
    assert analysis.explain_absence(alone) is not None
