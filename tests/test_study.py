"""A study: planned, carried out once, and found again."""

import functools
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from forks import together
from sslens import fingerprint, study, zoo
from sslens.arguments.spelling import as_option
from sslens.capture.passes import grams
from sslens.comparisons.inputs import needs
from sslens.comparisons.own_claims import OwnClaim
from sslens.data import open_images
from sslens.data.transform import EvalTransform
from sslens.errors import Caution, InputError
from sslens.find import plugin
from sslens.measures.cka import minibatch_cka
from sslens.models.vit import ViTArch, describe
from sslens.plan import Plan
from sslens.store import Store, write_tensors
from sslens.study import Study, planning
from sslens.study.conditions import parse_condition
from sslens.study.first_screen import make_first_screen
from sslens.study.image_sets import open_sets
from sslens.study.planning import open_study_images

#: the probes have tests of their own
pytestmark = pytest.mark.usefixtures("short_probes")

NANO = "random:vit_nano_patch8_32"


def photographs(
    folder: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 9, seed: int = 0
) -> Path:
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
    write_tensors(
        folder / zoo.ENCODER,
        arch.build(seed).state_dict(),
        zoo.make_header(name, describe(arch), about),
    )
    return folder


@contextmanager
def forwards() -> Iterator[list[int]]:
    """The batches that go through any real network, whoever loads it."""
    from timm.layers import PatchEmbed

    seen: list[int] = []

    def see(module: torch.nn.Module, args: Any, _output: Any) -> None:
        if (
            isinstance(module, PatchEmbed) and not args[0].is_meta and args[0].any()
        ):  # not for shapes
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


ANALYSES = (
    "agreement",
    "cka-blocks",
    "cka-layer-types",
    "cka-targets",
    "knn-depth",
    "other-measures",
    "probe-depth",
    "probe-layers",
)
#: their tables; of models of which no family is known there are none of families
TABLES = (
    "agreement",
    *(
        f"cka-blocks/{name}"
        for name in ("apart", "ceilings", "cells", "late", "means", "same-depth")
    ),
    *(
        f"cka-layer-types/{name}"
        for name in ("ceilings", "cells", "late", "means", "same-depth", "types")
    ),
    "cka-targets",
    *(
        f"knn-depth/{name}"
        for name in ("accuracies", "choices", "neighbours", "probes", "standardising")
    ),
    "other-measures",
    *(f"probe-depth/{name}" for name in ("choices", "penalties", "probes")),
    *(f"probe-layers/{name}" for name in ("choices", "penalties", "probes")),
)


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
                asked,
                root / "out",
                store=Store(root / "store"),
                command="sslens compare",
                say=said.append,
                quiet=True,
            )
        assert report == root / "out" / "report.html"
    return Done(root / "photos", asked, Store(root / "store"), root / "out", seen, said)


def never(compute: Callable[..., Any]) -> Callable[..., Any]:
    """A computation that must not begin, of the same needs."""

    @functools.wraps(compute)
    def fail(*given: Any, **more: Any) -> Any:
        pytest.fail("a table that is kept was computed again")

    return fail


def tables(out: Path) -> dict[str, bytes]:
    """The tables by their files, which are in a folder where an analysis has several."""
    folder = out / "tables"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.csv")}


def figures(out: Path) -> set[str]:
    return {path.name for path in (out / "figures").iterdir() if path.stat().st_size > 5000}


# ------------------------------------------------------------------------------------------------
# carried out


def test_everything_is_written(done: Done) -> None:
    found = {str(path.relative_to(done.out)) for path in done.out.rglob("*") if path.is_file()}
    assert {name.split("/")[0].removesuffix(".csv") for name in tables(done.out)} == set(ANALYSES)
    assert {"cka-blocks/cells.csv", "cka-blocks/means.csv"} < tables(done.out).keys()
    found.discard(
        "tables/knn-depth/disagreements.csv"
    )  # two so alike models may have no such image
    assert found == {
        ".sslens.json",
        "report.html",
        "answer.csv",
        "front.json",
        "study.yaml",
        "provenance.json",
        "verdicts.csv",
        *(f"tables/{name}.csv" for name in TABLES),
    }
    page = (done.out / "report.html").read_text()
    assert "How alike are the blocks?" in page
    assert "mae (mae-1)" in page  # two models named mae are told apart by their folders
    assert (
        done.seen == [8, 10] * 4
    )  # 18 images; two models and two random initialisations, one pass each


