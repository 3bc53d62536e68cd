"""The plan of a reproduction: for each exhibit, on which weights and images it is computed, and
what is missing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

from sslens import cards
from sslens.exhibits import COCO_TRAIN, COCO_VAL, IMAGENET_TRAIN, IMAGENET_VAL, Exhibit, Setting
from sslens.study.asked import Study
from sslens.study.own_folders import OwnImages, find_images
from sslens.study.reproduce_request import ReproduceRequest, name_role
from sslens.zoo.cache import is_here

#: hours up to which an exhibit is computed without being named
PATIENCE = 0.25
Weights = Literal["the authors' weights", "shipped models", "your models"]
AUTHORS: Weights = "the authors' weights"
SHIPPED: Weights = "shipped models"
YOURS: Weights = "your models"


@final
@dataclass(frozen=True)
class Step:
    """An exhibit as it will be carried out.

    Attributes:
        exhibit: the exhibit.
        setting: the models and images that the exhibit has for these weights.
        on: whose weights they are.
        why: why they are not the authors'; empty where they are.
        models: the source of each role that has a model.
        images: the source of the images; None where none are needed.
        bank: the source of the bank.
        limit: the number of images taken.
        lacks: what is missing so that nothing can be computed, one clause each; empty where it can.
        absent: what is missing for a part of it, one clause each.
        differs: why published numbers may not be held against what is found, one clause each.
        left_out: analyses that are not asked for, with the reason.
        long: whether it takes so long that stored results are taken where there are some.
        costly: whether it takes so long that it is computed only if it is named.

    Texts name parameters in braces, as `InputError` does.
    """

    exhibit: Exhibit
    setting: Setting
    on: Weights
    why: str
    models: Mapping[str, str]
    images: str | None
    bank: str | None
    limit: int | None
    lacks: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    long: bool = False
    costly: bool = False

    @property
    def name(self) -> str:
        """The exhibit's name."""
        return self.exhibit.name

    def study(self, request: ReproduceRequest) -> Study:
        """Declare the study of this step.

        Raises:
            InputError: a source cannot be a model, or images are missing.
        """
        setting = self.setting
        analyses = [name for name in self.exhibit.analyses if name not in self.left_out]
        return Study(
            models=tuple(self.models.values()),
            images=self.images,
            analyses=tuple(analyses),
            bank=self.bank,
            limit=self.limit,
            batch=setting.batch,
            seed=request.seed,
            device=request.device,
            tokens=setting.tokens,
            taps=setting.taps,
            detection=setting.detection,
            transforms=setting.transforms,
            generator=(request.generator or setting.generator) if "samples" in analyses else None,
        )


def plan_steps(
    request: ReproduceRequest, reach: Callable[[str], str] = lambda _: ""
) -> tuple[Step, ...]:
    """Plan the steps of a reproduction, without loading a model or an image.

    Args:
        request: the request.
        reach: says why the weights of a card cannot be had; empty where they can.

    Raises:
        InputError: a source of images is not there.
    """
    own = None if request.images is None else find_images(request.images, request.bank)
    return tuple(plan_step(request, exhibit, own, reach) for exhibit in request.chosen)


def plan_step(
    request: ReproduceRequest,
    exhibit: Exhibit,
    own: OwnImages | None,
    reach: Callable[[str], str] = lambda _: "",
) -> Step:
    """Plan the step of one exhibit: the authors' weights on the user's images, unless something of
    these is missing; else the shipped models.

    Args:
        request: the request.
        exhibit: the exhibit.
        own: the user's images; None where there are none.
        reach: says why the weights of a card cannot be had; empty where they can.
    """
    yours = _join(request.here, exhibit.authors)
    missing = _list_missing(request, exhibit, own)
    if not missing and exhibit.analyses:  # accuracies are of one model each, and fail alone
        models = _cast(request, exhibit.authors, yours)
        unreachable = [why for source in models.values() if (why := reach(source))]
        missing = unreachable[:1]
    theirs = own is not None and bool(yours or request.alone)
    if not missing or exhibit.shipped is None or theirs:
        return _plan_authors(request, exhibit, own, yours, missing)
    return _plan_shipped(request, exhibit, "; ".join(missing))


