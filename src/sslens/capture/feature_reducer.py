"""Features of a pass, stored once for everyone who asks for them.

The features of a model over images are a folder of shards in the store. Their address in the store
names the weights, the transform, the precision and the images. Under this address each folder holds
some taps, with the images in the order of one pass. A caller gets the features from all these
folders, in the order of the caller's plan: a feature does not depend on the order or the
minibatches of a pass, except for rounding.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from sslens.capture.features import Features, open_features
from sslens.capture.folders import describe_folder, find_widths, list_missing_shards
from sslens.capture.keys import PassRequest
from sslens.capture.manifest import (
    POOLINGS,
    Column,
    Manifest,
    is_features,
    parse_column,
    read_images,
)
from sslens.capture.pooling import pool
from sslens.capture.sharing import sum_over_processes, this_process, wait_for_all
from sslens.capture.sources import Joined
from sslens.capture.writing import ShardWriter, begin_folder, count_minibatches_of_shard
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.models.taps import ON_REQUEST, Tap
from sslens.store import Store, digest

#: kinds of taps that are read unless others are asked for
KINDS = ("block", "norm", "pixels")
#: images in a shard at most: what a kill can lose; of a ViT-B's 13 taps they are 123 MB in float16
SHARD = 2048


@final
@dataclass(frozen=True)
class FeatureReducer:
    """Asks a pass for the CLS token, the mean of all tokens and the mean of the patch tokens of
    each tap.

    Maps of a CNN have the mean over places only; other outputs have the one pooling "flat".

    Args:
        names: the names of the taps; the outputs of all blocks, the final norm and raw pixels
            unless given.
    """

    kind: ClassVar[str] = "features"
    version: ClassVar[int] = 1
    names: tuple[str, ...] | None = None

    def settings(self) -> dict[str, list[str] | None]:
        """The settings that decide the result, besides the pass itself."""
        return {"taps": None if self.names is None else list(self.names)}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Return the taps of the given names, or of the usual kinds where no names were given.

        Raises:
            InputError: a name is not a tap of the model, or is of a kind of which only Grams are
                read.
        """
        if self.names is None:
            return tuple(tap for tap in taps if tap.kind in KINDS)
        named = model.pick(self.names)
        for tap in named:
            if tap.kind in ON_REQUEST:
                raise InputError(f"Of {tap.name} only Grams are read: leave it out of the taps.")
        return tuple(tap for tap in taps if tap in named)

    def has(self, request: PassRequest, store: Store) -> bool:
        """Whether the store has the features."""
        return not _lacking(request, _parts(request, store))

    def find(self, request: PassRequest, store: Store) -> Features | None:
        """Return the features in the order of the plan, or None where the store lacks some."""
        parts = _parts(request, store)
        return None if _lacking(request, parts) else _joined(request, parts)

    def start(
        self, request: PassRequest, store: Store | None
    ) -> "FeatureAccumulator | FeatureFiler":
        """Begin a pass, which writes to the store what it lacks, or without a store keeps
        everything in memory."""
        if not request.taps:
            raise InputError(
                f"Features of {request.model.name} were asked for at no tap",
                mend="give other {taps}",
            )
        return FeatureAccumulator(request) if store is None else FeatureFiler(self, request, store)


@final
class FeatureAccumulator:
    """Pools each tap's outputs in the course of a pass, and keeps them in memory."""

    together = 1

    def __init__(self, request: PassRequest) -> None:
        self.minibatches = range(len(request.plan.sizes))
        self._request = request
        self._starts = np.cumsum([0, *request.plan.sizes]).tolist()
        self._values: dict[Column, Tensor] = {}

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on minibatch number `batch`."""
        start, stop = self._starts[batch], self._starts[batch + 1]
        for pooling, vectors in pool(output, self._request.model.prefix).items():
            column = tap.name, pooling
            if column not in self._values:
                self._values[column] = torch.zeros(self._starts[-1], vectors.shape[1])
            self._values[column][start:stop] = vectors.float().cpu()

    def finish(self) -> Features:
        """Return the features of all processes together."""
        request, named = self._request, {"/".join(column): column for column in self._values}
        summed = sum_over_processes({name: self._values[named[name]] for name in named})
        columns = {parse_column(name): values for name, values in summed.items()}
        features = Features.of(
            columns,
            ids=request.plan.ids,
            taps=request.taps,
            model=request.model.name,
            key=_key(request, {column: values.shape[1] for column, values in columns.items()}),
        )
        return _labelled(features, request)


@final
class FeatureFiler:
    """Pools each tap's outputs in the course of a pass, and writes them to the store shard by
    shard; only taps and shards that the store lacks are written."""

    def __init__(self, reducer: FeatureReducer, request: PassRequest, store: Store) -> None:
        self._reducer, self._request, self._store = reducer, request, store
        part = replace(request, taps=_lacking(request, _parts(request, store)))
        plan, count = request.plan, math.ceil(len(request.images) / this_process()[1])
        shard = plan.sizes[0] * math.ceil(min(SHARD, count) / plan.sizes[0])
        if count_minibatches_of_shard(plan, shard) == len(plan.sizes):
            shard = len(plan.ids)
        names = [tap.name for tap in part.taps]
        folder = _folder(request, store) / digest([names, digest(plan.ids), shard])[:16]
        manifest = describe_folder(part, find_widths(request.model, part.taps), "float32", shard)
        if this_process()[0] == 0:
            _clear_damaged(folder, manifest)
        wait_for_all()
        missing = list_missing_shards(folder, manifest, "free some, or ask for fewer {taps}")
        wait_for_all()  # all have seen what was there before
        if this_process()[0] == 0:
            begin_folder(folder, manifest, plan.ids, request.images)
        self._names = frozenset(names)
        self._writer = ShardWriter(folder, manifest, plan, missing)
        self.minibatches, self.together = self._writer.minibatches, self._writer.together
        self._wanted = frozenset(self.minibatches)

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on minibatch number `batch`."""
        if tap.name in self._names and batch in self._wanted:
            for pooling, vectors in pool(output, self._request.model.prefix).items():
                self._writer.put((tap.name, pooling), vectors, batch)

    def finish(self) -> Features:
        """Wait until all processes have written their shards, and return the features from the
        store."""
        self._writer.close()
        wait_for_all()
        features = self._reducer.find(self._request, self._store)
        if features is None:
            raise InputError(
                f"The features of {self._request.model.name} were just written to"
                f" {self._store.root}, and are not there: do all processes see this folder, and"
                " does nothing remove its files?"
            )
        return features


