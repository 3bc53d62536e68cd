"""Carrying out a reproduction: one exhibit after another, each with a report of its own, and all on
one page beside the published numbers."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from sslens import cards
from sslens.errors import InputError, Interrupted, as_argument, spell_parameters
from sslens.exhibits import ACCURACIES
from sslens.own_files import OwnFiles
from sslens.report.outcomes import ComparedNumber, ReproducedExhibit, State
from sslens.report.reproduced import write_page
from sslens.report.writing.reproduced import list_lines, summarise
from sslens.store import Store, home, write_beside, write_text
from sslens.study.choosing import Unmet
from sslens.study.found_numbers import find_number, name_models, read_claims, read_warning
from sslens.study.out_folders import claim_page
from sslens.study.reproduce_request import ReproduceRequest
from sslens.study.reproduction import (
    PATIENCE,
    YOURS,
    Step,
    describe_cost,
    describe_data,
    plan_steps,
    spell_hours,
)
from sslens.study.stored_results import find_stored

Spell = Callable[[str, str | None], str]
#: the traceback of a step that failed through a fault of ours
FAULT = "fault.txt"


def run(
    request: ReproduceRequest,
    out: Path,
    *,
    store: Store | None = None,
    command: str = "",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
    spell: Spell = as_argument,
) -> Path:
    """Reproduce exhibits; returns the path of the page.

    A step that fails is named in its place, and the others go on. A reproduction that was killed
    goes on with what the store lacks, and its tables are the same, byte for byte.

    Args:
        request: what is reproduced.
        out: the folder: the page, its tables, and a folder for each exhibit.
        store: where results are looked up and kept.
        command: the command that was typed.
        overwrite: whether the page of another reproduction in the folder may be replaced; the
            reports of exhibits that are not among these stay.
        say: told what became of each exhibit.
        spell: how a parameter is called in a sentence.

    Raises:
        InputError: a source of images is not there, the folder cannot be written to, or it holds
            something else.
    """
    claim = claim_page(request, command)
    claim.require(out, overwrite=overwrite)
    steps = plan_steps(request, Reach().explain)
    worker = Worker(request, out, store or Store(home() / "store"), command, say, spell)
    claim.take(out, overwrite=overwrite)
    done: list[ReproducedExhibit] = []
    noted: set[str] = set()
    for step in steps:
        done.append(worker.carry_out(step))
        for line in list_lines(done[-1], noted):
            say(line)
        noted.update(done[-1].notes)
        page = write_page(out, done, command)
    say(summarise(done))
    return page


@final
class Reach:
    """Finds out whether the weights of cards can be had, each once."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def explain(self, source: str) -> str:
        """Fetch the file of a source's card; say why that failed, or nothing."""
        from sslens.zoo import download

        if source not in self.known:
            card, why = cards.look_up(source), ""
            if card is not None and card.source is None:
                try:
                    download.fetch(card)
                except InputError as error:
                    why = f"{card.name} cannot be had: {error.message.split('. ')[0].rstrip('.')}"
            self.known[source] = why
        return self.known[source]


