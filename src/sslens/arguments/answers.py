"""What a command answers: text for a person, a path on standard output, or JSON."""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens.arguments.options import Text
from sslens.arguments.spelling import as_option
from sslens.errors import make_line, make_visible

if TYPE_CHECKING:
    from sslens.report.writing.answer import AnswerLine
    from sslens.study import Result, Study
    from sslens.training.curves import Judged
    from sslens.training.watch import HeldOut

#: how a terminal shows what is not a row of a model: bold, underlined, faint
STYLES = {"title": "1", "choice": "1", "head": "4", "control": "2", "note": "2"}
#: columns where nobody says how many a terminal has
COLUMNS = 100


@final
@dataclass(frozen=True)
class Reply:
    """What a command came to.

    Attributes:
        data: the answer as JSON values.
        path: the file or folder with the results, which is printed on standard output.
        status: the exit status.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    status: int = 0


def print_reply(
    result: Reply | Path | int | None, *, command: str, as_json: bool, said: Sequence[str] = ()
) -> int:
    """Print what a command returned on standard output; returns the exit status.

    Args:
        result: what it returned.
        command: its name.
        as_json: whether JSON is printed, and not only the path.
        said: what was said to the person.
    """
    if isinstance(result, int):
        result = Reply(status=result)
    reply = result if isinstance(result, Reply) else Reply(path=result)
    if not as_json:
        if reply.path is not None:
            print(make_line(str(reply.path)))
        return reply.status
    data: dict[str, Any] = {"command": command, "status": reply.status}
    if reply.path is not None:
        data["path"] = str(reply.path)
    dump(data | dict(reply.data or {"said": list(said)}))
    return reply.status


def print_refusal(command: str, error: str, status: int) -> None:
    """Print as JSON that a command was refused or failed."""
    dump({"command": command, "status": status, "error": error})


def dump(data: Mapping[str, Any]) -> None:
    """Print JSON on standard output."""
    # in ASCII, so that no name in it can change a terminal
    print(json.dumps(data, indent=2, allow_nan=False, default=str))


def show(lines: "Sequence[AnswerLine]", say: Text) -> None:
    """Show an answer on a terminal, with its title in bold and its controls faint; without marks
    where standard error is no terminal, or NO_COLOR is set."""
    marked = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for line in lines:
        if line.kind != "path":  # which goes to standard output
            style = STYLES.get(line.kind) if marked else None
            if style is None:
                say(line.text)
            else:  # beside `say`, which writes out what a terminal would obey
                print(f"\x1b[{style}m{make_visible(line.text)}\x1b[0m", file=sys.stderr)


def reply_with(result: "Result", path: Path, say: Text) -> Reply:
    """Show a result that was saved, and return it as data."""
    columns = shutil.get_terminal_size((COLUMNS, 24)).columns
    say("")
    show(result.write(columns, str(path)), say)
    return Reply(result.to_json(), path)


def answer_study(
    asked: "Study",
    out: Path,
    *,
    line: str,
    say: Text,
    figures: bool = False,
    thumbnails: bool = True,
    dry_run: bool = False,
    overwrite: bool = False,
    title: str | None = None,
    notes: Sequence[str] = (),
    spell: Callable[[str, str | None], str] = as_option,
) -> Reply | None:
    """Carry out a study, save its report, and show its answer; None for a dry run, which says the
    plan alone, and in processes that are not the first.

    Args:
        asked: the study.
        out: the folder of the report.
        line: what was typed.
        say: speaks to the person.
        figures: whether figures are drawn for paper too.
        thumbnails: whether the page holds small pictures of images.
        dry_run: whether only the plan is said.
        overwrite: whether another study in the folder is replaced.
        title: the title of the report; what was compared unless given.
        notes: what a reader must know first.
        spell: formats a parameter for the plan.

    Raises:
        InputError: something given cannot be used.
    """
    from sslens.study.out_folders import claim_study

    claim_study(asked).require(out, overwrite=overwrite)
    from sslens.study import carry_out

    result = carry_out(
        asked,
        command=line,
        title=title,
        notes=notes,
        dry_run=dry_run,
        say=say,
        spell=spell,
    )
    if result is None:
        return None
    path = result.save(out, figures=figures, thumbnails=thumbnails, overwrite=overwrite)
    return reply_with(result, path, say)


def describe_training(
    out: Path, report: Path, judged: "Judged | None" = None, held: "HeldOut | None" = None
) -> Mapping[str, Any]:
    """What became of a training, as JSON values: the last value of everything that its log tells,
    with the intervals of the accuracies of a classifier and of k-NN, and its warnings.

    Args:
        out: the folder of the run.
        report: the page about it.
        judged: the images that a classifier's accuracy is of.
        held: the images of k-NN.
    """
    from sslens.training import curves
    from sslens.training.folder import RunFolder

    lines = RunFolder(out, {}).lines()
    last = curves.read_last(lines)
    if judged is not None and "top1" in last:
        top = judged.estimate(float(last["top1"]))
        last |= {"top1_low": top.low, "top1_high": top.high, "top1_images": judged.count}
        last["chance"] = judged.chance
    if held is not None:
        last |= curves.estimate_knn(last, held)
    finite = {name: _make_finite(value) for name, value in last.items()}
    return {
        "run": str(out),
        "report": str(report),
        "last": finite,
        "warnings": list(curves.warnings(lines)),
    }


def read_rows(path: Path) -> list[Mapping[str, Any]]:
    """Read the rows of a table that was saved, as JSON values; empty cells are null."""
    import pandas as pd

    frame = pd.read_csv(path)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _make_finite(value: Any) -> Any:
    """A number that JSON has, or null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
