"""What `sslens pretrain` and `sslens finetune` do besides training: open held-out images for k-NN
and trackers, and write the report at the end."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sslens.arguments.training import TrainingOptions
from sslens.errors import InputError

if TYPE_CHECKING:
    from sslens.data import ImageSet
    from sslens.training.track import Tell
    from sslens.training.watch import HeldOut


def open_held_out(
    source: str | None, bank: str | None, open_source: "Callable[[str], ImageSet]"
) -> "HeldOut | None":
    """Open the images that k-NN classifies while a training runs, and the images that vote on them.

    Raises:
        InputError: a bank without images to classify, images without classes, or too few images.
    """
    from sslens.training.watch import HeldOut

    if source is None:
        if bank is not None:
            raise InputError("--knn-bank classifies the images of --knn: give those too.")
        return None
    images = open_source(source)
    return HeldOut.split(images) if bank is None else HeldOut(images, open_source(bank))


def describe_overlap(held: "HeldOut", images: "ImageSet", *, learnt: bool) -> str:
    """Say how many of the classified images are also trained on; an empty text where none is.

    Args:
        held: the classified images and those that vote.
        images: the training images.
        learnt: whether the training learns their classes.
    """
    both = len(held.queries.contents & images.contents)
    return (
        f"; {both:,} of them are also trained on, {'with' if learnt else 'without'} their classes,"
        " so that they are not unseen"
        if both
        else ""
    )


def require_trackers(options: TrainingOptions) -> None:
    """Refuse trackers that are not installed, before anything is computed.

    Raises:
        InputError: a tracker that is asked for is not installed.
    """
    from sslens.training import track

    for wanted in ("tensorboard", "wandb"):
        if getattr(options, wanted):
            track.import_tracker(wanted)


def open_trackers(
    stack: contextlib.ExitStack,
    options: TrainingOptions,
    out: Path,
    name: str,
    config: dict[str, object],
) -> "tuple[Tell, ...]":
    """Open what sends the log's lines elsewhere; the stack closes it."""
    from sslens.training import track

    tell = (
        [stack.enter_context(track.tensorboard(out / "tensorboard"))] if options.tensorboard else []
    )
    return (
        *tell,
        *([stack.enter_context(track.wandb(out, name, config))] if options.wandb else []),
    )


def write_report(out: Path, name: str, line: str, what: str = "Pre-training") -> Path:
    """Write the report of a run that is over, from its folder; returns the report's path."""
    import platform

    import torch

    from sslens import __version__
    from sslens.report import page as report
    from sslens.table import Results
    from sslens.training import curves
    from sslens.training.folder import RunFolder

    lines = RunFolder(out, {}).lines()
    table = curves.compute(lines)
    section = report.Section(
        "training",
        curves.TITLE,
        curves.CAPTION,
        curves.findings(table),
        Results({"curves": table}),
        curves.draw(table),
    )
    return report.write(
        out / "report",
        title=f"{what} of {name}",
        sections=[section],
        notes=curves.warnings(lines),
        command=line,
        study=(out / "config.yaml").read_text(encoding="utf-8"),
        provenance={
            "versions": {
                "sslens": __version__,
                "torch": torch.__version__,
                "Python": platform.python_version(),
            }
        },
    )
