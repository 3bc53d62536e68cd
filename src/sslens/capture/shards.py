"""Features of any number of images in a folder that the user names, in one pass or out of the
store, resumed where they were cut off."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from torch import Tensor

from sslens.capture.feature_reducer import SHARD, FeatureReducer
from sslens.capture.features import Features, open_features
from sslens.capture.folders import describe_folder, find_widths, list_missing_shards
from sslens.capture.keys import PassRequest, require_model
from sslens.capture.manifest import DTYPES, Manifest
from sslens.capture.passes import Progress, run_pass
from sslens.capture.pooling import pool_tap
from sslens.capture.replacing import list_unfit, read_manifest, refuse_strangers
from sslens.capture.replacing import remove_others as remove_others
from sslens.capture.sharing import choose_share, this_process, wait_for_all
from sslens.capture.writing import ShardWriter, begin_folder
from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.errors import InputError, nearest, require_type
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.store import Store

#: images in a forward pass
BATCH = 64
#: what to do where the disk is too small
MEND = "free some, choose fewer {taps} or {poolings}, or another {out}"


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
    store: Store | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Features:
    """Store the features of a model over images in a folder, in one pass, and open the folder.

    Memory does not grow with the number of images, except for their ids: one shard is held.
    Shards that the folder already holds are not computed again, so that the same call goes on after
    one that was killed. The processes of torch.distributed share the shards, and need a folder that
    all of them see.

    Args:
        model, images: as `sslens.features` takes them.
        folder: a new folder, or one with a part of the same features.
        taps: the names of the taps; the outputs of all blocks and the final norm unless given.
        poolings: some of "cls", "mean" and "patch"; all that a tap has unless given.
        dtype: "float16" (values to 65,504, 11 bits), or "float32".
        shard: the number of images in a file; 2,048 unless given, and fewer where a process would
            get no file.
        batch: the number of images in a forward pass.
        device, precision: of the forward pass; "float32", "bfloat16" or "float16".
        store: where `collect` may have kept the same features, which are copied without a pass.
        progress: called with the images done and all images of this process.
        overwrite: whether other features in the folder are replaced; other files stay.

    Raises:
        InputError: an unknown tap or pooling; a folder with other features; features that are not
            finite, or that float16 cannot hold; too little room on the disk.

    Warns:
        Doubt: a shard was cut off or damaged, and is computed again.

    >>> import sslens, tempfile
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = extract(model, images, folder, taps=["blocks.3", "norm"], dtype="float32")
    ...     print(*store.read("norm", "cls", slice(2, 5)).shape, store.row_bytes)
    3 64 1536
    """
    place = _place(folder, batch)
    chosen: dict[str, Any] = {"taps": taps, "poolings": poolings, "dtype": dtype, "shard": shard}
    chosen |= {"precision": precision, "folder": place}
    wanted = describe(model, images, **chosen, overwrite=overwrite)
    missing = require_folder(place, wanted, overwrite=overwrite)
    if overwrite:
        remove_others(place, wanted)
    how: dict[str, Any] = {"batch": batch, "device": device, "store": store, "progress": progress}
    return fill(place, wanted, missing, model, images, **how)


def _place(folder: object, batch: int) -> Path:
    """The folder, if it is one and the pass has batches.

    Raises:
        InputError: the folder is no path, or a batch has no image.
    """
    require_type(folder, (str, Path), "folder", "give a path as {out}")
    if batch < 1:
        raise InputError(
            f"A forward pass of {batch} images cannot be", mend="give 1 or more as {batch}"
        )
    return Path(str(folder)).expanduser()


def fill(
    folder: Path,
    wanted: Manifest,
    missing: Sequence[int],
    model: Backbone,
    images: ImageSet,
    *,
    batch: int = BATCH,
    device: str = "cpu",
    store: Store | None = None,
    progress: Progress | None = None,
) -> Features:
    """Compute the missing shards of a folder, and open the folder: the second half of `extract`.

    Args:
        wanted: the folder's manifest, from `describe`.
        missing: the numbers of the missing shards, from `require_folder`.
        batch, device, store, progress: as for `extract`.
    """
    wait_for_all()  # all have seen what was there before
    if this_process()[0] == 0:
        begin_folder(folder, wanted, images.ids, images)
    wait_for_all()
    if missing:
        request = _plan_pass(wanted, model, images, batch)
        writer = ShardWriter(folder, wanted, request.plan, missing)
        stored = None if store is None else FeatureReducer().find(request, store)
        if stored is None:
            run_pass(request, [(wanted.taps, _Extraction(model, writer))], device, progress)
        else:
            _copy(stored, writer, progress)
        writer.close()
    wait_for_all()
    return open_features(folder)


def is_stored(
    wanted: Manifest, model: Backbone, images: ImageSet, store: Store, *, batch: int = BATCH
) -> bool:
    """Whether a store has all features of a folder, so that `fill` copies them without a pass.

    Args:
        wanted: the folder's manifest, from `describe`.
        model, images, store, batch: as for `extract`.

    >>> import sslens, tempfile
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(Path(folder))
    ...     before = is_stored(describe(model, images), model, images, store)
    ...     _ = sslens.features(model, images, store=store)
    ...     before, is_stored(describe(model, images), model, images, store)
    (False, True)
    """
    return FeatureReducer().has(_plan_pass(wanted, model, images, batch), store)


def _plan_pass(wanted: Manifest, model: Backbone, images: ImageSet, batch: int) -> PassRequest:
    """The pass of which a folder is made: in minibatches that do not go beyond a file."""
    shards = (wanted.rows(number) for number in range(wanted.count))
    parts = [rows[at : at + batch] for rows in shards for at in range(0, len(rows), batch)]
    plan = Plan(tuple(images.ids[part.start : part.stop] for part in parts))
    return PassRequest(model, images, plan, wanted.taps, wanted.precision)


def _copy(stored: Features, writer: ShardWriter, progress: Progress | None) -> None:
    """Write features of the store, as the folder's numbers have them."""
    mine = choose_share(writer.minibatches, writer.together)
    done, total = 0, sum(len(writer.rows(number)) for number in mine)
    for number in mine:
        rows = writer.rows(number)
        for column in writer.columns:
            writer.put(column, stored.read(*column, slice(rows.start, rows.stop)), number)
        done += len(rows)
        if progress:
            progress(done, total)


