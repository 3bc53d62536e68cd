"""Reading a checkpoint file: what is damaged, foreign or would run code is refused in a sentence,
and nothing in it is run."""

import argparse
import datetime
import os
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sslens import whole_file, zoo
from sslens.errors import InputError
from sslens.zoo import files

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.nn.Parameter(torch.ones(3))}


def said_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        files.read_contents(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path} ")
    return str(caught.value)


# ------------------------------------------------------------------------------------------------
# code


class Payload:
    """A pickle that touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Nested:
    """The same, where the called function is an attribute that is fetched first."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


class Copied:
    """The same by a function that torch itself blocks in no case."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return shutil.copyfile, (__file__, str(self.mark))


@pytest.mark.parametrize("kind", [Payload, Nested])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "bare 2"])
@pytest.mark.parametrize("name", ["dino.pth", "model.pth.tar", "encoder.bin"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    tmp_path: Path, kind: Any, form: str, name: str
) -> None:
    mark, path = tmp_path / "ran", tmp_path / name
    if form.startswith("bare"):
        path.write_bytes(pickle.dumps(kind(mark), protocol=2 if form == "bare 2" else 4))
        named = "pathlib.Path.touch|pathlib.Path|builtins.getattr|__builtin__.getattr|getattr"
        named += "|posix.system"
    else:
        tree = {"model": {**STATE, "c": kind(mark)}}
        torch.save(tree, path, _use_new_zipfile_serialization=form == "zip")
        named = "getattr|pathlib.Path|posix.system"
    said = said_of(path)
    assert "was refused, and nothing in it was run: its pickle asks for" in said
    assert any(name in said for name in named.split("|"))
    with pytest.raises(InputError, match="nothing in it was run"):
        zoo.load(path)
    assert not mark.exists()
    (
        torch.load(path, weights_only=False)
        if not form.startswith("bare")
        else pickle.loads(path.read_bytes())
    )
    assert mark.exists()  # it would have run


def test_a_pickle_named_safetensors_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    torch.save({"model": Payload(tmp_path / "ran")}, path)
    assert "is not a whole safetensors file" in said_of(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before 1.6"])
def test_a_whole_network_is_refused_with_what_to_do(tmp_path: Path, new: bool) -> None:
    network = torch.nn.Linear(2, 2)
    torch.save(network, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    said = said_of(tmp_path / "a.pth")
    assert "it names torch.nn.modules.linear.Linear" in said
    assert "save the network's state_dict()" in said
    (state,) = files.read_contents(tmp_path / "a.pth", objects=True).states.values()
    assert np.array_equal(state["weight"].values, network.weight.detach().numpy())


def test_what_the_authors_files_hold_is_read_without_a_warning(tmp_path: Path) -> None:
    tree = {
        "model": STATE,
        "args": argparse.Namespace(lr=np.float64(0.1), blr=1e-3, output="x"),
        "loss": np.float64(2.5),
        "epoch": 7,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(tree, tmp_path / "new.pth")
    torch.save(tree, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    # as NumPy 1 wrote it
    older = (
        (tmp_path / "old.pth.tar")
        .read_bytes()
        .replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    )
    assert b"numpy.core.multiarray" in older
    (tmp_path / "older.pth.tar").write_bytes(older)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = [
            files.read_contents(tmp_path / name)
            for name in ("new.pth", "old.pth.tar", "older.pth.tar")
        ]
    for contents in read:
        assert list(contents.states) == ["model"]
        assert np.array_equal(contents.states["model"]["a"].values, STATE["a"].numpy())
        assert list(contents.states["model"]) == ["a", "b"]
        assert contents.epoch == 7
        assert contents.rest == {
            "args": "3 arguments",
            "loss": "2.5",
            "epoch": "7",
            "optimizer": "an optimiser's state",
        }


def test_numbers_of_numpy_beside_the_weights_are_read(tmp_path: Path) -> None:
    kinds = "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
    values = [getattr(np, kind)(1) for kind in kinds.split()]
    values += [np.complex64(1), np.str_("é"), np.dtype(">i4").type(7)]
    tree = {"m": STATE, **{str(number): value for number, value in enumerate(values)}}
    for new in (True, False):
        torch.save(tree, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
        rest = files.read_contents(tmp_path / "a.pth").rest
        assert list(rest.values()) == [str(value) for value in values]


def test_what_other_libraries_allow_is_not_allowed_here(tmp_path: Path) -> None:
    torch.save({"model": Copied(tmp_path / "ran")}, tmp_path / "a.pth")
    with torch.serialization.safe_globals([shutil.copyfile]):
        assert "shutil.copyfile" in said_of(tmp_path / "a.pth")
        assert not (tmp_path / "ran").exists()
        torch.load(tmp_path / "a.pth", weights_only=True)
        assert (tmp_path / "ran").exists()  # it would have run


class Own:
    """A class of a training."""


@pytest.mark.parametrize("form", ["weights", "several", "network", "in it", "top"])
def test_the_advice_for_objects_beside_weights_works(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    weights = network.state_dict()
    monkeypatch.chdir(tmp_path)
    for beside in (Path("data"), datetime.date(2026, 1, 1), {"deep": [Own()]}):
        tree = {
            "weights": {"state_dict": weights, "x": beside},
            "several": {"student": {**weights, "x": beside}, "teacher": weights},
            "network": network,
            "in it": {"model": network, "x": beside},
            "top": {**weights, "x": beside},
        }[form]
        torch.save(tree, "a.pth")
        with pytest.raises(InputError) as caught:
            files.read_contents(Path("a.pth"))
        said = str(caught.value)
        assert "nothing in it was run: it names " in said
        line = said.partition("give that file: ")[2].partition(". Or have sslens doctor")[0]
        exec(line, {})
        left = files.read_contents(Path("a.pth"), objects=True)
        for contents in (files.read_contents(Path("weights.pth")), left):
            assert len(contents.states) == (2 if form == "several" else 1)
            for state in contents.states.values():
                assert list(state) == list(weights)
                assert all(np.array_equal(state[k].values, v.numpy()) for k, v in weights.items())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(2).to_sparse(), "the first model: w, which is sparse"),
        (torch.empty(2, device="meta"), "which is on torch's meta device"),
        (torch.zeros(1).expand(10**5, 10**5), "would take 40,000,000,000, most of them w"),
    ],
    ids=["sparse", "meta", "repeated"],
)
def test_tensors_without_numbers_are_refused(tmp_path: Path, value: Any, said: str) -> None:
    torch.save({"model": {"w": value}}, tmp_path / "a.pth")
    assert said in said_of(tmp_path / "a.pth")


def test_pipes_devices_and_links_to_themselves_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "link.pth").symlink_to("link.pth")
    for name in ("pipe.pth", "pipe.safetensors"):
        assert said_of(tmp_path / name).endswith("is a pipe, and no file that can be read.")
    assert "cannot be read" in said_of(tmp_path / "link.pth")
    assert said_of(Path("/dev/zero")) == "/dev/zero is a device, and no file that can be read."


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("change", ["shorter", "zeros"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, name: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = tmp_path / name, {"a": torch.ones(5000), "b": torch.ones(5000)}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    fill = whole_file.Steady.fill

    def change_first(self: Any, begin: int, into: np.ndarray) -> None:
        if into.nbytes == 20000:
            with path.open("r+b") as file:
                if change == "shorter":
                    file.truncate(1000)
                else:
                    file.seek(begin)
                    file.write(bytes(20000))
            os.utime(path, ns=(1, 1))  # the clock of a file may be as coarse as 10 ms
        fill(self, begin, into)

    monkeypatch.setattr(whole_file.Steady, "fill", change_first)
    said = said_of(path)
    reasons = ("written while it was read", "cut off while it was read", "its CRC differs")
    assert any(reason in said for reason in reasons)


# ------------------------------------------------------------------------------------------------
# damaged files


@pytest.mark.parametrize("name", ["new.pth", "old.pth.tar", "weights.safetensors"])
@pytest.mark.parametrize("kept", [0.001, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_said_to_be_one(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    state = {"a": torch.arange(2000.0)}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state}, path, _use_new_zipfile_serialization="new" in name)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(3, int(kept * len(whole)))])
    said = said_of(path)
    assert "is cut off or damaged (" in said or "is not a whole safetensors file (" in said
    assert f"{path.stat().st_size:,} bytes" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: it was cut off in writing, or the download failed"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page, not a checkpoint"),
        (b"\n <html>", "is a web page, not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\x1f\x8b\x08\x00abc", "is compressed with gzip"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        # POSIX: the magic of a tar's first header is at byte 257
        (b"a.pth".ljust(257, b"\0") + b"ustar\x0000" + bytes(247), "is a tar archive"),
        (b"weights", "is no checkpoint: it begins with neither"),
        (b"\x80\x02" + bytes(range(200, 250)), "is cut off or damaged (52 bytes;"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert said in said_of(path)


def test_names_of_storages_that_are_nested_do_not_end_the_process(tmp_path: Path) -> None:
    """Python hashes and prints nested tuples by recursion."""
    name = b")" + b"\x85" * 200_000
    text = b"X\x07\0\0\0storage"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((" + text + b"ctorch\nFloatStorage\n" + name
    tensor += b"X\x03\0\0\0cpuK\x04tQK\0(K\x04t(K\x01t\x89}tR."
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + tensor)
        archive.writestr("a/data/0", bytes(16))
    assert "a storage has no name" in said_of(tmp_path / "a.pth")
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"a": 1})
    old = b"".join(pickle.dumps(part, 2) for part in start)
    for storages in (pickle.dumps([["x"]], 2), b"\x80\x02](" + name + b"e."):
        (tmp_path / "b.pth").write_bytes(old + storages + bytes(16))
        assert "its storages are cut off" in said_of(tmp_path / "b.pth")


def test_zip_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a.csv", b"1")
    assert "is a zip file of something else (it holds a.csv)" in said_of(tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("b/data.pkl", b"1")
        archive.writestr("b/constants.pkl", b"1")
    assert "is a TorchScript program" in said_of(tmp_path / "b.pt")


def test_folders_and_files_that_are_not_there(tmp_path: Path) -> None:
    assert "is a folder" in said_of(tmp_path)
    assert "cannot be read (No such file or directory)" in said_of(tmp_path / "nothing.pth")


def test_safetensors_by_another_name_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "weights.bin", {"format": "pt"})
    read = files.read_contents(tmp_path / "weights.bin")
    assert read.header == {"format": "pt"}
    assert read.states[""]["a"].values.tolist() == [1.0, 1.0]


def test_state_dicts_are_found_where_they_lie(tmp_path: Path) -> None:
    tree = {
        "state_dict": {"model": STATE, "n": 1},
        "extra": torch.zeros(1),
        "lists": [torch.zeros(1)],
        "nothing": None,
    }
    torch.save(tree, tmp_path / "a.pth")
    read = files.read_contents(tmp_path / "a.pth")
    assert {state: list(tensors) for state, tensors in read.states.items()} == {
        "": ["extra"],
        "state_dict/model": ["a", "b"],
    }
    assert read.rest == {"lists": "list", "nothing": "None"}
