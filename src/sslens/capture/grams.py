"""Grams, and what measures need to read them: the minibatches of one size, which taps vary, and
whether two Grams are of the same images."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor

from sslens.capture.gram import CONSTANT, centred_gram
from sslens.counts import spell_count
from sslens.errors import InputError, require_type
from sslens.models.taps import Tap

Made = TypeVar("Made")


@final
@dataclass(frozen=True, eq=False)
class Grams:
    """The mean-centred Grams of a model's taps over images, one an n × n minibatch.

    A minibatch shorter than the longest is padded with zeros, which no measure reads.

    Attributes:
        model: name of the model.
        ids: the ids of the images in the order of the pass, minibatch by minibatch.
        taps: the taps in the order of computation, one for each row of `blocks` and `energy`.
        blocks: the Grams K = (X − 1μᵀ)(X − 1μᵀ)ᵀ.
        energy: n‖μ‖², the squared size of the mean that the centring removed; constant taps are
            recognised by comparing it with the Gram's trace.
        sizes: images in each minibatch.
        key: what decided the Grams: weights, transform, precision, images, plan, ….

    >>> grams = Grams.of_features([torch.tensor([[1.0], [3.0]])])
    >>> grams.blocks.tolist(), grams.energy.tolist(), grams.sizes.tolist()  # ±1 about 2: 2 · 2²
    ([[[[1.0, -1.0], [-1.0, 1.0]]]], [[8.0]], [2])
    """

    model: str
    ids: tuple[str, ...]
    taps: tuple[Tap, ...]
    blocks: Float32[Tensor, "tap batch n n"]
    energy: Float64[Tensor, "tap batch"]
    sizes: Int64[Tensor, " batch"]
    key: Mapping[str, Any]

    def __repr__(self) -> str:
        return (
            f"<Grams {self.model}: {spell_count(len(self.blocks), 'tap')}, {len(self.ids)} images"
            f" in {spell_count(len(self.sizes), 'minibatch')}>"
        )

    def at(self, kind: str) -> "Grams":
        """Select the Grams of the taps of one kind, in order of depth."""
        rows = [row for row, tap in enumerate(self.taps) if tap.kind == kind]
        taps = tuple(self.taps[row] for row in rows)
        return replace(self, taps=taps, blocks=self.blocks[rows], energy=self.energy[rows])

    @classmethod
    def of_features(
        cls,
        features: Sequence[Float[Tensor, "image _"]],
        ids: Sequence[str] | None = None,
        sizes: Int[np.ndarray, " batch"] | None = None,
    ) -> "Grams":
        """Compute Grams from features in memory, one array for each tap, without a model.

        Args:
            features: the arrays.
            ids: the ids of the images; "0", "1", … unless given.
            sizes: the number of rows of each minibatch, in order; one minibatch of all rows unless
                given.

        Raises:
            InputError: there is no array, or arrays, ids and sizes have different numbers of
                images.
        """
        counts = {len(x) for x in features}
        if len(counts) != 1 or (ids is not None and counts != {len(ids)}):
            raise InputError(
                f"Features of {' and '.join(map(str, sorted(counts))) or 'no'} images were given,"
                f" and {'no' if ids is None else len(ids)} ids: give one array or more, all of the"
                " same images."
            )
        (count,) = counts
        if sizes is not None and int(sizes.sum()) != count:
            raise InputError(
                f"The minibatches are of {int(sizes.sum())} images, and the features of {count}",
                mend="give other {sizes}",
            )
        lengths = [count] if sizes is None else sizes.tolist()
        names = tuple(ids) if ids is not None else tuple(str(i) for i in range(count))
        n = max(lengths)
        blocks = torch.zeros(len(features), len(lengths), n, n)
        energy = torch.zeros(len(features), len(lengths), dtype=torch.float64)
        for row, x in enumerate(features):
            for batch, part in enumerate(x.split(lengths)):
                gram, energy[row, batch] = centred_gram(part)
                blocks[row, batch, : len(part), : len(part)] = gram.float()
        end = max(1, len(features) - 1)
        taps = tuple(Tap(str(row), "array", row / end) for row in range(len(features)))
        key = {"images": None, "plan": lengths}
        return cls("arrays", names, taps, blocks, energy, torch.tensor(lengths), key)


@final
class GramsCache(Generic[Made]):
    """Keeps what is computed from Grams as long as the Grams live, so that in a comparison of many
    models each model is prepared once.

    >>> cache: GramsCache[int] = GramsCache()
    >>> one = Grams.of_features([torch.eye(4)])
    >>> cache.find(one), cache.keep(one, 3), cache.find(one)
    (None, 3, 3)
    """

    def __init__(self) -> None:
        self._made: weakref.WeakKeyDictionary[Grams, Made] = weakref.WeakKeyDictionary()

    def find(self, grams: Grams) -> Made | None:
        """Return what is kept for these Grams, or None."""
        return self._made.get(grams)

    def keep(self, grams: Grams, made: Made) -> Made:
        """Keep `made` for these Grams, and return it."""
        self._made[grams] = made
        return made


def join_vectors(
    grams: Grams, parts: Sequence[tuple[list[int], Tensor]]
) -> Float64[Tensor, "tap batch entry"]:
    """Join vectors of minibatches of several sizes into one tensor; the shorter ones are padded
    with zeros.

    Args:
        grams: the Grams.
        parts: the numbers of the minibatches of each size, as `split_by_size` gives them, with
            their vectors [tap, batch, entry].

    >>> grams = Grams.of_features([torch.eye(5)], sizes=np.array([2, 3]))
    >>> sizes = split_by_size(grams, 2, "There are {n} images")
    >>> parts = [(these, blocks.flatten(2)) for these, blocks in sizes]
    >>> join_vectors(grams, parts).shape  # 2² entries and 5 zeros, 3² entries
    torch.Size([1, 2, 9])
    """
    shape = *grams.blocks.shape[:2], max(vectors.shape[-1] for _, vectors in parts)
    joined = torch.zeros(shape, dtype=torch.float64)
    for these, vectors in parts:
        joined[:, these, : vectors.shape[-1]] = vectors
    return joined


def split_by_size(
    grams: Grams, fewest: int, why: str
) -> Iterator[tuple[list[int], Float64[Tensor, "tap batch n n"]]]:
    """Yield the minibatches of each size: their numbers, and their Grams without padding in
    float64.

    Args:
        grams: the Grams.
        fewest: the smallest number of images that is allowed in a minibatch.
        why: the start of the error message, with {n} for the number of images.

    Raises:
        InputError: a minibatch has fewer than `fewest` images.
    """
    sizes = grams.sizes.tolist()
    if min(sizes) < fewest:
        raise InputError(f"{why.format(n=min(sizes))}, so give minibatches of {fewest} or more.")
    for size in sorted(set(sizes)):
        these = [i for i, other in enumerate(sizes) if other == size]
        blocks = grams.blocks[:, these, :size, :size].double()
        yield these, (blocks + blocks.mT) / 2  # a product of float32 is symmetric but for rounding


def compute_traces(grams: Grams) -> Float64[Tensor, "tap batch"]:
    """Return the trace of each Gram: the summed squared distances of the images from their mean."""
    return grams.blocks.diagonal(dim1=-2, dim2=-1).sum(-1, dtype=torch.float64)


def vary_within_minibatches(grams: Grams) -> Bool[Tensor, "tap batch"]:
    """Whether each tap's features vary over the images of each single minibatch, by more than the
    rounding of float32."""
    trace = compute_traces(grams)
    return trace > CONSTANT**2 * (trace + grams.energy)


def vary_over_images(grams: Grams) -> Bool[Tensor, " tap"]:
    """Whether each tap's features vary over all images, with all minibatches taken together."""
    trace = compute_traces(grams).sum(1)
    return trace > CONSTANT**2 * (trace + grams.energy.sum(1))


