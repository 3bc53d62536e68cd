"""Features of images by tap and pooling, read in parts: from a folder of shards, or from memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture.manifest import (
    DTYPES,
    POOLINGS,
    Column,
    Manifest,
    locate_columns,
    read_images,
    shard_path,
)
from sslens.capture.sources import InMemory, InShards, Joined, Source, find_rows
from sslens.counts import spell_count
from sslens.errors import InputError, nearest, require_type
from sslens.models.about import About
from sslens.models.taps import Tap
from sslens.store import digest


@dataclass(frozen=True)
class FeatureBlock:
    """Features of some images.

    Attributes:
        rows: the images' rows in the features that the block was read from.
        features: [image, dim] by tap and pooling.
        labels: the class of each image, or None.
    """

    rows: Int64[np.ndarray, " image"]
    features: dict[Column, Float[Tensor, "image _"]]
    labels: Int64[Tensor, " image"] | None


@final
@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """Features of images by tap and pooling, read in parts: from a folder of shards, or from
    memory.

    Attributes:
        model: name of the model.
        ids: the ids of the images, in the order of the rows.
        labels: the class of each image, or None.
        classes: the names of the classes.
        taps: the taps in the order of computation.
        columns: the width of each column; a column is a tap and a pooling.
        dtype: torch.float16 or torch.float32.
        key: what decided the features: weights, transform, precision, images, ….
        source: where rows are read from.
        read_pooling: the pooling that the model's own classifier read (`About.read_pooling`), which
            is then the usual one; None where it is not known or there is no classifier.
    """

    model: str
    ids: tuple[str, ...]
    labels: Int64[np.ndarray, " image"] | None
    classes: tuple[str, ...]
    taps: tuple[Tap, ...]
    columns: Mapping[Column, int]
    dtype: torch.dtype
    key: Mapping[str, Any]
    source: Source
    read_pooling: str | None = None

    @classmethod
    def of(
        cls,
        columns: Mapping[Column, Float[Tensor, "image _"]],
        *,
        ids: Sequence[str] | None = None,
        taps: Sequence[Tap] | None = None,
        labels: Sequence[int] | Int64[np.ndarray, " image"] | None = None,
        classes: Sequence[str] = (),
        model: str = "arrays",
        key: Mapping[str, Any] | None = None,
    ) -> "Features":
        """Make features from arrays in memory, one array for each tap and pooling.

        Args:
            columns: the arrays by tap and pooling, all of one number type.
            ids: the ids of the images; "0", "1", … unless given.
            taps: the taps in the order of computation; those of the columns unless given.
            labels: the class of each image.
            classes: the names of the classes.
            model: the name of the model.
            key: what decided the features.

        Raises:
            InputError: there is no column, or the columns and ids have different numbers of images.

        >>> features = Features.of({("blocks.0", "cls"): torch.ones(1, 2)}, ids=["a"], labels=[3])
        >>> features.columns, features.labels.tolist(), features.read("blocks.0", "cls").tolist()
        ({('blocks.0', 'cls'): 2}, [3], [[1.0, 1.0]])
        """
        if not columns:
            raise InputError("Features of no tap were given: give one column or more.")
        first = next(iter(columns.values()))
        counts = {len(values) for values in columns.values()} | {
            len(first) if ids is None else len(ids)
        }
        if len(counts) > 1:
            raise InputError(
                f"The columns and ids of features are of {' and '.join(map(str, sorted(counts)))}"
                " images: give all of the same."
            )
        if taps is None:
            names = list(dict.fromkeys(tap for tap, _ in columns))
            end = max(1, len(names) - 1)
            taps = [Tap(name, "array", place / end) for place, name in enumerate(names)]
        return cls(
            model,
            tuple(str(row) for row in range(len(first))) if ids is None else tuple(ids),
            None if labels is None else np.array(labels, np.int64),
            tuple(classes),
            tuple(taps),
            {column: values.shape[1] for column, values in columns.items()},
            first.dtype,
            key or {},
            InMemory(columns),
        )

    def labelled(self, labels: Mapping[str, int], classes: Sequence[str] = ()) -> "Features":
        """Return the same features, with the class of each image looked up by its id."""
        numbers = np.array([labels[name] for name in self.ids], np.int64)
        return replace(self, labels=numbers, classes=tuple(classes))

    def arranged(self, ids: Sequence[str]) -> "Features":
        """Return the same features, with a row for each of these images, in their order.

        Args:
            ids: some or all of the features' ids.

        >>> features = Features.of({("x", "flat"): torch.tensor([[1.0], [2.0]])}, ids=["b", "a"])
        >>> features.arranged(["a", "b"]).read("x", "flat").tolist()
        [[2.0], [1.0]]
        """
        rows = find_rows(self.ids, ids)
        if rows is None:
            return self
        return replace(
            self,
            ids=tuple(ids),
            labels=None if self.labels is None else self.labels[rows],
            key={**self.key, **({"ids": digest(ids)} if "ids" in self.key else {})},
            source=Joined(dict.fromkeys(self.columns, (self.source, rows))),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        count = len(self.columns)
        columns = f"{count} taps and poolings" if count > 1 else "1 tap and pooling"
        return f"<Features {self.model}: {spell_count(len(self), 'image')}, {columns}>"

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings that at least one tap has."""
        return tuple(pooling for pooling in POOLINGS if any(pooling == p for _, p in self.columns))

    @property
    def row_bytes(self) -> int:
        """Bytes of one image's features, over all taps and poolings."""
        return sum(self.columns.values()) * self.dtype.itemsize

    def require(self, tap: str, pooling: str) -> Column:
        """Return the column of a tap and pooling.

        Raises:
            InputError: the features have no such tap, or the tap no such pooling; the message
                offers the nearest name.
        """
        if (tap, pooling) in self.columns:
            return tap, pooling
        taps = dict.fromkeys(name for name, _ in self.columns)
        if tap not in taps:
            raise InputError(
                f'The features of {self.model} have no tap "{tap}": {nearest(tap, taps)}'
            )
        there = [p for name, p in self.columns if name == tap]
        raise InputError(
            f'The features of {self.model} at {tap} have no pooling "{pooling}":'
            f" {nearest(pooling, there)}"
        )

    def read(
        self, tap: str, pooling: str, rows: slice | Int64[np.ndarray, " row"] = slice(None)
    ) -> Float[Tensor, "row dim"]:
        """Read the features of some rows, or of all.

        Consecutive rows of one shard are a view of what is held of it.

        Raises:
            InputError: an unknown tap or pooling, or a shard that is damaged.
        """
        column = self.require(tap, pooling)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            rows = slice(start, max(start, stop)) if step == 1 else np.arange(start, stop, step)
        return self.source.read(column, rows)

    def order(
        self, seed: int, rows: Int64[np.ndarray, " row"] | None = None
    ) -> Int64[np.ndarray, " row"]:
        """Return rows (all unless given) in a random order in which `blocks` reads every shard only
        once.

        Shards are shuffled first; then rows are shuffled within windows of so many shards as make
        256 MB. Smaller features are one window, so that all rows are shuffled together.

        >>> features = Features.of({("x", "flat"): torch.zeros(4, 1)})
        >>> sorted(features.order(seed=0).tolist())
        [0, 1, 2, 3]
        """
        generator = np.random.default_rng(seed)
        rows = np.arange(len(self)) if rows is None else rows
        windows = self.source.windows(rows, generator, self.row_bytes)
        return rows[np.lexsort((generator.random(len(rows)), windows))]

    def blocks(
        self,
        size: int,
        columns: Sequence[Column] | None = None,
        rows: Int64[np.ndarray, " row"] | None = None,
    ) -> Iterator[FeatureBlock]:
        """Yield the rows (all unless given) in their order, `size` at a time; the last block may be
        smaller.

        Args:
            size: rows in a block.
            columns: the columns to read; all unless given.
            rows: the rows to read, in this order; all unless given.

        >>> features = Features.of({("x", "flat"): torch.tensor([[1.0], [2.0], [3.0]])})
        >>> [block.features["x", "flat"].flatten().tolist() for block in features.blocks(2)]
        [[1.0, 2.0], [3.0]]
        """
        columns = (
            list(self.columns) if columns is None else [self.require(*column) for column in columns]
        )
        count = len(self) if rows is None else len(rows)
        for start in range(0, count, size):
            stop = min(start + size, count)
            which = np.arange(start, stop) if rows is None else rows[start:stop]
            part = slice(start, stop) if rows is None else which
            labels = None if self.labels is None else torch.from_numpy(self.labels[which])
            yield FeatureBlock(
                which, {column: self.read(*column, part) for column in columns}, labels
            )


