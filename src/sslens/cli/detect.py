"""`sslens detect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.answers import Reply, answer_study
from sslens.arguments.declared import require_words
from sslens.arguments.options import Common, Text
from sslens.arguments.spelling import name_for_title, name_subjects
from sslens.data.sources import require_source
from sslens.errors import InputError
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.study import Study

GROUP = "measure"

#: generated scenes: those that train detectors, and those in which detectors are judged
TRAIN, VAL = "scenes-detection:0:2000", "scenes-detection:1:500"


@dataclass(frozen=True)
class Command:
    """Compare what models know about place: a detector is trained on each, and finds boxes and
    masks of large and of small objects.

    The network stays as it is (Mask R-CNN with ViTDet's pyramid is trained on its last block's
    maps); with --finetune detectors are also trained end to end, and with --blocks on several
    blocks joined. The papers' Tables 6 and 7 and Figure 7, with intervals over images and, beside
    the models, a frozen random initialisation and raw pixels. Without --coco generated scenes are
    used. What was trained is kept in the store: a command that was stopped goes on from there.

    Examples:
      sslens detect mae_vitb16 dino_vitb16 --coco coco annotations/instances_train2017.json
          annotations/instances_val2017.json --dry-run
      sslens detect runs/mae runs/dino --coco photos train.json val.json --heads small --set
          size=256
      sslens detect scenes_mae scenes_dino --finetune
      sslens detect mae_vitb16 moco_v3_vitb16 --coco coco train.json val.json --blocks 8 9 10 11
      torchrun --nproc-per-node 8 -m sslens detect mae_vitb16 --coco coco train.json val.json
    """

    models: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL [MODEL ...]")
    ]
    """Models as sslens compare takes them."""
    coco: Annotated[
        tuple[str, str, str] | None, tyro.conf.arg(metavar="IMAGES TRAIN.json VAL.json")
    ] = None
    """A folder of images (or of folders such as train2017 and val2017), and two annotation files of
    COCO's format: detectors are trained on the first and judged on the second."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    finetune: bool = False
    """Also train the networks themselves, end to end."""
    blocks: tuple[int, ...] = ()
    """Also train detectors on these blocks of the frozen networks joined, counted from 0: the
    papers' are 8 9 10 11 of twelve."""
    dense: bool = False
    """Also dense probes of every block: segmentation of the same images by k-NN and linear
    probes."""
    heads: Literal["small", "vitdet"] | None = None
    """vitdet: as published, 4 s of CPU an image and step; small: for scenes and small images.
    vitdet with --coco, else small, unless given."""
    epochs: int | None = None
    """Passes over the training images; 100 with the heads vitdet, 24 with small, unless given."""
    batch_size: int | None = None
    """Images of a step; 64 with the heads vitdet, 16 with small, unless given."""
    accumulate: int | None = None
    """Parts in which each process computes its share of a step, for less memory; the numbers are
    almost and not exactly the same."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the trainings; auto is float32 on a CPU and bfloat16 on a GPU that has it. A CPU with
    matrix instructions for bfloat16 trains 1.4 times as fast with it."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Settings, e.g. size=512, scales=[0.5,1], base_lr=4e-4, layer_decay=0.8, window=0,
    workers=4."""
    resume: bool = True
    """Go on with trainings that were stopped; with --no-resume they begin anew."""
    controls: bool = True
    """A frozen random initialisation of each architecture and raw pixels beside the models."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded, or a bad annotation."""
    require_blurred: bool = False
    """Take only images in which faces are blurred, as sslens blur-faces wrote them."""
    figures: bool = False
    """Draw each figure for paper too, as SVG and PDF."""
    thumbnails: bool = True
    """Show small pictures of images on the page, where they are evidence."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the answer with the path of the report."""
    from sslens.arguments.training import first_process

    asked = check(command)
    asked.require_sources()
    if not command.resume and first_process() and not command.common.dry_run:
        _begin_anew(asked)
    reply = answer_study(
        asked,
        command.common.out or Path("sslens-detection"),
        line=line,
        title=f"What {name_subjects(name_for_title(asked.models), 'knows', 'know')} about place",
        figures=command.figures,
        thumbnails=command.thumbnails,
        dry_run=command.common.dry_run,
        overwrite=command.common.overwrite,
        say=say,
    )
    if command.common.dry_run and command.coco is not None and command.heads is None:
        say("cheaper   for a first look: --heads small --set size=256")
    return reply


def check(command: Command) -> "Study":
    """The study that it is; what is known to be wrong without images and models is refused."""
    from sslens.study import Study

    if not command.models:
        raise InputError("Give one or more models: sslens detect MODEL --coco IMAGES TRAIN VAL.")
    train, val = _sources(command)
    for source in (train, val):
        require_source(source)
    require_words("detection", None, command.set, more=("workers",), of=" of a detector")
    for name in ("epochs", "batch_size"):
        if (value := getattr(command, name)) is not None and value < 1:
            raise InputError(f"{name} is {value}", mend="give 1 or more")
    analyses = ["detection-frozen"]
    analyses += ["detection-finetuned"] if command.finetune else []
    analyses += ["detection-layers"] if command.blocks else []
    analyses += ["dense-depth"] if command.dense else []
    return Study(
        models=command.models,
        images=val,
        bank=train,
        analyses=tuple(analyses),
        limit=command.common.limit,
        controls=command.controls,
        seed=command.common.seed,
        on_bad=command.on_bad,
        require_blurred=command.require_blurred,
        device=command.common.device,
        detection=tuple(_describe(command)),
        side=_find_side(command) if command.dense else None,
    )


def _sources(command: Command) -> tuple[str, str]:
    """The images that train detectors, and those in which detectors are judged."""
    if command.coco is None:
        return TRAIN, VAL
    images, train, val = command.coco
    first, second = (f"coco:{_find_folder(images, file)}:{file}" for file in (train, val))
    return first, second


def _find_folder(images: str, annotations: str) -> str:
    """The folder of the images of an annotation file: of instances_train2017.json the folder
    train2017 where there is one."""
    name = Path(annotations).stem.removeprefix("instances_")
    inside = Path(images).expanduser() / name
    return str(inside) if inside.is_dir() else images


def _describe(command: Command) -> list[str]:
    """How detectors are trained, as a study has it."""
    heads = command.heads or ("vitdet" if command.coco else "small")
    entries = [f"heads={heads}"]
    if command.blocks:
        entries.append(f"blocks={sorted(command.blocks)}")
    lengths = {
        "epochs": command.epochs,
        "batch_size": command.batch_size,
        "accumulate": command.accumulate,
        "precision": None if command.precision == "auto" else command.precision,
    }
    entries += [f"{name}={value}" for name, value in lengths.items() if value is not None]
    return [*entries, *command.set]


def _find_side(command: Command) -> int:
    """The side of the images that dense probes see: the detectors' own."""
    from sslens.study.detector_request import DetectorRequest

    return DetectorRequest.parse(_describe(command)).settings.size


def _begin_anew(asked: "Study") -> None:
    """Remove what is left in the store of trainings of these models that were stopped."""
    from sslens.store import Store, home
    from sslens.study import prepare
    from sslens.study.detecting import forget_unfinished

    plan = prepare(asked, Store(home() / "store"))
    forget_unfinished(plan.situation, plan.analyses, plan.runner.store)
