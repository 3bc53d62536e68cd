"""The path of a training from its checkpoints, and `sslens path`."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sslens.cli import main
from sslens.errors import Doubt, InputError
from sslens.own_files import OwnFiles
from sslens.paths import files as path_files
from sslens.paths.files import Checkpoints
from sslens.paths.order import CheckpointOrder, order_checkpoints
from sslens.paths.path import measure_path
from sslens.paths.tracker import PathTracker
from sslens.store import write_tensors
from sslens.table import Table


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))


def last(table: Table, group: str = "backbone") -> Any:
    frame = table.frame[table.frame.group == group]
    return frame.iloc[-1]


def written(
    folder: Path, weights: Sequence[dict[str, Tensor]], kind: str = "safetensors"
) -> list[Path]:
    """Checkpoints of a run, numbered from 0."""
    paths = []
    for number, each in enumerate(weights):
        path = folder / f"epoch{number}.{kind}"
        if kind == "safetensors":
            save_file(each, path)
        else:
            held = {"model": each, "epoch": number, "optimizer": {"state": {}, "param_groups": []}}
            torch.save(held, path, _use_new_zipfile_serialization=kind != "old.pth")
        paths.append(path)
    return paths


def run_of(count: int, seed: int = 0) -> list[dict[str, Tensor]]:
    """The weights of a run with BatchNorm's buffers beside them."""
    generator = torch.Generator().manual_seed(seed)
    buffers = {
        "bn.running_mean": torch.rand(3, generator=generator),
        "bn.num_batches_tracked": torch.tensor(7),
    }
    shapes = {
        "blocks.0.attn.qkv.weight": (6, 2),
        "blocks.0.norm1.bias": (2,),
        "head.weight": (3, 2),
        "bn.weight": (3,),
    }
    return [
        {n: torch.randn(s, generator=generator) for n, s in shapes.items()} | buffers
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_files_give_what_following_the_run_does(tmp_path: Path, kind: str) -> None:
    weights = run_of(5)
    table = measure_path(written(tmp_path, weights, kind))
    holder = nn.ParameterDict(
        {
            n.replace(".", "/"): v.clone()
            for n, v in weights[0].items()
            if "bn." not in n or "weight" in n
        }
    )
    tracker = PathTracker(holder)
    for each in weights[1:]:
        for name, value in holder.items():
            value.data.copy_(each[name.replace("/", ".")])
        tracker.record()
    expected = tracker.table().frame.query("group == 'backbone'").reset_index(drop=True)
    # ParameterDict's names have no dots: all of it is one group there
    found = (
        table.frame[table.frame.group.isin(["backbone", "head"])]
        .groupby("record")[["displacement", "move"]]
        .agg(lambda values: float(np.sqrt((values**2).sum())))
    )
    np.testing.assert_allclose(found.displacement, expected.displacement, rtol=1e-12)
    np.testing.assert_allclose(found.move, expected.move, rtol=1e-12)
    assert table.frame["at"].unique().tolist() == [f"epoch{i}.{kind}" for i in range(1, 5)]
    assert set(table.frame.group) == {
        "backbone",
        "attention",
        "attention qkv",
        "norm",
        "head",
        "block 0",
    }
    assert table.frame[["step", "step_length"]].isna().to_numpy().all()


def test_files_of_one_name_are_told_by_their_folders(tmp_path: Path) -> None:
    paths = []
    for number, weights in enumerate(run_of(3)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        paths.append(tmp_path / f"checkpoint-{number}" / "model.safetensors")
        save_file(weights, paths[-1])
    assert measure_path(paths).frame["at"].nunique() == 2


def test_a_new_head_is_left_out_and_said(tmp_path: Path) -> None:
    weights = run_of(3)
    for each in weights[1:]:
        each["head.weight"] = torch.zeros(5, 2)
        each["fc_norm.weight"] = torch.ones(2)
    with pytest.warns(Doubt, match=r"head\.weight, fc_norm\.weight are in only one of .* left out"):
        table = measure_path(written(tmp_path, weights))
    assert "head" not in set(table.frame.group)


@pytest.mark.parametrize("place", [1, 2])
def test_another_architecture_is_refused(tmp_path: Path, place: int) -> None:
    weights = run_of(4)
    weights[place]["blocks.0.attn.qkv.weight"] = torch.zeros(9, 3)
    paths = written(tmp_path, weights)
    said = (
        rf"epoch{place - 1}\S+ and \S+epoch{place}\S+ are not of one architecture:"
        r" 1 parameter differs, first blocks\.0"
    )
    with pytest.raises(InputError, match=said):
        measure_path(paths)
    del weights[place]["blocks.0.attn.qkv.weight"]
    with pytest.raises(InputError, match="not there"):
        measure_path(written(tmp_path, weights))


def test_networks_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    paths = written(tmp_path, [{"head.a": torch.zeros(2)}, {"head.b": torch.zeros(2)}])
    with pytest.raises(InputError, match="not of one architecture"):
        measure_path(paths)


def test_a_nan_in_the_middle_is_named_with_its_file(tmp_path: Path) -> None:
    weights = run_of(4)
    weights[2]["blocks.0.norm1.bias"][1] = torch.nan
    with pytest.raises(
        InputError, match=r"blocks\.0\.norm1\.bias holds numbers that are not finite in \S+epoch2"
    ):
        measure_path(written(tmp_path, weights))


def test_several_sets_of_weights_ask_for_a_choice(tmp_path: Path) -> None:
    paths = []
    for number, (student, teacher) in enumerate(zip(run_of(2), run_of(2, seed=1), strict=True)):
        paths.append(tmp_path / f"{number}.pth")
        torch.save({"student": student, "teacher": teacher}, paths[-1])
    with pytest.raises(InputError, match=r"several sets of weights \(student, teacher\).* state"):
        measure_path(paths)
    with pytest.raises(InputError, match='no weights under "teachr": did you mean teacher'):
        measure_path(paths, "teachr")
    assert (
        last(measure_path(paths, "student")).displacement
        != last(measure_path(paths, "teacher")).displacement
    )


def test_the_command_writes_a_table_in_the_order_of_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = run_of(11)
    paths = written(tmp_path, weights)
    out = tmp_path / "found" / "path.csv"
    given = [str(path) for path in sorted(paths, key=str)]  # as a shell lists them: 0, 1, 10, 2, …
    assert given[2].endswith("epoch10.safetensors")
    assert main(["path", *given, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out)
    assert "11 checkpoints, from" in said.err
    assert "attention qkv" in said.err
    frame = pd.read_csv(out)
    pd.testing.assert_frame_equal(frame, measure_path(paths).frame, check_dtype=False, rtol=1e-5)
    assert main(["path", str(tmp_path), "--out", str(out)]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(out), frame)
    again = ["path", *given, "--as-given", "--out", str(out)]
    assert main(again) == 2  # another path
    assert (
        "is the path of other weights, to epoch10.safetensors: it would" in capsys.readouterr().err
    )
    pd.testing.assert_frame_equal(pd.read_csv(out), frame)
    assert main([*again, "--overwrite"]) == 0
    assert pd.read_csv(out).length.max() != frame.length.max()


def test_a_table_is_replaced_by_its_own_path_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(path) for path in written(tmp_path, run_of(5))]
    out = tmp_path / "path.csv"
    assert main(["path", *paths[:2], "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "–: of one move, which is straight by definition" in said
    assert "1.000" not in said
    assert main(["path", *paths, "--out", str(out)]) == 0  # the run went on
    assert "by definition" not in capsys.readouterr().err
    assert main(["path", *paths[:2], "--out", str(out)]) == 2  # what came later would be lost
    assert main(["path", paths[1], *paths[1:], "--out", str(out)]) == 2  # from other weights
    assert "give another name with --out, or --overwrite" in capsys.readouterr().err
    out.write_text("mine\n")
    assert main(["path", *paths, "--out", str(out), "--overwrite"]) == 2
    assert "is no table of a path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one.pth"], "two or more checkpoints, and 1 is given"),
        (["empty"], "empty holds no checkpoints"),
        (["nowhere"], "nowhere is not there"),
        (["a.pth", "b.pth", "--out", "c.pth"], "named like a checkpoint"),
        (["a.pth", "b.pth", "--out", "empty"], "is a folder"),
        (["missing.pth", "b.pth"], "cannot be read"),
    ],
)
def test_the_command_says_what_cannot_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["path", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize(
    ("given", "wanted", "left"),
    [
        # a shell lists a glob by characters (or without punctuation): it is sorted by number
        ("start/mae.pth run/c-1.pth run/c-10.pth run/c-2.pth", "mae c-1 c-2 c-10", ""),
        ("run/c-10.pth run/c-1.pth run/c-2.pth", "c-1 c-2 c-10", ""),
        ("run/c-10_a.pth run/c-1_a.pth run/c-2_a.pth", "c-1_a c-2_a c-10_a", ""),
        ("vit_b16.pth c-1.pth c-10.pth c-2.pth", "vit_b16 c-1 c-2 c-10", ""),
        # another order is the user's
        ("run/c-3.pth run/c-2.pth run/c-1.pth", "c-3 c-2 c-1", ""),
        ("run/last.pth run/c-2.pth run/best.pth", "last c-2 best", ""),
        # best and last are no numbers
        ("r/best.pth r/c-1.pth r/c-10.pth r/c-2.pth r/last.pth", "c-1 c-2 c-10 last", "best"),
        ("run/best.pth run/last.pth", "best last", ""),
        # numbers of folders count too
        ("r/step-10/w.bin r/step-100/w.bin r/step-20/w.bin", "10 20 100", ""),
    ],
)
def test_files_keep_their_order_and_a_glob_is_sorted_by_number(
    given: str, wanted: str, left: str
) -> None:
    paths = [Path(name) for name in given.split()]
    order = order_checkpoints(paths)
    names = [path.stem for path in order.paths]
    if names[0] == "w":
        names = [path.parent.name.removeprefix("step-") for path in order.paths]
    assert (" ".join(names), " ".join(path.stem for path in order.left_out)) == (wanted, left)
    assert order.sorted == (list(order.paths) != [path for path in paths if path.stem != left])
    assert order_checkpoints(paths, as_given=True) == CheckpointOrder(tuple(paths))


def test_the_order_of_a_folder_and_of_a_quoted_glob_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("e10", "e9", "e9-best", "best", "last", "init"):
        Path("run").mkdir(exist_ok=True)
        save_file({"a": torch.ones(2)}, Path("run", f"{name}.safetensors"))
    for given in ("run", "run/*.safetensors"):
        assert main(["path", given, "-o", "path.csv"]) == 0
        said = capsys.readouterr().err.splitlines()
        assert said[1] == (
            "order     by the numbers in their names: init.safetensors, e9.safetensors,"
            " e10.safetensors, last.safetensors"
        )
        assert said[2].startswith("left out  run/best.safetensors, run/e9-best.safetensors: ")
        assert said[-1] == ("equal     last.safetensors has the same weights as e10.safetensors.")
    assert main(["path", "run/*.pth"]) == 2
    assert "No file is called run/*.pth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "advice"),
    [("path.csv", "its path is in"), ("states", "give "), ("", "fine-tune with")],
)
def test_the_folder_of_a_training_is_no_path(there: str, advice: str, tmp_path: Path) -> None:
    OwnFiles(tmp_path).claim("training", {})
    for name in ("best", "last", "state"):
        save_file({"w": torch.zeros(2)}, tmp_path / f"{name}.safetensors")
    if there:
        (tmp_path / there).mkdir()
    with pytest.raises(InputError, match=f"holds a training and not its checkpoints: {advice}"):
        order_checkpoints([tmp_path])


