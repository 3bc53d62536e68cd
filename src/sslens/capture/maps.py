"""Maps: the patch tokens of taps, in their places of the image, read in parts from a folder of
shards or from memory."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture.features import Features
from sslens.capture.folders import find_widths
from sslens.capture.kept import (
    Filer,
    Pooled,
    Shelf,
    choose_sources,
    describe_result,
    list_lacking,
)
from sslens.capture.keys import PassRequest
from sslens.capture.manifest import Column
from sslens.capture.sharing import sum_over_processes
from sslens.capture.sources import InMemory, Joined, Source, find_rows
from sslens.capture.writing import LARGEST
from sslens.counts import spell_count
from sslens.errors import InputError, Mishap, nearest
from sslens.models.backbone import Backbone, Pixels
from sslens.models.taps import ON_REQUEST, Tap
from sslens.store import Store, digest

Rows: TypeAlias = slice | Sequence[int] | Int64[np.ndarray, " image"]
#: bytes of a shard: what is held in memory in a pass at most, except that a shard has at least the
#: images of one minibatch
SHARD = 2**28
SHELF = Shelf("maps", 1, "float16")


class Grid(NamedTuple):
    """The shape of one image's map: its rows, its columns, and the width of a token."""

    rows: int
    columns: int
    dim: int


@final
@dataclass(frozen=True, eq=False, repr=False)
class Maps:
    """Patch tokens of images by tap, each in its place, [image, row, column, dim] in float16.

    Attributes:
        model: name of the model.
        ids: the ids of the images, in the order of the rows.
        taps: the taps in the order of computation.
        grids: the shape of one image's map, by tap; the maps of a CNN's stages differ.
        side: the side in pixels of the square images that the model saw.
        key: what decided the maps: weights, transform, precision, images, ….
        source: where rows are read from.
    """

    model: str
    ids: tuple[str, ...]
    taps: tuple[Tap, ...]
    grids: Mapping[str, Grid]
    side: int
    key: Mapping[str, Any]
    source: Source

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, Float[Tensor, "image row column _"]],
        *,
        side: int,
        ids: Sequence[str] | None = None,
        taps: Sequence[Tap] | None = None,
        model: str = "arrays",
        key: Mapping[str, Any] | None = None,
    ) -> "Maps":
        """Make maps from arrays in memory, one array for each tap.

        Args:
            arrays: the arrays by tap.
            side: the side of the images in pixels.
            ids: the ids of the images; "0", "1", … unless given.
            taps: the taps in the order of computation; those of the arrays unless given.
            model: the name of the model.
            key: what decided the maps.

        Raises:
            InputError: there is no array, or the arrays and ids have different numbers of images.

        >>> maps = Maps.of({"blocks.0": torch.ones(1, 2, 2, 3)}, side=16, ids=["a"])
        >>> maps.grids["blocks.0"], maps.stride("blocks.0"), maps.read("blocks.0").dtype
        (Grid(rows=2, columns=2, dim=3), 8.0, torch.float16)
        """
        columns = {
            (tap, _pooling(values)): values.half().flatten(1) for tap, values in arrays.items()
        }
        stored = Features.of(columns, ids=ids, taps=taps, model=model)
        grids = {tap: Grid(*values.shape[1:]) for tap, values in arrays.items()}
        return cls(model, stored.ids, stored.taps, grids, side, key or {}, InMemory(columns))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"<Maps {self.model}: {spell_count(len(self), 'image')} of {self.side} px,"
            f" {spell_count(len(self.grids), 'tap')}>"
        )

    def require(self, tap: str) -> Grid:
        """Return the shape of one image's map at a tap.

        Raises:
            InputError: the maps have no such tap; the message offers the nearest name.
        """
        if tap not in self.grids:
            raise InputError(
                f'The maps of {self.model} have no tap "{tap}": {nearest(tap, self.grids)}'
            )
        return self.grids[tap]

    def stride(self, tap: str) -> float:
        """Return the pixels from one place of a tap's map to the next."""
        return self.side / self.require(tap).rows

    @property
    def row_bytes(self) -> int:
        """Bytes of one image's maps, over all taps."""
        return 2 * sum(math.prod(grid) for grid in self.grids.values())

    def read(self, tap: str, images: Rows = slice(None)) -> Float[Tensor, "image row column dim"]:
        """Read the maps of some images at a tap, or of all.

        Consecutive images of one shard are a view of what is held of it.

        Args:
            tap: the tap's name.
            images: the rows of the images.

        Raises:
            InputError: an unknown tap, or a shard that is damaged.
        """
        grid = self.require(tap)
        if isinstance(images, slice):
            start, stop, step = images.indices(len(self))
            images = slice(start, max(start, stop)) if step == 1 else range(start, stop, step)
        rows = images if isinstance(images, slice) else np.asarray(images, np.int64)
        return self.source.read(_column(tap, grid), rows).unflatten(1, grid)

    def rows(self, ids: Sequence[str]) -> Int64[np.ndarray, " image"]:
        """Return the row of each of these ids.

        Raises:
            InputError: there are no maps of an image.
        """
        row = {name: place for place, name in enumerate(self.ids)}
        apart = [name for name in ids if name not in row]
        if apart:
            raise InputError(
                f"There are no maps of {len(apart)} of these images in {self.model}, first"
                f" {apart[0]}: make the maps of all of them."
            )
        return np.array([row[name] for name in ids], np.int64)

    def arranged(self, ids: Sequence[str]) -> "Maps":
        """Return the same maps, with a row for each of these images, in their order."""
        rows = find_rows(self.ids, ids)
        if rows is None:
            return self
        columns = [_column(tap, grid) for tap, grid in self.grids.items()]
        return replace(
            self,
            ids=tuple(ids),
            key={**self.key, **({"ids": digest(ids)} if "ids" in self.key else {})},
            source=Joined(dict.fromkeys(columns, (self.source, rows))),
        )

    def blocks(self, tap: str, size: int) -> Iterator[Float[Tensor, "image row column dim"]]:
        """Yield the maps of all images at a tap in their order, `size` images at a time; the last
        block may be smaller."""
        for start in range(0, len(self), size):
            yield self.read(tap, slice(start, start + size))


