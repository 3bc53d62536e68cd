"""What sslens wrote into a folder is listed there; strangers' files are never written over, emptied
or removed, whatever runs in their folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sslens
from sslens import fingerprint
from sslens.capture.shards import describe, remove_others, require_folder
from sslens.capture.writing import remove_features
from sslens.data.images import from_arrays
from sslens.errors import InputError
from sslens.figure import Figure, Lines
from sslens.own_files import LIST, Contents, OwnFiles
from sslens.plan import Plan
from sslens.report.page import Section, write
from sslens.store import Store
from sslens.study import Study
from sslens.study.knn import KnnRequest
from sslens.study.out_folders import claim_knn, claim_study
from sslens.study.storing import FeatureRequest
from sslens.table import Results, Table
from sslens.training.run_files import find_older, remove_run, require_free
from tuning import fit

REPORT: dict[str, Any] = {
    "title": "t",
    "command": "sslens compare",
    "study": "models: [pixels]\n",
    "provenance": {"versions": {"sslens": "0.1.0"}},
}


def section(name: str) -> Section:
    figure = Figure(name, ((Lines("", "depth", "accuracy", (), None),),))
    table = Table(pd.DataFrame({"a": [1]}), {"a": "a number"})
    return Section(name, "How?", "So.", (), Results({name: table}), figure)


def lay(folder: Path, *names: str) -> dict[Path, str]:
    """Lay strangers' files into a folder; returns their contents by path."""
    files = {folder / name: f"a stranger's {name}" for name in names}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return files


def untouched(files: dict[Path, str]) -> bool:
    return {path: path.read_text() for path in files} == files


# ------------------------------------------------------------------------------------------------
# the list


def test_files_are_listed_before_they_are_written_and_removed_alone(tmp_path: Path) -> None:
    own = OwnFiles(tmp_path / "out")
    strange = lay(tmp_path / "out", "mine.csv", "tables/mine.csv", "tables/.a.csv.part")
    own.claim("study", {"models": ["a"]}, command="sslens compare a")
    for name in ("report.html", "tables/a.csv", "figures/a.svg"):
        path = own.before(own.folder / name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("ours")
    left = own.folder / "tables" / ".a.csv.abcd_123.part"  # as `write_beside` names them
    left.write_text("half")
    for name in ("mine.csv", "tables/mine.csv"):
        with pytest.raises(InputError, match=r"mine.csv is there, and sslens did not write it"):
            own.before(own.folder / name)
    own.remove(own.folder / "mine.csv")
    own.remove_all()
    there = {path for path in own.folder.rglob("*") if path.is_file()}
    assert there == set(strange)
    assert untouched(strange)
    assert not (own.folder / "figures").exists()


def test_another_study_is_refused_by_name_and_replaced_on_request(tmp_path: Path) -> None:
    one, other = (Study(("pixels",), "photos", seed=seed) for seed in (1, 2))
    claim_study(one, "sslens compare pixels --images photos --seed 1").take(tmp_path)
    OwnFiles(tmp_path).before(tmp_path / "report.html").write_text("one")
    strange = lay(tmp_path, "notes.md")
    claim_study(one).require(tmp_path)
    again = Study(("pixels",), "photos", seed=1, device="cpu")  # which decides no result
    claim_study(again).require(tmp_path)
    with pytest.raises(InputError) as refused:
        claim_study(other).require(tmp_path)
    said = str(refused.value)
    assert "holds another study by `sslens compare pixels" in said
    assert "(seed was 1 and is now 2): give another out, or replace" in said
    assert "overwrite=True" in said
    assert (tmp_path / "report.html").read_text() == "one"
    claim_study(other).require(tmp_path, overwrite=True)
    assert (tmp_path / "report.html").exists()  # asking removes nothing
    claim_study(other).take(tmp_path, overwrite=True)
    assert not (tmp_path / "report.html").exists()
    assert untouched(strange)
    with pytest.raises(InputError, match="holds a study"):
        require_free(tmp_path)


@pytest.mark.parametrize("kind", ["training", "files"])
def test_a_study_replaces_no_training(kind: str, tmp_path: Path) -> None:
    """What was trained may be what is compared; another training replaces it on request."""
    OwnFiles(tmp_path).claim(kind, {})
    OwnFiles(tmp_path).before(tmp_path / "last.safetensors").write_text("weights")
    with pytest.raises(InputError) as refused:
        claim_study(Study(("pixels",), "photos")).take(tmp_path, overwrite=True)
    assert str(refused.value).endswith(": give another out.")
    assert (tmp_path / "last.safetensors").read_text() == "weights"
    OwnFiles(tmp_path).require(kind, {"seed": 1}, overwrite=True)


def test_features_and_studies_have_folders_of_their_own(tmp_path: Path) -> None:
    study = Study(("pixels",), "photos")
    claim_study(study).take(tmp_path / "study")
    with pytest.raises(InputError, match="study holds a study: give another out"):
        FeatureRequest("pixels", "photos", tmp_path / "study")
    lay(tmp_path / "features", "features.json")
    for claim in (claim_study(study), claim_knn(KnnRequest("pixels", "photos"))):
        with pytest.raises(InputError, match="features holds features: give another out"):
            claim.take(tmp_path / "features", overwrite=True)


@pytest.mark.parametrize("model", ["", "last.safetensors", "last.safetensors@branch=student"])
def test_a_run_replaces_no_model_that_it_reads(model: str, tmp_path: Path) -> None:
    OwnFiles(tmp_path).claim("training", {})
    source = str(tmp_path / model)
    with pytest.raises(InputError, match="is a model that the run reads"):
        require_free(tmp_path, overwrite=True, models=("scenes_mae", source))
    require_free(tmp_path, overwrite=True, models=("scenes_mae", f"{tmp_path}-other/{model}"))


@pytest.mark.parametrize("names", [["../out.csv"], ["/etc/passwd"], [3], ["a", ""]])
def test_a_list_that_leads_out_of_its_folder_is_refused(tmp_path: Path, names: Any) -> None:
    values = {"kind": "study", "asked": {}, "command": "", "files": names}
    (tmp_path / LIST).write_text(json.dumps(values))
    with pytest.raises(InputError, match="is damaged"):
        OwnFiles(tmp_path).remove_all()


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    strange = lay(tmp_path / "elsewhere", "a.csv")
    own = OwnFiles(tmp_path / "out")
    own.claim("study", {})
    own.before(own.folder / "tables" / "a.csv")
    (own.folder / "tables").symlink_to(tmp_path / "elsewhere")
    own.remove_all()
    assert untouched(strange)


# ------------------------------------------------------------------------------------------------
# reports


def test_a_report_leaves_strangers_files_and_refuses_their_names(tmp_path: Path) -> None:
    strange = lay(
        tmp_path, "tables/mine.csv", "sheets/how/mine.png", "figures/mine.svg", "log.jsonl"
    )
    write(tmp_path, sections=[section("how")], **REPORT)
    write(tmp_path, sections=[section("how")], **REPORT)  # ours are written anew
    assert untouched(strange)
    for name in ("report.html", "study.yaml", "tables/how.csv"):
        alone = tmp_path / "other"
        files = lay(alone, name)
        with pytest.raises(InputError, match="sslens did not write it"):
            write(alone, sections=[section("how")], **REPORT)
        assert untouched(files)
        OwnFiles(alone).remove_all()
        (alone / name).unlink()


def test_a_report_from_before_lists_is_known_by_its_page(tmp_path: Path) -> None:
    write(tmp_path, sections=[section("how")], **REPORT)
    (tmp_path / LIST).unlink()
    strange = lay(tmp_path, "tables/mine.csv")
    same = Study(("pixels",), None, analyses=("finetune-path",))
    with pytest.raises(InputError, match="holds another study"):
        claim_study(same).require(tmp_path)
    claim_study(same).take(tmp_path, overwrite=True)
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "tables" / "how.csv").exists()
    assert untouched(strange)
    write(tmp_path / "again", sections=[section("how")], **REPORT)
    (tmp_path / "again" / LIST).unlink()
    write(tmp_path / "again", sections=[section("how")], **REPORT)  # the same folder goes on
    assert OwnFiles(tmp_path / "again").has(tmp_path / "again" / "tables" / "how.csv")


