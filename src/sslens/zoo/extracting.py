"""The weights of a checkpoint file alone, in a safetensors file: where a file also holds objects of
Python's classes, of which none is built."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from sslens.errors import InputError
from sslens.zoo import plain
from sslens.zoo.arrays import Array
from sslens.zoo.files import Contents, read_contents
from sslens.zoo.told import read_told
from sslens.zoo.told_colours import read_colours

#: the entry of the header that tells the state dicts, and what stood beside them in words
HEADER = "sslens.extracted"
SUFFIX = ".safetensors"


def extract_weights(path: Path, out: Path) -> int:
    """Write the tensors of a checkpoint file to a safetensors file; returns how many there are.

    Objects in the file are neither built nor run. The state dicts, which safetensors does not have,
    are told in the header, so that the new file loads as the old one would.

    Args:
        path: the checkpoint file.
        out: the file to be written, which must not be there yet; it ends in .safetensors.

    Raises:
        InputError: the file cannot be read, or `out` cannot be written.
    """
    if out.suffix != SUFFIX:
        raise InputError(
            f"{out} does not end in {SUFFIX}", mend="give {extract=weights.safetensors}"
        )
    if out.exists():
        raise InputError(f"{out} is there already", mend="give another {extract}")
    contents = read_contents(path, objects=True)
    told = {
        "states": list(contents.states),
        "rest": dict(contents.rest),
        "epoch": contents.epoch,
        "settings": {group.where: dict(group.numbers) for group in contents.told},
        "colours": contents.colours and asdict(contents.colours),
    }
    several = len(contents.states) > 1
    arrays = {
        f"{state}/{key}" if several else key: value
        for state, weights in contents.states.items()
        for key, value in weights.items()
    }
    plain.write_safetensors(out, arrays, {HEADER: json.dumps(told)})
    return len(arrays)


def restore(contents: Contents) -> Contents:
    """Put the tensors of a file that `extract_weights` wrote into their state dicts again; other
    contents are returned as they are.

    Raises:
        InputError: the entry of the header is none of `extract_weights`'s.
    """
    if HEADER not in contents.header:
        return contents
    try:
        told = json.loads(contents.header[HEADER])
        names, rest, epoch = told["states"], told["rest"], told["epoch"]
        whole = isinstance(names, list) and all(isinstance(name, str) for name in names)
        words = isinstance(rest, dict) and all(isinstance(word, str) for word in rest.values())
        if not (whole and names and words and (epoch is None or type(epoch) is int)):
            raise ValueError
        settings = read_told(told.get("settings", {}))
        colours = read_colours(told.get("colours"))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{contents.path} has an entry {HEADER} in its header that sslens doctor did not write:"
            " get the file again."
        ) from error
    states: dict[str, dict[str, Array]] = {name: {} for name in names}
    for key, value in contents.states[""].items():
        state, _, inner = key.rpartition("/") if len(names) > 1 else (names[0], "", key)
        if state not in states:
            raise InputError(
                f"{contents.path} holds {key}, in no state dict that its header tells."
            )
        states[state][inner] = value
    return replace(contents, states=states, rest=rest, epoch=epoch, told=settings, colours=colours)
