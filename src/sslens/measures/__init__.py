"""Measures of similarity of Grams: one file is one measure, for all pairs of taps of two models at
once.

A file `measures/NAME.py` has

- `TITLE`, what a reader sees; `RANGE`, the lowest and highest value, the highest being the value of
  a model with itself;
- `INVARIANCES`: the changes of one model's features that leave the value as it is, of
  "orthogonal", "isotropic scaling", "translation", "monotone in distance" and "invertible linear":
  all that hold, and no other;
- `compute(a, b) -> values [tap_a, tap_b]`, or `compute(a, b, pixels)` where the measure also needs
  what the images themselves have in common: Grams of the raw pixels, one tap, over the same images
  and minibatches. Values are nan where the measure is undefined, and Grams of other images or
  minibatches are an error.

To call a measure by its name, call `measure`, which hands the pixels to measures that need them.
Minibatch CKA (`cka`) is the papers' measure; `sslens.statistics` computes its value under chance
and its confidence interval.
"""

import inspect
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

from sslens.capture import Grams, require_same_images
from sslens.errors import InputError
from sslens.find import plugin

Compute: TypeAlias = Callable[..., Float64[np.ndarray, "tap_a tap_b"]]
#: what each file of this folder has
REQUIRED = ("TITLE", "RANGE", "INVARIANCES", "compute")
#: parameters that `compute` may have
PARAMETERS = (("a", "b"), ("a", "b", "pixels"))


def measure(
    name: str, a: Grams, b: Grams, pixels: Grams | None = None
) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Compute a measure for all pairs of taps of two models.

    Args:
        name: the measure's name, such as "cka".
        a, b: the Grams of the two models, over the same images and minibatches.
        pixels: the Grams of the raw pixels (`sslens.grams(sslens.load("pixels"), …)`), which only
            some measures need.

    Raises:
        InputError: there is no such measure; its file is not as this folder asks; it needs the
            pixels and they are not given; or the Grams are of other images or minibatches.

    >>> import torch
    >>> x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1], [3, 1]])
    >>> measure("cka", Grams.of_features([x]), Grams.of_features([-2 * x])).round(9).tolist()
    [[1.0]]
    """
    reason = explain_lack(name, pixels)
    if reason is not None:
        raise InputError(f"The measure {name} cannot be computed: {reason}", mend="give {pixels}")
    compute: Compute = plugin("measures", name).compute
    if not wants_pixels(name):
        return compute(a, b)
    assert pixels is not None
    if len(pixels.taps) != 1:
        raise InputError(
            f"The pixels are one tap, and the Grams of {pixels.model} have {len(pixels.taps)}",
            mend="give the Grams of the model pixels as {pixels}",
        )
    require_same_images(a, pixels)
    return compute(a, b, pixels)


def explain_lack(name: str, pixels: Grams | None) -> str | None:
    """Return a clause that says why a measure cannot be computed, or None where it can.

    Raises:
        InputError: there is no such measure, or its file is not as this folder asks.

    >>> explain_lack("cka", pixels=None) is None
    True
    """
    if pixels is None and wants_pixels(name):
        return "it needs the Grams of the raw pixels over the same images, and there are none"
    return None


def wants_pixels(name: str) -> bool:
    """Whether a measure needs the Grams of the raw pixels.

    Raises:
        InputError: there is no such measure, or its file is not as this folder asks.

    >>> wants_pixels("cka")
    False
    """
    parameters = tuple(inspect.signature(plugin("measures", name).compute).parameters)
    if parameters not in PARAMETERS:
        raise InputError(
            f"compute of the measure {name} takes ({', '.join(parameters)}), and a measure takes"
            " (a, b), or (a, b, pixels)."
        )
    return parameters[-1] == "pixels"
