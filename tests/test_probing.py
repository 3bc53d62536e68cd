"""Around the heads: features from memory, stores and views; choosing a point; splits; and `sslens
probe` as a person meets it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import sslens
from sslens.capture import FeatureReducer, Features, collect, open_features
from sslens.capture.shards import extract
from sslens.cli import main
from sslens.data.images import from_arrays
from sslens.data.scenes import FACTORS
from sslens.errors import InputError
from sslens.probes.linear import batches as _batches
from sslens.probes.linear.protocols import few_shot_outcomes, train_in_folds
from sslens.probes.linear.training import (
    Augmented,
    Head,
    Held,
    Point,
    Stored,
    choose,
    outcomes,
    train_probes,
    usual_batch,
)
from sslens.probes.splits import few_shot, folds, held_out
from sslens.statistics.proportions import wilson
from sslens.study import probe_tables
from sslens.study.probe_request import ProbeRequest
from sslens.study.probe_sets import Part, ProbeSets, open_probe_images

NANO = "random:vit_nano_patch8_32"
LAST = ("norm", "cls")
QUICK = (Point(80.0, warmup=5, epochs=100), Point(40.0, 0.05, warmup=5, epochs=100))


def known(images: int, seed: int, classes: int = 3) -> Held:
    labels = torch.arange(images) % classes
    generator = torch.Generator().manual_seed(seed)
    return Held(
        {LAST: torch.randn(images, 8, generator=generator) + 2 * torch.eye(classes, 8)[labels]},
        labels,
        classes,
    )


# ------------------------------------------------------------------------------------------------
# features


def test_an_epoch_shows_every_image_once_but_for_the_last_few() -> None:
    x = torch.arange(50.0)[:, None]
    data = Held({LAST: x}, (torch.arange(50) % 2), batch=16)
    seen = [
        torch.cat([features[LAST][:, 0] for features, _ in data.epoch(number)])
        for number in range(2)
    ]
    assert all(len(each) == 48 for each in seen)
    assert all(len(each.unique()) == 48 for each in seen)
    assert not torch.equal(*seen)
    assert all(
        torch.equal(features[LAST][:, 0] % 2, labels.float()) for features, labels in data.epoch(0)
    )
    assert torch.equal(torch.cat([features[LAST] for features, _ in data.blocks([LAST])]), x)


def test_stored_features_train_the_probes_that_held_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_batches, "BLOCK", 7)
    model, images = sslens.load(NANO), sslens.open_images("scenes:0:40")
    folder = tmp_path / "features"
    extract(model, images, folder, taps=["blocks.3", "norm"], dtype="float32", shard=16)
    store, columns = open_features(folder), [("blocks.3", "patch"), LAST]
    stored = Stored(store, columns=columns, batch=10)
    assert list(stored.columns) == columns
    (whole,) = collect(model, images, [FeatureReducer()])
    labels = dict(zip(images.ids, images.labels.tolist(), strict=True))
    alike = Stored(whole.labelled(labels, images.classes), columns=columns, batch=10)
    held = Held({c: store.read(*c).float() for c in columns}, stored.labels, 10, batch=10)
    heads = [Head((LAST,)), Head((columns[0], LAST), 2)]
    probes = train_probes(stored, heads, QUICK)
    ours, theirs = probes.right(stored), probes.right(held)
    for head in heads:
        assert np.array_equal(ours[head], theirs[head])
        assert torch.equal(probes.logits(head, 1, stored), probes.logits(head, 1, held))
    some = stored.take(np.array([5, 3, 30]))
    assert some.labels.tolist() == stored.labels[[5, 3, 30]].tolist()
    features, taken = next(some.blocks([LAST]))
    assert torch.equal(features[LAST], held.features[LAST][[5, 3, 30]])
    assert torch.equal(taken, some.labels)
    seen = torch.cat([features[LAST] for features, _ in stored.epoch(0)])
    assert len(seen.unique(dim=0)) == 40
    assert [len(labels) for _, labels in alike.epoch(0)] == [10] * 4
    with pytest.raises(InputError, match=r"no features norm/clsx: did you mean norm/cls"):
        Stored(store, columns=[("norm", "clsx")])


def test_features_without_labels_are_refused() -> None:
    store = Features.of({("norm", "cls"): torch.ones(2, 2)})
    with pytest.raises(InputError, match="stored features have no labels"):
        Stored(store)
    assert Stored(store, torch.tensor([0, 1])).classes == 2


@pytest.mark.parametrize(
    ("images", "batch"), [(1_281_167, 4096), (131_072, 4096), (131_071, 2048), (640, 32), (20, 20)]
)
def test_small_sets_have_small_batches(images: int, batch: int) -> None:
    assert usual_batch(images) == batch


def test_views_are_what_the_model_makes_of_crops_and_flips() -> None:
    """Of images of one colour all crops are alike, so that features are those of the evaluation,
    but for rounding."""
    pixels = (
        np.repeat(np.random.default_rng(0).integers(0, 256, (12, 1, 1, 3)), 40, 1)
        .repeat(40, 2)
        .astype(np.uint8)
    )
    images = from_arrays(pixels, [0, 1] * 6)
    model = sslens.load(NANO)
    columns = [("blocks.0", "mean"), LAST]
    data = Augmented(model, images, columns, batch=5, seed=3)
    assert (data.steps, data.classes, dict(data.columns)) == (
        2,
        2,
        {columns[0]: 64, columns[1]: 64},
    )
    (whole,) = collect(model, images, [FeatureReducer()])
    for features, labels in data.epoch(0):
        for column in columns:
            expected = whole.read(*column)
            rows = torch.cdist(features[column], expected).argmin(1)
            torch.testing.assert_close(features[column], expected[rows], atol=1e-4, rtol=0)
            ids = [whole.ids[row] for row in rows]
            assert [int(images.labels[int(name)]) for name in ids] == labels.tolist()


def test_views_differ_by_epoch_and_are_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    images = sslens.open_images("scenes:0:20")
    data = Augmented(sslens.load(NANO), images, [LAST], batch=10)
    first, again, second = (
        torch.cat([f[LAST] for f, _ in data.epoch(number)]) for number in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert len(torch.cat([first, second]).unique(dim=0)) == 40
    monkeypatch.setattr(
        "sslens.probes.linear.augmented.FORWARD", 3
    )  # how a batch is cut up does not matter
    torch.testing.assert_close(
        torch.cat([f[LAST] for f, _ in data.epoch(0)]), first, atol=1e-5, rtol=0
    )
    probes = train_probes(
        data, [Head((LAST,))], [replace(point, warmup=1, epochs=3) for point in QUICK]
    )
    assert probes.right(Held({LAST: first}, torch.arange(20) % 10))[Head((LAST,))].shape == (2, 20)


def test_what_a_model_lacks_is_refused() -> None:
    model, images = sslens.load(NANO), sslens.open_images("scenes:0:20")
    with pytest.raises(InputError, match=r'no tap "blocks.9"'):
        Augmented(model, images, [("blocks.9", "cls")])
    with pytest.raises(InputError, match="no features norm/flat"):
        Augmented(model, images, [("norm", "flat")])
    with pytest.raises(InputError, match="have no classes"):
        Augmented(model, from_arrays(np.zeros((4, 8, 8), np.uint8)), [LAST])


# ------------------------------------------------------------------------------------------------
# choosing


def test_the_point_is_chosen_on_validation_and_told_of_the_test() -> None:
    rng = np.random.default_rng(0)
    validation, test = rng.random((7, 30)) < 0.5, rng.random((7, 40)) < 0.6
    validation[2] = validation[5] = True
    diverged = np.array([-1, -1, 4, -1, -1, -1, -1])
    found = choose(Head((LAST,)), validation, test, diverged)
    assert (found.point, found.validation, found.diverged) == (5, 1.0, 1)
    assert found.accuracy == test[5].mean()
    assert (found.low, found.high) == wilson(int(test[5].sum()), 40)
    best = sorted((test[i].mean() for i in range(7) if i != 2), reverse=True)[:5]
    assert found.best == pytest.approx(np.mean(best))
    assert found.std == pytest.approx(np.std(best, ddof=1))
    with pytest.raises(
        InputError,
        match="All 7 points of the grid diverged for norm/cls: give lower learning rates",
    ):
        choose(Head((LAST,)), validation, test, np.zeros(7, int))


def test_a_point_at_the_edge_of_its_grid_is_said() -> None:
    right = np.eye(6, dtype=bool)[[0, 0, 0, 0, 0, 0]].repeat(4, 1)  # each point has four images
    grid = [Point(lr, decay) for lr in (0.1, 1.0, 10.0) for decay in (0.0, 0.1)]
    reasons = []
    for best in range(6):
        validation = right.copy()
        validation[best] = True
        found = choose(Head((LAST,)), validation, right, np.full(6, -1), grid)
        assert found.point == best
        assert found.inside == (not found.why)
        reasons.append(found.why)
    lowest, highest = (f"the chosen learning rate, {lr}, is the" for lr in ("0.1", "10"))
    decay = "the chosen weight decay, 0.1, is the highest that was tried"
    assert reasons == [
        f"{lowest} lowest that was tried",
        f"{lowest} lowest that was tried; {decay}",
        "",
        decay,
        f"{highest} highest that was tried",
        f"{highest} highest that was tried; {decay}",
    ]
    assert choose(Head((LAST,)), right, right, np.full(6, -1)).inside  # no grid is told


def test_folds_test_every_image_by_probes_that_have_not_seen_it() -> None:
    """Labels are drawn at random and each image has a feature of its own: only one that was trained
    on can be told."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.permutation(np.arange(60) % 2))
    ids, head = [str(i) for i in range(60)], Head((LAST,))
    told = Held({LAST: torch.eye(60) + 0.0}, labels, 2, batch=30)
    found = train_in_folds(told, ids, [head], lambda batch, steps: QUICK, count=3)[0][head]
    assert found.right.shape == (60,)
    assert 0.2 < found.accuracy < 0.8
    easy = train_in_folds(known(60, 0), ids, [head], lambda batch, steps: QUICK, count=5)[0][head]
    assert easy.accuracy > 0.6
    assert (easy.low, easy.high) == wilson(int(easy.right.sum()), 60)


