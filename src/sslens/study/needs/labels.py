"""The class of each image."""

from typing import TYPE_CHECKING

from sslens.comparisons.inputs import Labels
from sslens.store import digest
from sslens.study.situation import Captured, Lack, Situation

if TYPE_CHECKING:
    from sslens.data.images import ImageSet

TYPE = Labels


def unmet(situation: Situation) -> Lack | None:
    """Images that lie in no folders have no classes."""
    images = situation.images
    if images is not None and images.labels is not None:
        return None
    return Lack(
        "the images have no classes (no folders of that name)",
        "give {images} with a subfolder a class",
        noted=images is not None,
    )


def gather(captured: Captured) -> Labels:
    """Return the class number of each image, by id, and the names of the classes."""
    images, bank = captured.situation.images, captured.situation.bank
    return Labels(_number(images), _number(bank), images.classes if images is not None else ())


def _number(images: "ImageSet | None") -> dict[str, int]:
    if images is None or images.labels is None:
        return {}
    return dict(zip(images.ids, images.labels.tolist(), strict=True))


def key(value: Labels) -> str:
    """Return a digest of the classes."""
    return digest([dict(value.images), dict(value.bank), list(value.classes)])
