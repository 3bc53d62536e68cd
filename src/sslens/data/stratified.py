"""A sample of labelled images with the classes in proportion, or of some classes whole."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from sslens.data.sources import one_name

#: images of a class that a sample of whole classes takes at most: half of them train probes and
#: half test them, and more than 20 can be neighbours of each other
WHOLE = 32
#: images of a class that a sample of all classes takes at least, where the class has as many: a
#: probe is trained, chosen and tested on them
FEWEST = 4


def choose_stratified(
    labels: Int64[np.ndarray, " image"],
    ids: Sequence[str],
    classes: Sequence[str],
    count: int,
    seed: int,
    per_class: int,
) -> Int64[np.ndarray, " chosen"]:
    """Choose rows for a sample of `count` images or fewer.

    Of n images in C classes, where count / C ≥ `per_class`, class c with n_c images has
    count · n_c / n of them, rounded by largest remainders, and at least `FEWEST` if it has so many
    (as far as the count allows). Where count / C is less, classes are taken in the order of SHA-256
    of "seed/name", up to `WHOLE` images of each, until the next does not fit; of classes with fewer
    than `per_class` images (then `FEWEST`) only where there are not two others.

    Args:
        labels: class of each image, as an index into `classes`.
        ids: id of each image.
        classes: names of the classes.
        count: the most images to take, less than there are.
        seed: seed of both draws.
        per_class: images a class under which whole classes are taken; 0 to take all classes.

    Returns:
        Rows, in the order of SHA-256 of "seed/id", as in a plain sample.

    >>> labels = np.repeat(np.arange(100), 50)
    >>> names = [f"{row:04d}" for row in range(5000)]
    >>> rows = choose_stratified(labels, names, [f"{c:02d}" for c in range(100)], 1024, 0, 20)
    >>> np.unique(np.unique(labels[rows], return_counts=True)[1], return_counts=True)
    (array([32]), array([32]))
    """
    hashes = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in ids]
    order = np.array(sorted(range(len(ids)), key=hashes.__getitem__), np.int64)
    sizes = np.bincount(labels, minlength=len(classes))
    present = int((sizes > 0).sum())
    if count >= per_class * present:
        quota = _share_out(sizes, count)
    else:
        quota = _take_whole(sizes, classes, count, seed, per_class)
    # the place of each image within its class, in this order
    of_class = labels[order]
    by_class = np.argsort(of_class, kind="stable")
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(order), np.int64)
    place[by_class] = np.arange(len(order)) - np.repeat(starts, sizes)
    return order[place < quota[of_class]]


def _share_out(sizes: Int64[np.ndarray, " class"], count: int) -> Int64[np.ndarray, " class"]:
    """How many images each class has in a sample of all classes."""
    least = np.minimum(sizes, FEWEST)
    if least.sum() > count:
        least = np.zeros_like(sizes)
    exact = count * sizes / sizes.sum()
    quota = np.maximum(np.floor(exact).astype(np.int64), least)
    # the least that rare classes have is taken from those that have most
    while quota.sum() > count:
        over = np.where(quota > least, quota - exact, -np.inf)
        worst = np.argsort(-over, kind="stable")[: int(quota.sum() - count)]
        quota[worst[np.isfinite(over[worst])]] -= 1
    missing = count - int(quota.sum())
    if missing:
        remainder = np.where(quota < sizes, exact - quota, -np.inf)
        quota[np.argsort(-remainder, kind="stable")[:missing]] += 1
    return quota


def _take_whole(
    sizes: Int64[np.ndarray, " class"],
    classes: Sequence[str],
    count: int,
    seed: int,
    per_class: int,
) -> Int64[np.ndarray, " class"]:
    """How many images each class has where only some classes are taken."""
    names = [hashlib.sha256(f"{seed}/{one_name(name)}".encode()).digest() for name in classes]
    order = np.array(sorted(range(len(classes)), key=names.__getitem__), np.int64)
    for least in (per_class, FEWEST, 1):
        candidates = order[sizes[order] >= least]
        if len(candidates) > 1:
            break
    wanted = np.minimum(sizes[candidates], WHOLE)
    fits = np.cumsum(wanted) <= count
    if fits.sum() < 2:  # two classes at least, as equal as the count has it
        wanted, fits = np.minimum(wanted, count // 2), np.arange(len(candidates)) < 2
    quota = np.zeros_like(sizes)
    quota[candidates[fits]] = wanted[fits]
    return quota
