"""The request to reproduce exhibits of the papers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from sslens import exhibits, zoo
from sslens.errors import InputError, nearest
from sslens.exhibits import Exhibit
from sslens.records import read_record
from sslens.settings_file import read_yaml

ALL = "all"


@final
@dataclass(frozen=True)
class ReproduceRequest:
    """The request to reproduce exhibits.

    Attributes:
        exhibits: their names, or "all".
        images: a folder of ImageNet with `train` and `val`, or another source of labelled images;
            without it shipped models are studied on generated scenes.
        bank: the images that vote and train probes, in the place of `train`.
        coco: COCO's folder of images, and the annotation files that train and judge detectors.
        models: sources of models by role, in the place of the authors' or the shipped ones; another
            training joins the role as ROLE-seed1 (of mae-ft as mae-seed1-ft).
        generator: a diffusion model that makes images from features, for samples.
        limit: the largest number of images; an exhibit's own unless given.
        costly: whether exhibits that take long are computed even if they are not named.
        alone: whether roles for which `models` has no model are left empty, instead of being played
            by the authors' weights or shipped models.
        made: by role, the command that makes the model in `models`; until its folder is there, the
            role has no model, and the plan says the command.
        seed, device: as in a study.

    Raises:
        InputError: an exhibit is not known (the nearest is offered), or none is named; a source is
            not there; or a role is none of the exhibits'.
    """

    exhibits: tuple[str, ...]
    images: str | None = None
    bank: str | None = None
    coco: tuple[str, str, str] | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    generator: str | None = None
    limit: int | None = None
    costly: bool = False
    alone: bool = False
    made: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.exhibits:
            raise InputError(
                f"No exhibit is named: give {ALL}, or some of {', '.join(exhibits.names())}."
            )
        chosen = self.chosen
        roles = {role for one in chosen for role in list_roles(one)}
        for role, source in self.models.items():
            if role not in roles and name_role(role) not in roles:
                raise InputError(f'These exhibits have no model "{role}": {nearest(role, roles)}')
            if role not in self.made or Path(source).exists():
                zoo.check(source)
        if self.bank is not None and self.images is None:
            raise InputError(
                "A bank is given and no images that it votes on", mend="give {images} too"
            )

    @property
    def here(self) -> dict[str, str]:
        """The user's models by role, without those that are still to be made."""
        return {
            role: source
            for role, source in self.models.items()
            if role not in self.made or Path(source).exists()
        }

    @property
    def chosen(self) -> tuple[Exhibit, ...]:
        """The exhibits, in the order given; all of them in the order of their names."""
        named = exhibits.names() if ALL in self.exhibits else dict.fromkeys(self.exhibits)
        return tuple(exhibits.find(name) for name in named)

    def is_named(self, exhibit: Exhibit) -> bool:
        """Whether the exhibit was named by itself."""
        return exhibit.name in self.exhibits


@final
@dataclass(frozen=True)
class ReproductionFile:
    """The keys of a file that says what is reproduced; see `ReproduceRequest`."""

    exhibits: tuple[str, ...]
    images: str | None = None
    bank: str | None = None
    coco: tuple[str, str, str] | None = None
    models: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    alone: bool = False
    generator: str | None = None
    costly: bool = False
    limit: int | None = None
    seed: int = 0
    device: str = "auto"


def read_request(path: Path, overrides: Mapping[str, Any]) -> ReproduceRequest:
    """Read a request from a YAML file, with some of its keys overridden.

    Raises:
        InputError: the file is not there or not YAML, or a key is none of a request's.
    """
    try:
        values = read_yaml(path)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"There is no file {path}, which should say what is reproduced.") from None
    given = read_record(ReproductionFile, values, f"the reproduction {path}")
    return ReproduceRequest(**{**vars(given), **overrides})


def list_roles(exhibit: Exhibit) -> list[str]:
    """List the roles of an exhibit's models, on all weights."""
    settings = [one for one in (exhibit.authors, exhibit.shipped) if one is not None]
    return list(dict.fromkeys(role for one in settings for role in (*one.models, *one.made)))


def name_role(role: str) -> str:
    """Name the role that a training plays, the first or another.

    >>> name_role("mae-seed1"), name_role("moco-v3-seed2-ft")
    ('mae', 'moco-v3-ft')
    """
    return re.sub(r"-seed[0-9]+(?=$|-ft$)", "", role)
