"""Lists of faces: the boxes of each image, from JSON (as ImageNet's faces are listed) or CSV."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from jaxtyping import Float64

from sslens.errors import InputError
from sslens.whole_file import open_regular

#: (x0, y0, x1, y1) of each face in pixels
Boxes: TypeAlias = Float64[np.ndarray, "face 4"]

CORNERS = ("x0", "y0", "x1", "y1")
#: the largest number of a box
MOST = 1e15
#: keys and columns that name an image; `url` is the ImageNet list's
NAMES = ("url", "image")
#: what a list should be, the end of a message
EXPECTED = (
    'expected JSON, [{"url": "train/n01440764/n01440764_10026.JPEG", "bboxes": [{"x0": 10, "y0":'
    ' 20, "x1": 60, "y1": 90}]}, …], as of ImageNet\'s faces, or CSV with the columns image, x0,'
    " y0, x1, y1 and a row a face; an image without a face has no bboxes, or a row without numbers"
)


@final
@dataclass(frozen=True, eq=False)
class FaceList:
    """A list of faces.

    Attributes:
        path: the file.
        sha256: of the file's bytes (hex).
        boxes: the boxes of each image, by its name in the list; none where it shows no face.
    """

    path: Path
    sha256: str
    boxes: Mapping[str, Boxes]


def read_list(path: Path) -> FaceList:
    """Read a list of faces.

    JSON is a list of objects, each with the image's `url` (or `image`) and its `bboxes`, as in
    `face_annotations_ILSVRC.json` of Yang et al. (2022), or one object with the boxes of each
    image by its name. A box is an object with x0, y0, x1, y1 or a list of these four. CSV has the
    columns image (or url), x0, y0, x1, y1 and a row a face. All are in pixels from the upper left
    corner. Entries of the same image are joined.

    Raises:
        InputError: the file is not there, has another format, or its boxes are no pixels.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "faces.csv")
    >>> _ = path.write_text("image,x0,y0,x1,y1\\na.jpg,1,2,30,40\\nb.jpg,,,,\\n")
    >>> {name: boxes.tolist() for name, boxes in read_list(path).boxes.items()}
    {'a.jpg': [[1.0, 2.0, 30.0, 40.0]], 'b.jpg': []}
    """
    try:
        with open_regular(path) as file:
            content = file.read()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror})", mend="give a list of faces as {boxes}"
        ) from error
    except UnicodeDecodeError as error:
        raise _refuse(path, "it is no text in UTF-8") from error
    rows = _read_json(path, text) if text.lstrip()[:1] in ("[", "{") else _read_csv(path, text)
    corners: dict[str, list[tuple[float, ...]]] = {}
    for name, boxes in rows:
        clean = name.replace("\\", "/").removeprefix("./")
        corners.setdefault(clean, []).extend(boxes)
    if not corners:
        raise _refuse(path, "it lists no image")
    arrays = {name: np.array(boxes, np.float64).reshape(-1, 4) for name, boxes in corners.items()}
    _require_pixels(path, arrays)
    return FaceList(path, hashlib.sha256(content).hexdigest(), arrays)


def _refuse(path: Path, why: str) -> InputError:
    return InputError(f"{path} is no list of faces ({why}): {EXPECTED}.")


def _read_json(path: Path, text: str) -> Iterator[tuple[str, list[tuple[float, ...]]]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"it is no JSON: {error}") from error
    if isinstance(value, dict) and {"images", "annotations"} <= set(value):
        raise _refuse(path, "it is a file of COCO's format")
    entries = (
        [{"url": k, "bboxes": v} for k, v in value.items()] if isinstance(value, dict) else value
    )
    for number, entry in enumerate(entries):
        where = f"entry {number} is {json.dumps(entry)[:100]}"
        if not isinstance(entry, dict) or not isinstance(entry.get("bboxes"), list):
            raise _refuse(path, where)
        name = next((entry[key] for key in NAMES if key in entry), None)
        if not isinstance(name, str) or not name:
            raise _refuse(path, where)
        yield name, [_read_box(path, where, box) for box in entry["bboxes"]]


def _read_box(path: Path, where: str, box: Any) -> tuple[float, ...]:
    corners = [box.get(corner) for corner in CORNERS] if isinstance(box, dict) else box
    if not isinstance(corners, list) or len(corners) != 4 or not all(map(_is_number, corners)):
        raise _refuse(path, where)
    return tuple(map(float, corners))


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not abs(value) >= MOST  # NaN may be


def _read_csv(path: Path, text: str) -> Iterator[tuple[str, list[tuple[float, ...]]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = [column.strip() for column in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:  # a field of over 131,072 letters
        raise _refuse(path, f"it is no CSV: {error}") from error
    key = next((name for name in NAMES if name in columns), None)
    if key is None or not set(CORNERS) <= set(columns):
        raise _refuse(path, f"its columns are {', '.join(columns)}"[:200])
    for line, row in rows:
        values = [(row[corner] or "").strip() for corner in CORNERS]
        where = f"line {line} is {', '.join([row[key] or '', *values])}"
        if not (name := (row[key] or "").strip()):
            raise _refuse(path, where)
        if not any(values):
            yield name, []
            continue
        try:
            yield name, [tuple(map(float, values))]
        except ValueError as error:
            raise _refuse(path, where) from error


def _require_pixels(path: Path, boxes: Mapping[str, Boxes]) -> None:
    """Refuse boxes in shares of the image, as some detectors write them: one among boxes in pixels
    would leave its face as it is."""
    for name, own in boxes.items():
        with np.errstate(invalid="ignore"):
            shares = (np.abs(own) <= 1).all(axis=1)
        if shares.any():
            raise InputError(
                f"{path} has a box of {name} between -1 and 1, as shares of the image: give pixels."
            )
