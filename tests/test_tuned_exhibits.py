"""Exhibits of models before and after fine-tuning: by hand what counts beyond the control, and all
of it from the command line."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import sslens
from given import Given, compute, make_models, write
from sslens.capture import Grams
from sslens.cli import main
from sslens.find import plugin
from sslens.models.taps import Tap
from sslens.store import Store
from sslens.study import Study, prepare
from sslens.training.finetune import Settings, finetune
from sslens.training.pretrain import pretrain
from sslens.training.schedule import Training

pytestmark = pytest.mark.usefixtures("short_probes")

#: two contrasts of eight images, orthogonal to each other and to the mean; ten minibatches of them
ONE, OTHER = np.tile([1, 1, 1, 1, -1, -1, -1, -1], 10), np.tile([1, 1, -1, -1, 1, 1, -1, -1], 10)
ABOUT: dict[str, dict[str, Any]] = {
    "dino": {"family": "JE", "objective": "dino", "arch": "vit"},
    "mae": {"family": "REC", "objective": "mae", "arch": "vit"},
    "mae-ft": {"family": "REC", "objective": "mae", "arch": "vit", "tuned": "fine-tuned"},
    "random #0": {"family": "control", "objective": None, "arch": "vit"},
    "random-ft": {"family": "control", "objective": None, "arch": "vit", "tuned": "fine-tuned"},
}


def model(one: float, other: float) -> Grams:
    """Blocks of two features: `one` and `other` are the shares of the two contrasts in the Gram."""
    features = torch.from_numpy(np.stack([one**0.5 * ONE, other**0.5 * OTHER], 1)).float()
    ids = tuple(f"{i:02d}.png" for i in range(80))
    made = Grams.of_features([features] * 3, ids=ids, sizes=np.full(10, 8))
    return replace(made, taps=tuple(Tap(f"blocks.{i}", "block", (i + 1) / 3) for i in range(3)))


def cka(a: tuple[float, float], b: tuple[float, float]) -> float:
    """By hand. HSIC_1 of n = 8 images is, times n(n − 3), tr KL + 1'K1 1'L1 / 42 − 1'KL1 / 3 of
    Grams without their diagonal.

    Of a contrast of ±1 with itself 56 + 64/42 − 8/3 = 384/7, and of two that are orthogonal −8 +
    64/42 − 8/3 = −64/7, a sixth.
    """

    def hsic(a: tuple[float, float], b: tuple[float, float]) -> float:
        return a[0] * b[0] + a[1] * b[1] - (a[0] * b[1] + a[1] * b[0]) / 6

    return float(hsic(a, b) / (hsic(a, a) * hsic(b, b)) ** 0.5)


@pytest.mark.parametrize("became", [(1, 9), (1, 1), (9, 1)])
def test_the_end_of_reconstruction_is_held_against_that_of_random_weights(
    became: tuple[float, float],
) -> None:
    """MAE and random weights begin with the other contrast; fine-tuned, MAE has both, and the
    control less of DINO's, or more. All minibatches are the same, so that nothing is decided."""
    je, start, tuned = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)
    shares = {"dino": je, "mae": start, "mae-ft": tuned, "random #0": start, "random-ft": became}
    grams = {name: model(*share) for name, share in shares.items()}
    models = make_models(("dino", "mae", "mae-ft", "random-ft"), ("random #0",), ABOUT)
    results = compute("cka-finetune", Given(models, {"grams": {"all": grams}}))
    (row,) = results["families-beyond-control"].itertuples()
    rise = cka(tuned, je) - cka(start, je)
    assert rise == pytest.approx((5 / 6) / (5 / 3) ** 0.5 + 1 / 6)
    assert row.rise == pytest.approx(rise, abs=1e-6)
    assert row.difference == pytest.approx(rise - (cka(became, je) - cka(start, je)), abs=1e-6)
    for table in ("ends", "families-ends"):
        (end,) = results[table].itertuples()
        assert end.cka == pytest.approx(cka(tuned, je), abs=1e-6)
        assert end.difference == pytest.approx(cka(tuned, je) - cka(became, je), abs=1e-6)
    said = write("cka-finetune", results)[0]
    assert f"fine-tuned random weights (random-ft · JE, {cka(became, je):.2f})" in said
    assert "its end is not decided against" in said
    assert "rise of random" not in said


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """MAE, MoCo-v3 and random weights before and after two epochs of fine-tuning, all by one
    recipe."""
    out = tmp_path_factory.mktemp("tuned")
    images, held = sslens.open_images("scenes:0:40"), sslens.open_images("scenes:1:20")
    once, twice = (
        Training(epochs=epochs, batch_size=20, precision="float32", device="cpu")
        for epochs in (1, 2)
    )
    pretrain("mae", images, "vit_nano_patch8_32", out / "mae", training=once)
    pretrain("moco-v3", images, "vit_nano_patch8_32", out / "moco", training=once)
    found = {"mae": str(out / "mae"), "moco": str(out / "moco")}
    settings = Settings(pooling="cls", mixup=0.0, cutmix=0.0, base_lr=5e-3)
    for name, source in {**found, "random": "random:vit_nano_patch8_32:0"}.items():
        folder = out / f"{name}-ft"
        finetune(
            sslens.load(source),
            images,
            folder,
            settings=settings,
            training=twice,
            held=held,
            path=True,
        )
        found[f"{name}-ft"] = str(folder)
    return found


