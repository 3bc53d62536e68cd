"""Files read without torch hold what torch reads in them, and unusual ones are left to torch."""

import argparse
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from checkpoints import EXAMPLES, Example
from sslens.models.positions import make_sincos_positions
from sslens.zoo import files, plain
from sslens.zoo.arrays import Array
from sslens.zoo.trunks import compute_sincos

CASES = [(layout, name) for layout, make in EXAMPLES.items() for name in make()]
KINDS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]


def example(layout: str, name: str) -> Example:
    return EXAMPLES[layout]()[name]


def require_same(array: Array, tensor: Tensor) -> None:
    expected = files.convert_to_array(tensor)
    assert (array.kind, array.shape) == (expected.kind, tuple(tensor.shape))
    assert np.array_equal(array.raw, expected.raw)


def various() -> dict[str, Tensor]:
    """Tensors of every kind, without axes, empty, and views of one storage."""
    numbers = torch.arange(24)
    state = {str(kind): (numbers - 3).to(kind).reshape(4, 6) for kind in KINDS}
    whole = numbers.float().reshape(2, 3, 4)
    views = {"turned": whole.permute(2, 0, 1), "part": whole[:, 1], "row": whole[1, 2]}
    spread = torch.zeros(1).expand(5)
    return state | views | {"scalar": torch.tensor(7), "none": torch.zeros(0, 3), "spread": spread}


def test_every_kind_and_stride_is_as_torch_has_it(tmp_path: Path) -> None:
    state = OrderedDict(various())
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    tree = {
        "model": state,
        "one": {"w": parameter},
        "args": argparse.Namespace(lr=1, decay=np.float64(0.1)),
        "epoch": 3,
    }
    torch.save(tree, tmp_path / "a.pth")
    found: Any = plain.read_pickle(tmp_path / "a.pth")
    assert list(found["model"]) == list(state)
    for name, tensor in state.items():
        require_same(found["model"][name], tensor)
    require_same(found["one"]["w"], parameter)
    assert vars(found["args"]) == {"lr": 1, "decay": 0.1}
    assert found["epoch"] == 3
    whole = {name: value.clone().contiguous() for name, value in state.items()}
    save_file(whole, tmp_path / "a.safetensors", {"format": "pt"})
    header, arrays = plain.read_safetensors(tmp_path / "a.safetensors")
    assert header == {"format": "pt"}
    assert list(arrays) == list(files.read(tmp_path / "a.safetensors")[1])
    for name, tensor in whole.items():
        require_same(arrays[name], tensor)


@pytest.mark.parametrize(("layout", "name"), CASES)
def test_contents_are_the_same_by_either_way(
    layout: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise plain.NotPlain

    path = example(layout, name).write(tmp_path)
    quick = files.read_contents(path)
    monkeypatch.setattr(plain, "read_pickle", refuse)
    monkeypatch.setattr(plain, "read_safetensors", refuse)
    slow = files.read_contents(path)
    assert (quick.rest, quick.header, quick.epoch) == (slow.rest, slow.header, slow.epoch)
    assert {s: list(w) for s, w in quick.states.items()} == {
        s: list(w) for s, w in slow.states.items()
    }
    for state, weights in quick.states.items():
        for key, array in weights.items():
            other = slow.states[state][key]
            assert array.kind == other.kind
            assert np.array_equal(array.raw, other.raw), key


class Code:
    """An object that would run code where it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


@pytest.mark.parametrize(
    "tree",
    [
        {"a": Code()},
        {"a": torch.zeros(1), "b": np.int64(1)},
        {"a": torch.zeros(2, dtype=torch.float8_e4m3fn)},
        {"a": torch.zeros(2).to_sparse()},
        [torch.zeros(1)],
        torch.zeros(1),
    ],
    ids=["code", "numpy", "float8", "sparse", "list", "tensor"],
)
def test_what_is_unusual_is_left_to_torch(
    tree: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(tree, tmp_path / "a.pth")
    with pytest.raises(plain.NotPlain):
        plain.read_pickle(tmp_path / "a.pth")
    assert capsys.readouterr().out == ""


def test_what_a_pickle_changes_is_its_own(tmp_path: Path) -> None:
    """A pickle may set attributes of what it is given; the next file must not see them."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    evil = b"\x80\x02cargparse\nNamespace\n}U\x04evilK\x01sb}."
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        archive.writestr("b/data.pkl", evil)
    with pytest.raises(plain.NotPlain):
        plain.read_pickle(tmp_path / "b.pth")
    assert not hasattr(argparse.Namespace, "evil")
    assert plain.read_pickle(tmp_path / "a.pth").keys() == {"a"}


