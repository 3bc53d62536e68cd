"""The answer of a study in a few lines of a terminal: a table that fits its width, what the numbers
are over, the notes, and where the report is."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from sslens.comparisons.likeness import is_unlike
from sslens.report.writing.best_features import FEW, write_how_chosen
from sslens.report.writing.numbers import (
    set_minus,
    spell,
    spell_cell,
    spell_level,
    spell_margin,
    spell_share,
)
from sslens.statistics.estimate import Estimate

#: lines that an answer has at most; with the empty one before it a terminal shows 15
MOST = 14
#: the columns that an answer is written for, where no terminal says how many it has
WIDTH = 100
NAN = float("nan")
NARROWEST = 40
#: what stands behind the name of a control
CONTROL = " *"
#: how a pooling is called in a column; of patches and of all tokens it is the mean
POOLINGS = {"cls": "CLS", "mean": "mean", "patch": "patches", "flat": ""}
#: the heads of the columns
HEADS = {
    "model": "model",
    "best": "best layer, pooling",
    "knn": "k-NN, %",
    "probe": "probe, %",
    "nearest": "nearest relative",
}

Kind = Literal["title", "choice", "head", "model", "control", "note", "finding", "path"]


@final
@dataclass(frozen=True)
class AnswerLine:
    """A line of the answer, and what it is, by which a terminal may colour it."""

    text: str
    kind: Kind


@final
@dataclass(frozen=True)
class Style:
    """How wide a row of the table is written.

    Attributes:
        interval: "both" ends with a decimal, "rounded" ends, or the wider "half".
        likeness: whether the nearest relative has its interval.
        apart: whether the name of a model has a line of its own.
    """

    interval: Literal["both", "rounded", "half"]
    likeness: bool = False
    apart: bool = False


#: from the widest to the narrowest
STYLES = (
    Style("both", likeness=True),
    Style("both"),
    Style("rounded"),
    Style("half"),
    Style("half", apart=True),
)


@final
@dataclass(frozen=True)
class Told:
    """What a study says beside its table.

    Attributes:
        title: what was compared, or done.
        notes: what a reader must know.
        findings: what is said where there is no table, the most important sentence first.
        path: where the report is; empty where nothing was saved.
        saved: the name of the file with all rows; empty where there is none.
        choice: which model to use, or why none is to be preferred; empty where nothing is said.
        changes: what became of models by fine-tuning; empty where nothing is said.
    """

    title: str
    notes: Sequence[str] = ()
    findings: Sequence[str] = ()
    path: str = ""
    saved: str = ""
    choice: str = ""
    changes: str = ""


def write_answer(
    rows: Sequence[Mapping[str, Any]], told: Told, width: int = WIDTH
) -> list[AnswerLine]:
    """Write the answer in at most 14 lines.

    Names are never cut. Models come before controls, the most accurate first. Of what does not fit
    the weaker controls are left out first, then the last models, then notes; it is said how many.

    Args:
        rows: the rows of the answer (`sslens.report.answer.make_answer`).
        told: what stands around the table.
        width: columns of the terminal.
    """
    width = max(width, NARROWEST)
    head = [AnswerLine(text, "title") for text in _wrap(told.title, width)[:2]]
    head += [AnswerLine(text, "choice") for text in _wrap(set_minus(told.choice), width)[:4]]
    path = [AnswerLine(told.path, "path")] if told.path else []
    room = MOST - len(head) - len(path)
    known = [row for row in rows if _has_numbers(row)]
    if known:
        body = _write_body(known, told, width, room - min(1, len(told.notes)))
    else:
        wrapped = [text for one in told.findings for text in _wrap(one, width)]
        body = [AnswerLine(text, "finding") for text in wrapped[: room - min(2, len(told.notes))]]
    notes = _write_notes(told, width, room - len(body))
    return [*head, *body, *notes, *path]


def _write_body(
    rows: Sequence[Mapping[str, Any]], told: Told, width: int, room: int
) -> list[AnswerLine]:
    """Write the table, with what became of models by fine-tuning above it where that leaves the
    room of no model."""
    body = _write_table(rows, told, width, room)
    changes = [AnswerLine(text, "finding") for text in _wrap(set_minus(told.changes), width)[:1]]
    if not changes:
        return body
    less = _write_table(rows, told, width, room - 1)
    models = [[line for line in lines if line.kind == "model"] for lines in (body, less)]
    return [*changes, *less] if models[0] == models[1] else body


def _has_numbers(row: Mapping[str, Any]) -> bool:
    """Whether anything is known of a model beside its name."""
    return any(row.get(name, NAN) == row.get(name, NAN) for name in ("knn", "probe", "cka_to_it"))


def order_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Put models before controls, and the most accurate first: by k-NN, else by the probe, as the
    first screen of the report does; models without an accuracy stay in their order.

    >>> [row["model"] for row in order_rows([
    ...     {"model": "pixels", "control": True, "probe": 0.9, "knn": 0.5},
    ...     {"model": "a", "control": False, "probe": 0.5, "knn": 0.9},
    ...     {"model": "b", "control": False, "probe": 0.8, "knn": 0.5}])]
    ['a', 'b', 'pixels']
    """
    column = "knn" if any(row["knn"] == row["knn"] for row in rows) else "probe"

    def place(row: Mapping[str, Any]) -> tuple[bool, float]:
        return row["control"], -row[column] if row[column] == row[column] else 1.0

    return sorted(rows, key=place)


