"""A hundred files that were made to do harm, or came out of `scripts/harm` as telling: each is read
or refused in a sentence, in little time and memory, and none runs code."""

import io
import json
import math
import pickle
import resource
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sslens
from sslens import zoo
from sslens.errors import InputError, make_visible
from sslens.store import write_tensors, write_text
from sslens.zoo import doctor, files, machine

TORCH = "torch._utils"


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *given: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(given) + b"tR"


def whole(value: int) -> bytes:
    encoded = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + encoded


def number_type(code: str) -> bytes:
    return call("numpy", "dtype", text(code), b"\x89", b"\x88")


def scalar(code: str, data: bytes = b"") -> bytes:
    return call("numpy.core.multiarray", "scalar", number_type(code), data)


def storage(kind: str = "FloatStorage", key: str = "0", count: int = 4) -> bytes:
    parts = text("storage"), name("torch", kind), text(key), text("cpu"), whole(count)
    return b"(" + b"".join(parts) + b"tQ"


def tensor(sizes: list[int], steps: list[int], offset: int = 0, **more: Any) -> bytes:
    shape, stride = (
        b"(" + b"".join(whole(number) for number in numbers) + b"t" for numbers in (sizes, steps)
    )
    end = call("collections", "OrderedDict")
    given = storage(**more), whole(offset), shape, stride, b"\x89", end
    return call(TORCH, "_rebuild_tensor_v2", *given)


def under(key: str, value: bytes) -> bytes:
    return b"}" + text(key) + value + b"s"


def zipped(tree: bytes, **parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + tree + b".")
        for key, content in ({"data/0": bytes(16)} | parts).items():
            archive.writestr(f"a/{key}", content)
    return file.getvalue()


def bare(tree: bytes) -> bytes:
    return b"\x80\x02" + tree + b"."


def list_pickles() -> Iterator[tuple[str, bytes]]:
    """Pickles that ask for memory, time, recursion or code, alone and in a zip."""
    trees = {
        "a structure with an object": scalar("O,f8"),
        "an object": scalar("O"),
        "1.9 GB of nothing": scalar("V1900000000"),
        "2 GB of text": scalar("U500000000"),
        "a number of no bytes": scalar("f8", b"C\x00"),
        "a date": scalar("M8[ns]", b"C\x08" + bytes(8)),
        "bytes by a count": call("builtins", "bytearray", whole(1 << 31)),
        "twenty of them": b"(" + call("builtins", "bytearray", whole(1 << 30)) * 20 + b"t",
        "bytes by a count, of Python 2": call("__builtin__", "bytes", whole(1 << 31)),
        "a range": call("builtins", "range", whole(0), whole(1 << 60)),
        "a list of a range": call("builtins", "list", call("builtins", "range", whole(1 << 40))),
        "a memo at the end": b"Nr\xff\xff\xff\xff",
        "bytes of 16 EB": b"\x8e" + b"\xff" * 8,
        "a text of 4 GB": b"X\xff\xff\xff\xffab",
        "a text that is cut off": b"X\x10\x00\x00\x00ab",
        "a frame of 16 EB": b"\x95" + b"\xff" * 8 + b"N",
        "a long number": b"\x8b\x00\x00\x10\x00" + b"\x01" * (1 << 20),
        "digits": b"L" + b"9" * 100_000 + b"L\n",
        "a deep list": b"]" * 5000 + b"a" * 4999,
        "a deep tuple": b")" + b"\x85" * 5000,
        "a deep key": b"})" + b"\x85" * 5000 + b"Ns",
        "a deep set": b"\x8f(" + b")" + b"\x85" * 5000 + b"\x90",
        "a list as a key": b"}]Ns",
        "a key without a value": b"}(Nu",
        "marks alone": b"(" * 5000,
        "pops": b"0" * 1000,
        "an end at once": b"",
        "a mark at the end": b"N(",
        "no function": b"K\x01)R",
        "arguments that are none": name("builtins", "set") + b"K\x01R",
        "a state of a number": b"K\x01}b",
        "an item of a number": b"K\x01K\x02K\x03s",
        "an element of a number": b"K\x01K\x02a",
        "an unknown reference": text("x") + b"Q",
        "an unknown name": text("a") + b"K\x01\x93",
        "an extension": b"\x82\x01",
        "an unknown instruction": b"\xff",
        "a system call": call("posix", "system", text("exit 3")),
        "a system call by an attribute": call(
            "builtins", "getattr", name("os", "x"), text("system")
        ),
        "an evaluation": call("builtins", "eval", text("1/0")),
        "an instance": b"(" + text("exit 3") + b"iposix\nsystem\n",
        "an object of old": b"(" + name("posix", "system") + text("exit 3") + b"o",
        "a loading": call("torch.storage", "_load_from_bytes", b"C\x01x"),
        "a size of texts": call("torch", "Size", b"(" + text("x") + b"t"),
        "an array without content": call("numpy.core.multiarray", "_reconstruct", b"N"),
        "an array of a state": call("numpy.core.multiarray", "_reconstruct") + b"(NNNNNtb",
        "pairs that are none": call("collections", "OrderedDict", b"]K\x01a"),
        "bytes of a number": call("_codecs", "encode", b"K\x01"),
        "another encoding": call("_codecs", "encode", text("x"), text("rot13")),
        "an escape": under("\x1b]0;x\x07\x1b[2J", under("\x1b[31m", b"K\x01")),
    }
    for label, tree in trees.items():
        yield label, bare(tree)
        if len(tree) < 1000:
            yield f"{label}, in a zip", zipped(under("model", tree))


