"""The answer of a study in a few lines of a terminal: a table that fits its width, what the numbers
are over, the notes, and where the report is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from sslens.comparisons.roles import PIXELS
from sslens.errors import Caution
from sslens.report.writing.alike import (
    is_undecidable,
    write_as_pixels,
    write_minibatches,
    write_nearest,
)
from sslens.report.writing.answer_grid import Grid, write_grid
from sslens.report.writing.answer_notes import count_lines, cut, wrap, write_findings, write_notes
from sslens.report.writing.answer_rows import (
    LEAST_SAID,
    choose_rows,
    find_above,
    has_numbers,
    has_two_readings,
    is_known,
    list_choices,
    name_best,
    order_rows,
    shorten_controls,
    write_left_out,
    write_letters,
    write_reading,
)
from sslens.report.writing.answer_styles import HALF, STYLES, Style
from sslens.report.writing.best_features import FEW, count_judged, write_how_chosen
from sslens.report.writing.numbers import (
    set_minus,
    spell_cell,
    spell_count,
    spell_margin,
    spell_share,
)
from sslens.statistics.estimate import Estimate

#: lines that an answer has at most; with the empty one before it a terminal shows 15
MOST = 14
#: the columns that an answer is written for, where no terminal says how many it has
WIDTH = 100
NARROW, NARROWEST = 64, 40
#: lines of a table that leaves room for cautions: its head, three rows, and a line below
LEAST = 5
#: models that are all shown, even where only one line is left to say how many cautions there are
SURE = 3
#: what parts the two lines of a cell
NEXT = "\n"
#: what stands behind the name of a control
CONTROL = " *"
#: the heads of the columns
HEADS = {
    "model": "model",
    "best": "what to use",
    "knn": "k-NN, %",
    "probe": "probe, %",
    "nearest": "nearest relative",
    "ap": "box AP, %",
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
class Told:
    """What a study says beside its table.

    Attributes:
        title: what was compared, or done.
        notes: what a reader must know.
        findings: what is said where there is no table, the most important sentence first.
        path: where the report is; empty where nothing was saved.
        saved: the name of the file with all rows; empty where there is none.
        choice: which model to use, or why none is to be preferred; empty where nothing is said.
        changes: what became of models by fine-tuning, or how they segment, line by line.
        grid: what is shown in the place of the findings where it fits.
    """

    title: str
    notes: Sequence[str] = ()
    findings: Sequence[str] = ()
    path: str = ""
    saved: str = ""
    choice: str = ""
    changes: str = ""
    grid: Grid | None = None


def write_answer(
    rows: Sequence[Mapping[str, Any]], told: Told, width: int = WIDTH
) -> list[AnswerLine]:
    """Write the answer in at most 14 lines.

    Names are never cut; where names of controls are long, letters stand for their architectures.
    Models come before controls, the most accurate first. Of what does not fit the weaker controls
    are left out first, then the last models, then notes; it is said how many, and how many of them
    are a `Caution`. Raw pixels are always shown, and cautions come first and whole, unless one of
    up to three models would have to be left out.

    Args:
        rows: the rows of the answer (`sslens.report.answer.make_answer`).
        told: what stands around the table.
        width: columns of the terminal.
    """
    width = max(width, NARROWEST)
    head = [AnswerLine(text, "title") for text in cut(told.title, width, 2)]
    head += [AnswerLine(text, "choice") for text in wrap(set_minus(told.choice), width)[:4]]
    path = [AnswerLine(told.path, "path")] if told.path else []
    room = MOST - len(head) - len(path)
    known = [row for row in rows if has_numbers(row)]
    if known:
        every = _count_models(_write_body(known, told, width, 1000))
        reserved = _reserve(told, width, room)
        kept = [*reserved, *(range(reserved[-1] - 1, 0, -1) if every <= SURE else ())]
        bodies = [_write_body(known, told, width, room - lines) for lines in kept]
        whole = [body for body in bodies if _count_models(body) == every]  # notes give way
        body = whole[0] if whole else bodies[len(reserved) - 1]
    else:
        least = max(min(2, len(told.notes)), _reserve(told, width, room)[0])
        body = _write_found(told, width, room - least)
    where = "the report" if told.path else "`notes`"
    notes = write_notes(told.notes, where, width, max(1, room - len(body)))
    lines = [*head, *body, *(AnswerLine(text, "note") for text in notes), *path]
    return _make_room(lines) if known else lines


def _write_found(told: Told, width: int, room: int) -> list[AnswerLine]:
    """Write the grid where there is one that fits, else what was found."""
    lines = [] if told.grid is None else write_grid(told.grid, width, room)
    where = "the report" if told.path else "`findings`"
    findings = [set_minus(one) for one in told.findings]
    lines = lines or write_findings(findings, where, width, room)
    return [AnswerLine(text, "finding") for text in lines]


def _make_room(lines: list[AnswerLine]) -> list[AnswerLine]:
    """Leave out what became of models, and the title's second line, where there are too many lines
    in a narrow terminal: how many notes are left out is said in any case."""
    spare = [one for one in lines if one.kind == "finding"]
    spare += [one for one in lines if one.kind == "title"][1:]
    for one in spare[: max(0, len(lines) - MOST)]:
        lines.remove(one)
    return lines


def _count_models(lines: Sequence[AnswerLine]) -> int:
    """The lines of models among those of a table."""
    return sum(line.kind == "model" for line in lines)


def _reserve(told: Told, width: int, room: int) -> list[int]:
    """The lines that may be kept for notes, where a table of three rows fits beside them: what
    cautions take and one for the other notes, or, where models would give way, fewer, down to one a
    caution."""
    cautions = _list_cautions(told)
    more = len(told.notes) > len(cautions)
    if not cautions:
        return [int(more)]
    most = max(1, room - LEAST)
    whole, least = count_lines(cautions, width) + more, len(cautions) + 1
    return list(range(min(whole, most), min(whole, least, most) - 1, -1))


def _list_cautions(told: Told) -> list[str]:
    return [one for one in told.notes if isinstance(one, Caution)]


def _write_body(
    rows: Sequence[Mapping[str, Any]], told: Told, width: int, room: int
) -> list[AnswerLine]:
    """Write the table, with what is told of changes above it where that leaves the room of no
    model."""
    body = _write_table(rows, told, width, room)
    changes = [AnswerLine(set_minus(text), "finding") for text in told.changes.splitlines()]
    if not changes:
        return body
    less = _write_table(rows, told, width, room - len(changes))
    return [*changes, *less] if _count_models(body) == _count_models(less) else body


def _write_table(
    rows: Sequence[Mapping[str, Any]], told: Told, width: int, room: int
) -> list[AnswerLine]:
    """Write the table of models and controls, with what its numbers are over below it."""
    ordered = order_rows(rows)
    columns = _choose_columns(ordered, width)
    style, cells, widths = _fit(ordered, columns, width)
    short, letters = shorten_controls(ordered)
    fitted = _fit(short, columns, width)
    if shorter := STYLES.index(fitted[0]) < STYLES.index(style):
        style, cells, widths = fitted
    heights = [len(_split(own, widths, style, width)) for own in cells]
    models = sum(not row["control"] for row in ordered)
    above = [row for row in find_above(ordered) if row["model"] != PIXELS]
    tight = models <= SURE or width < NARROW or above
    least = LEAST_SAID if tight or _list_cautions(told) else -1
    sure = min(models + len(above) + 1, len(ordered))
    for few, most in list_choices(len(ordered), FEW, sure, least):
        shown = choose_rows(ordered, most, told.choice)
        named = [one for row, one in zip(ordered, short, strict=True) if row in shown]
        legend = write_letters(letters, named) if shorter else ""
        said = _write_below(
            ordered, shown, columns, told.saved, few=few, legend=legend, style=style
        )
        below = wrap(said, width)
        high = sum(one for row, one in zip(ordered, heights, strict=True) if row in shown)
        if 1 + high + len(below) <= room:
            if style.interval == "half":
                longer = wrap(f"{said} {HALF}", width)
                below = longer if 1 + high + len(longer) <= room else below
            break
    heads = [HEADS["model"], *(HEADS[name] for name in columns)]
    lines = [AnswerLine(_join(heads, widths), "head")]
    for row, own in zip(ordered, cells, strict=True):
        if row in shown:
            kind: Kind = "control" if row["control"] else "model"
            lines += [AnswerLine(text, kind) for text in _split(own, widths, style, width)]
    return lines + [AnswerLine(text, "note") for text in below]


def _choose_columns(rows: Sequence[Mapping[str, Any]], width: int = WIDTH) -> tuple[str, ...]:
    """The columns of which anything is known; relatives beside accuracies only where wide."""
    knn, probe = (any(is_known(row, name) for row in rows) for name in ("knn", "probe"))
    present = {
        "best": any(row["best_tap"] for row in rows),
        "knn": knn,
        "probe": probe,
        "nearest": any(row["nearest_relative"] for row in rows)
        and (width >= NARROW or not (knn or probe)),
        "ap": any(is_known(row, "ap") for row in rows),
    }
    return tuple(name for name, there in present.items() if there)


def _fit(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int
) -> tuple[Style, list[list[str]], list[int]]:
    """The widest style that fits, with the cells of all rows and the widths of the columns."""
    for style in STYLES:
        cells = [_write_row(row, columns, style) for row in rows]
        heads = [HEADS["model"], *(HEADS[name] for name in columns)]
        firsts = [[cell.partition(NEXT)[0] for cell in own] for own in cells]
        widths = [max(map(len, column)) for column in zip(heads, *firsts, strict=True)]
        if sum(widths) + 2 * (len(widths) - 1) <= width:
            return style, cells, widths
    room = width - sum(widths[1:]) - 2 * (len(widths) - 1)
    names = [len(own[0]) for own in cells if len(own[0]) <= room]
    return style, cells, [max([len(HEADS["model"]), *names]), *widths[1:]]


def _write_row(row: Mapping[str, Any], columns: Sequence[str], style: Style) -> list[str]:
    """The cells of a row, the name first; a cell of k-NN may have a second line."""
    name = f"{row['model']}{CONTROL if row['control'] else ''}"
    written = {
        "best": name_best(row),
        "knn": _write_neighbours(row, style),
        "probe": _write_share(row, "probe", style),
        "nearest": write_nearest(
            row, " " if style.likeness else NEXT if _is_alone(columns) else None
        ),
        "ap": _write_share(row, "ap", style) if is_known(row, "ap") else "",
    }
    return [name, *(written[column] for column in columns)]


def _is_alone(columns: Sequence[str]) -> bool:
    """Whether a table has no column but that of nearest relatives."""
    return tuple(columns) == ("nearest",)


def _write_neighbours(row: Mapping[str, Any], style: Style) -> str:
    """The accuracy of k-NN, with its own features where the row has the probe's."""
    share = _write_share(row, "knn", style)
    if not share or not has_two_readings(row):
        return share
    own = write_reading(row["knn_tap"], row["knn_pooling"], row.get("knn_features", ""))
    return f"{share}{NEXT if style.under else ' '}of {own}"


