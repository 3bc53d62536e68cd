"""The folder of a study's report, which can be written at any time after the study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from sslens.study.provenance import Provenance

if TYPE_CHECKING:
    from sslens.figure import Panel
    from sslens.report.front import Front
    from sslens.report.page import Section
    from sslens.statistics.verdicts import Verdict
    from sslens.table import Table

#: the name of the file of the answer
ANSWER = "answer.csv"


@final
@dataclass(frozen=True, repr=False)
class ReportFiles:
    """The content of a study's report.

    Attributes:
        title: of the page.
        answer: the table that answers.
        sections: makes the section of each analysis.
        front: the first screen.
        verdicts: the verdicts on claims.
        advice: what to use, in sentences.
        notes: what a reader must know.
        command: what was typed.
        study: the study as YAML.
        spell: how parameters are called on the page.
        provenance: where the results come from.
        draw_pictures: draws the small pictures of images, by the name of the section.
    """

    title: str
    answer: "Table"
    sections: "Mapping[str, Callable[[], Section]]"
    front: "Front"
    verdicts: "tuple[Verdict, ...]"
    advice: tuple[str, ...]
    notes: tuple[str, ...]
    command: str
    study: str
    spell: Callable[[str, str | None], str]
    provenance: Provenance
    draw_pictures: "Callable[[], Mapping[str, Sequence[Panel]]]"

    def write(self, folder: Path, *, figures: bool = False, thumbnails: bool = True) -> Path:
        """Write the report into a folder; returns the path of the page.

        Args:
            folder: the folder.
            figures: whether figures are drawn for paper too.
            thumbnails: whether the page holds small pictures of images.

        Raises:
            InputError: the folder cannot be written to, or the disk is full.
        """
        from sslens.report import page
        from sslens.report.answer import leave_out_unknown
        from sslens.report.front.files import write_front

        with page.Draft(folder, figures=figures, spell=self.spell) as draft:
            for make_section in self.sections.values():
                draft.add(make_section())
            write_front(draft.own.before(folder / "front.json"), self.front)
            leave_out_unknown(self.answer).save(draft.own.before(folder / ANSWER))
            return draft.finish(
                title=self.title,
                notes=self.notes,
                advice=self.advice,
                verdicts=self.verdicts,
                command=self.command,
                study=self.study,
                provenance=self.provenance.to_json(),
                front=self.front,
                extras=self.draw_pictures() if thumbnails else {},
                thumbnails=thumbnails,
            )
