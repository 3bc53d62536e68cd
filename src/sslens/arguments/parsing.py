"""From words of the command line to a command: tyro, with what makes it slow to start left out.

tyro checks a default of a type such as `int | None` or `tuple[str, ...]` with typeguard, which
imports asyncio and unittest.mock, and finds the text of an option by reading its class with three
parsers. Both cost more than all the rest. So the fields are handed to tyro with their texts and
with the check already made, which mypy makes.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import sys
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import tyro
from tyro.constructors import (
    MISSING,
    MISSING_NONPROP,
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from sslens.arguments.foreign import require_own_options
from sslens.arguments.spelling import as_option
from sslens.arguments.words import require_own_words
from sslens.counts import spell_count
from sslens.errors import InputError, nearest

#: the option that every command has, and its text
JSON = "json"
JSON_TEXT = (
    "Print the answer as JSON on standard output, which else has only the path of the results: the"
    " answer for people goes to standard error (docs/commands.md)."
)


class Parsed(NamedTuple):
    """A command, and whether its answer is wanted as JSON."""

    command: Any
    json: bool


class Choices(NamedTuple):
    """The words that an option takes, and whether it takes several."""

    words: tuple[str, ...]
    several: bool


class Numbers(NamedTuple):
    """The kind of number that an option takes, and whether it takes several."""

    kind: type
    several: bool


def parse(kind: type, prog: str, given: Sequence[str]) -> Parsed:
    """Read a command from its arguments, and whether they ask for JSON.

    Args:
        kind: a dataclass. Its docstring is the help of the command, and the string below a field is
            the help of that option.
        prog: the command's name in its help.
        given: the arguments after the name.

    Raises:
        InputError: a word is none of the choices of its option, where the message offers the
            nearest; an option of several words has fewer; or an option of one value is given twice
            with different ones.
        SystemExit: the arguments are wrong otherwise (status 2), or ask for the help (status 0).

    >>> @dataclasses.dataclass(frozen=True)
    ... class Command:
    ...     limit: int | None = None
    >>> parse(Command, "sslens compare", ["--limit", "64", "--json"])
    Parsed(command=Command(limit=64), json=True)
    """
    require_own_options(kind, prog, given)
    require_own_words(kind, prog, given)
    given = _join_repeated(_list_several(kind), given)
    _require_choices(_list_choices(kind), given)
    _require_numbers(_list_numbers(kind), given)
    _require_words(_list_words(kind), given)
    registry = ConstructorRegistry()
    registry.struct_rule(_read_fields)
    own = {entry.name for entry in dataclasses.fields(kind)}
    asked: Any = tyro.cli(
        kind if JSON in own else _add_json(kind),
        prog=prog,
        description=inspect.cleandoc(kind.__doc__ or ""),
        args=given,
        registry=registry,
    )
    if JSON in own:  # the command prints its JSON itself
        return Parsed(asked, False)
    return Parsed(kind(**{name: getattr(asked, name) for name in own}), getattr(asked, JSON))


def _add_json(kind: type) -> type:
    """A command with one more option, `--json`."""
    return dataclasses.make_dataclass(
        kind.__name__,
        [(JSON, bool, dataclasses.field(default=False))],
        bases=(kind,),
        frozen=True,
        namespace={"__module__": kind.__module__, "__doc__": kind.__doc__},
    )


def _list_several(kind: type) -> set[str]:
    """List the options that take any number of values."""
    several = set()
    hints = typing.get_type_hints(kind, include_extras=True)
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if get_origin(base) is tuple and get_args(base)[1:] == (...,):
            several.add(as_option(entry.name, None))
        elif isinstance(base, type) and dataclasses.is_dataclass(base):
            several |= _list_several(base)
    return several


def _join_repeated(several: Collection[str], given: Sequence[str]) -> list[str]:
    """Join the values of an option that is given more than once; tyro takes the last ones alone.

    >>> _join_repeated({"--set"}, ["mae", "--set", "a=1", "--limit", "8", "--set", "b=2"])
    ['mae', '--set', 'a=1', 'b=2', '--limit', '8']

    Raises:
        InputError: an option of one value is given with two.
    """
    parts: list[list[str]] = [[]]
    for word in given:
        if word.startswith("--"):
            parts.append([])
        parts[-1].append(word)
    first: dict[str, list[str]] = {}
    kept = parts[:1]
    for part in parts[1:]:
        name, equals, value = part[0].partition("=")
        name = name.replace("_", "-")
        values = [value, *part[1:]] if equals else part[1:]
        before = first.get(name)
        if before is None:
            first[name] = [name, *values] if name in several else part
            kept.append(first[name])
        elif name in several:
            before.extend(values)
        else:
            _require_equal(name, before, values)
    return [word for part in kept for word in part]


def _require_equal(name: str, before: Sequence[str], values: Sequence[str]) -> None:
    """Refuse two values of an option that takes one; words that stand behind it would be lost."""
    _, equals, value = before[0].partition("=")
    earlier = [value, *before[1:]] if equals else before[1:]
    if list(earlier) != list(values):
        both = " and ".join(" ".join(each) or "nothing" for each in (earlier, values))
        raise InputError(f"{name} is given twice, with {both}: give it once.")


def _list_choices(kind: type) -> dict[str, Choices]:
    """List the choices of each option that takes one of a few words, or several of them."""
    choices = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        several = get_origin(base) is tuple
        word = get_args(base)[0] if several else _leave_none(base)
        if get_origin(word) is typing.Literal:
            option = as_option(entry.name, None)
            choices[option] = Choices(tuple(map(str, get_args(word))), several)
        elif isinstance(base, type) and dataclasses.is_dataclass(base):
            choices |= _list_choices(base)
    return choices


def _require_choices(choices: Mapping[str, Choices], given: Sequence[str]) -> None:
    """Refuse a word that is none of the choices of its option; tyro offers no nearest one."""
    option, left = "", 0
    for argument in given:
        word = argument
        if argument.startswith("-"):  # "-o" too: no choice begins with it
            option, equals, word = argument.partition("=")
            option = option.replace("_", "-")
            left = 0 if option not in choices else len(given) if choices[option].several else 1
            if not equals:
                continue
        if left > 0 and word not in (*choices[option].words, "None"):
            raise InputError(f'{option} has no "{word}": {nearest(word, choices[option].words)}')
        left -= 1


def _leave_none(hint: Any) -> Any:
    """A type without None, where one other is left."""
    others = [part for part in get_args(hint) if part is not type(None)]
    union = get_origin(hint) in (types.UnionType, typing.Union)
    return others[0] if union and len(others) == 1 else hint


def _list_words(kind: type) -> dict[str, tuple[str, ...]]:
    """List what each option takes that takes a certain number of words, as its help names them."""
    words: dict[str, tuple[str, ...]] = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        base, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        base = _leave_none(base)
        named = [note.metavar for note in notes if getattr(note, "metavar", None)]
        if get_origin(base) is tuple and Ellipsis not in get_args(base) and named:
            words[as_option(entry.name, None)] = tuple(named[0].split())
        elif isinstance(base, type) and dataclasses.is_dataclass(base):
            words |= _list_words(base)
    return words


def _require_words(words: Mapping[str, tuple[str, ...]], given: Sequence[str]) -> None:
    """Refuse too few words after an option; tyro shows its own types for them."""
    for at, argument in enumerate(given):
        wanted = words.get(argument.replace("_", "-"))
        if wanted is None:
            continue
        after = [*itertools.takewhile(lambda one: not one.startswith("-"), given[at + 1 :])]
        if after != ["None"] and len(after) < len(wanted):
            there = f"{len(after)} ({' '.join(after)})" if after else "none"
            raise InputError(
                f"{argument} takes {spell_count(len(wanted), 'word')}, {' '.join(wanted)}, and has"
                f" {there}: give all of them."
            )


def _list_numbers(kind: type) -> dict[str, Numbers]:
    """List the options that take a number, or several."""
    numbers: dict[str, Numbers] = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for entry in dataclasses.fields(kind):
        hint = hints[entry.name]
        base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        several = get_origin(base) is tuple and get_args(base)[1:] == (...,)
        number = get_args(base)[0] if several else base
        parts = [part for part in get_args(number) or (number,) if part is not type(None)]
        if get_origin(number) in (None, types.UnionType) and parts in ([int], [float]):
            numbers[as_option(entry.name, None)] = Numbers(parts[0], several)
        elif isinstance(base, type) and dataclasses.is_dataclass(base):
            numbers |= _list_numbers(base)
    return numbers


def _require_numbers(numbers: Mapping[str, Numbers], given: Sequence[str]) -> None:
    """Refuse a word where an option takes a number; tyro shows Python's types for it."""
    for at, argument in enumerate(given):
        option, equals, word = argument.partition("=")
        wanted = numbers.get(option.replace("_", "-"))
        if wanted is None:
            continue
        after = itertools.takewhile(lambda one: not one.startswith("--"), given[at + 1 :])
        words = [word] if equals else list(after)[: None if wanted.several else 1]
        for each in words:
            if each != "None":
                _require_number(option, each, wanted)