def list_tensors() -> Iterator[tuple[str, bytes]]:
    """Zips with tensors that cannot be."""
    trees = {
        "a whole one": tensor([4], [1]),
        "beyond its storage": tensor([5], [1]),
        "an offset beyond": tensor([1], [1], 4),
        "a size below 0": tensor([-1], [1]),
        "a stride below 0": tensor([2], [-1]),
        "a product that overflows": tensor([1 << 40, 1 << 40], [0, 0]),
        "400 GB of one number": tensor([10**5, 10**6], [0, 0]),
        "40 axes": tensor([1] * 40, [1] * 40),
        "empty, and large": tensor([0, 1 << 61], [1, 1]),
        "shapes of two lengths": tensor([4, 1], [1]),
        "a storage that is missing": tensor([4], [1], key="7"),
        "a storage of another size": tensor([4], [1], count=5),
        "a storage of 4 EB": tensor([4], [1], count=1 << 60),
        "a storage below 0": tensor([4], [1], count=-4),
        "a storage of no kind": tensor([4], [1], kind="LostStorage"),
        "complex numbers": tensor([1], [1], kind="ComplexFloatStorage", count=2),
        "quantised numbers": tensor([4], [1], kind="QInt8Storage", count=16),
        "a storage in place of a shape": call(TORCH, "_rebuild_tensor_v2", storage(), storage()),
        "no storage": call(TORCH, "_rebuild_tensor_v2", b"N", b"N", b"N", b"N"),
        "nothing": call(TORCH, "_rebuild_tensor_v2"),
        "sparse": call(TORCH, "_rebuild_sparse_tensor", b"N"),
        "on meta": call(TORCH, "_rebuild_meta_tensor_no_storage", b"N"),
        "of a kind of its own": call(TORCH, "_rebuild_tensor_v3", *[b"N"] * 7),
    }
    for label, tree in trees.items():
        yield label, zipped(under("model", under("norm.weight", tree)))
    shared = tensor([4], [1])
    inner = under("w", shared) + b"q\x01"
    for _ in range(6):  # dictionaries of a hundred times the one before
        items = b"".join(text(str(number)) + b"h\x01" for number in range(100))
        inner += b"0}(" + items + b"uq\x01"
    yield "a thousand million dictionaries", zipped(inner)
    yield "a storage twice", zipped(under("a", shared)) + zipped(under("a", shared))
    yield "half a zip", zipped(under("a", shared))[:-30]
    yield (
        "a list of entries of 2 GB",
        zipped(under("a", shared)).replace(b"PK\5\6" + bytes(8), b"PK\5\6" + b"\xff" * 8),
    )
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1 << 26))
    yield "a pickle of zeros, packed", bomb.getvalue()


