"""Copies of images, told by their features: near copies, such as a photograph in another size or
saved again, by the features of the raw pixels, and copies by equal features."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sslens.capture import Features
from sslens.capture.manifest import Column

#: two images are near copies where their pixels, shrunk to 32 × 32, correlate by this or more. Of
#: photographs of 64 pixels and more, 96 % and more of those that are saved again as a JPEG (quality
#: 75) or scaled by 0.8 to 2 reach it, and of cropped ones almost none. Among 30,000 scenes no pair
#: does; among 60,000 photographs of CIFAR-10 seven do, each one photograph twice
ALIKE = 0.99
#: images with less than this of the mean contrast show noise, and are left out
LEAST_CONTRAST = 0.02
#: cells a side, and directions of most variance among their means, by which pairs are sought
CELLS, DIRECTIONS = 8, 10
#: images with more candidates than this, on average, are alike at large
CANDIDATES = 50
#: images of which the mean and the candidates are counted
SAMPLE = 1024
#: images that are read at once
ROWS = 4096


def find_near_copies(*sets: Features) -> Int64[np.ndarray, "pair 2"]:
    """Find the pairs of images that have nearly the same pixels.

    The pixels of a pair correlate by `ALIKE` or more, both as they are and less the mean of many
    images, so that a background or a layout that images have in common makes no near copies.

    Args:
        sets: the features of the raw pixels of one set of images or several, all of one size.

    Returns:
        The positions of both images of each pair, counted through all sets. There is no pair where
        all images are so alike that near copies do not stand out.

    >>> pixels = torch.rand(60, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))
    >>> pixels[40] = pixels[2] + 0.01 * pixels[3]
    >>> find_near_copies(Features.of({("pixels", "flat"): pixels})).tolist()
    [[2, 40]]
    """
    rows = np.arange(sum(len(one) for one in sets))
    if len(rows) < 3:
        return np.zeros((0, 2), np.int64)
    ((column, _),) = sets[0].columns.items()

    def read(some: Int64[np.ndarray, " row"]) -> Float[Tensor, "row value"]:
        return _centre(_read(sets, column, some))

    mean = read(_spread(len(rows))).mean(0)
    shrunk, contrasts = zip(*(_shrink(read(some) - mean) for some in _split(rows)), strict=True)
    contrast = torch.cat(contrasts).numpy()
    seen = np.flatnonzero(contrast > LEAST_CONTRAST * contrast.mean())
    pairs = _list_candidates(torch.cat(shrunk), seen)
    alike = [_are_alike(read(some[:, 0]), read(some[:, 1]), mean) for some in _split(pairs)]
    return pairs[np.concatenate(alike)]


def _split(rows: Int64[np.ndarray, "..."]) -> list[Int64[np.ndarray, "..."]]:
    return np.split(rows, range(ROWS, len(rows), ROWS))


def _read(
    sets: Sequence[Features], column: Column, rows: Int64[np.ndarray, " row"]
) -> Float[Tensor, "row value"]:
    """Read the features of some images, counted through all sets."""
    values = torch.empty(len(rows), sets[0].columns[column], dtype=sets[0].dtype)
    start = 0
    for one in sets:
        own = np.flatnonzero((rows >= start) & (rows < start + len(one)))
        if len(own):
            values[torch.from_numpy(own)] = one.read(*column, rows[own] - start).to(values.dtype)
        start += len(one)
    return values


def _spread(count: int) -> Int64[np.ndarray, " row"]:
    """Choose some of all rows, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).astype(np.int64))


def _centre(values: Float[Tensor, "image value"]) -> Float[Tensor, "image value"]:
    values = values.float()
    return values - values.mean(1, keepdim=True)


def _shrink(
    values: Float[Tensor, "image value"],
) -> tuple[Float[Tensor, "image cell"], Float[Tensor, " image"]]:
    """Return the means of cells of images of length 1, scaled so that two images are at least as
    far apart as their cells; and the length that each image had."""
    contrast = values.norm(dim=1)
    side = round((values.shape[1] / 3) ** 0.5)
    width = max(1, side // CELLS)
    planes = (values / contrast.clamp_min(1e-9)[:, None]).unflatten(1, (3, side, side))
    return avg_pool2d(planes, width).flatten(1) * width, contrast


def _list_candidates(
    cells: Float[Tensor, "image cell"], rows: Int64[np.ndarray, " row"]
) -> Int64[np.ndarray, "pair 2"]:
    """List all pairs of some images that may be near copies: none is missed, for the cells, and
    their projection on a few directions, are no farther apart than the images."""
    chosen = cells[torch.from_numpy(rows)]
    directions = torch.linalg.eigh(chosen.T @ chosen).eigenvectors[:, -DIRECTIONS:]
    farthest = (2 - 2 * ALIKE) ** 0.5
    tree = cKDTree((chosen @ directions).numpy())
    some = tree.data[_spread(len(rows))]
    if tree.query_ball_point(some, farthest, return_length=True).mean() > 1 + CANDIDATES:
        return np.zeros((0, 2), np.int64)
    pairs = tree.query_pairs(farthest, output_type="ndarray")
    near = [
        (chosen[some[:, 0]] - chosen[some[:, 1]]).norm(dim=1) <= farthest
        for some in map(torch.from_numpy, _split(pairs))
    ]
    pairs = pairs[torch.cat(near).numpy()]
    return rows[np.sort(pairs[np.lexsort(pairs.T[::-1])], axis=1)]


def _are_alike(
    one: Float[Tensor, "pair value"],
    other: Float[Tensor, "pair value"],
    mean: Float[Tensor, " value"],
) -> Bool[np.ndarray, " pair"]:
    """Whether each image is a near copy of the image beside it."""
    plain = torch.cosine_similarity(one, other)
    return (plain.minimum(torch.cosine_similarity(one - mean, other - mean)) >= ALIKE).numpy()


def find_equal_rows(*sets: Features) -> Int64[np.ndarray, " image"]:
    """Find the images of which another image has equal features in every column, as copies have.

    Args:
        sets: features of one model for one set of images or several; the columns that all sets have
            are compared.

    Returns:
        The positions of the images, counted through all sets. There is none where all images have
        equal features.

    >>> one = Features.of({("norm", "cls"): torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    >>> other = Features.of({("norm", "cls"): torch.tensor([[3.0, 4.0], [3.0, 5.0]])})
    >>> find_equal_rows(one, other).tolist()
    [1, 2]
    """
    columns = [one for one in sets[0].columns if all(one in other.columns for other in sets)]
    rows = np.arange(sum(len(one) for one in sets))
    numbers = np.zeros(len(rows), np.int64)  # images with one number have been equal so far
    for column in reversed(columns):
        digests = [one for some in _split(rows) for one in _hash_rows(_read(sets, column, some))]
        places: dict[tuple[int, bytes], int] = {}
        seen = zip(numbers.tolist(), digests, strict=True)
        numbers = np.array([places.setdefault(one, len(places)) for one in seen], np.int64)
        several = np.bincount(numbers)[numbers] > 1
        rows, numbers = rows[several], numbers[several]
        if not len(rows):
            break
    collapsed = len(rows) == sum(len(one) for one in sets) and len(np.unique(numbers)) == 1
    return rows[:0] if collapsed else rows


def _hash_rows(values: Float[Tensor, "row value"]) -> list[bytes]:
    numbers = values.contiguous().view(torch.uint8).numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in numbers]
