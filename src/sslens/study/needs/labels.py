"""The class of each image."""

from typing import TYPE_CHECKING

from sslens.comparisons.inputs import Labels
from sslens.store import digest
from sslens.study.image_sets import explain_no_classes, explain_no_votes, may_have_more
from sslens.study.situation import Captured, Lack, Situation

if TYPE_CHECKING:
    from sslens.data.images import ImageSet

TYPE = Labels


def unmet(situation: Situation) -> Lack | None:
    """Images that lie in no folders have no classes, and one class is no classification."""
    images = situation.images
    mend = "give {images} with a subfolder a class, or an index file with labels"
    if images is None:
        return Lack("classes are told apart of images, and there are none", mend)
    lack = explain_no_votes(images, situation.bank)
    if lack is not None and explain_no_classes(images, situation.bank) is None:
        mend = "give a {bank} with other images of these classes" + (
            ", or raise {limit}" if may_have_more(images, 2) else ""
        )
    return None if lack is None else Lack(f"the images {lack}", mend, noted=True)


def gather(captured: Captured) -> Labels:
    """Return the class number of each image, by id, and the names of the classes."""
    images, bank = captured.situation.images, captured.situation.bank
    if images is None:
        return Labels({}, _number(bank))
    return Labels(_number(images), _number(bank), images.classes, images.classes_drawn_from)


def _number(images: "ImageSet | None") -> dict[str, int]:
    if images is None or images.labels is None:
        return {}
    return dict(zip(images.ids, images.labels.tolist(), strict=True))


def key(value: Labels) -> str:
    """Return a digest of the classes."""
    drawn = [] if value.drawn_from is None else [value.drawn_from]
    return digest([dict(value.images), dict(value.bank), list(value.classes), *drawn])
