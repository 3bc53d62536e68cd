"""Images with boxes and masks in COCO's format: COCO's own folders and users'.

from sslens.data.coco import open_coco

train = open_coco("coco/train2017", "coco/annotations/instances_train2017.json")
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int64
from PIL import Image

from sslens.counts import spell_count
from sslens.data.coco_file import COCO_CATEGORIES, Annotations, CocoFile, find_faults, read_coco
from sslens.data.detections import DetectionSet, find_categories
from sslens.data.folders import FolderImages, OnBad, Progress, check
from sslens.data.images import ImageSet
from sslens.data.rle import Rle
from sslens.data.sources import one_name
from sslens.data.targets import Targets
from sslens.errors import InputError, nearest
from sslens.store import digest

#: EXIF's orientations that swap height and width
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112


def open_coco(
    images: str | Path,
    annotations: str | Path,
    *,
    categories: Sequence[str] | None = None,
    on_bad: OnBad = "stop",
    progress: Progress | None = None,
) -> DetectionSet:
    """Open a folder of images with an annotation file of COCO's format, every file checked.

    The images are in the order of the file, and an image's id is its path below the folder. A mask
    may be polygons, run lengths or compressed run lengths. An annotation is bad if its image or its
    category is not listed; if its box is missing, has no extent, lies outside the image or reaches
    over its edge by more than a pixel; or if its mask is damaged, has another size than the image,
    lies outside it, or is missing where others have one. An image is bad if its file is missing,
    cannot be decoded, or has another size than the annotation file says.

    Args:
        images: the folder of the images.
        annotations: the annotation file, such as `instances_val2017.json`.
        categories: names of the categories to take, all unless given. Images without an object of
            these categories stay, as images without objects.
        on_bad: "stop" at bad annotations and images, or "skip" and count them: annotations in the
            set's `objects.left_out`, images in `images.skipped`.
        progress: called with (files done, files in all) while files are checked.

    Raises:
        InputError: the folder or the file is not there or cannot be read; the file is not of
            COCO's format; there is a bad annotation or image and `on_bad` is "stop"; there is no
            such category; or no object or no image is left.
    """
    folder, path = Path(images).expanduser(), Path(annotations).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder of the images.")
    file = read_coco(path)
    chosen, left_out = _choose_annotations(file, on_bad)
    files = FolderImages(folder.resolve())
    found = _find_images(file, files, on_bad)
    checked = check(found, on_bad, progress)
    good, wrong = _check_sizes(
        checked, dict(zip(file.file_names, file.sizes.tolist(), strict=True))
    )
    if wrong and on_bad == "stop":
        name, why = wrong[0]
        raise InputError(
            f"{len(wrong)} of {spell_count(len(checked), 'image')} of {folder} differ from {path}:"
            f" the first is {name} ({why})",
            mend="give the images that were annotated, or leave such images out with {on_bad=skip}",
        )
    names, taken = _choose_categories(file, chosen, categories)
    part = replace(file, categories=names, annotations=taken)
    is_coco = file.categories == COCO_CATEGORIES
    objects = CocoTargets.of(part, found, len(files.ids), is_coco, left_out)
    opened = replace(good, skipped=(*good.skipped, *wrong), objects=objects)
    _require_objects(opened, path, categories)
    return DetectionSet(opened)


def _choose_annotations(
    file: CocoFile, on_bad: OnBad
) -> tuple[Annotations, tuple[tuple[str, int], ...]]:
    """The annotations without a fault, and how many have each fault."""
    faults = find_faults(file.annotations, file.sizes)
    counts = Counter(fault for fault in faults if fault is not None)
    if counts and on_bad == "stop":
        clauses = [
            f"{count} {fault} (the first has the id {file.annotations.ids[faults.index(fault)]})"
            for fault, count in counts.most_common()
        ]
        raise InputError(
            f"{file.path}: of {spell_count(len(faults), 'annotation')} {sum(counts.values())}"
            f" cannot be used: {'; '.join(clauses)}",
            mend="correct them, or leave such annotations out with {on_bad=skip}",
        )
    good = np.array([row for row, fault in enumerate(faults) if fault is None], np.int64)
    return file.annotations.take(good), tuple(counts.most_common())


def _find_images(file: CocoFile, files: FolderImages, on_bad: OnBad) -> ImageSet:
    """The images of the file that lie in the folder."""
    place = {name: row for row, name in enumerate(files.ids)}
    rows = [row for row, name in enumerate(file.file_names) if one_name(name) in place]
    missing = [name for name in file.file_names if one_name(name) not in place]
    if missing and (on_bad == "stop" or not rows):
        near = nearest(missing[0], files.ids) if files.ids else "it holds no image"
        raise InputError(
            f"{len(missing)} of the {spell_count(len(file.file_names), 'image')} of {file.path}"
            f" are not in {files.root}: the first is {missing[0]} ({near.rstrip('?')})",
            mend="give the folder of these images"
            + (", or leave such images out with {on_bad=skip}" if rows else ""),
        )
    ids = tuple(file.file_names[row] for row in rows)
    at = np.array([place[one_name(name)] for name in ids], np.int64)
    skipped = tuple((name, "it is not there") for name in missing)
    name = f"{file.path.resolve().parent.name}/{file.path.stem}"
    return ImageSet(name, ids, None, (), files, at, skipped)


def _check_sizes(
    images: ImageSet, sizes: dict[str, list[int]]
) -> tuple[ImageSet, list[tuple[str, str]]]:
    """The images that have the sizes (height, width) that the file says, and (id, reason) of the
    others."""
    source = images.source
    assert isinstance(source, FolderImages)
    rows = [] if images.rows is None else images.rows.tolist()
    with ThreadPoolExecutor() as pool:
        actual = list(pool.map(lambda row: _read_size(source.path(row)), rows))
    good, wrong = [], []
    for at, (name, (height, width)) in enumerate(zip(images.ids, actual, strict=True)):
        if [height, width] == sizes[name]:
            good.append(at)
        else:
            said = "{} × {}".format(*sizes[name])
            wrong.append((name, f"it has {height} × {width} pixels, the annotations say {said}"))
    return images.take(good) if wrong else images, wrong


def _read_size(path: Path) -> tuple[int, int]:
    """Height and width of an image that was found to be good, upright; only its header is read."""
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION) in _TURNED
    return (width, height) if turned else (height, width)


def _choose_categories(
    file: CocoFile, annotations: Annotations, wanted: Sequence[str] | None
) -> tuple[tuple[str, ...], Annotations]:
    """The names of the wanted categories, in the file's order, and their annotations."""
    if wanted is None:
        return file.categories, annotations
    try:
        chosen = sorted(set(find_categories(wanted, file.categories)))
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from error
    new = np.full(len(file.categories), -1, np.int64)
    new[chosen] = np.arange(len(chosen))
    taken = annotations.take(np.flatnonzero(new[annotations.labels] >= 0))
    names = tuple(file.categories[row] for row in chosen)
    return names, replace(taken, labels=new[taken.labels])


