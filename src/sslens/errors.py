"""Errors and warnings about what the user gave: a file, a name or a value."""

import difflib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

#: a parameter in a mend: {batch}, {limit=64}, {settings.base_lr}
_PARAMETER = re.compile(r"\{([a-z_]+(?:\.[a-z_0-9]+)?)(?:=([^{}]*))?\}")


#: characters that a terminal obeys and does not show, but for tabs and ends of lines, and those
#: that turn the direction of writing
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: characters of the longest message that is shown whole
LONGEST = 8000
#: halves of characters, which no terminal can be given
_HALVES = re.compile("[\ud800-\udfff]")


def make_visible(text: str) -> str:
    """Write out the characters that a terminal would obey, so that a name in a file can neither
    change the screen nor hide a part of itself.

    >>> print(make_visible("norm\\x1b[2J.weight"))
    norm\\x1b[2J.weight
    """
    text = _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return _HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_whole(text: str) -> bool:
    """Whether a text holds no half of a character, which no file of text can hold.

    >>> is_whole("norm \\U0001f600"), is_whole("norm \\ud83d")
    (True, False)
    """
    return _HALVES.search(text) is None


def make_line(text: str) -> str:
    """Write out the ends of lines too, so that a name cannot look like two messages.

    >>> print(make_line("a.pth\\nsslens: all is well"))
    a.pth\\nsslens: all is well
    """
    return make_visible(text).replace("\n", "\\n")


def shorten(text: str, most: int) -> str:
    """Return a text, or its beginning and the number of its characters where it has more than
    `most`.

    >>> shorten("blocks" * 100, 12)
    'blocksblocks… (600 characters)'
    """
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def as_argument(name: str, value: str | None) -> str:
    """Format a parameter, with its value if there is one, as a Python argument.

    >>> as_argument("batch", None), as_argument("limit", "64"), as_argument("on_bad", "skip")
    ('batch', 'limit=64', 'on_bad="skip"')
    """
    if value is None:
        return name
    plain = value in ("True", "False", "None") or re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", value)
    return f"{name}={value}" if plain else f'{name}="{value}"'


def spell_parameters(text: str, spell: Callable[[str, str | None], str]) -> str:
    """A text with each parameter in braces, and the value it is given, as `spell` has it.

    >>> spell_parameters("give a smaller {batch}", as_argument)
    'give a smaller batch'
    """
    return _PARAMETER.sub(lambda parameter: spell(parameter[1], parameter[2]), text)


class InputError(Exception):
    """A file, name or value that the user gave cannot be used; the command line prints it and exits
    with status 2.

    The message says what was given and where, and what was expected; the mend says what to do, with
    the parameters to change in braces: `{batch}`, `{limit=64}`, or `{settings.base_lr}` for a key
    of settings. Python reads the argument's name, and the command line its option.

    Args:
        message: what is wrong: a clause without a full stop, which is continued by the mend after a
            colon, or whole sentences.
        mend: what the user should do: a clause without a full stop.

    >>> str(InputError("There are 12 images, under a minibatch", mend="give a smaller {batch}"))
    'There are 12 images, under a minibatch: give a smaller batch.'
    >>> str(InputError("The folder holds another run.", mend="give {resume=True} or another {out}"))
    'The folder holds another run. Give resume=True or another out.'
    """

    def __init__(self, message: str, mend: str | None = None) -> None:
        super().__init__(message, mend)
        self.message, self.mend = message, mend
        self.others: tuple[InputError, ...] = ()

    def __str__(self) -> str:
        return self.spelt(as_argument)

    def spelt(self, spell: Callable[[str, str | None], str]) -> str:
        """Join the message and the mend; `spell(name, value)` formats each parameter in braces."""
        if not self.others:
            return self._spell_own(spell)
        each = [error._spell_own(spell) for error in (self, *self.others)]
        return " ".join(one if one.endswith((".", "?")) else f"{one}." for one in each)

    def _spell_own(self, spell: Callable[[str, str | None], str]) -> str:
        message = shorten(make_line(self.message), LONGEST)
        if message.endswith("?."):  # a question of `nearest` ends it already
            message = message[:-1]
        if self.mend is None:
            return message
        mend = make_line(spell_parameters(self.mend, spell))
        if message.endswith("."):
            return f"{message} {mend[:1].upper()}{mend[1:]}."
        return f"{message}: {mend}."


