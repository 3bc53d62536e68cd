"""The notes below an answer in a terminal: cautions first, and how many more there are."""

import textwrap
from collections.abc import Sequence

from sslens.errors import Caution


def write_notes(notes: Sequence[str], where: str, width: int, room: int) -> list[str]:
    """As many notes as there is room for, cautions first and whole, others in two lines at most,
    and how many more there are, how many of them cautions, and where these stand. A caution that
    does not fit is cut only where it is the first, and it is said where it is whole.

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
    """
    notes = sorted(notes, key=lambda one: not isinstance(one, Caution))
    lines: list[str] = []
    for number, note in enumerate(notes):
        text, left = f"note: {note}", notes[number:]
        free = room - len(lines) - (len(left) > 1)
        whole = wrap(text, width)
        if isinstance(note, Caution) and len(whole) > free and not lines and free > 0:
            whole = cut(text, width, free, f" … (whole in {where})")
        elif not isinstance(note, Caution):
            whole = cut(text, width, 2)
        if len(whole) > free:
            lines.append(_count_left(left, where, more=bool(lines)))
            break
        lines += whole
    return lines


def _count_left(left: Sequence[str], where: str, *, more: bool) -> str:
    """Say how many notes are not shown, how many of them are cautions, and where they stand.

    >>> _count_left([Caution("heads were guessed"), "few images"], "the report", more=True)
    'note: 2 more notes in the report, 1 of them a caution.'
    >>> _count_left(["few images"], "the report", more=False)
    'note: 1 note in the report.'
    """
    cautions = sum(isinstance(one, Caution) for one in left)
    kind = "a caution" if cautions == 1 else "cautions"
    of = f", {cautions} of them {kind}" if cautions else ""
    words = f"{'more ' if more else ''}{'note' if len(left) == 1 else 'notes'}"
    return f"note: {len(left)} {words} in {where}{of}."


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
