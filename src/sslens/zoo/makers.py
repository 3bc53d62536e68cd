"""Plain values in place of what pickles of weights call: tensors, NumPy's numbers and arrays,
settings."""

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np

from sslens.zoo.machine import Maker
from sslens.zoo.stored import AXES, DTYPES, OddTensor, Storage, StoredTensor, rebuild, rebuild_typed
from sslens.zoo.values import Senseless, is_key

#: NumPy's codes of plain number types, with their bytes
NUMBERS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
#: functions of torch that make tensors of other kinds, and what they make
ODD = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_qtensor": "quantised",
    "_rebuild_meta_tensor_no_storage": "on torch's meta device, so without numbers",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_wrapper_subclass": "of a class of its own",
    "_rebuild_device_tensor_from_numpy": "of a device of its own",
    "_rebuild_device_tensor_from_cpu_tensor": "of a device of its own",
}


@final
class Plain:
    """A value of torch's or Python's that is no weight and needs no building: a device, a range, a
    slice."""


@final
class NumberType:
    """A type of NumPy's, for which the pickle gives the byte order later.

    Only numbers of plain types and sizes are ever made; of all other types the name alone is kept.

    Args:
        name: NumPy's name, such as "f8".
    """

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.name = name[:40] if type(name) is str else "without a name"
        text = self.name.lstrip("<>|=")
        self.code, count = text[:1], text[1:]
        self.itemsize = int(count) if count.isdecimal() else 0
        self.is_plain = self.itemsize in NUMBERS.get(self.code, ())
        self.order = "<"

    def build(self, state: Any) -> None:
        """Take the byte order."""
        order = state[1] if type(state) is tuple and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise Senseless("a number type has no byte order")
        self.order = ">" if order == ">" else "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type in NumPy.

        Raises:
            Senseless: its values are no plain numbers.
        """
        if not self.is_plain:
            raise Senseless(f"it has values of NumPy's type {self.name}, which is no plain number")
        return np.dtype(f"{self.order}{self.code}{self.itemsize}")


def count_numbers(dtype: np.dtype[Any], data: Any) -> int:
    """Count the numbers in bytes, or in a text in place of bytes, as Python 2 wrote them."""
    if type(data) not in (bytes, memoryview, str) or len(data) % dtype.itemsize:
        raise Senseless("numbers are not given as bytes, or are cut off")
    return len(data) // dtype.itemsize


def read_numbers(dtype: np.dtype[Any], data: bytes | memoryview | str) -> np.ndarray:
    """Read numbers from bytes, in the byte order of this machine; those of the other order, and
    those of a text, are copied."""
    try:
        own = data.encode("latin1") if isinstance(data, str) else data
    except UnicodeEncodeError as error:
        raise Senseless("numbers are given as a text that is no bytes") from error
    return np.frombuffer(own, dtype).astype(dtype.newbyteorder("="), copy=False)


def make_number(kind: Any, data: Any = None, *_: Any) -> Any:
    """Make a number of NumPy's from its bytes, or a text."""
    if not isinstance(kind, NumberType):
        raise Senseless("a number is of no type")
    if kind.code in ("U", "S") and kind.name.lstrip("<>|=")[1:].isdecimal():
        data = data.encode("latin1") if type(data) is str else data
        if type(data) not in (bytes, memoryview):
            raise Senseless("a text is not given as bytes")
        if kind.code == "S":
            return bytes(data).rstrip(b"\0")
        return str(data, f"utf-32-{_name(kind)}").rstrip("\0")
    if count_numbers(kind.dtype, data) != 1:
        raise Senseless("a number is none or several")
    return read_numbers(kind.dtype, data)[0]


def _name(kind: NumberType) -> str:
    return "be" if kind.order == ">" else "le"


def view_values(kind: NumberType, data: Any, shape: Any, by_columns: bool) -> StoredTensor | Plain:
    """Describe an array of NumPy's by its bytes. They are read when the tensor is: until it is
    known how much memory all tensors take, nothing is copied."""
    dtype = kind.dtype
    count, name = count_numbers(dtype, data), dtype.name
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise Senseless("an array has no shape")
    if len(shape) > AXES or math.prod(shape) != count:
        raise Senseless("an array has a shape of another size")
    if name not in DTYPES:
        return Plain()
    steps = [1]
    for size in shape if by_columns else reversed(shape):
        steps.append(steps[-1] * max(1, size))
    stride = tuple(steps[:-1] if by_columns else reversed(steps[:-1]))
    nbytes = count * dtype.itemsize
    storage = Storage(name, nbytes, lambda: read_numbers(dtype, data).view(np.uint8))
    return StoredTensor(storage, name, 0, shape, stride)


