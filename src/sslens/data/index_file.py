"""An index file of images: a table with the path, and perhaps the label and the split, of each."""

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import final

import numpy as np

from sslens import whole_file
from sslens.counts import spell_count
from sslens.data.folders import FolderImages
from sslens.data.images import ImageSet
from sslens.data.sources import one_name
from sslens.errors import InputError, nearest

#: the names that each column may have
PATHS = ("path", "image", "file", "filename", "filepath", "image_path", "file_name")
LABELS = ("label", "class", "category", "class_name", "target")
SPLITS = ("split", "subset", "fold", "partition", "set")
#: bytes of an index file at most: some ten million rows
MOST = 1 << 30
#: columns that a message names
SHOWN = 8
#: what separates columns
DELIMITERS = ",;\t|"


@final
@dataclass(frozen=True)
class IndexRow:
    """A row of an index file.

    Attributes:
        line: its number in the file, from 1 (the header).
        path: the path of the image, as it is written.
        label: the name of its class; empty where there is none.
        split: the part of the data set; empty where there is none.
    """

    line: int
    path: str
    label: str
    split: str


def open_index(path: Path, split: str | None = None) -> ImageSet:
    """Open the images that an index file lists, in the order of (folder, file name).

    The file is CSV (commas, semicolons or tabs between columns; UTF-8), with the names of the
    columns in its first line: `path`, of the image below the index file's folder, or absolute;
    perhaps `label`, the name of its class; perhaps `split`. An image's id is its path as it is
    written, in Unicode's form NFC.

    Args:
        path: the index file.
        split: the split to take; may be left out where there is one or none.

    Raises:
        InputError: the file cannot be read, lacks a column, lists an image twice, or names labels
            for some images only; or the split is not there, or one of several must be chosen.
    """
    every, header, columns = _read_table(path)
    if split is not None and "split" not in columns:
        raise InputError(
            f'{path} has no column of splits, of which "{split}" is to be taken;'
            f" {_describe_columns(header)}: name it one of {', '.join(SPLITS)}."
        )
    rows = _choose_split(path, every, split)
    names = [one_name(row.path) for row in rows]
    root = path.resolve().parent
    places = [os.path.normpath(root / name) for name in names]  # a/b.png, ./a/b.png, /…/a/b.png
    if len(set(places)) < len(places):
        twice, _ = Counter(places).most_common(1)[0]
        lines = [str(row.line) for row, place in zip(rows, places, strict=True) if place == twice]
        raise InputError(
            f'{path} lists "{names[places.index(twice)]}" in the lines {", ".join(lines[:3])}:'
            " leave one of them."
        )
    source = FolderImages(root, [row.path for row in rows], key=path.resolve().name)
    by_name = dict(zip(names, rows, strict=True))
    labels, classes = _number_labels(path, [by_name[name] for name in source.ids])
    title = f"{path.stem}:{split}" if split else path.stem
    images = ImageSet(title, source.ids, labels, classes, source)
    return replace(images, doubts=_doubt_labels(path, header, columns))


def _doubt_labels(path: Path, header: Sequence[str], columns: Mapping[str, int]) -> tuple[str, ...]:
    """Name the columns that are not read, where none of labels is: one may be meant as such."""
    read = {*columns.values()}
    unread = [f'"{name[:40]}"' for place, name in enumerate(header) if place not in read]
    if "label" in columns or not unread:
        return ()
    more = f" and {len(unread) - SHOWN} more" if len(unread) > SHOWN else ""
    return (
        f"{path} has no column of labels, and {', '.join(unread[:SHOWN])}{more}"
        f" {'is' if len(unread) == 1 else 'are'} not read: if the images have classes, name the"
        f" column one of {', '.join(LABELS)}.",
    )


def _describe_columns(header: Sequence[str]) -> str:
    shown = ", ".join(f'"{name[:40]}"' for name in header[:SHOWN]) or "nothing"
    return f"its first line holds {shown}"