def open_features(folder: Path | str) -> Features:
    """Open the features that `extract` stored in a folder; a column of a shard is read, and held
    against its checksum, when it is first asked for.

    Raises:
        InputError: the folder has no features; a shard is missing, cut off or of other features; or
            the ids are not those of the manifest.

    >>> import sslens, tempfile
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = sslens.extract(model, images, folder, taps=["norm"])
    ...     values = open_features(folder).read("norm", "patch").clone()
    >>> values.dtype, tuple(values.shape)
    (torch.float16, (8, 64))
    """
    require_type(folder, (str, Path), "folder", "give the path of a folder of features")
    folder = Path(folder).expanduser()
    manifest = Manifest.read(folder)
    ids, labels = read_images(folder, manifest)
    starts, faulty = [], {}
    for number in range(manifest.count):
        try:
            places = locate_columns(folder, manifest, number)
        except FileNotFoundError:
            places, faulty[number] = None, "missing"
        if places is None:
            faulty.setdefault(number, "cut off or of other features")
        starts.append(places or {})
    if faulty:
        number, why = next(iter(faulty.items()))
        raise InputError(
            f"{len(faulty)} of {spell_count(manifest.count, 'shard')} of {folder} cannot be used,"
            f" first {shard_path(folder, number).name}, which is {why}: run the same sslens"
            " features command again, and only those are computed."
        )
    return Features(
        manifest.model["name"],
        ids,
        labels,
        manifest.classes,
        manifest.taps,
        manifest.columns,
        DTYPES[manifest.dtype],
        manifest.key,
        InShards(folder, manifest, starts),
        About.from_json(manifest.model.get("about", {})).read_pooling,
    )
