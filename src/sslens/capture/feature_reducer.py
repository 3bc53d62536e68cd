"""Pooled features of a pass, stored once for everyone who asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from sslens.capture.features import Features
from sslens.capture.kept import Filer, Shelf, choose_sources, describe_result, list_lacking
from sslens.capture.keys import PassRequest
from sslens.capture.manifest import Column, parse_column
from sslens.capture.pooling import pool_tap
from sslens.capture.sharing import sum_over_processes
from sslens.capture.sources import Joined
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.models.taps import ON_REQUEST, Tap
from sslens.store import Store

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
        return not list_lacking(request, _open_parts(request, store))

    def find(self, request: PassRequest, store: Store) -> Features | None:
        """Return the features in the order of the plan, or None where the store lacks some."""
        parts = _open_parts(request, store)
        return None if list_lacking(request, parts) else _join(request, parts)

    def start(
        self, request: PassRequest, store: Store | None
    ) -> "FeatureAccumulator | Filer[Features]":
        """Begin a pass, which writes to the store what it lacks, or without a store keeps
        everything in memory."""
        if not request.taps:
            raise InputError(
                f"Features of {request.model.name} were asked for at no tap",
                mend="give other {taps}",
            )
        if store is None:
            return FeatureAccumulator(request)
        model = request.model
        return Filer(
            self,
            SHELF,
            lambda tap, output: pool_tap(model, tap, output),
            list_lacking(request, _open_parts(request, store)),
            request,
            store,
            lambda _: SHARD,
        )


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
        for pooling, vectors in pool_tap(self._request.model, tap, output).items():
            column = tap.name, pooling
            if column not in self._values:
                with torch.inference_mode(False):  # probes may be trained on them
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
            key=describe_result(
                request, SHELF, {column: values.shape[1] for column, values in columns.items()}
            ),
        )
        return _describe(features, request)


SHELF = Shelf(FeatureReducer.kind, FeatureReducer.version, "float32")


def _open_parts(request: PassRequest, store: Store) -> list[Features]:
    """What the store has of a model over images, also from before there were folders."""
    parts = SHELF.open_parts(request, store)
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


def _join(request: PassRequest, parts: Sequence[Features]) -> Features:
    """The taps that are asked for, in the order of the plan."""
    columns, sources = choose_sources(request, parts)
    features = Features(
        request.model.name,
        request.plan.ids,
        None,
        (),
        request.taps,
        columns,
        torch.float32,
        describe_result(request, SHELF, columns),
        Joined(sources),
    )
    return _describe(features, request)


def _describe(features: Features, request: PassRequest) -> Features:
    """The same features, with how the model's classifier reads them and the images' classes."""
    images = request.images
    features = replace(features, read_pooling=request.model.about.read_pooling)
    if images.labels is None:
        return features
    labels = dict(zip(images.ids, images.labels.tolist(), strict=True))
    return features.labelled(labels, images.classes)
