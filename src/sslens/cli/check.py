"""`sslens check`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from sslens.arguments.options import Text
from sslens.arguments.spelling import spell_keys
from sslens.errors import InputError, attempt, join_errors, make_line

if TYPE_CHECKING:
    from sslens.study.conditions import Checked, Condition

GROUP = "compare"


@dataclass(frozen=True)
class Command:
    """Hold conditions against a study or a finished report: a gate for a training or a release.

    The conditions are those of the study's list `check`, and those given here: the name of a claim,
    which must hold, or an analysis with a column and a bound on the interval of its number. A study
    is computed as far as conditions need it, and what was computed before is found in the store; of
    a report's folder only files are read. One line a condition goes to standard output.

    Exit status: 0 if all conditions hold, 1 if one does not hold, 3 if none fails and one is
    undecided, 2 if a condition names something that is not there or anything else given cannot be
    used.

    Examples:
      sslens check study.yaml
      sslens check sslens-report --condition c1
      sslens check sslens-report --json --condition
      'knn-depth: {where: {model: mine, last: true}, column: accuracy, at_least: 0.7}'
    """

    target: tyro.conf.Positional[Path]
    """A YAML file of a study, or the folder of a report."""
    overrides: tyro.conf.Positional[tuple[str, ...]] = ()
    """KEY=VALUE for keys of the study."""
    condition: tuple[str, ...] = ()
    """Further conditions, each as an entry of the list check in YAML."""
    json: bool = False
    """Print JSON: the outcome of all, the exit status, and of each condition its numbers."""


#: how parameters are spelt here: the study's are keys
SPELL = spell_keys(Command.__dataclass_fields__)


def run(command: Command, line: str, say: Text) -> int:
    """Check; returns the exit status."""
    checked = _check(command, say)
    outcomes = {one.outcome for one in checked}
    status = 1 if "does not hold" in outcomes else 3 if "undecided" in outcomes else 0
    if command.json:
        print(json.dumps(_to_json(checked, status), indent=2, ensure_ascii=False))
    else:
        from sslens.report.writing.numbers import set_minus

        for one in checked:
            print(make_line(set_minus(one.line)))
    return status


def _check(command: Command, say: Text) -> "tuple[Checked, ...]":
    from sslens.study import checking, read

    conditions, wrong = attempt(_read_condition, command.condition)
    if command.target.is_dir():
        if command.overrides:
            raise InputError(
                f'"{command.overrides[0]}" changes a study, and {command.target} is a finished'
                " report: give its study.yaml."
            )
        return checking.check_report(command.target, conditions, wrong)
    if not command.target.exists():
        raise InputError(
            f"{command.target} is not there: give the folder of a finished report, or the YAML file"
            " of a study."
        )
    if command.target.suffix == ".html":
        raise InputError(
            f"{command.target} is the page of a report: give the folder, {command.target.parent}."
        )
    studies, unread = attempt(lambda target: read(target, command.overrides), [command.target])
    if unread:
        raise join_errors([*unread, *wrong])
    studies[0].require_sources()
    return checking.check_study(studies[0], conditions, wrong, say=say, spell=SPELL) or ()


def _read_condition(text: str) -> "Condition":
    from sslens.settings_file import parse_yaml
    from sslens.study.conditions import parse_condition

    return parse_condition(parse_yaml(text, f'The condition "{text}"'))


def _to_json(checked: "Sequence[Checked]", status: int) -> dict[str, object]:
    words = {0: "holds", 1: "does not hold", 3: "undecided"}
    return {
        "outcome": words[status],
        "status": status,
        "conditions": [
            {"condition": one.condition, "outcome": one.outcome, "found": one.found, **one.numbers}
            for one in checked
        ],
    }
