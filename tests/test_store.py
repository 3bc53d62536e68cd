"""The store: whole files or none, also on a full disk; artefacts found by what they were made
from."""

import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from sslens import parts
from sslens.errors import Doubt, InputError
from sslens.store import Store, digest, home, write_beside, write_tensors, write_text
from sslens.table import Table


def inside(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, e.g. with `size=64k`, after which it is really full."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


# ------------------------------------------------------------------------------------------------
# one file


def test_a_file_is_written_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "τ = 0.07\n")
    assert path.read_bytes() == "τ = 0.07\n".encode()
    assert inside(tmp_path) == {"a/b/c.txt"}


def test_what_a_killed_process_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("é" * 120 + ".txt")
    child = os.fork()
    if not child:
        with write_beside(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = inside(tmp_path)
    assert left.endswith(".part")
    foreign = left.replace(parts._name_machine(), "00000000")
    others = {"a.part", ".c.txt.abcdefgh.part", foreign}
    for name in others:
        (tmp_path / name).write_text("theirs")
    with write_beside(tmp_path / "b.txt") as temporary:  # the first in this folder
        temporary.write_text("whole")
        assert inside(tmp_path) == others | {temporary.name}
        monkeypatch.setattr(parts, "_seen", set())
        write_text(path, "whole")
        assert inside(tmp_path) == others | {temporary.name, path.name}
    assert inside(tmp_path) == others | {"b.txt", path.name}
    os.utime(tmp_path / foreign, (0, 0))
    parts._seen.clear()
    write_text(path, "again")
    assert inside(tmp_path) == {"a.part", ".c.txt.abcdefgh.part", "b.txt", path.name}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_part(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "c.txt"
    write_text(path, "old")
    with pytest.raises(error), write_beside(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        assert temporary.parent == tmp_path
        assert path.read_text() == "old"
        raise error
    assert path.read_text() == "old"
    assert inside(tmp_path) == {"c.txt"}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_permissions_of_any_other(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "c.txt", "x")
        assert os.umask(mask) == mask  # it is left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c.txt").stat().st_mode) == mode


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(
        InputError,
        match=r"report/tables/a.csv cannot be written .*: choose another folder with out",
    ):
        write_text(tmp_path / "report" / "tables" / "a.csv", "x")
    assert (tmp_path / "report").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "a.csv", "x")


def test_a_disk_that_is_read_only_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "ro") as disk:
        with pytest.raises(
            InputError,
            match=r"a\.csv cannot be written \(Read-only file system\): choose another folder",
        ):
            write_text(disk / "a.csv", "x")
        with pytest.raises(InputError, match="Read-only file system"):
            write_text(disk / "tables" / "a.csv", "x")


def test_a_fault_that_is_not_the_disks_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="reset") as caught, write_beside(tmp_path / "c.txt"):
        raise ConnectionResetError(104, "reset by peer")
    assert caught.value.__cause__ is None
    assert inside(tmp_path) == set()


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=256k") as disk:
        write_text(disk / "old.txt", "old")
        write_tensors(disk / "old.safetensors", {"x": torch.zeros(8)}, {})
        with pytest.raises(
            InputError, match=r"The disk is full: .*old.txt was not written.*Free some space"
        ):
            write_text(disk / "old.txt", "x" * 2**20)
        with pytest.raises(
            InputError, match=r"The disk is full: .*old.safetensors was not written"
        ):
            write_tensors(disk / "old.safetensors", {"x": torch.zeros(2**18)}, {})
        with pytest.raises(InputError, match="The disk is full"):
            Store(disk).write("grams", {"a": 1}, {"x": torch.zeros(2**18)})
        with pytest.raises(InputError, match="The disk is full"):
            Store(disk).write_json("tables", {"a": 1}, "x" * 2**20)
        assert inside(disk) == {"old.txt", "old.safetensors"}
        assert (disk / "old.txt").read_text() == "old"
        with safe_open(disk / "old.safetensors", framework="pt") as file:
            assert file.get_tensor("x").shape == (8,)


