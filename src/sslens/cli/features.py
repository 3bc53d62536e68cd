"""`sslens features`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sslens.arguments.options import Text
from sslens.errors import InputError
from sslens.slurm import Slurm


@dataclass(frozen=True)
class Command:
    """Store the features of a model over images: all taps and poolings, in one pass, whatever the
    number of images.

    Of every block and of the final norm the CLS token, the mean of all tokens and the mean of the
    patch tokens, in files of 2,048 images. The same command goes on where it was stopped or killed,
    and a file at most is computed again. Under torchrun the processes share the files. sslens knn
    and sslens probe read the folder; so does sslens.open_features in Python.

    Examples:
      sslens features dino_vitb16 --images photos/train --out features/dino --dry-run
      sslens features dino_vitb16 --images photos/train --out features/dino
      sslens features runs/mae --images photos/train --out features/mae --taps blocks.5 blocks.11
          --poolings cls
      torchrun --nproc-per-node 8 -m sslens features dino_vitb16 --images photos/train --out
          features/dino
    """

    model: tyro.conf.Positional[str]
    """As sslens compare takes it: the name of a card, a file, a folder of sslens pretrain, timm:NAME or random:NAME[:SEED]."""
    images: str
    """A folder (a class a subfolder, or flat), an .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The folder; what it holds already of the same features is not computed again."""
    taps: tuple[str, ...] = ()
    """Which layers, by name, such as blocks.11; the outputs of all blocks and the final norm unless given."""
    poolings: tuple[Literal["cls", "mean", "patch"], ...] = ()
    """The CLS token, the mean of all tokens (or of a CNN's map), the mean of the patch tokens; all there are unless given."""
    dtype: Literal["float16", "float32"] = "float16"
    """float16 holds 11 bits of values up to 65,504, and what it cannot hold is an error."""
    shard: int | None = None
    """Images in a file; 2,048 unless given."""
    batch: int = 64
    """Images in a forward pass."""
    seed: int = 0
    """Of the order of the images, and of those drawn with --limit."""
    limit: int | None = None
    """Images taken at most, drawn by their ids and the seed; all unless given."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    dry_run: bool = False
    """Print the plan and its size, and stop."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def check(command: Command) -> None:
    """Refuse what can be known to be wrong before anything heavy is imported."""
    from sslens import zoo

    zoo.check(command.model)
    if command.out.exists() and not command.out.is_dir():
        raise InputError(
            f"{command.out} is a file: features are stored in a folder, give another --out."
        )
    for name, value in (("--batch", command.batch), ("--shard", command.shard)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}: give 1 or more.")


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the folder."""
    check(command)
    from sslens import zoo
    from sslens.capture.shards import describe, fill, require_folder
    from sslens.data import open_images
    from sslens.processes import best_device, best_precision, processes
    from sslens.progress import progress
    from sslens.store import Store, home

    with processes(best_device(command.device)) as process:
        model = zoo.load(command.model)
        with progress("checking images", quiet=not process.first) as report:
            images = open_images(
                command.images,
                limit=command.limit,
                seed=command.seed,
                on_bad=command.on_bad,
                minimum=1,
                progress=report,
            )
        wanted = describe(
            model,
            images,
            taps=command.taps or None,
            poolings=command.poolings or None,
            dtype=command.dtype,
            shard=command.shard,
            precision=best_precision(command.precision, process.device),
            folder=command.out,
        )
        missing = require_folder(command.out, wanted)
        if process.first:
            size = len(images) * wanted.row_bytes
            transform = model.transform
            say(
                f"model     {model.name}, {len(wanted.taps)} taps, {len(wanted.columns)} taps and"
                f" poolings\nimages    {len(images):,} of {images.name}"
                f" ({images.content[:12]})\nseen as   {transform.crop} of {transform.resize} px,"
                f" {transform.interpolation}; {wanted.precision}\nsize      {size / 1e9:.3g} GB:"
                f" {wanted.row_bytes / 1e3:.3g} kB an image in {wanted.dtype}, {wanted.count} files"
                f" of {wanted.shard:,} images\npass      {len(missing)} of {wanted.count} files to"
                f" be made, on {process.device}"
            )
            for name, reason in images.skipped[:20]:
                say(f"note      {name} could not be decoded and was left out ({reason})")
        if command.dry_run:
            return None
        with progress(model.name, quiet=not process.first) as report:
            fill(
                command.out,
                wanted,
                missing,
                model,
                images,
                batch=command.batch,
                device=process.device,
                store=Store(home() / "store"),
                progress=report,
            )
        return command.out if process.first else None
