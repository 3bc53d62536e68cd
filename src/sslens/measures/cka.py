"""Minibatch CKA with the unbiased HSIC_1 estimator, for all pairs of taps at once.

For Grams K, L of one minibatch of n images, with K̃, L̃ their copies with a zero diagonal (Shekhar et al., 2023, eq. 3;
Nguyen et al., 2020; Song et al., 2012):

    HSIC_1(K, L) = [tr(K̃L̃) + 1ᵀK̃1 · 1ᵀL̃1 / ((n − 1)(n − 2)) − 2/(n − 2) · 1ᵀK̃L̃1] / (n(n − 3))

which is the inner product of the U-centred Grams over n(n − 3) (Székely & Rizzo, 2014). Over minibatches (eq. 2)

    CKA = mean_i HSIC_1(K_i, L_i) / √(mean_i HSIC_1(K_i, K_i) · mean_i HSIC_1(L_i, L_i)),

so with each U-centred Gram scaled by 1/√(n(n − 3)) and the minibatches laid end to end, CKA of all pairs of taps is
the matrix of cosines. Negative values are kept: the estimator is unbiased and independent features give them half of the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from sslens.capture import CONSTANT, Artefact
from sslens.errors import InputError


def u_centre(gram: Float[Tensor, "*batch n n"]) -> Float64[Tensor, "*batch n n"]:
    """The U-centred Gram: zero diagonal, and every row and column sums to zero (Székely & Rizzo, 2014, eq. 2.6), in float64.

    Off the diagonal Ã_ij = A_ij − Σ_l A_il/(n−2) − Σ_k A_kj/(n−2) + Σ_kl A_kl/((n−1)(n−2)), the sums without the diagonal.

    Raises:
        InputError: under 4 images.

    >>> u_centre(torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]]) * 3)[0].tolist()
    [0.0, 2.0, -1.0, -1.0]
    """
    n = gram.shape[-1]
    if n < 4:
        raise InputError(f"HSIC_1 of {n} images is undefined: it divides by n − 3, so give minibatches of 4 or more.")
    a = gram.double().clone()
    a.diagonal(dim1=-2, dim2=-1).zero_()
    row, column = a.sum(-1, keepdim=True), a.sum(-2, keepdim=True)
    a = a - row / (n - 2) - column / (n - 2) + a.sum((-2, -1), keepdim=True) / ((n - 1) * (n - 2))
    a.diagonal(dim1=-2, dim2=-1).zero_()
    return a


def hsic1(k: Float[Tensor, "*batch n n"], l: Float[Tensor, "*batch n n"]) -> Float64[Tensor, "*batch"]:  # noqa: E741
    """The unbiased estimator HSIC_1 of two Grams.

    >>> k = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]]) * 3
    >>> hsic1(k, k).item()  # tr K̃² = 36, 1ᵀK̃1 = 12, 1ᵀK̃²1 = 36: (36 + 12²/6 − 36) / 4
    6.0
    """
    n = k.shape[-1]
    return (u_centre(k) * u_centre(l)).sum((-2, -1)) / (n * (n - 3))


def operand(grams: Artefact) -> tuple[Float64[Tensor, "tap batch square"], Bool[Tensor, " tap"]]:
    """Each tap's U-centred Grams over √(n(n − 3)), flattened, a row a minibatch; and which taps are defined.

    The inner product of two rows is HSIC_1 of the two taps on that minibatch. A tap whose features do not vary over
    images beyond rounding has HSIC_1 of 0 with itself, and its CKA is 0/0.
    """
    blocks, sizes = grams.tensors["grams"], grams.tensors["sizes"].tolist()
    rows = torch.zeros(blocks.shape[0], blocks.shape[1], blocks.shape[2] ** 2, dtype=torch.float64)
    for size in set(sizes):
        these = [i for i, other in enumerate(sizes) if other == size]
        centred = u_centre(blocks[:, these, :size, :size]) / (size * (size - 3)) ** 0.5
        rows[:, these, : size * size] = centred.flatten(2)
    spread = blocks.double().diagonal(dim1=-2, dim2=-1).sum((-2, -1))
    return rows, spread > CONSTANT**2 * (spread + grams.tensors["energy"].sum(1))


def require_same_images(a: Artefact, b: Artefact) -> None:
    """Refuse Grams that are not of the same images in the same minibatches.

    Raises:
        InputError: what differs, with the first id.
    """
    same = ("images", "plan")
    if a.ids == b.ids and all(a.key.get(name) == b.key.get(name) for name in same):
        return
    apart = sorted(set(a.ids) ^ set(b.ids))
    if apart:
        owner = a.model if apart[0] in set(a.ids) else b.model
        what = f"{len(apart)} ids differ, first {apart[0]}, which only {owner} has seen"
    elif a.key.get("images") != b.key.get("images"):
        what = "the ids are the same, but the contents or labels of the images differ"
    else:
        what = "the images are the same, but their minibatches differ"
    raise InputError(
        f"{a.model} and {b.model} cannot be compared: {what}. Compute both over one set of images with one seed."
    )


def minibatch_cka(a: Artefact, b: Artefact) -> Float64[np.ndarray, "tap_a tap_b"]:
    """CKA of every tap of one model with every tap of another; nan where a tap is constant and CKA is 0/0.

    Raises:
        InputError: the Grams are of other images or other minibatches.

    >>> import sslens
    >>> grams = sslens.grams(sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:64"))
    >>> bool((abs(minibatch_cka(grams, grams).diagonal() - 1) < 1e-12).all())
    True
    """
    return Comparison.of(a, b).cka()


@dataclass(frozen=True)
class Comparison:
    """Numerators and denominators of minibatch CKA for each minibatch: all that CKA and its interval need."""

    cross: Float64[Tensor, "tap_a tap_b batch"]
    own_a: Float64[Tensor, "tap_a batch"]
    own_b: Float64[Tensor, "tap_b batch"]
    defined: Bool[Tensor, "tap_a tap_b"]

    @classmethod
    def of(cls, a: Artefact, b: Artefact) -> "Comparison":
        """HSIC_1 of all pairs of taps on every minibatch, one matrix product a minibatch."""
        require_same_images(a, b)
        rows_a, defined_a = operand(a)
        rows_b, defined_b = (rows_a, defined_a) if b is a else operand(b)
        cross = torch.bmm(rows_a.transpose(0, 1), rows_b.permute(1, 2, 0)).permute(1, 2, 0)
        return cls(cross, rows_a.square().sum(-1), rows_b.square().sum(-1), defined_a[:, None] & defined_b[None, :])

    def cka(self, weights: Float64[Tensor, " batch"] | None = None) -> Float64[np.ndarray, "tap_a tap_b"]:
        """CKA with each minibatch counted as often as its weight says (once unless given); nan where undefined."""
        w = torch.ones(self.cross.shape[-1], dtype=torch.float64) if weights is None else weights
        value = (self.cross @ w) / ((self.own_a @ w).sqrt()[:, None] * (self.own_b @ w).sqrt()[None, :])
        return torch.where(self.defined, value, torch.nan).numpy()

    def interval(
        self, *, level: float = 0.95, replicates: int = 1000, seed: int = 0
    ) -> tuple[Float64[np.ndarray, "tap_a tap_b"], Float64[np.ndarray, "tap_a tap_b"]]:
        """Ends of the percentile bootstrap interval over minibatches; nan where CKA is undefined or there is one minibatch only.

        The same draws serve every pair of taps and, with the same seed and number of minibatches, every pair of models.
        """
        draws = bootstrap_counts(self.cross.shape[-1], replicates, seed)
        shape = (*self.cross.shape[:2], 1)
        if self.cross.shape[-1] < 2:
            nothing = np.full(shape[:2], np.nan)
            return nothing, nothing
        own = (self.own_a @ draws).sqrt()[:, None, :] * (self.own_b @ draws).sqrt()[None, :, :]
        values = (self.cross @ draws) / own
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        low, high = torch.quantile(values.flatten(0, 1), ends, dim=-1).reshape(2, *shape[:2])
        undefined = torch.full_like(low, torch.nan)
        return torch.where(self.defined, low, undefined).numpy(), torch.where(self.defined, high, undefined).numpy()


def bootstrap_counts(batches: int, replicates: int, seed: int) -> Float64[Tensor, "batch replicate"]:
    """How often each minibatch is drawn in each bootstrap replicate.

    >>> counts = bootstrap_counts(8, 100, seed=0)
    >>> tuple(counts.shape), set(counts.sum(0).tolist())
    ((8, 100), {8.0})
    """
    counts = np.random.default_rng(seed).multinomial(batches, np.full(batches, 1 / batches), size=replicates)
    return torch.from_numpy(counts.T.astype(np.float64))


def constant_taps(grams: Artefact) -> list[str]:
    """The taps whose features do not vary over images, for which CKA is undefined."""
    defined = operand(grams)[1].tolist()
    return [tap.name for tap, varies in zip(grams.taps, defined, strict=True) if not varies]


def from_features(
    features: Sequence[Float[Tensor, "image _"]],
    ids: Sequence[str] | None = None,
    sizes: Int[np.ndarray, " batch"] | None = None,
) -> Artefact:
    """Grams of features at hand, one array a tap, for use without a model.

    Rows are cut into minibatches of `sizes` in the order given (one minibatch unless given).
    """
    from sslens.capture import centred_gram
    from sslens.models.taps import Tap

    count = len(features[0])
    lengths = [count] if sizes is None else sizes.tolist()
    names = tuple(ids) if ids is not None else tuple(str(i) for i in range(count))
    n = max(lengths)
    grams, energy = (
        torch.zeros(len(features), len(lengths), n, n),
        torch.zeros(len(features), len(lengths), dtype=torch.float64),
    )
    for row, x in enumerate(features):
        for batch, part in enumerate(x.split(lengths)):
            gram, energy[row, batch] = centred_gram(part)
            grams[row, batch, : len(part), : len(part)] = gram.float()
    taps = tuple(Tap(str(i), "array", i / max(1, len(features) - 1)) for i in range(len(features)))
    tensors = {"grams": grams, "energy": energy, "sizes": torch.tensor(lengths)}
    return Artefact("grams", "arrays", names, taps, tensors, {"images": None, "plan": lengths})