@pytest.mark.parametrize("kind", ["safetensors", "pth", "shared.pth"])
def test_a_flipped_bit_is_told_in_whichever_part_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A file in which all parameters share one storage is checked as a whole."""
    monkeypatch.setattr(path_files, "BYTES", (64, 1 << 30))
    paths = []
    for number in range(3):
        values = torch.arange(96.0) + number
        weights = dict(zip("abc", values.split(32), strict=True))
        if kind != "shared.pth":
            weights = {name: value.clone() for name, value in weights.items()}
        paths.append(tmp_path / f"{number}.{kind}")
        if kind == "safetensors":
            write_tensors(paths[-1], weights, {})
        else:
            torch.save(weights, paths[-1])
    frame = measure_path(paths).frame
    assert frame.displacement.max() == pytest.approx(2 * math.sqrt(96))
    content = bytearray(paths[1].read_bytes())
    content[content.find(np.float32(80 + 1).tobytes())] ^= 1
    paths[1].write_bytes(content)
    with pytest.raises(InputError, match=rf"1\.{kind} is damaged: [abc] is not what was written"):
        measure_path(paths)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "old.pth"])
def test_a_path_in_parts_is_that_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    weights = run_of(6)
    whole = measure_path(written(tmp_path, weights, kind)).frame
    monkeypatch.setattr(path_files, "BYTES", (12, 1 << 30))
    run = Checkpoints(paths := written(tmp_path, weights, kind))
    assert sorted(itertools.chain(*run.parts())) == sorted(
        name for name in weights[0] if "running" not in name and "num" not in name
    )
    assert len(run.parts()) >= 3
    pd.testing.assert_frame_equal(measure_path(paths).frame, whole, rtol=1e-12)


def test_of_parameters_that_break_the_first_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever part is read first."""
    monkeypatch.setattr(path_files, "BYTES", (12, 1 << 30))
    for early, late in itertools.permutations(
        ["blocks.0.norm1.bias", "blocks.0.attn.qkv.weight", "bn.weight"], 2
    ):
        weights = run_of(6)
        weights[2][early].view(-1)[1] = torch.nan
        weights[4][late].view(-1)[0] = torch.inf
        with pytest.raises(
            InputError, match=rf"{early} holds numbers that are not finite in \S+epoch2"
        ):
            measure_path(written(tmp_path, weights))
        weights[0][late].view(-1)[0] = torch.inf
        with pytest.raises(
            InputError, match=rf"{late} holds numbers that are not finite in \S+epoch0"
        ):
            measure_path(written(tmp_path, weights))


def test_files_without_parameters_are_refused(tmp_path: Path) -> None:
    paths = written(tmp_path, [{"steps": torch.tensor(3)}, {"steps": torch.tensor(4)}])
    with pytest.raises(
        InputError, match=r"one set of weights, without a name: leave out state=.teacher"
    ):
        measure_path(paths, "teacher")
    with pytest.raises(InputError, match=r"no parameters in \S+epoch0\.safetensors whose path"):
        measure_path(paths)
