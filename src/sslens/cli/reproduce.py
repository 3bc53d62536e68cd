"""`sslens reproduce`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sslens.arguments.answers import Reply, read_rows
from sslens.arguments.options import Common, Text
from sslens.errors import InputError
from sslens.settings_file import require_one_value

if TYPE_CHECKING:
    from sslens.study.reproduce_request import ReproduceRequest

#: the tables beside the page
TABLES = ("exhibits", "published", "claims")
GROUP = "compare"


@dataclass(frozen=True)
class Command:
    """Reproduce the papers' figures and tables: what they print and what is found, side by side on
    one page, with a verdict on each claim.

    With a folder of ImageNet the authors' weights are fetched and studied; without it the small
    models that come with sslens, on generated scenes, which is always said. The exhibit
    "published" tells whether our 20-NN, linear probes and classifiers have the accuracies that the
    authors of the weights print. What was stopped goes on where it was.

    Examples:
      sslens reproduce all
      sslens reproduce agreement cka-blocks --images imagenet
      sslens reproduce published --images imagenet --dry-run
      sslens reproduce detection-frozen --coco coco annotations/instances_train2017.json
          annotations/instances_val2017.json
      sslens reproduce all --images cifar10:val --bank cifar10:train --alone --models
          mae=runs/mae dino=runs/dino
      sslens reproduce runs/cifar10.yaml
    """

    exhibits: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="EXHIBIT|all|FILE.yaml")
    ]
    """Names of exhibits, all, or one file that says the options below."""
    images: str | None = None
    """ImageNet: a folder with train and val, a class a subfolder; or another source of labelled
    images, as sslens compare takes it."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    bank: str | None = None
    """Labelled images that vote and train probes, in the place of the folder train."""
    coco: Annotated[
        tuple[str, str, str] | None, tyro.conf.arg(metavar="IMAGES TRAIN.json VAL.json")
    ] = None
    """COCO's images and annotations, for the exhibits of detection."""
    models: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROLE=MODEL")] = ()
    """Models of your own in a role such as mae or moco-v3-ft, for weights that nobody published."""
    alone: bool = False
    """Only the models given, without the authors' or the shipped ones in other roles."""
    generator: str | None = None
    """A folder of sslens rcdm train, or a file, that makes images from features."""
    costly: bool = False
    """Also what takes over a quarter of an hour on the shipped models, and is not named."""


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the path of the page with its tables."""
    from sslens.arguments.spelling import as_option
    from sslens.study.out_folders import claim_page

    request = check(command)
    out = command.common.out or Path("sslens-reproduction")
    claim_page(request).require(out, overwrite=command.common.overwrite)
    if command.common.dry_run:
        from sslens.study.reproduction_plan import describe_plan

        for text in describe_plan(request, as_option):
            say(text)
        return None
    from sslens.study import reproduce

    page = reproduce.run(
        request,
        out,
        command=line,
        overwrite=command.common.overwrite,
        say=say,
        spell=as_option,
    )
    tables = {name: read_rows(page.parent / f"{name}.csv") for name in TABLES}
    return Reply(tables, page)


def check(command: Command) -> "ReproduceRequest":
    """What is asked; what is known to be wrong without images and models is refused."""
    from sslens.study.reproduce_request import ALL, ReproduceRequest, read_request

    common = command.common
    given: dict[str, Any] = {
        "images": command.images,
        "bank": command.bank,
        "coco": command.coco,
        "models": _split(command.models),
        "alone": command.alone,
        "generator": command.generator,
        "costly": command.costly,
        "limit": common.limit,
        "seed": common.seed,
        "device": common.device,
    }
    names = command.exhibits
    if len(names) == 1 and names[0].endswith((".yaml", ".yml")):
        usual = vars(ReproduceRequest((ALL,)))
        return read_request(Path(names[0]), {n: v for n, v in given.items() if v != usual[n]})
    return ReproduceRequest(exhibits=names, **given)


def _split(models: tuple[str, ...]) -> dict[str, str]:
    """Read ROLE=MODEL."""
    sources: dict[str, str] = {}
    for one in models:
        role, equals, source = one.partition("=")
        if not equals or not source:
            raise InputError(
                f'"{one}" is no model in a role: give ROLE=MODEL, such as mae-ft=runs/mae-ft.'
            )
        require_one_value(sources.items(), role, source)
        sources[role] = source
    return sources
