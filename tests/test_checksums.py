"""Files of ours carry checksums: a bit that flips anywhere in them never gives other numbers in
silence."""

import json
import os
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sslens
from sslens import fingerprint, tensor_file, whole_file, zoo
from sslens.capture import FeatureReducer, collect, extract, open_features
from sslens.capture.manifest import IMAGES, MANIFEST
from sslens.data.images import ImageSet
from sslens.errors import Doubt, InputError
from sslens.models.backbone import Backbone
from sslens.plan import Plan
from sslens.store import Store, write_tensors
from sslens.training import states
from sslens.zoo import files

#: flipped bits of each kind of file
FLIPS = 40


@pytest.fixture(scope="module")
def model() -> Backbone:
    return sslens.load("random:vit_nano_patch8_32")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sslens.open_images("scenes:0:8")


def flip_bits(path: Path, seed: int) -> Iterator[bytes]:
    """Yield a file's content with one bit flipped, half of them in its first 1,000 bytes; the file
    is as it was at the end."""
    whole, generator = path.read_bytes(), np.random.default_rng(seed)
    for number in range(FLIPS):
        text = bytearray(whole)
        end = len(whole) if number % 2 else min(1000, len(whole))
        text[generator.integers(end)] ^= 1 << int(generator.integers(8))
        path.write_bytes(text)
        yield bytes(text)
    path.write_bytes(whole)


def require_told(path: Path, read: Callable[[], Any], seed: int = 0) -> int:
    """Check that each flipped bit is told, or leaves what is read as it was; count those told."""
    before, told = read(), 0
    for _ in flip_bits(path, seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Doubt)
            try:
                assert read() == before
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017
                told += 1
    return told


def in_bytes(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in tensors.items()}


