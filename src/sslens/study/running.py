"""Carrying out a study: passes, then tables, then the report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens.errors import as_argument, spell_parameters
from sslens.find import plugin
from sslens.store import Store, home
from sslens.study.asked import Study
from sslens.study.capturing import capture, complete, gather
from sslens.study.first_screen import draw_pictures, list_shown, make_first_screen
from sslens.study.given import keep_devices
from sslens.study.groups import name_sides
from sslens.study.out_folders import claim_study
from sslens.study.planning import StudyPlan, prepare
from sslens.study.provenance import Provenance
from sslens.study.tables import compute_results, find_models

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from sslens.comparisons.naming import SideNames
    from sslens.report.page import Section
    from sslens.statistics.verdicts import Verdict
    from sslens.study.result import Result, Tables
    from sslens.table import Results


def run(
    study: Study,
    out: Path | str,
    *,
    store: Store | None = None,
    command: str = "",
    title: str | None = None,
    notes: Sequence[str] = (),
    figures: bool = False,
    thumbnails: bool = True,
    quiet: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
    spell: Callable[[str, str | None], str] = as_argument,
) -> Path | None:
    """Carry out a study and write its report; returns the report's path, or None for a dry run,
    which only says the plan.

    With `figures`, each figure is also drawn for paper, as SVG and PDF; results that are in the
    store are not computed anew for it. Without `thumbnails` the page holds no pictures of images.
    The plan goes to `say`, with parameters spelt as `spell` has them. A folder with another study
    is refused; with `overwrite` that study's own files go first.

    Raises:
        InputError: something given cannot be used; what was computed until then is in the store.
    """
    claim_study(study).require(Path(out).expanduser(), overwrite=overwrite)
    result = carry_out(
        study,
        store=store,
        command=command,
        title=title,
        notes=notes,
        quiet=quiet,
        dry_run=dry_run,
        say=say,
        spell=spell,
    )
    if result is None:
        return None
    return result.save(out, figures=figures, thumbnails=thumbnails, overwrite=overwrite)


def carry_out(
    study: Study,
    *,
    store: Store | None = None,
    command: str = "",
    title: str | None = None,
    notes: Sequence[str] = (),
    quiet: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
    spell: Callable[[str, str | None], str] = as_argument,
) -> "Result | None":
    """Carry out a study, and write nothing but the store; returns the result, or None for a dry
    run, and in a process that is not the first of several.

    Args:
        study: the study.
        store: where results are looked up and kept; the usual one unless given.
        command: what was typed, for the report.
        title: the title; what was compared unless given.
        notes: what a reader must know, before what the study itself says.
        quiet: whether no progress is shown.
        dry_run: whether the plan is said and nothing carried out.
        say: is told the plan.
        spell: how parameters are called in the plan and in the report.

    Raises:
        InputError: something given cannot be used; what was computed until then is in the store.
    """
    from sslens.processes import best_device, processes

    store = store or Store(home() / "store")
    with keep_devices(study.given), processes(best_device(study.device)) as process:
        plan = prepare(
            replace(study, device=process.device), store, quiet=quiet or not process.first
        )
        if process.first:
            say(plan.describe(spell, whole=dry_run))
        if dry_run:
            if process.first:
                from sslens.study.study_cost import estimate_study

                say(f"cost      {estimate_study(plan).describe()}")
            return None
        began = time.time()
        captured = capture(plan.situation, plan.passes, plan.runner)
        complete(captured, plan.analyses)
    if not process.first:
        return None
    asked = _Asked(study, title, tuple(notes), command, spell)
    return _conclude(plan, gather(captured, plan.analyses), store, began, asked)


@dataclass(frozen=True)
class _Asked:
    """What is asked of a study, by the names of `carry_out`."""

    study: Study
    title: str | None
    notes: tuple[str, ...]
    command: str
    spell: Callable[[str, str | None], str]


def _conclude(
    plan: StudyPlan, values: Mapping[str, Any], store: Store, began: float, asked: _Asked
) -> "Result":
    """Compute the tables of a study, and judge them.

    Args:
        plan: the plan of the study.
        values: the value of each need, by its name.
        store: where tables are kept.
        began: the time of the start, in seconds since 1970.
        asked: what is asked.
    """
    from sslens.comparisons.naming import rename_sides
    from sslens.report.answer import make_answer
    from sslens.report.verdicts import judge_all
    from sslens.report.writing import sentences
    from sslens.study.related import describe_copies
    from sslens.study.report_files import ReportFiles
    from sslens.study.result import Figures, Result

    study, models = asked.study, find_models(plan, values)
    sides = name_sides(plan.members, study.groups)
    results = {
        name: compute_results(name, models, values, study.seed, store) for name in plan.analyses
    }
    verdicts = judge_all(results, study.claims, sides)
    front = rename_sides(sides, make_first_screen(plan, results, verdicts))
    findings = {name: sentences(name, one) for name, one in results.items()}
    notes = (*asked.notes, *describe_copies(models), *_note_near_copies(values), *plan.notes)
    files = ReportFiles(
        title=asked.title or front.compared,
        answer=make_answer(results, models),
        sections={
            name: partial(_section, name, one, findings[name], sides)
            for name, one in results.items()
        },
        front=front,
        verdicts=verdicts,
        advice=_advise(results, sides),
        notes=(*notes, *_note_pictures(plan, asked.spell)),
        command=asked.command,
        study=study.yaml(),
        spell=asked.spell,
        provenance=Provenance.of(plan, asked.command, began),
        draw_pictures=partial(draw_pictures, list_shown(plan), results),
    )
    return Result(
        title=files.title,
        answered=files.answer,
        tables=_list_tables(rename_sides(sides, results), verdicts),
        write_files=files.write,
        claim=claim_study(study, asked.command),
        figures=Figures({name: partial(_draw, one) for name, one in files.sections.items()}),
        verdicts=verdicts,
        advice=files.advice,
        findings=rename_sides(sides, findings),
        notes=notes,
        front=front,
        grams=values.get("grams"),
    )


def _note_near_copies(values: Mapping[str, Any]) -> Sequence[str]:
    """Say which images have near copies, where the features of the raw pixels are known."""
    from sslens.study.copies import describe_near_copies

    sets = values.get("features")
    return [] if sets is None else describe_near_copies(sets.images.values(), sets.bank.values())


def _list_tables(results: "Mapping[str, Results]", verdicts: "Sequence[Verdict]") -> "Tables":
    """All tables by name, with that of the verdicts."""
    from sslens.report.verdicts import make_table
    from sslens.study.result import Tables

    tables = {
        name if len(one.tables) == 1 else f"{name}/{inner}": table
        for name, one in results.items()
        for inner, table in one.tables.items()
    }
    return Tables(tables | ({"verdicts": make_table(verdicts)} if verdicts else {}))


def _draw(make_section: "Callable[[], Section]") -> "go.Figure":
    """Draw the figure of a section with plotly."""
    from sslens.figure import to_plotly

    return to_plotly(make_section().figure)


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
    from sslens.comparisons.readings import find_over_places
    from sslens.report.writing.advice import sentences
    from sslens.report.writing.dense_advice import sentences as write_dense

    said = sentences(advice.judge(results), find_over_places(results))
    written = *said, *write_dense(judge_dense(results))
    return rename_sides(sides, written)


def _section(
    name: str, results: "Results", findings: tuple[str, ...], sides: "SideNames | None"
) -> "Section":
    """What is drawn and written of the results of an analysis, with the names of the groups."""
    from sslens.comparisons.naming import rename_sides
    from sslens.report.page import Section

    module = plugin("analyses", name)
    section = Section(name, module.TITLE, module.CAPTION, findings, results, module.draw(results))
    return rename_sides(sides, section)