@final
class Beginning:
    """An array of NumPy's whose content the pickle gives later.

    Attributes:
        made: the array, described as a tensor, once its content was given.
    """

    def __init__(self, *_: Any) -> None:
        self.made: StoredTensor | Plain = Plain()

    def build(self, state: Any) -> None:
        """Take shape, number type, order and content."""
        if type(state) is not tuple or len(state) != 5 or type(state[1]) is not tuple:
            raise Senseless("an array has no content")
        _, shape, kind, by_columns, data = state
        if isinstance(kind, NumberType) and kind.is_plain and type(data) is not list:
            self.made = view_values(kind, data, shape, bool(by_columns))


def make_array(data: Any, kind: Any, shape: Any, order: Any = "C", *_: Any) -> Any:
    """Make an array as pickles of protocol 5 do."""
    if not isinstance(kind, NumberType) or not kind.is_plain:
        return Plain()
    return view_values(kind, data, shape, order == "F")


@final
class Settings(argparse.Namespace):
    """Arguments of a training's command line."""

    def build(self, state: Any) -> None:
        """Take the arguments."""
        if type(state) is dict and all(type(key) is str for key in state):
            vars(self).update(state)


def make_dictionary(*given: Any) -> Any:
    """Make a dictionary of pairs, as an OrderedDict is made of them."""
    pairs = given[-1] if given and type(given[-1]) in (list, dict) else []
    if type(pairs) is dict:
        return dict(pairs)
    if not all(_is_pair(pair) for pair in pairs):
        raise Senseless("a dictionary is made of what are no pairs")
    return dict(pairs)


def _is_pair(value: Any) -> bool:
    return type(value) in (list, tuple) and len(value) == 2 and is_key(value[0])


def encode_text(text: Any = "", encoding: Any = "latin1", *_: Any) -> bytes:
    """Make bytes of a text, as Python 3 writes bytes for Python 2."""
    if type(text) is not str or encoding not in ("latin1", "latin-1", "utf-8"):
        raise Senseless("bytes are made of what is no text")
    return text.encode(encoding)


def make_bytes(*given: Any) -> bytes:
    """Make bytes of bytes or of a text, never of a count."""
    if not given:
        return b""
    if type(given[0]) in (bytes, memoryview):
        return bytes(given[0])
    return encode_text(*given)


def make_list(given: Any = (), *_: Any) -> list[Any]:
    """Make a list in place of a set, a deque or a list."""
    if type(given) not in (list, tuple):
        raise Senseless("a list is made of what is none")
    return list(given)


def make_size(given: Any = (), *_: Any) -> tuple[Any, ...]:
    """Make a tuple in place of a torch.Size."""
    return tuple(make_list(given))


def take_first(first: Any, *_: Any) -> Any:
    """Make of a parameter its tensor."""
    return first


def make_plain(*_: Any) -> Plain:
    """Make a value that is no weight."""
    return Plain()


def _make_odd(what: str) -> Maker:
    return lambda *_: OddTensor(what)


def _of_both(*names: str) -> tuple[str, ...]:
    """Names in NumPy's folder `core`, which NumPy 2 calls `_core`."""
    return tuple(f"numpy.{folder}.{name}" for folder in ("core", "_core") for name in names)


def _list_makers() -> Mapping[str, Maker]:
    makers: dict[str, Maker] = {
        "argparse.Namespace": Settings,
        "numpy.dtype": NumberType,
        "numpy.ndarray": Beginning,
        "torch._utils._rebuild_tensor": rebuild,
        "torch._utils._rebuild_tensor_v2": rebuild,
        "torch._utils._rebuild_tensor_v3": rebuild_typed,
        "torch._utils._rebuild_parameter": take_first,
        "torch._utils._rebuild_parameter_with_state": take_first,
        "torch.nn.parameter.Parameter": take_first,
        "torch.Size": make_size,
        "collections.deque": make_list,
        "_codecs.encode": encode_text,
    }
    dictionaries = ("collections.OrderedDict", "collections.Counter", "collections.defaultdict")
    makers |= dict.fromkeys(dictionaries, make_dictionary)
    own: dict[Callable[..., Any], tuple[str, ...]] = {
        make_list: ("set", "frozenset", "list"),
        make_bytes: ("bytearray", "bytes"),
        make_plain: ("complex", "slice", "range", "xrange", "object"),
    }
    for maker, names in own.items():
        for module in ("builtins", "__builtin__"):
            makers |= {f"{module}.{name}": maker for name in names}
    makers |= dict.fromkeys(_of_both("multiarray.scalar"), make_number)
    makers |= dict.fromkeys(_of_both("multiarray._reconstruct"), Beginning)
    makers |= dict.fromkeys(_of_both("numeric._frombuffer"), make_array)
    makers |= dict.fromkeys(
        ("torch.device", "torch.serialization._get_layout", "torch.Generator"), make_plain
    )
    return makers | {f"torch._utils.{name}": _make_odd(what) for name, what in ODD.items()}


#: what is made in place of the functions and classes that pickles of weights name; whatever else
#: they call stays a `Foreign`
MAKERS = _list_makers()
