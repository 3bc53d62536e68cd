"""What `sslens pretrain` and `sslens finetune` do besides training: open held-out images for k-NN
and trackers, and write the report at the end."""

import contextlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sslens.arguments.training import TrainingOptions
from sslens.counts import spell_count
from sslens.errors import InputError

if TYPE_CHECKING:
    from sslens.data import ImageSet
    from sslens.training.curves import Judged
    from sslens.training.track import Tell
    from sslens.training.watch import HeldOut


#: what a training of a generator without held-out images lacks
WITHOUT_VAL = "Without --val nothing tells whether the features reach the images"


@dataclass(frozen=True)
class WatchOptions:
    """The options of every command that trains a network and looks at it meanwhile."""

    knn: str | None = None
    """Labelled images held out, for k-NN accuracy while the training runs: a fifth of them, by
    SHA-256 of their ids, is classified by the rest."""
    knn_bank: str | None = None
    """Labelled images that classify those of --knn, of which all are then classified."""
    knn_every: float | None = None
    """Epochs between looks at the encoder (k-NN, the rank of its features, and whether it makes the
    same of all images), for example 0.5; a twentieth of the run unless given."""
    states: bool = False
    """Also keep the Grams of 256 images of --knn, or of --images, at each look, and write at the
    end how alike every state was to the last one (CKA by layer), into states.csv."""


def open_held_out(
    options: WatchOptions,
    open_source: "Callable[[str], ImageSet]",
    say: Callable[[str], None] = lambda _: None,
) -> "HeldOut | None":
    """Open the images that k-NN classifies while a training runs, and the images that vote on them,
    without copies; `say` is told how many there were.

    Raises:
        InputError: a bank without images to classify, images without classes, or too few images.
    """
    from sslens.study.copies import leave_out_copies, leave_out_shared
    from sslens.training.watch import HeldOut

    if options.knn is None:
        if options.knn_bank is not None:
            raise InputError("--knn-bank classifies the images of --knn: give those too.")
        return None
    opened = open_source(options.knn)
    bank = None if options.knn_bank is None else open_source(options.knn_bank)
    images = leave_out_copies(opened)
    voting = leave_out_shared(leave_out_copies(bank), images, "give others as --knn-bank")
    for before, after in ((opened, images), (bank, voting)):
        if before is not None and after is not None:
            for note in after.doubts[len(before.doubts) :]:
                say(f"note      {note}")
    return HeldOut.split(images) if voting is None else HeldOut(images, voting)


def describe_overlap(held: "HeldOut", images: "ImageSet", *, learnt: bool) -> str:
    """Say how many of the classified images are also trained on; an empty text where none is.

    Args:
        held: the classified images and those that vote.
        images: the training images.
        learnt: whether the training learns their classes.
    """
    from sslens.data.copies import count_shared

    both = count_shared(held.queries, images)
    return (
        f"; {both:,} of them are also trained on, {'with' if learnt else 'without'} their classes,"
        " so that they are not unseen"
        if both
        else ""
    )


def describe_trained(held_out: "ImageSet", images: "ImageSet") -> str:
    """Say how many of the images of --val are also trained on; an empty text where none is."""
    from sslens.data.copies import count_shared

    both = count_shared(held_out, images)
    return (
        f"note      {both:,} of the {spell_count(len(held_out), 'image')} of --val are also trained"
        " on: what is measured on them says too much."
        if both
        else ""
    )


