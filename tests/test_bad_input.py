"""Images and files of which nothing can be learnt, through the command line: what is said of them.

One test a kind: features without variance, separable classes, one image a class, a target that is
constant, fingerprints without the pixels' Grams, and two files of the same weights.
"""

import html
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sslens import zoo
from sslens.cli import main
from sslens.models.vit import ViTArch, describe
from sslens.store import write_tensors

NANO = "random:vit_nano_patch8_32"
IMAGES = 16


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(name: str, labels: np.ndarray, colour: np.ndarray | None = None, noise: int = 40) -> str:
    """Write random images of 32 px, each brighter by its colour."""
    rng = np.random.default_rng(list(name.encode()))
    images = rng.integers(0, noise + 1, (len(labels), 32, 32, 3))
    if colour is not None:
        images += colour[:, None, None, None]
    np.savez(name, images=images.astype(np.uint8), labels=labels)
    return name


def read_report(out: str) -> str:
    """The words of a report."""
    text = html.unescape(Path(out, "report.html").read_text())
    text = re.sub(r"<(script|style|svg).*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def compare(*models: str, images: str | None, analyses: str) -> str:
    """Run `sslens compare` without controls, and return the words of its report."""
    of = ["--images", images] if images else []
    line = [*models, *of, "--batch", "8", "--no-controls", "--analyses", *analyses.split()]
    assert main(["compare", *line, "--device", "cpu", "--out", "out"]) == 0
    return read_report("out")


def read_table(analysis: str, table: str) -> pd.DataFrame:
    """A table of the study; an only table lies in no folder."""
    only = Path(f"out/tables/{analysis}.csv")
    return pd.read_csv(only if only.exists() else f"out/tables/{analysis}/{table}.csv")


def test_images_that_are_all_alike_have_neither_cka_nor_accuracy() -> None:
    flat = save("flat.npz", np.arange(IMAGES) % 2, noise=0)
    said = compare(f"{NANO}:0", f"{NANO}:1", images=flat, analyses="cka-blocks knn-depth")
    cells = read_table("cka-blocks", "cells")
    assert cells.cka.isna().all()
    assert cells[["low", "high"]].isna().all(axis=None)
    assert read_table("knn-depth", "accuracies").accuracy.isna().all()
    assert "no CKA is defined over all tokens" in said
    assert "no accuracy is defined, for the features are the same for every image" in said
    assert "have the same weights" not in said


def test_of_separable_classes_a_penalty_inside_the_path_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels = np.arange(32) % 2
    train, test = (save(name, labels, 180 * labels) for name in ("train.npz", "test-it.npz"))
    line = [NANO, "--images", train, "--test", test, "--taps", "norm", "--device", "cpu"]
    assert main(["probe", *line, "--out", "out"]) == 0
    assert "is not settled" not in capsys.readouterr().err
    probes = pd.read_csv("out/probes.csv")
    assert probes.accuracy.eq(1).all()
    assert probes.low.between(0.85, 0.95).all()  # Wilson's of 32 of 32: 0.893
    assert probes.converged.all()
    assert probes.inside.all()


def test_of_one_image_a_class_no_probe_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    lone, other = (save(name, np.arange(IMAGES), noise=255) for name in ("lone.npz", "other.npz"))
    line = ["probe", NANO, "--images", lone, "--test", other, "--device", "cpu", "--out", "none"]
    assert main(line) == 2
    assert "has one image" in capsys.readouterr().err
    assert not Path("none").exists()
    line = [NANO, "--images", lone, "--no-controls", "--batch", "8", "--device", "cpu"]
    assert main(["compare", *line, "--out", "out"]) == 0
    assert "tells which model to use: the images hold one image a class" in read_report("out")
    assert not Path("out/tables/probe-depth").exists()
    assert not Path("out/tables/knn-depth").exists()


def test_a_class_that_all_images_share_is_no_target(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (save(name, np.zeros(IMAGES, int), noise=255) for name in ("one.npz", "two.npz"))
    line = ["probe", NANO, "--images", one, "--test", other, "--device", "cpu", "--out", "none"]
    assert main(line) == 2
    assert "of one class" in capsys.readouterr().err
    said = compare(f"{NANO}:0", images=one, analyses="cka-targets")
    assert re.search(r"The CKA of [^.]* with class is undefined: it does not vary here\.", said)
    targets = read_table("cka-targets", "targets")
    assert targets[targets.target == "class"].cka.isna().all()
    assert targets[targets.target != "class"].cka.notna().any()


def test_without_a_fingerprint_of_the_pixels_nothing_is_told_beyond_them() -> None:
    images = save("photos.npz", np.arange(IMAGES) % 2, noise=255)
    names = ("a", "b", "pixels")
    for name, model in zip(names, (f"{NANO}:0", f"{NANO}:1", "pixels"), strict=True):
        line = [model, "--images", images, "--batch", "8", "--interpolation", "bicubic"]
        out = ["--device", "cpu", "--out", f"{name}.safetensors"]
        assert main(["fingerprint", *line, *out]) == 0
    files = [f"{name}.safetensors" for name in names]
    lacking = compare(*files[:2], images=None, analyses="cka-blocks")
    assert "the Grams of the pixels are not there" in lacking
    assert read_table("cka-blocks", "means").deconfounded.isna().all()
    shutil.rmtree("out")
    whole = compare(*files, images=None, analyses="cka-blocks")
    assert "the Grams of the pixels are not there" not in whole
    assert read_table("cka-blocks", "means").left.notna().any()


def test_two_files_of_the_same_weights_are_told_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    arch = ViTArch.parse("vit_nano_patch8_32")
    for name, seed in (("first", 7), ("copy", 7), ("other", 8)):
        about = {"family": "REC", "objective": "mae", "arch": "vit_nano_patch8_32", "seed": seed}
        header = zoo.make_header(name, describe(arch), about)
        write_tensors(Path(name, zoo.ENCODER), arch.build(seed).state_dict(), header)
    images = save("photos.npz", np.arange(IMAGES) % 2, noise=255)
    said = compare("first", "copy", "other", images=images, analyses="cka-blocks")
    note = "first and copy have the same weights: they are one model."
    assert note in capsys.readouterr().err
    assert note in said
    assert "first and copy have the same weights, or compute the same: their CKA is 1" in said
    ceilings = read_table("cka-blocks", "ceilings")
    pairs = set(zip(ceilings.model_a, ceilings.model_b, strict=True))
    assert ("first", "other") in pairs
    assert ("first", "copy") not in pairs  # one training is no ceiling of itself
