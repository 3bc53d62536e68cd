"""Sheets of samples that are a file alone: which places they may have, and what they are of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sslens.data.sources import HEIC, SUFFIXES
from sslens.errors import InputError
from sslens.own_files import Contents, OwnFiles
from sslens.store import write_beside

if TYPE_CHECKING:
    import numpy as np

#: what a sheet is, and the text in its file that says of what
KIND, KEY = "sheet of samples", "sslens"


def require_place(sheet: Path) -> None:
    """Refuse a sheet among the files of a study or training, or beside someone's images.

    Raises:
        InputError: other files lie where the sheet would be.
    """
    folder = sheet.resolve().parent
    for above in (folder, *folder.parents):
        there = OwnFiles(above).read()
        beside = folder.relative_to(above).as_posix()
        if there is not None and any(Path(f).parent.as_posix() == beside for f in there.files):
            held = there.explain(KIND, {})
            raise InputError(
                f"{sheet.parent} is a folder of {held}: a sheet there would lie among its files",
                mend="give another {out}",
            )
    endings = tuple(f".{suffix}" for suffix in SUFFIXES + HEIC)
    for other in sorted(folder.iterdir()) if folder.is_dir() else ():
        is_image = other.name.lower().endswith(endings) and other.is_file()
        if is_image and other.name != sheet.name and read_sheet(other) is None:
            raise InputError(
                f"{sheet.parent} holds images that sslens did not write, such as {other.name}:"
                " a sheet beside them would become a part of that set",
                mend="give another {out}",
            )


def require_own(sheet: Path, asked: Mapping[str, object], *, overwrite: bool) -> None:
    """Refuse a file that is no sheet of these samples, before anything is computed.

    Args:
        sheet: the file, which need not be there.
        asked: what decides the samples, as plain JSON values.
        overwrite: whether a sheet of other samples may be replaced.

    Raises:
        InputError: a file is there that may not be replaced.
    """
    if not sheet.exists():
        return
    there = read_sheet(sheet)
    if there is None:
        raise InputError(
            f"{sheet} is there, and sslens did not write it",
            mend="move it away, or give another {out}",
        )
    if not overwrite and not there.is_same(KIND, asked):
        raise InputError(
            f"{sheet} is {there.explain(KIND, asked)}",
            mend="give another {out}, or replace it with {overwrite=True}",
        )


def read_sheet(path: Path) -> Contents | None:
    """Read what a sheet is of; None of any other file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return Contents(KIND, dict(json.loads(image.info[KEY])))
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, Image.DecompressionBombError):
        return None


def write_sheet(path: Path, pixels: "np.ndarray", asked: Mapping[str, object]) -> None:
    """Write a sheet with the text that says what it is of.

    Args:
        path: the file.
        pixels: the picture, [row, column, 3].
        asked: what decides the samples, as plain JSON values.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text(KEY, json.dumps(dict(asked)))
    with write_beside(path) as temporary:
        Image.fromarray(pixels).save(temporary, "png", pnginfo=text)
