"""What decides the outputs of a network beside its weights and the settings that its modules print:
the source of the user's own classes, and what their objects hold."""

import functools
import hashlib
import inspect
import sysconfig
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: what every module holds
_COMMON = frozenset(vars(nn.Module()))
#: what decides the outputs of modules of libraries, which do not print it
_UNPRINTED = ("num_attention_heads", "batch_first", "norm_first", "activation")
#: numbers of a tensor at most that is no weight and counts: larger ones are results that are kept
_LARGEST = 1024
#: objects in objects that are looked into
_DEPTH = 8
_NUMBERS = (int, float, complex, np.generic)
_PLAIN = (*_NUMBERS, str, bytes, Enum, PurePath, range, slice, torch.dtype, type(None))


def describe_code(network: nn.Module) -> bytes:
    """Describe the user's own classes in a network by their source, and what their modules hold
    beside weights and other modules, such as a temperature or an activation; of modules of
    libraries what they do not print.

    >>> describe_code(nn.Linear(2, 2))
    b''
    >>> one, two = (nn.MultiheadAttention(8, 2, batch_first=first) for first in (True, False))
    >>> describe_code(one)
    b" {'batch_first': True}\\n"
    >>> describe_code(one) == describe_code(two)
    False
    """
    kinds = {type(module) for module in network.modules()}
    ordered = sorted(kinds, key=lambda kind: (kind.__qualname__, kind.__module__))
    sources = [_read_source(kind) for kind in ordered if not _is_installed(kind)]
    return "".join([*sources, *_describe_modules(network)]).encode()


def _describe_modules(network: nn.Module) -> Iterator[str]:
    """What the modules hold, in the order of the network."""
    seen: set[int] = set()
    for name, module in network.named_modules():
        own = vars(module)
        names = own.keys() - _COMMON
        if _is_installed(type(module)):
            names = {one for one in _UNPRINTED if one in own}
        held = {one: own[one] for one in sorted(names) if not isinstance(own[one], nn.Module)}
        if held:
            yield f"{name} {_spell(held, seen)}\n"


def _is_installed(kind: Any) -> bool:
    """Whether a class or a function is of Python or of an installed library."""
    installed = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    try:
        return str(inspect.getsourcefile(kind)).startswith(installed)
    except (OSError, TypeError):  # made in a prompt, or of C
        return False


def _read_source(kind: Any) -> str:
    """The source of a class or a function, or its name where there is none."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return str(kind.__qualname__)


def _spell(value: Any, seen: set[int], depth: int = 0) -> str:
    """Spell a value, the same in every process that makes it in the same way; of an object that was
    spelled before, and of those of libraries, the class."""

    def inner(one: Any) -> str:
        return _spell(one, seen, depth + 1)

    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Tensor | np.ndarray):
        return _spell_numbers(value)
    if depth == _DEPTH or isinstance(value, nn.Module):
        return kind
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {inner(one)}' for key, one in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(inner, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(inner, value)))}}}"
    if isinstance(value, functools.partial):
        return f"{inner(value.func)}({inner(value.args)}, {inner(value.keywords)})"
    if callable(value) and hasattr(value, "__qualname__"):
        name = f"{getattr(value, '__module__', '')}.{value.__qualname__}"
        return name if _is_installed(value) else f"{name} {_read_source(value)}"
    if id(value) in seen or not _is_told_by_parts(value):
        return kind
    seen.add(id(value))
    return f"{kind} {inner(vars(value))}"


def _is_told_by_parts(value: Any) -> bool:
    """Whether an object is what it holds: the user's own, or settings."""
    settings = isinstance(value, SimpleNamespace | Namespace) or is_dataclass(value)
    named = type(value).__name__.endswith("Config")
    return hasattr(value, "__dict__") and (settings or named or not _is_installed(type(value)))


def _spell_numbers(value: Tensor | np.ndarray) -> str:
    """The digest of few numbers, and nothing of many."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if array.size > _LARGEST:
        return "numbers"
    return f"{array.shape} {array.dtype} {hashlib.sha256(array.tobytes()).hexdigest()}"
