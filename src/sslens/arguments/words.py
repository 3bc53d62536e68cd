"""Words that stand without an option, of which some commands take but one."""

import itertools
from collections.abc import Sequence

from sslens.arguments.foreign import list_arguments
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

    >>> import dataclasses, tyro
    >>> @dataclasses.dataclass
    ... class Command:
    ...     model: tyro.conf.Positional[str]
    ...     images: str = ""
    >>> require_own_words(Command, "sslens probe", ["photos", "mae"])
    Traceback (most recent call last):
    sslens.errors.InputError: sslens probe takes MODEL alone without an option, and "photos" and...
    """
    there = [*itertools.takewhile(lambda word: not word.startswith("-"), given)]
    arguments = [*list_arguments(kind)]
    wanted = [one for one in arguments if one.positional]
    options = [one.name for one in arguments]
    if IMAGES not in options or any(one.several for one in wanted) or len(there) <= len(wanted):
        return
    takes = f"{' and '.join(one.name for one in wanted)} alone" if wanted else "nothing"
    words = " and ".join(f'"{word}"' for word in there)
    verb = "is" if len(there) == 1 else "are"
    raise InputError(
        f"{prog} takes {takes} without an option, and {words} {verb} given: images go to {IMAGES}."
    )
