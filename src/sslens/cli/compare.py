"""`sslens compare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sslens.cli._options import Common, Text
from sslens.errors import InputError


@dataclass(frozen=True)
class Command:
    """Compare models on images: one report with CKA by block and layer type, and k-NN by depth.

    A MODEL is a folder or file of sslens pretrain, timm:NAME, or random:NAME[:SEED].

    Examples:
      sslens compare runs/mae runs/moco-v3 --images photos/val
      sslens compare timm:vit_base_patch16_224.mae timm:vit_base_patch16_224.dino --images photos --limit 1024
      sslens compare runs/mae random:vit_mini_patch8_64 --images scenes --dry-run
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL [MODEL ...]")]
    """Models to compare."""
    images: str
    """A folder (a class a subfolder, or flat), an .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common(limit=1024)
    bank: str | None = None
    """Labelled images whose neighbours vote in k-NN; without it each image is classified by all others."""
    analyses: tuple[str, ...] = ()
    """Which analyses; all of them unless given."""
    controls: bool = True
    """Random initialisations of each architecture and raw pixels beside the models."""
    batch: int = 32
    """Images in a minibatch of CKA."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of the forward pass; Grams are float32."""


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the path of the report."""
    from sslens import study

    if len(command.models) < 1:
        raise InputError("Give one or more models: sslens compare MODEL MODEL --images DIR.")
    asked = study.Study(
        models=command.models,
        images=command.images,
        analyses=command.analyses,
        bank=command.bank,
        limit=command.common.limit,
        controls=command.controls,
        batch=command.batch,
        seed=command.common.seed,
        on_bad=command.on_bad,
        device=command.common.device,
        precision=command.precision,
    )
    out = command.common.out or Path("sslens-report")
    return study.run(asked, out, command=line, dry_run=command.common.dry_run, say=say)
