"""The names of sources of images, which are checked before anything heavy is imported."""

from pathlib import Path

from sslens.errors import InputError, nearest, shorten

#: ends of the names of images
SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm")
#: the scenes of `scenes`, which says neither seed nor count
SCENES = (0, 2000)


def require_source(source: str | Path) -> None:
    """Raise unless a name, file or folder can be a source of images.

    Raises:
        InputError: the source is not there (the nearest name is offered), cannot be read, or is of
            no kind that holds images.

    >>> require_source("scenes:0:64")
    """
    if isinstance(source, str):
        kind, _, rest = source.partition(":")
        if kind == "coco" and rest:
            split_coco(source)
            return
        if kind in ("cifar10", "scenes", "scenes-detection"):
            if not rest and Path(source).exists():
                exact = "cifar10:val" if kind == "cifar10" else f"{kind}:0"
                raise InputError(
                    f'"{source}" is a built-in set and also lies here: write ./{source} for it,'
                    f" {exact} for the set."
                )
            if kind != "cifar10":
                parse_scenes(source)
            return
    try:
        _require_path(Path(source).expanduser(), source)
    except PermissionError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}): make it readable."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        name = shorten(str(source), 200)
        raise InputError(f"{name} is no folder of images ({reason}).") from error


def parse_scenes(source: str) -> tuple[int, int]:
    """Read the seed and the count from `scenes:SEED:COUNT` or `scenes-detection:SEED:COUNT`; they
    are 0 and 2,000 if left out.

    Raises:
        InputError: one of them is no whole number, or there are more.

    >>> parse_scenes("scenes:3"), parse_scenes("scenes-detection:3:64")
    ((3, 2000), (3, 64))
    """
    kind, _, rest = source.partition(":")
    parts = rest.split(":") if rest else []
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(
            f'"{source}" should be {kind}, {kind}:SEED or {kind}:SEED:COUNT with whole numbers.'
        )
    seed, count = (*map(int, parts), *SCENES[len(parts) :])
    return seed, count


def split_coco(source: str) -> tuple[Path, Path]:
    """Read the folder of images and the annotation file from `coco:IMAGES:ANNOTATIONS`.

    Raises:
        InputError: one of the two is not there.
    """
    images, _, annotations = source.partition(":")[2].rpartition(":")
    if not images or not annotations:
        raise InputError(
            f'"{source}" should be coco:IMAGES:ANNOTATIONS, a folder of images and an annotation'
            " file, such as coco:val2017:annotations/instances_val2017.json."
        )
    folder, file = Path(images).expanduser(), Path(annotations).expanduser()
    _require_path(folder, images)
    if not file.is_file():
        raise InputError(f"{file} is no file: give an annotation file of COCO's format.")
    return folder, file


def _require_path(path: Path, source: str | Path) -> None:
    if path.is_dir() or (path.is_file() and path.suffix == ".npz"):
        return
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
