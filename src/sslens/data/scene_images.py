"""Scenes as a set of images: rendered when they are asked for, a block at a time, with their
factors."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from PIL import Image

from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.data.painting import Pictures
from sslens.data.scenes import CLASSES, VERSION, factors, labels, render
from sslens.errors import InputError
from sslens.store import digest

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 16  # scenes that are rendered together
#: blocks that are kept, 800 MB at most, because epochs are in random order and a scene that is not
#: kept costs the rendering of its block
_BLOCKS = 4096
_ID = re.compile(rf"scenes-v{VERSION}/seed([0-9]+)/([0-9]{{6,}})")


@functools.lru_cache(maxsize=_BLOCKS)
def _render_block(seed: int, number: int) -> Pictures:
    return render(seed, range(number * _BLOCK, (number + 1) * _BLOCK))


@final
@dataclass(frozen=True)
class SceneSource:
    """The pictures of scenes `start`, `start + 1`, … of a seed, rendered when they are asked
    for."""

    seed: int
    start: int

    def image(self, row: int) -> Image.Image:
        """Render scene `start + row`."""
        number, within = divmod(self.start + row, _BLOCK)
        return Image.fromarray(_render_block(self.seed, number)[within])

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Hash the generator's version, the seed and the index, which decide a scene's pixels."""
        indices = [self.start + int(row) for row in rows]
        return [digest({"scenes": VERSION, "seed": self.seed, "index": index}) for index in indices]


def scene_images(count: int, seed: int = 0, start: int = 0) -> ImageSet:
    """Make a set of the single-object scenes `start` to `start + count - 1` of a seed, labelled
    with their classes.

    Raises:
        InputError: the count is less than 1, or the seed or start is negative.

    >>> images = scene_images(3, start=8000)
    >>> images.ids[0], images.classes[images.labels[0]]
    ('scenes-v4/seed0/008000', 'axe')
    """
    if count < 1 or start < 0:
        raise InputError(
            f"{spell_count(count, 'scene')} from {start} on: ask for at least 1, from a start of at"
            " least 0."
        )
    rows = range(start, start + count)
    ids = tuple(f"scenes-v{VERSION}/seed{seed}/{row:06d}" for row in rows)
    return ImageSet(
        name=f"scenes-v{VERSION}",
        ids=ids,
        labels=labels(seed, rows),
        classes=CLASSES,
        source=SceneSource(seed, start),
    )


def factors_of(images: ImageSet) -> "pd.DataFrame":
    """Class and factors of the scenes in an ImageSet, in the set's order, recovered from the ids.

    Returns a frame that is indexed by (seed, index).

    Raises:
        InputError: an id belongs to no scene of this version.

    >>> factors_of(scene_images(3).take([2, 0])).equals(factors(0, [2, 0]))
    True
    """
    seeds, indices = [], []
    for name in images.ids:
        match = _ID.fullmatch(name)
        if not match:
            raise InputError(
                f'{images.name}: "{name}" is no scene of this version, and only of scenes are the'
                f" factors known: take images with ids such as scenes-v{VERSION}/seed0/000017, from"
                " scene_images."
            )
        seeds.append(int(match[1]))
        indices.append(int(match[2]))
    return factors(seeds, indices)
