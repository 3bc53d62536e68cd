"""Folders of stored features before a pass: what they will hold, and which shards they lack."""

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sslens.capture.hooks import activations
from sslens.capture.keys import PassRequest
from sslens.capture.manifest import Column, Manifest, locate_columns, shard_path
from sslens.capture.pooling import pool_tap
from sslens.capture.sharing import this_process
from sslens.errors import Doubt, InputError
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.store import digest


def find_widths(
    model: Backbone,
    taps: Sequence[Tap],
    pooled: Callable[[Tap, Tensor], Mapping[str, Tensor]] | None = None,
) -> dict[Column, int]:
    """Find the width of each pooling of each tap by one forward pass of an empty image.

    Args:
        model: the model.
        taps: the taps.
        pooled: makes vectors of a tap's output, by pooling; `pool_tap` unless given.

    Raises:
        InputError: the forward pass never calls the module of a tap.
    """
    place = next(model.parameters(), torch.empty(0)).device
    side = model.transform.crop
    outputs = activations(
        model, torch.zeros(1, 3, side, side, device=place), [tap.name for tap in taps]
    )
    columns: dict[Column, int] = {}
    for tap in taps:
        if tap.name not in outputs:
            raise InputError(
                f"{model.name} never calls the module of the tap {tap.name}: its forward pass goes"
                " another way, so leave that tap out."
            )
        output = outputs[tap.name]
        vectors = pool_tap(model, tap, output) if pooled is None else pooled(tap, output)
        columns |= {(tap.name, pooling): part.shape[1] for pooling, part in vectors.items()}
    return columns


def describe_folder(
    request: PassRequest, columns: Mapping[Column, int], dtype: str, shard: int
) -> Manifest:
    """Describe a folder that holds the features of a pass, with rows in the order of the pass'
    plan."""
    model, images = request.model, request.images
    return Manifest(
        {
            "name": model.name,
            "source": model.source,
            "digest": model.digest,
            "about": model.about.to_json(),
        },
        request.transform,
        request.precision,
        {
            "name": images.name,
            "count": len(images),
            "content": images.content,
            "ids": digest(request.plan.ids),
        },
        images.classes,
        request.taps,
        columns,
        dtype,
        shard,
    )


def list_missing_shards(folder: Path, wanted: Manifest, mend: str) -> list[int]:
    """List the numbers of the shards that a folder lacks, including those that are cut off or
    damaged.

    Args:
        folder: the folder, which need not exist.
        wanted: what the folder is to hold.
        mend: advice for the message where the disk is too small.

    Raises:
        InputError: the disk has too little room for the missing shards.

    Warns:
        Doubt: a shard is there and cannot be used.
    """
    missing = []
    for number in range(wanted.count):
        try:
            if locate_columns(folder, wanted, number) is not None:
                continue
        except FileNotFoundError:
            missing.append(number)
            continue
        missing.append(number)
        if this_process()[0] == 0:
            warnings.warn(
                f"{shard_path(folder, number)} is cut off or of other features, and is computed"
                " again.",
                Doubt,
                stacklevel=3,
            )
    need = sum(len(wanted.rows(number)) for number in missing) * wanted.row_bytes
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if need > free:
        raise InputError(
            f"The features take {need / 1e9:.1f} GB, and the disk of {folder} has {free / 1e9:.1f}"
            " GB free",
            mend=mend,
        )
    return missing
