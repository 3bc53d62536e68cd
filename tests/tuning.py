"""A small model, images and settings that fine-tuning is tested with."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import sslens
from sslens.data.images import ImageSet, from_arrays
from sslens.methods import Rows
from sslens.models.backbone import Backbone
from sslens.tasks.classification import Settings, batch
from sslens.tasks.start import StartingPoint
from sslens.training.finetune import finetune
from sslens.training.schedule import Training

VIT = "random:vit_64x3_patch16_32:0"
LABELS = [i % 3 for i in range(24)]
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
IMAGES = from_arrays(PIXELS, LABELS, classes=["a", "b", "c"])
HELD = from_arrays(PIXELS[::-1][:10].copy(), LABELS[:10], classes=["a", "b", "c"], name="held")
SETTINGS = Settings(together=4, base_lr=0.05, warmup=0.25, drop_path=0.2, classes=("a", "b", "c"))
TRAINING = Training(
    epochs=3, batch_size=8, precision="float32", device="cpu", save_every=2, log_every=1
)
ROWS = Rows(seed=3, step=7, rows=slice(0, 8), total=8, labels=tuple(LABELS[:8]))


def model(source: str = VIT) -> Backbone:
    return sslens.load(source)


def fit(out: Path, source: str = VIT, images: ImageSet = IMAGES, **changed: Any) -> Path:
    more = {
        key: changed.pop(key)
        for key in ("resume", "overwrite", "held", "path", "watch")
        if key in changed
    }
    settings = dataclasses.replace(SETTINGS, **changed.pop("settings", {}))
    return finetune(
        model(source),
        images,
        out,
        settings=settings,
        training=dataclasses.replace(TRAINING, **changed),
        **more,
    )


def lines(out: Path, column: str) -> list[float]:
    said = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[column] for line in said if column in line]


def made(settings: Settings, rows: Rows = ROWS, source: str = VIT) -> dict[str, Tensor]:
    images = [IMAGES.image(row) for row in range(24)[rows.rows]]
    return batch(images, settings, StartingPoint.of(model(source)), rows)
