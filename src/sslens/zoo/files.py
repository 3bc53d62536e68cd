"""Reading a checkpoint file: safetensors, or a pickle of which no code is run; only tensors come
out.

A `.pth` file is a pickle, which can name any function of Python to be called with any arguments.
Here a machine of our own carries it out (`machine.py`), which makes plain values and tensors and
never calls what a file names. All numbers are read into memory of our own, so that the file may
change afterwards.
"""

import argparse
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sslens import tensor_file, whole_file
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.zoo import foreign, numpy_zip, pickles, plain
from sslens.zoo.arrays import Array
from sslens.zoo.hints import NONE, Hints
from sslens.zoo.stored import OddTensor, StoredTensor
from sslens.zoo.told import Told, list_told
from sslens.zoo.told_colours import ToldColours, find_colours
from sslens.zoo.values import Foreign, Named

if TYPE_CHECKING:
    from torch import Tensor

Leaf = TypeVar("Leaf")

#: how deep state dicts may lie in one another, and how many dictionaries are looked at
DEPTH, MOST = 5, 10_000
OPTIMISER = {"state", "param_groups"}
#: what the tensors of one state dict may take when each is copied: so many times the file's bytes,
#: and so many more, since some trainings save one number as if it were many
COPIED, SPREAD = 2, 1 << 26
#: so many times the file's bytes all state dicts may take together, some of which are one
TOGETHER = 16
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
        settings: the network's settings in it, by their names there.
        transform: settings of the evaluation transform; `ratio` is the side to which images are
            resized, over the side that is cut out.
        notes: sentences that the user should know.
    """

    name: str = ""
    kind: str = ""
    hints: Hints = NONE
    settings: Mapping[str, Any] = field(default_factory=dict)
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
        told: its settings that tell a number of attention heads.
        colours: the mean and the standard deviation of images that its settings tell.
    """

    path: Path
    states: Mapping[str, Mapping[str, Array]]
    rest: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None
    beside: Beside = Beside()
    told: tuple[Told, ...] = ()
    colours: ToldColours | None = None


def read_contents(path: Path, *, objects: bool = False) -> Contents:
    """Read a checkpoint file, without torch: a safetensors file, a `.pth` of any age, detectron2's
    pickle of NumPy arrays (.pkl), or NumPy's archive (.npz).

    Args:
        path: the file.
        objects: whether a file is read that holds objects of Python's classes; they are not built,
            and the tensors beside them, or in a network that was saved as an object, are given.

    Raises:
        InputError: the file is not there, empty, cut off, damaged, of another kind, was written
            while it was read, or holds objects.
    """
    start = _read_start(path)
    if _is_safetensors(path, start):
        header, arrays = plain.read_safetensors(path)
        if not arrays:
            raise InputError(f"{path} holds no tensors: it was saved before it had any.")
        return Contents(path, {"": arrays}, header=header)
    if numpy_zip.is_numpy_zip(start):
        return Contents(path, {"": numpy_zip.read_numpy_zip(path)})
    with _open_states(path, start, objects) as (tree, states):
        arrays_of = {
            state: {key: tensor.load() for key, tensor in tensors.items()}
            for state, tensors in states.items()
        }
    epoch = tree.get("epoch")
    rest = _describe_rest(tree, StoredTensor)
    epoch = epoch if isinstance(epoch, int) else None
    told, colours = list_told(tree), find_colours(tree)
    return Contents(path, arrays_of, rest, epoch=epoch, told=told, colours=colours)


def read_tensors(path: Path) -> "dict[str, dict[str, Tensor]]":
    """Read the tensors of a checkpoint file as torch's, by the state dict that they are in.

    Raises:
        InputError: for the same reasons as `read_contents`.
    """
    start = _read_start(path)
    if _is_safetensors(path, start):
        return {"": read(path)[1]}
    with _open_states(path, start) as (_, states):
        return {
            state: {key: _as_torch(tensor) for key, tensor in tensors.items()}
            for state, tensors in states.items()
        }


def locate_tensors(path: Path) -> dict[str, dict[str, StoredTensor]]:
    """Find the tensors of a pickle, by the state dict that they are in, without reading their
    numbers.

    Raises:
        InputError: for the same reasons as `read_contents`.
    """
    with _open_states(path, _read_start(path)) as (_, states):
        return states


def _as_torch(tensor: StoredTensor) -> "Tensor":
    raw = tensor.raw()
    return tensor_file.as_torch(raw if raw.flags.writeable else raw.copy(), tensor.kind)


