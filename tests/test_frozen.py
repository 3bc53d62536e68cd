"""Behaviour that is frozen: tables, files, names and refusals as before the code was moved.

`runs/frozen/make.py` wrote it down. Floats of tables that are computed in float64 from stored
artefacts are equal within 1e-10 on every machine. Behind a forward pass or a training in float32
they are not: AVX2, AVX-512 and AMX sum in other orders. So they are equal within 1e-10 where this
processor computes as the one did that wrote the tables (`arithmetic`), and elsewhere within what
another processor explains. `runs/frozen/compare.py` holds two versions of the code against each
other exactly, on any machine.
"""

import functools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sslens
from frozen import cases, mapping, names, refused
from frozen.cases import Case

#: weights of a run that was stopped on one processor and goes on on another (1.2e-5 was measured,
#: of 48 steps)
WEIGHTS = 5e-4


#: the longest cases, of which the analyses are in shorter ones too
LONG = ("blocks", "paths", "bank", "factors", "halves")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the frozen files, where the test works."""
    cases.lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------
# ---------- tables


@functools.cache
def alike() -> bool:
    """Whether this processor computes as the one did that wrote the tables."""
    return cases.arithmetic() == json.loads((cases.HERE / "arithmetic.json").read_text())


def held(case: Case) -> None:
    """Run a case, and hold its tables against those that were kept."""
    ran = cases.run(case)
    assert ran.status == 0, ran.said
    kept = cases.kept_tables(case.name)
    assert kept
    # what was trained hangs on more of a processor than `arithmetic` looks at
    exact = alike() and case.tolerance < cases.TRAINED
    tolerance = cases.EXACT if exact else case.tolerance
    for name, table in kept.items():
        # which point of a grid is chosen may hang on one image; in a grid itself the points are
        # what a row is about
        chosen = tolerance < cases.TRAINED or name == "grid"
        old = mapping.drop_gone(name, mapping.frame_of(table))
        new = mapping.old_table(name, ran.tables, old)
        redone = mapping.REDONE.get(name, ()) + mapping.REDONE_IN.get((case.name, name), ())
        found = mapping.apart(old, new, chosen=chosen, redone=redone)
        assert not found.said, (name, found)
        assert found.largest <= tolerance, (name, found)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.name in LONG else [])
        for case in cases.CASES
        if not case.slow
    ],
)
def test_tables_are_as_they_were(files: Path, case: Case) -> None:
    before = stored(files)
    held(case)
    # what lies in the store is found by its key: nothing is computed again but raw pixels, and
    # where the last digits of random initialisations are others two of them, over the images and
    # the bank, in two files each
    again = [path for path in stored(files) - before if "pixels" not in header_of(path)]
    assert len(again) <= (0 if alike() else 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in cases.CASES if case.slow], ids=lambda case: case.name
)
def test_tables_of_trained_probes_and_of_passes_are_as_they_were(files: Path, case: Case) -> None:
    held(case)


def stored(files: Path) -> set[Path]:
    return set((files / "store").rglob("*.safetensors"))


def header_of(path: Path) -> str:
    if (path.parent / "features.json").is_file():
        return str(json.loads((path.parent / "features.json").read_text())["taps"])
    return str(json.loads(cases_header(path)["sslens.key"])["taps"])


def cases_header(path: Path) -> Mapping[str, str]:
    raw = path.read_bytes()
    found: Mapping[str, str] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])[
        "__metadata__"
    ]
    return found


def test_every_analysis_is_frozen() -> None:
    plugins = Path(str(sslens.__file__)).parent / "analyses"
    there = {path.stem.replace("_", "-") for path in plugins.glob("[a-z]*.py")}
    later = {"cka-targets", "dense-depth", "invariance"}
    later |= {"decoder-depth", "neighbours", "samples"}
    later |= {"checkpoints", "images-moved", "layers-changed", "weights-changed"}
    later |= {"detection-finetuned", "detection-frozen", "detection-layers"}
    assert there - later <= {name for case in cases.CASES for name in cases.kept_tables(case.name)}


def test_rows_of_kept_tables_are_told_apart() -> None:
    for case in cases.CASES:
        for name, table in cases.kept_tables(case.name).items():
            frame = mapping.frame_of(table)
            assert not frame[mapping.naming(frame)].duplicated().any(), (case.name, name)


def test_tables_that_differ_are_told() -> None:
    kept = mapping.frame_of(cases.kept_tables("blocks")["cka-blocks"])
    assert mapping.apart(kept, kept[::-1].assign(more=1)) == mapping.Apart((), 0.0, "")
    moved = kept.assign(cka=kept.cka + 1e-9)
    assert mapping.apart(kept, moved).largest == pytest.approx(1e-9)
    assert mapping.apart(kept, kept.assign(pairs=kept.pairs + 1)).said
    assert mapping.apart(kept, kept.drop(columns="cka")).said
    assert mapping.apart(kept, kept[1:]).said
    assert mapping.apart(kept, kept.assign(p=0.5)).said


# ------------------------------------------------------------------------------------------------
# ----------- files


def test_scenes_stay_as_they_are() -> None:
    assert names.scenes() == names.read(cases.HERE / "names.json")["scenes"]


@pytest.mark.parametrize("name", ["mae", "resnet", "fcmae", "mae-ft", "msn/last.safetensors"])
def test_models_load(files: Path, name: str) -> None:
    model = sslens.load(name)
    folder = files / name if (files / name).is_dir() else (files / name).parent
    assert model.name == folder.name
    kept = load_file(folder / "last.safetensors")
    own = model.network.state_dict()
    assert own
    assert all(torch.equal(value, kept[key]) for key, value in own.items() if key in kept)
    assert own.keys() & kept.keys()


def passed_alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """What a forward pass in float32 gave and gives."""
    tolerance = 0.0 if alike() else 1e-4
    for key, value in old.items():
        torch.testing.assert_close(new[key], value, rtol=tolerance, atol=tolerance)


def hold_same(old: Any, new: Any, where: str = "header") -> list[str]:
    """Where a header has other values than before; keys may be added."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return [] if old == new else [f"{where}: {old!r} is now {new!r}"]
    return [
        difference
        for key in old
        for difference in hold_same(old[key], new.get(key), f"{where}.{key}")
    ]