def _require_number(option: str, word: str, wanted: Numbers) -> None:
    try:
        wanted.kind(word)
    except ValueError as error:
        kind = "whole number" if wanted.kind is int else "number"
        give = "one or more" if wanted.several else "one"
        raise InputError(f'{option} is "{word}", which is no {kind}: give {give}.') from error


def _read_fields(info: StructTypeInfo) -> StructConstructorSpec | None:
    """The fields of a dataclass as tyro wants them; None for any other type."""
    kind: Any = info.type
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return None
    hints = typing.get_type_hints(kind, include_extras=True)
    instance = None if info.default in (MISSING, MISSING_NONPROP) else info.default
    fields = tuple(
        StructFieldSpec(
            name=entry.name,
            type=_mark_checked(hints[entry.name]),
            default=_default(entry) if instance is None else getattr(instance, entry.name),
            helptext=functools.partial(_text, kind, entry.name),
        )
        for entry in dataclasses.fields(kind)
        if entry.init
    )
    return StructConstructorSpec(instantiate=kind, fields=fields)


def _default(entry: "dataclasses.Field[Any]") -> Any:
    if entry.default is not dataclasses.MISSING:
        return entry.default
    if entry.default_factory is not dataclasses.MISSING:
        return entry.default_factory()
    return MISSING_NONPROP


