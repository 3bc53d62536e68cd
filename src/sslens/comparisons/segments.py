"""The class and the object of each pixel of the images, as models see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Int16
from torch import Tensor

from sslens.store import digest

#: of pixels that count for nothing: crowds, and places of a square that show nothing of the image
IGNORED = 32767
#: the class of pixels of no object
BACKGROUND = "background"


@final
@dataclass(frozen=True, eq=False)
class View:
    """The pixels of all images, as one transform shows them.

    Attributes:
        masks: class of each pixel, 0 for the background, `IGNORED` where it counts for nothing.
        objects: number of each pixel's object in its image, −1 for none.
    """

    masks: Int16[Tensor, "image side side"]
    objects: Int16[Tensor, "image side side"]


@final
@dataclass(frozen=True, eq=False)
class SegmentedImages:
    """The pixels of a set of images, as each model sees them.

    Attributes:
        ids: the ids of the images.
        views: by name of the model; models that see the images alike share a view.
        content: the digest of the images and their objects.
    """

    ids: tuple[str, ...]
    views: Mapping[str, View]
    content: str


@final
@dataclass(frozen=True, eq=False)
class Segments:
    """The pixels of the images under study, and of the bank where there is one.

    Attributes:
        classes: names of the classes, the background first.
    """

    classes: tuple[str, ...]
    images: SegmentedImages
    bank: SegmentedImages | None = None

    def digest(self) -> str:
        """Return a digest of all that decides the masks; views are decided by the models' maps."""
        sets = [self.images] if self.bank is None else [self.images, self.bank]
        shown = [[one.content, digest(one.ids), sorted(one.views)] for one in sets]
        return digest([list(self.classes), shown])