def _list_missing(request: ReproduceRequest, exhibit: Exhibit, own: OwnImages | None) -> list[str]:
    """What the authors' setting lacks: images, annotations, or models that nobody published."""
    setting, missing = exhibit.authors, []
    asked = (setting.images, setting.bank)
    if IMAGENET_VAL in asked and own is None:
        missing.append("it needs ImageNet: give {images}, a folder with train and val")
    if COCO_VAL in asked and request.coco is None:
        missing.append("it needs COCO: give {coco}, its images and annotations")
    if not _cast(request, setting, request.here):
        commands = list(_list_made(request, setting).values())
        make = f": make some with `{commands[0]}`, and give {{models}}" if commands else ""
        missing.append(f"no such weights are here{make}")
    return missing


def _list_made(request: ReproduceRequest, setting: Setting) -> dict[str, str]:
    """The commands that make models, by role: the user's, and unless these stand alone the
    setting's."""
    yours = _join(request.made, setting)
    return yours if request.alone else {**setting.made, **yours}


def _join(own: Mapping[str, str], setting: Setting) -> dict[str, str]:
    """What a user gives by role, of the setting's roles alone; other trainings join theirs."""
    roles = {*setting.models, *setting.made}
    return {role: one for role, one in own.items() if role in roles or name_role(role) in roles}


def _cast(request: ReproduceRequest, setting: Setting, yours: Mapping[str, str]) -> dict[str, str]:
    """The sources by role: the user's, and unless these stand alone the setting's."""
    known = _join(yours, setting)
    return known if request.alone else {**setting.models, **known}


def _plan_authors(
    request: ReproduceRequest,
    exhibit: Exhibit,
    own: OwnImages | None,
    yours: Mapping[str, str],
    missing: list[str],
) -> Step:
    setting = exhibit.authors
    models = _cast(request, setting, yours)
    places = {
        IMAGENET_VAL: None if own is None else own.images,
        IMAGENET_TRAIN: None if own is None else own.bank,
    }
    if request.coco is not None:
        places |= dict(zip((COCO_TRAIN, COCO_VAL), _name_coco(request.coco), strict=True))
    images, bank = (
        None if one is None else places.get(one) for one in (setting.images, setting.bank)
    )
    lacks, absent = list(missing), []
    if setting.bank == IMAGENET_TRAIN and own is not None and own.bank is None:
        absent.append("there is no folder train, so each image is judged by the others")
    absent += [
        f"{role}: no such weights are here; make them with `{command}` and give {{models={role}=…}}"
        for role, command in _list_made(request, setting).items()
        if role not in models
    ]
    differs = [_write_yours(yours)] if yours else []
    differs += (
        own.differs if own is not None and IMAGENET_VAL in (setting.images, setting.bank) else ()
    )
    limit = request.limit if request.limit is not None else setting.limit
    if limit is not None and (setting.limit is None or limit < setting.limit):
        differs.append(f"{limit:,} images are taken, not {setting.limit or 'all'}")
    on = YOURS if yours and set(yours) >= set(models) else AUTHORS
    return Step(
        exhibit,
        setting,
        on,
        "",
        models,
        images,
        bank,
        limit,
        tuple(lacks),
        tuple(absent),
        tuple(differs),
        _leave_out(request, exhibit, setting),
    )


def _write_yours(yours: Mapping[str, str]) -> str:
    """Say which models are the user's.

    >>> _write_yours({"mae": "runs/mae"}), _write_yours({"mae": "a", "mae-seed1": "b"})
    ('mae is yours (runs/mae)', 'mae and mae-seed1 are yours')
    """
    if len(yours) == 1:
        ((role, source),) = yours.items()
        return f"{role} is yours ({source})"
    return f"{', '.join([*yours][:-1])} and {[*yours][-1]} are yours"


