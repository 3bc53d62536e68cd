"""Masks as run lengths, as COCO stores them: small in memory at any size of image.

A mask's pixels are read column by column from the top left; `counts` are the lengths of the runs,
of pixels outside and inside in turn, beginning with a run outside (perhaps of length 0).
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Int64

from sslens.counts import spell_count
from sslens.errors import InputError

#: pixels of an image up to which a mask is decoded whole (16 MB); beyond, pixels are looked up
_WHOLE = 1 << 24


def import_hotcoco() -> Any:
    """Import hotcoco, which draws polygons as COCO does and scores detections.

    Raises:
        InputError: the package is not installed.
    """
    try:
        return importlib.import_module("hotcoco")
    except ImportError as error:
        raise InputError(
            "The package hotcoco, which draws COCO's polygons and scores detections, is not"
            " installed",
            mend="run pip install 'sslens[detect]'",
        ) from error


@final
@dataclass(frozen=True, eq=False)
class Rle:
    """A mask as run lengths.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        counts: lengths of the runs outside and inside in turn, column by column.

    Raises:
        InputError: a length is negative, or the lengths do not add up to height × width.

    >>> mask = Rle.from_mask(np.array([[False, True], [True, True]]))
    >>> mask.counts.tolist()  # down the first column: one outside, one inside; then two inside
    [1, 3]
    >>> mask.to_mask((2, 2)).tolist(), mask.area
    ([[False, True], [True, True]], 3)
    """

    height: int
    width: int
    counts: Int64[np.ndarray, " run"]

    def __post_init__(self) -> None:
        pixels = self.height * self.width
        total = sum(self.counts.tolist())  # whole numbers that cannot wrap around
        if total != pixels or (self.counts < 0).any():
            raise InputError(
                f"A mask's runs are {spell_count(total, 'pixel')} long together, and its image has"
                f" {self.height} × {self.width}: make the mask for its image."
            )

    @classmethod
    def from_mask(cls, mask: Bool[np.ndarray, "height width"]) -> "Rle":
        """Make the run lengths of a mask."""
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        starts = [0, 0] if flat.size and flat[0] else [0]
        edges = np.concatenate([np.array(starts), changes, [flat.size]])
        height, width = mask.shape
        return cls(height, width, np.diff(edges).astype(np.int64))

    @classmethod
    def from_coco(cls, segmentation: Any, height: int, width: int) -> "Rle":
        """Read a segmentation of COCO's format: polygons, run lengths, or compressed run lengths.

        Args:
            segmentation: a list of polygons [x, y, x, y, …], which are joined; or a mapping with
                "size" (height, width) and "counts", a list of numbers or COCO's compressed string.
            height: of the image, in pixels.
            width: of the image, in pixels.

        Raises:
            InputError: the mask is of another size than the image or is none of these, or there
                are polygons and hotcoco is not installed.

        >>> Rle.from_coco({"size": [2, 2], "counts": [1, 3]}, 2, 2).area
        3
        >>> Rle.from_coco({"size": [2, 2], "counts": "13"}, 2, 2).area
        3
        >>> square = [1, 1, 3, 1, 3, 3, 1, 3]
        >>> Rle.from_coco([square], 4, 4).box.tolist()  # x0, y0, x1, y1
        [1.0, 1.0, 3.0, 3.0]
        """
        if isinstance(segmentation, Mapping):
            if list(segmentation["size"]) != [height, width]:
                rows, columns = segmentation["size"]
                raise InputError(
                    f"A mask has {rows} × {columns} pixels, and its image has {height} × {width}:"
                    " make the mask for its image."
                )
            counts = segmentation["counts"]
            if isinstance(counts, str | bytes):
                return cls(height, width, decompress(counts))
            return cls(height, width, np.asarray(counts, np.int64))
        masks = import_hotcoco().mask
        parts = [masks.fr_poly(polygon, height, width) for polygon in segmentation]
        joined = parts[0] if len(parts) == 1 else masks.merge(parts)
        return cls(height, width, decompress(joined["counts"]))

    def to_coco(self) -> dict[str, list[int]]:
        """The mask as an uncompressed segmentation of COCO's format."""
        return {"size": [self.height, self.width], "counts": self.counts.tolist()}

    @property
    def area(self) -> int:
        """Number of pixels of the mask."""
        return int(self.counts[1::2].sum())

    @property
    def box(self) -> np.ndarray:
        """The tight box (x0, y0, x1, y1) in pixels; zeros if the mask is empty."""
        ends = np.cumsum(self.counts)
        first, last = ends[:-1:2], ends[1::2] - 1  # of each run inside
        inside = last >= first
        first, last = first[inside], last[inside]
        if not first.size:
            return np.zeros(4)
        columns = first // self.height, last // self.height
        whole = columns[0] != columns[1]  # a run into the next column reaches bottom and top
        top = 0 if whole.any() else int((first % self.height).min())
        bottom = self.height - 1 if whole.any() else int((last % self.height).max())
        return np.array([columns[0].min(), top, columns[1].max() + 1, bottom + 1], float)

    def to_mask(self, size: tuple[int, int] | None = None) -> Bool[np.ndarray, "row column"]:
        """The mask at a size, each pixel as the source's pixel under its centre.

        Memory is bounded by `size`, however large the image is.

        Args:
            size: (height, width) of the result; the image's own unless given.

        >>> Rle(2, 2, np.array([1, 3])).to_mask((1, 4)).tolist()  # the lower of two rows
        [[True, True, True, True]]
        """
        rows, columns = size or (self.height, self.width)
        y = ((np.arange(rows) + 0.5) * (self.height / rows)).astype(np.int64)
        x = ((np.arange(columns) + 0.5) * (self.width / columns)).astype(np.int64)
        return self.look_up(y, x)

    def look_up(
        self, y: Int64[np.ndarray, " row"], x: Int64[np.ndarray, " column"]
    ) -> Bool[np.ndarray, "row column"]:
        """The mask at each pair of a row y and a column x of the image.

        >>> Rle(2, 2, np.array([1, 3])).look_up(np.array([0, 1]), np.array([0])).tolist()
        [[False], [True]]
        """
        if self.height * self.width <= _WHOLE:
            inside = np.arange(len(self.counts)) % 2 == 1
            whole = np.repeat(inside, self.counts).reshape(self.width, self.height)
            return np.asarray(whole.T[y[:, None], x])
        places = x[None] * self.height + y[:, None]
        runs = np.searchsorted(np.cumsum(self.counts), places.ravel(), "right")
        return np.asarray(runs % 2 == 1).reshape(places.shape)