def test_few_shot_takes_its_share_of_training_and_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, validation, test = known(90, 0), known(60, 1), known(30, 2)
    taken: list[int] = []
    whole = Held.take

    def take(self: Held, rows: np.ndarray, **options: int) -> Held:
        taken.append(len(rows))
        return whole(self, rows, **options)

    monkeypatch.setattr(Held, "take", take)
    ids = [str(i) for i in range(90)]
    asked: list[tuple[int, int]] = []

    def grid(batch: int, steps: int) -> tuple[Point, ...]:
        asked.append((batch, steps))
        return QUICK

    found = few_shot_outcomes(
        train, ids, validation, ids[:60], test, [Head((LAST,))], grid, share=0.1, draws=3
    )
    assert taken == [9, 6] * 3
    assert asked == [(9, 1)] * 3  # the rates are those of so few images
    assert len(found) == 3
    assert all(outcome.right.shape == (30,) for each in found for outcome in each.values())


def test_outcomes_are_of_every_head() -> None:
    train, test = known(90, 0), known(60, 1)
    probes = train_probes(train, [Head((LAST,)), Head((LAST,), 2)], QUICK)
    found = outcomes(probes, known(30, 2), test)
    assert list(found) == [Head((LAST,)), Head((LAST,), 2)]
    for head, each in found.items():
        right = (probes.logits(head, each.point, test).argmax(1) == test.labels).numpy()
        assert np.array_equal(each.right, right)


