"""The findings of an answer in a terminal, and the notes below it: cautions first, and how many
more there are."""

import textwrap
from collections.abc import Mapping, Sequence

from sslens.errors import Caution


def write_notes(notes: Sequence[str], where: str, width: int, room: int) -> list[str]:
    """As many notes as there is room for: cautions first and whole, others in two lines at most,
    and how many more there are, how many of them cautions, and where these stand. Where there is
    no room for all cautions each has a line at least, the first ones more, and the last line says
    where they are whole.

    Args:
        notes: the notes.
        where: where all of them stand, such as "the report".
        width: columns of the terminal.
        room: lines at most, at least 1.

    >>> few = ["The images are small.", Caution("Heads were guessed: 6.")]
    >>> write_notes(few, "the report", 80, 2)
    ['note: Heads were guessed: 6.', 'note: The images are small.']
    >>> write_notes(few, "the report", 80, 1)
    ['note: 2 notes in the report, 1 of them a caution.']
    >>> heads = "Heads were guessed: 6. No file tells how many there are, and with others"
    >>> for line in write_notes([Caution(heads + " features are wrong."), "few"], "`notes`", 80, 2):
    ...     print(line)
    note: Heads were guessed: 6. No file tells how many there are, and with others …
    note: … is whole in `notes`; 1 more note there.
    """
    cautions = [note for note in notes if isinstance(note, Caution)]
    others = [note for note in notes if not isinstance(note, Caution)]
    lines, is_cut = _write_cautions(cautions, width, room, bool(others))
    left = [*cautions[_count_notes(lines) :], *others]
    while left and not is_cut and not isinstance(left[0], Caution):
        whole = cut(f"note: {left[0]}", width, 2)
        if len(whole) > room - len(lines) - (len(left) > 1):
            break
        lines += whole
        left = left[1:]
    if left or is_cut:
        lines += wrap(_count_left(left, where, more=bool(lines), is_cut=is_cut), width)
    return lines


def choose_findings(findings: Mapping[str, Sequence[str]], listed: str = "") -> list[str]:
    """Choose what a terminal says of analyses: the first sentence of each, and all of one that is
    alone; of one that lists pairs of models the first sentence of each pair's paragraph.

    Args:
        findings: the sentences by the name of the analysis.
        listed: the name of the analysis that lists pairs; empty if none does.

    >>> found = {"knn": ["One.", "Two."], "diff": ["a and b differ. By kind.", "a and c do not."]}
    >>> choose_findings(found, "diff")
    ['One.', 'a and b differ.', 'a and c do not.']
    >>> choose_findings({"knn": found["knn"]})
    ['One.', 'Two.']
    """
    told = {name: list(sentences) for name, sentences in findings.items() if sentences}
    chosen: list[str] = []
    for name, sentences in told.items():
        if name == listed:
            chosen += [f"{one.partition('. ')[0].removesuffix('.')}." for one in sentences]
        else:
            chosen += sentences if len(told) == 1 else sentences[:1]
    return chosen


def write_findings(findings: Sequence[str], where: str, width: int, room: int) -> list[str]:
    """Write what was found, the first finding first; where the rest does not fit, it is said where
    all of it is.

    >>> write_findings(["One.", "Another finding, that is far longer."], "the page", 32, 2)
    ['One.', 'Another … (whole in the page)']
    """
    lines: list[str] = []
    for number, one in enumerate(findings):
        free, last = room - len(lines), number == len(findings) - 1
        whole = wrap(one, width)
        if len(whole) > free - (not last):
            rest = " ".join(findings[number:])
            return lines + cut(rest, width, free, f" … (whole in {where})")
        lines += whole
    return lines


def count_lines(cautions: Sequence[str], width: int) -> int:
    """The lines that cautions take if they are whole."""
    return sum(len(wrap(f"note: {one}", width)) for one in cautions)


def _write_cautions(
    cautions: Sequence[str], width: int, room: int, more: bool
) -> tuple[list[str], bool]:
    """Write cautions whole if there is room for all of them, and for a line with the number of
    `more` notes; else each in a line at least, and whether one is cut."""
    heights = [len(wrap(f"note: {one}", width)) for one in cautions]
    if sum(heights) + more <= room:
        return [line for one in cautions for line in wrap(f"note: {one}", width)], False
    # what is left is counted in a line, or two of a narrow terminal
    free = max(
        0, room - len(wrap(_count_left(cautions, "the report", more=True, is_cut=True), width))
    )
    shown = heights[:free]
    spare = free - len(shown)
    lines: list[str] = []
    for one, height in zip(cautions, shown, strict=False):
        own = min(height, 1 + spare)
        spare -= own - 1
        lines += cut(f"note: {one}", width, own)
    return lines, free < sum(shown)


def _count_notes(lines: Sequence[str]) -> int:
    """The notes that begin in some lines."""
    return sum(line.startswith("note: ") for line in lines)


def _count_left(left: Sequence[str], where: str, *, more: bool, is_cut: bool = False) -> str:
    """Say how many notes are not shown, how many of them are cautions, and where they stand; and
    where those are whole that were cut.

    >>> _count_left([Caution("heads were guessed"), "few images"], "the report", more=True)
    'note: 2 more notes in the report, 1 of them a caution.'
    >>> _count_left(["few images"], "the report", more=False)
    'note: 1 note in the report.'
    >>> _count_left(["few images"], "the report", more=True, is_cut=True)
    'note: … is whole in the report; 1 more note there.'
    """
    cautions = sum(isinstance(one, Caution) for one in left)
    kind = "a caution" if cautions == 1 else "cautions"
    of = f", {cautions} of them {kind}" if cautions else ""
    words = f"{len(left)} {'more ' if more else ''}{'note' if len(left) == 1 else 'notes'}"
    if is_cut:
        return f"note: … is whole in {where}{f'; {words} there{of}' if left else ''}."
    return f"note: {words} in {where}{of}."


def cut(text: str, width: int, most: int, ending: str = " …") -> list[str]:
    """The first lines of a text, with an ending where it is cut.

    >>> cut("the raw pixels and the controls", 16, 1)
    ['the raw pixels …']
    """
    return textwrap.wrap(text, width, max_lines=most, placeholder=ending, break_on_hyphens=False)


def wrap(text: str, width: int) -> list[str]:
    """Break a text into lines, but no word.

    >>> wrap("the raw pixels", 8)
    ['the raw', 'pixels']
    """
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