def _mark_checked(hint: Any) -> Any:
    """A type whose defaults tyro takes as they are, and which it reads like the given one."""
    base, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(base) not in (tuple, types.UnionType, typing.Union):
        return hint
    reader = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(hint, set()))
    if isinstance(reader, PrimitiveConstructorSpec):
        reader = dataclasses.replace(reader, metavar=_leave_none_out(reader.metavar))
    return Annotated[(object, reader, *notes)]


def _leave_none_out(metavar: str) -> str:
    """What the help shows of an option that may be left out, as of one that may not.

    >>> _leave_none_out("{None}|STR"), _leave_none_out("{None,small,vitdet}")
    ('STR', '{small,vitdet}')
    >>> _leave_none_out("{None}|{INT [INT ...]}"), _leave_none_out("INT")
    ('INT [INT ...]', 'INT')
    """
    shown = re.sub(r"^\{None\}\||^(\{)None,", r"\1", metavar)
    whole = re.fullmatch(r"\{([^{}]* [^{}]*)\}", shown)
    return whole[1] if whole and shown != metavar else shown


def _text(kind: type, name: str) -> str | None:
    """The text of an option: the string that stands below its field."""
    return _texts(kind).get(name, JSON_TEXT if name == JSON else None)


@functools.cache
def _texts(kind: type) -> dict[str, str]:
    path = getattr(sys.modules[kind.__module__], "__file__", None)
    if path is None:
        return {}
    texts: dict[str, str] = {}
    for node in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            for field, below in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                    and isinstance(below.value.value, str)
                ):
                    texts[field.target.id] = " ".join(below.value.value.split())
    return texts
