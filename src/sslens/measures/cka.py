"""Minibatch CKA with the unbiased HSIC_1 estimator, for all pairs of taps at once.

For Grams K, L of one minibatch of n images, with K̃, L̃ their copies with a zero diagonal (Shekhar
et al., 2023, eq. 3; Nguyen et al., 2020; Song et al., 2012):

    HSIC_1(K, L) = [tr(K̃L̃) + 1ᵀK̃1 · 1ᵀL̃1 / ((n − 1)(n − 2)) − 2/(n − 2) · 1ᵀK̃L̃1] / (n(n − 3))

which is the inner product of the U-centred Grams over n(n − 3) (Székely & Rizzo, 2014). Over
minibatches (eq. 2)

    CKA = mean_i HSIC_1(K_i, L_i) / √(mean_i HSIC_1(K_i, K_i) · mean_i HSIC_1(L_i, L_i)),

so with each U-centred Gram scaled by 1/√(n(n − 3)) and the minibatches laid end to end, CKA of all
pairs of taps is the matrix of cosines. Negative values are kept: the estimator is unbiased and
independent features give them half of the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from sslens.capture import CONSTANT, Grams
from sslens.capture.grams import (
    GramsCache,
    compute_traces,
    join_vectors,
    split_by_size,
    vary_over_images,
)
from sslens.capture.grams import require_same_images as require_same_images
from sslens.errors import InputError
from sslens.statistics.sampled import Sampled

TITLE = "minibatch CKA"
INVARIANCES = ("orthogonal", "isotropic scaling", "translation")
RANGE = (-1.0, 1.0)
#: taps of the models that one matrix product compares at once: 256 × 16,000 float64 operands are 32
#: MB
TAPS = 256
WHY = "HSIC_1 of {n} images is undefined: it divides by n − 3"
_PACKED: GramsCache[Tensor] = GramsCache()
_OWN: GramsCache[Tensor] = GramsCache()


def compute(a: Grams, b: Grams) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Compute minibatch CKA (`minibatch_cka`) under the name that every measure has.

    >>> x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1], [3, 1]])
    >>> compute(Grams.of_features([x]), Grams.of_features([-2 * x])).round(9).tolist()
    [[1.0]]
    """
    return minibatch_cka(a, b)


def u_centre(gram: Float[Tensor, "*batch n n"]) -> Float64[Tensor, "*batch n n"]:
    """U-centre a Gram, in float64: its diagonal becomes zero, and every row and column sums to zero
    (Székely & Rizzo, 2014, eq. 2.6).

    Off the diagonal Ã_ij = A_ij − Σ_l A_il/(n−2) − Σ_k A_kj/(n−2) + Σ_kl A_kl/((n−1)(n−2)), the
    sums without the diagonal.

    Raises:
        InputError: under 4 images.

    >>> k = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]]) * 3
    >>> u_centre(k)[0].tolist()
    [0.0, 2.0, -1.0, -1.0]
    """
    n = gram.shape[-1]
    if n < 4:
        raise InputError(f"{WHY.format(n=n)}, so give minibatches of 4 or more.")
    a = gram.double().clone()
    a.diagonal(dim1=-2, dim2=-1).zero_()
    row, column = a.sum(-1, keepdim=True), a.sum(-2, keepdim=True)
    a -= row / (n - 2) - row.sum(-2, keepdim=True) / ((n - 1) * (n - 2))
    a -= column / (n - 2)
    a.diagonal(dim1=-2, dim2=-1).zero_()
    return a


def hsic1(
    k: Float[Tensor, "*batch n n"],
    l: Float[Tensor, "*batch n n"],  # noqa: E741
) -> Float64[Tensor, "*batch"]:
    """Compute the unbiased estimator HSIC_1 of two Grams.

    >>> k = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]]) * 3
    >>> hsic1(k, k).item()  # tr K̃² = 36, 1ᵀK̃1 = 12, 1ᵀK̃²1 = 36: (36 + 12²/6 − 36) / 4
    6.0
    """
    n = k.shape[-1]
    return (u_centre(k) * u_centre(l)).sum((-2, -1)) / (n * (n - 3))


