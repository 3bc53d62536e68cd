"""Features of any number of images in one pass, written to disk shard by shard, resumed where they
were cut off."""

import json
import math
import shutil
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from sslens.capture.features import Features, open_features
from sslens.capture.hooks import activations
from sslens.capture.manifest import (
    DTYPES,
    IMAGES,
    MANIFEST,
    POOLINGS,
    Column,
    Manifest,
    is_features,
    places,
    shard_path,
)
from sslens.capture.passes import Progress, collect, this_process
from sslens.capture.reducers import FeatureReducer, pooled
from sslens.data.images import ImageSet
from sslens.errors import Doubt, InputError, Mishap, nearest
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.store import digest, write_tensors, write_text

#: images in a shard at most: what a kill can lose; of a ViT-B's 13 taps they are 123 MB
SHARD = 2048
#: images in a forward pass
BATCH = 64
#: the largest float16, and the size under which a feature's largest value leaves float16 fewer than
#: its 11 bits
LARGEST, SMALLEST = 65504.0, 2.0**-13


def extract(
    model: Backbone,
    images: ImageSet,
    folder: Path | str,
    *,
    taps: Sequence[str] | None = None,
    poolings: Sequence[str] | None = None,
    dtype: str = "float16",
    shard: int | None = None,
    batch: int = BATCH,
    device: str = "cpu",
    precision: str = "float32",
    progress: Progress | None = None,
) -> Features:
    """The features of a model over images, all taps and poolings in one pass, stored in a folder
    and opened.

    Of each tap the CLS token, the mean of all tokens and the mean of the patch tokens; of a CNN's
    maps the mean over places. Memory does not grow with the images but for their ids: a shard is
    held, and written when it is full. What a folder holds of the same features already is not
    computed again, so that the same call goes on where another was killed. Where torch.distributed
    is running, its processes share the shards, and need a folder that all of them see.

    Args:
        taps: names; the outputs of all blocks and the final norm unless given.
        poolings: of "cls", "mean", "patch"; all that a tap has unless given.
        dtype: "float16" (values to 65,504, 11 bits), or "float32".
        shard: images a file; 2,048 unless given, fewer where a process would be left without one.
        batch: images a forward pass.
        precision: of the forward pass, "float32", "bfloat16" or "float16".
        progress: called with images done and images in all, of this process.

    Raises:
        InputError: an unknown tap or pooling; a folder with features of another model, other
            images, taps or numbers; features that are not finite, or that float16 cannot hold; too
            little room on the disk.

    Warns:
        Doubt: a shard was cut off or damaged, and is computed again.

    >>> import sslens, tempfile
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = extract(model, images, folder, taps=["blocks.3", "norm"], dtype="float32")
    ...     found = store.read("norm", "cls", slice(2, 5)).clone()
    >>> tuple(found.shape), store.row_bytes  # 2 taps × 3 poolings × 64 × 4 bytes
    ((3, 64), 1536)
    """
    folder = Path(folder).expanduser()
    wanted = describe(
        model,
        images,
        taps=taps,
        poolings=poolings,
        dtype=dtype,
        shard=shard,
        precision=precision,
        folder=folder,
    )
    missing = require_folder(folder, wanted)
    return fill(
        folder, wanted, missing, model, images, batch=batch, device=device, progress=progress
    )


