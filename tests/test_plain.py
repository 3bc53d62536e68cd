"""Files read without torch hold what torch reads in them, whatever their age, protocol and number
types."""

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
from safetensors.torch import load_file, save_file
from torch import Tensor

from checkpoints import EXAMPLES, Example
from sslens.errors import InputError
from sslens.models.positions import make_sincos_positions
from sslens.zoo import files, pickles, plain
from sslens.zoo.arrays import Array, decode_float8
from sslens.zoo.machine import Machine
from sslens.zoo.makers import MAKERS
from sslens.zoo.stored import Storage, StoredTensor, rebuild
from sslens.zoo.trunks import compute_sincos
from sslens.zoo.values import Foreign, Senseless

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
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.uint16,
]
#: what torch must be told to allow in the authors' training files
SCALAR: Any = np.float64(0).__reduce__()[0]
ALLOWED: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.dtypes.Float64DType,
    (SCALAR, "numpy.core.multiarray.scalar"),
    (SCALAR, "numpy._core.multiarray.scalar"),
]


def example(layout: str, name: str) -> Example:
    return EXAMPLES[layout]()[name]


def require_same(array: Array, tensor: Tensor) -> None:
    expected = files.convert_to_array(tensor)
    assert (array.kind, array.shape) == (expected.kind, tuple(tensor.shape))
    assert array.raw.tobytes() == expected.raw.tobytes()  # NaNs are equal too


def various() -> dict[str, Tensor]:
    """Tensors of every kind, without axes, empty, and views of one storage."""
    numbers = torch.arange(24)
    state = {str(kind): (numbers - 3).to(kind).reshape(4, 6) for kind in KINDS}
    whole = numbers.float().reshape(2, 3, 4)
    views = {"turned": whole.permute(2, 0, 1), "part": whole[:, 1], "row": whole[1, 2]}
    spread = torch.zeros(1).expand(5)
    return state | views | {"scalar": torch.tensor(7), "none": torch.zeros(0, 3), "spread": spread}


@pytest.mark.parametrize(
    "how", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}]
)
def test_every_kind_and_stride_is_as_torch_has_it(how: dict[str, Any], tmp_path: Path) -> None:
    state = OrderedDict(various())
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    tree = {
        "model": state,
        "one": {"w": parameter},
        "args": argparse.Namespace(lr=1, decay=np.float64(0.1)),
        "epoch": 3,
    }
    torch.save(tree, tmp_path / "a.pth", **how)
    with pickles.open_pickle(tmp_path / "a.pth") as pickled:
        found: Any = pickled.tree
        assert list(found["model"]) == list(state)
        for name, tensor in state.items():
            require_same(found["model"][name].load(), tensor)
        require_same(found["one"]["w"].load(), parameter)
    assert vars(found["args"]) == {"lr": 1, "decay": 0.1}
    assert found["epoch"] == 3
    tensors = files.read_tensors(tmp_path / "a.pth")["model"]
    assert all(torch.equal(tensors[name], value) for name, value in state.items())


def test_every_kind_of_safetensors_is_as_its_library_has_it(tmp_path: Path) -> None:
    whole = {name: value.clone().contiguous() for name, value in various().items()}
    save_file(whole, tmp_path / "a.safetensors", {"format": "pt"})
    header, arrays = plain.read_safetensors(tmp_path / "a.safetensors")
    assert header == {"format": "pt"}
    assert list(arrays) == sorted(whole)
    for name, tensor in whole.items():
        require_same(arrays[name], tensor)
    ours = tmp_path / "b.safetensors"
    plain.write_safetensors(ours, arrays, header)
    for name, tensor in load_file(ours).items():
        assert torch.equal(tensor, whole[name].to(tensor.dtype)), name


FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]


@pytest.mark.parametrize("kind", FLOAT8)
def test_8_bit_numbers_are_as_torch_has_them(kind: str) -> None:
    bits = torch.arange(256).to(torch.uint8)
    expected = bits.view(getattr(torch, kind)).float().numpy()
    np.testing.assert_array_equal(decode_float8(bits.numpy(), kind), expected)