def test_a_fingerprint_is_written_as_it_was(files: Path) -> None:
    kept = Path("fingerprints/mae.fingerprint.safetensors")
    asked = "--images scenes:1:48 --batch 8 --tokens all cls --device cpu --out new.safetensors"
    shutil.rmtree("store")
    assert cases.command("fingerprint", "mae", *asked.split()).status == 0
    old, new = load_file(kept), load_file("new.safetensors")
    assert old.keys() == new.keys()
    passed_alike(old, new)
    assert lost("fingerprint", names.of_fingerprint(Path("new.safetensors"))) == []
    told = [
        json.loads(cases_header(path)["sslens.fingerprint"])
        for path in (kept, Path("new.safetensors"))
    ]
    assert hold_same(told[0], told[1]) == []


def test_features_are_written_as_they_were(files: Path) -> None:
    asked = "--images scenes:2:48 --device cpu --dtype float32 --out features/new"
    assert cases.command("features", "mae", *asked.split()).status == 0
    assert lost("features", names.of_features(Path("features/new"))) == []
    for name in ("images", "shard-00000"):
        old, new = (
            load_file(f"features/{folder}/{name}.safetensors") for folder in ("bank", "new")
        )
        assert old.keys() == new.keys()
        passed_alike(old, new)
    kept = sslens.open_features("features/bank")
    assert len(kept) == 48


def test_a_report_has_its_files_and_the_study_is_the_same(files: Path) -> None:
    ran = cases.run(cases.BY_NAME["blocks"], "--figures", whole=True)  # which were always drawn
    assert ran.status == 0
    then = Path("study.yaml").read_text()  # since then probes are trained to their optimum
    assert Path("out/study.yaml").read_text() == then.replace("grid: small", "grid: converged")
    gone = set(lost("report", names.of_report(Path("out"))))
    moved = {name for name in mapping.PARTS if Path(f"out/tables/{name}").is_dir()}
    assert gone == {f"files: tables/{name}.csv" for name in moved}
    for name in moved:  # one file is a folder of tables now
        assert any(Path(f"out/tables/{name}").glob("*.csv"))