def join_errors(errors: Sequence[InputError]) -> InputError:
    """Make one error of several, which says all that they say; of one error, that one.

    >>> one, other = InputError("a.pth is empty."), InputError("b.pth is, too", mend="delete it")
    >>> str(join_errors([one, other]))
    'a.pth is empty. b.pth is, too: delete it.'
    """
    every = [one for error in errors for one in (error, *error.others)]
    first, *others = {(one.message, one.mend): one for one in every}.values()
    if not others:
        return first
    joined = InputError(first.message, first.mend)
    joined.others = tuple(others)
    return joined


def attempt(do: Callable[[A], B], items: Iterable[A]) -> tuple[list[B], list[InputError]]:
    """Do the same with each of several things.

    Returns:
        What was made of those that can be used, and the errors of all others.

    >>> attempt(lambda name: nearest(name, ["mae", "dino"]), ["dyno"])
    (['did you mean dino?'], [])
    """
    made: list[B] = []
    errors: list[InputError] = []
    for item in items:
        try:
            made.append(do(item))
        except InputError as error:
            errors.append(error)
    return made, errors


def do_all(do: Callable[[A], B], items: Iterable[A], told: Iterable[InputError] = ()) -> list[B]:
    """Do the same with each of several things, and tell at once all that is wrong with them.

    Args:
        do: what to do with one.
        items: the things.
        told: errors that are told with theirs.

    Raises:
        InputError: one or more cannot be used.

    >>> do_all(len, ["mae", "dino"])
    [3, 4]
    """
    made, errors = attempt(do, items)
    if wrong := [*told, *errors]:
        raise join_errors(wrong)
    return made


def require_type(value: object, types: type | tuple[type, ...], what: str, mend: str) -> None:
    """Raise InputError if an argument has the wrong type, before it fails later and elsewhere.

    Args:
        value: the argument.
        types: the type or types that are allowed.
        what: the name of what the value should be, such as "model".
        mend: what the user should do.

    >>> require_type("mae", int, "number", mend="give another {seed}")
    Traceback (most recent call last):
    sslens.errors.InputError: 'mae' (str) is no number: give another seed.
    """
    if not isinstance(value, types):
        shown = repr(value)
        shown = shown if len(shown) <= 60 and "\n" not in shown else "What was given"
        raise InputError(f"{shown} ({type(value).__name__}) is no {what}", mend=mend)


