"""What the store keeps of a model over images: folders of shards, found by weights, transform,
precision and images, and shared by everyone who asks.

Under the address of a model over images each folder holds some taps, with the images in the order
of one pass. A caller gets rows from all these folders in the order of the caller's plan: a feature
does not depend on the order or the minibatches of a pass, except for rounding.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, final

import numpy as np
from torch import Tensor

from sslens.capture.features import Features, open_features
from sslens.capture.folders import describe_folder, find_widths, list_missing_shards
from sslens.capture.keys import PassRequest
from sslens.capture.manifest import Column, Manifest, is_features, read_images
from sslens.capture.reducers import Reducer
from sslens.capture.sharing import this_process, wait_for_all
from sslens.capture.sources import InShards, Source, find_rows
from sslens.capture.writing import (
    ShardWriter,
    begin_folder,
    count_minibatches_of_shard,
    remove_features,
)
from sslens.errors import Doubt, InputError
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.store import Store, digest

Noun = TypeVar("Noun", covariant=True)
#: a tap's output as vectors, by pooling
Pooled = Callable[[Tap, Tensor], Mapping[str, Tensor]]


@final
@dataclass(frozen=True)
class Shelf:
    """The place of one kind of folders in the store.

    Attributes:
        kind: the kind of reducer.
        version: the version of the reducer's computation.
        dtype: the number type that is kept, "float16" or "float32".
    """

    kind: str
    version: int
    dtype: str

    def folder(self, request: PassRequest, store: Store) -> Path:
        """Return the folder of all that is kept of a model over images."""
        key = {"reducer": self.kind, "version": self.version, **request.seen}
        return store.path(self.kind, key, suffix="")

    def open_parts(self, request: PassRequest, store: Store) -> list[Features]:
        """Open the whole folders of a model over images; first those in the order of the plan."""
        folder, parts = self.folder(request, store), []
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            try:
                part = open_features(path)
            except InputError:  # not whole, or damaged: its content is computed again
                continue
            if not _remove_damaged(part, [tap.name for tap in request.taps]):
                parts.append(part)
        return sorted(parts, key=lambda part: part.ids != request.plan.ids)


def _remove_damaged(part: Features, taps: Sequence[str]) -> bool:
    """Remove the shards of a folder that are damaged at some taps, so that they are computed again;
    return whether there were any."""
    if not isinstance(part.source, InShards):
        return False
    damaged = dict(part.source.find_damaged(taps))
    for path in damaged:
        path.unlink(missing_ok=True)
        if this_process()[0] == 0:
            warnings.warn(
                f"{path} is damaged: its values are not those that were written. It is computed"
                " again.",
                Doubt,
                stacklevel=4,
            )
    return bool(damaged)


def list_lacking(request: PassRequest, parts: Sequence[Features]) -> tuple[Tap, ...]:
    """List the taps that no part has."""
    stored = {name for part in parts for name, _ in part.columns}
    return tuple(tap for tap in request.taps if tap.name not in stored)


def choose_sources(
    request: PassRequest, parts: Sequence[Features]
) -> tuple[dict[Column, int], dict[Column, tuple[Source, np.ndarray | None]]]:
    """Choose the first part that has each tap; return the widths of the columns, and for each
    column its source with the source's rows in the order of the plan (None where they are in that
    order)."""
    rows = [find_rows(part.ids, request.plan.ids) for part in parts]
    sources, columns = {}, {}
    for tap in request.taps:
        place, part = next(
            (place, part)
            for place, part in enumerate(parts)
            if any(name == tap.name for name, _ in part.columns)
        )
        for column, width in part.columns.items():
            if column[0] == tap.name:
                sources[column], columns[column] = (part.source, rows[place]), width
    return columns, sources


@final
class Filer(Generic[Noun]):
    """Pools each tap's outputs in the course of a pass, and writes them to the store shard by
    shard; only taps and shards that the store lacks are written.

    Args:
        reducer: finds the result in the store when the pass is over.
        shelf: the kind of folders.
        pooled: makes vectors of a tap's output, by pooling.
        lacking: the taps that the store lacks.
        request, store: the pass, and where its result is kept.
        most: returns the largest number of images in a shard, for so many bytes an image.
    """

    def __init__(
        self,
        reducer: Reducer[Noun],
        shelf: Shelf,
        pooled: Pooled,
        lacking: tuple[Tap, ...],
        request: PassRequest,
        store: Store,
        most: Callable[[int], int],
    ) -> None:
        self._reducer, self._request, self._store = reducer, request, store
        self._shelf, self._pooled = shelf, pooled
        part = replace(request, taps=lacking)
        widths = find_widths(request.model, part.taps, pooled)
        row_bytes = describe_folder(part, widths, shelf.dtype, 1).row_bytes
        shard = _choose_shard(request.plan, len(request.images), most(row_bytes))
        names = [tap.name for tap in part.taps]
        folder = shelf.folder(request, store)
        folder /= digest([names, digest(request.plan.ids), shard])[:16]
        manifest = describe_folder(part, widths, shelf.dtype, shard)
        if this_process()[0] == 0:
            _clear_damaged(folder, manifest)
        wait_for_all()
        missing = list_missing_shards(folder, manifest, "free some, or ask for fewer {taps}")
        wait_for_all()  # all have seen what was there before
        if this_process()[0] == 0:
            begin_folder(folder, manifest, request.plan.ids, request.images)
        self._names = frozenset(names)
        self._writer = ShardWriter(folder, manifest, request.plan, missing, "leave that tap out")
        self.minibatches, self.together = self._writer.minibatches, self._writer.together
        self._wanted = frozenset(self.minibatches)

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on minibatch number `batch`."""
        if tap.name in self._names and batch in self._wanted:
            for pooling, vectors in self._pooled(tap, output).items():
                self._writer.put((tap.name, pooling), vectors, batch)

    def finish(self) -> Noun:
        """Wait until all processes have written their shards, and return the result from the
        store."""
        self._writer.close()
        wait_for_all()
        result = self._reducer.find(self._request, self._store)
        if result is None:
            raise InputError(
                f"The {self._shelf.kind} of {self._request.model.name} were just written to"
                f" {self._store.root}, and are not there: do all processes see this folder, and"
                " does nothing remove its files?"
            )
        return result


def _choose_shard(plan: Plan, count: int, most: int) -> int:
    """The number of images in a shard: whole minibatches, at most `most` images or one
    minibatch, and a shard or more for each process; all images where minibatches are uneven."""
    share = math.ceil(count / this_process()[1])
    shard = plan.sizes[0] * math.ceil(min(most, share) / plan.sizes[0])
    uneven = count_minibatches_of_shard(plan, shard) == len(plan.sizes)
    return len(plan.ids) if uneven else shard


def _clear_damaged(folder: Path, wanted: Manifest) -> None:
    """Remove the features in a folder of the store that does not say what it should."""
    if not is_features(folder):
        return
    try:
        manifest = Manifest.read(folder)
        read_images(folder, manifest)
        damaged = manifest.key != wanted.key
    except InputError:
        damaged = True
    if damaged:
        remove_features(folder)


def describe_result(
    request: PassRequest, shelf: Shelf, columns: Mapping[Column, int]
) -> Mapping[str, Any]:
    """Return everything that decides the rows of a result and their order, as plain JSON values."""
    return {
        "reducer": shelf.kind,
        "version": shelf.version,
        "taps": [vars(tap) for tap in request.taps],
        "columns": [[*column, width] for column, width in columns.items()],
        "ids": digest(request.plan.ids),
        **request.seen,
    }