@pytest.mark.parametrize("layout", EXAMPLES)
def test_contents_are_those_that_torch_reads(layout: str, tmp_path: Path) -> None:
    for name in EXAMPLES[layout]():
        path = example(layout, name).write(tmp_path)
        contents = files.read_contents(path)
        if path.suffix in (".safetensors", ".pkl", ".npz"):
            continue
        with torch.serialization.safe_globals(ALLOWED):
            tree = torch.load(path, weights_only=True)
        for state, weights in contents.states.items():
            expected = tree
            for key in filter(None, state.split("/")):
                expected = expected[key]
            for key, array in weights.items():
                require_same(array, expected[key])


class Code:
    """An object that would run code where it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_carried_out(protocol: int) -> None:
    value: dict[str, Any] = {
        "numbers": [0, 1, 255, 256, -1, 2**40, -(2**70), 1.5, float("inf"), True, None],
        "texts": ["é\n\\", "x" * 300, b"y", b"z" * 300, b"w" * 5000, bytearray(b"q"), ""],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "keys": {1: "a", (2, "b"): "c", None: {}},
        "array": np.arange(6, dtype=">f4").reshape(2, 3).T,
    }
    value["again"] = value["texts"]
    read = Machine(pickle.dumps(value, protocol), MAKERS).run()
    array = read.pop("array")
    array = array if isinstance(array, StoredTensor) else array.made
    assert np.array_equal(array.load().values, value.pop("array"))
    assert read["again"] is read["texts"]
    assert read == value


def test_code_is_neither_run_nor_imported(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(pickle.dumps({"a": Code()}), MAKERS)
    made = machine.run()["a"]
    assert isinstance(made, Foreign)
    assert list(machine.called) == ["builtins.print"]
    assert capsys.readouterr().out == ""


def test_what_a_pickle_changes_is_its_own(tmp_path: Path) -> None:
    """A pickle may set attributes of what it is given; the next file must not see them."""
    evil = b"\x80\x02cargparse\nNamespace\n}U\x04evilK\x01sb}."
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        archive.writestr("b/data.pkl", evil)
    with pickles.open_pickle(tmp_path / "b.pth") as pickled:
        assert pickled.tree == {}
    assert not hasattr(argparse.Namespace, "evil")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (1, (2, 2), (2, 1)), (0, (2,), (-1,)), (-1, (1,), (1,)), (0, (True,), (1,))],
)
def test_a_tensor_outside_its_storage_is_refused(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    storage = Storage("float32", 16, lambda: np.zeros(16, np.uint8))
    with pytest.raises(Senseless):
        rebuild(storage, offset, size, stride)


def repack(source: Path, into: Path, compression: int) -> Path:
    """Copy a zip with its storages packed in another way."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(into, "w") as archive:
        for name in old.namelist():
            how = compression if name.endswith("data/0") else zipfile.ZIP_STORED
            archive.writestr(name, old.read(name), how)
    return into


def test_packed_storages_are_read_and_held_against_their_crc(tmp_path: Path) -> None:
    state = {"a": torch.arange(50.0)}
    torch.save(state, tmp_path / "a.pth")
    packed = repack(tmp_path / "a.pth", tmp_path / "b.pth", zipfile.ZIP_DEFLATED)
    require_same(files.read_contents(packed).states[""]["a"], state["a"])
    assert files.locate_tensors(packed)[""]["a"].storage.begin is None
    text = bytearray((tmp_path / "a.pth").read_bytes())
    text[text.find(state["a"].numpy().tobytes()) + 7] ^= 1
    (tmp_path / "c.pth").write_bytes(text)
    with pytest.raises(InputError, match="data/0 is not what was written: its CRC differs"):
        files.read_contents(tmp_path / "c.pth")
    other = repack(tmp_path / "a.pth", tmp_path / "d.pth", zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match="is packed in another way"):
        files.read_contents(other)


def test_a_crc_that_torch_was_told_to_spare_is_spared(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    torch.serialization.set_crc32_options(True)
    assert files.read_contents(tmp_path / "a.pth").states[""]["a"].values.tolist() == [1.0, 1.0]


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


@pytest.mark.slow
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
