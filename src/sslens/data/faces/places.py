"""Which image of a folder each name in a list of faces means."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from sslens.data.faces.lists import Boxes, FaceList
from sslens.data.sources import one_name
from sslens.errors import InputError


@final
@dataclass(frozen=True, eq=False)
class FacesFound:
    """The faces of a folder's images.

    Attributes:
        boxes: the boxes of each listed image, by its id.
        unlisted: ids of the images that are not listed, of which it is not known whether they show
            a face.
        missing: names in the list that no image has.
        elsewhere: the number of names of other folders, such as of `val` where the folder is
            `train`.
    """

    boxes: Mapping[str, Boxes]
    unlisted: tuple[str, ...]
    missing: tuple[str, ...]
    elsewhere: int


def find_images(faces: FaceList, ids: Sequence[str], folder: str) -> FacesFound:
    """Find the image that each name in a list means.

    A name means the image with this id, or the image with the longest id at its end, so that
    `train/cat/1.JPEG` and an absolute path mean the image `cat/1.JPEG`. Names without their suffix
    are compared where no image has the name with it. Where all file names differ, in the list and
    in the folder, file names alone are compared last, so that ImageNet's
    `val/ILSVRC2012_val_00000001.JPEG` means the image `n01751748/ILSVRC2012_val_00000001.JPEG`.

    Args:
        faces: the list.
        ids: of the folder's images: their paths below it.
        folder: the folder's name. Where names in the list contain it, names without it are those of
            other folders.

    Raises:
        InputError: two names mean one image.

    >>> import numpy as np
    >>> from pathlib import Path
    >>> box = np.array([[1.0, 2.0, 30.0, 40.0]])
    >>> faces = FaceList(Path("faces.json"), "", {"train/cat/1.JPEG": box, "val/2.JPEG": box})
    >>> found = find_images(faces, ["cat/1.jpg", "cat/3.jpg"], "train")
    >>> sorted(found.boxes), found.unlisted, found.missing, found.elsewhere
    (['cat/1.jpg'], ('cat/3.jpg',), (), 1)
    """
    exact = set(ids)
    by_stem = _find_unique((_strip(one), one) for one in ids)
    here = any(folder in name.split("/")[:-1] for name in faces.boxes)
    names: dict[str, str] = {}  # of the list, by id
    left: list[str] = []
    elsewhere = 0
    for name in faces.boxes:
        if name not in exact and here and folder not in name.split("/")[:-1]:
            elsewhere += 1
            continue
        image = _find_longest(name, exact, by_stem)
        if image is None:
            left.append(name)
        else:
            _take(faces, names, image, name)
    missing = _find_by_file(faces, ids, left, names) if left else []
    boxes = {image: faces.boxes[name] for image, name in names.items()}
    unlisted = tuple(one for one in ids if one not in boxes)
    return FacesFound(boxes, unlisted, tuple(missing), elsewhere)


def _take(faces: FaceList, names: dict[str, str], image: str, name: str) -> None:
    other = names.setdefault(image, name)
    if other != name:
        raise InputError(
            f"{faces.path}: {other} and {name} both mean the image {image}: list each image by its"
            " path below the folder."
        )


def _find_longest(name: str, exact: set[str], by_stem: Mapping[str, str | None]) -> str | None:
    """The image with the longest id that ends a name."""
    parts = one_name(name).split("/")
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        image = tail if tail in exact else by_stem.get(_strip(tail))
        if image is not None:
            return image
    return None


def _find_by_file(
    faces: FaceList, ids: Sequence[str], left: Sequence[str], names: dict[str, str]
) -> list[str]:
    """Find images by the names of their files, where all of these differ; returns what is missing
    then."""
    by_file = _find_unique((_file(one), one) for one in ids)
    counts = Counter(map(_file, faces.boxes))
    if None in by_file.values() or max(counts.values()) > 1:
        return list(left)
    missing = []
    for name in left:
        image = by_file.get(_file(one_name(name)))
        if image is None:
            missing.append(name)
        else:
            _take(faces, names, image, name)
    return missing


def _find_unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """The image of each key; None where two images have it."""
    images: dict[str, str | None] = {}
    for key, image in pairs:
        images[key] = None if key in images else image
    return images


def _strip(name: str) -> str:
    """A path without its suffix."""
    head, dot, suffix = name.rpartition(".")
    return head if dot and "/" not in suffix else name


def _file(name: str) -> str:
    return _strip(name.rpartition("/")[2])
