"""Reading a checkpoint file: what is damaged, foreign or would run code is refused in a sentence,
and nothing in it is run."""

import argparse
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

from sslens import zoo
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


def test_a_whole_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    said = said_of(tmp_path / "a.pth")
    assert "it names torch.nn.modules.linear.Linear" in said
    assert "save the network's state_dict()" in said


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


def test_nothing_but_the_four_names_is_allowed(tmp_path: Path) -> None:
    names = {
        (item[1] if isinstance(item, tuple) else f"{item.__module__}.{item.__qualname__}")
        for item in files.ALLOWED
    }
    assert names == {
        "argparse.Namespace",
        "numpy.dtype",
        "numpy.dtypes.Float64DType",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",  # the same, where NumPy 2 has it
    }
    torch.save({"model": STATE, "loss": np.float32(1)}, tmp_path / "a.pth")
    assert "numpy.dtypes.Float32DType" in said_of(tmp_path / "a.pth")


def test_what_other_libraries_allow_is_not_allowed_here(tmp_path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    torch.save({"model": Copied(tmp_path / "ran")}, tmp_path / "a.pth")
    with torch.serialization.safe_globals([shutil.copyfile]):
        assert "shutil.copyfile" in said_of(tmp_path / "a.pth")
        assert not (tmp_path / "ran").exists()
        assert shutil.copyfile in torch.serialization.get_safe_globals()  # theirs again
        torch.load(tmp_path / "a.pth", weights_only=True)
        assert (tmp_path / "ran").exists()  # it would have run
    assert set(map(str, torch.serialization.get_safe_globals())) == set(map(str, before))


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


def test_zip_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a.npy", b"1")
    assert "is a zip file of something else (it holds a.npy)" in said_of(tmp_path / "a.pth")
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