def test_a_flipped_bit_in_features_or_their_labels_is_told(
    model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    taps = ["blocks.3", "norm"]
    extract(model, images, tmp_path, taps=taps, shard=8)

    def read() -> Any:
        made = open_features(tmp_path)
        assert made.labels is not None
        columns = {"/".join(column): made.read(*column) for column in made.columns}
        return made.ids, made.labels.tolist(), made.classes, made.key, in_bytes(columns)

    for name in (MANIFEST, IMAGES, "shard-00000.safetensors"):
        assert require_told(tmp_path / name, read) >= 0.9 * FLIPS, name


def test_a_flipped_bit_in_a_fingerprint_or_an_encoder_is_told(
    model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    plan = Plan.draw(images.ids, 4)
    conditions = fingerprint.Conditions.of(model, images, plan)
    made = sslens.grams(model, images, plan=plan)
    path = tmp_path / "a.fingerprint.safetensors"
    fingerprint.write(path, [made], conditions, model=model)

    def read() -> Any:
        found = fingerprint.read(path)
        grams = found.grams["all"]
        return replace(found, grams={}), grams.key, in_bytes({"g": grams.blocks, "e": grams.energy})

    assert require_told(path, read) >= 0.9 * FLIPS
    assert "checksums     right" in fingerprint.describe(path)
    shape = {"image_size": 32, "patch_size": 8, "dim": 64, "blocks": 4, "heads": 1}
    encoder = tmp_path / "last.safetensors"
    about = {"family": "REC", "objective": "mae"}
    header = zoo.make_header("m", shape, about)
    write_tensors(encoder, model.network.state_dict(), header)

    def load() -> Any:
        loaded = zoo.load(encoder)
        return loaded.digest, loaded.name, loaded.about, loaded.transform

    whole = load()
    assert require_told(encoder, load) >= 0.9 * FLIPS
    # what was written before there were checksums is read as it was
    save_file(model.network.state_dict(), encoder, header)
    assert load() == whole
    assert not tensor_file.has_checksums(encoder)


def test_a_flipped_bit_in_the_store_is_told_and_computed_again(tmp_path: Path) -> None:
    store, value = Store(tmp_path), {"x": [1.5, float("inf"), None], "name": "é"}
    path = store.write_json("tables", {"a": 1}, value)
    for _ in flip_bits(path, 1):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = store.read_json("tables", {"a": 1})
        assert found == value or (found is None and "is damaged" in str(said[0].message))
    tensors = {"x": torch.arange(100.0), "y": torch.ones(3, dtype=torch.bfloat16)}
    path = store.write("grams", {"a": 1}, tensors)
    for _ in flip_bits(path, 2):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            read = store.read("grams", {"a": 1})
        if read is None:
            assert "is damaged and is computed again" in str(said[0].message)
        else:
            assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_damaged_features_of_the_store_are_named_and_computed_again(
    model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    (made,) = collect(model, images, [FeatureReducer(("norm",))], store=store)
    whole = made.read("norm", "cls").clone()
    (path,) = store.root.rglob("shard-*")
    text = bytearray(path.read_bytes())
    text[-5] ^= 4
    path.write_bytes(text)
    with pytest.warns(Doubt, match=r"shard-00000\.safetensors is damaged: .* It is computed again"):
        (again,) = collect(model, images, [FeatureReducer(("norm",))], store=store)
    assert torch.equal(again.read("norm", "cls"), whole)


def test_a_shard_that_is_cut_off_while_it_is_read_does_not_end_the_process(
    model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    extract(model, images, tmp_path, taps=["norm"], shard=8)
    made = open_features(tmp_path)
    first = made.read("norm", "cls")
    kept = first.clone()
    with (tmp_path / "shard-00000.safetensors").open("r+b") as file:
        file.truncate(100)
    assert torch.equal(first, kept)
    with pytest.raises(InputError, match=r"is damaged \(it was cut off while it was read"):
        made.read("norm", "mean")


def test_counts_are_held_against_what_is_there(
    model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    extract(model, images, tmp_path, taps=["norm"])
    text = (tmp_path / MANIFEST).read_text()
    value = json.loads(whole_file.unseal(text))
    value["images"]["count"] = 10**12
    (tmp_path / MANIFEST).write_text(json.dumps(value))  # as one of before, without a checksum
    with pytest.raises(InputError, match=r"does not hold the images that features\.json tells of"):
        open_features(tmp_path)
    (tmp_path / MANIFEST).write_text(text.replace('"count": 8', '"count": 9'))
    said = r"features.json is damaged \(it is not the text that was.*: make the features again"
    with pytest.raises(InputError, match=said):
        open_features(tmp_path)


def test_ids_that_unpack_to_far_more_than_they_are_are_refused(
    model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    extract(model, images, tmp_path, taps=["norm"])
    bomb = zlib.compress(b"[" + b" " * (1 << 24) + b"]", 9)
    ids = torch.frombuffer(bytearray(bomb), dtype=torch.uint8)
    write_tensors(tmp_path / IMAGES, {"ids": ids}, {})
    with pytest.raises(InputError, match="its ids are no texts, or cut off"):
        open_features(tmp_path)


def test_a_state_whose_header_makes_no_sense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "000000001.safetensors"
    for text in ("{}", "[" * 50000, "null", '{"key": 1}'):
        write_tensors(path, {"all/grams": torch.ones(1)}, {states.HEADER: text})
        with pytest.raises(InputError, match="is no state of an encoder, or a damaged one"):
            states.read_state(path)


def test_a_fingerprint_of_brackets_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"__metadata__": {"sslens.fingerprint": "[" * 100000}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(InputError, match="is a damaged fingerprint: its header is no JSON"):
        fingerprint.read(path)
    shutil.copy(path, tmp_path / "b.safetensors")
    path.write_bytes(struct.pack("<Q", 100000) + b"[" * 100000)
    with pytest.raises(InputError, match="is no whole safetensors file"):
        fingerprint.read(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_large_parts_are_summed_beside_the_reading(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, weights = tmp_path / name, {f"w{n}": torch.full((300,), n + 1.0) for n in range(5)}
    if path.suffix == ".pth":
        torch.save(weights, path)
    else:
        write_tensors(path, weights, {})
    whole = path.read_bytes()
    at = whole.index(weights["w3"].numpy().tobytes())
    for least in (1 << 20, 100):  # on this thread, and on another
        monkeypatch.setattr(whole_file, "LARGE", least)
        path.write_bytes(whole)
        (read,) = files.read_contents(path).states.values()
        assert {key: array.values[0] for key, array in read.items()} == {
            key: value[0].item() for key, value in weights.items()
        }
        path.write_bytes(whole[: at + 8] + b"\x01" + whole[at + 9 :])
        with pytest.raises(InputError, match=r"w3 are not those|its CRC differs"):
            files.read_contents(path)


def test_features_are_looked_at_for_damage_once_and_read_from_memory(
    model: Backbone, images: ImageSet, tmp_path: Path
) -> None:
    extract(model, images, tmp_path, taps=["norm"], shard=8)
    made = open_features(tmp_path)
    source: Any = made.source
    assert not list(source.find_damaged(["norm"]))
    held = {key for key, _ in source._held.items()}
    assert held == {(0, column) for column in made.columns}
    path = tmp_path / "shard-00000.safetensors"
    text = bytearray(path.read_bytes())
    text[-5] ^= 4
    path.write_bytes(text)  # another time of change: it is looked at again
    os.utime(path, ns=(1, 1))
    assert [reason for _, reason in open_features(tmp_path).source.find_damaged(["norm"])]
