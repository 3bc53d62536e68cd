"""The reference models that come with the package: which they are, their trainings, and their files and cards.

    python runs/scenes/make.py command               # the `sslens pretrain` of each
    python runs/scenes/make.py train scenes_mae --out DIR    # on one core; goes on where DIR/scenes_mae has a state
    python runs/scenes/make.py judge --out DIR       # 20-NN of each, of raw pixels and of random weights, with intervals
    python runs/scenes/make.py pack --out DIR        # float16 weights and cards into the package, logs beside this file
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ARCH, IMAGES = "vit_mini_patch8_32", "scenes:0:50000"
#: scenes of other seeds are other scenes
BANK, QUERIES = "scenes:2:8000", "scenes:1:2000"
PACKAGE = Path(__file__).parents[2] / "src/sslens/cards"
HERE = Path(__file__).parent

#: at 32 px a blur of up to 2 px leaves no outline; grey, so that colour does not tell which views are of one scene
VIEWS = {"jitter": 0.5, "grey": 0.8, "blur": 0.3, "solarise": 0}
MOCO = {
    "head_dim": 512,
    "out_dim": 128,
    "temperature": 0.2,
    "crop_low": 0.5,
    "freeze_patches": "false",
    "base_lr": 2e-3,
    "weight_decay": 0.05,
    "warmup": 0.03,
} | VIEWS
DINO = {
    "prototypes": 1024,
    "head_dim": 512,
    "out_dim": 128,
    "drop_path": 0,
    "base_lr": 1e-3,
    "last_weight_decay": 0.1,
    "warmup": 0.05,
} | VIEWS
MSN: dict[str, object] = {"prototypes": 256, "head_dim": 512, "out_dim": 128}
MAE = {"decoder_dim": 64, "decoder_blocks": 2, "decoder_heads": 2, "base_lr": 2e-3}


@dataclass(frozen=True)
class Reference:
    """One training, by the words of `sslens pretrain`."""

    objective: str
    title: str
    paper: tuple[str, str]
    settings: dict[str, object]
    epochs: int
    seed: int = 0
    notes: tuple[str, ...] = field(default=())

    def command(self, out: Path) -> list[str]:
        """`python -m sslens pretrain …` into a folder."""
        words = ["-m", "sslens", "pretrain", self.objective, "--images", IMAGES, "--arch", ARCH, "--epochs", self.epochs]
        words += ["--batch-size", 128, "--seed", self.seed, "--precision", "bfloat16", "--device", "cpu"]
        words += ["--knn", QUERIES, "--knn-bank", BANK, "--knn-every", 1, "--out", out, "--resume"]
        words += ["--set", *(f"{key}={value}" for key, value in self.settings.items())]
        return [str(word) for word in words]


PAPERS = {
    "moco-v3": ("2104.02057", "An Empirical Study of Training Self-Supervised Vision Transformers"),
    "dino": ("2104.14294", "Emerging Properties in Self-Supervised Vision Transformers"),
    "msn": ("2204.07141", "Masked Siamese Networks for Label-Efficient Learning"),
    "mae": ("2111.06377", "Masked Autoencoders Are Scalable Vision Learners"),
    "supervised": ("2012.12877", "Training data-efficient image transformers & distillation through attention"),
}