def _folder(request: PassRequest, store: Store) -> Path:
    """The folder of all that is kept of a model over images."""
    key = {"reducer": FeatureReducer.kind, "version": FeatureReducer.version, **request.seen}
    return store.path(FeatureReducer.kind, key, suffix="")


def _parts(request: PassRequest, store: Store) -> list[Features]:
    """What the store has of a model over images, whole folders only; first those in the order of
    the plan."""
    folder, parts = _folder(request, store), []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            parts.append(open_features(path))
        except InputError:  # not whole, or damaged: what it should hold is computed again
            continue
    earlier = _read_earlier(request, store)
    parts += [] if earlier is None else [earlier]
    return sorted(parts, key=lambda part: part.ids != request.plan.ids)


def _read_earlier(request: PassRequest, store: Store) -> Features | None:
    """What version 0.1 kept of this very pass as one file: the usual taps, by the minibatches."""
    key = request.key("features", 1, {"kinds": list(KINDS)})
    tensors = store.read("features", key) if store.has("features", key) else None
    if tensors is None:
        return None
    columns = {parse_column(name): values for name, values in tensors.items()}
    return Features.of(columns, ids=request.plan.ids, taps=request.taps)


def _lacking(request: PassRequest, parts: Sequence[Features]) -> tuple[Tap, ...]:
    """The taps that no part has."""
    stored = {name for part in parts for name, _ in part.columns}
    return tuple(tap for tap in request.taps if tap.name not in stored)


def _joined(request: PassRequest, parts: Sequence[Features]) -> Features:
    """The taps that are asked for, in the order of the plan."""
    rows: list[np.ndarray | None] = []
    for part in parts:
        row = {name: place for place, name in enumerate(part.ids)}
        other = part.ids != request.plan.ids
        rows.append(np.array([row[name] for name in request.plan.ids]) if other else None)
    sources, columns = {}, {}
    for tap in request.taps:
        place, part = next(
            (place, part)
            for place, part in enumerate(parts)
            if any(name == tap.name for name, _ in part.columns)
        )
        for pooling in POOLINGS:
            if (tap.name, pooling) in part.columns:
                sources[tap.name, pooling] = part.source, rows[place]
                columns[tap.name, pooling] = part.columns[tap.name, pooling]
    features = Features(
        request.model.name,
        request.plan.ids,
        None,
        (),
        request.taps,
        columns,
        torch.float32,
        _key(request, columns),
        Joined(sources),
    )
    return _labelled(features, request)


def _labelled(features: Features, request: PassRequest) -> Features:
    images = request.images
    if images.labels is None:
        return features
    labels = dict(zip(images.ids, images.labels.tolist(), strict=True))
    return features.labelled(labels, images.classes)


def _key(request: PassRequest, columns: Mapping[Column, int]) -> Mapping[str, Any]:
    """What decides features, and the order of their rows."""
    return {
        "reducer": FeatureReducer.kind,
        "version": FeatureReducer.version,
        "taps": [asdict(tap) for tap in request.taps],
        "columns": [[*column, width] for column, width in columns.items()],
        "ids": digest(request.plan.ids),
        **request.seen,
    }


def _clear_damaged(folder: Path, wanted: Manifest) -> None:
    """Remove a folder of the store that does not say what it should."""
    if not is_features(folder):
        return
    try:
        manifest = Manifest.read(folder)
        read_images(folder, manifest)
        damaged = manifest.key != wanted.key
    except InputError:
        damaged = True
    if damaged:
        shutil.rmtree(folder)
