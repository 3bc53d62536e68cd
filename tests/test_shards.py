"""Stored features: equal to those of a pass in memory, resumed by shards, refused where they are of
something else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import sslens
from forks import forked, together
from sslens.capture import Features, folders, open_features, writing
from sslens.capture.manifest import (
    IMAGES,
    MANIFEST,
    Manifest,
    is_features,
    locate_columns,
    shard_path,
)
from sslens.capture.passes import features
from sslens.capture.shards import describe, extract
from sslens.data.images import ImageSet, from_arrays
from sslens.errors import Doubt, InputError
from sslens.models.backbone import Backbone
from sslens.processes import processes
from sslens.whole_file import seal, unseal

NANO = "random:vit_nano_patch8_32"


@pytest.fixture(scope="module")
def model() -> Backbone:
    return sslens.load(NANO)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sslens.open_images("scenes:0:50")


def stored(model: Backbone, images: ImageSet, folder: Path, **options: object) -> Features:
    return extract(
        model, images, folder, **{"shard": 16, "batch": 6, "taps": ["blocks.1", "norm"], **options}
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def kept(model: Backbone, images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "features"
    stored(model, images, folder)
    return folder


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "copy"))


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "source",
    [
        NANO,
        "random:vit_nano_patch8_32:1 blocks=2",
        "random:convnextv2_8x16x32x64_1x1x2x1_64",
        "pixels",
    ],
)
def test_they_are_the_features_of_a_pass_in_memory(
    source: str, dtype: str, images: ImageSet, tmp_path: Path
) -> None:
    model = sslens.load(source)
    made = features(model, images)
    store = extract(model, images, tmp_path / "out", shard=16, batch=6, dtype=dtype)
    assert list(store.columns) == list(made.columns)
    row = {name: i for i, name in enumerate(made.ids)}
    order = [row[name] for name in store.ids]
    for (tap, pooling), width in store.columns.items():
        expected = made.read(tap, pooling)[order]
        found = store.read(tap, pooling)
        assert found.shape == (50, width)
        if (
            dtype == "float16"
        ):  # 11 bits, and the rounding of a product over another number of images
            torch.testing.assert_close(found.float(), expected, rtol=2**-11 + 1e-4, atol=1e-5)
        else:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert store.ids == images.ids
    assert images.labels is not None
    assert store.labels is not None
    assert store.labels.tolist() == images.labels.tolist()
    assert store.classes == images.classes
    assert [tap.kind for tap in store.taps] == [tap.kind for tap in made.taps]


def test_only_the_taps_and_poolings_that_are_asked_for_are_stored(
    model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    store = stored(
        model, images, tmp_path, poolings=["patch", "cls"], taps=["norm", "blocks.0.attn.qkv"]
    )
    assert store.columns == {
        ("blocks.0.attn.qkv", "cls"): 192,
        ("blocks.0.attn.qkv", "patch"): 192,
        ("norm", "cls"): 64,
        ("norm", "patch"): 64,
    }
    assert store.poolings == ("cls", "patch")
    assert store.row_bytes == 2 * 512
    size = sum(path.stat().st_size for path in tmp_path.glob("shard-*"))
    assert (
        50 * store.row_bytes < size < 50 * store.row_bytes + 4 * 1000
    )  # what the plan says, and four headers


def test_rows_blocks_and_orders_agree_with_the_whole(kept: Path, images: ImageSet) -> None:
    store = open_features(kept)
    whole = store.read("norm", "cls")
    for rows in (
        slice(3, 9),
        slice(10, 40),
        slice(16, 32),
        slice(-5, None),
        slice(0, 50, 7),
        slice(20, 20),
    ):
        assert torch.equal(store.read("norm", "cls", rows), whole[rows])
    some = np.array([49, 0, 17, 17, 3])
    assert torch.equal(store.read("norm", "cls", some), whole[torch.from_numpy(some)])
    for rows in (None, store.order(3), np.array([40, 2, 33])):
        found = list(store.blocks(7, columns=[("norm", "cls"), ("blocks.1", "patch")], rows=rows))
        assert [len(block.rows) for block in found[:-1]] == [7] * (len(found) - 1)
        order = np.concatenate([block.rows for block in found])
        assert order.tolist() == (np.arange(50) if rows is None else rows).tolist()
        assert torch.equal(
            torch.cat([block.features["norm", "cls"] for block in found]), whole[order]
        )
        assert images.labels is not None
        assert (
            torch.cat([block.labels for block in found if block.labels is not None]).tolist()
            == images.labels[order].tolist()
        )
    assert list(next(store.blocks(50)).features) == list(store.columns)


def test_an_order_is_a_shuffle_that_reads_shards_one_window_after_the_other(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_features(kept)
    assert sorted(store.order(0)) == list(range(50))
    assert store.order(0).tolist() == store.order(0).tolist() != store.order(1).tolist()
    assert sorted(store.order(0, np.array([5, 20, 44]))) == [5, 20, 44]
    assert len(set(store.order(0)[:16] // 16)) > 1  # a small store as a whole
    monkeypatch.setattr("sslens.capture.sources.WINDOW", 2 * store.row_bytes * 16)
    seen = store.order(0) // 16
    assert len(set(seen)) == 4
    halves = [{*seen[:n]} for n in (18, 32) if {*seen[:n]}.isdisjoint(seen[n:])]
    assert [len(half) for half in halves] == [2]
    monkeypatch.setattr("sslens.capture.sources.WINDOW", 1)
    seen = store.order(0) // 16
    assert (np.diff(seen) != 0).sum() == 3  # shard by shard


def test_a_map_is_never_written_to_the_file(copy: Path) -> None:
    store = open_features(copy)
    before = shards(copy)
    store.read("norm", "cls", slice(0, 16)).zero_()
    del store
    assert shards(copy) == before


def test_features_in_memory_are_read_the_same_way(model: Backbone, images: ImageSet) -> None:
    made = features(model, images, taps=["norm"])
    assert images.labels is not None
    labels = dict(zip(images.ids, images.labels.tolist(), strict=True))
    store = made.labelled(labels, images.classes)
    assert store.labels is not None
    assert store.labels.tolist() == [labels[name] for name in made.ids]
    assert torch.equal(store.read("norm", "patch", slice(2, 30)), made.read("norm", "patch")[2:30])
    assert torch.equal(
        next(store.blocks(20)).features["norm", "cls"], made.read("norm", "cls")[:20]
    )
    assert sorted(store.order(0)) == list(range(50))


def test_the_same_call_again_computes_nothing(
    copy: Path, model: Backbone, images: ImageSet
) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    seen: list[int] = []
    stored(model, images, copy, progress=lambda done, total: seen.append(done))
    assert seen == []
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == before
    stored(model, images, copy, shard=None)  # the folder's own
    assert seen == []


def test_a_kill_loses_one_shard_at_most(
    kept: Path, model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    """SIGKILL in the middle of the third shard: two are there, and the rest is made as if nothing
    had been."""
    import os
    import signal

    folder = tmp_path / "killed"

    def killed() -> None:
        def progress(done: int, total: int) -> None:
            if done >= 38:
                os.kill(os.getpid(), signal.SIGKILL)

        stored(model, images, folder, progress=progress)

    assert forked(killed) == [-signal.SIGKILL]
    assert {path.name for path in folder.glob("shard-*")} == {
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    }
    with pytest.raises(
        InputError,
        match=(
            r"2 of 4 shards of .* cannot be used, first shard-00002.safetensors, which is missing"
        ),
    ):
        open_features(folder)
    seen: list[tuple[int, int]] = []
    stored(model, images, folder, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (18, 18)
    assert shards(folder) == shards(kept)


@pytest.mark.parametrize("harm", ["cut off", "header", "empty", "another's"])
def test_a_shard_that_is_cut_off_is_said_and_made_again(
    harm: str, copy: Path, kept: Path, model: Backbone, images: ImageSet
) -> None:
    path = shard_path(copy, 1)
    whole = path.read_bytes()
    harmed = {
        "cut off": whole[:-100],
        "header": whole[:40],
        "empty": b"",
        "another's": shard_path(copy, 2).read_bytes(),
    }
    path.write_bytes(harmed[harm])
    with pytest.raises(
        InputError,
        match=r"1 of 4 shards .* first shard-00001.safetensors, which is cut off or of other",
    ):
        open_features(copy)
    seen: list[tuple[int, int]] = []
    with pytest.warns(
        Doubt,
        match="shard-00001.safetensors is cut off or of other features, and is computed again",
    ):
        stored(model, images, copy, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (16, 16)
    assert shards(copy) == shards(kept)


def test_processes_share_the_shards(
    kept: Path, model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    folder = tmp_path / "shared"
    done: list[int] = []

    def work() -> None:
        with processes("cpu"):
            stored(model, images, folder, progress=lambda made, total: done.append(total))
        assert done[-1] in (32, 18)

    together(work)
    assert shards(folder) == shards(kept)

    def none_without() -> None:
        with processes("cpu"):
            assert describe(model, images).shard == 25
            assert len(stored(model, images, tmp_path / "all", shard=None)) == 50

    together(none_without)


# ------------------------------------------------------------------------------------------------
# bad input


def test_features_of_something_else_are_refused(
    copy: Path, model: Backbone, images: ImageSet
) -> None:
    other, reordered = sslens.open_images("scenes:1:50"), images.take(range(50)[::-1])
    for options, said in (
        (
            {"model": sslens.load(f"{NANO}:1")},
            r"another model's, random #0 \(random:vit_nano_patch8_32:0\)",
        ),
        (
            {"images": other},
            r"of other images, 50 of scenes-v4, than the \d+ of scenes-v4 that are given",
        ),
        ({"images": reordered}, "of the same images in another order"),
        ({"taps": ["norm"]}, r"of other taps or poolings \(6 where 3 are asked for\)"),
        ({"dtype": "float32"}, "in float16"),
        ({"shard": 25}, "in shards of 16 images"),
        ({"precision": "bfloat16"}, "of a forward pass in float32"),
    ):
        with pytest.raises(InputError, match=f"The features in .* are {said}: give another out"):
            stored(**{"model": model, "images": images, "folder": copy, **options})  # type: ignore[arg-type]


def test_an_unknown_tap_or_pooling_is_refused_with_the_nearest(
    kept: Path, model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    store = open_features(kept)
    with pytest.raises(InputError, match=r'have no tap "blocks.11": did you mean blocks.1\?'):
        store.read("blocks.11", "cls")
    with pytest.raises(InputError, match=r'at norm have no pooling "pach": did you mean patch\?'):
        list(store.blocks(8, columns=[("norm", "pach")]))
    for options, said in (
        ({"taps": ["blocks.9"]}, 'has no tap "blocks.9": did you mean'),
        ({"poolings": ["clss"]}, r'has no pooling "clss" at these taps: did you mean cls\?'),
        ({"dtype": "float61"}, r'cannot be stored as "float61": did you mean float16'),
        ({"shard": 0}, "A shard of 0 images cannot be"),
    ):
        with pytest.raises(InputError, match=said):
            stored(model, images, tmp_path / "out", **options)
    with pytest.raises(InputError, match=r'no pooling "cls" at these taps: there are mean'):
        stored(
            sslens.load("random:convnextv2_atto"),
            images,
            tmp_path / "out",
            poolings=["cls"],
            taps=None,
        )
    assert not (tmp_path / "out").exists()


def broken(value: float) -> Backbone:
    """A model whose features at the final norm are of a size."""
    model = sslens.load(NANO)
    with torch.no_grad():
        model.network.norm.weight.fill_(0)
        model.network.norm.bias.fill_(value)
    return model


def test_what_float16_cannot_hold_is_an_error_and_never_infinite(
    images: ImageSet, tmp_path: Path
) -> None:
    for value, said in (
        (1e5, "reach 1e[+]05, and float16 ends at 65,504"),
        (1e-5, "at most 1e-05, too small"),
    ):
        with pytest.raises(InputError, match=rf"at norm \(cls\) (are )?{said}.* dtype=.float32"):
            stored(broken(value), images, tmp_path / "out")
        assert not list((tmp_path / "out").glob("shard-*"))
        shutil.rmtree(tmp_path / "out")
    assert (
        float(
            stored(broken(1e5), images, tmp_path / "32", dtype="float32").read("norm", "cls").max()
        )
        == 1e5
    )
    assert float(stored(broken(65504), images, tmp_path / "16").read("norm", "cls").max()) == 65504
    assert float(stored(broken(0.0), images, tmp_path / "0").read("norm", "cls").max()) == 0


def test_features_that_are_not_finite_name_the_tap_and_the_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    images = from_arrays(pixels, ids=[f"{i}.png" for i in range(20)])
    model = sslens.load(NANO)
    seen = [0]

    def poison(_module: object, _args: object, output: torch.Tensor) -> torch.Tensor:
        if len(output) > 1:  # not the empty image by which the widths are found
            rows = torch.arange(seen[0], seen[0] + len(output))
            seen[0] += len(output)
            output = output.masked_fill((rows == 9)[:, None, None], float("nan"))
        return output

    model.network.blocks[1].register_forward_hook(poison)
    with pytest.raises(
        InputError,
        match=r"at blocks.1 \(cls\) are not finite for the image 9.png: the model is broken",
    ):
        extract(model, images, tmp_path, batch=4, taps=["blocks.0", "blocks.1"])


def test_a_disk_that_is_too_small_is_said_before_the_pass(
    model: Backbone, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        InputError, match=r"The features take 0.0 GB, and the disk of .* has 0.0 GB free"
    ):
        stored(model, images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_no_features_or_damaged_ones_is_refused(
    copy: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError,
        match=r"holds no stored features \(no features.json\): make them with sslens features",
    ):
        open_features(tmp_path / "nowhere")
    text = (copy / MANIFEST).read_text()
    newer = unseal(text).replace('"format": 1', '"format": 2')
    (copy / MANIFEST).write_text(seal(newer))
    with pytest.raises(InputError, match="has format 2, and this version of sslens reads 1"):
        open_features(copy)
    for damaged in (
        text[:100],
        "[]",
        json.dumps({"format": 1}),
        text.replace('"shard"', '"shards"'),
    ):
        (copy / MANIFEST).write_text(damaged)
        with pytest.raises(InputError, match=r"features.json is damaged"):
            open_features(copy)
    (copy / MANIFEST).write_text(text)
    (copy / IMAGES).write_bytes((copy / IMAGES).read_bytes()[:50])
    with pytest.raises(InputError, match=r"images.safetensors cannot be read"):
        open_features(copy)


def test_one_is_no_plural(model: Backbone, images: ImageSet, tmp_path: Path) -> None:
    one = images.take([0])
    held = extract(model, one, tmp_path / "a", taps=["norm"], poolings=["cls"])
    assert repr(held).endswith(": 1 image, 1 tap and pooling>")


def test_imagenets_features_are_71_gb(model: Backbone, images: ImageSet) -> None:
    base = sslens.load("random:vit_base_patch16_224")
    wanted = describe(base, images, taps=[f"blocks.{i}" for i in range(12)])
    assert wanted.row_bytes == 12 * 3 * 768 * 2
    assert round(1_281_167 * wanted.row_bytes / 1e9) == 71


def test_nothing_of_a_pass_is_kept_in_memory_or_on_disk_beside_the_shards(
    model: Backbone, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither decoded images nor features: a buffer of one shard, written over."""
    asked: list[object] = []
    monkeypatch.setattr("sslens.data.decoded.scratch", lambda *args: asked.append(args))
    held: list[set[int]] = []
    write = writing.write_tensors

    def spy(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
        if path.name.startswith("shard"):
            held.append({tensor.data_ptr() for tensor in tensors.values()})
        write(path, tensors, header)

    monkeypatch.setattr(writing, "write_tensors", spy)
    stored(model, images, tmp_path)
    assert asked == []
    assert len(held) == 4
    assert len(set.union(*held)) == 6  # one buffer a column, the same for every shard


def test_the_manifest_survives_a_round_trip(kept: Path) -> None:
    manifest = Manifest.read(kept)
    assert json.loads(manifest.json()) == json.loads((kept / MANIFEST).read_text())
    assert (manifest.count, list(manifest.rows(3)), manifest.row_bytes) == (4, [48, 49], 768)
    assert all(locate_columns(kept, manifest, number) for number in range(4))
    assert is_features(kept)
    assert not is_features(kept.parent)
