"""The figures of a page as compact data: panels that differ by a choice only are one drawing, and
each choice is a picker."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, final

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sslens.figure import Figure, Heatmap, Lines, Panel, Picture, Sheet, encode_picture
from sslens.figure.pictures import PREFIX
from sslens.figure.sheets import BETWEEN
from sslens.report.stills import begins_at_zero

Kind: TypeAlias = Literal["map", "lines", "sheet", "picture"]
#: the order of a section's drawings, after a map whose cells pick
KINDS: Mapping[type, Kind] = {Heatmap: "map", Lines: "lines", Sheet: "sheet", Picture: "picture"}
#: the choice among panels that name none: by their titles
BY_TITLE = "panel"
#: 16 bits a number: the steps between the least and the greatest one; the last code is undefined
STEPS, UNDEFINED = 65534, 65535
#: the longer side of a sheet's pictures on the page, in pixels; larger ones are shrunk
THUMBNAIL = 96
#: of a small picture that is written as JPEG
QUALITY = 85


class Packed(TypedDict):
    """Numbers in 16 bits each: the least and the greatest one, and the codes in base64."""

    low: float
    high: float
    codes: str


@dataclass(frozen=True, eq=False)
class Drawing:
    """Panels of one kind, of which a page shows the picked one; of pictures, all that are picked.

    Attributes:
        kind: of the panels.
        choices: the names of the choices.
        panels: each with what was chosen, in the order of `choices`.
    """

    kind: Kind
    choices: tuple[str, ...]
    panels: tuple[tuple[tuple[str, ...], Panel], ...]

    def start(self) -> list[Panel]:
        """The panels that are shown before anything is picked."""
        first = self.panels[0][0]
        shown = [panel for chosen, panel in self.panels if chosen == first]
        return shown if self.kind == "picture" else shown[:1]


def group_panels(figure: Figure, extras: Sequence[Panel] = ()) -> tuple[Drawing, ...]:
    """Group the panels of a figure, and further ones, into drawings.

    Panels of one kind with the same choices (`facets`) are one drawing. Panels without choices are
    one drawing if they have the same horizontal axis, and maps the same unit; the choice among them
    is by title.

    >>> x = np.zeros(1)
    >>> panels = [Lines(name, "depth", "accuracy", (), None) for name in ("CLS", "mean")]
    >>> (drawing,) = group_panels(Figure("knn", (tuple(panels),)))
    >>> drawing.choices, [chosen for chosen, _ in drawing.panels]
    (('panel',), [('CLS',), ('mean',)])
    """
    groups: dict[tuple[Any, ...], list[Panel]] = {}
    for panel in _list_once([*figure.more, *figure.shown(), *extras]):
        groups.setdefault(_make_key(panel), []).append(panel)
    drawings = [_make_drawing(panels) for panels in groups.values()]
    order = list(KINDS.values())
    return tuple(sorted(drawings, key=lambda one: (not _picks(one), order.index(one.kind))))


def _list_once(panels: Iterable[Panel]) -> list[Panel]:
    """List the panels, of those of one kind with equal facets the first; all pictures."""
    seen: dict[Any, Panel] = {}
    for panel in panels:
        named = panel.facets and not isinstance(panel, Picture)
        key = (*_make_key(panel), *sorted(panel.facets.items())) if named else id(panel)
        seen.setdefault(key, panel)
    return list(seen.values())


def _make_key(panel: Panel) -> tuple[Any, ...]:
    """A key that panels of one drawing share."""
    kind = KINDS[type(panel)]
    axes: tuple[str, ...] = ()
    if isinstance(panel, Heatmap):
        axes = (panel.picks,) if panel.facets else (panel.picks, panel.unit, panel.x_label)
    elif isinstance(panel, Lines):
        axes = () if panel.facets else (panel.x_label,)
    return (kind, *axes, *sorted(panel.facets))


def _make_drawing(panels: Sequence[Panel]) -> Drawing:
    kind, names = KINDS[type(panels[0])], tuple(panels[0].facets)
    if names or kind == "picture":
        chosen = [tuple(panel.facets[name] for name in names) for panel in panels]
        return Drawing(kind, names, tuple(zip(chosen, panels, strict=True)))
    titles: dict[str, Panel] = {}
    several = len({panel.y_label for panel in panels if isinstance(panel, Lines)}) > 1
    for number, panel in enumerate(panels, 1):
        parts = (panel.title, panel.y_label if several else "")
        title = ", ".join(filter(None, parts)) or str(number)
        titles[title if title not in titles else f"{title} ({number})"] = panel
    choices = (BY_TITLE,) if len(titles) > 1 else ()
    return Drawing(
        kind, choices, tuple(((title,) if choices else (), one) for title, one in titles.items())
    )


def _picks(drawing: Drawing) -> bool:
    panel = drawing.panels[0][1]
    return isinstance(panel, Heatmap) and bool(panel.picks)


def encode_drawings(drawings: Sequence[Drawing]) -> Mapping[str, Any]:
    """Encode drawings as values that JSON can hold.

    Names, labels, positions and pictures are held once, and referred to by their numbers. Values
    have 16 bits each, between the least and the greatest of their panel.
    """
    held = _Held()
    picked = {
        name: list(
            dict.fromkeys(
                chosen[drawing.choices.index(name)]
                for drawing in drawings
                if name in drawing.choices
                for chosen, _ in drawing.panels
            )
        )
        for name in dict.fromkeys(name for drawing in drawings for name in drawing.choices)
    }
    encoded = [
        {
            "kind": drawing.kind,
            "keys": drawing.choices,
            "panels": [
                {"at": _find_places(picked, drawing.choices, chosen), **_encode_panel(panel, held)}
                for chosen, panel in drawing.panels
            ],
        }
        for drawing in drawings
    ]
    return {"picked": picked, "held": held.values, "drawings": encoded}


def _find_places(
    picked: Mapping[str, Sequence[str]], choices: Sequence[str], chosen: Sequence[str]
) -> list[int]:
    """The number of each choice's value among all its values."""
    return [picked[name].index(one) for name, one in zip(choices, chosen, strict=True)]


