"""Weights in 8 bits with their scales beside them, as floating-point numbers again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from sslens.zoo.arrays import Array
from sslens.zoo.files import Contents

#: the number types that scales belong to
NARROW = ("int8", "uint8")
#: what bitsandbytes divides the largest number of a row by
LARGEST = 127.0


@final
@dataclass(frozen=True)
class _Form:
    """How a library names the parts of a quantised weight, each after the name of its module.

    Attributes:
        numbers: the 8-bit numbers.
        scale: the scale of each row, each group of a row, or the whole.
        zero: the number that stands for 0; empty where it is 0.
        others: what else the library keeps beside them, and is of the activations or the form.
        divisor: what the scales are divided by.
    """

    numbers: str
    scale: str
    zero: str = ""
    others: tuple[str, ...] = ()
    divisor: float = 1.0


#: compressed-tensors and vLLM; bitsandbytes' LLM.int8(); optimum-quanto
FORMS = (
    _Form("weight", "weight_scale", "weight_zero_point", ("input_scale", "input_zero_point")),
    _Form("weight", "SCB", others=("weight_format",), divisor=LARGEST),
    _Form("weight._data", "weight._scale", others=("input_scale", "output_scale")),
)


def dequantise(state: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, str]]:
    """Multiply the 8-bit weights of a state dict by the scales beside them.

    A weight is w = s (q − z), with the numbers q, the scale s of each output (or of each group of
    inputs of an output, or of the whole) and the zero point z, which most libraries leave out. The
    scales of bitsandbytes are a row's largest |w|, which is 127 steps. Names are those of
    compressed-tensors, bitsandbytes and optimum-quanto; 8-bit numbers without scales stay as they
    are.

    Args:
        state: the tensors by their keys.

    Returns:
        The tensors with the weights in float32 and without their scales, in the same order; and
        the number type that each of these weights had, by its new key.

    >>> state = {"fc.weight": Array(np.array([[127, -1]], np.int8), "int8")}
    >>> state["fc.weight_scale"] = Array(np.array([[0.5]], np.float32), "float32")
    >>> whole, kinds = dequantise(state)
    >>> whole["fc.weight"].values.tolist(), list(whole), kinds
    ([[63.5, -0.5]], ['fc.weight'], {'fc.weight': 'int8'})
    """
    found = {key: (new, value, beside) for key, new, value, beside in _list_quantised(state)}
    left_out = {name for _, _, beside in found.values() for name in beside}
    whole, kinds = {}, {}
    for key, value in state.items():
        if key in found:
            new, numbers, _ = found[key]
            whole[new], kinds[new] = numbers, value.kind
        elif key not in left_out:
            whole[key] = value
    return whole, kinds


def dequantise_states(contents: Contents) -> tuple[Contents, dict[str, str]]:
    """Multiply the 8-bit weights of a file by their scales (`dequantise`); returns the number type
    that each had, by its key, with and without the key of its state dict."""
    states: dict[str, Mapping[str, Array]] = {}
    kinds: dict[str, str] = {}
    for state, weights in contents.states.items():
        states[state], own = dequantise(weights)
        kinds |= own | {f"{state}/{key}": kind for key, kind in own.items()}
    return (replace(contents, states=states) if kinds else contents), kinds


def describe_kinds(kinds: Mapping[str, str]) -> list[str]:
    """Describe which 8-bit weights a file holds, in a phrase; empty where it holds none.

    Args:
        kinds: the number type of each such weight, by its key.

    >>> describe_kinds({"fc.weight": "int8"}), describe_kinds({})
    (['weights in int8 with their scales'], [])
    """
    return [f"weights in {' and '.join(sorted(set(kinds.values())))} with their scales"] * bool(
        kinds
    )


def _list_quantised(
    state: Mapping[str, Array],
) -> Iterator[tuple[str, str, Array, tuple[str, ...]]]:
    """List each quantised weight: its key, the key without the library's ending, the weight in
    float32, and the keys beside it that then mean nothing."""
    for key, value in state.items():
        if value.kind not in NARROW and not value.kind.startswith("float8"):
            continue
        for form in FORMS:
            module, dot, last = key.rpartition(form.numbers)
            scale = state.get(f"{module}{form.scale}")
            if last or not dot or scale is None or not scale.is_floating:
                continue
            zero = state.get(f"{module}{form.zero}") if form.zero else None
            numbers = _scale(value, scale, zero, form.divisor)
            if numbers is None:
                continue
            beside = tuple(f"{module}{name}" for name in (form.scale, form.zero, *form.others))
            yield key, key.removesuffix("._data"), numbers, beside
            break


def _scale(value: Array, scale: Array, zero: Array | None, divisor: float) -> Array | None:
    """Return s (q − z) in float32; None where the shapes do not fit."""
    factors = _spread(scale, value.shape)
    zeros = np.zeros(1) if zero is None else _spread(zero, value.shape)
    if factors is None or zeros is None:
        return None
    numbers = value.values.astype(np.float32) - zeros.astype(np.float32)
    return Array(numbers * (factors.astype(np.float32) / np.float32(divisor)), "float32")


def _spread(scale: Array, shape: tuple[int, ...]) -> np.ndarray | None:
    """Give scales the number of axes of the weight: one for all, one for each output, or one for
    each group of inputs of an output; None where they fit in no such way."""
    numbers = scale.values
    if scale.size == 1:
        return numbers.reshape(())
    if not shape or numbers.shape[:1] != shape[:1]:
        return None
    if numbers.ndim == 1 or numbers.shape[1:] == (1,) * (numbers.ndim - 1):
        return numbers.reshape(-1, *(1,) * (len(shape) - 1))
    if numbers.ndim == len(shape) == 2 and shape[1] % numbers.shape[1] == 0:
        return numbers.repeat(shape[1] // numbers.shape[1], axis=1)
    return None
