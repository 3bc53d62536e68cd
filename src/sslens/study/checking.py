"""Holding conditions against a study, which is computed for them, or against a finished report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sslens.comparisons.lookup import MODELS, TableNumber
from sslens.errors import InputError, as_argument, attempt, do_all, nearest
from sslens.statistics.estimate import Estimate
from sslens.store import Store, home
from sslens.study.asked import Study
from sslens.study.conditions import (
    BoundCondition,
    Checked,
    ClaimCondition,
    Condition,
    Evidence,
)
from sslens.study.finished import read_conditions, read_tables, read_verdicts
from sslens.study.judged import Judged
from sslens.study.places import find_columns, require_places

#: how the names of sides begin that rows of families have in the place of a model
FAMILIES = ("JE", "REC", "control")

if TYPE_CHECKING:
    from sslens.study.planning import StudyPlan
    from sslens.table import Results


def check_report(
    folder: Path, conditions: Sequence[Condition] = (), told: Sequence[InputError] = ()
) -> tuple[Checked, ...]:
    """Hold the conditions of a report's study, and further ones, against the report's files.

    Nothing is computed: numbers come from the tables, outcomes of claims from verdicts.csv.

    Args:
        folder: the folder of the report.
        conditions: further conditions.
        told: errors of still other conditions, which are told with the errors of these.

    Raises:
        InputError: there are no conditions; or some name what the report does not have, which is
            told of all at once.
    """
    results = read_tables(folder)
    every = require_conditions((*read_conditions(folder), *conditions), told)
    evidence = Evidence(results, read_verdicts(folder), _spell, _spell_effect)

    def check(condition: Condition) -> Checked:
        _require_results(condition, results, folder)
        return condition.check(evidence)

    return tuple(do_all(check, every, told))


def _require_results(condition: Condition, results: "Mapping[str, Results]", folder: Path) -> None:
    """Refuse a condition on an analysis that a report does not have: nothing is computed for it.

    Raises:
        InputError: there are no results of an analysis.
    """
    needed = condition.list_analyses(()) if isinstance(condition, BoundCondition) else ()
    lacking = [name for name in needed if name not in results]
    if lacking:
        study = f"{folder / 'study.yaml'} 'analyses=[{', '.join([*results, *lacking])}]'"
        raise InputError(
            f'The condition "{condition.words}" reads {lacking[0]}, of which {folder} has no'
            " results",
            mend=f"compute it with sslens check {study}",
        )


def check_study(
    study: Study,
    conditions: Sequence[Condition] = (),
    told: Sequence[InputError] = (),
    *,
    store: Store | None = None,
    quiet: bool = False,
    say: Callable[[str], None] = lambda _: None,
    spell: Callable[[str, str | None], str] = as_argument,
) -> tuple[Checked, ...] | None:
    """Carry out the analyses that conditions read, and hold the conditions against their results.

    What is in the store is not computed anew. No report is written.

    Args:
        study: the study, with its conditions.
        conditions: further conditions.
        told: errors of still other conditions, which are told with the errors of these.
        store: where results are looked up and kept; the usual one unless given.
        quiet: whether no progress is shown.
        say: is told the plan.
        spell: formats a parameter for the plan.

    Returns:
        What became of each condition, in order; None in a process that is not the first of several.

    Raises:
        InputError: there are no conditions; or some name what is not there, which is told of all at
            once; or the study cannot be carried out.
    """
    every = require_conditions((*study.check, *conditions), told)
    asked = narrow(study, every, told)
    from sslens.processes import best_device, processes
    from sslens.study.capturing import capture, complete
    from sslens.study.planning import prepare

    store = store or Store(home() / "store")
    with processes(best_device(asked.device)) as process:
        plan = prepare(
            replace(asked, device=process.device), store, quiet=quiet or not process.first
        )
        _, wrong = attempt(partial(_require_models, plan=plan), every)
        require_places(asked, every, plan.members, wrong)
        if process.first:
            say(plan.describe(spell))
        captured = capture(plan.situation, plan.passes, plan.runner)
        complete(captured, plan.analyses)
    if not process.first:
        return None
    from sslens.study.capturing import gather
    from sslens.study.tables import compute_results, find_models

    values = gather(captured, plan.analyses)
    models = find_models(plan, values)
    results = {
        name: compute_results(name, models, values, asked.seed, store) for name in plan.analyses
    }
    evidence = make_evidence(plan, results)
    return tuple(do_all(lambda condition: condition.check(evidence), every))


def _require_models(condition: Condition, plan: "StudyPlan") -> None:
    """Refuse a condition on models that the study does not have, before anything is computed. Rows
    may also be of a family or of a group of models.

    Raises:
        InputError: there is no such model; the nearest is offered.
    """
    if not isinstance(condition, BoundCondition):
        return
    names = [member.name for member in plan.members]
    for column, value in condition.place.where.items():
        known = (*names, *plan.study.groups)
        if column not in MODELS or value in known or str(value).startswith(FAMILIES):
            continue
        raise InputError(
            f'The condition "{condition.words}" needs a row that has {column} "{value}",'
            f" which is not in the study: {nearest(str(value), known)}"
        )


def require_conditions(
    conditions: Sequence[Condition], told: Sequence[InputError] = ()
) -> tuple[Condition, ...]:
    """Return the conditions, if there are any or some are told to be wrong.

    Raises:
        InputError: there are none, of which nothing could be said.
    """
    if not conditions and not told:
        raise InputError(
            "There are no conditions to check",
            mend="give {condition}, or a list of them as check in the study",
        )
    return tuple(conditions)


def narrow(study: Study, conditions: Sequence[Condition], told: Sequence[InputError] = ()) -> Study:
    """Return a study of only the analyses and the claims that conditions read.

    Args:
        study: the study.
        conditions: the conditions.
        told: errors of other conditions, which are told with the errors of these.

    Raises:
        InputError: a condition is about a claim that there is not, reads an analysis that is not
            among those of the study, or a table or a column that the analysis has not.
    """

    def list_needed(condition: Condition) -> list[str]:
        first, *others = condition.list_analyses(study.claims)
        if study.analyses and first not in study.analyses:
            raise InputError(
                f'The condition "{condition.words}" reads {first}, which is not among the analyses'
                f" of the study ({', '.join(study.analyses)})",
                mend="add it to {analyses}",
            )
        if isinstance(condition, BoundCondition):
            find_columns(condition.place)
        return [first, *(name for name in others if name in study.analyses)]

    needed = do_all(list_needed, conditions, told)
    claims = {one.claim for one in conditions if isinstance(one, ClaimCondition)}
    return replace(
        study,
        analyses=tuple(dict.fromkeys(name for names in needed for name in names)),
        claims=tuple(claim for claim in study.claims if claim.name in claims),
        check=(),
    )


def make_evidence(plan: "StudyPlan", results: "dict[str, Results]") -> Evidence:
    """Judge all claims on results, and put both as a reader has them."""
    from sslens.comparisons.naming import rename_sides
    from sslens.report.verdicts import judge_all
    from sslens.study.groups import name_sides

    sides = name_sides(plan.members, plan.study.groups)
    judged = tuple(map(Judged.of, judge_all(results, plan.study.claims, sides)))
    shown = {name: rename_sides(sides, one) for name, one in results.items()}
    return Evidence(shown, judged, _spell, _spell_effect)


def _spell(number: TableNumber) -> str:
    from sslens.report.writing.numbers import spell_number

    return spell_number(number.value, interval=number.interval)


def _spell_effect(difference: Estimate, kind: str) -> str:
    from sslens.report.writing.numbers import spell_effect, spell_over

    return f"{spell_effect(difference, kind)} over {spell_over(difference)}"