@final
class _Held:
    """Values that many panels share, each held once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[Any, int] = {}

    def add(self, value: str | tuple[Any, ...]) -> int:
        """Hold a value; returns its number."""
        if value not in self._places:
            self._places[value] = len(self.values)
            self.values.append(value)
        return self._places[value]


def _encode_panel(panel: Panel, held: _Held) -> Mapping[str, Any]:
    common = {
        "title": held.add(panel.title),
        "x": held.add(panel.x_label),
        "y": held.add(panel.y_label),
    }
    if isinstance(panel, Heatmap):
        own = {
            "unit": held.add(panel.unit),
            "rows": held.add(panel.rows),
            "columns": held.add(panel.columns),
            "rowNotes": held.add(panel.row_notes or panel.rows),
            "columnNotes": held.add(panel.column_notes or panel.columns),
            "values": pack(panel.values.ravel()),
        }
        return common | own | ({"picks": panel.picks} if panel.picks else {})
    if isinstance(panel, Lines):
        return {**common, **_encode_lines(panel, held)}
    if isinstance(panel, Sheet):
        return {**common, **_encode_sheet(panel, held)}
    outlines = [
        [held.add(one.name), held.add(one.label), *(round(edge, 1) for edge in one.box)]
        for one in panel.outlines
    ]
    source = held.add(encode_picture(panel.pixels))
    return common | {"source": source, "size": panel.size, "outlines": outlines}


def _encode_sheet(sheet: Sheet, held: _Held) -> Mapping[str, Any]:
    """Encode a sheet: the place and the picture of each cell, row after row; a picture that stands
    in several sheets is held once, and an empty cell is None."""
    middles = {axis: [round(at, 1) for at in sheet.middles(axis)] for axis in ("x", "y")}
    cells = [
        None if (one == BETWEEN).all() else held.add(encode_thumbnail(one))
        for row in sheet.pixels
        for one in row
    ]
    return {
        "rows": held.add(sheet.rows),
        "columns": held.add(sheet.columns),
        "cells": cells,
        "size": sheet.size,
        "side": sheet.pixels.shape[2:4],
        "middles": middles,
    }


def encode_thumbnail(pixels: UInt8[np.ndarray, "row column 3"]) -> str:
    """Write a small picture as a data URL, shrunk to 96 pixels on its longer side: as a PNG or a
    JPEG file, the smaller of the two.

    >>> encode_thumbnail(np.zeros((4, 4, 3), np.uint8))[:15]
    'data:image/png;'
    """
    image, side = Image.fromarray(pixels), max(pixels.shape[:2])
    if side > THUMBNAIL:
        size = (round(image.width * THUMBNAIL / side), round(image.height * THUMBNAIL / side))
        image = image.resize(size, Image.Resampling.BILINEAR)
    written = []
    for kind in ("png", "jpeg"):
        file = io.BytesIO()
        image.save(file, kind, quality=QUALITY, optimize=True)
        written.append(f"{PREFIX}{kind};base64,{base64.b64encode(file.getvalue()).decode()}")
    return min(written, key=len)


def _encode_lines(panel: Lines, held: _Held) -> Mapping[str, Any]:
    """Encode curves: name, control, positions, and the values with both ends of the interval, if
    there is one, one after another; all curves of a panel lie between the same two ends."""
    arrays = [
        np.concatenate(
            [line.y] if line.low is None or line.high is None else [line.y, line.low, line.high]
        )
        for line in panel.lines
    ]
    whole = pack(np.concatenate([np.zeros(0), *arrays]))
    codes, start, lines = base64.b64decode(whole["codes"]), 0, []
    for line, array in zip(panel.lines, arrays, strict=True):
        stop = start + 2 * len(array)
        own = base64.b64encode(codes[start:stop]).decode()
        positions = held.add(tuple(round(float(x), 5) for x in line.x))
        lines.append([held.add(line.name), int(line.control), positions, own])
        start = stop
    zero = int(begins_at_zero(panel))
    return {"log": panel.log_x, "zero": zero, "ends": [whole["low"], whole["high"]], "lines": lines}


def pack(values: Float[np.ndarray, " value"]) -> Packed:
    """Write numbers in 16 bits each, between the least and the greatest of them.

    >>> packed = pack(np.array([0.0, 1.0, np.nan]))
    >>> packed["low"], packed["high"], np.frombuffer(base64.b64decode(packed["codes"]), "<u2")
    (0.0, 1.0, array([    0, 65534, 65535], dtype=uint16))
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    codes = np.full(len(values), UNDEFINED, "<u2")
    scaled = (values[np.isfinite(values)] - low) * (STEPS / (high - low) if high > low else 0.0)
    codes[np.isfinite(values)] = np.round(scaled).astype("<u2")
    return {
        "low": _round(low),
        "high": _round(high),
        "codes": base64.b64encode(codes.tobytes()).decode(),
    }


def _round(value: float) -> float:
    return float(f"{value:.7g}")
