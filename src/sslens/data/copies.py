"""Copies among images: files that are equal byte by byte, or that decode to the same pixels.

An image that votes on its own copy, or trains a probe that is asked about it, is right whatever the
features are. So copies are found by content, in one set and between two. Near copies, such as
another size of an image or a JPEG saved again, are no copies here.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from sslens.data.decoding import Look, hash_pixels
from sslens.data.folders import THREADS
from sslens.data.images import ImageSet
from sslens.data.listing import DIGITS


@runtime_checkable
class Looked(Protocol):
    """A source of images that knows what was seen of each when it was checked."""

    def looks(self, rows: Sequence[int]) -> list[Look]:
        """Return what was seen of each row's image."""
        ...


def number_contents(*sets: ImageSet) -> list[Int64[np.ndarray, " image"]]:
    """Number the contents of the images of several sets: copies have the same number.

    Pixels are compared by their digests, which are made when files are checked. Of a JPEG only the
    means of its blocks are decoded then; a JPEG is decoded whole where another file has the same
    means, or where an image that is no JPEG has its size.

    >>> from sslens.data.images import from_arrays
    >>> images = from_arrays(np.array([[[0]], [[1]], [[0]]], np.uint8))
    >>> [numbers.tolist() for numbers in number_contents(images, images.take([1]))]
    [[0, 1, 0], [1]]
    """
    looks = [look for images in sets for look in _look(images)]
    digests = [own for images in sets for own in images.digests]
    names = [*map(_name_content, digests, looks)]
    places = [(images, row) for images in sets for row in range(len(images))]
    unsure = [*_find_unsure(names, looks)]
    with ThreadPoolExecutor(THREADS) as pool:  # Pillow's decoders release the interpreter's lock
        pixels = pool.map(lambda at: hash_pixels(places[at][0].image(places[at][1])), unsure)
        for at, digest in zip(unsure, pixels, strict=True):
            names[at] = digest[:DIGITS].hex()
    numbers: dict[str, int] = {}
    every = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
    return np.split(every, np.cumsum([len(images) for images in sets])[:-1])


def find_copies(images: ImageSet) -> tuple[Int64[np.ndarray, " copy"], Int64[np.ndarray, " copy"]]:
    """Find the images that are copies of an earlier one of the set.

    Returns:
        The positions of the copies, and of each the position of the first image of its content.

    >>> from sslens.data.images import from_arrays
    >>> images = from_arrays(np.array([[[0]], [[1]], [[0]]], np.uint8))
    >>> [found.tolist() for found in find_copies(images)]
    [[2], [0]]
    """
    (numbers,) = number_contents(images)
    _, first, back = np.unique(numbers, return_index=True, return_inverse=True)
    earlier = first[back]
    copies = np.flatnonzero(earlier != np.arange(len(images)))
    return copies, earlier[copies]


def count_shared(images: ImageSet, others: ImageSet) -> int:
    """Count the images that have a copy among others."""
    own, theirs = number_contents(images, others)
    return int(np.isin(own, theirs).sum())


def _look(images: ImageSet) -> Sequence[Look | None]:
    source = images.source
    if not isinstance(source, Looked):
        return [None] * len(images)
    return source.looks(range(len(images)) if images.rows is None else images.rows.tolist())


def _name_content(digest: str, look: Look | None) -> str:
    """Name the content of an image by its pixels, or by its bytes where not all pixels are
    known."""
    return digest if look is None or not look.whole else look.digest[:DIGITS].hex()


def _find_unsure(names: Sequence[str], looks: Sequence[Look | None]) -> Iterator[int]:
    """Find the images of which all pixels must be seen to know whether they are copies."""
    whole = {tuple(sorted(look.size)) for look in looks if look is not None and look.whole}
    alike: dict[tuple[tuple[int, ...], bytes], set[str]] = {}
    unknown = [
        (at, name, (tuple(sorted(look.size)), look.digest))
        for at, (name, look) in enumerate(zip(names, looks, strict=True))
        if look is not None and not look.whole
    ]
    for _, name, key in unknown:
        alike.setdefault(key, set()).add(name)
    for at, _, key in unknown:
        if key[0] in whole or len(alike[key]) > 1:
            yield at