def test_provenance_says_what_was_computed_from_what(done: Done) -> None:
    found = json.loads((done.out / "provenance.json").read_text())
    assert list(found["models"]) == [
        "mae (mae-1)",
        "mae (mae-2)",
        "random #0",
        "random #1",
        "pixels",
    ]
    assert [each["control"] for each in found["models"].values()] == [
        False,
        False,
        True,
        True,
        True,
    ]
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

    frame = pd.read_csv(done.out / "tables" / "cka-blocks" / "cells.csv")
    images = open_images(str(done.photos))
    a, b = (
        grams(zoo.load(m), images, plan=Plan.draw(images.ids, 8)).at("block")
        for m in done.asked.models
    )
    cells = frame[
        (frame.model_a == "mae (mae-1)")
        & (frame.model_b == "mae (mae-2)")
        & (frame.tokens == "all")
    ]
    np.testing.assert_allclose(
        cells.cka.to_numpy().reshape(4, 4), minibatch_cka(a, b), rtol=0, atol=2e-6
    )


def test_classes_are_found_again_in_the_table(done: Done) -> None:
    frame = pd.read_csv(done.out / "tables" / "knn-depth" / "accuracies.csv")
    assert set(frame.images) == {18}
    assert set(frame.k) == {17}
    assert set(frame.chance) == {0.5}


