"""Parts of checkpoint files in memory that is used again."""

import io
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sslens.errors import InputError
from sslens.paths import files as path_files
from sslens.paths import memory as path_memory
from sslens.paths.memory import ReadBuffer
from sslens.paths.path import measure_path

pytestmark = pytest.mark.skipif(
    not hasattr(os, "O_DIRECT"), reason="files are read past the cache on Linux alone"
)


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files count as not being in memory."""
    (tmp_path / "some").write_bytes(b"0")
    try:
        os.close(os.open(tmp_path / "some", os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("this folder's file system has no reading past the cache")
    monkeypatch.setattr(path_memory, "_is_in_memory", lambda path, runs: False)
    return tmp_path


def drawn(seed: int, sizes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, generator=generator) for name, size in sizes.items()}


@pytest.mark.parametrize("numbers", [3, 1024, 5000])
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_part_of_a_file_is_read_as_it_is(
    cold: Path, monkeypatch: pytest.MonkeyPatch, kind: str, numbers: int, in_memory: bool
) -> None:
    monkeypatch.setattr(path_memory, "_is_in_memory", lambda path, runs: in_memory)
    weights = drawn(
        0, {"a": (numbers,), "b": (40, 50), "c": (3,), "none": (0, 4), "d": (numbers, 2)}
    )
    weights["half"] = weights["a"].bfloat16()
    if kind == "pth":
        weights["b"] = weights["b"].T  # its numbers stand in the file as they stood in memory
    path = cold / f"weights.{kind}"
    save_file(weights, path) if kind == "safetensors" else torch.save(weights, path)
    at = path_files.locate_weights(path)
    assert all(place.begin is not None for place in at.values())
    room = ReadBuffer()
    for names in (["a", "none", "d"], ["b"], ["half", "c"], list(weights)):
        found = room.fill(path, {name: at[name] for name in names})
        assert list(found) == names
        for name, value in found.items():
            assert torch.equal(value, weights[name])
            assert value.dtype == weights[name].dtype
    size = path.stat().st_size
    os.truncate(path, size // 2)
    with pytest.raises(
        InputError, match=rf"weights\.{kind} cannot be read \(it ends before its end\)"
    ):
        room.fill(path, at)


def test_a_disk_that_cannot_be_read_past_the_cache_is_read_as_any_other(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = drawn(0, {"a": (5000,), "b": (7,)})
    path = cold / "weights.safetensors"
    save_file(weights, path)
    for direct in (
        lambda path: None,
        lambda path: io.FileIO(path, "r+", opener=lambda path, _: os.open(path, os.O_WRONLY)),
    ):
        monkeypatch.setattr(path_memory, "_direct", direct)  # of the second every read fails
        found = ReadBuffer().fill(path, path_files.locate_weights(path))
        assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_of_a_file_in_memory_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(bytes(100_000))
    runs = [range(3), range(20, 25)]
    assert path_memory._is_in_memory(path, runs)
    assert path_memory._is_in_memory(path, [])
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = path_memory._is_in_memory(path, runs)
    path.read_bytes()
    assert path_memory._is_in_memory(path, runs) >= before


def test_what_is_not_mapped_has_no_place(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(drawn(0, {"a": (5000,), "b": (7,)}), path, _use_new_zipfile_serialization=False)
    assert [place.begin for place in path_files.locate_weights(path).values()] == [None, None]


@pytest.mark.parametrize("size", [12, 1 << 26])
def test_a_path_through_files_that_are_not_in_memory_is_the_same(
    cold: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    sizes = {"w": (4000,), "v": (7,), "u": (30, 40)}
    paths = [cold / f"epoch{number}.safetensors" for number in range(8)]
    for seed, path in enumerate(paths):
        save_file(drawn(seed, sizes), path)
    monkeypatch.setattr(path_files, "BYTES", (size, 1 << 30))
    past = []
    direct = path_memory._direct
    monkeypatch.setattr(path_memory, "_direct", lambda path: past.append(path) or direct(path))
    found = measure_path(paths).frame
    assert sorted(past) == sorted(paths * len(path_files.Checkpoints(paths).parts()))
    monkeypatch.setattr(path_memory, "_is_in_memory", lambda path, runs: True)
    pd.testing.assert_frame_equal(measure_path(paths).frame, found)
    paths[4].write_bytes(paths[4].read_bytes()[:-5])
    with pytest.raises(InputError, match=r"epoch4\.safetensors is not a whole safetensors file"):
        measure_path(paths)


@pytest.mark.parametrize("kind", ["safetensors", "old.pth"])
def test_a_file_that_is_written_meanwhile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(path_files, "BYTES", (12, 1 << 30))
    paths = [tmp_path / f"epoch{number}.{kind}" for number in range(3)]
    for seed, path in enumerate(paths):
        weights = drawn(seed, {"w": (40,), "v": (30,)})
        if kind == "safetensors":
            save_file(weights, path)
        else:
            torch.save(weights, path, _use_new_zipfile_serialization=False)
    run = path_files.Checkpoints(paths)
    one, other = run.parts()
    assert len(list(run.read(one, 3))) == 3
    os.utime(paths[2], (0, 0))
    with pytest.raises(InputError, match=r"epoch2\S+ was written while it was read"):
        list(run.read(other, 3))
