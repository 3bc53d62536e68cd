"""A study: planned, carried out once, and found again."""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sslens import study, zoo
from sslens.data import open_images
from sslens.errors import InputError
from sslens.measures.cka import minibatch_cka
from sslens.models.vit import ViTArch, describe
from sslens.store import Store, write_tensors
from sslens.study import Study

NANO = "random:vit_nano_patch8_32"


def photographs(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 9, seed: int = 0) -> Path:
    """Small pictures, a folder a class: a colour of the class under noise."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = rng.integers(0, 120, (32, 32, 3)) + 110 * (np.arange(3) == number)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def trained(folder: Path, seed: int, name: str = "mae") -> Path:
    arch = ViTArch.parse("vit_nano_patch8_32")
    about = {"family": "sslens", "objective": "mae", "arch": "vit_nano_patch8_32"}
    write_tensors(folder / zoo.ENCODER, arch.build(seed).state_dict(), zoo.header(name, describe(arch), about))
    return folder


@contextmanager
def forwards() -> Iterator[list[int]]:
    """The batches that go through any real network, whoever loads it."""
    from timm.layers import PatchEmbed

    seen: list[int] = []

    def see(module: torch.nn.Module, args: Any, _output: Any) -> None:
        if isinstance(module, PatchEmbed):
            seen.append(len(args[0]))

    handle = torch.nn.modules.module.register_module_forward_hook(see)
    try:
        yield seen
    finally:
        handle.remove()


@dataclass(frozen=True)
class Done:
    photos: Path
    asked: Study
    store: Store
    out: Path
    seen: list[int]
    said: list[str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One whole study of two runs of ours, beside their controls."""
    root = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLENS_HOME", str(root / "home"))
        runs = tuple(str(trained(root / "runs" / f"mae-{seed}", 20 + seed)) for seed in (1, 2))
        asked = Study(runs, str(photographs(root / "photos")), batch=8, device="cpu")
        said: list[str] = []
        with forwards() as seen:
            report = study.run(
                asked, root / "out", store=Store(root / "store"), command="sslens compare", say=said.append, quiet=True
            )
        assert report == root / "out" / "report.html"
    return Done(root / "photos", asked, Store(root / "store"), root / "out", seen, said)


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "tables").iterdir())}


def figures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "figures").iterdir())}


# ----------------------------------------------------------------------------------------------------------- carried out


def test_everything_is_written(done: Done) -> None:
    analyses = ("cka-blocks", "cka-layer-types", "knn-depth")
    found = {str(path.relative_to(done.out)) for path in done.out.rglob("*") if path.is_file()}
    assert found == {
        "report.html",
        "study.yaml",
        "provenance.json",
        *(f"tables/{name}.csv" for name in analyses),
        *(f"figures/{name}.{kind}" for name in analyses for kind in ("svg", "pdf")),
    }
    page = (done.out / "report.html").read_text()
    assert "How alike are the blocks?" in page
    assert "mae (mae-1)" in page  # two models named mae are told apart by their folders
    assert done.seen == [8, 10] * 4  # 18 images; two models and two random initialisations, one pass each


def test_provenance_says_what_was_computed_from_what(done: Done) -> None:
    found = json.loads((done.out / "provenance.json").read_text())
    assert list(found["models"]) == ["mae (mae-1)", "mae (mae-2)", "random #0", "random #1", "pixels"]
    assert [each["control"] for each in found["models"].values()] == [False, False, True, True, True]
    assert found["models"]["mae (mae-1)"]["digest"] == zoo.load(done.asked.models[0]).digest
    assert found["models"]["mae (mae-1)"]["objective"] == "mae"
    assert found["images"]["digest"] == open_images(str(done.photos), seed=0).digest
    assert found["images"]["count"] == 18
    assert found["command"] == "sslens compare"
    assert found["device"] == "cpu, float32"
    assert torch.__version__.startswith(found["versions"]["torch"])


