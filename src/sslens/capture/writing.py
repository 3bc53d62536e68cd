"""Writing the features of minibatches to the shards of a folder in the course of a pass."""

import contextlib
import json
import math
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sslens.capture.manifest import (
    DTYPES,
    IMAGES,
    MANIFEST,
    Column,
    Manifest,
    checksum,
    is_features,
    read_images,
    shard_path,
)
from sslens.data.images import ImageSet
from sslens.errors import InputError, Mishap
from sslens.plan import Plan
from sslens.store import digest, write_tensors, write_text

#: what to do where float16 does not do
MEND = "store them with {dtype=float32}, or leave that tap out"
#: the largest float16, and the size under which a feature's largest value leaves float16 fewer than
#: its 11 bits
LARGEST, SMALLEST = 65504.0, 2.0**-13


def begin_folder(folder: Path, wanted: Manifest, ids: Sequence[str], images: ImageSet) -> None:
    """Write the manifest and the ids with their classes, unless the folder already has them whole.

    Args:
        folder: the folder.
        wanted: the manifest.
        ids: the ids in the order of the rows, which may differ from the order of the set.
        images: the set, which has the classes.
    """
    if is_features(folder) and _has_images(folder, wanted):
        return
    packed = zlib.compress(json.dumps(ids).encode())
    tensors = {"ids": torch.frombuffer(bytearray(packed), dtype=torch.uint8)}
    if images.labels is not None:
        labels = dict(zip(images.ids, images.labels.tolist(), strict=True))
        tensors["labels"] = torch.tensor([labels[name] for name in ids])
    write_tensors(folder / IMAGES, tensors, {})
    write_text(folder / MANIFEST, wanted.json())


def _has_images(folder: Path, wanted: Manifest) -> bool:
    """Whether the ids and classes in a folder are those that are wanted."""
    try:
        read_images(folder, wanted)
    except InputError:
        return False
    return True


def remove_features(folder: Path, count: int | None = None) -> None:
    """Remove the files of features in a folder, and the folder if nothing else is in it.

    Args:
        folder: the folder.
        count: the number of shards; all that are there unless given.
    """
    shards = (
        folder.glob("shard-[0-9][0-9][0-9][0-9][0-9].safetensors")
        if count is None
        else [shard_path(folder, number) for number in range(count)]
    )
    for path in (*shards, folder / IMAGES, folder / MANIFEST):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # strangers' files are in it
        folder.rmdir()


def count_minibatches_of_shard(plan: Plan, shard: int) -> int:
    """Return how many minibatches fill a shard, or the number of all minibatches where the ends of
    shards do not coincide with ends of minibatches.

    The last minibatch may be larger than the others, and reach into a shard of its own.

    >>> count_minibatches_of_shard(Plan.draw([str(i) for i in range(98)], size=32), shard=64)
    2
    """
    starts = np.cumsum([0, *plan.sizes])
    count = int(np.searchsorted(starts, shard))
    ends = starts[: len(plan.sizes) : max(1, count)]
    aligned = bool((ends == shard * np.arange(len(ends))).all())
    return count if 0 < count < len(plan.sizes) and aligned else len(plan.sizes)


