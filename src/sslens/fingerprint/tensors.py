"""The tensors of a fingerprint's file: checked against its header, packed and unpacked."""

import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens.counts import spell_count
from sslens.errors import InputError, is_whole
from sslens.fingerprint.header import refuse_damaged
from sslens.store import digest
from sslens.tensor_file import read_torch
from sslens.whole_file import Altered, Unreadable

if TYPE_CHECKING:
    from torch import Tensor

#: bytes of the longest id, of all ids for each packed byte, and beyond, that are read
LONGEST_ID, UNPACKED, ALL_IDS = 4096, 64, 2**20
#: how many times the values of a file the padded Grams may be
PADDED = 16


def load_tensors(path: Path) -> "dict[str, Tensor]":
    """Load all tensors of the file.

    Raises:
        InputError: the file was cut off or damaged.
    """
    try:
        return read_torch(path)[1]
    except Altered as error:
        refuse_damaged(path, str(error))
    except (Unreadable, OSError) as error:
        raise InputError(
            f"{path} is a fingerprint, but was cut off in writing or copying"
            f" ({spell_count(path.stat().st_size, 'byte')}; {error}): copy it again."
        ) from error


def unpack_ids(
    path: Path, header: Mapping[str, Any], tensors: "Mapping[str, Tensor]"
) -> tuple[str, ...]:
    """Unpack the ids, and check them against the digest of the minibatches in the header.

    Raises:
        InputError: the ids cannot be read, or are not those of the header's plan.
    """
    import torch

    for name, dtype in (("ids", torch.uint8), ("sizes", torch.int64)):
        if name not in tensors or tensors[name].dtype != dtype or tensors[name].ndim != 1:
            refuse_damaged(path, f"it has no {name}")
    sizes, count = tensors["sizes"].tolist(), header["images"]["count"]
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(
            tensors["ids"].numpy().tobytes(),
            max(1, min(LONGEST_ID * (count + 1), UNPACKED * len(tensors["ids"]) + ALL_IDS)),
        )
        ids = json.loads(text) if unpacker.eof else None
    except (ValueError, zlib.error, RecursionError):
        ids = None
    if not isinstance(ids, list) or not all(
        isinstance(name, str) and is_whole(name) for name in ids
    ):
        refuse_damaged(path, "its ids cannot be read")
    if not sizes or min(sizes) < 1 or not sum(sizes) == len(ids) == len(set(ids)) == count:
        refuse_damaged(
            path,
            f"it has {spell_count(len(ids), 'id')} for {spell_count(count, 'image')} in"
            f" minibatches of {sum(sizes):,} in all",
        )
    starts = itertools.accumulate(sizes[:-1], initial=0)
    minibatches = [ids[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    if digest(minibatches) != header["plan"]["digest"]:
        refuse_damaged(path, "its ids are not those of its plan")
    return tuple(ids)


def pack_ids(ids: Sequence[str]) -> "Tensor":
    """Pack the ids into the tensor that stands in the file: compressed JSON as bytes."""
    import torch

    text = json.dumps(list(ids), separators=(",", ":")).encode()
    return torch.frombuffer(bytearray(zlib.compress(text, 9)), dtype=torch.uint8)


def unpack_grams(
    path: Path, header: Mapping[str, Any], tensors: "Mapping[str, Tensor]", tokens: str
) -> "dict[str, Tensor]":
    """Unpack the Grams of one choice of tokens from the tensors of the file.

    Returns:
        "blocks" [tap batch n n], "energy" [tap batch] and "sizes" [batch].

    Raises:
        InputError: a tensor is missing, of another type or shape, or not finite.
    """
    import torch

    from sslens.fingerprint import triangles

    sizes, rows = tensors["sizes"].tolist(), len(header["grams"][tokens]["taps"])
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        f"triangles/{tokens}": (getattr(torch, header["dtype"]), (rows, triangles.values(sizes))),
        f"energy/{tokens}": (torch.float64, (rows, len(sizes))),
    }
    if header["dtype"] == "float16":
        expected[f"scale/{tokens}"] = (torch.float64, (rows,))
        expected[f"offset/{tokens}"] = (torch.float64, (rows, len(sizes)))
    for name, (dtype, shape) in expected.items():
        if name not in tensors or (tensors[name].dtype, tuple(tensors[name].shape)) != (
            dtype,
            shape,
        ):
            refuse_damaged(path, f"{name} is not {dtype} of shape {shape}".replace("torch.", ""))
        wrong = find_not_finite(tensors[name])
        if wrong is not None:
            refuse_damaged(
                path,
                f"{name} has values that are no numbers at"
                f" {header['grams'][tokens]['taps'][wrong][0]}",
            )
    stored = tensors[f"triangles/{tokens}"]
    if rows * len(sizes) * max(sizes) ** 2 > PADDED * stored.numel() + ALL_IDS:
        refuse_damaged(
            path, f"its minibatches are of {min(sizes):,} to {spell_count(max(sizes), 'image')}"
        )
    if header["dtype"] == "float16":
        stored = triangles.restore(
            stored, tensors[f"scale/{tokens}"], tensors[f"offset/{tokens}"], sizes
        )
        if find_not_finite(stored) is not None:
            refuse_damaged(path, f"scale/{tokens} takes its values beyond those of float32")
    return {
        "blocks": triangles.unpack(stored, sizes),
        "energy": tensors[f"energy/{tokens}"],
        "sizes": tensors["sizes"],
    }


def find_not_finite(*tensors: "Tensor") -> int | None:
    """Return the number of the first row that holds a NaN or an infinity in one of the tensors;
    None where all are finite."""
    for tensor in tensors:
        if not bool(tensor.double().sum().isfinite()):  # one reading, where a mask would be three
            rows = (~tensor.isfinite()).reshape(len(tensor), -1).any(1).nonzero()
            if len(rows):  # a sum of finite numbers may be infinite too
                return int(rows[0])
    return None