def compared(
    models: Sequence[str], analyses: str, out: Path, *others: str
) -> dict[str, pd.DataFrame]:
    """`sslens compare` as it is typed; its tables, by the analysis, or by the analysis and the
    table."""
    line = ["compare", *models, "--analyses", analyses, "--out", str(out), "--figures"]
    assert main([*line, *others]) == 0
    report = (out / "report.html").read_text(encoding="utf-8")
    folder = out / "tables"
    tables = {
        file.relative_to(folder).with_suffix("").as_posix(): pd.read_csv(
            file, keep_default_na=False
        )
        for file in folder.rglob("*.csv")
    }
    assert {name.split("/")[0] for name in tables} == set(analyses.split(","))
    for name in analyses.split(","):
        assert (out / "figures" / f"{name}.svg").stat().st_size > 5000
        assert plugin("analyses", name).TITLE in report
    return tables


@pytest.mark.slow
def test_all_exhibits_of_fine_tuning_from_the_command_line(
    tuned: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    analyses = "cka-finetune,probe-layers,finetune-path,agreement"
    images = ["--images", "scenes:1:80", "--bank", "scenes:2:80", "--batch", "8", "--tokens", "all"]
    models = [
        tuned[name] for name in ("mae", "moco", "mae-ft", "random-ft")
    ]  # drawing takes the time
    tables = compared(models, analyses, tmp_path, *images)
    beyond = tables["cka-finetune/families-beyond-control"]
    assert beyond.kind.tolist() == ["block", "norm1", "qkv", "fc1"]
    assert set(beyond.less) == {"the rise of random #0-ft (from random #0) with JE"}
    assert "mae-ft from mae; JE: moco-v3" in set(beyond.members)  # by the digest of its weights
    assert set(tables["probe-layers/fine-tuned"].members) == {
        "mae-ft from mae",
        "random #0-ft from random #0",
    }
    assert set(tables["finetune-path/records"].role) == {"REC", "control"}
    pairs = tables["agreement"]  # of pairs alone: one JE model makes no family
    assert {"mae-ft", "random #0-ft"} <= {*pairs.model_a, *pairs.model_b}


@pytest.mark.slow
def test_paths_alone_need_no_images(
    tuned: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    models = [source for name, source in tuned.items() if name.endswith("-ft")]
    tables = compared(models, "finetune-path", tmp_path)
    assert set(tables["finetune-path/records"].model) == {"mae-ft", "moco-v3-ft", "random #0-ft"}
    differences = tables["finetune-path/differences"]
    assert (set(differences.less), set(differences.unlike)) == (
        {"JE", "control"},
        {""},
    )  # all of one recipe
    assert "random #0-ft: no pass over images" in capsys.readouterr().err
    asked = ["compare", *models, "--analyses", "finetune-path", "--out", str(tmp_path / "no")]
    assert main([*asked, "--images", "scenes:1:8", "--dry-run"]) == 0
    assert "control   pixels" not in capsys.readouterr().err  # which has no part in paths
    assert main([*asked, "--analyses", "finetune-path", "agreement"]) == 2
    assert "is no fingerprint, so images are needed: give --images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fingerprint_of_the_fine_tuned_control_is_a_model_of_the_study(
    tuned: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    kept = {}
    for name, source in (
        ("random", "random:vit_nano_patch8_32:0"),
        ("random-ft", tuned["random-ft"]),
    ):
        kept[name] = str(tmp_path / f"{name}.safetensors")
        assert (
            main(
                ["fingerprint", source, "--images", "scenes:1:8", "--batch", "8", "-o", kept[name]]
            )
            == 0
        )
    models = (kept["random"], kept["random-ft"], tuned["mae"])
    asked = Study(models, "scenes:1:8", ("cka-blocks",), batch=8, tokens=("all",), controls=False)
    planned = prepare(asked, Store(tmp_path / "store"), quiet=True)
    assert [(each.name, each.control) for each in planned.members] == [
        ("random #0-ft", False),
        ("mae", False),
        ("random #0", True),
    ]