def _write_share(row: Mapping[str, Any], name: str, style: Style) -> str:
    """An accuracy in percent, with its interval."""
    accuracy = Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])
    if not accuracy.defined:
        return ""
    if style.interval == "half":
        return spell_margin(accuracy)
    return spell_cell(accuracy, decimals=1 if style.interval == "both" else 0)


def _write_below(
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    saved: str = "",
    *,
    few: int = FEW,
    legend: str = "",
    style: Style = STYLES[0],
) -> str:
    """What the numbers of the table are over, what they are of, and how many rows are not shown."""
    controls = [row for row in shown if row["control"]]
    sentences = ["* a control."] if controls else []
    if legend and controls:
        sentences = [f"* a control; {legend}"]
    judged = [row for row in rows if any(row[name] == row[name] for name in ("knn", "probe"))]
    chance = spell_share(Estimate(judged[0]["chance"])) if judged else ""
    if judged and few == LEAST_SAID:
        sentences.append(f"Chance {chance}; 95 % over {count_judged(judged[0])} images.")
    elif judged:
        sentences += [*write_how_chosen(judged, max(few, 0)), f"Chance: {chance}."]
    if "ap" in columns:
        count = spell_count(int(next(row["ap_images"] for row in rows if is_known(row, "ap"))))
        what = "Intervals of box AP" if judged else "Intervals"
        sentences.append(f"{what}: 95 %, over {count} images.")
    if "nearest" in columns and few != LEAST_SAID:
        beyond = any(row["pixels_regressed_out"] for row in rows)
        without = ", raw pixels regressed out" if beyond else ""
        if any(row["cka_depths"] for row in rows):
            without += " (of some at a part of the depths)"
        how = "mean CKA at the same depth" if few >= 0 else "CKA"
        sentences.append(f"Nearest by {how}{without}.")
        if not judged or is_undecidable(rows):
            sentences += write_minibatches(rows)
        sentences += write_as_pixels(rows) if few >= 0 else []
    hidden = "" if "nearest" in columns else "nearest relatives"
    if not hidden and few > 0 and not style.likeness and not _is_alone(columns):
        hidden = "CKA"
    hidden = hidden if few != LEAST_SAID else ""
    sentences.append(write_left_out(rows, shown, saved, brief=few == LEAST_SAID, hidden=hidden))
    return " ".join(filter(None, sentences))