@final
class ShardWriter:
    """Writes the features of minibatches to the shards of a folder; one shard is held in memory,
    and written when it is full.

    Features that are not finite, or that the folder's number type cannot hold, are refused.

    Args:
        folder: the folder.
        wanted: the manifest.
        plan: the minibatches; their images are the rows of the folder, in this order.
        missing: the numbers of the shards to write.
        mend: what the user can do where the folder's number type cannot hold the features.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        plan: Plan,
        missing: Sequence[int],
        mend: str = MEND,
    ) -> None:
        self.folder, self.manifest, self.plan, self._mend = folder, manifest, plan, mend
        self.columns = list(manifest.columns)
        self.together = count_minibatches_of_shard(plan, manifest.shard)
        self._starts = np.cumsum([0, *plan.sizes]).tolist()
        edges = [*range(0, len(plan.sizes), self.together), len(plan.sizes)]
        self._groups = list(pairwise(edges))
        self._missing = frozenset(missing)
        self.minibatches = [
            number
            for group, (first, stop) in enumerate(self._groups)
            if self._missing.intersection(self._shards(group))
            for number in range(first, stop)
        ]
        self._now: int | None = None
        self._held: dict[Column, Tensor] = {}
        self._peaks: dict[Column, Tensor] = {}
        self._highest: dict[Column, float] = dict.fromkeys(self.columns, 0.0)

    def rows(self, batch: int) -> range:
        """Return the rows of a minibatch."""
        return range(self._starts[batch], self._starts[batch + 1])

    def put(self, column: Column, vectors: Float[Tensor, "image _"], batch: int) -> None:
        """Take one column of a minibatch; minibatches come in rising order, each with all
        columns."""
        if batch != self._now:
            self._end_minibatch(batch)
        if column not in self._held:
            most = max(self._starts[stop] - self._starts[first] for first, stop in self._groups)
            dtype = DTYPES[self.manifest.dtype]
            self._held[column] = torch.empty(
                most, vectors.shape[1], dtype=dtype, device=vectors.device
            )
        self._held[column][self._place(batch)] = vectors
        self._peaks[column] = vectors.abs().amax()

    def close(self) -> None:
        """Write the shard that is still held."""
        self._end_minibatch(None)

    def _shards(self, group: int) -> range:
        """The shards whose rows begin in a group of minibatches."""
        first, stop = (self._starts[edge] for edge in self._groups[group])
        return range(-(-first // self.manifest.shard), -(-stop // self.manifest.shard))

    def _place(self, batch: int) -> slice:
        """Where a minibatch is in the buffer."""
        start = self._starts[self._groups[batch // self.together][0]]
        return slice(self._starts[batch] - start, self._starts[batch + 1] - start)

    def _end_minibatch(self, following: int | None) -> None:
        """Look at the minibatch that is over, and write the shards if it was the last of its
        group."""
        last, self._now = self._now, following
        if last is None:
            return
        peaks = torch.stack(
            [self._peaks[column].float() for column in self.columns]
        ).tolist()  # once from the GPU
        for column, peak in zip(self.columns, peaks, strict=True):
            if not math.isfinite(peak):
                raise Mishap(*self._not_finite(column, last))
            if peak > LARGEST and self.manifest.dtype == "float16":
                raise Mishap(
                    f"{self._named(column)} reach {peak:.3g}, and float16 ends at 65,504",
                    mend=self._mend,
                )
            self._highest[column] = max(self._highest[column], peak)
        group = last // self.together
        if following is None or following // self.together != group:
            for number in self._missing.intersection(self._shards(group)):
                self._write(number, group)
            self._highest = dict.fromkeys(self.columns, 0.0)

    def _named(self, column: Column) -> str:
        return f"The features of {self.manifest.model['name']} at {column[0]} ({column[1]})"

    def _not_finite(self, column: Column, batch: int) -> tuple[str, str]:
        """What is wrong with the values of a minibatch, and the mend."""
        values = self._held[column][self._place(batch)].float()
        bad = (~values.isfinite().all(1)).nonzero().flatten().tolist()
        first = self.plan.minibatches[batch][bad[0]]
        more = f" and {len(bad) - 1} more of its minibatch" if len(bad) > 1 else ""
        return (
            f"{self._named(column)} are not finite for the image {first}{more}: the model is broken"
            " there, or its forward pass overflows.",
            "with {precision=float16} try {precision=bfloat16} or {precision=float32}",
        )

    def _write(self, number: int, group: int) -> None:
        for column, highest in self._highest.items():
            if 0 < highest < SMALLEST and self.manifest.dtype == "float16":
                raise Mishap(
                    f"{self._named(column)} are at most {highest:.2g}, too small for the 11 bits of"
                    " float16",
                    mend=self._mend,
                )
        rows = self.manifest.rows(number)
        begin = rows.start - self._starts[self._groups[group][0]]
        tensors = {
            f"{tap}/{pooling}": self._held[tap, pooling][begin : begin + len(rows)].cpu()
            for tap, pooling in self.columns
        }
        sums = {name: checksum(values) for name, values in tensors.items()}
        # one entry: several would be written in a random order, and files not be equal bit by bit
        name = digest([self.manifest.key, number])
        header = {"sslens.shard": f"{name} {json.dumps(sums)}"}
        write_tensors(shard_path(self.folder, number), tensors, header)