def pack(grams: Grams) -> Float64[Tensor, "tap batch pair"]:
    """Return each tap's U-centred Grams as vectors: the entries above the diagonal, times √2 /
    √(n(n − 3)), one vector for each minibatch. The result is cached with the Grams.

    The inner product of two such vectors is HSIC_1 of the two taps on that minibatch.

    Raises:
        InputError: a minibatch of under 4 images.

    >>> k = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]]) * 3
    >>> energy, sizes = torch.zeros(1, 1).double(), torch.tensor([4])
    >>> row = pack(Grams("by hand", tuple("abcd"), (), k[None, None], energy, sizes, {}))[0, 0]
    >>> # the 2, −1, −1, … of `u_centre` times √2 over √4, here times √2
    >>> (row * 2**0.5).round(decimals=9).tolist()
    [2.0, -1.0, -1.0, -1.0, -1.0, 2.0]
    >>> round((row @ row).item(), 9)  # HSIC_1, as `hsic1` has it
    6.0
    """
    packed = _PACKED.find(grams)
    if packed is None:
        parts = [(these, _pack_blocks(blocks)) for these, blocks in split_by_size(grams, 4, WHY)]
        packed = _PACKED.keep(grams, join_vectors(grams, parts))
    return packed


def _pack_blocks(blocks: Float64[Tensor, "tap batch n n"]) -> Float64[Tensor, "tap batch pair"]:
    n = blocks.shape[-1]
    i, j = np.triu_indices(n, 1)
    above = (
        u_centre(blocks).flatten(2).numpy().take(i * n + j, axis=-1)
    )  # a tenth of the time of torch's
    return torch.from_numpy(above).mul_((2 / (n * (n - 3))) ** 0.5)


def compute_own(grams: Grams) -> Float64[Tensor, "tap batch"]:
    """Compute HSIC_1 of each tap with itself on each minibatch."""
    own = _OWN.find(grams)
    return _OWN.keep(grams, pack(grams).square().sum(-1)) if own is None else own


def bound_rounding(grams: Grams) -> Float64[Tensor, "tap batch"]:
    """Compute the largest HSIC_1 of a tap with itself that may be due to rounding alone, on each
    minibatch.

    It is the value for images that are equally far from each other to within 4e-6: their centred
    Gram has the trace t and the norm t/√(n − 1), and nothing but rounding is left after U-centring.
    """
    n = grams.sizes.double()
    return (CONSTANT * compute_traces(grams)) ** 2 / (n * (n - 1) * (n - 3))


def find_defined(grams: Grams) -> Bool[Tensor, " tap"]:
    """Whether CKA with each tap is defined: its features vary over images, and not all images are
    equally far from each other."""
    return vary_over_images(grams) & (compute_own(grams).sum(1) > bound_rounding(grams).sum(1))


def minibatch_cka(a: Grams, b: Grams) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Compute CKA of every tap of one model with every tap of another; nan where a tap is constant
    and CKA is 0/0.

    With the Grams K_i and L_i of two taps over minibatch i, and the unbiased estimator HSIC_1 of
    the top of this module (Shekhar et al., 2023, eq. 2 and 3),

        CKA = mean_i HSIC_1(K_i, L_i) / √(mean_i HSIC_1(K_i, K_i) · mean_i HSIC_1(L_i, L_i)).

    It is 1 for features that differ by a rotation, a scale and an offset, about 0 for unrelated
    ones, and negative for half of these.

    Args:
        a: the Grams of the model of the rows (`sslens.grams`).
        b: the Grams of the model of the columns, of the same images in the same minibatches.

    Raises:
        InputError: the Grams are of other images or other minibatches, or a minibatch has under 4
            images.

    >>> a = Grams.of_features([torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])])
    >>> b = Grams.of_features([torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])])
    >>> # U-centred, a pair of equal images has 2/3 and another −1/3: (−2 −2 +1 +1 −2 −2) / 12
    >>> minibatch_cka(a, b).round(9).tolist()
    [[-0.5]]
    """
    require_same_images(a, b)
    products = pack(a).flatten(1) @ pack(b).flatten(1).T
    return _ratio(products, a, b)


def _ratio(
    products: Float64[Tensor, "tap_a tap_b"], a: Grams, b: Grams
) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Sums of HSIC_1 over minibatches divided by those of each tap with itself."""
    value = products / (
        compute_own(a).sum(1).sqrt()[:, None] * compute_own(b).sum(1).sqrt()[None, :]
    )
    return torch.where(
        find_defined(a)[:, None] & find_defined(b)[None, :], value, torch.nan
    ).numpy()


