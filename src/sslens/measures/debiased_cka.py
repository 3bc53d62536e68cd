"""Debiased CKA of each minibatch by itself, averaged.

    CKA_i = HSIC_1(K_i, L_i) / √(HSIC_1(K_i, K_i) · HSIC_1(L_i, L_i)),    value = mean_i CKA_i

with HSIC_1 of `sslens.measures.cka` (Song et al., 2012; Székely & Rizzo, 2014). With one minibatch
that holds all images this is the debiased full-batch CKA.

It is not minibatch CKA, which averages numerators and denominators over minibatches before it
divides: there each part is unbiased and the value does not depend on the size of minibatches
(Nguyen et al., 2020), while a mean of ratios keeps a bias of the order of 1/n. With one minibatch
the two are the same number.
"""

import numpy as np
from jaxtyping import Bool, Float64
from torch import Tensor

from sslens.capture import Grams
from sslens.capture.grams import (
    GramsCache,
    mask_undefined,
    mean_product,
    require_same_images,
    vary_within_minibatches,
)
from sslens.measures.cka import bound_rounding, compute_own, pack

TITLE = "debiased CKA"
INVARIANCES = ("orthogonal", "isotropic scaling", "translation")
RANGE = (-1.0, 1.0)
_UNIT: GramsCache[Tensor] = GramsCache()


def compute(a: Grams, b: Grams) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Compute debiased CKA of all pairs of taps; nan where a tap is the same for all images of a
    minibatch, or holds them equally far apart.

    Raises:
        InputError: the Grams are of other images or other minibatches, or a minibatch has under 4
            images.

    >>> from torch import tensor
    >>> x, y = tensor([[0.0], [0], [1], [1]]), tensor([[0.0], [1], [0], [1]])
    >>> a, b = Grams.of_features([x]), Grams.of_features([x, y])
    >>> compute(a, b).round(9).tolist()  # K̃ of the pairs 12|34 and 13|24, U-centred
    [[1.0, -0.5]]
    """
    require_same_images(a, b)
    return mask_undefined(
        mean_product(_normalise(a), _normalise(b)), _find_defined(a), _find_defined(b)
    )


def _normalise(grams: Grams) -> Float64[Tensor, "tap batch pair"]:
    unit = _UNIT.find(grams)
    if unit is None:
        unit = _UNIT.keep(grams, pack(grams) / compute_own(grams).sqrt()[:, :, None])
    return unit


def _find_defined(grams: Grams) -> Bool[Tensor, " tap"]:
    return (vary_within_minibatches(grams) & (compute_own(grams) > bound_rounding(grams))).all(1)
