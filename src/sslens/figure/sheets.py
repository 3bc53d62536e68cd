"""A sheet of pictures as a panel: rows and columns of small pictures of one size, with labels."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sslens.figure.pictures import PREFIX

#: pixels between two pictures for each 32 pixels of a picture's side, and after the first column
GAP, FIRST_GAP = 1, 3
#: the colour of the gaps, which tells pictures apart on a light and on a dark page
BETWEEN = 255


@dataclass(frozen=True, eq=False)
class Sheet:
    """Pictures in rows and columns, such as a source and its neighbours in each row.

    The first column stands a little apart: it holds what the others are held against.

    Attributes:
        title: the panel's title.
        pixels: the pictures, in RGB.
        rows: the label of each row.
        columns: the label of each column.
        facets: what the sheet shows, by the name of the choice; as of a heat map.

    >>> pixels = np.zeros((1, 3, 32, 32, 3), np.uint8)
    >>> sheet = Sheet("dino", pixels, ("bird",), ("source", "1", "2"))
    >>> sheet.compose().shape, sheet.ratio  # gaps of 3 and 1 pixels
    ((32, 100, 3), 0.32)

    Raises:
        ValueError: the labels do not fit the pictures, or there are none.
    """

    title: str
    pixels: UInt8[np.ndarray, "row column height width 3"]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    x_label: str = ""
    y_label: str = ""
    facets: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.shape[:2] != (len(self.rows), len(self.columns)) or not self.pixels.size:
            raise ValueError(
                f"{self.pixels.shape[:2]} pictures with {len(self.rows)} rows and"
                f" {len(self.columns)} columns"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the composed sheet, in pixels."""
        return self._edges("y")[-1], self._edges("x")[-1]

    @property
    def ratio(self) -> float:
        """Height over width."""
        return self.size[0] / self.size[1]

    def middles(self, axis: str) -> list[float]:
        """Return the middle of each row ("y") or column ("x"), in pixels of the composed sheet."""
        side = self.pixels.shape[2 if axis == "y" else 3]
        return [edge - side / 2 for edge in self._edges(axis)]

    def compose(self) -> UInt8[np.ndarray, "height width 3"]:
        """Lay all pictures into one."""
        height, width = self.pixels.shape[2:4]
        bottoms, rights = np.array(self._edges("y")), np.array(self._edges("x"))
        sheet = np.full((bottoms[-1], rights[-1], 3), BETWEEN, np.uint8)
        rows = (bottoms[:, None] - np.arange(height, 0, -1)).ravel()
        columns = (rights[:, None] - np.arange(width, 0, -1)).ravel()
        flat = self.pixels.transpose(0, 2, 1, 3, 4).reshape(len(rows), len(columns), 3)
        sheet[np.ix_(rows, columns)] = flat
        return sheet

    def encode(self) -> str:
        """Write the composed sheet as a data URL that holds a PNG file."""
        file = io.BytesIO()
        Image.fromarray(self.compose()).save(file, "png", optimize=True)
        return f"{PREFIX}png;base64,{base64.b64encode(file.getvalue()).decode()}"

    def _edges(self, axis: str) -> list[int]:
        """The lower edge of each row, or the right edge of each column."""
        count = len(self.rows) if axis == "y" else len(self.columns)
        side = self.pixels.shape[2 if axis == "y" else 3]
        unit = max(1, round(max(self.pixels.shape[2:4]) / 32))
        first = FIRST_GAP if axis == "x" else GAP
        gaps = unit * np.array([0, first, *[GAP] * count])[:count]
        return [int(edge) for edge in np.cumsum(gaps + side)]