def header(value: Any, content: bytes = b"") -> bytes:
    encoded = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(encoded)) + encoded + content


def list_safetensors() -> Iterator[tuple[str, bytes]]:
    """Safetensors files whose headers make no sense."""
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    for label, value in {
        "no tensor": {},
        "no object": [],
        "brackets": b"[" * 20_000,
        "braces": b'{"a":' * 50_000,
        "no text": b"\xff\xfe{}",
        "a number": {"a": 1},
        "no shape": {"a": {**one, "shape": None}},
        "a shape below 0": {"a": {**one, "shape": [-4]}},
        "a shape of fractions": {"a": {**one, "shape": [4.0]}},
        "a shape of 4 EB": {"a": {**one, "shape": [1 << 60]}},
        "zeros and 4 EB": {"a": {**one, "shape": [0, 1 << 60], "data_offsets": [0, 0]}, "b": one},
        "places that overlap": {"a": one, "b": one},
        "places beyond": {"a": {**one, "data_offsets": [16, 32]}},
        "places in turn": {"a": {**one, "data_offsets": [16, 0]}},
        "an unknown type": {"a": {**one, "dtype": "F4"}},
        "metadata of numbers": {"__metadata__": {"a": 1}, "a": one},
        "checksums that are none": {"__metadata__": {"sslens.sums": "[null]"}, "a": one},
        "complex numbers": {"norm.weight": {**one, "dtype": "C64", "shape": [2]}},
    }.items():
        yield label, header(value, bytes(16) if value != {} else b"")
    yield "a header of 16 EB", b"\xff" * 8 + b"{}"
    yield "eight bytes", bytes(8)


def list_files() -> dict[str, tuple[str, bytes]]:
    """All files by what is wrong with them: the suffix, and the content."""
    cases: dict[str, tuple[str, bytes]] = {}
    for suffix, made in (
        (".pth", list_pickles()),
        (".pth", list_tensors()),
        (".safetensors", list_safetensors()),
    ):
        cases |= {f"{label} ({suffix})": (suffix, content) for label, content in made}
    return cases


def test_a_hundred_hostile_files_are_read_or_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.MOST == 10_000
    monkeypatch.setattr(files, "MOST", 300)  # of dictionaries, at which each type is checked here
    cases = list_files()
    assert len(cases) > 100
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for label, (suffix, content) in cases.items():
        path, began = tmp_path / f"x{suffix}", time.process_time()
        path.write_bytes(content)
        found = doctor.examine(path)
        assert found.refused is not None, label
        assert "\n" not in found.refused, label
        assert found.text() == make_visible(found.text()), label
        assert len(found.text()) < 20_000, label
        json.dumps(found.to_json())
        assert time.process_time() - began < 5, label
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400_000, f"{grown:,} KB"


