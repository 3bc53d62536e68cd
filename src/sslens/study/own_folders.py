"""The user's folder of ImageNet, and what a reader must know if it is not one."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

from sslens.counts import spell_count
from sslens.data.sources import SUFFIXES, require_source

CLASSES, VAL_IMAGES, TRAIN_IMAGES = 1000, 50_000, 1_281_167
_WNID = re.compile(r"n\d{8}")


@final
@dataclass(frozen=True)
class OwnImages:
    """The user's labelled images, in the place of ImageNet's.

    Attributes:
        images: the source of the images to study.
        bank: the source of the images that vote and train probes; None where there are none.
        differs: how they differ from ImageNet's two parts, one clause each; published numbers may
            not be held against results on images that differ.
    """

    images: str
    bank: str | None
    differs: tuple[str, ...] = ()


def find_images(source: str, bank: str | None = None) -> OwnImages:
    """Find images and bank in a folder with `val` and `train`, and compare them with ImageNet's.

    Args:
        source: a folder with `train` and `val`, or any source of images.
        bank: the source of the bank; `train` of the folder unless given.

    Raises:
        InputError: a source is not there.
    """
    folder = Path(source).expanduser()
    val, train = folder / "val", folder / "train"
    if val.is_dir():
        images, found = str(val), bank or (str(train) if train.is_dir() else None)
    else:
        images, found = source, bank
    for one in (images, found):
        if one is not None:
            require_source(one)
    differs = [_compare(images, VAL_IMAGES, "images")]
    differs += [_compare(found, TRAIN_IMAGES, "bank")] if found is not None else []
    return OwnImages(images, found, tuple(text for text in differs if text))


def _compare(source: str, expected: int, role: str) -> str:
    """Say how a source differs from a part of ImageNet; empty if it has its classes and as many
    images."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return f"{source} is not ImageNet"
    classes = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]
    own = [one for one in classes if _WNID.fullmatch(one.name)]
    if len(classes) != CLASSES or len(own) != CLASSES:
        named = f", {len(own):,} of them named as ImageNet's" if own else ""
        return (
            f"{source} is not like ImageNet: it has {spell_count(len(classes), 'folder')} of"
            f" classes{named}, and ImageNet has {CLASSES:,}"
        )
    endings = tuple(f".{suffix}" for suffix in SUFFIXES)
    count = sum(file.name.lower().endswith(endings) for one in own for file in one.iterdir())
    if count != expected:
        return f"{source} has {spell_count(count, 'image')}, and ImageNet's {role} {expected:,}"
    return ""