@pytest.mark.parametrize("cut", [1, 100, 900])
def test_cut_files_are_left_to_torch(cut: int, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(500)}, tmp_path / "a.pth")
    save_file({"a": torch.zeros(500)}, tmp_path / "a.safetensors")
    for name, read in (("a.pth", plain.read_pickle), ("a.safetensors", plain.read_safetensors)):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[:-cut])
        with pytest.raises(plain.NotPlain):
            read(file)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (1, (2, 2), (2, 1)), (0, (2,), (-1,)), (-1, (1,), (1,)), (0, (True,), (1,))],
)
def test_a_tensor_outside_its_storage_is_left_to_torch(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    storage = plain._Storage("float32", np.zeros(4, np.float32))
    with pytest.raises(plain.NotPlain):
        plain._rebuild(storage, offset, size, stride)


@pytest.mark.parametrize(
    ("compression", "more"), [(zipfile.ZIP_DEFLATED, b""), (zipfile.ZIP_STORED, bytes(4))]
)
def test_storages_that_are_compressed_or_of_another_size_are_left_to_torch(
    compression: int, more: bytes, tmp_path: Path
) -> None:
    torch.save({"a": torch.rand(50)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as source,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as archive,
    ):
        for name in source.namelist():
            storage = name.endswith("data/0")
            archive.writestr(
                name,
                source.read(name) + (more if storage else b""),
                compression if storage else zipfile.ZIP_STORED,
            )
    with pytest.raises(plain.NotPlain):
        plain.read_pickle(tmp_path / "b.pth")


def test_another_protocol_is_left_to_torch(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"epoch": 1}, protocol=4))
    with pytest.raises(plain.NotPlain):
        plain.read_pickle(tmp_path / "a.pth")


def test_sums_round_as_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        one, other = (torch.randn(1000, generator=generator).to(kind) for _ in range(2))
        require_same(files.convert_to_array(one) + files.convert_to_array(other), one + other)


@pytest.mark.parametrize("transposed", [False, True])
def test_positions_are_those_of_torch(transposed: bool) -> None:
    expected = make_sincos_positions(48, 7, transposed=transposed)[0, 1:].numpy()
    table = compute_sincos(48, 7, transposed=transposed)
    np.testing.assert_allclose(table, expected, rtol=0, atol=1e-6)


DOCTOR = """
import sys
from sslens.cli import main
for file in sys.argv[1:]:
    main(["doctor", file])
heavy = {"torch", "torchvision", "timm", "pandas", "PIL", "jaxtyping", "typeguard", "asyncio"}
print("imported", sorted(heavy & set(sys.modules)))
"""


def test_doctor_of_known_layouts_imports_neither_torch_nor_timm(tmp_path: Path) -> None:
    paths = []
    for number, (layout, name) in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        case = example(layout, name)
        if layout != "sslens":  # files of ours may be of a network that only timm knows
            paths.append(str(case.write(folder)))
    done = subprocess.run(
        [sys.executable, "-c", DOCTOR, *paths], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("can be loaded") + done.stdout.count("cannot be loaded") == len(paths)
    assert done.stdout.splitlines()[-1] == "imported []"
