"""A new objective is its file and its recipe: dropped into the package, it is found and tested."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sslens
from sslens.methods import Rows
from sslens.models.vit import ViTArch

OBJECTIVE = '''"""Predict the colours of an image, with a loss near two hundred at first (after
He et al., 2022, arXiv:2111.06377)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from sslens.data.views import mae_views
from sslens.methods import Batch, Moment, Rows
from sslens.methods.parameters import group_by_decay
from sslens.methods.schedules import warmup_cosine
from sslens.models.vit import ViTArch

FAMILY = "REC"
KINDS = ("vit",)


@dataclass(frozen=True)
class Settings:
    """No paper's.

    | | papers | released code | here |
    |---|---|---|---|
    | base lr | – | – | 1.5e-4 |
    """

    width: int = 1024
    base_lr: float = 1.5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 0.05


def batch(
    images: Sequence[Image.Image], settings: Settings, arch: ViTArch, rows: Rows
) -> dict[str, Tensor]:
    """One view of each image."""
    (view,) = mae_views(arch.image_size).batch(images, **rows.keywords())
    return {"view": view}


@final
class Objective(nn.Module):
    """A ViT, and two layers that predict the image's mean colour from the mean of the patches."""

    whole_batch: ClassVar[bool] = False
    divisible: ClassVar[bool] = True

    def __init__(self, arch: ViTArch, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = arch.build()
        self.head = nn.Sequential(
            nn.Linear(arch.dim, settings.width), nn.GELU(), nn.Linear(settings.width, 3)
        )

    def forward(self, batch: Batch) -> Float[Tensor, ""]:
        """200 times one minus the cosine of the predicted and the true colour."""
        predicted = self.head(self.encoder.forward_features(batch["view"])[:, 1:].mean(1))
        colour = batch["view"].mean((2, 3))
        return 200 * (1 - F.cosine_similarity(predicted.float(), colour.float())).mean()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Vectors are not decayed."""
        return group_by_decay(self.parameters())

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """A linear warm-up, then half a cosine to 0; constant weight decay."""
        return warmup_cosine(at.progress, self.settings.warmup, peak), self.settings.weight_decay
'''
RECIPE = '''"""Recipes of the prediction of colours."""

from dataclasses import dataclass, field

from sslens.objectives.colours import Settings


@dataclass(frozen=True)
class Official:
    """There is no released code."""

    epochs: int = 10
    batch_size: int = 256
    settings: Settings = field(default=Settings())
'''
#: of the contract, of a run's folder, of killed runs, of parts, and of processes that are joined as
#: torchrun joins them
TESTS = (
    "test_the_objective_is_a_method",
    "test_the_loss_is_a_finite_float32_scalar",
    "test_views_are_a_pure_function_whose_rows_concatenate",
    "test_a_run_is_the_steps_that_its_method_says",
    "test_killed_twice_a_run_ends_with_the_same_weights",
    "test_a_step_in_parts_is_the_step",
    "test_two_processes_train_as_one",
    "test_a_recipe_is_frozen_says_its_source_and_can_be_trained",
    "test_a_trial_is_of_kinds_that_the_objective_trains",
)


def package_with(tmp_path: Path, files: dict[str, str]) -> Path:
    """A folder with this package as it is, and with more files; all that is not new is linked."""
    source, made = Path(sslens.__file__).parent, tmp_path / "sslens"
    folders = {Path(name).parent.name for name in files}
    made.mkdir()
    for path in source.iterdir():
        if path.name not in folders | {"__pycache__"}:
            (made / path.name).symlink_to(path)
    for folder in folders:
        (made / folder).mkdir()
        for path in (source / folder).glob("*.py"):
            (made / folder / path.name).symlink_to(path)
    for name, text in files.items():
        (made / name).write_text(text)
    return tmp_path


@pytest.mark.slow
def test_a_dropped_objective_is_found_by_the_tests_and_keeps_the_contract(tmp_path: Path) -> None:
    files = {"objectives/colours.py": OBJECTIVE, "recipes/colours.py": RECIPE}
    folder, tests = package_with(tmp_path, files), Path(__file__).parent
    chosen = [str(tests / f"test_{name}.py") for name in ("objectives", "training", "recipes")]
    options = ["-k", "colours", "-n", "0", "-p", "no:cacheprovider", "-vv"]
    options += ["-m", "slow or not slow"]  # processes that train together are slow
    found = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *chosen],
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        cwd=tests.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]
    passed = set(re.findall(r"::(test_\w+)\[\S*\] PASSED", found.stdout))
    assert set(TESTS) <= passed, found.stdout[-3000:]


def test_the_dropped_objective_has_a_loss_near_200(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an absolute tolerance of 0.05 in bfloat16 would refuse it."""
    path = tmp_path / "colours.py"
    path.write_text(OBJECTIVE)
    spec = importlib.util.spec_from_file_location("colours", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "colours", module)
    spec.loader.exec_module(module)
    arch = ViTArch(image_size=32, patch_size=8, dim=64, blocks=2, heads=2)
    noise = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    torch.manual_seed(0)
    objective = module.Objective(arch, module.Settings(width=256))
    batch = module.batch(images, objective.settings, arch, Rows(3, 7, slice(0, 8), 8))
    loss = objective(batch).item()
    with torch.autocast("cpu", torch.bfloat16):
        low = objective(batch).item()
    assert 100 < loss < 400
    assert abs(low - loss) > 0.05, (low, loss)
