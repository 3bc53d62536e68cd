"""The names of sources of images, which are checked before anything heavy is imported."""

import functools
import importlib.util
import os
import unicodedata
from pathlib import Path

from sslens.errors import InputError, nearest, shorten

#: ends of the names of images
SUFFIXES = (
    *("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm"),
    *("jfif", "jpe", "jp2", "avif"),
)
#: ends of the names of images that the extra `heic` reads
HEIC = ("heic", "heif")
#: ends of the names of index files
INDEXES = ("csv", "tsv")
#: how the text begins that stands for something in memory which no file holds
MEMORY = "memory:"
#: the scenes of `scenes`, which says neither seed nor count
SCENES = (0, 2000)
#: the most scenes, and the digits of the longest number
MOST, DIGITS = 10_000_000, 18


def call_source(source: object) -> str:
    """Return what a source of images, or a model, is called in words: of what is in memory its name
    alone.

    >>> call_source("memory:birds"), call_source("photos/val")
    ('birds', 'photos/val')
    """
    return str(source).removeprefix(MEMORY)


@functools.cache
def has_heic() -> bool:
    """Whether the extra `heic` is installed, which reads the photographs of telephones."""
    return importlib.util.find_spec("pillow_heif") is not None


def list_suffixes() -> tuple[str, ...]:
    """List the ends of the names of the images that can be read here."""
    return SUFFIXES + (HEIC if has_heic() else ())


def one_name(text: str) -> str:
    """Return the one spelling of a name that Unicode can spell in several ways: NFC.

    Linux keeps "é" as it was typed, mostly one code point, and macOS writes it as two.

    >>> one_name("cafe\u0301") == "caf\u00e9"
    True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def split_index(source: str | Path) -> tuple[Path, str | None]:
    """Split `FILE.csv` or `FILE.csv:SPLIT` into the index file and the split; None if the source
    names no split. Of a source that is no index file, the whole is the path.

    >>> split_index("photos/index.csv:val")
    (PosixPath('photos/index.csv'), 'val')
    """
    text = str(source)
    name, colon, split = text.rpartition(":")
    if colon and name.rpartition(".")[2].lower() in INDEXES:
        return Path(name).expanduser(), split
    return Path(text).expanduser(), None


def is_index(path: Path) -> bool:
    """Whether a path is named as index files are."""
    return path.suffix[1:].lower() in INDEXES


def find_image(folder: Path) -> Path | None:
    """Find an image in a folder or in one of its subfolders, as a set of images has them; None
    where there is none."""
    ends = tuple(f".{suffix}" for suffix in SUFFIXES + HEIC)
    folders = [folder]
    for number in range(2):
        below: list[Path] = []
        for one in folders:
            try:
                with os.scandir(one) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        if entry.name.lower().endswith(ends) and entry.is_file():
                            return Path(entry.path)
                        if not number and entry.is_dir():
                            below.append(Path(entry.path))
            except OSError:
                continue
        folders = below
    return None


def require_no_images(folder: Path, what: str) -> None:
    """Refuse a folder of someone's images as a place for generated ones, which would be taken for
    images of the set from then on.

    Args:
        folder: the folder, which need not be there.
        what: what would be written, for the message.

    Raises:
        InputError: an image is there.
    """
    image = find_image(folder)
    if image is not None:
        raise InputError(
            f"{folder} holds images that sslens did not write, such as {image.relative_to(folder)}:"
            f" {what} beside them would become a part of that set",
            mend="give another {out}",
        )


def require_apart(out: Path, source: str) -> None:
    """Refuse a place for generated images inside the folder that the images come from.

    Raises:
        InputError: the place is in that folder.
    """
    folder = Path(source).expanduser()
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{out} is in {source}, the folder of the images: samples there would become a part of"
            " that set",
            mend="give another {out}",
        )


def require_source(source: str | Path) -> None:
    """Raise unless a name, file or folder can be a source of images.

    Raises:
        InputError: the source is not there (the nearest name is offered), cannot be read, or is of
            no kind that holds images.

    >>> require_source("scenes:0:64")
    """
    if isinstance(source, str):
        kind, _, rest = source.partition(":")
        if source.startswith(MEMORY) and not Path(source).exists():
            raise InputError(
                f'"{rest}" are images that were in the memory of the Python process that made the'
                " study, and no file holds them: put a folder, or another source, in their place."
            )
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
        _require_path(split_index(source)[0], source)
    except PermissionError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}): make it readable."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        name = shorten(str(source), 200)
        raise InputError(f"{name} is no folder of images ({reason}).") from error


def require_limit(limit: int | None, minimum: int) -> None:
    """Refuse a limit under the fewest images that will do.

    Raises:
        InputError: the limit is too low.
    """
    if limit is not None and limit < minimum:
        raise InputError(f"At least {minimum} images are needed; the limit is {limit}: raise it.")


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
    if len(parts) > 2 or not all(
        part.isascii() and part.isdigit() and len(part) <= DIGITS for part in parts
    ):
        raise InputError(
            f'"{source}" should be {kind}, {kind}:SEED or {kind}:SEED:COUNT with whole numbers.'
        )
    seed, count = (*map(int, parts), *SCENES[len(parts) :])
    if count > MOST:
        raise InputError(f'"{source}" asks for more scenes than {MOST:,}.')
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
    _require_path(folder, folder)
    if not file.is_file():
        raise InputError(
            f"{file} is no file{_say_where(file)}: give an annotation file of COCO's format"
            f"{_suggest_beside(file, folder)}."
        )
    return folder, file


def _say_where(file: Path) -> str:
    """The folder in which a relative path was looked for, as a part of a sentence."""
    return "" if file.is_absolute() else f" in {Path.cwd()}"


def _suggest_beside(file: Path, images: Path) -> str:
    """The file below the folder of images, or one beside the missing file that is spelt like it, as
    the end of a sentence."""
    if (images / file).is_file():
        return f" (there is {images / file})"
    if not file.parent.is_dir():
        return f" ({file.parent} is not there)"
    hint = nearest(file.name, [one.name for one in file.parent.iterdir()])
    return f" ({hint})" if hint.startswith("did you mean") else ""


def _require_path(path: Path, source: str | Path) -> None:
    if path.is_dir() or (path.is_file() and (path.suffix == ".npz" or is_index(path))):
        return
    if path.exists():
        if path.suffix[1:].lower() in SUFFIXES + HEIC:
            raise InputError(
                f"{path} is one image: give a folder of images, such as the one it lies in,"
                f" {path.parent}."
            )
        raise InputError(
            f"{path} is a file: images come from a folder, an .npz file, a .csv index, cifar10 or"
            " scenes."
        )
    nearest_folder = next((folder for folder in path.parents if folder.is_dir()), Path())
    missing = path.relative_to(nearest_folder).parts[0]
    options = [one.name for one in nearest_folder.iterdir() if not one.name.startswith(".")]
    hint = nearest(missing, options)
    if isinstance(source, str) and len(path.parts) == 1 and not hint.startswith("did you mean"):
        built_in = nearest(missing, ["cifar10", "scenes"])
        hint = built_in if built_in.startswith("did you mean") else hint
    raise InputError(
        f'{path} is not there; in {nearest_folder.absolute()} there is no "{missing}": {hint}'
    )
