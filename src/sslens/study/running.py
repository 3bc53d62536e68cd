"""Carrying out a study: passes, then tables, then the report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens.errors import as_argument, spell_parameters
from sslens.find import plugin
from sslens.store import Store, home
from sslens.study.asked import Study
from sslens.study.capturing import capture, complete, gather
from sslens.study.first_screen import draw_pictures, make_first_screen
from sslens.study.groups import name_sides
from sslens.study.planning import StudyPlan, prepare
from sslens.study.provenance import Provenance
from sslens.study.tables import compute_results

if TYPE_CHECKING:
    from sslens.comparisons.naming import SideNames
    from sslens.report.page import Section
    from sslens.table import Results


def run(
    study: Study,
    out: Path,
    *,
    store: Store | None = None,
    command: str = "",
    title: str | None = None,
    notes: Sequence[str] = (),
    figures: bool = False,
    thumbnails: bool = True,
    quiet: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
    spell: Callable[[str, str | None], str] = as_argument,
) -> Path | None:
    """Carry out a study and write its report; returns the report's path, or None for a dry run,
    which only says the plan.

    With `figures`, each figure is also drawn for paper, as SVG and PDF; results that are in the
    store are not computed anew for it. Without `thumbnails` the page holds no pictures of images.
    The plan goes to `say`, with parameters spelt as `spell` has them.

    Raises:
        InputError: something given cannot be used; what was computed until then is in the store.
    """
    from sslens.processes import best_device, processes

    store = store or Store(home() / "store")
    with processes(best_device(study.device)) as process:
        plan = prepare(
            replace(study, device=process.device), store, quiet=quiet or not process.first
        )
        if process.first:
            say(plan.describe(spell))
        if dry_run:
            return None
        began = time.time()
        captured = capture(plan.situation, plan.passes, plan.runner)
        complete(captured, plan.analyses)
    if not process.first:
        return None
    asked = _Asked(study, title, tuple(notes), command, figures, thumbnails, spell)
    return _write_report(plan, gather(captured, plan.analyses), out, store, began, asked)


@dataclass(frozen=True)
class _Asked:
    """What is asked of a report, by the names of `run`."""

    study: Study
    title: str | None
    notes: tuple[str, ...]
    command: str
    figures: bool
    thumbnails: bool
    spell: Callable[[str, str | None], str]


def _write_report(
    plan: StudyPlan,
    values: Mapping[str, Any],
    out: Path,
    store: Store,
    began: float,
    asked: _Asked,
) -> Path:
    """Compute the tables of a study and write its report.

    Args:
        plan: the plan of the study.
        values: the value of each need, by its name.
        out: the folder of the report.
        store: where tables are kept.
        began: the time of the start, in seconds since 1970.
        asked: what is asked of the report.
    """
    from sslens.comparisons.naming import rename_sides
    from sslens.report import page as report
    from sslens.report.front.files import write_front
    from sslens.report.verdicts import judge_all

    study, models = asked.study, plan.situation.models
    sides = name_sides(plan.members, study.groups)
    with report.Draft(out, figures=asked.figures, spell=asked.spell) as draft:
        results: dict[str, Results] = {}
        for name in plan.analyses:
            results[name] = compute_results(name, models, values, study.seed, store)
            draft.add(_section(name, results[name], sides))
        verdicts = judge_all(results, study.claims, sides)
        front = rename_sides(sides, make_first_screen(plan, results, verdicts))
        write_front(out / "front.json", front)
        return draft.finish(
            title=asked.title or front.compared,
            notes=(*asked.notes, *plan.notes, *_note_pictures(plan, asked.spell)),
            advice=_advise(results, sides),
            verdicts=verdicts,
            command=asked.command,
            study=study.yaml(),
            provenance=Provenance.of(plan, asked.command, began).to_json(),
            front=front,
            extras=draw_pictures(plan, results) if asked.thumbnails else {},
            thumbnails=asked.thumbnails,
        )


def _note_pictures(plan: StudyPlan, spell: Callable[[str, str | None], str]) -> tuple[str, ...]:
    """Say why there are no pictures of images, where models are compared by fingerprints alone."""
    from sslens.report.writing.thumbnails import NO_IMAGES

    prints = any(member.fingerprint is not None for member in plan.members)
    return (spell_parameters(NO_IMAGES, spell),) if prints and plan.images is None else ()


def _advise(results: Mapping[str, "Results"], sides: "SideNames | None") -> tuple[str, ...]:
    """The advice on probes of images, then on dense tasks."""
    from sslens.claims import advice
    from sslens.comparisons.dense_advice import judge_dense
    from sslens.comparisons.naming import rename_sides
    from sslens.report.writing.advice import sentences
    from sslens.report.writing.dense_advice import sentences as write_dense

    written = *sentences(advice.judge(results)), *write_dense(judge_dense(results))
    return rename_sides(sides, written)


def _section(name: str, results: "Results", sides: "SideNames | None") -> "Section":
    """What is drawn and written of the results of an analysis, with the names of the groups."""
    from sslens.comparisons.naming import rename_sides
    from sslens.report.page import Section
    from sslens.report.writing import sentences

    module = plugin("analyses", name)
    findings, figure = sentences(name, results), module.draw(results)
    section = Section(name, module.TITLE, module.CAPTION, findings, results, figure)
    return rename_sides(sides, section)
