"""What is said when something the user gave cannot be used."""

import difflib
import re
from collections.abc import Callable, Iterable

#: a parameter in a mend: {batch}, {limit=64}, {settings.base_lr}
_PARAMETER = re.compile(r"\{([a-z_]+(?:\.[a-z_0-9]+)?)(?:=([^{}]*))?\}")


def as_argument(name: str, value: str | None) -> str:
    """A parameter as Python has it.

    >>> as_argument("batch", None), as_argument("limit", "64"), as_argument("settings.base_lr", None)
    ('batch', 'limit=64', 'settings.base_lr')
    """
    return name if value is None else f"{name}={value}"


class InputError(Exception):
    """A file, name or value that the user gave cannot be used; the command line prints it and exits
    with status 2.

    The message says what was given and where, and what was expected; the mend says what to do, with
    the parameters to change in braces: `{batch}`, `{limit=64}`, or `{settings.base_lr}` for a key of
    settings. Python reads the argument's name, and the command line its option.

    Args:
        message: a clause without its full stop, which the mend ends, or whole sentences.
        mend: what to do, a clause without its full stop; none unless given.

    >>> str(InputError("There are 12 images, fewer than a minibatch", mend="give a smaller {batch}"))
    'There are 12 images, fewer than a minibatch: give a smaller batch.'
    >>> str(InputError("The folder holds another run.", mend="give {resume=True} or another {out}"))
    'The folder holds another run. Give resume=True or another out.'
    """

    def __init__(self, message: str, mend: str | None = None) -> None:
        super().__init__(message, mend)
        self.message, self.mend = message, mend

    def __str__(self) -> str:
        return self.spelt(as_argument)

    def spelt(self, spell: Callable[[str, str | None], str]) -> str:
        """The message and the mend, each parameter (and the value it is given) as `spell` has it."""
        if self.mend is None:
            return self.message
        mend = _PARAMETER.sub(lambda found: spell(found[1], found[2]), self.mend)
        if self.message.endswith("."):
            return f"{self.message} {mend[:1].upper()}{mend[1:]}."
        return f"{self.message}: {mend}."


def require_type(value: object, types: type | tuple[type, ...], what: str, mend: str) -> None:
    """Refuse an argument of another type, which would fail later and elsewhere.

    Args:
        what: the value should be, such as "model".
        mend: what to do.

    >>> require_type("mae", int, "number", mend="give another {seed}")
    Traceback (most recent call last):
    sslens.errors.InputError: 'mae' (str) is no number: give another seed.
    """
    if not isinstance(value, types):
        shown = repr(value)
        shown = shown if len(shown) <= 60 and "\n" not in shown else "What was given"
        raise InputError(f"{shown} ({type(value).__name__}) is no {what}", mend=mend)


class Mishap(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """A failure of the machine that this process met, and perhaps not the others of a run: memory
    ran out, a helper was lost."""


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