def distances(blocks: Float64[Tensor, "*batch n n"]) -> Float64[Tensor, "*batch n n"]:
    """Return the squared Euclidean distances K_ii + K_jj − 2K_ij between images, divided by the
    largest and counted in steps of `CONSTANT` (4e-6, the rounding of float32).

    The counts are whole numbers, from 0 to 250,000, so that two distances that differ by rounding
    only are equal, and ties are ties. All are 0 where all distances are 0.

    >>> x = torch.tensor([[0.0], [1.0], [2.0]]).double()
    >>> (distances(x @ x.T) * CONSTANT).round(decimals=9).tolist()  # 0, 1 and 4 over 4
    [[0.0, 0.25, 1.0], [0.25, 0.0, 0.25], [1.0, 0.25, 0.0]]
    """
    own = blocks.diagonal(dim1=-2, dim2=-1)
    squared = own[..., :, None] + own[..., None, :] - 2 * blocks
    largest = squared.amax((-2, -1), keepdim=True)
    return torch.where(largest > 0, squared / (largest * CONSTANT), 0).round()


def mask_undefined(
    value: Float64[np.ndarray, "tap_a tap_b"], a: Bool[Tensor, " tap_a"], b: Bool[Tensor, " tap_b"]
) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Return the values where both taps are defined, and nan elsewhere."""
    return np.where((a[:, None] & b[None, :]).numpy(), value, np.nan)


def mean_product(
    a: Float64[Tensor, "tap_a batch entry"], b: Float64[Tensor, "tap_b batch entry"]
) -> Float64[np.ndarray, "tap_a tap_b"]:
    """Return the inner products of the two vectors of each minibatch, averaged over minibatches,
    for all pairs of taps; nan where an entry is nan.

    >>> a = torch.tensor([[[1.0, 0.0], [0.5, 0.75]]]).double()
    >>> b = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).double()
    >>> mean_product(a, b).tolist()  # (1 + 0.75) / 2
    [[0.875]]
    """
    return (a.flatten(1) @ b.flatten(1).T).numpy() / a.shape[1]


def require_same_images(a: Grams, b: Grams) -> None:
    """Refuse two Grams that are not of the same images in the same minibatches.

    Raises:
        InputError: the images or the minibatches differ (the message names the first id that does),
            or an argument is no `Grams`.
    """
    for side in (a, b):
        require_type(side, Grams, "Grams of a model", "give what sslens.grams returns")
    same = ("images", "plan")
    if a.ids == b.ids and all(a.key.get(name) == b.key.get(name) for name in same):
        return
    apart = sorted(set(a.ids) ^ set(b.ids))
    if apart:
        owner = a.model if apart[0] in set(a.ids) else b.model
        what = (
            f"{spell_count(len(apart), 'id', 'differ')}, first {apart[0]}, which only {owner} has"
            " seen"
        )
    elif a.key.get("images") != b.key.get("images"):
        what = "the ids are the same, but the contents or labels of the images differ"
    else:
        what = "the images are the same, but their minibatches differ"
    raise InputError(
        f"{a.model} and {b.model} cannot be compared: {what}. Compute both over one set of images"
        " with one seed."
    )
