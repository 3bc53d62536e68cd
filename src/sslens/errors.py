"""What is said when something the user gave cannot be used."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """A file, name or value that the user gave cannot be used; the command line prints it and exits
    with status 2.

    The message is one or two sentences: what was given and where, what was expected, what to do.
    """


class Mishap(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """Something befell this process and perhaps not the others of a run: memory ran out, a helper
    was lost."""


class Doubt(UserWarning):
    """Something was taken for granted that cannot be known from what was given; the command line
    and reports note it."""


def nearest(name: str, options: Iterable[str]) -> str:
    """The options spelt most like `name`, as the end of a sentence; without a near one, all of
    them.

    >>> nearest("blocks.0.nrm1", ["blocks.0.norm1", "blocks.0.attn.qkv", "norm"])
    'did you mean blocks.0.norm1?'
    >>> nearest("zzz", ["mae", "moco-v3"])
    'there are mae, moco-v3'
    """
    known = sorted(set(options))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    return f"there are {shown}" if known else "there are none"
