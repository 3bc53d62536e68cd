"""From what a user names to a set of images, every file of it checked."""

from pathlib import Path

import numpy as np

from sslens.data.folders import OnBad, Progress, check, from_folder
from sslens.data.images import ImageSet, cifar10, from_arrays, from_npz
from sslens.data.sources import parse_scenes, require_source, split_coco
from sslens.errors import InputError, require_type


def open_images(
    source: str | Path | np.ndarray | ImageSet,
    *,
    on_bad: OnBad = "stop",
    limit: int | None = None,
    seed: int = 0,
    minimum: int = 4,
    progress: Progress | None = None,
) -> ImageSet:
    """Open the images that a user names, in the order of `ImageSet.sample`, with every file
    checked.

    The images are sampled before they are checked: for 1,024 images of a folder of a million, 1,024
    files are read.

    Args:
        source: a folder (a class per subfolder, or flat); an `.npz` file; `cifar10`,
            `cifar10:train` or `cifar10:val` (the default); `scenes`, `scenes:SEED` or
            `scenes:SEED:COUNT`, the generated images (seed 0, 2,000 of them); with the objects of
            each image `scenes-detection:SEED:COUNT`, generated too, and `coco:IMAGES:ANNOTATIONS`,
            a folder and an annotation file of COCO's format; an array `[image, height, width, 3]`;
            or a set, which keeps its order unless `limit` is given.
        on_bad: "stop" at a file that cannot be decoded, or "skip" such files and list them in the
            set's `skipped`; so also at bad annotations (`data.coco.open_coco`).
        limit: how many images to take at most; all when None.
        seed: decides which images a limit takes, and their order.
        minimum: the fewest images that will do.
        progress: called with (files done, files in all) while files are checked.

    Raises:
        InputError: the source is not there, cannot be read, or holds too few images.

    >>> open_images(np.zeros((5, 8, 8, 3), np.uint8), limit=4)
    <ImageSet array: 4 images>
    """
    if limit is not None and limit < minimum:
        raise InputError(f"CKA needs at least {minimum} images; the limit is {limit}: raise it.")
    images = _open(source, on_bad)
    if limit is not None or not isinstance(source, ImageSet):
        images = images.sample(limit, seed)
    images = check(images, on_bad, progress)
    if len(images) < minimum:
        where = source if isinstance(source, str | Path) else images.name
        skipped = (
            f" that can be decoded, beside {len(images.skipped)} skipped" if images.skipped else ""
        )
        raise InputError(
            f"CKA needs at least {minimum} images; {where} holds {len(images)}{skipped}: add"
            " images."
        )
    return images


def _open(source: str | Path | np.ndarray | ImageSet, on_bad: OnBad) -> ImageSet:
    require_type(
        source,
        (str, Path, np.ndarray, ImageSet),
        "source of images",
        "give a folder, an array or another source as {images}",
    )
    if isinstance(source, ImageSet):
        return source
    if isinstance(source, np.ndarray):
        return from_arrays(source)
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
    path = Path(source).expanduser()
    try:
        return from_folder(path) if path.is_dir() else from_npz(path)
    except PermissionError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}): make it readable."
        ) from error