def all_pairs(
    models: Sequence[Grams],
) -> dict[tuple[int, int], Float64[np.ndarray, "tap_a tap_b"]]:
    """Compute minibatch CKA for all pairs of many models, and of each model with itself.

    The result has a matrix for each pair of model numbers (i, j) with i ≤ j. The models are laid
    end to end, so that a few large matrix products compare all of them.

    Raises:
        InputError: two of them are of other images or other minibatches.

    >>> x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1], [3, 1]])
    >>> found = all_pairs([Grams.of_features([x]), Grams.of_features([x, x**2])])
    >>> [(pair, value.shape) for pair, value in found.items()]
    [((0, 0), (1, 1)), ((0, 1), (1, 2)), ((1, 1), (2, 2))]
    """
    for other in models[1:]:
        require_same_images(models[0], other)
    values: dict[tuple[int, int], np.ndarray] = {}
    for columns in _blocks(models):
        right = torch.cat([pack(models[j]).flatten(1) for j in columns])
        for some in _blocks(models[: columns.stop]):
            left = (
                right if some == columns else torch.cat([pack(models[i]).flatten(1) for i in some])
            )
            tiles = (left @ right.T).split([len(models[i].taps) for i in some])
            for i, tile in zip(some, tiles, strict=True):
                parts = tile.split([len(models[j].taps) for j in columns], dim=1)
                values |= {
                    (i, j): _ratio(part, models[i], models[j])
                    for j, part in zip(columns, parts, strict=True)
                    if i <= j
                }
    return dict(sorted(values.items()))


def _blocks(models: Sequence[Grams]) -> list[range]:
    """Numbers of consecutive models with at most `TAPS` taps together, or of one that has more.

    >>> model = Grams.of_features([torch.eye(4)] * 100)  # a hundred taps
    >>> _blocks([model] * 5)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    edges, taps = [0], 0
    for number, model in enumerate(models):
        if taps and taps + len(model.taps) > TAPS:
            edges.append(number)
            taps = 0
        taps += len(model.taps)
    return [range(*ends) for ends in zip(edges, [*edges[1:], len(models)], strict=True)]


@dataclass(frozen=True)
class Comparison:
    """The numerators and denominators of minibatch CKA for each minibatch, which are enough for CKA
    and its interval.

    Attributes:
        cross: HSIC_1 of each pair of taps.
        own_a, own_b: HSIC_1 of each tap with itself.
        defined: whether CKA of each pair is defined.
        seen: identifies the images and minibatches, or None where they are not known. Two
            comparisons that both know it can be paired only if it is equal.
    """

    cross: Float64[Tensor, "tap_a tap_b batch"]
    own_a: Float64[Tensor, "tap_a batch"]
    own_b: Float64[Tensor, "tap_b batch"]
    defined: Bool[Tensor, "tap_a tap_b"]
    seen: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, a: Grams, b: Grams) -> "Comparison":
        """Compute HSIC_1 of all pairs of taps on every minibatch, one matrix product for each
        minibatch.

        Raises:
            InputError: the Grams are of other images or other minibatches.
        """
        require_same_images(a, b)
        cross = torch.bmm(pack(a).transpose(0, 1), pack(b).permute(1, 2, 0)).permute(1, 2, 0)
        seen = (a.ids, a.key.get("images"), a.key.get("plan"))
        return cls(
            cross,
            compute_own(a),
            compute_own(b),
            find_defined(a)[:, None] & find_defined(b)[None, :],
            seen,
        )

    def cka(
        self, weights: Float64[Tensor, " batch"] | None = None
    ) -> Float64[np.ndarray, "tap_a tap_b"]:
        """Compute CKA from weighted sums over minibatches; nan where CKA is undefined.

        Args:
            weights: how often each minibatch counts; once unless given.
        """
        w = torch.ones(self.cross.shape[-1], dtype=torch.float64) if weights is None else weights
        value = (self.cross @ w) / (
            (self.own_a @ w).sqrt()[:, None] * (self.own_b @ w).sqrt()[None, :]
        )
        return torch.where(self.defined, value, torch.nan).numpy()

    def interval(
        self, level: float = 0.95
    ) -> tuple[Float64[np.ndarray, "tap_a tap_b"], Float64[np.ndarray, "tap_a tap_b"]]:
        """Compute the lower and upper ends of the interval over minibatches (`Sampled.interval`).

        The ends are nan where CKA is undefined or there is only one minibatch.

        Raises:
            InputError: the level is not between 0 and 1.
        """
        return Sampled.of(self).interval(level)


def list_constant_taps(grams: Grams) -> list[str]:
    """Return the names of the taps for which CKA is undefined: all images have the same features,
    or all are equally far apart."""
    return [
        tap.name
        for tap, fine in zip(grams.taps, find_defined(grams).tolist(), strict=True)
        if not fine
    ]
