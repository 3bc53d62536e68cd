"""Splits of labelled images, with every class in proportion: held-out parts, small shares, or
folds.

Within a class, images are taken in the order of SHA-256 of "seed/id", so that a split depends on
ids, labels and seed, and not on the order in which images come.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from sslens.counts import spell_count
from sslens.errors import InputError


def held_out(
    labels: Int64[np.ndarray, " image"],
    ids: Sequence[str],
    share: float = 0.2,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Split the rows into kept and held-out ones: of each class the share is held out, rounded, but
    at least one image is on either side.

    Args:
        labels: the class of each image.
        ids: the id of each image.
        share: the share that is held out, between 0 and 1.
        seed: another seed gives another split.
        classes: names of classes, for messages.

    Raises:
        InputError: a class has one image, or the share is not between 0 and 1.

    >>> kept, held = held_out(np.array([0, 0, 0, 0, 1, 1]), list("abcdef"), share=0.25)
    >>> len(kept), np.array([0, 0, 0, 0, 1, 1])[held].tolist()
    (4, [0, 1])
    """
    _require_share(share)
    held = np.zeros(len(labels), bool)
    for label, rows in _order(labels, ids, seed):
        _require_two(_name(label, classes), rows)
        held[rows[: min(len(rows) - 1, max(1, round(share * len(rows))))]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def few_shot(
    labels: Int64[np.ndarray, " image"], ids: Sequence[str], share: float = 0.01, seed: int = 0
) -> Int64[np.ndarray, " few"]:
    """Choose rows for a share of the images: of each class the share, rounded, but at least one
    image. Another seed gives another draw.

    Raises:
        InputError: the share is not between 0 and 1.

    >>> labels = np.repeat([0, 1], [200, 30])
    >>> np.bincount(labels[few_shot(labels, [str(i) for i in range(230)])]).tolist()
    [2, 1]
    """
    _require_share(share)
    chosen = [rows[: max(1, round(share * len(rows)))] for _, rows in _order(labels, ids, seed)]
    return np.sort(np.concatenate(chosen))


def folds(
    labels: Int64[np.ndarray, " image"],
    ids: Sequence[str],
    count: int = 5,
    seed: int = 0,
    classes: Sequence[str] = (),
) -> Int64[np.ndarray, " image"]:
    """Return the fold of each image, 0 to count − 1; the images of a class are dealt out to the
    folds in turn.

    Raises:
        InputError: fewer than three folds (training, validation, test), or a class with fewer
            images than folds.

    >>> np.bincount(folds(np.zeros(7, int), list("abcdefg"), count=3)).tolist()
    [3, 2, 2]
    """
    if count < 3:
        raise InputError(
            f"{count} folds leave none to train, to choose and to test on: give 3 or more."
        )
    fold = np.zeros(len(labels), np.int64)
    first = 0
    for label, rows in _order(labels, ids, seed):
        if len(rows) < count:
            raise InputError(
                f"Class {_name(label, classes)} has {spell_count(len(rows), 'image')}, and there"
                f" are {count} folds: give fewer folds, or leave that class out."
            )
        fold[rows] = (first + np.arange(len(rows))) % count
        first = (first + len(rows)) % count  # what one class has more of, another has less of
    return fold


def draw_third(ids: Sequence[str]) -> Bool[np.ndarray, " image"]:
    """Draw about a third of the images, by SHA-256 of "third/id": they make a choice that the other
    images judge.

    >>> draw_third(["a", "b", "e"]).tolist()  # printf third/a | sha256sum: e2…, 7e…, c9…
    [False, True, True]
    """
    digests = (hashlib.sha256(f"third/{name}".encode()).digest() for name in ids)
    return np.array([digest[0] % 3 == 0 for digest in digests], bool)


def _order(
    labels: Int64[np.ndarray, " image"], ids: Sequence[str], seed: int
) -> list[tuple[int, Int64[np.ndarray, " row"]]]:
    if len(ids) != len(labels):
        raise InputError(
            f"{spell_count(len(labels), 'label')} for {spell_count(len(ids), 'id')}: give"
            " one an image."
        )
    keys = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in ids]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    return [(int(label), order[labels[order] == label]) for label in np.unique(labels)]


def _name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if classes else str(label)


def _require_share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError(
            f"A share of {share} is no part of the images: give a number between 0 and 1, such as"
            " 0.1."
        )


def _require_two(label: str, rows: Int64[np.ndarray, " row"]) -> None:
    if len(rows) < 2:
        raise InputError(
            f"Class {label} has one image, which cannot both be trained on and held out: add images"
            " to it, or leave it out."
        )
