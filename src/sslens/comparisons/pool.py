"""The images in which neighbours are sought, with what is known of each, and how they look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from sslens.data.decoded import Decoded
from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform
from sslens.store import digest

#: the longest side of a picture in pixels
SIDE = 64


@final
@dataclass(frozen=True, eq=False)
class ShownImages:
    """Images, with the known quantities of each.

    Attributes:
        images: the images.
        view: how a model sees them, which is how they are shown.
        values: by name of a quantity its numbers, in the order of the images; kinds are one-hot,
            angles their cosine and sine (`comparisons.targets.code_factors`).
    """

    images: ImageSet
    view: EvalTransform
    values: Mapping[str, Float64[np.ndarray, "image part"]]

    def locate(self, ids: Sequence[str]) -> list[int]:
        """Return the positions of images by their ids."""
        place = {name: row for row, name in enumerate(self.images.ids)}
        return [place[name] for name in ids]

    def look(self, row: int) -> UInt8[np.ndarray, "side side 3"]:
        """Return the pixels of an image as the model sees it, at most 64 on a side."""
        pixels = self.view.crop_image(self.images.image(row))
        if len(pixels) <= SIDE:
            return pixels
        small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
        return np.asarray(small)

    def shrink(self, side: int) -> UInt8[np.ndarray, "image side side 3"]:
        """Return all images as the model sees them, resized to `side` pixels."""
        pixels = Decoded(self.images, self.view, keep=False).pixels(range(len(self.images)))
        if pixels.shape[1] == side:
            return pixels
        parts = (Image.fromarray(one).resize((side, side), Image.Resampling.BOX) for one in pixels)
        return np.stack([np.asarray(part) for part in parts])

    def name(self, row: int) -> str:
        """Return the class of an image, or its id where it has none."""
        labels = self.images.labels
        return self.images.ids[row] if labels is None else self.images.classes[labels[row]]


@final
@dataclass(frozen=True, eq=False)
class Pool:
    """The images under study, which are the sources, and the images in which their neighbours are
    sought.

    Attributes:
        sources: the images under study.
        bank: the images in which neighbours are sought; None where these are the other images under
            study.
        kinds: of each quantity "categorical", "continuous" or "circular".
    """

    sources: ShownImages
    bank: ShownImages | None
    kinds: Mapping[str, str]

    @property
    def among(self) -> ShownImages:
        """The images in which neighbours are sought."""
        return self.sources if self.bank is None else self.bank

    def digest(self) -> str:
        """Return a digest of the images, the known quantities and the view."""
        sets = [self.sources] if self.bank is None else [self.sources, self.bank]
        shown = [[one.images.digest, list(one.view.geometry)] for one in sets]
        return digest([shown, dict(self.kinds)])
