"""`sslens invariance`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.answers import Reply, answer_study
from sslens.arguments.options import Common, Text
from sslens.arguments.sizes import with_image_size
from sslens.arguments.spelling import name_for_title, name_subjects
from sslens.errors import InputError
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.study import Study

GROUP = "measure"


@dataclass(frozen=True)
class Command:
    """Measure what each layer of the models is blind to: flips, rotation, colour, place, detail.

    Of every transform and layer: how far it moves the features, as a share of how far apart two
    images are; CKA of the images with the altered images; how well a linear map follows it; and how
    well it is decoded what was done. Beside random initialisations and raw pixels, with intervals
    over images; on generated scenes beside the true factors. With joint embedding, reconstruction
    and a fine-tuned model claim C11 is judged. A pass over the images for each transform, and with
    --decode one more; what was passed is kept in the store.

    Transforms: horizontal-flip vertical-flip rotation shift scale hue grey contrast blur occlusion
    patch-shuffle; on request noise crop; each with another strength as rotation=45.

    Examples:
      sslens invariance mae_vitb16 dino_vitb16 --images photos
      sslens invariance runs/mae runs/dino --images photos --transforms horizontal-flip rotation=15
          rotation=45
      sslens invariance scenes_mae scenes_moco_v3 scenes_mae_ft --images scenes:1:1000 --no-decode
    """

    models: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL [MODEL ...]")
    ]
    """Models as sslens compare takes them; no fingerprints."""
    images: str | None = None
    """A folder (a class a subfolder, or flat), an index FILE.csv[:SPLIT] (path, label, split), an
    .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common(limit=1024)
    transforms: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[=STRENGTH] ...")] = ()
    """What is done to the images; the first eleven at their usual strengths unless given."""
    decode: bool = True
    """Also draw each transform for each image, by its id, and decode what was drawn."""
    controls: bool = True
    """Random initialisations of each architecture and raw pixels beside the models."""
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
    thumbnails: bool = True
    """Show small pictures of images on the page, where they are evidence."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the answer with the path of the report."""
    asked = check(command)
    asked.require_sources()
    return answer_study(
        asked,
        command.common.out or Path("sslens-invariance"),
        line=line,
        title=f"What {name_subjects(name_for_title(asked.models), 'is', 'are')} blind to",
        figures=command.figures,
        thumbnails=command.thumbnails,
        dry_run=command.common.dry_run,
        overwrite=command.common.overwrite,
        say=say,
    )


def check(command: Command) -> "Study":
    """The study that it is; what is known to be wrong without images and models is refused."""
    from sslens.study import Study
    from sslens.study.image_sets import choose_sample

    if not command.models:
        raise InputError("Give one or more models: sslens invariance MODEL MODEL --images DIR.")
    return Study(
        models=tuple(with_image_size(one, command.image_size) for one in command.models),
        images=command.images,
        analyses=("invariance",),
        limit=command.common.limit,
        sample=choose_sample(command.models, command.sample),
        controls=command.controls,
        batch=command.batch,
        seed=command.common.seed,
        on_bad=command.on_bad,
        device=command.common.device,
        precision=command.precision,
        transforms=command.transforms,
        decode=command.decode,
    )