def test_tables_from_before_lists_are_known_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "knn.csv").write_text("model,tap,pooling,k\n")
    (tmp_path / "probes.csv").write_text("when,what\n")
    asked = KnnRequest("pixels", "photos")
    found = claim_knn(asked).find_older(tmp_path)
    assert found == Contents("study of k-NN", files=frozenset({"knn.csv"}))
    with pytest.raises(InputError, match="holds another study of k-NN"):
        claim_knn(asked).require(tmp_path)
    claim_knn(asked).take(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LIST, "probes.csv"]


# ------------------------------------------------------------------------------------------------
# trainings


def test_a_training_empties_no_log_and_removes_no_part_of_a_stranger(tmp_path: Path) -> None:
    strange = lay(tmp_path, "log.jsonl")
    with pytest.raises(InputError, match=r"log\.jsonl is there, and sslens did not write it"):
        fit(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    assert untouched(strange)
    strange = lay(
        tmp_path / "run", ".film.mp4.part", ".last.safetensors.part", "states/mine.txt", "path.csv"
    )
    fit(tmp_path / "run", epochs=1)
    assert untouched(strange)
    with pytest.raises(InputError, match="already holds a run"):
        fit(tmp_path / "run", epochs=1)
    left = tmp_path / "run" / ".state.safetensors.abcdefgh.part"
    left.write_text("half")
    fit(tmp_path / "run", epochs=1, resume=True)
    assert not left.exists()
    fit(tmp_path / "run", epochs=2, overwrite=True)
    assert sslens.load(tmp_path / "run").about.epochs == 2
    remove_run(tmp_path / "run")
    assert {path for path in (tmp_path / "run").rglob("*") if path.is_file()} == set(strange)
    assert untouched(strange)
    with pytest.raises(InputError, match="cannot both go on and be replaced"):
        require_free(tmp_path, resume=True, overwrite=True)


def test_a_run_from_before_lists_goes_on_and_is_replaced(tmp_path: Path) -> None:
    fit(tmp_path, epochs=1)
    (tmp_path / LIST).unlink()
    strange = lay(tmp_path, "notes.md", "events.log")
    found = find_older(tmp_path)
    assert found is not None
    names = {"config.yaml", "log.jsonl", "last.safetensors", "state.safetensors"}
    assert found.files == names
    fit(tmp_path, epochs=1, resume=True)
    assert OwnFiles(tmp_path).has(tmp_path / "log.jsonl")
    (tmp_path / LIST).unlink()
    require_free(tmp_path, overwrite=True)
    fit(tmp_path, epochs=2, overwrite=True)
    assert untouched(strange)
    (tmp_path / "last.safetensors").rename(tmp_path / "alone.safetensors")
    assert find_older(tmp_path / "nowhere") is None


# ------------------------------------------------------------------------------------------------
# features, fingerprints, the store


def test_features_leave_and_refuse_strangers_files(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    images = from_arrays(pixels)
    models = [sslens.load(f"random:vit_nano_patch8_32:{seed}") for seed in (0, 1)]
    one, other = (describe(model, images, shard=4) for model in models)
    files = lay(tmp_path / "a", "shard-00001.safetensors")
    with pytest.raises(InputError, match="and is no file of features: it would be lost"):
        require_folder(tmp_path / "a", one)
    assert untouched(files)
    strange = lay(tmp_path / "b", "notes.md", "shard-00007.safetensors")
    sslens.extract(models[0], images, tmp_path / "b", shard=4)
    with pytest.raises(InputError, match="another model's"):
        require_folder(tmp_path / "b", other)
    assert require_folder(tmp_path / "b", other, overwrite=True) == [0, 1]
    remove_others(tmp_path / "b", one)
    assert (tmp_path / "b" / "features.json").exists()  # they are the same
    remove_others(tmp_path / "b", other)
    assert set((tmp_path / "b").iterdir()) == set(strange)
    assert untouched(strange)


def test_what_is_advised_of_a_damaged_folder_of_features_works(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    images, folder = from_arrays(pixels), tmp_path / "a"
    models = [sslens.load(f"random:vit_nano_patch8_32:{seed}") for seed in (0, 1)]
    sslens.extract(models[0], images, folder, shard=4)
    manifest, shard = folder / "features.json", folder / "shard-00001.safetensors"
    strange, before, written = (
        lay(folder, "notes.md"),
        manifest.read_text(),
        shard.stat().st_mtime_ns,
    )

    manifest.write_text(before[:100])
    for model in models:
        with pytest.raises(InputError, match=r"is damaged .* out=.*a\" overwrite=True, which"):
            sslens.extract(model, images, folder, shard=4)
    sslens.extract(models[0], images, folder, shard=4, overwrite=True)
    assert (manifest.read_text(), shard.stat().st_mtime_ns) == (before, written)  # it is kept

    manifest.unlink()
    with pytest.raises(InputError, match="replace them with overwrite=True"):
        sslens.extract(models[1], images, folder, shard=8)
    sslens.extract(models[0], images, folder, shard=4)
    assert shard.stat().st_mtime_ns == written

    (folder / "images.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="which writes that file alone"):
        sslens.open_features(folder)
    sslens.extract(models[0], images, folder, shard=4)
    assert len(sslens.open_features(folder)) == 8

    manifest.write_text("{}")
    sslens.extract(models[1], images, folder, shard=8, overwrite=True)
    assert not shard.exists()
    assert untouched(strange)

    foreign = lay(tmp_path / "b", "features.json")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="no features are beside it: it would be lost"):
            sslens.extract(models[0], images, tmp_path / "b", overwrite=overwrite)
    assert untouched(foreign)


def test_damaged_features_of_the_store_go_without_what_lies_beside_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    images, store = from_arrays(pixels), Store(tmp_path)
    model = sslens.load("random:vit_nano_patch8_32")
    sslens.features(model, images, store=store)
    (manifest,) = tmp_path.rglob("features.json")
    strange = lay(manifest.parent, "notes.md")
    manifest.write_text("{}")
    sslens.features(model, images, store=store)
    assert untouched(strange)
    remove_features(manifest.parent)
    assert list(manifest.parent.iterdir()) == [manifest.parent / "notes.md"]


def test_a_fingerprint_is_not_written_over_a_file_that_is_none(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    images, model = from_arrays(pixels), sslens.load("random:vit_nano_patch8_32")
    grams = sslens.grams(model, images, plan=Plan.draw(images.ids))
    strange = lay(tmp_path, "mine.safetensors")
    conditions = fingerprint.Conditions.of(model, images, Plan.draw(images.ids))
    path = tmp_path / "mine.safetensors"
    with pytest.raises(InputError, match="is no fingerprint: it would be lost"):
        fingerprint.write(path, [grams], conditions, model=model)
    assert untouched(strange)
    fingerprint.write(tmp_path / "a.safetensors", [grams], conditions, model=model)
    fingerprint.write(tmp_path / "a.safetensors", [grams], conditions, model=model)
