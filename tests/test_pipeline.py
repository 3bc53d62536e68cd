"""One pipeline under every command: no model is passed over the same images twice."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sslens.cli import main
from sslens.models.backbone import Backbone

#: the probes have tests of their own
pytestmark = pytest.mark.usefixtures("short_probes")

NANO = "random:vit_nano_patch8_32:5"
#: whose features and Grams compare keeps
COMPARED = ["compare", NANO, "--images", "photos", "--bank", "bank", "--batch", "6"]
ANALYSES = ["--analyses", "cka-blocks", "knn-depth", "--tokens", "all"]
CPU = ["--device", "cpu"]
#: what asks for the same models over the same images
AGAIN = {
    "compare": [*COMPARED, *ANALYSES, "--out", "again"],
    "other analyses": [
        *COMPARED,
        "--analyses",
        "cka-layer-types",
        "--tokens",
        "all",
        "--out",
        "other",
    ],
    "knn": ["knn", NANO, "--images", "photos", "--bank", "bank", "--k", "5"],
    "knn without a bank": ["knn", NANO, "--images", "photos", "--k", "5", "--out", "one-out"],
    "probe": ["probe", NANO, "--images", "bank", "--test", "photos", "--grid", "small"],
    "features": ["features", NANO, "--images", "photos", "--out", "features"],
    "features of the bank": ["features", NANO, "--images", "bank", "--out", "f/bank"],
    "fingerprint": ["fingerprint", NANO, "--images", "photos", "--batch", "6", "-o", "print.st"],
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with pictures of two classes in `photos` and `bank`."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, count in (("photos", 9), ("bank", 12)):
        for number, name in enumerate(("cat", "dog")):
            Path(folder, name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3)) + 110 * (np.arange(3) == number)
                Image.fromarray(pixels.astype(np.uint8)).save(f"{folder}/{name}/{i}.png")
    return tmp_path


@contextmanager
def count_passes() -> Iterator[list[tuple[str, int]]]:
    """Every forward pass of any Backbone over images: its model, and how many images. The shapes of
    features are read from an image on no device, or of zeros, which is no pass."""
    passed: list[tuple[str, int]] = []
    forward = Backbone.forward

    def counting(self: Backbone, images: torch.Tensor) -> Any:
        if not images.is_meta and images.any():
            passed.append((self.name, len(images)))
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "forward", counting)
        yield passed


def images_by_model(passed: list[tuple[str, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, images in passed:
        counts[name] = counts.get(name, 0) + images
    return counts


def test_what_was_compared_is_passed_again_by_no_command(place: Path) -> None:
    with count_passes() as passed:
        assert main([*COMPARED, *ANALYSES, *CPU]) == 0
    # 18 images and 24 of the bank, of the model and of each control, once
    members = ("random #5", "random #0", "random #1", "pixels")
    assert images_by_model(passed) == dict.fromkeys(members, 42)
    for name, command in AGAIN.items():
        with count_passes() as passed:
            assert main([*command, *CPU]) == 0, name
        assert passed == [], name


@pytest.mark.slow
def test_another_process_passes_nothing_either(place: Path) -> None:
    assert main([*COMPARED, *ANALYSES, *CPU]) == 0
    script = """
import json, sys
from sslens.models.backbone import Backbone
def refuse(self, images):
    assert images.is_meta or not images.any(), f"{self.name} is passed over {len(images)} images"
    return forward(self, images)
forward, Backbone.forward = Backbone.forward, refuse
from sslens.cli import main
for line in json.loads(sys.argv[1]):
    assert main(line) == 0, line
"""
    lines = json.dumps([[*AGAIN[name], *CPU] for name in ("knn", "probe", "features")])
    done = subprocess.run(
        [sys.executable, "-c", script, lines], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


def test_what_knn_made_serves_compare(place: Path) -> None:
    """The other way round: features in the order of the images, before any minibatch is drawn."""
    with count_passes() as passed:
        assert main([*AGAIN["knn"], *CPU]) == 0
    assert set(images_by_model(passed).values()) == {42}
    with count_passes() as passed:
        assert main([*COMPARED, "--analyses", "knn-depth", "--out", "late", *CPU]) == 0
    assert passed == []
    with count_passes() as passed:  # Grams were not made, and are in one pass of the images
        assert main([*COMPARED, *ANALYSES, "--out", "more", *CPU]) == 0
    assert set(images_by_model(passed).values()) == {18}


def test_knn_is_the_same_from_features_of_any_command(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*AGAIN["knn"], *CPU, "--out", "own"]) == 0
    monkeypatch.setenv("SSLENS_HOME", str(place / "another-home"))
    assert main([*COMPARED, *ANALYSES, *CPU]) == 0
    assert main([*AGAIN["knn"], *CPU, "--out", "compared"]) == 0
    own, compared = (pd.read_csv(f"{out}/knn.csv") for out in ("own", "compared"))
    pd.testing.assert_frame_equal(own, compared)


def test_other_images_taps_or_precision_are_passed(place: Path) -> None:
    assert main([*AGAIN["knn"], "--no-controls", *CPU]) == 0
    more = {
        "a changed image": ["--images", "photos"],
        "another tap": ["--taps", "blocks.2.attn.qkv"],
        "another precision": ["--precision", "bfloat16"],
    }
    for name, options in more.items():
        if name == "a changed image":
            Image.new("RGB", (32, 32), "red").save("photos/cat/0.png")
        with count_passes() as passed:
            assert main([*AGAIN["knn"], *options, "--no-controls", "--overwrite", *CPU]) == 0
        assert passed, name