# ------------------------------------------------------------------------------------------------
# ------------ runs


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def near(one: Path, other: Path, tolerance: float) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    for key, value in a.items():
        torch.testing.assert_close(
            value, b[key], rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_stopped_run_goes_on_to_the_same_weights(files: Path, command: str) -> None:
    arguments = json.loads(Path(f"stopped/{command}.json").read_text())
    stopped, ended = Path("stopped", command), Path("stopped", f"{command}-ended")
    begun, tolerance = losses(stopped), 0.0 if alike() else WEIGHTS
    assert cases.command(*arguments, "--resume", "--out", str(stopped)).status == 0
    kept = [path.name for path in ended.glob("*.safetensors")]
    for name in kept:
        near(stopped / name, ended / name, tolerance)
    np.testing.assert_allclose(losses(stopped), losses(ended), rtol=0, atol=tolerance)
    assert lost(command, names.of_run(stopped)) == []
    # an uninterrupted run of now: where this processor computes as that of the first half did, it
    # is the same bit for bit; equal losses alone do not tell, for weights may differ by 1e-9
    assert cases.command(*arguments, "--out", "whole").status == 0
    assert lost(command, names.of_run(Path("whole"))) == []
    same = alike() and losses(Path("whole"))[: len(begun)] == begun
    for name in kept:
        near(stopped / name, Path("whole", name), 0.0 if same else WEIGHTS)


@pytest.mark.slow
def test_a_run_that_was_stopped_now_ends_as_one_that_was_not(files: Path) -> None:
    arguments = json.loads(Path("stopped/pretrain.json").read_text())
    assert cases.command(*arguments, "--resume", "--out", "stopped/pretrain").status == 0
    shutil.copytree("stopped/pretrain", "again")
    before = (files / "again/last.safetensors").read_bytes()
    assert (
        cases.command(*arguments, "--resume", "--out", "again").status == 0
    )  # nothing is left to do
    assert (files / "again/last.safetensors").read_bytes() == before


# ------------------------------------------------------------------------------------------------
# names and refusals


def lost(what: str, now: Any) -> list[str]:
    return names.lost(names.read(cases.HERE / "names.json")[what], now)


def test_public_names_are_there() -> None:
    assert lost("sslens.__all__", sslens.__all__) == []
    assert all(hasattr(sslens, name) for name in sslens.__all__)


def test_commands_have_their_options() -> None:
    assert lost("commands", names.commands()) == []


def test_keys_of_frozen_files_are_listed(files: Path) -> None:
    kept = names.read(cases.HERE / "names.json")
    assert kept["fingerprint"] == names.of_fingerprint(
        Path("fingerprints/mae.fingerprint.safetensors")
    )
    assert kept["pretrain"] == names.of_run(Path("stopped/pretrain"))
    assert kept["finetune"] == names.of_run(Path("stopped/finetune"))
    assert kept["encoder of a CNN"] == names.header(Path("resnet/last.safetensors"))
    assert kept["store"] == names.of_store(Path("store")) | {"grams": kept["store"]["grams"]}


def test_refusals_are_as_they_were(files: Path) -> None:
    kept = refused.read(cases.HERE / "refused.json")
    refused.lay_out(files)
    found = refused.refusals()
    assert found.keys() == kept.keys()
    for name, then in kept.items():
        now = found[name]
        assert now["status"] == then["status"], name
        if refused.ours(then):
            assert now["said"] == refused.reword(name, then["said"]), name


def test_the_fixtures_are_small() -> None:
    size = sum(
        path.stat().st_size
        for path in cases.HERE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    assert size < 3e6
    assert not any(os.sep + "tmp" + os.sep in text for text in texts())


def texts() -> list[str]:
    """What of the fixtures is text."""
    return [
        path.read_text()
        for path in cases.HERE.rglob("*")
        if path.suffix in (".txt", ".json", ".yaml", ".csv")
    ]
