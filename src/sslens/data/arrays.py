"""Images from files of arrays: an `.npz` file, or CIFAR-10."""

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from sslens.data.decoding import explain_error
from sslens.data.images import ImageSet, from_arrays
from sslens.errors import InputError, is_whole, make_line, nearest
from sslens.store import home

#: bytes of arrays that are never refused
LARGE = 1 << 30
#: times that images may be smaller when they are packed; zeros are a thousand times
MOST_PACKED = 200


def _require_memory(path: Path) -> None:
    """Refuse a file of arrays that would not fit into memory, or that unpacks to far more than
    images do, by the sizes that it says."""
    with path.open("rb") as raw, zipfile.ZipFile(raw) as file:
        size = sum(member.file_size for member in file.infolist())
    if size > LARGE and size > MOST_PACKED * path.stat().st_size:
        raise InputError(
            f"{path} has {path.stat().st_size / 1e6:,.0f} MB and unpacks to {size / 1e9:,.0f} GB,"
            " as no images do: save it again with numpy.savez."
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise InputError(
            f"{path} holds {size / 1e9:,.0f} GB of arrays, and this machine has"
            f" {memory / 1e9:,.0f} GB of memory: save the images as files in a folder."
        )


def from_npz(path: Path) -> ImageSet:
    """Open a set from an `.npz` file, which is never unpickled.

    The file holds `images`, and perhaps `labels`, `classes` and `ids`, all as in `from_arrays`.

    Raises:
        InputError: the file cannot be read, holds no `images`, or its arrays do not fit.
    """
    wanted = ("images", "labels", "classes", "ids")
    try:
        _require_memory(path)
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            names = list(file.files)
            arrays = {key: file[key] for key in wanted if key in names}
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds for a damaged file
        raise InputError(
            f"{path} cannot be read as .npz ({explain_error(error)}): save it again with"
            " numpy.savez."
        ) from error
    if "images" not in arrays:
        raise InputError(
            f'{path} holds no array "images", only {", ".join(names) or "nothing"}: save it under'
            " that name."
        )
    for key in ("classes", "ids"):
        if key in arrays and (arrays[key].dtype.kind != "U" or arrays[key].ndim != 1):
            raise InputError(
                f"{path}: {key} must be a list of text, not {arrays[key].dtype} of shape"
                f" {arrays[key].shape}."
            )
        for text in arrays[key].tolist() if key in arrays else ():
            if not is_whole(text):
                raise InputError(
                    f'{path}: "{make_line(text)}" of {key} holds half of a character: save its name'
                    " again."
                )
    classes, ids = (arrays[key].tolist() if key in arrays else None for key in ("classes", "ids"))
    images = from_arrays(arrays["images"], arrays.get("labels"), classes, ids, str(path))
    return replace(images, name=path.stem)


def cifar10(split: str = "val") -> ImageSet:
    """Open CIFAR-10 through torchvision: `train` (50,000 images) or `val` (its 10,000 test images),
    32 × 32, 10 classes.

    The images are downloaded once, to `datasets` in the store's folder. torchvision unpickles the
    file, but only after the file's MD5 was found to be the published one.

    Raises:
        InputError: no such split, or the download fails.
    """
    from torchvision.datasets import CIFAR10

    if split not in ("train", "val"):
        raise InputError(f'CIFAR-10 has no split "{split}": {nearest(split, ["train", "val"])}.')
    root = home() / "datasets"
    try:
        root.mkdir(parents=True, exist_ok=True)
        data = CIFAR10(root, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"CIFAR-10 could not be downloaded ({error})",
            mend=f"put {CIFAR10.filename} from {CIFAR10.url} into {root}, or give a folder of"
            " images as {images}",
        ) from error
    ids = [f"{split}/{row:05d}" for row in range(len(data.data))]
    return from_arrays(data.data, data.targets, data.classes, ids, f"cifar10:{split}")
