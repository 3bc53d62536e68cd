"""The manifest of a folder of stored features.

A folder of stored features has

- `features.json`, the manifest: of which model, transform and images they are, the taps and
  poolings with their widths, the number type, and how many images a shard holds;
- `images.safetensors`: the images' ids in the order of the rows, and their classes;
- `shard-00000.safetensors`, …: the rows of so many images each, one tensor `TAP/POOLING [image
  dim]` after the other, with the checksum of each in the header.

So in each shard the features of one tap and pooling are contiguous bytes, and all features of an
image are in one file.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sslens.errors import InputError
from sslens.models.taps import Tap
from sslens.store import digest
from sslens.tensor_file import KINDS, read_header, read_torch
from sslens.whole_file import Unreadable, open_regular, seal, unseal

#: name of a tap, and a pooling of its output
Column: TypeAlias = tuple[str, str]
POOLINGS = ("cls", "mean", "patch", "flat")
DTYPES = {"float16": torch.float16, "float32": torch.float32}
MANIFEST, IMAGES = "features.json", "images.safetensors"
FORMAT = 1
#: what mends a file of images that is damaged
MEND = "run the sslens features command that made it again, which writes that file alone."
#: bytes of unpacked ids for each packed byte, and beyond; paths of images pack ten to one
UNPACKED, FEW = 64, 1 << 20


class Damaged(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """A manifest that is not what was written, or no manifest at all."""


def parse_column(name: str) -> Column:
    """Return the tap and pooling that a tensor's name says.

    >>> parse_column("blocks.11/cls")
    ('blocks.11', 'cls')
    """
    tap, _, pooling = name.rpartition("/")
    return tap, pooling


@dataclass(frozen=True)
class Manifest:
    """The description of a folder of stored features.

    Attributes:
        model: the model's name, source, digest of the weights, and what is known of it.
        transform: how the images were prepared.
        precision: of the forward pass.
        images: the images' name and number, the digest of their contents, and the digest of their
            ids in the order of the rows.
        classes: the names of the classes.
        taps: the taps in the order of computation.
        columns: the width of each tap and pooling.
        dtype: "float16" or "float32".
        shard: the number of images in a shard.
    """

    model: Mapping[str, Any]
    transform: Mapping[str, Any]
    precision: str
    images: Mapping[str, Any]
    classes: tuple[str, ...]
    taps: tuple[Tap, ...]
    columns: Mapping[Column, int]
    dtype: str
    shard: int

    @property
    def key(self) -> Mapping[str, Any]:
        """Everything that decided the features, as plain JSON values."""
        return {
            "weights": self.model["digest"],
            "transform": dict(self.transform),
            "precision": self.precision,
            "images": self.images["content"],
            "ids": self.images["ids"],
            "columns": [[*column, width] for column, width in self.columns.items()],
            "dtype": self.dtype,
            "shard": self.shard,
        }

    @property
    def count(self) -> int:
        """Number of shards."""
        return int(-(-self.images["count"] // self.shard))

    @property
    def row_bytes(self) -> int:
        """Bytes of one image's features."""
        return sum(self.columns.values()) * DTYPES[self.dtype].itemsize

    def rows(self, number: int) -> range:
        """Return the rows that a shard holds."""
        return range(number * self.shard, min((number + 1) * self.shard, self.images["count"]))

    def json(self) -> str:
        """Return the text of the manifest's file."""
        taps = {tap.name: [tap.kind, tap.depth] for tap in self.taps}
        columns = [[*column, width] for column, width in self.columns.items()]
        value = {"format": FORMAT, **vars(self), "taps": taps, "columns": columns}
        return seal(json.dumps(value, indent=1))

    def require_sense(self) -> None:
        """Refuse a description of no features.

        Raises:
            ValueError: a count or a width that is no whole number, or an entry that is missing.
        """
        counts = [self.shard, *self.columns.values()]
        if any(type(count) is not int or not 0 < count < 2**40 for count in counts):
            raise ValueError("a shard or a column has no size")
        if type(self.images["count"]) is not int or self.images["count"] < 0:
            raise ValueError("the images have no count")
        texts = [self.model["name"], self.model["source"], self.model["digest"], self.precision]
        texts += [self.images["name"], self.images["content"], self.images["ids"]]
        texts += [part for column in self.columns for part in column]
        if self.dtype not in DTYPES or not all(isinstance(text, str) for text in texts):
            raise ValueError("an entry is no text, or its number type is unknown")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder.

        Raises:
            InputError: the folder has no manifest, or one that is damaged or of a newer format.
        """
        try:
            with open_regular(folder / MANIFEST) as file:
                value = json.loads(unseal(file.read().decode("utf-8")))
            if value["format"] > FORMAT:
                raise InputError(
                    f"{folder / MANIFEST} has format {value['format']}, and this version of sslens"
                    f" reads {FORMAT}: update sslens."
                )
            taps = tuple(
                Tap(name, kind, depth) for name, (kind, depth) in value.pop("taps").items()
            )
            columns = {(tap, pooling): width for tap, pooling, width in value.pop("columns")}
            del value["format"]
            manifest = cls(
                **value | {"taps": taps, "columns": columns, "classes": tuple(value["classes"])}
            )
            manifest.require_sense()
            return manifest
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{folder} holds no stored features (no {MANIFEST})",
                mend="make them with sslens features MODEL {images=DIR} {out=" + str(folder) + "}",
            ) from None
        except OSError as error:
            raise InputError(
                f"{folder / MANIFEST} cannot be read ({error.strerror or error})."
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Damaged(
                f"{folder / MANIFEST} is damaged ({error})",
                mend="make the features again, with sslens features MODEL {images=DIR} {out="
                + str(folder)
                + "} {overwrite=True}, which replaces files of features alone",
            ) from error


def is_features(path: Path) -> bool:
    """Whether a path is a folder of stored features."""
    return (path / MANIFEST).is_file()


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of a shard's file.

    >>> shard_path(Path("features"), 7).name
    'shard-00007.safetensors'
    """
    return folder / f"shard-{number:05d}.safetensors"


