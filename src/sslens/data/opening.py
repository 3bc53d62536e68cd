"""From what a user names to a set of images, every file of it checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeGuard, get_args

import numpy as np

from sslens.data.arrays import cifar10, from_npz
from sslens.data.datasets import Dataset, from_dataset
from sslens.data.folders import OnBad, Progress, check, from_folder
from sslens.data.images import ImageSet, Opening, from_arrays
from sslens.data.index_file import open_index
from sslens.data.sources import (
    is_index,
    parse_scenes,
    require_limit,
    require_source,
    split_coco,
    split_index,
)
from sslens.errors import InputError, nearest, require_type

Sample = Literal["plain", "stratified"]
#: images of a class under which whole classes are drawn
PER_CLASS = 20


def open_images(
    source: str | Path | np.ndarray | ImageSet | Dataset,
    *,
    on_bad: OnBad = "stop",
    limit: int | None = None,
    seed: int = 0,
    sample: Sample = "plain",
    per_class: int = PER_CLASS,
    ids: Sequence[str] | None = None,
    minimum: int = 4,
    progress: Progress | None = None,
) -> ImageSet:
    """Open the images that a user names, in the order of `ImageSet.sample`, with every file
    checked.

    The images are sampled before they are checked: for 1,024 images of a folder of a million, 1,024
    files are read.

    Args:
        source: a folder (a class per subfolder, or flat); an `.npz` file; an index file `FILE.csv`,
            or `FILE.csv:SPLIT` (`data.index_file.open_index`); `cifar10`,
            `cifar10:train` or `cifar10:val` (the default); `scenes`, `scenes:SEED` or
            `scenes:SEED:COUNT`, the generated images (seed 0, 2,000 of them); with the objects of
            each image `scenes-detection:SEED:COUNT`, generated too, and `coco:IMAGES:ANNOTATIONS`,
            a folder and an annotation file of COCO's format; an array `[image, height, width, 3]`;
            a data set of torch or Hugging Face (`data.datasets.from_dataset`); or a set, which
            keeps its order unless `limit` is given.
        on_bad: "stop" at a file that cannot be decoded, or "skip" such files and list them in the
            set's `skipped`; so also at bad annotations (`data.coco.open_coco`).
        limit: how many images to take at most; all when None.
        seed: decides which images a limit takes, and their order.
        sample: how a limit draws images: "plain", by a hash of their ids alone; or "stratified",
            with the classes in proportion, and whole classes where there would be fewer than
            `per_class` images a class (`ImageSet.stratify`), as new comparisons draw them, so that
            `sslens.compare(…, limit=200)` sees other images than a set opened plain.
        per_class: see `sample`; 0 to have all classes in any case.
        ids: ids of the items of a data set, which are else made from their numbers.
        minimum: the fewest images that will do.
        progress: called with (files done, files in all) while files are checked.

    Raises:
        InputError: the source is not there, cannot be read, or holds too few images.

    >>> open_images(np.zeros((5, 8, 8, 3), np.uint8), limit=4)
    <ImageSet array: 4 images>
    """
    require_limit(limit, minimum)

    def draw(images: ImageSet) -> ImageSet:
        taken = limit is None and isinstance(source, ImageSet)
        return images if taken else _draw(images, limit, seed, sample, per_class)

    if _is_dataset(source):
        needs_labels = sample == "stratified" and limit is not None and limit < len(source)
        images = from_dataset(source, ids, draw, needs_labels=needs_labels)
    else:
        images = draw(_open(source, on_bad))
    images = check(images, on_bad, progress)
    _require_enough(images, source, minimum)
    return _note_opening(images, source, Opening(f"{source}", limit, seed, sample), per_class)


def _note_opening(images: ImageSet, source: object, opening: Opening, per_class: int) -> ImageSet:
    """Note how a set was opened, where it has a source and a study can draw it again."""
    again = opening.sample == "plain" or per_class == PER_CLASS
    if isinstance(source, str | Path) and again:
        object.__setattr__(images, "opened", opening)
    return images


def _draw(images: ImageSet, limit: int | None, seed: int, sample: str, per_class: int) -> ImageSet:
    if sample not in get_args(Sample):
        raise InputError(f'sample is "{sample}": {nearest(sample, get_args(Sample))}')
    if sample == "stratified":
        return images.stratify(limit, seed, per_class=per_class)
    return images.sample(limit, seed)


def _require_enough(images: ImageSet, source: object, minimum: int) -> None:
    if len(images) >= minimum:
        return
    where = source if isinstance(source, str | Path) else images.name
    skipped = (
        f" that can be decoded, beside {len(images.skipped)} skipped" if images.skipped else ""
    )
    raise InputError(
        f"At least {minimum} images are needed; {where} holds {len(images)}{skipped}: add images."
    )


def _is_dataset(source: object) -> TypeGuard[Dataset]:
    """Whether a source has a length and items, and is nothing else that is known."""
    known = (str, bytes, Path, np.ndarray, ImageSet, list, tuple, dict, set)
    return isinstance(source, Dataset) and not isinstance(source, known)


def _open(source: object, on_bad: OnBad) -> ImageSet:
    require_type(
        source,
        (str, Path, np.ndarray, ImageSet),
        "source of images",
        "give a folder, an array, a data set (with __len__ and __getitem__, but no list) or another"
        " source as {images}",
    )
    if isinstance(source, ImageSet):
        return source
    if isinstance(source, np.ndarray):
        return from_arrays(source)
    assert isinstance(source, str | Path)
    require_source(source)
    if isinstance(source, str):
        kind, _, rest = source.partition(":")
        if kind == "cifar10":
            return cifar10(rest or "val")
        if kind == "scenes":
            from sslens.data.scene_images import scene_images

            seed, count = parse_scenes(source)
            return scene_images(count, seed=seed)
        if kind == "scenes-detection":
            from sslens.data.scene_objects import scene_objects

            seed, count = parse_scenes(source)
            return scene_objects(count, seed=seed).images
        if kind == "coco" and rest:
            from sslens.data.coco import open_coco

            return open_coco(*split_coco(source), on_bad=on_bad).images
    path, split = split_index(source)
    try:
        if path.is_dir():
            return from_folder(path)
        return open_index(path, split) if is_index(path) else from_npz(path)
    except PermissionError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}): make it readable."
        ) from error
