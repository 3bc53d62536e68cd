"""`sslens diff`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.answers import Reply, answer_study
from sslens.arguments.options import Common, Text
from sslens.arguments.sizes import with_image_size
from sslens.arguments.spelling import name_for_title
from sslens.errors import InputError
from sslens.zoo.globs import expand_globs

if TYPE_CHECKING:
    from sslens.study import Study

GROUP = "compare"

#: what is computed of the weights, and beside that where there are images
OF_WEIGHTS = ("weights-changed",)
OF_IMAGES = ("layers-changed", "images-moved")


@dataclass(frozen=True)
class Command:
    """Say what changed between two checkpoints: keys, shapes, number types, and by layer how far
    the weights went.

    Copies of one network are compared under one set of names, whoever wrote them: official files,
    Hugging Face's, timm's, ours. With images also: which layer is the first that computes something
    else, CKA and k-NN by depth, predictions that moved, and the images that moved most. Without
    images no network is built.

    Examples:
      sslens diff mae_pretrain_vit_base.pth runs/tuned/last.safetensors
      sslens diff dino_vitb16 converted/model.safetensors --images photos
      sslens diff run/step_1000.safetensors run/step_2000.safetensors
      sslens diff dino_full.pth@branch=student dino_full.pth@branch=teacher
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="A B")]
    """Two models as sslens compare takes them, but no fingerprints; more are held against the
    first."""
    images: str | None = None
    """A folder (a class a subfolder, or flat), an index FILE.csv[:SPLIT] (path, label, split), an
    .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]."""
    bank: str | None = None
    """Labelled images that vote in k-NN; each image is classified by the others unless given."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common(limit=1024)
    sample: Literal["plain", "stratified"] | None = None
    """How a limit draws images, as for sslens compare: stratified by class unless given."""
    batch: int = 32
    """Images in a minibatch of CKA."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    image_size: int | None = None
    """Side in pixels of the square images that a model sees, if not the usual one; positions are
    resampled."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass; auto is bfloat16 where the device computes faster with it, else
    float32."""
    figures: bool = False
    """Draw each figure for paper too, as SVG and PDF."""


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the answer with the path of the report."""
    asked = check(command)
    asked.require_sources()
    first, *others = name_for_title(asked.models)
    return answer_study(
        asked,
        command.common.out or Path("sslens-diff"),
        line=line,
        title=f"What changed from {first} to {', '.join(others)}",
        figures=command.figures,
        dry_run=command.common.dry_run,
        overwrite=command.common.overwrite,
        say=say,
    )


def check(command: Command) -> "Study":
    """The study that it is; what is known to be wrong without images and models is refused."""
    from sslens.study import Study
    from sslens.study.image_sets import choose_sample

    models = expand_globs(command.models)
    if len(models) < 2:
        raise InputError("Give two checkpoints: sslens diff A B.")
    if command.bank is not None and command.images is None:
        raise InputError("A bank votes on images, and there are none", mend="give {images} too")
    if command.image_size is not None and command.images is None:
        raise InputError("Weights alone see no images", mend="leave {image_size} out")
    return Study(
        models=tuple(with_image_size(one, command.image_size) for one in models),
        images=command.images,
        analyses=OF_WEIGHTS + (OF_IMAGES if command.images is not None else ()),
        bank=command.bank,
        limit=command.common.limit,
        sample=choose_sample(command.models, command.sample),
        controls=False,
        batch=command.batch,
        seed=command.common.seed,
        on_bad=command.on_bad,
        device=command.common.device,
        precision=command.precision,
        tokens=("all",),
    )
