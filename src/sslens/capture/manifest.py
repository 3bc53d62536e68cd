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

#: name of a tap, and a pooling of its output
Column: TypeAlias = tuple[str, str]
POOLINGS = ("cls", "mean", "patch", "flat")
DTYPES = {"float16": torch.float16, "float32": torch.float32}
MANIFEST, IMAGES = "features.json", "images.safetensors"
FORMAT = 1


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
        return json.dumps(value, indent=1)

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder.

        Raises:
            InputError: the folder has no manifest, or one that is damaged or of a newer format.
        """
        try:
            value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
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
            return cls(
                **value | {"taps": taps, "columns": columns, "classes": tuple(value["classes"])}
            )
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{folder} holds no stored features (no {MANIFEST})",
                mend="make them with sslens features MODEL {images=DIR} {out=" + str(folder) + "}",
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{folder / MANIFEST} is damaged ({error}): make the features again."
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
    path = shard_path(folder, number)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size)) if size < 2**28 else {}
            name, _, _ = header.pop("__metadata__")["sslens.shard"].partition(" ")
            if name != digest([manifest.key, number]):
                return None
            places = {
                parse_column(column): 8 + size + entry["data_offsets"][0]
                for column, entry in header.items()
            }
            end = 8 + size + max(entry["data_offsets"][1] for entry in header.values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    return (
        places if end == path.stat().st_size and places.keys() == manifest.columns.keys() else None
    )


def checksum(values: Tensor) -> int:
    """Return the CRC-32 of a tensor's bytes.

    >>> checksum(torch.tensor([49, 50, 51], dtype=torch.uint8))  # CRC-32 of "123"
    2286445522
    """
    return zlib.crc32(values.contiguous().view(-1).view(torch.uint8).numpy().data)


def read_sums(path: Path) -> dict[Column, int]:
    """Read the checksum of each column from the header of a shard; none where the shard was written
    before there were any."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    _, _, text = header["__metadata__"]["sslens.shard"].partition(" ")
    sums = json.loads(text or "{}")
    return {parse_column(name): value for name, value in sums.items()}


def read_images(
    folder: Path, manifest: Manifest
) -> tuple[tuple[str, ...], Int64[np.ndarray, " image"] | None]:
    """Read the ids in the order of the rows, and the classes if the file has any.

    Raises:
        InputError: the file cannot be read, or holds other images than the manifest says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / IMAGES
    try:
        tensors = load_file(path)
        ids = tuple(json.loads(zlib.decompress(tensors["ids"].numpy().tobytes())))
    except (OSError, SafetensorError, KeyError, ValueError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): make the features again.") from error
    labels = tensors["labels"].numpy() if "labels" in tensors else None
    if digest(ids) != manifest.images["ids"] or (labels is not None and len(labels) != len(ids)):
        raise InputError(
            f"{path} does not hold the images that {MANIFEST} tells of: make the features again."
        )
    return ids, labels