def _require_objects(images: ImageSet, path: Path, wanted: Sequence[str] | None) -> None:
    if not len(images):
        raise InputError(f"{path} lists no image that can be used: give a file with images.")
    assert isinstance(images.objects, CocoTargets)
    assert images.rows is not None
    if not images.objects.count(images.rows):
        of = "" if wanted is None else f" of the categories {', '.join(wanted)}"
        raise InputError(
            f"{path} holds no object{of} in its {spell_count(len(images), 'image')}: give"
            " annotations with objects."
        )


@final
@dataclass(frozen=True, eq=False)
class CocoTargets:
    """The objects of an annotation file, by the rows of its images in their folder.

    Attributes:
        file: the file, with the annotations in the order of their images.
        starts: row of the first annotation of each image of the file, and the number of
            annotations.
        places: index in the file of each image of the folder; -1 if the file does not list it.
        is_coco: whether the categories are COCO's 80, or some of these.
        left_out: how many annotations were left out for each reason, most first.
    """

    file: CocoFile
    starts: Int64[np.ndarray, " image_plus_1"]
    places: Int64[np.ndarray, " image_of_folder"]
    is_coco: bool
    left_out: tuple[tuple[str, int], ...]

    @classmethod
    def of(
        cls,
        file: CocoFile,
        images: ImageSet,
        count: int,
        is_coco: bool,
        left_out: tuple[tuple[str, int], ...],
    ) -> "CocoTargets":
        """Sort a file's annotations by image; their order within an image stays.

        Args:
            file: the file.
            images: its images, in their folder.
            count: number of images in the folder.
            is_coco: see `CocoTargets.is_coco`.
            left_out: see `CocoTargets.left_out`.
        """
        order = np.argsort(file.annotations.image, kind="stable")
        ordered = file.annotations.take(order)
        starts = np.searchsorted(ordered.image, np.arange(len(file.sizes) + 1))
        place = {name: row for row, name in enumerate(file.file_names)}
        places = np.full(count, -1, np.int64)
        places[images.rows] = [place[name] for name in images.ids]
        sorted_file = replace(file, annotations=ordered)
        return cls(sorted_file, starts.astype(np.int64), places, is_coco, left_out)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories."""
        return self.file.categories

    @property
    def has_masks(self) -> bool:
        """Whether each object has a mask; if not, none has."""
        masks = self.file.annotations.masks
        return bool(masks) and masks[0] is not None

    def count(self, rows: Int64[np.ndarray, " row"]) -> int:
        """Number of objects in images of the folder, crowds left out."""
        is_listed = np.isin(self.file.annotations.image, self.places[rows])
        return int((is_listed & ~self.file.annotations.crowd).sum())

    def targets(self, row: int) -> Targets:
        """Return the objects of an image of the folder."""
        place = int(self.places[row])
        height, width = self.file.sizes[place].tolist()
        part = slice(int(self.starts[place]), int(self.starts[place + 1]))
        ours = self.file.annotations
        rles = CocoMasks(ours.masks[part], height, width) if self.has_masks else None
        area = ours.area[part].copy()
        for at in np.flatnonzero(np.isnan(area)).tolist():
            area[at] = ours.bbox[part][at, 2:].prod() if rles is None else rles[at].area
        return Targets(
            height, width, ours.bbox[part], ours.labels[part], ours.crowd[part], area, rles
        )

    def digests(self, rows: Sequence[int]) -> list[str]:
        """Hash the file, the categories that were chosen and the number of annotations that were
        left."""
        chosen = digest([self.file.sha256, self.file.categories, self.starts.tolist()])
        return [digest([chosen, int(self.places[row])]) for row in rows]


@final
@dataclass(frozen=True, eq=False)
class CocoMasks:
    """The masks of an image, each drawn when it is asked for."""

    masks: tuple[Any, ...]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.masks)

    def __iter__(self) -> Iterator[Rle]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Rle:
        return Rle.from_coco(_unpack(self.masks[row]), self.height, self.width)

    def segmentations(self) -> list[Any]:
        """Each mask as the file has it."""
        return [_unpack(mask) for mask in self.masks]


def _unpack(mask: Any) -> Any:
    """A mask as the file has it; polygons are kept as arrays."""
    return [polygon.tolist() for polygon in mask] if isinstance(mask, list) else mask
