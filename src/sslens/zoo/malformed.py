"""Files whose tensors have names of a layout, and shapes or values of none: refused in a
sentence."""

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.zoo.arrays import Array

Given = ParamSpec("Given")
Made = TypeVar("Made")

#: what reading tensors of unforeseen shapes raises: one axis too few, a name that is missing, a
#: width of 0
_SHAPES = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    StopIteration,
    RecursionError,
)


#: ends of the names of tensors that are no floating-point numbers in any network
_COUNTS = ("num_batches_tracked", "index", "mask", "position_ids")


def require_usable(weights: Mapping[str, Array], where: str) -> None:
    """Refuse weights that are no floating-point numbers, with which no network here can run.

    Raises:
        InputError: the message names the first, and the number type.

    >>> import numpy as np
    >>> require_usable({"norm.weight": Array(np.zeros(2, np.complex64), "complex64")}, "a.pth")
    Traceback (most recent call last):
    sslens.errors.InputError: a.pth has 1 weight without floating-point numbers, the first ...
    """
    wrong = [
        name
        for name, array in weights.items()
        if not array.is_floating and not name.endswith(_COUNTS)
    ]
    if wrong:
        raise InputError(
            f"{where} has {spell_count(len(wrong), 'weight')} without floating-point numbers, the"
            f" first {wrong[0]} ({weights[wrong[0]].kind}): no network can run with them. Save them"
            " as floating-point numbers where the file was made."
        )


def refuse_malformed(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Let a function of a file's contents refuse tensors of unforeseen shapes.

    What the function raises itself for the user is left as it is. The error that the shapes led to
    is named at the end of the sentence, and is the cause of the one that is raised.
    """

    @functools.wraps(function)
    def refusing(*args: Given.args, **kwargs: Given.kwargs) -> Made:
        try:
            return function(*args, **kwargs)
        except _SHAPES as error:
            reason = str(error).splitlines()[0][:80] if str(error) else ""
            path = getattr(args[0], "path", "The file")
            raise InputError(
                f"{path} has tensors by the names of a network that is known, and of shapes that no"
                f" such network has ({type(error).__name__}: {reason}): the file is damaged, or"
                " something else was saved under these names. Save the network's state_dict() again"
                " where it was made."
            ) from error

    return refusing