def test_the_table_is_of_these_models_on_these_images(done: Done) -> None:
    from sslens import grams
    from sslens.plan import Plan

    frame = pd.read_csv(done.out / "tables" / "cka-blocks.csv")
    images = open_images(str(done.photos))
    a, b = (grams(zoo.load(m), images, plan=Plan.draw(images.ids, 8)).at("block") for m in done.asked.models)
    cells = frame[(frame.model_a == "mae (mae-1)") & (frame.model_b == "mae (mae-2)") & (frame.tokens == "all")]
    cells = cells[cells.tap_a != "same depth"]
    np.testing.assert_allclose(cells.cka.to_numpy().reshape(4, 4), minibatch_cka(a, b), rtol=0, atol=2e-6)


def test_classes_are_found_again_in_the_table(done: Done) -> None:
    frame = pd.read_csv(done.out / "tables" / "knn-depth.csv")
    assert set(frame.images) == {18}
    assert set(frame.k) == {17}
    assert set(frame.chance) == {0.5}


def test_a_second_run_passes_nothing_through_a_network_and_is_the_same(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from study.yaml as it was written, and with the tables' computations out of order."""
    from sslens.analyses import cka_blocks, knn_depth

    for module in (cka_blocks, knn_depth):
        monkeypatch.delattr(module, "compute")
    again = study.read(done.out / "study.yaml")
    assert again == done.asked
    with forwards() as seen:
        study.run(again, tmp_path / "out", store=done.store, command="sslens compare", quiet=True)
    assert seen == []
    assert tables(tmp_path / "out") == tables(done.out)
    assert figures(tmp_path / "out") == figures(done.out)
    volatile = re.compile(r'"(made|seconds)": .*')
    one, other = (volatile.sub("", (out / "provenance.json").read_text()) for out in (done.out, tmp_path / "out"))
    assert one == other


def test_from_nothing_the_same_tables_are_made(done: Done, tmp_path: Path) -> None:
    asked = replace(done.asked, analyses=("knn-depth",))
    with forwards() as seen:
        study.run(asked, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True)
    assert len(seen) == 8
    assert tables(tmp_path / "out") == {"knn-depth.csv": tables(done.out)["knn-depth.csv"]}


def test_a_changed_image_is_computed_again(done: Done, tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos")
    asked = replace(done.asked, images=str(photos))
    planned = study.prepare(asked, done.store, quiet=True)
    assert not any(p.missing for p in planned.passes)  # the same contents, wherever they lie
    Image.new("RGB", (32, 32), "red").save(photos / "cat" / "0.png")
    planned = study.prepare(asked, done.store, quiet=True)
    assert all(p.missing for p in planned.passes)


# --------------------------------------------------------------------------------------------------------------- the plan


def names_of(asked: Study, tmp_path: Path) -> list[tuple[str, bool]]:
    planned = study.prepare(asked, Store(tmp_path / "store"), quiet=True)
    return [(p.model.name, p.control) for p in planned.passes]


def test_the_plan_is_said_before_anything_is_computed(done: Done) -> None:
    (said,) = done.said
    assert f"images    18 of {done.photos}" in said
    assert "analyses  cka-blocks, cka-layer-types, knn-depth" in said
    assert re.search(r"model     mae \(mae-1\) over 18 images of photos: \d+ GFLOP", said)
    assert "control   pixels over 18 images" in said
    planned = study.prepare(done.asked, done.store, quiet=True)
    assert planned.describe().count("in the store") == 5


def test_a_dry_run_computes_and_writes_nothing(done: Done, tmp_path: Path) -> None:
    with forwards() as seen:
        assert (
            study.run(done.asked, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True, dry_run=True) is None
        )
    assert seen == []
    assert not list(tmp_path.iterdir())


def test_flops_are_two_a_parameter_and_token(done: Done, tmp_path: Path) -> None:
    planned = study.prepare(done.asked, Store(tmp_path / "store"), quiet=True)
    parameters = sum(p.numel() for p in planned.passes[0].model.network.parameters())
    assert planned.passes[0].flops() == 2 * parameters * 17 * 18


def test_controls_are_twins_and_pixels_once(done: Done, tmp_path: Path) -> None:
    asked = replace(done.asked, images="scenes:0:8")
    assert names_of(replace(asked, models=(f"{NANO}:3",)), tmp_path) == [
        ("random #3", False),
        ("random #0", True),
        ("random #1", True),
        ("pixels", True),
    ]
    assert names_of(replace(asked, models=(f"{NANO}:3",), controls=False), tmp_path) == [("random #3", False)]
    # a model that is its own twin is not given again, however its seed is spelt
    for source in (NANO, f"{NANO}:0"):
        assert names_of(replace(asked, models=(source, "pixels")), tmp_path) == [
            ("random #0", False),
            ("pixels", False),
            ("random #1", True),
        ]


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    asked = Study(
        (str(trained(tmp_path / "a" / "run", 1)), str(trained(tmp_path / "b" / "run", 2))), "scenes:0:8", controls=False
    )
    assert [name for name, _ in names_of(asked, tmp_path)] == ["mae (run) [1]", "mae (run) [2]"]
    two_shapes = Study((NANO, "random:vit_nano_patch16_32"), "scenes:0:8", controls=False)
    assert [name for name, _ in names_of(two_shapes, tmp_path)] == [
        "random #0 (vit_nano_patch8_32)",
        "random #0 (vit_nano_patch16_32)",
    ]


def test_images_without_classes_leave_knn_out_and_say_so(done: Done, tmp_path: Path) -> None:
    photographs(tmp_path / "photos", each=5)
    for path in (tmp_path / "photos").rglob("*.png"):
        path.rename(tmp_path / "photos" / f"{path.parent.name}-{path.name}")
    planned = study.prepare(replace(done.asked, images=str(tmp_path / "photos")), done.store, quiet=True)
    assert planned.analyses == ("cka-blocks", "cka-layer-types")
    assert planned.notes == ("The images have no classes (no folders of that name), so knn-depth was left out.",)


def test_what_was_skipped_is_noted(done: Done, tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos")
    (photos / "cat" / "broken.png").write_bytes(b"no image")
    asked = replace(done.asked, images=str(photos))
    with pytest.raises(InputError, match=r"broken.png cannot be decoded"):
        study.prepare(asked, done.store, quiet=True)
    planned = study.prepare(replace(asked, on_bad="skip"), done.store, quiet=True)
    assert len(planned.images) == 18
    (note,) = planned.notes
    assert note.startswith("1 images of photos could not be decoded and were left out: cat/broken.png (")


def coloured(path: Path, labels: np.ndarray, seed: int) -> str:
    """Arrays without ids of their own, so that those of two files are the same."""
    noise = np.random.default_rng(seed).integers(0, 120, (len(labels), 32, 32, 3))
    np.savez(path, images=(noise + 110 * np.eye(3, dtype=int)[labels][:, None, None]).astype(np.uint8), labels=labels)
    return str(path)


def test_a_bank_votes_with_its_own_classes(tmp_path: Path) -> None:
    labels = np.arange(12) % 2
    images, bank = coloured(tmp_path / "a.npz", labels, 0), coloured(tmp_path / "b.npz", 1 - labels, 1)
    asked = Study(("pixels",), images, ("knn-depth",), bank=bank, controls=False, batch=6, device="cpu")
    store = Store(tmp_path / "store")
    planned = study.prepare(asked, store, quiet=True)
    assert planned.bank is not None
    assert set(planned.images.ids) == set(planned.bank.ids)
    assert [(p.model.name, p.images.name) for p in planned.passes] == [("pixels", "a"), ("pixels", "b")]
    study.run(asked, tmp_path / "out", store=store, quiet=True)
    frame = pd.read_csv(tmp_path / "out" / "tables" / "knn-depth.csv")
    assert frame.accuracy[frame.vote == "weighted"].tolist() == [1]


def test_a_bank_with_other_classes_is_refused(done: Done, tmp_path: Path) -> None:
    bank = photographs(tmp_path / "bank", ("cat", "horse"))
    with pytest.raises(InputError, match=r"have different classes .*the same folders in both"):
        study.prepare(replace(done.asked, bank=str(bank)), done.store, quiet=True)


# --------------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ()}, "at least one model"),
        ({"models": ("pixels", NANO, "pixels")}, "pixels is given twice"),
        ({"models": ("pixls",)}, 'no model "pixls": did you mean pixels'),
        ({"analyses": ("cka-blok",)}, 'no analysis "cka-blok": did you mean cka-blocks'),
        ({"on_bad": "ignore"}, 'on_bad is "ignore": expected stop or skip'),
        ({"precision": "float16"}, 'precision is "float16": expected float32 or bfloat16 or auto'),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Study(**({"models": ("pixels",), "images": "scenes"} | changes))


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    asked = Study(
        ("pixels", f"{NANO}:1"), "photos: of #1", ("knn-depth",), bank="b", limit=None, controls=False, seed=3
    )
    (tmp_path / "study.yaml").write_text(asked.yaml())
    assert study.read(tmp_path / "study.yaml") == asked


def test_overrides_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("models: pixels\nimages: scenes\n")
    assert study.read(path) == Study(("pixels",), "scenes")
    found = study.read(
        path, [f"models=[pixels, {NANO}]", "limit=256", "controls=false", "analyses=knn-depth", "bank=a=b"]
    )
    assert found == Study(("pixels", NANO), "scenes", ("knn-depth",), bank="a=b", limit=256, controls=False)
    assert study.read(path, ["limit=null"]).limit is None


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        (None, [], "There is no file .*study.yaml: a study is a YAML file with at least models and images"),
        ("a: [", [], "is not YAML"),
        ("\0", [], "is not YAML"),
        ("- pixels", [], "holds no keys"),
        ("", [], "holds no keys"),
        ("models: pixels", [], "does not say images"),
        ("images: scenes", [], "does not say models"),
        ("models: pixels\nimages: scenes\nlimt: 3", [], r'A study has no "limt" .*: did you mean limit\?'),
        ("models: pixels\nimages: scenes\n3: x", [], 'A study has no "3"'),
        ("models: pixels\nimages: scenes", ["limt=3"], r'A study has no "limt" .*: did you mean limit\?'),
        ("models: pixels\nimages: scenes", ["limit"], '"limit" is no override: expected KEY=VALUE'),
        ("models: pixels\nimages: scenes", ["limit=["], r'The value of "limit=\[" is not YAML'),
        ("models: pixels\nimages: scenes\nlimit: many", [], r"limit is 'many' .*expected a whole number"),
        ("models: pixels\nimages: scenes\nbatch: 8.5", [], r"batch is 8\.5 .*expected a whole number"),
        ("models: pixels\nimages: scenes\nseed: true", [], r"seed is True .*expected a whole number"),
        ("models: pixels\nimages: scenes\ncontrols: 2", [], "controls is 2 .*expected true or false"),
        ("models: 3\nimages: scenes", [], "models is 3 .*expected a list of text"),
        ("models: [1, 2]\nimages: scenes", [], r"models is \[1, 2\] .*expected a list of text"),
        ("models: pixels\nimages: [a, b]", [], r"images is \['a', 'b'\] .*expected text"),
        ("models: pixels\nimages: scenes\nanalyses: null", [], "analyses is None .*expected a list of text"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, text: str | None, overrides: list[str], said: str) -> None:
    path = tmp_path / "study.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said):
        study.read(path, overrides)


def test_a_folder_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file: a study is a YAML file"):
        study.read(tmp_path)


def test_every_setting_survives_the_file(tmp_path: Path) -> None:
    """A field that is added to Study is written and read too."""
    asked = Study(("pixels",), "scenes", ("knn-depth",), "b", 7, False, 9, 3, "skip", "cpu", "bfloat16")
    (tmp_path / "study.yaml").write_text(asked.yaml())
    found = study.read(tmp_path / "study.yaml")
    default = Study(("pixels",), "scenes")
    apart = [name for name in vars(asked) if getattr(found, name) != getattr(default, name)]
    assert found == asked
    assert list(itertools.chain(("models", "images"), apart)) == list(vars(asked))