# ------------------------------------------------------------------------------------------------
# artefacts


def test_the_digest_is_that_of_the_canonical_text() -> None:
    canonical = rb'{"a":"\u00e9","b":[1,2.5,null,true]}'
    assert digest({"b": [1, 2.5, None, True], "a": "é"}) == hashlib.sha256(canonical).hexdigest()
    # printf '{}' | sha256sum
    empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest({}) == empty
    assert digest([["a", "b"], ["c"]]) == digest((("a", "b"), ("c",)))  # tuples are JSON's lists
    assert digest([["a"], ["b", "c"]]) != digest([["a", "b"], ["c"]])


def test_home_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv("SSLENS_HOME", "")
    monkeypatch.setenv("HOME", "/somewhere")
    assert home() == Path("/somewhere/.cache/sslens")


def test_an_artefact_is_found_by_its_kind_and_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = {"weights": "ab", "plan": [1, 2]}
    assert not store.has("grams", key)
    assert store.read("grams", key) is None
    path = store.write(
        "grams", key, {"x": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor([3])}
    )
    name = digest(key)
    assert path == tmp_path / "grams" / name[:2] / f"{name[2:]}.safetensors"
    tensors = store.read("grams", {"plan": [1, 2], "weights": "ab"})
    assert tensors is not None
    assert tensors["x"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors["n"].dtype == torch.int64
    assert store.has("grams", key)
    assert store.read("features", key) is None
    assert store.read("grams", {**key, "weights": "ac"}) is None
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["sslens.key"]) == key


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_artefact_is_as_if_it_were_not_there(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    paths = [
        store.write("grams", {"a": 1}, {"x": torch.ones(100)}),
        store.write_json("tables", {"a": 1}, [1, 2]),
    ]
    for path in paths:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[:-7], "empty": b"", "other": b"[1, 2, 3, 4, 5, 6]"}[damage])
    with pytest.warns(Doubt, match="is damaged and is computed again"):
        assert store.read("grams", {"a": 1}) is None
    with pytest.warns(Doubt, match="is damaged and is computed again"):
        assert store.read_json("tables", {"a": 1}) is None


def test_json_values_come_back_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    value = {"x": [0.1 + 0.2, 1e-300, None], "names": ["é", "a < b"]}
    assert store.read_json("tables", {"a": 1}) is None
    store.write_json("tables", {"a": 1}, value)
    assert store.read_json("tables", {"a": 1}) == value


# ------------------------------------------------------------------------------------------------
# tables

FRAME = pd.DataFrame(
    {
        "model": ["mae", "moco, v3"],
        "control": [False, True],
        "images": [32, 7],
        "cka": [0.1 + 0.2, float("nan")],
    }
)
UNITS = {"model": "name", "control": "whether it is one", "images": "count", "cka": "CKA"}


def test_a_table_comes_back_from_json_with_all_digits() -> None:
    table = Table(FRAME, UNITS, {"key": "ab"})
    back = Table.from_json(json.loads(json.dumps(table.to_json(), allow_nan=False)))
    pd.testing.assert_frame_equal(back.frame, FRAME)
    assert back.frame.cka[0] == 0.1 + 0.2
    assert back.units == UNITS
    assert back.provenance == {"key": "ab"}


def test_a_table_without_rows_comes_back() -> None:
    back = Table.from_json(Table(FRAME.iloc[:0], UNITS).to_json())
    pd.testing.assert_frame_equal(back.frame, FRAME.iloc[:0], check_index_type=False)


def test_undefined_numbers_are_empty_fields(tmp_path: Path) -> None:
    Table(FRAME, UNITS).save(tmp_path / "t" / "a.csv")
    text = (tmp_path / "t" / "a.csv").read_text()
    assert text == 'model,control,images,cka\nmae,False,32,0.3\n"moco, v3",True,7,\n'
    assert np.isnan(pd.read_csv(tmp_path / "t" / "a.csv").cka[1])


def test_a_column_without_a_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="columns without a unit: cka"):
        Table(FRAME, {name: unit for name, unit in UNITS.items() if name != "cka"})
