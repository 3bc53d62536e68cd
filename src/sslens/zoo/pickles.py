"""Pickles: those of NumPy arrays, which detectron2 releases, read without running code; and what is
said of pickles that are refused."""

import codecs
import collections
import pickle
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from sslens.errors import InputError
from sslens.zoo.arrays import Array

_MADE = np.zeros(1).__reduce__()[0]
_SCALAR: Any = np.float64(0).__reduce__()[0]
#: what a pickle of arrays names. NumPy 2 moved two of them to `numpy._core`; files name either
ALLOWED: Mapping[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": _MADE,
    "numpy._core.multiarray._reconstruct": _MADE,
    "numpy.core.multiarray.scalar": _SCALAR,
    "numpy._core.multiarray.scalar": _SCALAR,
    "collections.OrderedDict": collections.OrderedDict,
    "_codecs.encode": codecs.encode,  # as which bytes are written for Python 2
}


@final
class _Unpickler(pickle.Unpickler):
    """Makes arrays, and calls nothing else."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for, if it is allowed."""
        found = ALLOWED.get(f"{module}.{name}")
        if found is None:
            raise InputError(explain_refusal(self.path, f"{module}.{name}"))
        return found

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references out of the file, which a pickle of torch has."""
        raise pickle.UnpicklingError(f"it refers to {str(pid)[:40]}, which is not in it")


def read_arrays(path: Path) -> dict[Any, Any]:
    """Read a pickle of named NumPy arrays, as detectron2's `.pkl` files are; arrays of numbers
    become `Array`.

    Nothing but NumPy's own functions that make arrays and numbers is ever called.

    Raises:
        InputError: the file names anything else, is damaged, or holds no dictionary.
    """
    try:
        with path.open("rb") as file:
            tree = _Unpickler(file, path).load()
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into this machine's memory ({path.stat().st_size:,} bytes)."
        ) from error
    except Exception as error:  # damaged bytes raise a dozen kinds
        raise make_damage_error(path, error) from error
    if not isinstance(tree, Mapping):
        raise InputError(
            f"{path} holds a {type(tree).__name__}, not the named weights of a network: save its"
            " state_dict()."
        )
    return dict(_convert(tree))


def _convert(tree: Mapping[Any, Any]) -> dict[Any, Any]:
    converted: dict[Any, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            converted[key] = _convert(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            native = value.astype(value.dtype.newbyteorder("="), copy=False)
            converted[key] = Array(native, native.dtype.name)
        else:
            converted[key] = value
    return converted


def make_damage_error(path: Path, error: Exception) -> InputError:
    """Return the error of a file that is cut off or damaged, and the reader's reason."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"{path} is cut off or damaged ({path.stat().st_size:,} bytes; {reason}): compare its size"
        " with the source's and get it again."
    )


def find_called(path: Path) -> str | None:
    """Return the first name in a bare pickle of a protocol that torch does not write, found without
    running it; None where there is none."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes()):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                return ".".join(texts[-2:])
            if isinstance(argument, str):
                texts.append(argument)
    except (ValueError, OSError):
        pass
    return None


def explain_refusal(path: Path, name: str) -> str:
    """Return the sentence about a name that a pickle would call."""
    module = name.split(".")[0]
    if module in (
        "torch",
        "numpy",
        "timm",
        "torchvision",
        "transformers",
        "models",
        "__main__",
        "vision_transformer",
        "deit",
    ):
        return (
            f"{path} was refused, and nothing in it was run: it names {name}, so it holds objects"
            " of Python's beside or instead of weights. Where it was made and is trusted, save the"
            " network's state_dict() with torch.save and give that file."
        )
    return (
        f"{path} was refused, and nothing in it was run: its pickle asks for {name}, which no file"
        " of weights needs. Do not open it with other tools unless you trust where it comes from."
    )
