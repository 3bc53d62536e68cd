"""Representational similarity analysis: whether two models order the pairs of images alike by their
distance.

    value = mean_i ρ(d(K_i), d(L_i)),    d(K)_jk = √(K_jj + K_kk − 2K_jk) for j < k

with Spearman's rank correlation ρ, ties sharing their average rank (Kriegeskorte et al., 2008).
Squared distances are ranked, which gives the same ranks. Two distances that differ by less than
4e-6 of the largest, the rounding of float32, are a tie.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from sslens.capture import Grams
from sslens.capture.grams import (
    GramsCache,
    distances,
    join_vectors,
    mask_undefined,
    mean_product,
    require_same_images,
    split_by_size,
    vary_within_minibatches,
)

TITLE = "RSA (Spearman)"
INVARIANCES = ("orthogonal", "isotropic scaling", "translation", "monotone in distance")
RANGE = (-1.0, 1.0)
WHY = "A rank correlation of the distances of {n} images is undefined: they are too few"
_RANKS: GramsCache[Tensor] = GramsCache()


def compute(a: Grams, b: Grams) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Compute RSA of all pairs of taps; nan where a tap is the same for all images of a minibatch,
    or holds them equally far apart.

    Raises:
        InputError: the Grams are of other images or other minibatches, or a minibatch has under 3
            images.

    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [2.0], [1.0]])
    >>> a, b = Grams.of_features([x]), Grams.of_features([x, y])
    >>> compute(a, b).round(9).tolist()  # ranks 1 3 2 with 3 1½ 1½: −1.5 / √(2 · 1.5)
    [[1.0, -0.866025404]]
    """
    require_same_images(a, b)
    return mask_undefined(
        mean_product(_rank_distances(a), _rank_distances(b)),
        vary_within_minibatches(a).all(1),
        vary_within_minibatches(b).all(1),
    )


def _rank_distances(grams: Grams) -> Float64[Tensor, "tap batch pair"]:
    ranks = _RANKS.find(grams)
    if ranks is None:
        parts = [(these, _rank(blocks)) for these, blocks in split_by_size(grams, 3, WHY)]
        ranks = _RANKS.keep(grams, join_vectors(grams, parts))
    return ranks


def _rank(blocks: Float64[Tensor, "tap batch n n"]) -> Float64[Tensor, "tap batch pair"]:
    """Ranks of the distances about their mean, with norm 1; nan where all are tied."""
    j, k = np.triu_indices(blocks.shape[-1], 1)
    values = distances(blocks).numpy()[..., j, k]
    # pandas, which commands import anyway: scipy.stats takes 0.7 s more
    rows = pd.DataFrame(values.reshape(-1, len(j))).rank(axis=1).to_numpy(copy=True)
    ranks = torch.from_numpy(rows.reshape(values.shape))
    ranks -= (len(j) + 1) / 2
    return ranks / ranks.norm(dim=-1, keepdim=True)
