"""`sslens compare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.answers import Reply, answer_study
from sslens.arguments.options import Common, Text
from sslens.arguments.sizes import with_image_size
from sslens.errors import InputError
from sslens.slurm import Slurm
from sslens.zoo.globs import expand_globs

if TYPE_CHECKING:
    from sslens.study import Study

GROUP = "compare"


@dataclass(frozen=True)
class Command:
    """Compare models on images: one report with CKA by block and layer type, and k-NN by depth.

    A MODEL is a name that sslens zoo lists, a checkpoint file, a folder of sslens pretrain, a
    fingerprint, timm:NAME, hf-hub:ID, random:NAME[:SEED], pixels, or MODULE:FUNCTION, which returns
    a network of your own. Under torchrun the same command uses all its processes.

    Examples:
      sslens compare dino_vitb16 mae_vitb16 runs/mine --images photos
      sslens compare runs/mae runs/moco-v3 --images photos/val --bank photos/train
      sslens compare runs/mae dino.fingerprint.safetensors --images photos
      sslens compare *.fingerprint.safetensors
    """

    models: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL [MODEL ...]")
    ]
    """Models to compare."""
    images: str | None = None
    """A folder (a class a subfolder, or flat), an index FILE.csv[:SPLIT] (path, label, split), an
    .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]; fingerprints and paths of fine-tuning
    want none."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common(limit=1024)
    bank: str | None = None
    """Labelled images that vote in k-NN and train probes; without it k-NN leaves one out, and half
    the images train."""
    sample: Literal["plain", "stratified"] | None = None
    """How a limit draws images: stratified, with the classes in proportion (whole classes where
    there would be fewer than 20 images a class); or plain, by their ids alone, as fingerprints are
    made. Stratified unless given, but for fingerprints."""
    analyses: tuple[str, ...] = ()
    """Which analyses, with spaces or commas between; unless given all that have something to show,
    but for the costly ones (see docs/exhibits.md)."""
    tokens: tuple[Literal["all", "cls", "patch"], ...] = ("all", "cls")
    """Which tokens CKA compares: all of them, flattened; the CLS token; the patch
    tokens."""
    taps: tuple[Literal["norm2"], ...] = ()
    """Layers that CKA compares beside the usual ones: norm2, the normalisation after attention."""
    side: int | None = None
    """Side in pixels of the images that models see in dense-depth; each model's usual one unless
    given."""
    generator: str | None = None
    """A folder of sslens rcdm train, or a file, that makes the images of the analysis samples."""
    controls: bool = True
    """Random initialisations of each architecture and raw pixels beside the models."""
    batch: int = 32
    """Images in a minibatch of CKA."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    image_size: int | None = None
    """Side in pixels of the square images that a model sees, if not the usual one; positions are
    resampled."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass; auto is bfloat16 where the device computes faster with it, else float32.
    Grams are float32."""
    grid: Literal["converged", "paper", "small"] = "converged"
    """How probes are trained: to their optimum, at the papers' 216 settings, or at 8 of them."""
    groups: tuple[str, ...] = ()
    """Two groups of models, each as NAME=MODEL,MODEL: claims are about these instead of the
    families of objectives, the first in the role of joint embedding."""
    any_transform: bool = False
    """Compare fingerprints also where their models saw other parts of the images, or resampled
    otherwise."""
    require_blurred: bool = False
    """Take only images in which faces are blurred, as sslens blur-faces wrote them."""
    figures: bool = False
    """Draw each figure for paper too, as SVG and PDF; what is in the store is not computed anew."""
    thumbnails: bool = True
    """Show small pictures of images on the page, where they are evidence."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the answer with the path of the report."""
    asked = check(command)
    asked.require_sources()
    return answer_study(
        asked,
        command.common.out or Path("sslens-report"),
        line=line,
        say=say,
        figures=command.figures,
        thumbnails=command.thumbnails,
        dry_run=command.common.dry_run,
        overwrite=command.common.overwrite,
    )


def check(command: Command) -> "Study":
    """The study that it is; what is known to be wrong without images and models is refused."""
    from sslens.study import Study
    from sslens.study.groups import parse_group_words
    from sslens.study.image_sets import choose_sample

    if len(command.models) < 1:
        raise InputError("Give one or more models: sslens compare MODEL MODEL --images DIR.")
    models = expand_globs(command.models)
    return Study(
        models=tuple(with_image_size(one, command.image_size) for one in models),
        images=command.images,
        analyses=tuple(name for words in command.analyses for name in words.split(",") if name),
        bank=command.bank,
        limit=command.common.limit,
        sample=choose_sample(command.models, command.sample),
        controls=command.controls,
        batch=command.batch,
        seed=command.common.seed,
        on_bad=command.on_bad,
        require_blurred=command.require_blurred,
        device=command.common.device,
        precision=command.precision,
        tokens=command.tokens,
        taps=command.taps,
        side=command.side,
        generator=command.generator,
        any_transform=command.any_transform,
        grid=command.grid,
        groups=parse_group_words(command.groups),
    )