def locate_columns(folder: Path, manifest: Manifest, number: int) -> dict[Column, int] | None:
    """Find the byte at which each column begins in the file of a shard; None where the file is cut
    off or holds other features.

    Raises:
        FileNotFoundError: the shard is not there.
    """
    try:
        with open_regular(shard_path(folder, number)) as file:
            header = read_header(file)
    except Unreadable:
        return None
    name, _, _ = header.metadata.get("sslens.shard", "").partition(" ")
    entries = {parse_column(column): entry for column, entry in header.entries.items()}
    rows = len(manifest.rows(number))
    if name != digest([manifest.key, number]) or entries.keys() != manifest.columns.keys():
        return None
    for column, entry in entries.items():
        if entry.shape != (rows, manifest.columns[column]) or KINDS[entry.kind] != manifest.dtype:
            return None
    return {column: entry.begin for column, entry in entries.items()}


def checksum(values: Tensor) -> int:
    """Return the CRC-32 of a tensor's bytes.

    >>> checksum(torch.tensor([49, 50, 51], dtype=torch.uint8))  # CRC-32 of "123"
    2286445522
    """
    return zlib.crc32(values.contiguous().view(-1).view(torch.uint8).numpy().data)


def read_sums(path: Path) -> dict[Column, int]:
    """Read the checksum of each column from the header of a shard; none where the shard was written
    before there were any."""
    with open_regular(path) as file:
        header = read_header(file)
    _, _, text = header.metadata["sslens.shard"].partition(" ")
    sums = json.loads(text or "{}")
    return {parse_column(name): value for name, value in sums.items()}


def read_images(
    folder: Path, manifest: Manifest
) -> tuple[tuple[str, ...], Int64[np.ndarray, " image"] | None]:
    """Read the ids in the order of the rows, and the classes if the file has any.

    Raises:
        InputError: the file cannot be read, or holds other images than the manifest says.
    """
    path = folder / IMAGES
    try:
        _, tensors = read_torch(path)
        ids = tuple(unpack_texts(tensors["ids"].numpy().tobytes()))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): {MEND}") from error
    labels = tensors["labels"].numpy() if "labels" in tensors else None
    fits = labels is None or (labels.dtype == np.int64 and labels.shape == (len(ids),))
    if digest(ids) != manifest.images["ids"] or len(ids) != manifest.images["count"] or not fits:
        raise InputError(f"{path} does not hold the images that {MANIFEST} tells of: {MEND}")
    return ids, labels


def unpack_texts(packed: bytes) -> list[str]:
    """Unpack texts that were written as compressed JSON.

    Raises:
        ValueError: the bytes are cut off or no such texts, or unpack to far more than they are.

    >>> unpack_texts(zlib.compress(b'["a", "b"]'))
    ['a', 'b']
    """
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, UNPACKED * len(packed) + FEW)
        texts = json.loads(text) if unpacker.eof else None
    except (zlib.error, RecursionError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(texts, list) or not all(isinstance(name, str) for name in texts):
        raise ValueError("its ids are no texts, or cut off")
    return texts