def _column(tap: str, grid: Grid) -> Column:
    return tap, f"{grid.rows}x{grid.columns}"


def _pooling(values: Tensor) -> str:
    """The name of a grid in a folder of shards, which keeps maps as vectors: "14x14"."""
    return f"{values.shape[1]}x{values.shape[2]}"


def arrange(
    model: Backbone, tap: Tap, output: Float[Tensor, "image ..."]
) -> Float[Tensor, "image row column dim"]:
    """Return the output of a tap as a map: the patch tokens of a transformer in their places, or a
    CNN's places with the channels last, or the pixels of each patch.

    Raises:
        InputError: the output has no places, or its tokens are of no square grid.

    >>> import sslens
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> arrange(model, model.taps["blocks.0"], torch.zeros(2, 17, 64)).shape
    torch.Size([2, 4, 4, 64])
    """
    network, how = model.network, model.output_of(tap)
    if output.ndim == 4 and how.places:
        return output if how.channels_last else output.permute(0, 2, 3, 1)
    if output.ndim == 3 and how.places:
        before = how.before
        side = math.isqrt(output.shape[1] - before)
        if side and before + side * side == output.shape[1]:
            return output[:, before:].unflatten(1, (side, side))
    if isinstance(network, Pixels) and network.patch and output.ndim == 2:
        side, patch = math.isqrt(output.shape[1] // 3), network.patch
        places = output.unflatten(1, (3, side // patch, patch, side // patch, patch))
        return places.permute(0, 2, 4, 3, 5, 1).flatten(3)
    raise InputError(
        f"The output of {model.name} at {tap.name}, {list(output.shape)}, is no map: leave that tap"
        " out."
    )


@final
@dataclass(frozen=True)
class MapReducer:
    """Asks a pass for the patch tokens of taps, in float16.

    Args:
        names: the names of the taps; the outputs of all blocks of a transformer, or of the last
            block of each stage of a CNN, unless given. Raw pixels have maps where they are cut into
            patches (`pixels_at_size`).
    """

    kind: ClassVar[str] = SHELF.kind
    version: ClassVar[int] = SHELF.version
    names: tuple[str, ...] | None = None

    def settings(self) -> dict[str, list[str] | None]:
        """The settings that decide the result, besides the pass itself."""
        return {"taps": None if self.names is None else list(self.names)}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Return the taps of the given names, or the usual ones where no names were given; none
        where the model has no maps.

        Raises:
            InputError: a name is not a tap of the model, or is of a kind of which only Grams are
                read.
        """
        if self.names is None:
            return _choose_usual(model, taps)
        named = model.pick(self.names)
        for tap in named:
            if tap.kind in ON_REQUEST:
                raise InputError(f"Of {tap.name} only Grams are read: leave it out of the taps.")
        return tuple(tap for tap in taps if tap in named)

    def image_bytes(self, model: Backbone) -> int:
        """Return the bytes of one image's maps, found by one forward pass of an empty image."""
        widths = find_widths(model, self.taps(model, model.pick(None)), _pooled_by(model))
        return 2 * sum(widths.values())

    def has(self, request: PassRequest, store: Store) -> bool:
        """Whether the store has the maps."""
        return not list_lacking(request, SHELF.open_parts(request, store))

    def find(self, request: PassRequest, store: Store) -> Maps | None:
        """Return the maps in the order of the plan, or None where the store lacks some."""
        parts = SHELF.open_parts(request, store)
        return None if list_lacking(request, parts) else _join(request, parts)

    def start(self, request: PassRequest, store: Store | None) -> "MapAccumulator | Filer[Maps]":
        """Begin a pass, which writes to the store what it lacks, or without a store keeps
        everything in memory."""
        if not request.taps:
            raise InputError(
                f"Maps of {request.model.name} were asked for at no tap that has them",
                mend="give other {taps}",
            )
        if store is None:
            return MapAccumulator(request)
        lacking = list_lacking(request, SHELF.open_parts(request, store))
        pooled = _pooled_by(request.model)
        return Filer(self, SHELF, pooled, lacking, request, store, lambda row: max(1, SHARD // row))


def _pooled_by(model: Backbone) -> Pooled:
    """How a folder of shards keeps a model's outputs: as vectors named after their grid."""

    def pooled(tap: Tap, output: Tensor) -> dict[str, Tensor]:
        values = arrange(model, tap, output)
        return {_pooling(values): values.flatten(1)}

    return pooled


def _choose_usual(model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
    """All blocks, or the last of each stage of a CNN, or the pixels where they are in patches."""
    from sslens.models import networks  # timm takes a second, and stored results need none of it

    if isinstance(model.network, Pixels):
        return tuple(taps) if model.network.patch else ()
    blocks = [tap for tap in taps if tap.kind == "block"]
    if model.outputs:
        places = [tap for tap in blocks if model.output_of(tap).places]
        if model.about.network != "cnn":
            return tuple(places)
        return tuple({model.output_of(tap).shape: tap for tap in places}.values())
    if isinstance(model.network, networks.CNNS):
        last = {tap.name.rpartition(".")[0]: tap for tap in blocks}
        return tuple(last.values())
    return tuple(blocks)


@final
class MapAccumulator:
    """Arranges each tap's outputs in the course of a pass, and keeps them in memory."""

    together = 1

    def __init__(self, request: PassRequest) -> None:
        self.minibatches = range(len(request.plan.sizes))
        self._request = request
        self._starts = np.cumsum([0, *request.plan.sizes]).tolist()
        self._values: dict[str, Tensor] = {}

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on minibatch number `batch`."""
        values = arrange(self._request.model, tap, output)
        if tap.name not in self._values:
            shape = self._starts[-1], *values.shape[1:]
            with torch.inference_mode(False):  # detectors may be trained on them
                self._values[tap.name] = torch.zeros(shape, dtype=torch.float16)
        peak = float(values.abs().amax())
        if not peak <= LARGEST:
            raise Mishap(
                f"The maps of {self._request.model.name} at {tap.name} reach {peak:.3g}, and"
                " float16 ends at 65,504",
                mend="leave that tap out",
            )
        self._values[tap.name][self._starts[batch] : self._starts[batch + 1]] = values.cpu()

    def finish(self) -> Maps:
        """Return the maps of all processes together."""
        request, arrays = self._request, sum_over_processes(self._values)
        widths = {
            (tap, _pooling(values)): math.prod(values.shape[1:]) for tap, values in arrays.items()
        }
        return Maps.of(
            arrays,
            side=request.model.transform.crop,
            ids=request.plan.ids,
            taps=request.taps,
            model=request.model.name,
            key=describe_result(request, SHELF, widths),
        )


def _join(request: PassRequest, parts: Sequence[Features]) -> Maps:
    """The taps that are asked for, in the order of the plan."""
    columns, sources = choose_sources(request, parts)
    grids = {}
    for (tap, pooling), width in columns.items():
        rows, across = map(int, pooling.split("x"))
        grids[tap] = Grid(rows, across, width // (rows * across))
    return Maps(
        request.model.name,
        request.plan.ids,
        request.taps,
        grids,
        request.model.transform.crop,
        describe_result(request, SHELF, columns),
        Joined(sources),
    )