# ------------------------------------------------------------------------------------------------
# splits


def test_splits_are_stratified_and_independent_of_the_order() -> None:
    labels = np.repeat([0, 1, 2], [50, 20, 5])
    ids = [f"image {i}" for i in range(75)]
    kept, held = held_out(labels, ids, 0.2, seed=1)
    assert np.bincount(labels[held]).tolist() == [10, 4, 1]
    assert sorted([*kept, *held]) == list(range(75))
    order = np.random.default_rng(0).permutation(75)
    again = held_out(labels[order], [ids[i] for i in order], 0.2, seed=1)[1]
    assert {ids[order[i]] for i in again} == {ids[i] for i in held}
    assert set(held) != set(held_out(labels, ids, 0.2, seed=2)[1])
    assert np.bincount(labels[few_shot(labels, ids, 0.1)]).tolist() == [5, 2, 1]
    fold = folds(labels, ids, 5)
    assert [np.bincount(labels[fold == i]).tolist() for i in range(5)] == [[10, 4, 1]] * 5


def test_what_cannot_be_split_is_refused() -> None:
    labels, ids = np.array([0, 0, 0, 1]), list("abcd")
    with pytest.raises(
        InputError, match="Class 1 has one image, which cannot both be trained on and held out"
    ):
        held_out(labels, ids)
    with pytest.raises(InputError, match="Class 1 has 1 image, and there are 3 folds"):
        folds(labels, ids, 3)
    with pytest.raises(InputError, match="2 folds leave none"):
        folds(labels, ids, 2)
    with pytest.raises(InputError, match=r"share of 1\.0 is no part"):
        few_shot(labels, ids, 1.0)
    with pytest.raises(InputError, match="4 labels for 3 ids"):
        few_shot(labels, list("abc"), 0.5)