WRITTEN = {
    "name": "m",
    "shape": {"image_size": 32, "patch_size": 8, "dim": 64, "blocks": 1, "heads": 1},
    "about": {"family": "REC", "objective": "mae", "tuned": False, "arch": "x"},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"blocks": "x"},
        {"blocks": None},
        {"blocks": 10**5},
        {"blocks": 10**7},
        {"blocks": 2.5},
        {"extra": 1},
        {"patch_size": 0},
        {"heads": 0},
        {"heads": 5},
        {"image_size": 2**40, "patch_size": 1, "dim": 2**40},
        {"kind": "resnet", "blocks": [10**6] * 4, "widths": [64] * 4},
        {"kind": "lost"},
        {"timm": "vit_giant_patch14_dinov2", "norm": True},
        {"timm": "hf-hub:someone/something", "norm": True},
        {"timm": 7, "norm": True},
    ],
    ids=str,
)
def test_a_header_that_asks_for_an_impossible_network_is_refused(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    path, began = tmp_path / "last.safetensors", time.process_time()
    said = {**WRITTEN, "shape": WRITTEN["shape"] | changed}  # type: ignore[operator]
    write_tensors(path, {"norm.weight": torch.zeros(4)}, {zoo.HEADER: json.dumps(said)})
    with pytest.raises(InputError):
        zoo.load(path)
    assert time.process_time() - began < 5
    assert doctor.examine(path).refused is not None


@pytest.mark.parametrize(
    "written",
    ["{}", "null", '{"name', '{"about": {}}', "[" * 30000, json.dumps({**WRITTEN, "name": 7})]
    + [json.dumps({**WRITTEN, "transform": value}) for value in ({"x": 1}, {"crop": -1}, 7)]
    + [
        json.dumps({**WRITTEN, "transform": value})
        for value in (
            {"mean": [math.nan] * 3},
            {"std": [0.0] * 3},
            {"crop": 64, "resize": 32},
            {"interpolation": "foo"},
            {"resize": True},
            {"fit": "pad"},
            {"flip": True},
        )
    ]
    + [json.dumps({**WRITTEN, "name": "\ud800"})],
)
def test_a_damaged_header_of_an_encoder_is_refused(tmp_path: Path, written: str) -> None:
    path = tmp_path / "last.safetensors"
    write_tensors(path, {"norm.weight": torch.zeros(4)}, {zoo.HEADER: written})
    with pytest.raises(InputError, match="is damaged: its header says that sslens wrote it"):
        zoo.load(path)
    assert "is damaged" in str(doctor.examine(path).refused)


def test_settings_that_a_header_says_as_they_always_are(tmp_path: Path) -> None:
    model, path = sslens.load("random:vit_nano_patch8_32", blocks=1), tmp_path / "last.safetensors"
    said = {**WRITTEN, "transform": {"crop": 32, "resize": 32, "fit": "crop", "flip": False}}
    write_tensors(path, model.network.state_dict(), {zoo.HEADER: json.dumps(said)})
    assert zoo.load(path).transform.crop == 32
    assert doctor.examine(path).refused is None


def test_half_a_character_in_a_name_is_no_fault_of_writing(tmp_path: Path) -> None:
    header = {"\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
    content = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    with pytest.raises(InputError, match="a name holds half of a character"):
        zoo.read(path)
    write_text(tmp_path / "table.csv", "name\n\ud800\n")  # as a pickle may have it
    assert (tmp_path / "table.csv").read_text() == "name\n\\ud800\n"


def test_names_in_files_do_not_reach_a_terminal(tmp_path: Path) -> None:
    model = sslens.load("random:vit_nano_patch8_32", blocks=1)
    path = tmp_path / "last.safetensors"
    said = {**WRITTEN, "name": "m\x1b]0;x\x07\x1b[2J\u202e"}
    write_tensors(path, model.network.state_dict(), {zoo.HEADER: json.dumps(said)})
    assert zoo.load(path).name == "m\\x1b]0;x\\x07\\x1b[2J\\u202e"
    torch.save({"x" * 10**6: torch.zeros(1), "\x1b[2J": torch.zeros(1)}, tmp_path / "a.pth")
    shown = doctor.examine(tmp_path / "a.pth").text()
    assert "\x1b" not in shown
    assert len(shown) < 20_000


def test_an_axis_of_one_number_has_any_stride(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(zipped(under("w", tensor([1, 4], [2**61, 1]))))
    (weights,) = files.read_tensors(path).values()
    assert weights["w"].tolist() == [[0.0] * 4]


def test_many_state_dicts_of_one_number_take_no_memory(tmp_path: Path) -> None:
    one = tensor([3000, 3000], [0, 0])  # 36 MB each, as one number
    tree = b"}" + b"".join(text(f"s{n}") + under("w", one) + b"s" for n in range(12))
    (tmp_path / "a.pth").write_bytes(zipped(tree))
    with pytest.raises(InputError, match="numbers that are repeated so often are no weights"):
        files.read_contents(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "called", [call("_codecs", "encode", b"h\x00"), call("builtins", "list", b"h\x00")]
)
def test_calls_that_copy_one_value_again_and_again_take_no_memory(
    tmp_path: Path, called: bytes
) -> None:
    value = text("a" * (1 << 20)) if b"encode" in called else b"]" + b"(" + b"N" * 1000 + b"e"
    many = 100 if b"encode" in called else 20_000
    (tmp_path / "a.pkl").write_bytes(bare(value + b"q\x000](" + called * many + b"e"))
    with pytest.raises(InputError, match="its calls copy values until the memory is full"):
        files.read_contents(tmp_path / "a.pkl")


def test_arrays_of_the_other_byte_order_are_not_copied_before_they_are_bounded(
    tmp_path: Path,
) -> None:
    values = np.arange(1 << 18, dtype=">f4")
    content = b"B" + struct.pack("<I", values.nbytes) + values.tobytes() + b"q\x00"
    order = b"(K\x03" + text(">") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    kind = number_type("f4") + order + b"q\x01"
    shape = b"(" + whole(values.size) + b"t"
    array = call("numpy.core.numeric", "_frombuffer", b"h\x00", b"h\x01", shape)
    start = content + b"0" + kind + b"0"
    many = b"}(" + b"".join(text(f"w{n}") + array for n in range(200)) + b"u"
    (tmp_path / "a.pkl").write_bytes(bare(start + many))
    tracemalloc.start()
    with pytest.raises(InputError, match="numbers that are repeated so often are no weights"):
        files.read_contents(tmp_path / "a.pkl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * values.nbytes, "each copy would take as much"
    (tmp_path / "b.pkl").write_bytes(bare(start + under("w", array)))
    (state,) = files.read_contents(tmp_path / "b.pkl").states.values()
    assert state["w"].values.tolist() == values.tolist()


def test_many_state_dicts_are_told_in_few_lines(tmp_path: Path) -> None:
    tree = {f"net{number}": {"w": torch.zeros(1)} for number in range(160)}
    torch.save(tree, tmp_path / "a.pth")
    assert len(doctor.examine(tmp_path / "a.pth").text().splitlines()) < 150


def test_a_pickle_of_millions_of_instructions_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.MOST == 4_000_000
    monkeypatch.setattr(machine, "MOST", 1000)
    path = tmp_path / "a.pth"
    path.write_bytes(bare(b"N0" * 3000))
    with pytest.raises(InputError, match="it has more than 1,000 instructions"):
        files.read_contents(path)


Weights = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    "change",
    [
        lambda w: {**w, "norm.weight": w["norm.weight"].to(torch.complex64)},
        lambda w: {**w, "norm.weight": w["norm.weight"].to(torch.int64)},
        lambda w: {**w, "norm.weight": torch.zeros(())},
        lambda w: {**w, "blocks.0.mlp.fc2.weight": torch.zeros(())},
        lambda w: {**w, "pos_embed": torch.zeros(())},
        lambda w: {**w, "pos_embed": torch.zeros(1).expand(1, 3162**2 + 1, 64)},
        lambda w: {**w, "pos_embed": w["pos_embed"].to(torch.complex64)},
        lambda w: {**w, "patch_embed.proj.weight": torch.zeros(0, 3, 8, 8)},
        lambda w: {**w, "patch_embed.proj.weight": torch.zeros(64, 3, 0, 0)},
        lambda w: {**w, "cls_token": torch.zeros(7)},
        lambda w: {**w, "norm.weight": torch.full((64,), 1e300, dtype=torch.float64)},
    ],
)
def test_tensors_of_unforeseen_kinds_are_refused(
    tmp_path: Path, change: Callable[[Weights], Weights]
) -> None:
    weights = sslens.load("random:vit_nano_patch8_32", blocks=1).network.state_dict()
    torch.save(change(dict(weights)), tmp_path / "a.pth")
    with pytest.raises(InputError):
        zoo.load(tmp_path / "a.pth", num_heads=1)
    assert doctor.examine(tmp_path / "a.pth", num_heads=1).refused is not None


def test_pickle_itself_would_run_what_is_refused(tmp_path: Path) -> None:
    content = bare(call("posix", "system", text(f"touch {tmp_path / 'ran'}")))
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"asks for posix\.system"):
        files.read_contents(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()
    pickle.loads(content)
    assert (tmp_path / "ran").exists()