def fill(
    folder: Path,
    wanted: Manifest,
    missing: Sequence[int],
    model: Backbone,
    images: ImageSet,
    *,
    batch: int = BATCH,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Features:
    """What `extract` does once it is known what is wanted (`describe`) and missing
    (`require_folder`)."""
    together()  # all have seen what was there before
    if this_process()[0] == 0:
        _begin(folder, wanted, images)
    together()
    if missing:
        rows = [row for number in missing for row in wanted.rows(number)]
        split = [
            wanted.rows(number)[at : at + batch]
            for number in missing
            for at in range(0, wanted.shard, batch)
        ]
        collect(
            model,
            images.take(rows),
            [_Shards(folder, wanted, missing, batch)],
            plan=Plan(tuple(tuple(images.ids[row] for row in part) for part in split if part)),
            taps=[tap.name for tap in wanted.taps],
            device=device,
            precision=wanted.precision,
            progress=progress,
        )
    together()
    return open_features(folder)


def describe(
    model: Backbone,
    images: ImageSet,
    *,
    taps: Sequence[str] | None = None,
    poolings: Sequence[str] | None = None,
    dtype: str = "float16",
    shard: int | None = None,
    precision: str = "float32",
    folder: Path | None = None,
) -> Manifest:
    """What `extract` would store, found by one forward pass of an empty image.

    Raises:
        InputError: an unknown tap, pooling or number type, or a shard of no image.

    >>> import sslens
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> describe(model, images).row_bytes  # 5 taps × 3 poolings × 64 × 2 bytes
    1920
    """
    if dtype not in DTYPES:
        raise InputError(f'Features cannot be stored as "{dtype}": {nearest(dtype, DTYPES)}')
    if shard is not None and shard < 1:
        raise InputError(f"A shard of {shard} images cannot be: give 1 or more.")
    chosen = (
        model.pick(taps) if taps is not None else FeatureReducer().taps(model, model.pick(None))
    )
    place = next(model.parameters(), torch.empty(0)).device
    outputs = activations(
        model,
        torch.zeros(1, 3, model.transform.crop, model.transform.crop, device=place),
        [t.name for t in chosen],
    )
    columns: dict[Column, int] = {}
    for tap in chosen:
        if tap.name not in outputs:
            raise InputError(
                f"{model.name} never calls the module of the tap {tap.name}: leave that tap out."
            )
        there = pooled(outputs[tap.name], model.prefix)
        columns |= {
            (tap.name, p): there[p].shape[1]
            for p in POOLINGS
            if p in there and p in (poolings or POOLINGS)
        }
    known = {pooling for output in outputs.values() for pooling in pooled(output, model.prefix)}
    for pooling in poolings or ():
        if pooling not in known:
            raise InputError(
                f'{model.name} has no pooling "{pooling}" at these taps: {nearest(pooling, known)}'
            )
    if shard is None:
        there_already = folder is not None and is_features(folder)
        each = math.ceil(len(images) / this_process()[1])
        shard = Manifest.read(folder).shard if folder and there_already else min(SHARD, each)
    return Manifest(
        {
            "name": model.name,
            "source": model.source,
            "digest": model.digest,
            "about": model.about.to_json(),
        },
        model.transform.spec(),
        precision,
        {
            "name": images.name,
            "count": len(images),
            "content": images.content,
            "ids": digest(images.ids),
        },
        images.classes,
        chosen,
        columns,
        dtype,
        shard,
    )


def require_folder(folder: Path, wanted: Manifest) -> list[int]:
    """The shards that a folder lacks, those that are cut off or damaged among them.

    Raises:
        InputError: it holds other features, or the disk has too little room for what is missing.

    Warns:
        Doubt: a shard is there and cannot be used.
    """
    if is_features(folder):
        _refuse_others(folder, Manifest.read(folder), wanted)
    missing = []
    for number in range(wanted.count):
        try:
            if places(folder, wanted, number) is not None:
                continue
            if this_process()[0] == 0:
                warnings.warn(
                    f"{shard_path(folder, number)} is cut off or of other features, and is computed"
                    " again.",
                    Doubt,
                    stacklevel=3,
                )
        except FileNotFoundError:
            pass
        missing.append(number)
    need = sum(len(wanted.rows(number)) for number in missing) * wanted.row_bytes
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if need > free:
        raise InputError(
            f"The features take {need / 1e9:.1f} GB, and the disk of {folder} has {free / 1e9:.1f}"
            " GB free: free some, choose fewer --taps or --poolings, or another --out."
        )
    return missing


def _refuse_others(folder: Path, found: Manifest, wanted: Manifest) -> None:
    """Refuse a folder whose features are not those that are wanted, by the first thing in which
    they differ."""
    model, images = found.model, found.images
    shown = {
        "weights": f"another model's, {model['name']} ({model['source']})",
        "images": f"of other images, {images['count']:,} of {images['name']}",
        "ids": "of the same images in another order",
        "transform": f"of images seen otherwise ({json.dumps(found.transform)})",
        "precision": f"of a forward pass in {found.precision}",
        "columns": (
            f"of other taps or poolings ({len(found.columns)} where {len(wanted.columns)} are asked"
            " for)"
        ),
        "dtype": f"in {found.dtype}",
        "shard": f"in shards of {found.shard:,} images",
    }
    for what, said in shown.items():
        if found.key[what] != wanted.key[what]:
            raise InputError(
                f"The features in {folder} are {said}: give another --out, or remove that folder."
            )


def _begin(folder: Path, wanted: Manifest, images: ImageSet) -> None:
    """Write what says what the shards will be."""
    if is_features(folder) and (folder / IMAGES).is_file():
        return
    packed = zlib.compress(json.dumps(images.ids).encode())
    tensors = {"ids": torch.frombuffer(bytearray(packed), dtype=torch.uint8)}
    if images.labels is not None:
        tensors["labels"] = torch.tensor(images.labels)
    write_tensors(folder / IMAGES, tensors, {})
    write_text(folder / MANIFEST, wanted.json())


@final
class _Shards:
    """A reducer that writes the pooled outputs of the taps to files; of its minibatches so many
    make a shard."""

    kind: ClassVar[str] = "shards"
    version: ClassVar[int] = 1

    def __init__(
        self, folder: Path, manifest: Manifest, numbers: Sequence[int], batch: int
    ) -> None:
        self.folder, self.manifest, self.numbers, self.batch = folder, manifest, numbers, batch
        self.columns = list(manifest.columns)

    def settings(self) -> dict[str, Any]:
        return self.manifest.key

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        return tuple(taps)

    def together(self, plan: Plan) -> int:
        return -(-self.manifest.shard // self.batch)

    def start(
        self, model: Backbone, taps: Sequence[Tap], plan: Plan
    ) -> Callable[[Tap, Tensor, int], None]:
        self._model, self._plan = model.name, plan
        self._now: int | None = None
        self._held: dict[Column, Tensor] = {}
        self._peaks: dict[Column, Tensor] = {}
        self._highest: dict[Column, float] = dict.fromkeys(self.columns, 0.0)

        def add(tap: Tap, output: Tensor, batch: int) -> None:
            if batch != self._now:
                self._end_minibatch(batch)
            for pooling, vectors in pooled(output, model.prefix).items():
                column = tap.name, pooling
                if column not in self.manifest.columns:
                    continue
                if column not in self._held:
                    shape = self.manifest.shard, vectors.shape[1]
                    self._held[column] = torch.empty(
                        shape, dtype=DTYPES[self.manifest.dtype], device=output.device
                    )
                self._held[column][self._rows(batch)] = vectors
                self._peaks[column] = vectors.abs().amax()

        return add

    def result(self) -> dict[str, Tensor]:
        self._end_minibatch(None)
        return {}

    def noun(self, *_: Any) -> None:
        """Nothing: the shards are opened when all processes have written theirs."""

    def _rows(self, batch: int) -> slice:
        start = batch % self.together(self._plan) * self.batch
        return slice(start, start + self._plan.sizes[batch])

    def _end_minibatch(self, following: int | None) -> None:
        """Look at the minibatch that is over, and write the shard if it was its last."""
        last, self._now = self._now, following
        if last is None:
            return
        peaks = torch.stack(
            [self._peaks[column].float() for column in self.columns]
        ).tolist()  # once from the GPU
        for column, peak in zip(self.columns, peaks, strict=True):
            if not math.isfinite(peak):
                raise Mishap(self._not_finite(column, last))
            if peak > LARGEST and self.manifest.dtype == "float16":
                raise Mishap(
                    f"{self._of(column)} reach {peak:.3g}, and float16 ends at 65,504: store them "
                    "with --dtype float32, or leave that tap out."
                )
            self._highest[column] = max(self._highest[column], peak)
        group = last // self.together(self._plan)
        if following is None or following // self.together(self._plan) != group:
            self._write(self.numbers[group])

    def _of(self, column: Column) -> str:
        return f"The features of {self._model} at {column[0]} ({column[1]})"

    def _not_finite(self, column: Column, batch: int) -> str:
        rows = self._held[column][self._rows(batch)].float()
        bad = (~rows.isfinite().all(1)).nonzero().flatten().tolist()
        first = self._plan.minibatches[batch][bad[0]]
        more = f" and {len(bad) - 1} more of its minibatch" if len(bad) > 1 else ""
        return (
            f"{self._of(column)} are not finite for the image {first}{more}: the model is broken "
            "there, or its forward pass overflows (with --precision float16 try float32)."
        )

    def _write(self, number: int) -> None:
        for column, highest in self._highest.items():
            if 0 < highest < SMALLEST and self.manifest.dtype == "float16":
                raise Mishap(
                    f"{self._of(column)} are at most {highest:.2g}, too small for the 11 bits of "
                    "float16: store them with --dtype float32."
                )
        self._highest = dict.fromkeys(self.columns, 0.0)
        count = len(self.manifest.rows(number))
        tensors = {
            f"{tap}/{pooling}": self._held[tap, pooling][:count].cpu()
            for tap, pooling in self.columns
        }
        write_tensors(
            shard_path(self.folder, number),
            tensors,
            {"sslens.shard": digest([self.manifest.key, number])},
        )


def together() -> None:
    """Wait for the other processes."""
    if this_process()[1] > 1:
        dist.barrier()