# ------------------------------------------------------------------------------------------------
# the command line


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["probe", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[-1].removeprefix("sslens: ")


@pytest.mark.slow
def test_probe_writes_tables_and_says_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [
        NANO,
        "--images",
        "scenes:0:120",
        "--test",
        "scenes:1:60",
        "--grid",
        "small",
        "--taps",
        "blocks.1",
        "norm",
    ]
    options = [
        "--with-last",
        "--layers",
        "1",
        "2",
        "--factors",
        "--few-shot",
        "0.2",
        "--draws",
        "2",
        "--device",
        "cpu",
    ]
    assert main(["probe", *arguments, *options, "--out", str(out)]) == 0
    printed, err = capsys.readouterr()
    assert printed.strip() == str(out)
    assert "probe     " in err
    assert "ridge     " in err
    tables = {path.stem: pd.read_csv(path) for path in out.glob("*.csv")}
    assert {name: len(frame) for name, frame in tables.items()} == {
        "probes": 6,
        "grid": 48,
        "ridge": 3,
        "factors": 3 * (1 + len(FACTORS)),  # the class is one
        "few-shot-0.2": 12,
    }
    probes, grid = tables["probes"], tables["grid"]
    assert set(probes.tap) == {"blocks.1", "norm", "blocks.1 + norm"}
    assert (probes.images == 60).all()
    for row in probes.itertuples():
        mine = grid[(grid.tap == row.tap) & (grid.layers == row.layers)]
        assert row.validation == pytest.approx(mine.validation.max())
        assert row.best == pytest.approx(mine.accuracy.nlargest(5).mean(), abs=1e-5)
        assert row.low <= row.accuracy <= row.high


def test_the_preview_learns_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store that holds one class after another, as a folder of images does."""
    labels = np.arange(100) // 50
    values = (
        torch.from_numpy(labels)[:, None]
        + torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) / 10
    )
    store = Features.of({("norm", "cls"): values}, labels=labels, classes=("a", "b"))
    part = Part(store, np.arange(100), labels, None)
    monkeypatch.setattr(probe_tables, "PREVIEWED", 20)
    request = ProbeRequest(NANO, "scenes:0:100", folds=3)
    sets = ProbeSets(request, None, ("a", "b"), part, part, part)
    table = probe_tables.preview(sets, [Head((LAST,))]).frame
    assert (table.accuracy.item(), table.trained.item(), table.images.item()) == (1.0, 20, 100)


def test_probe_reads_stored_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = sslens.load(NANO)
    for name, source in (("train", "scenes:0:100"), ("test", "scenes:1:40")):
        extract(model, sslens.open_images(source), tmp_path / name, taps=["blocks.1", "norm"])
    train, test = str(tmp_path / "train"), str(tmp_path / "test")
    assert main(["probe", train, "--test", test, "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert "100 stored images of random" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert (
        main(["probe", train, "--test", test, "--grid", "small", "--out", str(tmp_path / "out")])
        == 0
    )
    assert pd.read_csv(tmp_path / "out" / "probes.csv").pooling.tolist() == ["cls"]
    assert "holds the images that the probes are trained on" in refused(
        [train, "--test", train], capsys
    )
    assert "leave --images out" in refused([train, "--images", "scenes", "--test", test], capsys)
    assert "no tap" in refused(
        [train, "--test", test, "--taps", "blocks.2", "--grid", "small"], capsys
    )
    assert (
        main(["probe", train, "--folds", "3", "--grid", "small", "--out", str(tmp_path / "folds")])
        == 0
    )
    assert pd.read_csv(tmp_path / "folds" / "probes.csv").images.tolist() == [100]


def test_mistakes_are_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    np.savez("one.npz", images=pixels, labels=np.zeros(12, int))
    np.savez("none.npz", images=pixels)
    np.savez("lone.npz", images=pixels, labels=np.array([0] * 11 + [1]))
    np.savez("other.npz", images=pixels, labels=np.array([0, 7] * 6))
    np.savez("test.npz", images=255 - pixels, labels=np.zeros(12, int))
    base = ["--test", "scenes:1:20", "--grid", "small", "--out", "out"]
    for images, said in [
        ("none.npz", "The images of none.npz have no classes, and a probe learns them"),
        ("other.npz", 'scenes:1:20 has images of the class "'),
    ]:
        assert said in refused([NANO, "--images", images, *base], capsys)
    lone = refused([NANO, "--images", "lone.npz", "--test", "lone.npz", "--out", "out"], capsys)
    assert "All 12 images of lone are among those that are judged" in lone
    for images, said in [
        ("one.npz", "The images of one.npz are of one class"),
        ("lone.npz", "Class 1 has one image"),
    ]:
        asked = [NANO, "--images", images, "--test", "test.npz", "--grid", "small", "--out", "out"]
        assert said in refused(asked, capsys)
    for arguments, said in [
        ([NANO, "--test", "scenes:1:20"], "no images to train on"),
        ([NANO, "--images", "scenes"], "There are no images to test on: give --test"),
        ([NANO, "--images", "scenes:0:120", *base, "--top", "11"], "top 11 of 10 classes"),
        (
            [NANO, "--images", "scenes:0:40", *base, "--layers", "0"],
            "layers is 0: give 1 or more to --layers",
        ),
        (
            [NANO, "--images", "scenes:0:40", "--folds", "3", "--few-shot", "0.1"],
            "few_shot wants images to test on: leave --few-shot out, or give --test",
        ),
        ([NANO, "--images", "scenes:0:120", *base, "--taps", "blocks.99"], "no tap"),
    ]:
        assert said in refused(arguments, capsys)
    assert not Path("out").exists()


def test_images_that_are_tested_do_not_train_or_choose_probes() -> None:
    request = ProbeRequest(NANO, "scenes:0:60", val="scenes:0:50", test="scenes:0:40")
    sets = open_probe_images(request, quiet=True)
    assert [len(sets[role]) for role in ("train", "val", "test")] == [10, 10, 40]
    assert not set(sets["train"].digests) & set(sets["test"].digests)
    assert not set(sets["train"].digests) & set(sets["val"].digests)
    assert "10 images of" in sets["train"].notes[-1]