class Mishap(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """A failure of the machine, such as memory that ran out or a data worker that died.

    In a run of several processes it may happen in one process alone.
    """


class Doubt(UserWarning):
    """A warning that the code assumed something which the user's input does not tell.

    The command line prints it, and reports repeat it.
    """


class Interrupted(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """A training was asked to stop, and has kept its state."""


class Caution(str):
    """A note without which a reader may take the numbers for something else: it comes before other
    notes, and a terminal shows it whole."""


def warn_of_doubt(message: str) -> None:
    """Warn of a `Doubt` at the line of the user's that led here: the nearest one that is not of
    this package, however deep in it the doubt arises.

    Args:
        message: what was assumed, as a sentence.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, Doubt, stacklevel=level)


def _is_ours(frame: FrameType) -> bool:
    """Whether a frame is of this package, or of what checks the types of its arguments."""
    name = str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in ("sslens", "jaxtyping", "beartype")


def _find_longer(name: str, spellings: list[str]) -> list[str]:
    """Up to three options that begin with a word, or else that it is short for: its letters in
    their order, from the first, with the last word of the option at its end."""
    word = name.lower()
    if len(word) < 3 or not re.fullmatch(r"[a-z0-9]+", word):
        return []
    begun = [one for one in spellings if word in re.split(r"[-_. ]", one.lower())]
    if begun:
        return begun[:3]
    letters = re.compile(".*".join(map(re.escape, word)))
    return [
        one
        for one in spellings
        if (parts := re.split(r"[-_]", one.lower()))[1:]
        and len(parts[-1]) > 2
        and word.endswith(parts[-1])
        and letters.match(one.lower())
    ][:3]


def nearest(name: str, options: Iterable[str]) -> str:
    """Suggest up to three options that are spelt like `name`, begin with it or shorten to it, as
    the end of a sentence.

    If no option is near, the sentence lists the first twelve options and counts the others.

    >>> nearest("knn", ["cka-blocks", "knn-depth"]), nearest("hflip", ["horizontal-flip", "shift"])
    ('did you mean knn-depth?', 'did you mean horizontal-flip?')

    >>> nearest("blocks.0.nrm1", ["blocks.0.norm1", "blocks.0.attn.qkv", "norm"])
    'did you mean blocks.0.norm1?'
    >>> nearest("zzz", ["mae", "moco-v3"])
    'there are mae, moco-v3'
    """
    spellings = sorted(set(options))
    close = difflib.get_close_matches(name, spellings, n=3, cutoff=0.7)
    if close := close or _find_longer(name, spellings):
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(spellings[:12]) + (
        f" and {len(spellings) - 12} more" if len(spellings) > 12 else ""
    )
    return f"there are {shown}" if spellings else "there are none"


#: what a training has beside the settings of its method
OPTIONS = ("epochs", "batch_size", "seed", "precision", "device")


def nearest_setting(name: str, options: Iterable[str], given: Iterable[str] = ()) -> str:
    """Say which settings are near to a misspelt one, as a clause.

    These are those that are spelt alike, then those that begin with the same word, the more alike
    the earlier; those that the user has given already are not meant.

    Args:
        name: the misspelt setting.
        options: all settings.
        given: the settings that are given beside it.

    >>> settings = ["decoder_dim", "decoder_blocks", "decoder_heads", "mask_ratio"]
    >>> nearest_setting("decoder_depth", settings, given=["decoder_dim"])
    'did you mean decoder_heads or decoder_blocks?'
    >>> nearest_setting("maskratio", settings)
    'did you mean mask_ratio?'
    """
    said = set(given)
    free = [one for one in options if one not in said]
    close = difflib.get_close_matches(name, free, n=3, cutoff=0.7)
    first, joined, _ = name.partition("_")
    family = [one for one in free if joined and one.startswith(f"{first}_") and one not in close]
    family.sort(key=lambda one: -difflib.SequenceMatcher(None, name, one).ratio())
    near = [*close, *family[: max(0, 5 - len(close))]]
    if not near:
        return nearest(name, free)
    last = f" or {near[-1]}" if len(near) > 1 else near[0]
    return f"did you mean {', '.join(near[:-1])}{last}?"


def no_setting(
    name: str, options: Iterable[str], given: Iterable[str] = (), of: str = ""
) -> InputError:
    """Make the error of a setting that is not there, with what was probably meant.

    Args:
        name: the setting.
        options: all settings.
        given: the settings that are given beside it.
        of: words that say what has the settings, with a space before them.

    >>> str(no_setting("maskratio", ["mask_ratio"]))
    'There is no setting "maskratio": did you mean mask_ratio?'
    >>> str(no_setting("batch_size", ["mask_ratio"]))
    'There is no setting "batch_size": it is given apart from the settings, as batch_size.'
    """
    what = f'There is no setting "{name}"{of}'
    if name in OPTIONS:
        return InputError(what, mend=f"it is given apart from the settings, as {{{name}}}")
    return InputError(f"{what}: {nearest_setting(name, options, given)}")
