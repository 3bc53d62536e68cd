"""Features are kept once: whoever asks for those of a model over images is given what another made,
in the order that is asked for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import sslens
from forks import forked
from sslens import cli
from sslens.capture import (
    FeatureReducer,
    Features,
    GramReducer,
    PassRequest,
    WideGramReducer,
    collect,
    extract,
    find_missing,
    passes,
)
from sslens.capture.manifest import MANIFEST
from sslens.data.images import ImageSet, from_arrays
from sslens.errors import Doubt, InputError
from sslens.models.backbone import Backbone
from sslens.plan import Plan
from sslens.store import Store

NANO = "random:vit_nano_patch8_32"


@pytest.fixture(scope="module")
def model() -> Backbone:
    return sslens.load(NANO)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sslens.open_images("scenes:0:50")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@contextmanager
def passed() -> Iterator[list[int]]:
    """The images of each pass that is run within the block."""
    seen: list[int] = []
    run = passes.run_pass

    def spy(request, jobs, *rest):  # type: ignore[no-untyped-def]
        numbers = {number for _, job in jobs for number in job.minibatches}
        seen.append(sum(request.plan.sizes[number] for number in numbers))
        run(request, jobs, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "run_pass", spy)
        patch.setattr("sslens.capture.shards.run_pass", spy)
        yield seen


def features(model: Backbone, images: ImageSet, store: Store | None, **options: object) -> Features:
    taps = options.pop("names", None)
    (made,) = collect(model, images, [FeatureReducer(taps)], store=store, **options)  # type: ignore[arg-type]
    return made


def require_equal(a: Features, b: Features, tolerance: float = 0.0) -> None:
    """The same features of the same images in the same order."""
    assert a.ids == b.ids
    assert dict(a.columns) == dict(b.columns)
    for column in a.columns:
        torch.testing.assert_close(a.read(*column), b.read(*column), rtol=0, atol=tolerance)
    assert (a.labels is None) == (b.labels is None)
    if a.labels is not None and b.labels is not None:
        assert a.labels.tolist() == b.labels.tolist()
    assert (a.taps, a.classes, a.model) == (b.taps, b.classes, b.model)


@pytest.mark.parametrize("batch", [16, 12, 24, 50])
def test_what_is_stored_is_what_a_pass_in_memory_gives(
    model: Backbone, images: ImageSet, store: Store, batch: int
) -> None:
    """Also where the last minibatch is larger than the others: 16, 16 and 18 of 50 images."""
    plan = Plan.draw(images.ids, batch)
    made, alone = (features(model, images, each, plan=plan) for each in (store, None))
    require_equal(made, alone)
    assert made.key == alone.key
    assert made.ids == plan.ids
    assert images.labels is not None
    assert made.labels is not None
    by_id = dict(zip(images.ids, images.labels.tolist(), strict=True))
    assert made.labels.tolist() == [by_id[name] for name in plan.ids]


def test_an_uneven_plan_is_kept_as_one_shard(
    model: Backbone, images: ImageSet, store: Store
) -> None:
    cuts = [0, 3, 20, 21, 40, 50]
    plan = Plan(tuple(images.ids[a:b] for a, b in pairwise(cuts)))
    require_equal(*(features(model, images, each, plan=plan) for each in (store, None)))


def test_neither_plan_nor_order_nor_taps_ask_for_a_second_pass(
    model: Backbone, images: ImageSet, store: Store
) -> None:
    turned = images.take(np.random.default_rng(0).permutation(50).tolist())
    with passed() as seen:
        first = features(model, images, store)
        assert seen == [50]
        for each in (images, turned):
            for plan in (None, Plan.draw(each.ids, 8, seed=3), Plan.in_order(each.ids, 7)):
                made = features(sslens.load(NANO), each, store, plan=plan)
                expected = features(model, each, None, plan=plan)
                require_equal(made, expected, 1e-5)
        some = features(model, images, store, names=("norm", "blocks.1"))
        assert some.columns == {
            column: 64 for column in first.columns if column[0] in ("blocks.1", "norm")
        }
        assert torch.equal(some.read("norm", "patch"), first.read("norm", "patch"))
        grams = [GramReducer(), FeatureReducer()]
        assert find_missing(model, images, grams, store=store) == (True, False)
    assert seen.count(50) == 1 + 6  # and those without a store


def test_only_taps_that_are_not_there_are_passed(
    model: Backbone, images: ImageSet, store: Store
) -> None:
    with passed() as seen:
        features(model, images, store, plan=Plan.in_order(images.ids))
        made = features(model, images, store, names=("blocks.0.attn.qkv", "norm"))
        again = features(model, images, store, names=("blocks.0.attn.qkv", "norm"))
    assert seen == [50, 50]
    require_equal(made, again)
    folders = list((store.root / "features").glob("*/*/*"))
    assert len(folders) == 2
    held = sorted(sum(made.columns[c] for c in made.columns if c[0] != "norm") for _ in folders)
    assert held == [192 * 3] * 2
    expected = features(model, images, None, names=("blocks.0.attn.qkv", "norm"))
    require_equal(made, expected, 1e-5)


def test_whatever_decides_features_asks_for_a_pass(
    model: Backbone, images: ImageSet, store: Store
) -> None:
    features(model, images, store)
    resampled = sslens.load(NANO)
    resampled.transform = replace(resampled.transform, interpolation="bilinear")
    pixels = np.stack([np.asarray(images.image(row)) for row in range(50)])
    pixels[7, 0, 0, 0] ^= 1
    others = [
        (sslens.load(f"{NANO}:1"), images, {}),
        (resampled, images, {}),
        (model, images.take(range(49)), {}),
        (model, replace(images, labels=None, classes=()), {}),
        (model, from_arrays(pixels, images.labels, ids=images.ids), {}),
        (model, images, {"precision": "bfloat16"}),
    ]
    for one, shown, options in others:
        (missing,) = find_missing(one, shown, [FeatureReducer()], store=store, **options)  # type: ignore[arg-type]
        assert missing
    assert find_missing(model, images, [FeatureReducer()], store=store) == (False,)


def test_a_folder_is_made_of_what_is_stored(
    model: Backbone, images: ImageSet, store: Store, tmp_path: Path
) -> None:
    options = {"taps": ["blocks.1", "norm"], "poolings": ["cls", "patch"], "shard": 16, "batch": 6}
    stored = features(model, images, store)
    with passed() as seen:
        half = extract(model, images, tmp_path / "half", store=store, **options)  # type: ignore[arg-type]
        whole = extract(model, images, tmp_path / "32", store=store, dtype="float32", **options)  # type: ignore[arg-type]
    assert seen == []
    row = {name: place for place, name in enumerate(stored.ids)}
    order = torch.tensor([row[name] for name in images.ids])
    for column in half.columns:
        expected = stored.read(*column)[order]
        assert torch.equal(whole.read(*column), expected)
        assert torch.equal(half.read(*column), expected.half())
    assert half.ids == images.ids
    passed_again = extract(model, images, tmp_path / "own", **options)  # type: ignore[arg-type]
    assert passed_again.key == half.key
    torch.testing.assert_close(
        passed_again.read("norm", "cls"), half.read("norm", "cls"), atol=2e-3, rtol=2e-3
    )


def test_the_plan_of_a_folder_says_whether_there_is_a_pass(
    images: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["features", NANO, "--images", "scenes:0:50", "--device", "cpu", "--out"]
    out = str(tmp_path / "made")

    def read_plan(*more: str) -> str:
        with passed() as seen:
            assert cli.main([*line, out, *more]) == 0
        (told,) = (one for one in capsys.readouterr().err.splitlines() if one.startswith("pass "))
        return f"{told.split(maxsplit=1)[1]}; passed {sum(seen)}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLENS_HOME", str(tmp_path / "home"))
        assert read_plan("--dry-run") == "1 of 1 file to be made, on cpu; passed 0"
        features(sslens.load(NANO), images, Store(tmp_path / "home/store"))
        stored = "none, as the features are in the store: 1 of 1 file to be written"
        assert read_plan("--dry-run") == read_plan() == f"{stored}; passed 0"
        assert read_plan() == "none, as the folder has them all; passed 0"


def test_stored_features_that_float16_cannot_hold_are_refused_too(
    images: ImageSet, store: Store, tmp_path: Path
) -> None:
    model = sslens.load(NANO)
    with torch.no_grad():
        model.network.norm.weight.fill_(0)
        model.network.norm.bias.fill_(1e5)
    features(model, images, store)
    with pytest.raises(InputError, match=r"at norm \(cls\) reach 1e[+]05, .* dtype=.float32"):
        extract(model, images, tmp_path / "out", store=store)


def test_a_pass_that_was_killed_goes_on_where_it_was(
    model: Backbone, images: ImageSet, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    monkeypatch.setattr("sslens.capture.feature_reducer.SHARD", 16)
    plan = Plan.in_order(images.ids, 8)

    def killed() -> None:
        def progress(done: int, total: int) -> None:
            if done >= 40:
                os.kill(os.getpid(), signal.SIGKILL)

        features(model, images, store, plan=plan, progress=progress)

    assert forked(killed) == [-signal.SIGKILL]
    assert len(list(store.root.rglob("shard-*"))) == 2
    with passed() as seen:
        made = features(model, images, store, plan=plan)
    assert seen == [18]
    require_equal(made, features(model, images, None, plan=plan))


@pytest.mark.parametrize("harm", ["manifest", "shard", "ids", "gone"])
def test_what_is_damaged_is_computed_again(
    harm: str, model: Backbone, images: ImageSet, store: Store
) -> None:
    made = features(model, images, store)
    (manifest,) = store.root.rglob(MANIFEST)
    paths = {
        "manifest": manifest,
        "shard": manifest.parent / "shard-00000.safetensors",
        "ids": manifest.parent / "images.safetensors",
    }
    if harm == "gone":
        shutil.rmtree(manifest.parent)
    else:
        paths[harm].write_bytes(paths[harm].read_bytes()[:50])
    with passed() as seen:
        if harm == "shard":
            with pytest.warns(Doubt, match="is cut off or of other features"):
                again = features(model, images, store)
        else:
            again = features(model, images, store)
    assert seen == [50]
    require_equal(made, again)


def test_grams_and_features_share_a_pass(model: Backbone, images: ImageSet, store: Store) -> None:
    plan, wanted = (
        Plan.draw(images.ids, 8),
        [WideGramReducer(width=16), GramReducer("cls"), FeatureReducer()],
    )
    with passed() as seen:
        for _ in range(2):
            collect(model, images, wanted, plan=plan, store=store)  # type: ignore[arg-type]
    assert seen == [50]


def test_a_model_that_was_compared_is_not_passed_again_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    source, images = [NANO, f"{NANO}:1"], ["--images", "scenes:0:120"]
    common = ["--device", "cpu", "--precision", "float32"]

    def run(*arguments: str) -> None:
        assert cli.main([*arguments, *common]) == 0

    assert forked(lambda: run("compare", *source, *images, "--analyses", "knn-depth")) == [0]

    def others() -> None:
        with passed() as seen:
            run("knn", source[0], *images)
            run("features", source[0], *images, "--out", "features")
            run("probe", source[0], *images, "--folds", "3", "--grid", "small")
        assert seen == []

    assert forked(others) == [0]


def test_features_of_a_store_of_version_0_1_are_found(
    model: Backbone, images: ImageSet, store: Store
) -> None:
    plan = Plan.draw(images.ids, 16)
    made = features(model, images, None, plan=plan)
    request = PassRequest.of(model, images, plan, [tap.name for tap in made.taps], "float32")
    key = request.key("features", 1, {"kinds": ["block", "norm", "pixels"]})
    store.write("features", key, {"/".join(column): made.read(*column) for column in made.columns})
    with passed() as seen:
        require_equal(features(model, images, store, plan=plan), made)
    assert seen == []


@pytest.mark.parametrize("name", ["convnextv2_mini_32", "vit_nano_patch8_32"])
def test_features_of_fc1_are_means_over_places(
    name: str, images: ImageSet, store: Store, tmp_path: Path
) -> None:
    """A ConvNeXt's linear `fc1` has the channels last, and a transformer's has tokens."""
    model, few = sslens.load(f"random:{name}"), images.take(range(8))
    tap = next(tap.name for tap in model.taps.values() if tap.kind == "fc1")
    pixels = torch.stack([model.transform(few.image(row)) for row in range(8)])
    output = sslens.activations(model, pixels, [tap])[tap]
    expected = output.flatten(1, -2).mean(1)
    for made in (
        features(model, few, None, names=(tap,)),
        features(model, few, store, names=(tap,)),
        extract(model, few, tmp_path / name, taps=[tap], dtype="float32"),
    ):
        rows = [made.ids.index(one) for one in few.ids]
        torch.testing.assert_close(made.read(tap, "mean")[rows], expected, atol=1e-5, rtol=1e-5)


def test_rows_are_in_the_order_of_the_images_that_were_given(model: Backbone, store: Store) -> None:
    """In every path: without a store, fresh in a store, and from what another pass stored."""
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (12, 32, 32, 3), np.uint8)
    images = from_arrays(pixels, noise.integers(0, 3, 12), classes=["a", "b", "c"])
    images = images.take(noise.permutation(12))
    assert images.labels is not None
    seen = torch.stack([model.transform(images.image(row)) for row in range(12)])
    tokens = sslens.activations(model, seen, ["norm"])["norm"][:, 0]
    ways: list[dict[str, object]] = [{}, {"store": store}, {"store": store}]
    ways += [{"store": store, "plan": Plan.draw(images.ids, 4, seed=1)}]
    for options in ways:
        made = sslens.features(model, images, taps=["norm"], **options)
        assert made.ids == images.ids
        assert made.labels is not None
        assert made.labels.tolist() == images.labels.tolist()
        torch.testing.assert_close(made.read("norm", "cls"), tokens, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            made.read("norm", "cls", slice(3, 5)), made.read("norm", "cls")[3:5]
        )
        (block,) = made.blocks(12)
        assert block.labels is not None
        assert block.labels.tolist() == images.labels.tolist()
        maps = passes.maps(model, images, **options)  # type: ignore[arg-type]
        assert maps.ids == images.ids
        assert torch.equal(
            maps.read("blocks.1")[5], passes.maps(model, images).read("blocks.1", [5])[0]
        )
    assert (
        sslens.features(model, images).key["ids"]
        != sslens.features(model, images.take(range(11, -1, -1))).key["ids"]
    )
