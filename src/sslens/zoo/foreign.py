"""Objects of Python's classes in files of weights: what is said of a file that holds some, and the
weights beside or in them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sslens.errors import InputError
from sslens.zoo.makers import Beginning
from sslens.zoo.stored import OddTensor, StoredTensor
from sslens.zoo.values import Foreign

#: modules that objects of trainings come from, and no code that was written to do harm
USUAL = (
    "torch",
    "numpy",
    "timm",
    "torchvision",
    "transformers",
    "models",
    "__main__",
    "vision_transformer",
    "deit",
    "datetime",
    "pathlib",
    "omegaconf",
    "uuid",
    "decimal",
    "typing",
    "enum",
    "collections",
    "fractions",
    "types",
)
#: modules whose functions reach the machine
HARMFUL = (
    "builtins",
    "__builtin__",
    "posix",
    "nt",
    "os",
    "sys",
    "subprocess",
    "shutil",
    "socket",
    "importlib",
    "runpy",
    "pty",
    "ctypes",
    "pickle",
    "_pickle",
    "cPickle",
    "marshal",
    "code",
    "operator",
    "functools",
    "webbrowser",
    "urllib",
    "requests",
    "multiprocessing",
    "threading",
    "signal",
    "tempfile",
    "glob",
    "io",
    "_io",
)
#: how a network is given that no layout reads
OWN = (
    "a network of your own code is given as MODULE:FUNCTION, a function that builds it and loads"
    " its weights, or by sslens.wrap"
)
#: the modules of tensors that are cut up among processes; their files ask for `getattr` too
SHARDED, SHARDING = "torch.distributed.", ("__builtin__.getattr", "builtins.getattr")
#: how deep modules may lie in one another, and how many are looked at
DEPTH, MOST = 64, 100_000


def is_harmful(name: str) -> bool:
    """Whether a name is of a function that no object of a training is made by.

    >>> is_harmful("posix.system"), is_harmful("pathlib.Path.touch"), is_harmful("pathlib.Path")
    (True, True, False)
    """
    module, _, last = name.rpartition(".")
    root = module.split(".")[0]
    if root in HARMFUL:
        return True
    is_class = last.lstrip("_")[:1].isupper()
    return not is_class and (root not in USUAL or module.split(".")[-1][:1].isupper())


def make_refusal(path: Path, called: tuple[str, ...], tree: Any, states: list[str]) -> InputError:
    """Return the error about a file with objects, and the way to its weights.

    Args:
        path: the file.
        called: the names of the classes and functions of the objects.
        tree: what the file holds, with the objects not built.
        states: the keys that lead to the tensors by name, as "model/backbone".
    """
    harmful = [name for name in called if is_harmful(name)]
    sharded = next((name for name in called if name.startswith(SHARDED)), None)
    if sharded is not None and set(harmful) <= set(SHARDING):
        return InputError(
            f"{path} was refused, and nothing in it was run: it holds one process's parts of"
            f" tensors that were cut up among several ({sharded}). Save them whole in the training,"
            " with StateDictType.FULL_STATE_DICT of FSDP, or full_state_dict=True of"
            " torch.distributed.checkpoint, and give that file."
        )
    if harmful:
        return InputError(
            f"{path} was refused, and nothing in it was run: its pickle asks for {harmful[0]},"
            " which no file of weights needs. Do not open it with other tools unless you trust"
            " where it comes from."
        )
    said = (
        f"{path} was refused, and nothing in it was run: it names {called[0]}, so it holds objects"
        " of Python's beside or instead of weights. Where it was made and is trusted, save the"
        " network's state_dict() alone"
    )
    line = write_line(path, tree, states)
    if line is None:
        told = f"{said} with torch.save, and give that file."
    else:
        told = f"{said}, and give that file: {line}."
    written = "or have sslens doctor write the weights by {extract=weights.safetensors}, which"
    written += " builds no object"
    own = isinstance(tree, Foreign) and line is not None
    return InputError(told, mend=f"{written}; {OWN}" if own else written)


def write_line(path: Path, tree: Any, states: list[str]) -> str | None:
    """Write the line of Python that saves the weights of a file alone; None where none are seen."""
    load = f"import torch; c = torch.load({str(path)!r}, map_location='cpu', weights_only=False)"
    save = "'weights.pth')"
    if isinstance(tree, Foreign):
        is_module = list_tensors(tree)
        return f"{load}; torch.save(c.state_dict(), {save}" if is_module else None
    if not isinstance(tree, Mapping) or not states:
        return None
    tops = list(dict.fromkeys(state.split("/")[0] for state in states))
    modules = [key for key in tops if isinstance(tree.get(key), Foreign)]
    if "" in tops or any("/" in state for state in states if state.split("/")[0] not in modules):
        tensors = "{k: v for k, v in c.items() if isinstance(v, torch.Tensor)}"
        if tops == [""]:
            return f"{load}; torch.save({tensors}, {save}"
        return None
    if modules:
        parts = ", ".join(f"{key!r}: c[{key!r}].state_dict()" for key in modules)
        return f"{load}; torch.save({{{parts}}}, {save}"
    tensors = "{n: v for n, v in c[k].items() if isinstance(v, torch.Tensor)}"
    return f"{load}; torch.save({{k: {tensors} for k in {tops}}}, {save}"


def list_tensors(
    module: Foreign, left: list[int] | None = None
) -> dict[str, StoredTensor | OddTensor]:
    """List the tensors of a network that was saved as an object, by their names; none where it is
    no network.

    Args:
        module: the object.
        left: how many more objects are looked at, counted down; 100,000 unless given.
    """
    return dict(_walk(module, "", DEPTH, [MOST] if left is None else left))


def _walk(module: Any, prefix: str, depth: int, left: list[int]) -> Iterator[tuple[str, Any]]:
    left[0] -= 1
    state = module.state if isinstance(module, Foreign) else None
    if not isinstance(state, Mapping) or depth < 0 or left[0] < 0:
        return
    for group in ("_parameters", "_buffers"):
        values = state.get(group)
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(name, str) and isinstance(value, StoredTensor | OddTensor):
                yield prefix + name, value
    modules = state.get("_modules")
    for name, value in modules.items() if isinstance(modules, Mapping) else ():
        if isinstance(name, str):
            yield from _walk(value, f"{prefix}{name}.", depth - 1, left)


def open_up(value: Any, depth: int = 6, left: list[int] | None = None) -> Any:
    """Replace what is not built yet in a tree of dictionaries: arrays by their content, networks
    that were saved as objects by their tensors, dictionaries of foreign classes by plain ones."""
    left = [MOST] if left is None else left
    closed = (dict, Foreign, Beginning)
    if isinstance(value, Beginning):
        return value.made
    if isinstance(value, Foreign):
        tensors = list_tensors(value, left)
        value = tensors or value.items or value
    if isinstance(value, dict) and depth and left[0] > 0:
        left[0] -= len(value)
        return {
            key: open_up(part, depth - 1, left) if isinstance(part, closed) else part
            for key, part in value.items()
        }
    return value
