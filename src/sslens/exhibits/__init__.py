"""The exhibits of the two papers as data: `exhibits/NAME.yaml` says what a figure or table shows,
by which analyses it is computed, on which models and images, and which numbers the papers print.

An exhibit is found by its file's name. It is read strictly, like a card: a key that is missing,
unknown or of another kind is an error that names the file. `sslens reproduce` carries them out
(`sslens.study.reproduce`).

Models have roles, such as "mae" or "moco-v3-ft", so that a published number can be looked up
whichever weights play the role: the authors', those that come with sslens, or a user's own.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sslens.errors import InputError, nearest
from sslens.records import read_record

#: the sources of images that stand for folders of the user's: ImageNet's and COCO's two parts
IMAGENET_VAL, IMAGENET_TRAIN = "imagenet/val", "imagenet/train"
COCO_VAL, COCO_TRAIN = "coco/val", "coco/train"
USERS = (IMAGENET_VAL, IMAGENET_TRAIN, COCO_VAL, COCO_TRAIN)
#: the table of the accuracies of published weights, which no analysis computes
ACCURACIES = "accuracies"


@dataclass(frozen=True)
class Place:
    """The place of a number in the tables of a report.

    A value of `rows` in a column that begins with "model" is a role, for which the model's name is
    looked up; `*` stands for any letters.

    Attributes:
        table: the analysis, or `ANALYSIS/TABLE` where it has several tables.
        column: the column of the number.
        rows: the values of other columns that only the number's row has.
        low: the column of the lower end of its interval.
        high: the column of the upper end.
    """

    table: str
    column: str
    rows: dict[str, str]
    low: str = "low"
    high: str = "high"


@dataclass(frozen=True)
class Published:
    """A number that the papers, or the authors of weights, print.

    Attributes:
        what: what it is, as a clause.
        kind: "share" (of images, 0 to 1), "points" (a difference of shares), "ap" (an average
            precision, 0 to 1), or "plain".
        value: the number.
        tolerance: how far a reproduction may lie from it and still count as the same, for the same
            weights and images.
        source: where it is printed: a paper's section, figure or table, or a file of a repository.
        text: the words around it there.
        found: its place in our tables.
        note: what differs between the two ways to measure it.
    """

    what: str
    kind: Literal["share", "points", "ap", "plain"]
    value: float
    tolerance: float
    source: str
    text: str
    found: Place
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """The models and images on which an exhibit is computed.

    Attributes:
        models: the source of the model of each role.
        images: the images, as a study has them, or a part of the user's ImageNet or COCO
            (`USERS`); None where none are needed.
        bank: the images that vote and train probes.
        limit: the number of images; all unless given.
        hours: about how long it takes: on shipped models of two processor cores, and on the
            authors' weights of one GPU of the class of an H200 (an estimate).
        made: the roles that no public weights play, and the command that makes such a model.
        tokens, taps, detection, transforms, batch: as in a study.
        generator: of samples, the name of a generator that comes with sslens.
        leaves_out: analyses of the exhibit that this setting has nothing for, each with the reason.
        stored: whether the results come with sslens, and are not computed anew.
        note: what a reader must know of this setting.
    """

    models: dict[str, str]
    images: str | None
    bank: str | None
    limit: int | None
    hours: float
    made: dict[str, str] = field(default_factory=dict)
    tokens: tuple[str, ...] = ("all", "cls")
    taps: tuple[str, ...] = ()
    detection: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()
    batch: int = 32
    generator: str | None = None
    leaves_out: dict[str, str] = field(default_factory=dict)
    stored: bool = False
    note: str = ""


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the papers.

    Attributes:
        name: the file's name without .yaml, with hyphens; what users type.
        title: what it shows, in a line.
        papers: the figures and tables that it stands for.
        analyses: the names of the analyses that compute it; none where weights are evaluated as
            their authors do.
        claims: the names of the claims that are judged by it.
        authors: how it is computed on the authors' weights.
        shipped: how it is computed on the models that come with sslens; None where that would show
            nothing.
        published: the numbers that are printed.
        no_value: why there are none; empty where there are some.
    """

    name: str
    title: str
    papers: str
    analyses: tuple[str, ...]
    claims: tuple[str, ...]
    authors: Setting
    shipped: Setting | None
    published: tuple[Published, ...] = ()
    no_value: str = ""


def names() -> tuple[str, ...]:
    """List the names of all exhibits, without reading any.

    >>> "cka-blocks" in names()
    True
    """
    return tuple(sorted(_spell(path) for path in Path(__file__).parent.glob("*.yaml")))


@functools.cache
def find(name: str) -> Exhibit:
    """Find an exhibit by its name.

    Raises:
        InputError: there is none; the nearest names are offered.

    >>> find("agreement").published[0].value
    0.9341
    >>> find("cka-block")
    Traceback (most recent call last):
    sslens.errors.InputError: There is no exhibit "cka-block": did you mean cka-blocks?
    """
    if name not in names():
        raise InputError(f'There is no exhibit "{name}": {nearest(name, (*names(), "all"))}')
    return read(Path(__file__).with_name(f"{name.replace('-', '_')}.yaml"))


def read(path: Path) -> Exhibit:
    """Read the exhibit of one file.

    Raises:
        InputError: the file is no YAML; a key is unknown, missing, or of another kind; or there are
            both published numbers and a reason why there are none, or neither.
    """
    given = _parse(path)
    where = f"the exhibit {path}"
    if not isinstance(given, dict):
        raise InputError(f"The exhibit {path} is not a YAML mapping of the fields of an exhibit.")
    if "name" in given:
        raise InputError(f"The exhibit {path} says its name: an exhibit's name is its file's.")
    exhibit = read_record(Exhibit, {"name": _spell(path), **given}, where)
    if bool(exhibit.published) == bool(exhibit.no_value):
        raise InputError(
            f"In {where}, give either published numbers or, in no_value, why there are none."
        )
    return exhibit


def _spell(path: Path) -> str:
    return path.stem.replace("_", "-")


def _parse(path: Path) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # faster, where it was built
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)
    except yaml.YAMLError as error:
        raise InputError(
            f"The exhibit {path} is not YAML: {' '.join(str(error).split())}."
        ) from error
