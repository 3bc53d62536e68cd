"""Words that stand without an option, of which some commands take but one."""

import dataclasses
import itertools
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin

import tyro

from sslens.arguments.foreign import list_options
from sslens.errors import InputError

IMAGES = "--images"


def require_own_words(kind: type, prog: str, given: Sequence[str]) -> None:
    """Refuse more words at the beginning than a command takes there, where it has an option for
    images; of other commands tyro says it.

    Args:
        kind: the command's class.
        prog: the command's name, such as "sslens probe".
        given: the words after the name.

    Raises:
        InputError: there are too many.

    >>> @dataclasses.dataclass
    ... class Command:
    ...     model: tyro.conf.Positional[str]
    ...     images: str = ""
    >>> require_own_words(Command, "sslens probe", ["photos", "mae"])
    Traceback (most recent call last):
    sslens.errors.InputError: sslens probe takes MODEL alone without an option, and "photos" and...
    """
    there = [*itertools.takewhile(lambda word: not word.startswith("-"), given)]
    wanted = [*_list_words(kind)]
    options = [*list_options(kind)]
    if IMAGES not in options or None in wanted or len(there) <= len(wanted):
        return
    takes = f"{' and '.join(map(str, wanted))} alone" if wanted else "nothing"
    words = " and ".join(f'"{word}"' for word in there)
    verb = "is" if len(there) == 1 else "are"
    raise InputError(
        f"{prog} takes {takes} without an option, and {words} {verb} given: images go to {IMAGES}."
    )


def _list_words(kind: Any) -> Iterator[str | None]:
    """The words that a command and its parts take without an option, as the help calls them; None
    for several."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        base, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if isinstance(base, type) and dataclasses.is_dataclass(base):
            yield from _list_words(base)
        elif tyro.conf.Positional in notes:
            shown = [one.metavar for one in notes if getattr(one, "metavar", None)]
            name = shown[0] if shown else entry.name.upper()
            yield None if get_origin(base) is tuple else name
