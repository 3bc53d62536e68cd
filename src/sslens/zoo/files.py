"""Reading a checkpoint file: safetensors, or a pickle of which no code is run; only tensors come
out.

A `.pth` file is a pickle, which can name any function of Python to be called with any arguments.
`torch.load` with `weights_only=True` calls only functions that make tensors. Four more names occur
in the authors' training files (DINO's hold their arguments and NumPy numbers); these four are
allowed by name, and nothing else ever is.
"""

import argparse
import contextlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sslens.errors import InputError
from sslens.zoo import pickles, plain
from sslens.zoo.arrays import Array
from sslens.zoo.hints import NONE, Hints

if TYPE_CHECKING:
    from torch import Tensor

Leaf = TypeVar("Leaf")

#: what makes a number of NumPy's from its bytes
_SCALAR: Any = np.float64(0).__reduce__()[0]
#: what a pickle may name beside tensors. NumPy 2 moved the last to `numpy._core`; files name either
#: place
ALLOWED: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.dtypes.Float64DType,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
#: how deep state dicts may lie in one another
DEPTH = 5
OPTIMISER = {"state", "param_groups"}
_GLOBAL = re.compile(
    r"GLOBAL ([\w.]+)|but got <class '([\w.]+)'>|Unsupported (?:class|global|type) ([\w.]+)|global"
    r" ([\w.]+\.\w+)"
)
_FOREIGN = {
    b"<": (
        "a web page, not a checkpoint: the download gave an error or a login page. Download it"
        " again and look at its size"
    ),
    b"version https://git-lfs": (
        "a Git LFS pointer, not the file it points to: run `git lfs pull` where it came from"
    ),
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"\x89HDF": "an HDF5 file (Keras?): only PyTorch's checkpoints and safetensors are read",
    b"ustar": "a tar archive: unpack it first",
}


@dataclass(frozen=True)
class Beside:
    """What files beside the weights tell of a network.

    Attributes:
        name: the name of the file that tells it.
        kind: the kind of network in that file's words ("vit", "clip_vision_model").
        hints: what it tells of the architecture.
        transform: settings of the evaluation transform; `ratio` is the side to which images are
            resized, over the side that is cut out.
        notes: sentences that the user should know.
    """

    name: str = ""
    kind: str = ""
    hints: Hints = NONE
    transform: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """The contents of a checkpoint file: its tensors by state dict, and notes on the rest.

    Attributes:
        path: the file.
        states: the state dicts, each a flat dict, by the keys that lead to it (`model`, `teacher`;
            "" for tensors at the top).
        rest: what else the file holds (epoch, args, optimiser), in words.
        header: the header of a safetensors file.
        epoch: the epoch that the file says, or None.
        beside: what files beside it tell.
    """

    path: Path
    states: Mapping[str, Mapping[str, Array]]
    rest: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None
    beside: Beside = Beside()


def read_contents(path: Path) -> Contents:
    """Read a checkpoint file: without torch where it has the usual form, or is detectron2's pickle
    of NumPy arrays (.pkl), else with torch.

    Raises:
        InputError: the file is not there, empty, cut off, damaged, of another kind, or names code
            to be run.
    """
    start = _read_start(path)
    if _is_safetensors(path, start):
        try:
            header, arrays = plain.read_safetensors(path)
        except plain.NotPlain:
            header, tensors = read(path)
            arrays = {key: convert_to_array(value) for key, value in tensors.items()}
        return Contents(path, {"": arrays}, header=header)
    tree: Mapping[Any, Any] | None = None
    try:
        if path.suffix == ".pkl":
            tree = pickles.read_arrays(path)
        elif start.startswith(b"PK"):
            tree = plain.read_pickle(path)
    except plain.NotPlain:
        pass
    if tree is not None:
        states = _require_states(path, tree, Array)
        rest = _describe_rest(tree, Array)
    else:
        from torch import Tensor

        tree = _unpickle(path, start)
        states = {
            name: {key: convert_to_array(value) for key, value in tensors.items()}
            for name, tensors in _require_states(path, tree, Tensor).items()
        }
        rest = _describe_rest(tree, Tensor)
    epoch = tree.get("epoch")
    return Contents(path, states, rest, epoch=epoch if isinstance(epoch, int) else None)


def read_tensors(path: Path) -> "dict[str, dict[str, Tensor]]":
    """Read the tensors of a checkpoint file with torch, by the state dict that they are in.

    Raises:
        InputError: for the same reasons as `read_contents`.
    """
    from torch import Tensor

    start = _read_start(path)
    if _is_safetensors(path, start):
        return {"": read(path)[1]}
    states = _require_states(path, _unpickle(path, start), Tensor)
    return {
        name: {key: value.detach() for key, value in weights.items()}
        for name, weights in states.items()
    }


def convert_to_array(tensor: "Tensor") -> Array:
    """Convert a torch tensor to an `Array`; numbers of types that NumPy lacks become float32,
    except bfloat16, which is kept as bits."""
    import torch

    kind = str(tensor.dtype).removeprefix("torch.")
    value = tensor.detach()
    if kind == "bfloat16":
        return Array(value.contiguous().view(torch.int16).numpy().view(np.uint16), kind)
    if kind.startswith("float8"):
        return Array(value.float().numpy(), kind)
    return Array(value.numpy(), kind)


def _is_safetensors(path: Path, start: bytes) -> bool:
    return path.suffix == ".safetensors" or start[8:9] == b"{"


