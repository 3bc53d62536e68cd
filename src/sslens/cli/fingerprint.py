"""`sslens fingerprint`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.answers import Reply
from sslens.arguments.options import Text
from sslens.arguments.sizes import with_image_size
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.study.fingerprinting import FingerprintRequest

GROUP = "compare"


@dataclass(frozen=True)
class Command:
    """Write what a model makes of images as one small file: it is compared later with other models,
    on any machine.

    The file holds the model's Grams: the similarities of the images to each other at every layer,
    and neither images nor weights. sslens compare takes such files wherever it takes models; they
    must be of the same images, --limit, --batch and --seed. Released models resample images
    differently: give one --interpolation to all, and what differs is the models.

    Examples:
      sslens fingerprint mae_vitb16 --images photos/val
      sslens fingerprint moco_v3_vitb16 --images photos/val --interpolation bicubic --half -o
          shared/moco.safetensors
      sslens compare mae_vitb16.fingerprint.safetensors shared/moco.safetensors
    """

    model: tyro.conf.Positional[str]
    """As sslens compare takes it: the name of a card, a file, a folder of sslens pretrain,
    timm:NAME, random:NAME[:SEED] or MODULE:FUNCTION."""
    images: str
    """A folder (a class a subfolder, or flat), an index FILE.csv[:SPLIT] (path, label, split), an
    .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file; NAME.fingerprint.safetensors here unless given."""
    tokens: tuple[Literal["all", "cls", "patch"], ...] = ("all",)
    """Of which tokens: all (flattened), the CLS token, the patch tokens; one file
    holds several."""
    half: bool = False
    """float16, half the size, for sharing; CKA over minibatches of 32 changes by less than 5e-5."""
    taps: tuple[str, ...] = ()
    """Which layers, by name, such as blocks.11; all of them unless given. norm2 adds the
    normalisations after attention to all."""
    interpolation: Literal["own", "bicubic", "bilinear"] = "own"
    """How images are resampled: as the model's own transform has it, or in one way for all."""
    batch: int = 32
    """Images in a minibatch of CKA."""
    seed: int = 0
    """Of the images drawn and the minibatches."""
    limit: int | None = 1024
    """Images taken at most, drawn by their ids and the seed; None takes all."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one."""
    image_size: int | None = None
    """Side in pixels of the square images that the model sees, if not the usual one; positions are
    resampled."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass; auto is bfloat16 where the device computes faster with it, else float32.
    Grams are float32."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    dry_run: bool = False
    """Check all that the run would check, print the plan and its cost, and stop."""
    overwrite: bool = False
    """Replace another fingerprint in --out; any other file stays."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the path of the fingerprint with what it holds, but for processes that
    are not the first."""
    from sslens.study import fingerprinting

    path = fingerprinting.run(
        check(command), dry_run=command.dry_run, overwrite=command.overwrite, say=say
    )
    if path is None:
        return None
    from sslens.fingerprint import read

    return Reply(read(path).to_json(), path)


def check(command: Command) -> "FingerprintRequest":
    """What is asked; what is known to be wrong without images and models is refused."""
    from sslens.study.fingerprinting import FingerprintRequest

    asked = {
        name: value
        for name, value in vars(command).items()
        if name not in ("dry_run", "overwrite", "slurm", "image_size")
    }
    asked["model"] = with_image_size(command.model, command.image_size)
    return FingerprintRequest(**asked)
