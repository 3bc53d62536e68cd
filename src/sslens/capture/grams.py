"""What every measure reads of Grams: which images they are of, which taps vary, and the minibatches
one size at a time."""

import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from sslens.capture.artefact import Artefact
from sslens.capture.gram import CONSTANT, centred_gram
from sslens.errors import InputError
from sslens.models.taps import Tap

Made = TypeVar("Made")


def kept(make: Callable[[Artefact], Made]) -> Callable[[Artefact], Made]:
    """A function of an artefact whose result is made once and kept as long as the artefact: of many
    models each is prepared once.

    An artefact is never changed, and holds a dictionary, so that it cannot be a key itself.

    >>> calls = []
    >>> count = kept(lambda grams: calls.append(grams.model))
    >>> one = from_features([torch.eye(4)])
    >>> count(one), count(one), calls
    (None, None, ['arrays'])
    """
    made: dict[int, Made] = {}

    @functools.wraps(make)
    def once(grams: Artefact) -> Made:
        if id(grams) not in made:
            made[id(grams)] = make(grams)
            weakref.finalize(grams, made.pop, id(grams), None).atexit = False
        return made[id(grams)]

    return once


def rows(
    grams: Artefact,
    fewest: int,
    why: str,
    make: Callable[[Float64[Tensor, "tap batch n n"]], Float64[Tensor, "tap batch entry"]],
) -> Float64[Tensor, "tap batch entry"]:
    """A vector for each tap and minibatch, made from its Gram without padding; shorter ones are
    followed by zeros.

    Raises:
        InputError: a minibatch has fewer images than a measure is defined for; `why` says what is
            undefined of {n} images.
    """
    made = {tuple(these): make(blocks) for these, blocks in by_size(grams, fewest, why)}
    shape = *grams.tensors["grams"].shape[:2], max(part.shape[-1] for part in made.values())
    padded = torch.zeros(shape, dtype=torch.float64)
    for these, part in made.items():
        padded[:, list(these), : part.shape[-1]] = part
    return padded


def by_size(
    grams: Artefact, fewest: int, why: str
) -> Iterator[tuple[list[int], Float64[Tensor, "tap batch n n"]]]:
    """The minibatches of each size: which they are, and their Grams without padding, in float64.

    Raises:
        InputError: as `rows`.
    """
    sizes = grams.tensors["sizes"].tolist()
    if min(sizes) < fewest:
        raise InputError(f"{why.format(n=min(sizes))}, so give minibatches of {fewest} or more.")
    for size in sorted(set(sizes)):
        these = [i for i, other in enumerate(sizes) if other == size]
        blocks = grams.tensors["grams"][:, these, :size, :size].double()
        yield these, (blocks + blocks.mT) / 2  # a product of float32 is symmetric but for rounding


def spread(grams: Artefact) -> Float64[Tensor, "tap batch"]:
    """The trace of each Gram: the squared distances of the images from their mean, summed."""
    return grams.tensors["grams"].diagonal(dim1=-2, dim2=-1).sum(-1, dtype=torch.float64)


def varies(grams: Artefact) -> Bool[Tensor, "tap batch"]:
    """Whether a tap's features vary over the images of each minibatch beyond the rounding of
    float32."""
    trace = spread(grams)
    return trace > CONSTANT**2 * (trace + grams.tensors["energy"])


def vary(grams: Artefact) -> Bool[Tensor, " tap"]:
    """Whether a tap's features vary over images, all minibatches taken together."""
    trace = spread(grams).sum(1)
    return trace > CONSTANT**2 * (trace + grams.tensors["energy"].sum(1))


def distances(blocks: Float64[Tensor, "*batch n n"]) -> Float64[Tensor, "*batch n n"]:
    """Squared Euclidean distances K_ii + K_jj − 2K_ij over their largest, in whole steps of 4e-6,
    the rounding of float32.

    In such steps two distances that are equal but for rounding are equal, so that ties are ties.
    Zero where all are.

    >>> x = torch.tensor([[0.0], [1.0], [2.0]]).double()
    >>> (distances(x @ x.T) * CONSTANT).round(decimals=9).tolist()  # 0, 1 and 4 over 4
    [[0.0, 0.25, 1.0], [0.25, 0.0, 0.25], [1.0, 0.25, 0.0]]
    """
    own = blocks.diagonal(dim1=-2, dim2=-1)
    squared = own[..., :, None] + own[..., None, :] - 2 * blocks
    largest = squared.amax((-2, -1), keepdim=True)
    return torch.where(largest > 0, squared / (largest * CONSTANT), 0).round()


def where(
    value: Float64[np.ndarray, "tap_a tap_b"], a: Bool[Tensor, " tap_a"], b: Bool[Tensor, " tap_b"]
) -> Float64[np.ndarray, "tap_a tap_b"]:
    """The values where both taps are defined, and nan elsewhere."""
    return np.where((a[:, None] & b[None, :]).numpy(), value, np.nan)


def mean_product(
    a: Float64[Tensor, "tap_a batch entry"], b: Float64[Tensor, "tap_b batch entry"]
) -> Float64[np.ndarray, "tap_a tap_b"]:
    """The inner product of vectors of the same minibatch, for all pairs of taps, as the mean over
    minibatches; nan for a nan.

    >>> a, b = torch.tensor([[[1.0, 0.0], [0.5, 0.75]]]).double(), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).double()
    >>> mean_product(a, b).tolist()  # (1 + 0.75) / 2
    [[0.875]]
    """
    return (a.flatten(1) @ b.flatten(1).T).numpy() / a.shape[1]


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
        f"{a.model} and {b.model} cannot be compared: {what}. Compute both over one set of images"
        " with one seed."
    )


def from_features(
    features: Sequence[Float[Tensor, "image _"]],
    ids: Sequence[str] | None = None,
    sizes: Int[np.ndarray, " batch"] | None = None,
) -> Artefact:
    """Grams of features at hand, one array a tap, for use without a model.

    Rows are cut into minibatches of `sizes` in the order given (one minibatch unless given).
    """
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