def _require_states(path: Path, tree: Any, leaf: type[Leaf]) -> dict[str, dict[str, Leaf]]:
    """Every dict of named tensors in what a pickle holds.

    Raises:
        InputError: there is none.
    """
    if isinstance(tree, leaf) or not isinstance(tree, Mapping):
        raise InputError(
            f"{path} holds a {type(tree).__name__}, not the named weights of a network: save its"
            " state_dict()."
        )
    states = dict(_find_states(tree, leaf))
    if states:
        return states
    if "optimizer" in tree or "opt" in tree or set(tree) >= OPTIMISER:
        raise InputError(
            f"{path} holds the state of an optimiser and no network: give the file of that training"
            " that holds the weights, the one that its evaluation loads."
        )
    raise InputError(
        f"{path} holds no tensors by name (it has"
        f" {', '.join(map(str, list(tree)[:5])) or 'nothing'})."
    )


def read(path: Path) -> "tuple[dict[str, str], dict[str, Tensor]]":
    """Read the header and the tensors of a safetensors file.

    Raises:
        InputError: the file is truncated, or not of this format.
    """
    with open_safetensors(path) as file:
        return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file with its library, for the time of a `with` block.

    Raises:
        InputError: the file is truncated, or not of this format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except SafetensorError as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({path.stat().st_size:,} bytes; {error}): it"
            " was cut off in writing or copying.",
            mend="copy it again, or go on from the run that wrote it with {resume=True}",
        ) from error


def _read_start(path: Path) -> bytes:
    """The first bytes of a file, once it is known that they may be those of a checkpoint."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the checkpoint file in it.")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    if path.suffix == ".safetensors":
        return start  # whose own reader says what is wrong with it
    if not start:
        raise InputError(
            f"{path} is empty: it was cut off in writing, or the download failed. Get it again."
        )
    for sign, said in _FOREIGN.items():
        if start.lstrip().startswith(sign) or (sign == b"ustar" and start[257:262] == sign):
            raise InputError(f"{path} is {said}.")
    return start


def _unpickle(path: Path, start: bytes) -> Any:
    import torch

    zipped = start.startswith(b"PK")
    if zipped:
        _require_checkpoint(path)
    elif not start.startswith(b"\x80"):
        raise InputError(
            f"{path} is no checkpoint: it begins with neither a safetensors header nor a PyTorch"
            f" file's (found {start[:8]!r}). Give a .pth, .pt, .tar, .bin or .safetensors file of"
            " weights."
        )
    try:
        with _allow_only(), _silence_warnings():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        match = _GLOBAL.search(str(error))
        name = next(filter(None, match.groups())) if match else pickles.find_called(path)
        if name is None:
            raise pickles.make_damage_error(
                path, EOFError("its pickle ends in the middle or makes no sense")
            ) from error
        raise InputError(pickles.explain_refusal(path, name)) from error
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into this machine's memory ({path.stat().st_size:,} bytes)."
        ) from error
    except Exception as error:  # torch raises a dozen kinds on damaged bytes
        raise pickles.make_damage_error(path, error) from error


def _require_checkpoint(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise pickles.make_damage_error(path, error) from error
    if any(name.endswith("constants.pkl") for name in names):
        raise InputError(
            f"{path} is a TorchScript program, not weights: save the network's state_dict()"
            " instead."
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise InputError(
            f"{path} is a zip file of something else (it holds"
            f" {', '.join(names[:3]) or 'nothing'}), not a PyTorch checkpoint."
        )


@contextlib.contextmanager
def _allow_only() -> Iterator[None]:
    """Within the block `ALLOWED` alone may be named; what other libraries of this process allowed
    for themselves may not."""
    import torch

    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(ALLOWED)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


@contextlib.contextmanager
def _silence_warnings() -> Iterator[None]:
    """Old files make torch and NumPy warn about their own past (TypedStorage, numpy.core), of which
    a user can mend nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _find_states(
    tree: Mapping[Any, Any], leaf: type[Leaf], at: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Leaf]]]:
    """Every dict of named tensors in a tree, but for those of optimisers."""
    if set(tree) >= OPTIMISER:
        return
    tensors = {
        key: value
        for key, value in tree.items()
        if isinstance(key, str) and isinstance(value, leaf)
    }
    if tensors:
        yield at, tensors
    if depth < DEPTH:
        for key, value in tree.items():
            if isinstance(value, Mapping) and isinstance(key, str):
                yield from _find_states(value, leaf, f"{at}/{key}" if at else key, depth + 1)


def _describe_rest(tree: Mapping[Any, Any], leaf: type) -> dict[str, str]:
    """What stands at the top beside weights, in words."""
    descriptions = {}
    for key, value in tree.items():
        if isinstance(value, leaf):
            continue
        if isinstance(value, Mapping):
            if set(value) >= OPTIMISER:
                descriptions[str(key)] = "an optimiser's state"
            elif not any(True for _ in _find_states(value, leaf)):
                descriptions[str(key)] = f"{len(value)} settings"
        elif isinstance(value, argparse.Namespace):
            descriptions[str(key)] = f"{len(vars(value))} arguments"
        elif value is None or isinstance(value, (str, int, float, bool, np.generic)):
            descriptions[str(key)] = str(value)[:60]
        else:
            descriptions[str(key)] = type(value).__name__
    return descriptions