def _split(cells: Sequence[str], widths: Sequence[int], style: Style, width: int) -> list[str]:
    """The lines of a row: one; the name and then the numbers where the name is longer than its
    column; and the second line of a cell below its first, further left where it would not fit."""
    firsts = [cell.partition(NEXT)[0] for cell in cells]
    lines = [_join(firsts, widths)]
    if style.apart and len(firsts[0]) > widths[0]:
        lines = [firsts[0], _join(["", *firsts[1:]], widths)]
    for number, cell in enumerate(cells):
        for text in wrap(cell.partition(NEXT)[2], width - 1):
            column = sum(widths[:number]) + 2 * number
            lines.append(" " * max(1, min(column, width - len(text))) + text)
    return lines


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The cells of a row beside each other."""
    padded = (cell.ljust(size) for cell, size in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def tabulate_answer(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[list[str], list[list[str]], str]:
    """Write the whole table as cells: the heads, the rows, and what the numbers are over.

    Args:
        rows: the rows of the answer; those of which nothing is known are left out.
    """
    ordered = order_rows([row for row in rows if has_numbers(row)])
    columns = _choose_columns(ordered)
    heads = [HEADS["model"], *(HEADS[name] for name in columns)]
    cells = [_write_row(row, columns, STYLES[0]) for row in ordered]
    return heads, cells, _write_below(ordered, ordered, columns) if cells else ""
