"""`sslens features`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.answers import Reply
from sslens.arguments.options import Text
from sslens.arguments.sizes import with_image_size
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.study.storing import FeatureRequest

GROUP = "measure"
#: images that will do
FEWEST = 1


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
    """As sslens compare takes it: the name of a card, a file, a folder of sslens pretrain,
    timm:NAME, random:NAME[:SEED] or MODULE:FUNCTION."""
    images: str
    """A folder (a class a subfolder, or flat), an index FILE.csv[:SPLIT] (path, label, split), an
    .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The folder; what it holds already of the same features is not computed again."""
    taps: tuple[str, ...] = ()
    """Which layers, by name, such as blocks.11; the outputs of all blocks and the final norm unless
    given."""
    poolings: tuple[Literal["cls", "mean", "patch"], ...] = ()
    """The CLS token, the mean of all tokens (or of a CNN's map), the mean of the patch tokens; all
    there are unless given."""
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
    image_size: int | None = None
    """Side in pixels of the square images that the model sees, if not the usual one; positions are
    resampled."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass; auto is bfloat16 where the device computes faster with it, else
    float32."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    dry_run: bool = False
    """Check all that the run would check, print the plan and its cost, and stop."""
    overwrite: bool = False
    """Replace other features in --out: their own files go first, and no others."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the folder with what it holds."""
    from sslens.study import storing

    folder = storing.run(
        check(command), dry_run=command.dry_run, overwrite=command.overwrite, say=say
    )
    if folder is None:
        return None
    from sslens.capture.manifest import Manifest

    held = Manifest.read(folder)
    columns = [
        {"tap": tap, "pooling": pooling, "width": width}
        for (tap, pooling), width in held.columns.items()
    ]
    facts = {"model": dict(held.model), "images": dict(held.images), "classes": list(held.classes)}
    return Reply({**facts, "columns": columns, "dtype": held.dtype}, folder)


def check(command: Command) -> "FeatureRequest":
    """What is asked; what is known to be wrong without images and models is refused."""
    from sslens.study.storing import FeatureRequest

    asked = {
        name: value
        for name, value in vars(command).items()
        if name not in ("dry_run", "overwrite", "slurm", "image_size")
    }
    asked["model"] = with_image_size(command.model, command.image_size)
    return FeatureRequest(**asked)