def decompress(text: str | bytes) -> Int64[np.ndarray, " run"]:
    """Read COCO's compressed run lengths.

    A number is written in groups of five bits, the lowest first, each as the character 48 + the
    group, + 32 if another group follows; the last group's highest bit is the sign. From the fourth
    number on, it is the length less the length two places before (pycocotools' `rleFrString`).

    Raises:
        InputError: the text is no such number.

    >>> decompress("13").tolist(), decompress("5410").tolist()
    ([1, 3], [5, 4, 1, 4])
    """
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    groups = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not groups.size:
        return groups
    last = (groups & 32) == 0
    if groups.min() < 0 or groups.max() > 63 or not last[-1]:
        raise InputError("A mask's compressed run lengths are damaged: write them again.")
    number = np.cumsum(last) - last
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(groups)) - starts[number]
    values = np.bincount(number, weights=(groups & 31) << 5 * place).astype(np.int64)
    ends = np.flatnonzero(last)
    values -= np.where(groups[ends] & 16, np.int64(1) << 5 * (place[ends] + 1), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def stack_masks(
    masks: Sequence[Rle], size: tuple[int, int]
) -> Bool[np.ndarray, "object height width"]:
    """Stack masks at a size (height, width); see `Rle.to_mask`."""
    stacked = np.zeros((len(masks), *size), bool)
    for row, mask in enumerate(masks):
        stacked[row] = mask.to_mask(size)
    return stacked
