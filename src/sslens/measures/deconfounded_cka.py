"""Deconfounded CKA: the similarity of two models that is left when the similarities of the raw
pixels are regressed out of both.

With x, y and z the U-centred Grams of the two models and of the pixels, each laid out as one vector
over all minibatches, and r the cosine of two such vectors, which is minibatch CKA, it is the
partial correlation

    value = (r_xy − r_xz r_yz) / √((1 − r_xz²)(1 − r_yz²)).

It is the cosine of x and y after the best multiple of z was subtracted from each (Cui et al., 2022,
arXiv:2202.00095, subtract it from Grams that are centred otherwise). Numerators and denominators of
each r are averaged over minibatches before they are divided, as minibatch CKA has them
(`sslens.measures.cka`).

Two networks that both pass on what the pixels have in common have a high CKA, whatever they have
learned: two random initialisations reach 0.99 on scenes. 1 − r_xz² is the share of a tap's squared
Gram that the pixels do not explain. Where it is under 5 % for either tap, the value would rest on
the little that is left, and is undefined.

It lies between −1 and 1, and 1 is a tap with itself. It needs no pass of its own: the pixels' Grams
are those of the control `pixels`.
"""

import numpy as np
from jaxtyping import Bool, Float64

from sslens.capture import Grams
from sslens.measures.cka import minibatch_cka

TITLE = "deconfounded CKA"
INVARIANCES = ("orthogonal", "isotropic scaling", "translation")
RANGE = (-1.0, 1.0)
#: the smallest share of a tap's squared Gram that must be left for the value to be defined
LEAST = 0.05


def compute(a: Grams, b: Grams, pixels: Grams) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Compute deconfounded CKA of all pairs of taps; nan where CKA is undefined, or where under 5 %
    of a tap's Gram is left.

    Args:
        a, b: the Grams of the two models.
        pixels: the Grams of the raw pixels, a single tap.

    Raises:
        InputError: the Grams are of other images or other minibatches, or a minibatch has under 4
            images.

    >>> import torch
    >>> x, z = torch.tensor([[0.0], [0], [1], [1]]), torch.tensor([[0.0], [1], [0], [1]])
    >>> one, two, pixels = (Grams.of_features([f]) for f in (x, torch.cat([x, z], 1), z))
    >>> compute(one, two, pixels).round(9).tolist()  # r_xy = ½, r_xz = −½, r_yz = ½: (½ + ¼) / ¾
    [[1.0]]
    >>> compute(one, pixels, pixels).tolist()  # of the pixels themselves nothing is left
    [[nan]]
    """
    own, other = (minibatch_cka(side, pixels)[:, 0] for side in (a, b))
    value = partial(minibatch_cka(a, b), own[:, None], other[None, :])
    return np.where(enough(own)[:, None] & enough(other)[None, :], value, np.nan)


def partial(
    xy: Float64[np.ndarray, "..."], xz: Float64[np.ndarray, "..."], yz: Float64[np.ndarray, "..."]
) -> Float64[np.ndarray, "..."]:
    """Compute the partial correlation (xy − xz yz) / √((1 − xz²)(1 − yz²)) of arrays that are
    broadcast; nan where nothing is left.

    >>> xy, xz, yz = (np.array(r) for r in ([0.9, 1.0], [0.6, 1.0], [0.8, 1.0]))
    >>> partial(xy, xz, yz).round(9).tolist()  # (0.9 − 0.48) / (0.8 · 0.6)
    [0.875, nan]
    """
    both = share_left(xz) * share_left(yz)
    return np.asarray((xy - xz * yz) / np.sqrt(np.where(both > 0, both, np.nan)))


def share_left(with_pixels: Float64[np.ndarray, "*cell"]) -> Float64[np.ndarray, "*cell"]:
    """Return 1 − r², the share of a tap's squared Gram that the pixels do not explain.

    >>> share_left(np.array([0.5])).tolist()
    [0.75]
    """
    return np.asarray(1 - np.minimum(np.abs(with_pixels), 1) ** 2)  # above 1 by rounding


def enough(with_pixels: Float64[np.ndarray, "*cell"]) -> Bool[np.ndarray, "*cell"]:
    """Whether enough of a tap is left beside the pixels for the value to be defined.

    >>> enough(np.array([0.97, 0.98, np.nan])).tolist()  # 5.9 % and 4.0 % are left
    [True, False, False]
    """
    return np.asarray(share_left(with_pixels) >= LEAST)
