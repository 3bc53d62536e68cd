"""Carrying out a study: passes, then tables, then the report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sslens.errors import as_argument
from sslens.find import plugin
from sslens.store import Store, home
from sslens.study.asked import Study
from sslens.study.capturing import capture, complete, gather
from sslens.study.groups import name_sides
from sslens.study.planning import StudyPlan, prepare
from sslens.study.provenance import Provenance, describe_images
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
    quiet: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
    spell: Callable[[str, str | None], str] = as_argument,
) -> Path | None:
    """Carry out a study and write its report; returns the report's path, or None for a dry run,
    which only says the plan.

    With `figures`, each figure is also drawn for paper, as SVG and PDF; results that are in the
    store are not computed anew for it. The plan goes to `say`, with parameters spelt as `spell` has
    them.

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
    from sslens.report import page as report
    from sslens.report.verdicts import judge_all

    values = gather(captured, plan.analyses)
    models, seed = plan.situation.models, study.seed
    sides = name_sides(plan.members, study.groups)
    with report.Draft(out, figures=figures, spell=spell) as draft:
        results: dict[str, Results] = {}
        for name in plan.analyses:
            results[name] = compute_results(name, models, values, seed, store)
            draft.add(_section(name, results[name], sides))
        return draft.finish(
            title=title or title_of(plan),
            notes=(*notes, *plan.notes),
            advice=_advise(results, sides),
            verdicts=judge_all(results, study.claims, sides),
            command=command,
            study=study.yaml(),
            provenance=Provenance.of(plan, command, began).to_json(),
        )


def title_of(plan: StudyPlan) -> str:
    """Return the default title of the report: the models and the images."""
    images = describe_images(plan).name
    return ", ".join(plan.situation.models.studied) + (f" on {images}" if images else "")


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