def _plan_shipped(request: ReproduceRequest, exhibit: Exhibit, why: str) -> Step:
    setting = exhibit.shipped
    assert setting is not None
    models = _cast(request, setting, request.here)
    long = setting.hours > PATIENCE and not request.costly
    images, bank = (
        None if source is None else limit_scenes(source, request.limit)
        for source in (setting.images, setting.bank)
    )
    absent = [
        f"{role}: it does not come with sslens; make it with `{command}` and give"
        f" {{models={role}=…}}"
        for role, command in setting.made.items()
        if role not in models
    ]
    mine = [source for role, source in request.here.items() if role in models]
    differs = ["other weights and other images than the published numbers are of"]
    lacks = () if models else ("no models are given for its roles: give {models}",)
    return Step(
        exhibit,
        setting,
        YOURS if mine and len(mine) == len(models) else SHIPPED,
        why,
        models,
        images,
        bank,
        setting.limit,
        lacks,
        absent=tuple(absent),
        differs=tuple(differs),
        left_out=_leave_out(request, exhibit, setting),
        long=long,
        costly=long and not request.is_named(exhibit),
    )


def limit_scenes(source: str, limit: int | None) -> str:
    """Return generated scenes of at most so many images; they are drawn one by one, so that fewer
    cost less.

    >>> limit_scenes("scenes:1:1024", 64), limit_scenes("scenes:1:1024", None)
    ('scenes:1:64', 'scenes:1:1024')
    """
    kind, seed, count = source.split(":")
    return source if limit is None else f"{kind}:{seed}:{min(int(count), limit)}"


def _leave_out(request: ReproduceRequest, exhibit: Exhibit, setting: Setting) -> dict[str, str]:
    left = dict(setting.leaves_out)
    if "samples" in exhibit.analyses and request.generator is None and setting.generator is None:
        left["samples"] = (
            "it needs a generator that makes images from features: give {generator}, which sslens"
            " rcdm train makes"
        )
    return left


def _name_coco(coco: tuple[str, str, str]) -> tuple[str, str]:
    """The sources of the images that train detectors, and in which they are judged; of
    `instances_train2017.json` the folder `train2017` of the images where there is one."""
    images, train, val = coco
    sources = []
    for file in (train, val):
        inside = Path(images).expanduser() / Path(file).stem.removeprefix("instances_")
        sources.append(f"coco:{inside if inside.is_dir() else images}:{file}")
    return sources[0], sources[1]


def list_fetched(step: Step) -> list[cards.Card]:
    """List the cards of a step with files that are not here yet."""
    found = [cards.look_up(source) for source in step.models.values()]
    return [card for card in found if card is not None and is_here(card) is False]


def describe_data(step: Step) -> str:
    """Say whose weights and which images a step has."""
    images = "" if step.images is None else f", {step.images}"
    limit = "" if step.limit is None or step.images is None else f" (at most {step.limit:,})"
    bank = "" if step.bank is None else f", bank {step.bank}"
    return f"{step.on}{images}{limit}{bank}"


def describe_cost(step: Step) -> str:
    """Say how long a step takes, or what it would take on the authors' weights and ImageNet."""
    hours = spell_hours(step.setting.hours)
    if step.on == SHIPPED:
        return f"about {hours} of two processor cores"
    cost = f"about {hours} of one GPU like an H200, estimated"
    return cost if step.on == AUTHORS else f"on the authors' weights and images {cost}"


def spell_hours(hours: float) -> str:
    """Write a time in minutes or hours.

    >>> spell_hours(0.001), spell_hours(0.1), spell_hours(1.9), spell_hours(60.0)
    ('a minute', '6 minutes', '1.9 hours', '60 hours')
    """
    minutes = round(60 * hours)
    if hours < 1:
        return f"{minutes} minutes" if minutes > 1 else "a minute"
    return f"{hours:.2g} hours" if hours < 10 else f"{round(hours)} hours"
