"""Records: frozen dataclasses that are read strictly from the mappings of YAML files."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from sslens.errors import InputError, nearest

Record = TypeVar("Record")

KINDS = {int: "a whole number", bool: "true or false", str: "text", float: "a number"}


def read_record(kind: type[Record], value: Any, where: str) -> Record:
    """Read a record of a dataclass from a mapping, and the records in it.

    Every field without a default must be there, every key must be a field's, and every value must
    be of its field's kind: `int`, `float`, `str`, `bool`, a `Literal`, another dataclass, a tuple
    or a `dict[str, …]` of these, or one of these or None. A whole number will do for a `float`.

    Args:
        kind: the dataclass.
        value: a mapping such as PyYAML makes.
        where: what the mapping is of, for messages, e.g. "the card cards/mae.yaml".

    Raises:
        InputError: the message names the key and what was expected of it.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Crop:
    ...     side: int
    ...     centre: tuple[float, ...] = ()
    >>> read_record(Crop, {"side": 224, "centre": [0, 0.5]}, "the crop")
    Crop(side=224, centre=(0.0, 0.5))
    >>> read_record(Crop, {"sid": 224}, "the crop")
    Traceback (most recent call last):
    sslens.errors.InputError: The crop has an unknown key sid: did you mean side?
    """
    record: Record = _convert(kind, value, where, "")
    return record


def explain_kind(where: str, key: str, value: Any, expected: str) -> str:
    """Say of which kind a value should be.

    >>> explain_kind("the crop", "side", "a", "a whole number")
    "In the crop, side is 'a': expected a whole number."
    """
    return f"In {where}, {key or 'the whole'} is {value!r}: expected {expected}."


def _convert(kind: Any, value: Any, where: str, key: str) -> Any:
    """The value as `kind`, or an InputError that names the key and the file."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, where, key)
    if origin is Literal:
        if any(value is word or (isinstance(value, str) and value == word) for word in inside):
            return value
        raise InputError(explain_kind(where, key, value, f"one of {', '.join(map(str, inside))}"))
    if origin is tuple:
        return _sequence(inside, value, where, key)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise InputError(explain_kind(where, key, value, "a mapping"))
        return {str(n): _convert(inside[1], part, where, f"{key}.{n}") for n, part in value.items()}
    if origin is types.UnionType:
        if value is None and type(None) in inside:
            return None
        return _convert(
            next(option for option in inside if option is not type(None)), value, where, key
        )
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InputError(explain_kind(where, key, value, KINDS[kind]))
    return value


def _sequence(inside: tuple[Any, ...], value: Any, where: str, key: str) -> tuple[Any, ...]:
    """The values of a list, each as its own kind."""
    if not isinstance(value, list):
        raise InputError(explain_kind(where, key, value, "a list"))
    kinds = [inside[0]] * len(value) if inside[-1] is Ellipsis else list(inside)
    if len(kinds) != len(value):
        raise InputError(explain_kind(where, key, value, f"a list of {len(kinds)}"))
    return tuple(_convert(item, part, where, key) for item, part in zip(kinds, value, strict=True))


#: evaluated once a class, not once a record
_hints = functools.cache(typing.get_type_hints)


def _record(kind: type, value: Any, where: str, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise InputError(explain_kind(where, key, value, "a mapping"))
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{key}." if key else ""
    start = f"{where[0].upper()}{where[1:]}"
    for given in value:
        if given not in fields:
            raise InputError(
                f"{start} has an unknown key {prefix}{given}: {nearest(str(given), fields)}"
            )
    missing = [
        name
        for name, field in fields.items()
        if name not in value
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{start} lacks {prefix}{missing[0]}; say null where nothing is known.")
    hints = _hints(kind)
    return kind(
        **{
            name: _convert(hints[name], part, where, f"{prefix}{name}")
            for name, part in value.items()
        }
    )
