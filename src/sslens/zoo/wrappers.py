"""Names that torch puts into the middle of keys where modules are compiled, sharded or recomputed:
they are taken out."""

import re
from collections.abc import Mapping
from dataclasses import replace

from sslens.errors import InputError
from sslens.zoo.files import Contents

_WRAPPER = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|"
    r"_fpw_module)\."
)


def strip_wrappers(key: str) -> str:
    """Take the names of wrappers out of a key.

    >>> strip_wrappers("blocks.0._checkpoint_wrapped_module._orig_mod.norm1.weight")
    'blocks.0.norm1.weight'
    """
    return _WRAPPER.sub("", key) if "_m" in key else key


def unwrap(contents: Contents) -> tuple[Contents, Mapping[tuple[str, str], str]]:
    """Take the names of wrappers out of all keys; returns the contents, and the key in the file by
    state dict and new key, where the two differ.

    Raises:
        InputError: two keys become the same.
    """
    names: dict[tuple[str, str], str] = {}
    states = {}
    for state, weights in contents.states.items():
        plain = {}
        for key, value in weights.items():
            short = strip_wrappers(key)
            if short in plain:
                raise InputError(
                    f"{contents.path} has both {key} and {names.get((state, short), short)}, which"
                    " are one key without the names of wrappers: it was put together from two"
                    " files. Give one of them."
                )
            plain[short] = value
            if short != key:
                names[state, short] = key
        states[state] = plain
    return (replace(contents, states=states) if names else contents), names
