"""Sheets of pictures in tables: which picture stands in which row and column of which sheet."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from sslens.comparisons.rows import Row
from sslens.figure import Sheet, decode_picture, encode_picture
from sslens.own_files import OwnFiles
from sslens.store import write_beside
from sslens.table import Results

#: sheets side by side
ACROSS = 2
#: pictures in files are enlarged while they stay within so many pixels
ENLARGED = 96
TABLES: Mapping[str, tuple[str, ...]] = {
    "sheets": ("sheet", "row", "label", "column", "image"),
    "pictures": ("image", "picture"),
}
UNITS = {
    "sheet": "the model",
    "row": "row of the sheet, from 0",
    "label": "the class of the source, or its id",
    "column": "column of the sheet: 0 is the source",
    "image": "id of the picture",
    "picture": "its pixels, as a data URL",
}
TEXTS = ("sheet", "label", "image", "picture")


@final
@dataclass(frozen=True, eq=False)
class SheetRow:
    """One row of a sheet.

    Attributes:
        sheet: the name of the sheet.
        row: the number of the row.
        label: the label of the row.
        shown: the id and the pixels of each picture, the source first.
    """

    sheet: str
    row: int
    label: str
    shown: Sequence[tuple[str, UInt8[np.ndarray, "height width 3"]]]


def list_sheets(rows: Iterable[SheetRow]) -> Iterator[tuple[str, Row]]:
    """Make the rows of the tables `sheets` and `pictures`; each picture is written once.

    >>> pixels = np.zeros((2, 2, 3), np.uint8)
    >>> row = SheetRow("dino", 0, "bird", [("a", pixels), ("a", pixels)])
    >>> [name for name, _ in list_sheets([row])]
    ['sheets', 'pictures', 'sheets']
    """
    written = set()
    for one in rows:
        for column, (image, pixels) in enumerate(one.shown):
            place = {"sheet": one.sheet, "row": one.row, "label": one.label, "column": column}
            yield "sheets", place | {"image": image}
            if image not in written:
                written.add(image)
                yield "pictures", {"image": image, "picture": encode_picture(pixels)}


def make_sheets(sheets: pd.DataFrame, pictures: pd.DataFrame) -> Iterator[Sheet]:
    """Make each sheet of the tables `sheets` and `pictures`."""
    pixels = {
        str(name): decode_picture(str(text))
        for name, text in zip(pictures.image, pictures.picture, strict=True)
    }
    for name, own in sheets.groupby("sheet", sort=False):
        rows = [part.sort_values("column") for _, part in own.groupby("row")]
        shown = np.stack([np.stack([pixels[image] for image in part.image]) for part in rows])
        columns = ("source", *map(str, range(1, shown.shape[1])))
        labels, facets = tuple(str(part.label.iloc[0]) for part in rows), {"sheet": str(name)}
        yield Sheet(str(name), shown, labels, columns, facets=facets)


def draw_sheets(sheets: pd.DataFrame, pictures: pd.DataFrame) -> list[tuple[Sheet | None, ...]]:
    """Draw the sheets of the tables `sheets` and `pictures`, two in a row of panels."""
    panels: list[Sheet | None] = [*make_sheets(sheets, pictures)]
    panels += [None] * (-len(panels) % ACROSS)
    return [tuple(panels[start : start + ACROSS]) for start in range(0, len(panels), ACROSS)]


def save_sheets(results: Results, folder: Path, own: OwnFiles) -> None:
    """Write each sheet of an analysis as a PNG file, named after the sheet, with the rows and
    columns that the table `sheets` says; small pictures are enlarged, pixel by pixel. Listed files
    of earlier sheets are removed. Without such a table nothing is written.

    Args:
        results: of the analysis.
        folder: the folder of the sheets.
        own: the list of the report's files.

    Raises:
        InputError: the folder cannot be written to, the disk is full, or a stranger's file has the
            name of a sheet.
    """
    if not set(TABLES) <= set(results):
        return
    for path in folder.glob("*.png"):
        own.remove(path)
    for sheet in make_sheets(results["sheets"], results["pictures"]):
        whole, side = sheet.compose(), max(sheet.pixels.shape[2:4])
        factor = max(1, ENLARGED // side)
        enlarged = Image.fromarray(whole.repeat(factor, 0).repeat(factor, 1))
        name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', sheet.title)}.png"
        with write_beside(own.before(folder / name)) as path:
            enlarged.save(path, "png")