def describe_kept(
    out: Path, judged: "Judged | None" = None, held: "HeldOut | None" = None
) -> list[str]:
    """Say how good the last model is, first of all, by its classifier and by k-NN; then
    which models a run kept, which of them its folder stands for, and how straight the path of its
    weights was, where these are known.

    Args:
        out: the folder of the run.
        judged: the held-out images, for the interval of the accuracy.
        held: the images of k-NN, where they were measured.
    """
    from sslens.training.curves import describe_accuracy, describe_knn, read_last
    from sslens.training.folder import RunFolder
    from sslens.training.run_files import BEST, PATH

    lines = []
    log = RunFolder(out, {}).lines()
    looks = [line for line in log if "top1" in line]
    if looks:
        lines.append(f"top-1     {describe_accuracy(float(looks[-1]['top1']), judged)}")
    if held is not None:
        lines += [f"k-NN      {told}" for told in describe_knn(read_last(log), held)]
    if looks and (out / BEST).is_file():
        best, last = max(looks, key=lambda line: float(line["top1"])), looks[-1]
        top = [f"{float(line['top1']):.1%} after epoch {line['epoch']:g}" for line in (best, last)]
        if best is last:
            same = f"models    last.safetensors, which {out} stands for, is the best: {top[0]}"
            lines.append(f"{same}; {BEST} is the same")
        else:
            lines.append(
                f"models    {BEST}: {top[0]}; last.safetensors: {top[1]}, which {out} stands for in"
                f" other commands: give {out / BEST} for the best"
            )
    if (out / PATH).is_file():
        lines.append(_describe_path(out / PATH))
    return lines


def describe_reach(models: Sequence[str], val: str | None, count: int, out: Path) -> str:
    """Say whether the representation reaches the images of a generator, and what tells more.

    Args:
        models: as they were given.
        val: the images held out, as they were given.
        count: how many they are.
        out: the folder of the run.
    """
    from sslens.study.sampling import FEWEST
    from sslens.training.curves import JUDGE, describe_gain, does_reach, read_gain
    from sslens.training.folder import RunFolder

    gain = None if val is None else read_gain(RunFolder(out, {}).lines())
    if gain is not None and does_reach(gain) is False:
        return f"gain      {describe_gain(gain)}"
    told = f"note      {WITHOUT_VAL}; {JUDGE}"
    if gain is not None:
        told = f"gain      {describe_gain(gain).removesuffix('.')}"
    words = ["sslens", "compare", *models, "--images", str(val) if count >= FEWEST else "DIR"]
    words += ["--analyses", "samples", "--generator", str(out)]
    return f"{told}: {shlex.join(words)}"


def _describe_path(path: Path) -> str:
    """How straight the weights moved, and how far, by the last record of `path.csv`."""
    import pandas as pd

    from sslens.paths.tables import count_moves

    rows = pd.read_csv(path)
    last = rows[rows.record == rows.record.max()].set_index("group")
    parts = [
        f"{group} {last.straightness[group]:.2f}"
        for group in ("backbone", "attention")
        if group in last.index and last.straightness[group] == last.straightness[group]
    ]
    if not parts:
        return f"path      the weights did not move; {path}"
    moved = f"; the weights moved by {last.relative['backbone']:.2%} of their norm"
    if count_moves(rows) == 1:
        return f"path      one move, which is straight by definition{moved}; {path}"
    return (
        f"path      straightness over {spell_count(rows.record.max(), 'epoch')}, 1 for a straight"
        f" path: {', '.join(parts)}{moved if 'backbone' in last.index else ''}; {path}"
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


def write_report(
    out: Path,
    name: str,
    line: str,
    what: str = "Pre-training",
    judged: "Judged | None" = None,
    held: "HeldOut | None" = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the report of a run that is over, from its folder; returns the report's path.

    Args:
        out: the folder of the run.
        name: the model's name.
        line: what was typed.
        what: what was done, for the title.
        judged: the images that a classifier's accuracy is of.
        held: the images of k-NN.
        notes: what a reader must know first, before the warnings of the log.
    """
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
        curves.write_caption(table),
        curves.findings(table, judged, held),
        Results({"curves": table}),
        curves.draw(table),
    )
    return report.write(
        out / "report",
        title=f"{what} of {name}",
        sections=[section],
        notes=(*notes, *curves.warnings(lines)),
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
