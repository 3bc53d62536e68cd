"""Dense probes of every map of a model: the split of the images, the labels of patches, and how
well each probe segments the test images."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sslens.capture import Maps
from sslens.comparisons.inputs import MapSets
from sslens.comparisons.probing import PLUS
from sslens.comparisons.roles import PIXELS
from sslens.comparisons.rows import Row
from sslens.comparisons.segments import IGNORED, SegmentedImages, Segments
from sslens.errors import InputError
from sslens.probes.dense import fit_dense
from sslens.probes.dense_knn import MEMORY, K, segment_nearest
from sslens.probes.overlap import Overlap, score_patches
from sslens.probes.patches import PatchLabels, count_labels, find_terciles, join_maps
from sslens.probes.splits import held_out
from sslens.statistics.estimate import Estimate
from sslens.statistics.sampled import Sampled

#: objects of all sizes together
ALL = "all"
#: how patches are classified
READINGS = ("k-NN", "linear")
#: which images a part of the split has
Part = Literal["train", "validation", "test"]


@final
@dataclass(frozen=True, eq=False)
class DenseSplit:
    """The images on which dense probes are trained, chosen and tested, the same for all models.

    Attributes:
        segments: the pixels of all images.
        ids: the ids of the images of each part.
        edges: shares of an image's pixels between small and medium, and medium and large objects;
            None where the training images have fewer than three objects.
    """

    segments: Segments
    ids: Mapping[Part, tuple[str, ...]]
    edges: tuple[float, float] | None

    @classmethod
    def of(cls, segments: Segments, seed: int) -> "DenseSplit":
        """Split the images: the bank trains, less a fifth on which penalties are chosen, and the
        images under study test. Without a bank, half of the images take its place.

        Terciles of the objects' areas are those of the training images, as the first model sees
        them.
        """
        ids = segments.images.ids
        learnt = tuple(ids if segments.bank is None else segments.bank.ids)
        test = ids
        if segments.bank is None:
            one, other = held_out(np.zeros(len(ids), np.int64), ids, share=0.5, seed=seed)
            learnt, test = (tuple(ids[row] for row in rows) for rows in (one, other))
        rows = held_out(np.zeros(len(learnt), np.int64), learnt, seed=seed + 1)
        train, validation = (tuple(learnt[row] for row in part) for part in rows)
        parts: dict[Part, tuple[str, ...]] = {
            "train": train,
            "validation": validation,
            "test": test,
        }
        split = cls(segments, parts, None)
        name = next(iter(segments.images.views))
        objects = split._source("train").views[name].objects[split._rows("train")]
        try:
            edges = find_terciles(objects)
        except InputError:  # too few objects have no sizes
            edges = None
        return cls(segments, parts, edges)

    def _source(self, part: Part) -> SegmentedImages:
        bank = self.segments.bank
        return self.segments.images if part == "test" or bank is None else bank

    def _rows(self, part: Part) -> Int64[Tensor, " image"]:
        row = {name: place for place, name in enumerate(self._source(part).ids)}
        return torch.tensor([row[name] for name in self.ids[part]])

    def count(self, name: str, grid: tuple[int, int], part: Part) -> PatchLabels:
        """Count the labelled pixels of each patch of a model's map.

        Args:
            name: the model.
            grid: rows and columns of its map.
            part: which images.
        """
        view, rows = self._source(part).views[name], self._rows(part)
        return count_labels(
            view.masks[rows],
            grid,
            len(self.segments.classes),
            ignore=IGNORED,
            objects=None if self.edges is None else view.objects[rows],
            edges=self.edges,
            ids=self.ids[part],
        )

    def read(self, maps: Maps, tap: str, part: Part) -> Float[Tensor, "image row column dim"]:
        """Read a model's map of the images of a part; two taps, joined by " + ", are concatenated.

        Each patch of raw pixels gets its position too: x, y, x², y² and xy, from −1 to 1.
        """
        rows = maps.rows(self.ids[part])
        values = join_maps([maps.read(one, rows).float() for one in tap.split(PLUS)])
        return torch.cat([values, _positions(values)], 3) if tap == PIXELS else values


def _positions(values: Float[Tensor, "image row column _"]) -> Float[Tensor, "image row column 5"]:
    y, x = torch.meshgrid(
        *(torch.linspace(-1, 1, count) for count in values.shape[1:3]), indexing="ij"
    )
    return torch.stack([x, y, x * x, y * y, x * y], 2).expand(len(values), -1, -1, -1)


@final
@dataclass(frozen=True, eq=False)
class DenseScore:
    """How well one probe of one map of a model segments the test images.

    Attributes:
        place: columns that say which probe it is.
        head: columns about the probe itself.
        overlap: the scores by class and by size.
        scores: mean IoU of all objects, then by size.
    """

    place: Row
    head: Row
    overlap: Overlap

    @functools.cached_property
    def scores(self) -> Sampled:
        """Mean IoU of all pixels, then of the objects of each size."""
        sizes = range(len(self.overlap.sizes))
        return Sampled.stack([self.overlap.miou, *(self.overlap.by_size[k] for k in sizes)])

    @property
    def sizes(self) -> tuple[str, ...]:
        """What `scores` are of."""
        return ALL, *self.overlap.sizes


def score_model(
    name: str, maps: MapSets, split: DenseSplit, *, control: bool, seed: int
) -> Iterator[DenseScore]:
    """Segment the test images by k-NN and by a linear probe of every map of a model, and by a
    linear probe of the last map and the one at half the depth together."""
    own = maps.images[name]
    bank = maps.bank.get(name, own)
    taps = {tap.name: tap for tap in own.taps}
    joined = _find_joined(own)
    for grid, names in _group_by_grid(own, joined).items():
        labels = {part: split.count(name, grid, part) for part in ("train", "validation", "test")}
        parts = {tap: _about(name, tap, taps[tap.split(PLUS)[-1]].depth, control) for tap in names}
        majority = labels["test"].majority()
        references = (majority, torch.zeros_like(majority))
        likely, nothing = (score_patches(one, labels["test"]).miou for one in references)
        common = {
            "rows": grid[0],
            "columns": grid[1],
            "bound": float(likely.value),
            "background": float(nothing.value),
            "trained": len(split.ids["train"]),
            "images": len(split.ids["test"]),
        }
        if split.edges is not None:
            common |= {"small_under": split.edges[0], "large_over": split.edges[1]}
        alone = [tap for tap in names if PLUS not in tap]
        for tap in alone:
            yield _score_nearest(own, bank, tap, split, labels, (parts[tap], common), seed)
        heads = fit_dense(
            (split.read(bank, tap, "train") for tap in names),
            labels["train"],
            (split.read(bank, tap, "validation") for tap in names),
            labels["validation"],
        )
        for tap, head in zip(names, heads, strict=True):
            test = split.read(own, tap, "test")
            overlap = score_patches(head.predict(test), labels["test"])
            about = {
                "dimensions": test.shape[3],
                "penalty": head.penalty,
                "validation": head.miou,
                "converged": head.converged,
                "inside": head.inside,
                "why": head.why,
            }
            yield DenseScore(
                parts[tap] | {"reading": "linear"}, common | about | _read(overlap), overlap
            )


def _score_nearest(
    own: Maps,
    bank: Maps,
    tap: str,
    split: DenseSplit,
    labels: Mapping[str, PatchLabels],
    columns: tuple[Row, Row],
    seed: int,
) -> DenseScore:
    """k-NN of one map, with patches of the training images in its memory."""
    test = split.read(own, tap, "test")
    found = segment_nearest(
        split.read(bank, tap, "train"), labels["train"], test, memory=MEMORY, k=K, seed=seed
    )
    overlap = score_patches(found.predicted, labels["test"])
    place, common = columns
    about = {"dimensions": test.shape[3], "memory": found.memory, "k": found.k}
    return DenseScore(place | {"reading": "k-NN"}, common | about | _read(overlap), overlap)


def _read(overlap: Overlap) -> Row:
    """The pixel accuracy as columns."""
    return to_estimate(overlap.accuracy, share=True).columns("accuracy")


def _about(name: str, tap: str, depth: float, control: bool) -> Row:
    return {"model": name, "control": control, "tap": tap, "depth": depth}


def _find_joined(maps: Maps) -> str | None:
    """The last map and the one nearest to half the depth, as one tap; None where they are one."""
    if len(maps.taps) < 2:
        return None
    middle = min(maps.taps, key=lambda tap: abs(tap.depth - 0.5)).name
    last = maps.taps[-1].name
    return None if middle == last else f"{middle}{PLUS}{last}"


def _group_by_grid(maps: Maps, joined: str | None) -> dict[tuple[int, int], list[str]]:
    """The taps by the grid of their maps; several together have the finest."""
    names = [*maps.grids, *([joined] if joined else [])]
    groups: dict[tuple[int, int], list[str]] = {}
    for name in names:
        grids = [maps.grids[one] for one in name.split(PLUS)]
        grid = max(one.rows for one in grids), max(one.columns for one in grids)
        groups.setdefault(grid, []).append(name)
    return groups


def to_estimate(value: Sampled, *, share: bool = False) -> Estimate:
    """Return a single value with its interval over images.

    Args:
        value: the value, such as a difference.
        share: whether it is a share, with an interval between 0 and 1.
    """
    ends = value.share_interval() if share else value.interval()
    low, high = (float(end) for end in ends)
    count = value.drawn[0] if value.drawn else value.batches
    return Estimate(float(value.value), low, high, "images", int(count))


@final
@dataclass(frozen=True, eq=False)
class DenseCurve:
    """The scores after each block of one model.

    Attributes:
        depths: the relative depth of each block, ascending.
        scores: mean IoU by block, of all objects and by size.
    """

    depths: Float64[np.ndarray, " block"]
    scores: Sampled

    @classmethod
    def of(cls, scores: list[DenseScore]) -> "DenseCurve":
        """Order the scores of a model's single taps by depth."""
        ordered = sorted(scores, key=lambda one: float(one.place["depth"]))
        depths = np.array([float(one.place["depth"]) for one in ordered])
        return cls(depths, Sampled.stack([one.scores for one in ordered]))

    def at(self, depths: Float64[np.ndarray, " depth"]) -> Sampled:
        """Return the scores of the blocks nearest to some relative depths."""
        apart = np.abs(self.depths[:, None] - depths).round(9)
        return self.scores[apart.argmin(0)]