@contextlib.contextmanager
def _open_states(
    path: Path, start: bytes, objects: bool = False
) -> Iterator[tuple[Mapping[Any, Any], dict[str, dict[str, StoredTensor]]]]:
    """What a pickle holds, and its state dicts, which can be read within the `with` block."""
    if not start.startswith((b"PK", b"\x80")) and path.suffix != ".pkl":
        raise InputError(
            f"{path} is no checkpoint: it begins with neither a safetensors header nor a PyTorch"
            f" file's (found {start[:8]!r}). Give a .pth, .pt, .tar, .bin or .safetensors file of"
            " weights."
        )
    with pickles.open_pickle(path) as pickled:
        tree = foreign.open_up(pickled.tree)
        if pickled.called and not objects:
            seen = dict(_find_states(tree, StoredTensor)) if isinstance(tree, Mapping) else {}
            raise foreign.make_refusal(path, pickled.called, pickled.tree, list(seen))
        if not objects and isinstance(tree, Mapping):
            _require_plain(path, tree)
        states = _require_states(path, tree, StoredTensor)
        for state, tensors in states.items():
            _require_bounded(path, f"of {state} " if state else "", tensors)
        every = {f"{state}/{key}": one for state, own in states.items() for key, one in own.items()}
        _require_bounded(path, "", every, TOGETHER)
        yield tree, states


def _require_plain(path: Path, tree: Mapping[Any, Any]) -> None:
    """Refuse weights that are sparse, quantised or without numbers."""
    for state, tensors in _find_states(tree, OddTensor):
        key, tensor = next(iter(tensors.items()))
        raise InputError(
            f"{path} holds {spell_count(len(tensors), 'tensor')} without plain numbers, the first"
            f" {f'{state}: ' if state else ''}{key}, which is {tensor.what}. Where it was made,"
            " save them as plain floating-point tensors."
        )


def _require_bounded(
    path: Path, of: str, tensors: Mapping[str, StoredTensor], times: int = COPIED
) -> None:
    """Refuse tensors that share numbers so often that copies fill the memory; float8 numbers become
    float32."""
    total, size = sum(tensor.nbytes for tensor in tensors.values()), path.stat().st_size
    if times == TOGETHER:
        total += 3 * sum(one.nbytes for one in tensors.values() if one.kind.startswith("float8"))
    if total > times * size + SPREAD:
        largest = max(tensors, key=lambda key: tensors[key].nbytes)
        raise InputError(
            f"{path} has {size:,} bytes, and the tensors {of}in it"
            f" would take {total:,}, most of them {largest} of shape {tensors[largest].shape}:"
            " numbers that are repeated so often are no weights."
        )


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
        kind = "Tensor" if isinstance(tree, leaf) else type(tree).__name__
        raise InputError(
            f"{path} holds a {kind}, not the named weights of a network: save its state_dict()."
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
    """Read the header and the tensors of a safetensors file, and hold them against its checksums
    where it has some.

    Raises:
        InputError: the file is truncated, damaged or not of this format.
    """
    with plain.explain(path):
        header, tensors = tensor_file.read_torch(path)
    return dict(header), tensors


def _read_start(path: Path) -> bytes:
    """The first bytes of a file, once it is known that they may be those of a checkpoint."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the checkpoint file in it.")
    try:
        with whole_file.open_regular(path) as file:
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


def _find_states(
    tree: Mapping[Any, Any],
    leaf: type[Leaf],
    at: str = "",
    depth: int = 0,
    seen: Iterator[int] | None = None,
) -> Iterator[tuple[str, dict[str, Leaf]]]:
    """Every dict of named tensors in a tree, but for those of optimisers; the first 10,000
    dictionaries are looked at, since one may lie in many others."""
    seen = iter(range(MOST)) if seen is None else seen
    if set(tree) >= OPTIMISER or next(seen, None) is None:
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
                where = f"{at}/{key}" if at else key
                yield from _find_states(value, leaf, where, depth + 1, seen)


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
                descriptions[str(key)] = spell_count(len(value), "setting")
        elif isinstance(value, argparse.Namespace):
            descriptions[str(key)] = f"{len(vars(value))} arguments"
        elif value is None or isinstance(value, str | int | float | np.generic):
            descriptions[str(key)] = str(value)[:60]
        elif isinstance(value, Foreign):
            descriptions[str(key)] = f"an object of {value.name}"
        elif isinstance(value, Named):
            descriptions[str(key)] = value.name
        else:
            descriptions[str(key)] = type(value).__name__
    return descriptions