@final
@dataclass(frozen=True)
class Worker:
    """Carries out steps.

    Attributes:
        request: what is reproduced.
        out: the folder of the page.
        store: where results are looked up and kept.
        command: the command that was typed.
        say: told what a step costs that takes long, before it begins.
        spell: how a parameter is called in a sentence.
    """

    request: ReproduceRequest
    out: Path
    store: Store
    command: str
    say: Callable[[str], None]
    spell: Spell

    def carry_out(self, step: Step) -> ReproducedExhibit:
        """Carry out a step; what fails in it is said in the result."""
        folder = self.out / step.name
        if step.lacks:
            return self._conclude(step, "not run", "; ".join(step.lacks))
        stored = find_stored(step) if step.long else None
        if stored is not None:
            return self._take(step, stored, folder)
        if step.costly:
            hours = spell_hours(step.setting.hours)
            why = f"it takes about {hours} of two processor cores: name it, or give {{costly=True}}"
            return self._conclude(step, "not run", why)
        if step.setting.hours > PATIENCE and step.on != YOURS:  # of which nothing is known
            self.say(f"{step.name:<20}{describe_cost(step)}; stopped, it goes on when said again")
        for old in (FAULT, "verdicts.csv", "report.html"):  # of an earlier run, which may differ
            OwnFiles(folder).remove(folder / old)
        try:
            if step.exhibit.analyses:
                self._run_study(step, folder)
                faults: tuple[str, ...] = ()
            else:
                faults = tuple(self._measure_all(step, folder))
        except Interrupted:
            raise  # whoever stopped a training means all of it
        except Unmet as error:
            return self._conclude(step, "not run", f"it needs more: {error.spelt(self.spell)}")
        except InputError as error:
            return self._conclude(step, "failed", error.spelt(self.spell))
        except Exception as error:  # a fault of ours in one step must not take the others along
            write_text(OwnFiles(folder).before(folder / FAULT), traceback.format_exc())
            why = f"{type(error).__name__}: {error} (a fault of sslens; see {step.name}/{FAULT})"
            return self._conclude(step, "failed", why)
        state: State = "stored" if step.setting.stored else "computed"
        return self._read(step, state, folder, faults)

    def _take(self, step: Step, stored: Path, folder: Path) -> ReproducedExhibit:
        """Copy stored results of a step into its folder."""
        try:
            own = OwnFiles(folder)
            for path in sorted(one for one in stored.rglob("*") if one.is_file()):
                target = own.before(folder / path.relative_to(stored))
                with write_beside(target, durable=False) as temporary:
                    temporary.write_bytes(path.read_bytes())
        except InputError as error:
            return self._conclude(step, "failed", error.spelt(self.spell))
        return self._read(step, "stored", folder)

    def _run_study(self, step: Step, folder: Path) -> None:
        """Carry out the step's study, with a report of its own."""
        from sslens.study.running import run as run_study

        run_study(
            step.study(self.request),
            folder,
            store=self.store,
            command=self.command,
            title=step.exhibit.title,
            notes=[note for note in (step.setting.note,) if note],
            overwrite=True,  # of an exhibit's own folder
            spell=self.spell,
        )

    def _measure_all(self, step: Step, folder: Path) -> Iterator[str]:
        """Measure the accuracies that are published, and write them as a table after each; say
        which failed."""
        import pandas as pd

        from sslens.study.accuracies import UNITS, AccuracyRequest, measure_accuracy
        from sslens.table import Table

        assert step.images is not None
        frames: list[pd.DataFrame] = []
        for published in step.exhibit.published:
            role, evaluation = (published.found.rows[name] for name in ("model", "evaluation"))
            if role not in step.models:
                continue
            try:
                asked = AccuracyRequest(
                    model=step.models[role],
                    evaluation=evaluation,
                    images=step.images,
                    bank=step.bank,
                    folder=folder / "features",
                    limit=step.limit,
                    seed=self.request.seed,
                    device=self.request.device,
                )
                frame = measure_accuracy(asked, self.store).frame
            except InputError as error:
                yield f"{evaluation} of {role} failed: {error.spelt(self.spell)}"
                continue
            frames.append(frame)
            rows = pd.concat(frames, ignore_index=True)
            path = folder / "tables" / f"{ACCURACIES}.csv"
            Table(rows, UNITS).save(OwnFiles(folder).before(path))

    def _read(
        self, step: Step, state: State, folder: Path, faults: Sequence[str] = ()
    ) -> ReproducedExhibit:
        """Read back what a step wrote."""
        names = name_models(folder, step.models)
        differs = "; ".join(step.differs)
        numbers = tuple(
            ComparedNumber(one, find_number(folder, one.found, names), differs)
            for one in step.exhibit.published
        )
        has_report = (folder / "report.html").is_file()
        tables = [] if has_report else sorted((folder / "tables").rglob("*.csv"))
        return ReproducedExhibit(
            exhibit=step.exhibit,
            state=state,
            on=describe_data(step),
            models=step.models,
            why=spell_parameters(step.why, self.spell),
            notes=(*self._list_notes(step), *faults, *filter(None, (read_warning(folder),))),
            numbers=numbers,
            claims=tuple(read_claims(folder, step.exhibit.claims)),
            report=f"{step.name}/report.html" if has_report else None,
            tables=tuple(path.relative_to(self.out).as_posix() for path in tables),
        )

    def _conclude(self, step: Step, state: State, why: str) -> ReproducedExhibit:
        """The result of a step that was not carried out."""
        spelt = spell_parameters(why, self.spell)
        return ReproducedExhibit(
            step.exhibit, state, describe_data(step), step.models, spelt, self._list_notes(step)
        )

    def _list_notes(self, step: Step) -> tuple[str, ...]:
        left = (f"{name} was left out: {why}" for name, why in step.left_out.items())
        notes = (step.setting.note, *step.absent, *left)
        return tuple(spell_parameters(note, self.spell) for note in notes if note)
