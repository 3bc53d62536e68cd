"""A study carried out: passes, then tables, then the report."""

import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens import __version__
from sslens.find import plugin
from sslens.store import Store, home
from sslens.study.asked import Study
from sslens.study.capturing import capture, gather
from sslens.study.contract import is_old
from sslens.study.planning import StudyPlan, prepare
from sslens.study.tables import compute_results

if TYPE_CHECKING:
    from sslens.report.page import Section
    from sslens.table import Results

#: libraries of which a report says the version
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pandas", "safetensors")


def run(
    study: Study,
    out: Path,
    *,
    store: Store | None = None,
    command: str = "",
    title: str | None = None,
    notes: Sequence[str] = (),
    quiet: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Carry out a study and write its report; returns the report's path, or None for a dry run,
    which only says the plan.

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
            say(plan.describe())
        if dry_run:
            return None
        began = time.time()
        captured = capture(plan.situation, plan.passes, plan.runner)
    if not process.first:
        return None
    values = gather(captured, plan.analyses)
    return _write_report(
        plan, values, out, store, began, command, title, (*notes, *plan.notes), study.yaml()
    )


def _write_report(
    plan: StudyPlan,
    values: Mapping[str, Any],
    out: Path,
    store: Store,
    began: float,
    command: str,
    title: str | None,
    notes: Sequence[str],
    study: str,
) -> Path:
    from sslens.claims import advice
    from sslens.report import page as report
    from sslens.report.verdicts import judge_all
    from sslens.report.writing.advice import sentences

    models, seed = plan.situation.models, plan.study.seed
    with report.Draft(out) as draft:
        for name in plan.analyses:
            draft.add(_section(name, compute_results(name, models, values, seed, store)))
        results = {section.name: section.results for section in draft.sections}
        return draft.finish(
            title=title or _title(models.studied, _images(plan)["name"]),
            notes=notes,
            advice=sentences(advice.judge(results)),
            verdicts=judge_all(results),
            command=command,
            study=study,
            provenance=_provenance(plan, command, time.time() - began),
        )


def _section(name: str, results: "Results") -> "Section":
    """What is drawn and written of the results of an analysis."""
    from sslens.report.page import Section
    from sslens.report.writing import sentences

    module = plugin("analyses", name)
    if is_old(module):
        table = results.tables[name]
        findings, figure = tuple(module.findings(table)), module.draw(table)
    else:
        findings, figure = sentences(name, results), module.draw(results)
    return Section(name, module.TITLE, module.CAPTION, findings, results, figure)


def _provenance(plan: StudyPlan, command: str, seconds: float) -> dict[str, Any]:
    models = {}
    for member in plan.members:
        models[member.name] = {
            "source": member.described.source,
            "digest": member.described.digest,
            "control": member.control,
            **member.about.to_json(),
        }
        if member.fingerprint is not None:
            models[member.name]["fingerprint"] = member.fingerprint.dtype
    return {
        "command": command,
        "made": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "seconds": round(seconds, 1),
        "device": f"{plan.runner.device}, {plan.runner.precision}",
        "versions": (
            {"sslens": __version__, "python": platform.python_version()}
            | {name: importlib.metadata.version(name) for name in LIBRARIES}
        ),
        "images": _images(plan),
        "models": models,
    }


def _title(models: Sequence[str], images: str | None) -> str:
    return ", ".join(models) + (f" on {images}" if images else "")


def _images(plan: StudyPlan) -> dict[str, Any]:
    """The images as provenance has them, or as the first fingerprint tells of them; of paths alone
    there are none."""
    if plan.images is not None:
        return {
            "name": plan.images.name,
            "count": len(plan.images),
            "digest": plan.images.digest,
            "skipped": [list(each) for each in plan.images.skipped],
        }
    first = plan.members[0].fingerprint
    if first is None:
        return {"name": None, "count": 0, "digest": None, "skipped": []}
    return {
        "name": first.images["name"],
        "count": len(first.ids),
        "digest": first.images["content"],
        "skipped": [],
    }