def _write_table(
    rows: Sequence[Mapping[str, Any]], told: Told, width: int, room: int
) -> list[AnswerLine]:
    """Write the table of models and controls, with what its numbers are over below it."""
    ordered = order_rows(rows)
    columns = _choose_columns(ordered)
    style, cells, widths = _fit(ordered, columns, width)
    high, few = 2 if style.apart else 1, FEW
    below = _wrap(_write_below(ordered, ordered, columns, told.saved), width)
    if 1 + len(ordered) * high + len(below) > room:  # rows come before layers
        few = 0
    for most in range(len(ordered), 0, -1):
        shown = _choose_rows(ordered, most)
        below = _wrap(_write_below(ordered, shown, columns, told.saved, few=few), width)
        if 1 + len(shown) * high + len(below) <= room:
            break
    heads = [HEADS["model"], *(HEADS[name] for name in columns)]
    lines = [AnswerLine(_join(heads, widths, style), "head")]
    for row, own in zip(ordered, cells, strict=True):
        if row in shown:
            kind: Kind = "control" if row["control"] else "model"
            lines += [AnswerLine(text, kind) for text in _split(own, widths, style)]
    return lines + [AnswerLine(text, "note") for text in below]


def _choose_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The columns of which anything is known."""
    present = {
        "best": any(row["best_tap"] for row in rows),
        "knn": any(row["knn"] == row["knn"] for row in rows),
        "probe": any(row["probe"] == row["probe"] for row in rows),
        "nearest": any(row["nearest_relative"] for row in rows),
    }
    return tuple(name for name, there in present.items() if there)


def _choose_rows(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """The rows that are shown: all, or all models before any control; where not even these fit, raw
    pixels and as many models as there is room for."""
    if len(rows) <= most:
        return list(rows)
    controls = [row for row in rows if row["control"]]
    kept = [row for row in controls if row["model"] == "pixels"]
    models = [row for row in rows if not row["control"]]
    if len(models) > most:
        models = models[: max(1, most - len(kept))]
    kept += [row for row in controls if row not in kept][:1]
    kept = kept[: most - len(models)]
    return [row for row in rows if row in models or row in kept]


def _fit(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int
) -> tuple[Style, list[list[str]], list[int]]:
    """The widest style that fits, with the cells of all rows and the widths of the columns."""
    for style in STYLES:
        cells = [_write_row(row, columns, style) for row in rows]
        heads = [HEADS["model"], *(HEADS[name] for name in columns)]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        if sum(widths) + 2 * (len(widths) - 1) <= width:
            break
    return style, cells, widths


def _write_row(row: Mapping[str, Any], columns: Sequence[str], style: Style) -> list[str]:
    """The cells of a row, the name first."""
    name = f"{row['model']}{CONTROL if row['control'] else ''}"
    written = {
        "best": _name_reading(row["best_tap"], row["best_pooling"], float(row["probe_layers"])),
        "knn": _write_share(row, "knn", style),
        "probe": _write_share(row, "probe", style),
        "nearest": _write_nearest(row, style),
    }
    return [name, *(written[column] for column in columns)]


def _name_reading(tap: str, pooling: str, layers: float = NAN) -> str:
    """Name a layer and how its tokens are pooled, and the layers of a probe that is not linear.

    >>> _name_reading("blocks.5", "cls"), _name_reading("pixels", "flat"), _name_reading("", "")
    ('blocks.5, CLS', 'pixels', '')
    >>> _name_reading("norm", "patch", 3.0)
    'norm, patches, 3-layer probe'
    """
    deep = f"{layers:.0f}-layer probe" if layers > 1 else ""
    return ", ".join(filter(None, (tap, POOLINGS.get(pooling, pooling), deep)))


def _write_share(row: Mapping[str, Any], name: str, style: Style) -> str:
    """An accuracy in percent, with its interval."""
    accuracy = Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])
    if not accuracy.defined:
        return ""
    if style.interval == "half":
        return spell_margin(accuracy)
    return spell_cell(accuracy, decimals=1 if style.interval == "both" else 0)


def _write_nearest(row: Mapping[str, Any], style: Style) -> str:
    """The nearest relative with its CKA."""
    if not row["nearest_relative"]:
        return ""
    cka = Estimate(row["cka_to_it"], row["cka_low"], row["cka_high"])
    spelt = set_minus(spell(cka) if style.likeness else spell_level(cka.value))
    return f"none alike, {spelt}" if is_unlike(cka) else f"{row['nearest_relative']} {spelt}"


def _write_below(
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    saved: str = "",
    *,
    few: int = FEW,
) -> str:
    """What the numbers of the table are over, what they are of, and how many rows are not shown."""
    sentences = ["* a control."] if any(row["control"] for row in shown) else []
    judged = [row for row in rows if any(row[name] == row[name] for name in ("knn", "probe"))]
    if judged:
        chance = spell_share(Estimate(judged[0]["chance"]))
        sentences += [*write_how_chosen(judged, few), f"Chance: {chance}."]
    own = [row for row in rows if _has_two_readings(row) and not row["control"]]
    if any(_has_two_readings(row) for row in rows):
        sentences.append(f"The layer is the probe's{_write_own_layers(own, saved, few)}.")
    if "nearest" in columns:
        beyond = any(row["pixels_regressed_out"] for row in rows)
        without = ", raw pixels regressed out" if beyond else ""
        sentences.append(f"Nearest by mean CKA at the same depth{without}.")
    if left := len(rows) - len(shown):
        rows_left = f"{left} more row{'s' if left > 1 else ''}"
        sentences.append(f"And {rows_left}{f' in {saved}' if saved else ''}.")
    return " ".join(sentences)


def _write_own_layers(rows: Sequence[Mapping[str, Any]], saved: str, few: int) -> str:
    """What k-NN reads of models of which the probe reads something else: of a few each, and of more
    where it is found."""
    if not rows:
        return ""
    if len(rows) > few:
        return f"; k-NN has its own{f', in {saved}' if saved else ''}"
    read = (f"{row['model']} {_name_reading(row['knn_tap'], row['knn_pooling'])}" for row in rows)
    return f"; k-NN reads {'; '.join(read)}"


def _has_two_readings(row: Mapping[str, Any]) -> bool:
    """Whether k-NN and the probe of a model read different layers or poolings."""
    knn, probe = ((row[f"{name}_tap"], row[f"{name}_pooling"]) for name in ("knn", "probe"))
    return bool(knn[0] and probe[0] and knn != probe)


def _write_notes(told: Told, width: int, room: int) -> list[AnswerLine]:
    """As many notes as there is room for, each in two lines at most, and how many more there
    are."""
    lines: list[str] = []
    for number, note in enumerate(told.notes):
        written = textwrap.wrap(
            f"note: {note}", width, max_lines=2, placeholder=" …", break_on_hyphens=False
        )
        left = len(told.notes) - number
        if len(lines) + len(written) + (left > 1) > room:
            where = " in the report" if told.path else ""
            more = f"{left} {'more ' if lines else ''}{'note' if left == 1 else 'notes'}{where}."
            lines += [f"note: {more}"] if len(lines) < room else []
            break
        lines += written
    return [AnswerLine(text, "note") for text in lines]


def _split(cells: Sequence[str], widths: Sequence[int], style: Style) -> list[str]:
    """The lines of a row: one, or the name and then the numbers."""
    return [*([cells[0]] if style.apart else []), _join(cells, widths, style)]


def _join(cells: Sequence[str], widths: Sequence[int], style: Style) -> str:
    """The cells of a row beside each other; without the name where that has its own line."""
    first = 1 if style.apart else 0
    padded = (cell.ljust(size) for cell, size in zip(cells[first:], widths[first:], strict=True))
    return ("  " * first + "  ".join(padded)).rstrip()


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def tabulate_answer(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[list[str], list[list[str]], str]:
    """Write the whole table as cells: the heads, the rows, and what the numbers are over.

    Args:
        rows: the rows of the answer; those of which nothing is known are left out.
    """
    ordered = order_rows([row for row in rows if _has_numbers(row)])
    columns = _choose_columns(ordered)
    heads = [HEADS["model"], *(HEADS[name] for name in columns)]
    cells = [_write_row(row, columns, STYLES[0]) for row in ordered]
    return heads, cells, _write_below(ordered, ordered, columns) if cells else ""