@pytest.mark.slow
def test_a_second_run_passes_nothing_through_a_network_and_is_the_same(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from study.yaml as it was written, with the tables' computations out of order, and with
    figures for paper that were not drawn the first time."""
    for name in ANALYSES:
        module = plugin("analyses", name)
        monkeypatch.setattr(module, "compute", never(module.compute))
    again = study.read(done.out / "study.yaml")
    assert again == done.asked
    with forwards() as seen:
        out = tmp_path / "out"
        rest: dict[str, Any] = {"store": done.store, "command": "sslens compare", "quiet": True}
        study.run(again, out, figures=True, **rest)
    assert seen == []
    assert tables(out) == tables(done.out)
    assert figures(out) == {f"{name}.{kind}" for name in ANALYSES for kind in ("svg", "pdf")}
    assert (out / "report.html").read_text().count('<div class="stills">') >= len(ANALYSES)
    volatile = re.compile(r'"(made|seconds)": .*')
    one, other = (
        volatile.sub("", (out / "provenance.json").read_text())
        for out in (done.out, tmp_path / "out")
    )
    assert one == other


def test_from_nothing_the_same_tables_are_made(done: Done, tmp_path: Path) -> None:
    asked = replace(done.asked, analyses=("knn-depth",))
    with forwards() as seen:
        study.run(asked, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True)
    assert len(seen) == 8
    whole = tables(done.out)
    alone = {name: whole[name] for name in whole if name.startswith("knn-depth/")}
    assert tables(tmp_path / "out") == alone


def test_a_changed_image_is_computed_again(done: Done, tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos")
    asked = replace(done.asked, images=str(photos))
    planned = study.prepare(asked, done.store, quiet=True)
    assert not any(p.missing for p in planned.passes)  # the same contents, wherever they lie
    Image.new("RGB", (32, 32), "red").save(photos / "cat" / "0.png")
    planned = study.prepare(asked, done.store, quiet=True)
    assert all(p.missing for p in planned.passes)


# ------------------------------------------------------------------------------------------------
# the plan


def names_of(asked: Study, tmp_path: Path) -> list[tuple[str, bool]]:
    planned = study.prepare(asked, Store(tmp_path / "store"), quiet=True)
    assert [p.member for p in planned.passes] == list(planned.members)
    return [(member.name, member.control) for member in planned.members]


def test_the_plan_is_said_before_anything_is_computed(done: Done) -> None:
    (said,) = done.said
    assert "images    18 of photos (" in said
    assert f"analyses  {', '.join(ANALYSES)}" in said
    assert re.search(r"^left out  \d+ analyses.*dry_run=True says why each$", said, re.MULTILINE)
    assert said.count("left out") == 1
    assert re.search(r"model     mae \(mae-1\) over 18 images of photos: \d+ GFLOP", said)
    assert "control   pixels over 18 images" in said
    planned = study.prepare(done.asked, done.store, quiet=True)
    assert planned.describe().count("in the store") == 5


def test_a_dry_run_computes_and_writes_nothing(done: Done, tmp_path: Path) -> None:
    with forwards() as seen:
        assert (
            study.run(
                done.asked,
                tmp_path / "out",
                store=Store(tmp_path / "store"),
                quiet=True,
                dry_run=True,
            )
            is None
        )
    assert sum(seen) <= 48  # a few images, to measure what a pass costs here
    assert not list(tmp_path.iterdir())


def test_flops_are_two_a_multiplication(done: Done, tmp_path: Path) -> None:
    planned = study.prepare(done.asked, Store(tmp_path / "store"), quiet=True)
    patches, tokens, dim = 16, 17, 64
    block = (
        tokens * 12 * dim**2 + 2 * tokens**2 * dim
    )  # qkv 3, projection 1, MLP 8; attention's two products
    assert planned.passes[0].flops() == 2 * 18 * (patches * 8 * 8 * 3 * dim + 4 * block)
    assert planned.passes[-1].flops() == 0  # pixels


def test_controls_are_twins_and_pixels_once(done: Done, tmp_path: Path) -> None:
    asked = replace(done.asked, images="scenes:0:8")
    assert names_of(replace(asked, models=(f"{NANO}:3",)), tmp_path) == [
        ("random #3", False),
        ("random #0", True),
        ("random #1", True),
        ("pixels", True),
    ]
    assert names_of(replace(asked, models=(f"{NANO}:3",), controls=False), tmp_path) == [
        ("random #3", False)
    ]
    # a model that is its own twin is not given again, however its seed is spelt
    for source in (NANO, f"{NANO}:0"):
        assert names_of(replace(asked, models=(source, "pixels")), tmp_path) == [
            ("random #0", False),
            ("pixels", False),
            ("random #1", True),
        ]


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    asked = Study(
        (str(trained(tmp_path / "a" / "run", 1)), str(trained(tmp_path / "b" / "run", 2))),
        "scenes:0:8",
        controls=False,
    )
    assert [name for name, _ in names_of(asked, tmp_path)] == ["mae (a/run)", "mae (b/run)"]
    two_shapes = Study((NANO, "random:vit_nano_patch16_32"), "scenes:0:8", controls=False)
    assert [name for name, _ in names_of(two_shapes, tmp_path)] == [
        "random #0 (vit_nano_patch8_32)",
        "random #0 (vit_nano_patch16_32)",
    ]


def test_two_folders_of_one_name_are_told_apart_and_the_title_says_what_it_is_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("birds", "cars"):
        photographs(tmp_path / name / "val")
    folders = [str(tmp_path / name / "val") for name in ("birds", "cars")]
    sets = open_sets({"images": (folders[0], 8), "bank": (folders[1], None)}, quiet=True)
    assert [images and images.name for images in sets.values()] == ["birds/val", "cars/val"]
    alone = open_sets({"images": (folders[0], 8), "bank": (folders[0], None)}, quiet=True)
    assert [images and images.name for images in alone.values()] == ["val", "val"]
    monkeypatch.chdir(tmp_path / "birds")
    for source in (folders[0], "val"):
        asked = Study((NANO,), source, limit=4, controls=False, analyses=("cka-blocks",), batch=4)
        planned = planning.prepare(asked, Store(tmp_path / "store"), quiet=True)
        front = make_first_screen(planned, {}, ())
        assert re.fullmatch(r"random #0 on birds/val, 4 of \d+ images", front.compared)


def test_images_without_classes_leave_knn_out_and_say_so(done: Done, tmp_path: Path) -> None:
    photographs(tmp_path / "photos", each=5)
    for path in (tmp_path / "photos").rglob("*.png"):
        path.rename(tmp_path / "photos" / f"{path.parent.name}-{path.name}")
    planned = study.prepare(
        replace(done.asked, images=str(tmp_path / "photos")), done.store, quiet=True
    )
    assert planned.analyses == (
        "cka-blocks",
        "cka-layer-types",
        "cka-targets",
        "other-measures",
    )
    note = planned.notes[-1]
    left_out = "agreement, knn-depth, probe-depth and probe-layers were left out"
    assert note == f"{left_out}: the images have no classes."


@pytest.mark.slow
def test_the_page_on_images_without_classes(done: Done, tmp_path: Path) -> None:
    photographs(tmp_path / "photos", each=5)
    for path in (tmp_path / "photos").rglob("*.png"):
        path.rename(tmp_path / "photos" / f"{path.parent.name}-{path.name}")
    asked = replace(done.asked, images=str(tmp_path / "photos"), analyses=("cka-blocks",))
    for thumbnails in (True, False):
        report = study.run(
            asked, tmp_path / "out", store=done.store, quiet=True, thumbnails=thumbnails
        )
        assert report is not None
        page = report.read_text(encoding="utf-8")
        assert ("Images seen most differently" in page) == thumbnails
        assert ("data:image/" in page) == thumbnails
    front = json.loads((tmp_path / "out" / "front.json").read_text())
    assert front["cards"] == []
    assert {one["size"] for one in front["overview"]["points"]} == {None}
    assert front["overview"]["sized_by"] == ""
    assert '<table class="ranks">' not in page


def test_what_was_skipped_is_noted(done: Done, tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos")
    (photos / "cat" / "broken.png").write_bytes(b"no image")
    asked = replace(done.asked, images=str(photos))
    with pytest.raises(InputError, match=r"broken.png cannot be decoded"):
        study.prepare(asked, done.store, quiet=True)
    planned = study.prepare(replace(asked, on_bad="skip"), done.store, quiet=True)
    assert len(planned.images) == 18
    (note,) = (note for note in planned.notes if "seems untrained" not in note)
    assert note.startswith(
        "1 image of photos could not be decoded and was left out: cat/broken.png ("
    )


def coloured(path: Path, labels: np.ndarray, seed: int) -> str:
    """Arrays without ids of their own, so that those of two files are the same."""
    noise = np.random.default_rng(seed).integers(0, 120, (len(labels), 32, 32, 3))
    np.savez(
        path,
        images=(noise + 110 * np.eye(3, dtype=int)[labels][:, None, None]).astype(np.uint8),
        labels=labels,
    )
    return str(path)


def test_a_bank_votes_with_its_own_classes(tmp_path: Path) -> None:
    labels = np.arange(12) % 2
    images, bank = (
        coloured(tmp_path / "a.npz", labels, 0),
        coloured(tmp_path / "b.npz", 1 - labels, 1),
    )
    asked = Study(
        ("pixels",), images, ("knn-depth",), bank=bank, controls=False, batch=6, device="cpu"
    )
    store = Store(tmp_path / "store")
    planned = study.prepare(asked, store, quiet=True)
    assert planned.bank is not None
    assert set(planned.images.ids) == set(planned.bank.ids)
    assert [(p.member.name, p.images.name) for p in planned.passes] == [
        ("pixels", "a"),
        ("pixels", "b"),
    ]
    study.run(asked, tmp_path / "out", store=store, quiet=True)
    frame = pd.read_csv(tmp_path / "out" / "tables" / "knn-depth" / "accuracies.csv")
    weighted = frame[frame.vote == "weighted"]
    assert dict(zip(weighted.features, weighted.accuracy, strict=True)) == {
        "raw": 1,
        "standardised": 1,
    }


def test_a_bank_with_other_classes_is_refused(done: Done, tmp_path: Path) -> None:
    bank = photographs(tmp_path / "bank", ("cat", "horse"))
    with pytest.raises(InputError, match=r"class \"dog\", of which bank has none"):
        study.prepare(replace(done.asked, bank=str(bank)), done.store, quiet=True)


# ------------------------------------------------------------------------------------------------
# the file


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ()}, "at least one model"),
        ({"models": ("pixels", NANO, "pixels")}, "pixels is given twice"),
        ({"models": ("pixls",)}, 'no model "pixls": did you mean pixels'),
        ({"analyses": ("cka-blok",)}, 'no analysis "cka-blok": did you mean cka-blocks'),
        ({"on_bad": "ignore"}, 'on_bad is "ignore": there are skip, stop'),
        ({"precision": "float8"}, 'precision is "float8": did you mean float32 or float16'),
        ({"tokens": ("patches",)}, 'tokens is "patches": did you mean patch'),
        ({"grid": "convrged"}, 'grid is "convrged": did you mean converged'),
        ({"taps": ("norm3",)}, 'taps is "norm3": did you mean norm2'),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Study(**({"models": ("pixels",), "images": "scenes"} | changes))


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    asked = Study(
        ("pixels", f"{NANO}:1"),
        "photos: of #1",
        ("knn-depth",),
        bank="b",
        limit=None,
        controls=False,
        seed=3,
    )
    (tmp_path / "study.yaml").write_text(asked.yaml())
    assert study.read(tmp_path / "study.yaml") == asked


def test_overrides_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("models: pixels\nimages: scenes\n")
    assert study.read(path) == Study(("pixels",), "scenes")
    found = study.read(
        path,
        [
            f"models=[pixels, {NANO}]",
            "limit=256",
            "controls=false",
            "analyses=knn-depth",
            "bank=a=b",
        ],
    )
    assert found == Study(
        ("pixels", NANO), "scenes", ("knn-depth",), bank="a=b", limit=256, controls=False
    )
    assert study.read(path, ["limit=null"]).limit is None


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        (None, [], "There is no file .*study.yaml: a study is a YAML file with models"),
        ("a: [", [], "is not YAML"),
        ("\0", [], "is not YAML"),
        ("- pixels", [], "holds no keys"),
        ("", [], "holds no keys"),
        ("models: pixels", [], "pixels is no fingerprint, so images are needed: give images"),
        ("images: scenes", [], "does not say models"),
        (
            "models: pixels\nimages: scenes\nlimt: 3",
            [],
            r'A study has no "limt" .*: did you mean limit\?',
        ),
        ("models: pixels\nimages: scenes\n3: x", [], 'A study has no "3"'),
        (
            "models: pixels\nimages: scenes",
            ["limt=3"],
            r'A study has no "limt" .*: did you mean limit\?',
        ),
        ("models: pixels\nimages: scenes", ["limit"], '"limit" is no override: expected KEY=VALUE'),
        ("models: pixels\nimages: scenes", ["limit=["], r'The value of "limit=\[" is not YAML'),
        (
            "models: pixels\nimages: scenes\nlimit: many",
            [],
            r"limit is 'many' .*expected a whole number",
        ),
        (
            "models: pixels\nimages: scenes\nbatch: 8.5",
            [],
            r"batch is 8\.5 .*expected a whole number",
        ),
        (
            "models: pixels\nimages: scenes\nseed: true",
            [],
            r"seed is True .*expected a whole number",
        ),
        (
            "models: pixels\nimages: scenes\ncontrols: 2",
            [],
            "controls is 2 .*expected true or false",
        ),
        ("models: 3\nimages: scenes", [], "models is 3 .*expected a list of text"),
        ("models: [1, 2]\nimages: scenes", [], r"models is \[1, 2\] .*expected a list of text"),
        ("models: pixels\nimages: [a, b]", [], r"images is \['a', 'b'\] .*expected text"),
        (
            "models: pixels\nimages: scenes\nanalyses: null",
            [],
            "analyses is None .*expected a list of text",
        ),
    ],
)
def test_a_file_that_is_no_study_is_refused(
    tmp_path: Path, text: str | None, overrides: list[str], said: str
) -> None:
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
    asked = Study(
        ("pixels",),
        "scenes",
        ("knn-depth",),
        "b",
        7,
        False,
        9,
        3,
        "skip",
        "cpu",
        "bfloat16",
        ("patch",),
        True,
        "paper",
        ("norm2",),
        ("heads=small",),
        64,
        "generator",
        True,
        ("rotation=45",),
        False,
        {"old": ("pixels",), "new": ("mae",)},
        (OwnClaim("mine", "It is more.", "knn-depth", "gain", where={"model": "pixels"}),),
        (parse_condition("c1"),),
        "stratified",
    )
    (tmp_path / "study.yaml").write_text(asked.yaml())
    found = study.read(tmp_path / "study.yaml")
    default = Study(("pixels",), "scenes")
    written = [name for name in vars(asked) if name != "given"]  # which is in memory
    apart = [name for name in written if getattr(found, name) != getattr(default, name)]
    assert found == asked
    assert list(itertools.chain(("models", "images"), apart)) == written


# ------------------------------------------------------------------------------------------------
# fingerprints and processes


def fingerprinted(
    source: str, images: str, path: Path, *, batch: int = 8, dtype: Any = "float32"
) -> str:
    """The fingerprint of a model, as the command writes it."""
    model, shown = zoo.load(source), open_images(images, seed=0)
    plan = Plan.draw(shown.ids, batch)
    conditions = fingerprint.Conditions.of(model, shown, plan, tokens=("all", "cls"), seed=0)
    artefacts = [grams(model, shown, plan=plan, tokens=tokens) for tokens in ("all", "cls")]
    fingerprint.write(path, artefacts, conditions, model=model, dtype=dtype)
    return str(path)


@pytest.mark.slow
def test_fingerprints_stand_for_their_models(done: Done, tmp_path: Path) -> None:
    """One model by its fingerprint, the other at hand: the tables are those of both at hand, and
    only one passes."""
    kept = fingerprinted(done.asked.models[0], str(done.photos), tmp_path / "mae-1.safetensors")
    asked = replace(
        done.asked, models=(kept, done.asked.models[1]), analyses=("cka-blocks",), controls=False
    )
    both = replace(done.asked, analyses=("cka-blocks",), controls=False)
    study.run(both, tmp_path / "live", store=done.store, quiet=True)
    with forwards() as seen:
        study.run(asked, tmp_path / "mixed", store=Store(tmp_path / "store"), quiet=True)
    assert seen == [8, 10]
    one, other = (
        pd.read_csv(tmp_path / name / "tables" / "cka-blocks" / "cells.csv")
        for name in ("live", "mixed")
    )
    assert other.model_a.unique().tolist() == ["mae (mae-1)", "mae (mae-2)"]
    numbers = ["cka", "low", "high"]
    np.testing.assert_allclose(other[numbers], one[numbers], rtol=0, atol=1e-6)
    found = json.loads((tmp_path / "mixed" / "provenance.json").read_text())
    assert found["models"]["mae (mae-1)"]["fingerprint"] == "float32"


@pytest.mark.slow
def test_fingerprints_alone_need_no_images(tmp_path: Path) -> None:
    kept = [
        fingerprinted(f"{NANO}:{seed}", "scenes:0:18", tmp_path / f"{seed}.st") for seed in (1, 2)
    ]
    asked = Study(tuple(kept), batch=8)
    planned = study.prepare(asked, Store(tmp_path / "store"), quiet=True)
    assert planned.images is None
    assert planned.passes == ()
    assert [(member.name, member.control) for member in planned.members] == [
        ("random #1", False),
        ("random #2", False),
    ]
    assert "labels" in needs(plugin("analyses", "knn-depth"))
    assert "knn-depth" in planned.left_out
    report = study.run(asked, tmp_path / "out", store=Store(tmp_path / "store"), quiet=True)
    assert report is not None
    page = report.read_text()
    assert all(words in page for words in ("random #1", "random #2", "18 images"))
    assert "There are no pictures of images: the models are fingerprints, which hold none." in page
    assert "data:image/" not in page
    assert '<table class="ranks">' not in page
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["images"]["count"] == 18
    with pytest.raises(
        InputError, match="knn-depth was asked for, but fingerprints hold the Grams"
    ):
        study.prepare(
            replace(asked, analyses=("knn-depth",)), Store(tmp_path / "store"), quiet=True
        )


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"images": "scenes:1:18"}, "cannot be compared: .* ids differ"),
        ({"batch": 9}, r"in minibatches of (9 and 8|8 and 9)\. Make both with the same batch"),
    ],
)
def test_a_fingerprint_of_other_images_or_minibatches_is_refused(
    tmp_path: Path, made: dict[str, Any], said: str
) -> None:
    kept = fingerprinted(f"{NANO}:1", **{"images": "scenes:0:18", "path": tmp_path / "a.st"} | made)
    for models, images in (
        ((kept, f"{NANO}:2"), "scenes:0:18"),
        ((fingerprinted(f"{NANO}:2", "scenes:0:18", tmp_path / "b.st"), kept), None),
    ):
        asked = Study(models, images, batch=8, controls=False, device="cpu")
        with pytest.raises(InputError, match=said):
            study.prepare(asked, Store(tmp_path / "store"), quiet=True)


def test_a_resampling_that_differs_is_refused_beside_a_fingerprint_and_noted_beside_a_model(
    tmp_path: Path,
) -> None:
    photos = str(photographs(tmp_path / "photos"))
    kept = fingerprinted(str(trained(tmp_path / "a", 1, "dino")), photos, tmp_path / "a.st")
    other = trained(tmp_path / "b", 3)
    store = Store(tmp_path / "store")
    asked = Study(
        (kept, str(other)), photos, batch=8, controls=False, device="cpu", analyses=("cka-blocks",)
    )
    notes = study.prepare(asked, store, quiet=True).notes
    assert all("seems untrained" in note for note in notes)  # the models' weights are random
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EvalTransform, "spec", lambda self: bilinear(self))
        with pytest.raises(
            InputError, match=r"resampled bicubic and mae bilinear.*any_transform=True"
        ):
            study.prepare(asked, store, quiet=True)
        more = study.prepare(replace(asked, any_transform=True), store, quiet=True).notes
        (note,) = set(more) - set(notes)
        assert "resampled" in note


def bilinear(transform: EvalTransform) -> dict[str, Any]:
    values = {name: getattr(transform, name) for name in ("resize", "crop", "mean", "std")}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()} | {
        "interpolation": "bilinear"
    }


def test_an_analysis_that_has_nothing_to_show_is_left_out_or_refused(done: Done) -> None:
    planned = study.prepare(done.asked, done.store, quiet=True)
    assert planned.left_out["cka-msn"].reason == "there is no MSN model among the models"
    assert "cka-convergence" not in (*planned.analyses, *planned.left_out)  # only on request
    assert "left out  cka-msn: there is no MSN model" in planned.describe()
    short = planned.describe(as_option, whole=False).splitlines()
    (line,) = [one for one in short if one.startswith("left out")]
    assert line.startswith(f"left out  {len(planned.left_out)} analyses")
    assert line.endswith("--dry-run says why each")
    cures = [line for line in planned.describe(as_option).splitlines() if "finetune-path:" in line]
    assert cures[0].endswith(
        "(fine-tune with --path, or write path.csv beside the checkpoints with sslens path)"
    )
    with pytest.raises(InputError, match="cka-msn was asked for, but there is no MSN model"):
        study.prepare(replace(done.asked, analyses=("cka-msn",)), done.store, quiet=True)
    asked = study.prepare(
        replace(done.asked, analyses=("cka-convergence",)), done.store, quiet=True
    )
    assert [[reducer.kind for reducer in p.reducers] for p in asked.passes] == [["wide"]] * 5


@pytest.mark.slow
def test_processes_share_a_study_and_write_one_report(done: Done, tmp_path: Path) -> None:
    asked = replace(done.asked, analyses=("cka-blocks", "knn-depth", "probe-depth"))

    def shared() -> None:
        report = study.run(
            asked, tmp_path / "out", store=Store(tmp_path / "store"), command="sslens compare"
        )
        assert (report is None) == (os.environ["RANK"] == "1")

    together(shared)
    found = tables(tmp_path / "out")
    assert {name.split("/")[0].removesuffix(".csv") for name in found} == set(asked.analyses)
    assert found == {name: tables(done.out)[name] for name in found}


def test_images_that_are_judged_are_left_out_of_the_bank(tmp_path: Path) -> None:
    """Whatever their names: k-NN would find them themselves, and probes be trained on them."""
    judged = photographs(tmp_path / "judged", ("cat", "dog"))
    bank = tmp_path / "bank"
    for number, file in enumerate(sorted(judged.rglob("*.png"))):
        (bank / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, bank / file.parent.name / f"copy-{number}.png")
    with pytest.raises(InputError, match=r"All \d+ images of bank are among those that are judged"):
        open_study_images(Study(("pixels",), str(judged), bank=str(bank)), quiet=True)
    for folder in ("cat", "dog"):
        for shade in (10, 250):
            Image.new("RGB", (32, 32), (shade, 90, 7)).save(bank / folder / f"own-{shade}.png")
    _, left, notes = open_study_images(Study(("pixels",), str(judged), bank=str(bank)), quiet=True)
    assert left is not None
    assert all("own" in name for name in left.ids)
    assert any("left out of" in note and isinstance(note, Caution) for note in notes)
