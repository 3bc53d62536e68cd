"""Where the results of a study come from: models, images, versions, time."""

import importlib.metadata
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from sslens import __version__
from sslens.study.planning import StudyPlan

#: libraries of which a report says the version
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pandas", "safetensors")


@final
@dataclass(frozen=True)
class ImagesSeen:
    """The images of a study; all fields are empty where it has none, such as a study of paths
    alone.

    Attributes:
        name: the set's name.
        count: the number of images.
        digest: the digest of the set.
        skipped: the images that could not be decoded, each with the reason.
    """

    name: str | None = None
    count: int = 0
    digest: str | None = None
    skipped: tuple[tuple[str, str], ...] = ()


@final
@dataclass(frozen=True)
class Provenance:
    """The content of `provenance.json`."""

    command: str
    made: str
    seconds: float
    device: str
    versions: Mapping[str, str]
    images: ImagesSeen
    models: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, plan: StudyPlan, command: str, began: float) -> "Provenance":
        """Describe where the results of a study come from, once it was carried out.

        Args:
            plan: the plan of the study.
            command: the command that was typed.
            began: the time of the start, in seconds since 1970.
        """
        versions = {"sslens": __version__, "python": platform.python_version()}
        return cls(
            command=command,
            made=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
            seconds=round(time.time() - began, 1),
            device=f"{plan.runner.device}, {plan.runner.precision}",
            versions=versions | {name: importlib.metadata.version(name) for name in LIBRARIES},
            images=describe_images(plan),
            models=_describe_models(plan),
        )

    def to_json(self) -> Mapping[str, Any]:
        """The provenance as JSON values."""
        return asdict(self)


def describe_images(plan: StudyPlan) -> ImagesSeen:
    """Describe the images of a study as they were opened, or as its first fingerprint describes
    them."""
    images, first = plan.images, plan.members[0].fingerprint
    if images is not None:
        return ImagesSeen(images.name, len(images), images.digest, images.skipped)
    if first is None:
        return ImagesSeen()
    return ImagesSeen(first.images["name"], len(first.ids), first.images["content"])


def _describe_models(plan: StudyPlan) -> dict[str, Mapping[str, Any]]:
    models: dict[str, Mapping[str, Any]] = {}
    for member in plan.members:
        stored = member.fingerprint
        models[member.name] = {
            "source": member.described.source,
            "digest": member.described.digest,
            "control": member.control,
            **member.about.to_json(),
            **({} if stored is None else {"fingerprint": stored.dtype}),
        }
    return models
