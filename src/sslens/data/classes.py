"""The classes of two sets of images, matched by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sslens.data.images import ImageSet
from sslens.data.sources import one_name
from sslens.errors import InputError, nearest

#: classes that a message names
NAMED = 8


def require_labels(images: ImageSet, why: str, mend: str, *, name: str | None = None) -> None:
    """Refuse images without labels, and say what was probably meant where that is known.

    Args:
        images: the images.
        why: a clause that says what needs the labels.
        mend: what helps.
        name: what the message calls the set; its name unless given.

    Raises:
        InputError: the images have no labels.

    >>> from sslens.data.images import from_arrays
    >>> images = from_arrays(np.zeros((2, 2, 2), np.uint8))
    >>> require_labels(images, "probes learn them", "give labels")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    sslens.errors.InputError: The images of array have no classes, and probes learn them: give...
    """
    if images.labels is not None:
        return
    lack = f"The images of {name or images.name} have no classes"
    if images.doubts:
        raise InputError(f"{' '.join(images.doubts)} {lack}, and {why}.")
    raise InputError(f"{lack}, and {why}", mend=mend)


def match_classes(images: ImageSet, bank: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Number the classes of two labelled sets alike, by their names: those of the images, then
    those of the bank alone.

    Returns:
        Both sets. Their digests stay, which are of names.

    Raises:
        InputError: the bank does not know a class of which there are images; each is named.

    >>> from sslens.data.images import from_arrays
    >>> pixels = np.zeros((2, 2, 2), np.uint8)
    >>> images = from_arrays(pixels, [0, 1], classes=["cat", "eel"])
    >>> bank = from_arrays(pixels, [0, 2], classes=["ant", "cat", "eel"])
    >>> images, bank = match_classes(images, bank)
    >>> bank.classes, bank.labels.tolist()
    (('cat', 'eel', 'ant'), [2, 1])
    """
    if images.labels is None or bank.labels is None or images.classes == bank.classes:
        return images, bank
    require_known(images, bank.classes, bank.name)
    classes = join_classes(images.classes, bank.classes)
    return _renumber(images, classes), _renumber(bank, classes)


def join_classes(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """The names of both, each once, those of the first as they stand there.

    >>> join_classes(("cat", "eel"), ("ant", "cat"))
    ('cat', 'eel', 'ant')
    """
    known: Mapping[str, str] = {one_name(name): name for name in first}
    return (*first, *(name for name in second if one_name(name) not in known))


def number_classes(names: Sequence[str], classes: Sequence[str]) -> "np.ndarray":
    """The number of each name among the classes, -1 of one that is not there.

    >>> number_classes(["eel", "fox"], ["cat", "eel"]).tolist()
    [1, -1]
    """
    number = {one_name(name): place for place, name in enumerate(classes)}
    return np.array([number.get(one_name(name), -1) for name in names], np.int64)


def require_known(images: ImageSet, classes: Sequence[str], bank: str) -> None:
    """Refuse images of a class that another set does not have.

    Args:
        images: labelled images.
        classes: the names of the classes of the other set.
        bank: the name of the other set.

    Raises:
        InputError: there are such images; the classes are named.
    """
    assert images.labels is not None
    present = [images.classes[label] for label in np.unique(images.labels).tolist()]
    lacking = [
        name
        for name, number in zip(present, number_classes(present, classes), strict=True)
        if number < 0
    ]
    if not lacking:
        return
    named = ", ".join(f'"{name}"' for name in lacking[:NAMED])
    more = f" and {len(lacking) - NAMED:,} more" if len(lacking) > NAMED else ""
    plural = "class" if len(lacking) == 1 else f"{len(lacking):,} classes"
    raise InputError(
        f"{images.name} has images of the {plural} {named}{more}, of which {bank} has none"
        f" ({nearest(lacking[0], classes).rstrip('?')})",
        mend="add them to {bank}, or leave their images out",
    )


def _renumber(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    return replace(
        images,
        labels=number_classes(images.classes, classes)[images.labels],
        classes=classes,
    )
