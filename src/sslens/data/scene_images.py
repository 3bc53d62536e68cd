"""Scenes as images of a study: rendered when they are asked for, a block at a time, with what is
known of them."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from PIL import Image

from sslens.data.images import ImageSet
from sslens.data.painting import Pictures
from sslens.data.scenes import CLASSES, VERSION, factors, labels, render
from sslens.errors import InputError
from sslens.store import digest

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 16  # scenes that are rendered together
# blocks that are kept, 800 MB at most: epochs are in random order, and a miss renders a block
_BLOCKS = 4096
_ID = re.compile(rf"scenes-v{VERSION}/seed([0-9]+)/([0-9]{{6,}})")


@functools.lru_cache(maxsize=_BLOCKS)
def _block(seed: int, number: int) -> Pictures:
    return render(seed, range(number * _BLOCK, (number + 1) * _BLOCK))


@final
@dataclass(frozen=True)
class SceneSource:
    """The pictures of scenes `start`, `start + 1`, … of a seed, rendered when they are asked
    for."""

    seed: int
    start: int

    def image(self, row: int) -> Image.Image:
        """The picture of scene `start + row`."""
        number, within = divmod(self.start + row, _BLOCK)
        return Image.fromarray(_block(self.seed, number)[within])

    def digests(self, rows: Sequence[int]) -> list[str]:
        """What decides a scene's pixels, hashed: the generator's version, the seed and the
        index."""
        return [
            digest({"scenes": VERSION, "seed": self.seed, "index": self.start + int(row)})
            for row in rows
        ]


def scene_images(count: int, seed: int = 0, start: int = 0) -> ImageSet:
    """Single-object scenes `start` to `start + count - 1` of a seed, labelled with their class.

    Raises:
        InputError: the count is less than 1, or the seed or start is negative.

    >>> images = scene_images(3, start=8000)
    >>> images.ids[0], images.classes[images.labels[0]]
    ('scenes-v3/seed0/008000', 'axe')
    """
    if count < 1 or start < 0:
        raise InputError(
            f"{count} scenes from {start} on: ask for at least 1, from a start of at least 0."
        )
    rows = range(start, start + count)
    known = labels(seed, rows)
    ids = tuple(f"scenes-v{VERSION}/seed{seed}/{row:06d}" for row in rows)
    return ImageSet(
        name=f"scenes-v{VERSION}",
        ids=ids,
        labels=known,
        classes=CLASSES,
        source=SceneSource(seed, start),
    )


def factors_of(images: ImageSet) -> "pd.DataFrame":
    """Class and factors of the scenes of an ImageSet, in its order, recovered from the ids; indexed
    by (seed, index).

    Raises:
        InputError: an id is not that of a scene of this version.

    >>> factors_of(scene_images(3).take([2, 0])).equals(factors(0, [2, 0]))
    True
    """
    seeds, indices = [], []
    for name in images.ids:
        found = _ID.fullmatch(name)
        if not found:
            raise InputError(
                f'{images.name}: "{name}" is no scene of this version, and only of scenes are the'
                f" factors known: take images with ids such as scenes-v{VERSION}/seed0/000017, from"
                " scene_images."
            )
        seeds.append(int(found[1]))
        indices.append(int(found[2]))
    return factors(seeds, indices)