def _read_table(path: Path) -> tuple[list[IndexRow], Sequence[str], Mapping[str, int]]:
    """Read the rows of an index file, the names in its first line, and the place of each column
    that is read."""
    text = _read_text(path)
    first, _, _ = text.partition("\n")
    delimiter = max(DELIMITERS, key=first.count)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = next(lines, [])
        columns = _find_columns(path, header)
        rows = []
        for cells in lines:
            if not any(cells):
                continue
            if any(cells[len(header) :]):
                raise InputError(
                    f"{path} has {spell_count(len(cells), 'cell')} in line {lines.line_num}, and"
                    f" {len(header)} in"
                    f' its first: put quotes around what holds "{delimiter}".'
                )
            values = [
                cells[at].strip() if at is not None and at < len(cells) else ""
                for at in (columns.get(name) for name in ("path", "label", "split"))
            ]
            rows.append(IndexRow(lines.line_num, *values))
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be read as CSV ({error}): save it again as CSV in UTF-8."
        ) from error
    lacking = next((row for row in rows if not PurePath(row.path).name), None)
    if lacking is not None:
        raise InputError(
            f"{path} has no path of a file in line {lacking.line}: give one, or remove the line."
        )
    if not rows:
        raise InputError(f"{path} lists no image: give a line for each below the first.")
    return [_with_slashes(path, row) for row in rows], header, columns


def _read_text(path: Path) -> str:
    try:
        with whole_file.open_regular(path) as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    if len(content) > MOST:
        raise InputError(
            f"{path} is larger than 1 GB, which no index of images needs: give a smaller one."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start:,}): save it as CSV in UTF-8."
        ) from error
    if "\0" in text:
        raise InputError(f"{path} holds zeros, which text does not: save it as CSV in UTF-8.")
    return text


def _find_columns(path: Path, header: Sequence[str]) -> Mapping[str, int]:
    """The place of each column that there is, by the name that it has here."""
    places = {name.strip().lower(): place for place, name in reversed(list(enumerate(header)))}
    columns = {}
    for title, names in (("path", PATHS), ("label", LABELS), ("split", SPLITS)):
        there = [places[name] for name in names if name in places]
        if there:
            columns[title] = there[0]
    if "path" not in columns:
        raise InputError(
            f'{path} has no column "path"; {_describe_columns(header)}: name the columns path,'
            " label and split there."
        )
    return columns


def _with_slashes(path: Path, row: IndexRow) -> IndexRow:
    """A row with the slashes of this system, where it was written on Windows."""
    if "\\" not in row.path or (path.parent / row.path).exists():
        return row
    return IndexRow(row.line, row.path.replace("\\", "/"), row.label, row.split)


def _choose_split(path: Path, rows: list[IndexRow], split: str | None) -> list[IndexRow]:
    counts = Counter(row.split for row in rows)
    if split is not None:
        if split not in counts:
            named = [name for name in counts if name]
            raise InputError(f'{path} has no split "{split}": {nearest(split, named)}')
        return [row for row in rows if row.split == split]
    if len(counts) > 1:
        listed = ", ".join(f"{name or 'none'} ({count:,})" for name, count in counts.most_common(8))
        first = next(name for name, _ in counts.most_common() if name)
        raise InputError(
            f"{path} has images of {spell_count(len(counts), 'split')}: {listed}: choose one, such"
            f" as {path}:{first}."
        )
    return rows


def _number_labels(
    path: Path, rows: Sequence[IndexRow]
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The number of each image's class, and the names of the classes."""
    names = [one_name(row.label) for row in rows]
    if not any(names):
        return None, ()
    if not all(names):
        empty = min(row.line for row in rows if not row.label)
        raise InputError(
            f"{path} has no label in line {empty}, but in others: give every image one, or none."
        )
    classes, labels = np.unique(names, return_inverse=True)
    return labels.astype(np.int64), tuple(classes.tolist())