@final
class _Extraction:
    """Pools each tap's output as it comes, and writes those poolings that are wanted."""

    def __init__(self, model: Backbone, writer: ShardWriter) -> None:
        self.minibatches, self.together = writer.minibatches, writer.together
        self._model, self._writer = model, writer

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on a minibatch."""
        for pooling, vectors in pool_tap(self._model, tap, output).items():
            if (tap.name, pooling) in self._writer.manifest.columns:
                self._writer.put((tap.name, pooling), vectors, batch)

    def finish(self) -> None:
        """Nothing is left to do: the writer is closed by `fill`."""


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
    overwrite: bool = False,
) -> Manifest:
    """Return the manifest of the folder that `extract` would write, found by one forward pass of an
    empty image; the arguments are as for `extract`, and of a folder that is there it has the shard.

    Raises:
        InputError: an unknown tap, pooling or number type, or a shard of fewer than 1 image.

    >>> import sslens
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> describe(model, images).row_bytes  # 5 taps × 3 poolings × 64 × 2 bytes
    1920
    """
    require_model(model)
    require_type(images, ImageSet, "set of images", "give what sslens.open_images returns")
    if dtype not in DTYPES:
        raise InputError(f'Features cannot be stored as "{dtype}": {nearest(dtype, DTYPES)}')
    if shard is not None and shard < 1:
        raise InputError(f"A shard of {shard} images cannot be", mend="give 1 or more as {shard}")
    chosen = FeatureReducer(None if taps is None else tuple(taps)).taps(model, model.pick(None))
    columns = find_widths(model, chosen)
    available = {pooling for _, pooling in columns}
    for pooling in poolings or ():
        if pooling not in available:
            raise InputError(
                f'{model.name} has no pooling "{pooling}" at these taps:'
                f" {nearest(pooling, available)}"
            )
    wanted = {
        column: width for column, width in columns.items() if column[1] in (poolings or available)
    }
    if shard is None:
        there = None if folder is None else read_manifest(folder, overwrite=overwrite)
        share = math.ceil(len(images) / this_process()[1])
        shard = min(SHARD, share) if there is None else there.shard
    request = PassRequest(model, images, Plan((images.ids,)), chosen, precision)
    return describe_folder(request, wanted, dtype, shard)


def require_folder(folder: Path, wanted: Manifest, *, overwrite: bool = False) -> list[int]:
    """List the numbers of the shards that a folder lacks, including those that are cut off or
    damaged.

    Raises:
        InputError: the folder holds other features, and they may not be overwritten; it holds
            strangers' files where features would be; or the disk has too little room for the
            missing shards.

    Warns:
        Doubt: a shard is there and cannot be used.
    """
    there = read_manifest(folder, overwrite=overwrite)
    if there is None:
        refuse_strangers(folder, wanted, overwrite=overwrite)
        if overwrite:
            return list_unfit(folder, wanted)
    elif there.key != wanted.key:
        if not overwrite:
            _refuse_others(folder, there, wanted)
        return list(range(wanted.count))
    return list_missing_shards(folder, wanted, MEND)


def _name(model: Mapping[str, Any]) -> str:
    """The name of a model, and where it is from if that says more."""
    name, source = str(model["name"]), str(model["source"])
    return name if name == source else f"{name} ({source})"


def _refuse_others(folder: Path, stored: Manifest, wanted: Manifest) -> None:
    """Refuse a folder whose features are not those that are wanted, by the first thing in which
    they differ."""
    model, images = stored.model, stored.images
    differences = {
        "weights": f"another model's, {_name(model)}",
        "images": (
            f"of other images, {images['count']:,} of {images['name']}, than the"
            f" {wanted.images['count']:,} of {wanted.images['name']} that are given"
        ),
        "ids": "of the same images in another order",
        "transform": f"of images seen otherwise ({json.dumps(stored.transform)})",
        "precision": f"of a forward pass in {stored.precision}",
        "columns": (
            f"of other taps or poolings ({len(stored.columns)} where {len(wanted.columns)} are"
            " asked for)"
        ),
        "dtype": f"in {stored.dtype}",
        "shard": f"in shards of {spell_count(stored.shard, 'image')}",
    }
    for entry, difference in differences.items():
        if stored.key[entry] != wanted.key[entry]:
            raise InputError(
                f"The features in {folder} are {difference}",
                mend="give another {out}, or replace them with {overwrite=True}",
            )
