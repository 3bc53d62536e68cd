"""Images: from wherever the user has them, checked, in a fixed order, with ids."""

from pathlib import Path

import numpy as np

from sslens.data.folders import SUFFIXES, OnBad, Progress, check, from_folder
from sslens.data.images import ImageSet, cifar10, from_arrays, from_npz
from sslens.errors import InputError, nearest

__all__ = ["ImageSet", "open_images"]


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
            `scenes:SEED:COUNT`, the generated images (seed 0, 2,000 of them); an array `[image,
            height, width, 3]`; or a set, which keeps its order unless `limit` is given.
        on_bad: "stop" at a file that cannot be decoded, or "skip" such files and list them in the
            set's `skipped`.
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
    images = _open(source)
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


def _open(source: str | Path | np.ndarray | ImageSet) -> ImageSet:
    if isinstance(source, ImageSet):
        return source
    if isinstance(source, np.ndarray):
        return from_arrays(source)
    if isinstance(source, str):
        kind, _, rest = source.partition(":")
        if kind in ("cifar10", "scenes"):
            if not rest and Path(source).exists():
                exact = "cifar10:val" if kind == "cifar10" else "scenes:0"
                raise InputError(
                    f'"{source}" is a built-in set and also lies here: write ./{source} for it,'
                    f" {exact} for the set."
                )
            return _open_scenes(source, rest) if kind == "scenes" else cifar10(rest or "val")
    try:
        return _open_path(Path(source).expanduser(), source)
    except PermissionError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}): make it readable."
        ) from error


def _open_path(path: Path, source: str | Path) -> ImageSet:
    if path.is_dir():
        return from_folder(path)
    if path.is_file() and path.suffix == ".npz":
        return from_npz(path)
    if path.exists():
        if path.suffix[1:].lower() in SUFFIXES:
            raise InputError(
                f"{path} is one image: give a folder of images, such as the one it lies in,"
                f" {path.parent}."
            )
        raise InputError(
            f"{path} is a file: images come from a folder, an .npz file, cifar10 or scenes."
        )
    nearest_folder = next((folder for folder in path.parents if folder.is_dir()), Path())
    missing = path.relative_to(nearest_folder).parts[0]
    options = [one.name for one in nearest_folder.iterdir() if not one.name.startswith(".")]
    if isinstance(source, str) and len(path.parts) == 1:
        options += ["cifar10", "scenes"]
    raise InputError(
        f'{path} is not there; in {nearest_folder.absolute()} there is no "{missing}":'
        f" {nearest(missing, options)}"
    )


def _open_scenes(source: str, rest: str) -> ImageSet:
    from sslens.data.scene_images import scene_images

    parts = rest.split(":") if rest else []
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(
            f'"{source}" should be scenes, scenes:SEED or scenes:SEED:COUNT with whole numbers.'
        )
    seed, count = (int(part) for part in (*parts, *("0", "2000")[len(parts) :]))
    return scene_images(count, seed=seed)
