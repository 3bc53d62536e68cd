"""The dense probe without training: segmentation by the labels of the nearest patches."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.probes._nearest import Bank
from sslens.probes.knn import Scale, standardise
from sslens.probes.patches import (
    CHUNK,
    Map,
    PatchLabels,
    require_finite,
    require_map,
    require_trained,
)

#: patches that are remembered, and neighbours and temperature of the vote (Balažević et al., 2023)
MEMORY, K, TEMPERATURE = 10_000, 30, 0.02


@final
@dataclass(frozen=True, eq=False)
class NearestSegmentation:
    """A segmentation by nearest neighbours.

    Attributes:
        predicted: class of each patch of the queries.
        memory: number of patches that are remembered, M.
        k: number of neighbours that vote.
        varies: whether any feature varies over the memory.
    """

    predicted: Int64[Tensor, "image row column"]
    memory: int
    k: int
    varies: bool


def segment_nearest(
    remembered: Map,
    labels: PatchLabels,
    queries: Map,
    *,
    memory: int = MEMORY,
    k: int = K,
    temperature: float | None = TEMPERATURE,
    scale: Scale = "raw",
    seed: int = 0,
    device: str = "cpu",
) -> NearestSegmentation:
    """Segment images without training: each patch is of the class that its nearest patches have.

    M patches with labelled pixels are drawn at random and remembered with label proportions q. With
    s_j the cosines of a query to its k nearest, its class is the largest entry, or the first, of
    Σ_j exp(s_j / τ) q_j (Balažević et al., 2023, arXiv 2306.01667; they draw patches of rare
    classes more often, and upsample the votes bilinearly). Scores grow with M: say it with them.
    Where no feature varies over the memory, all patches get the largest class of the memory.

    Args:
        remembered: map of the images of which patches are remembered.
        labels: labelled pixels of these images.
        queries: map of the images to segment.
        memory: M, or all patches with labelled pixels where there are fewer.
        k: number of neighbours, or all where there are fewer.
        temperature: τ; None: each neighbour counts alike.
        scale: features as they come, or standardised by the memory's mean and deviation.
        seed: seed of the draw.
        device: where the products are computed.

    Raises:
        InputError: pixels of one class or none, features that are not finite, k, M or τ not above
            0, or shapes that do not fit.

    >>> from sslens.probes.patches import count_labels
    >>> labels = count_labels(torch.tensor([[[0, 0, 1, 1]]]), (1, 2), classes=2)
    >>> x = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    >>> found = segment_nearest(x, labels, x.flip(2), k=1)
    >>> found.predicted.tolist(), found.memory
    ([[[1, 0]]], 2)
    """
    require_trained(labels)
    require_map(remembered, labels)
    _require(queries, remembered.shape[3], memory, k, temperature)
    chosen = _draw(labels, memory, seed)
    counts = labels.counts(chosen)
    shares = counts / counts.sum(1, keepdim=True)
    bank, asked = remembered.flatten(0, 2)[chosen].to(device), queries.flatten(0, 2).to(device)
    varies, k = bool((bank != bank[0]).any()), min(k, len(chosen))
    if varies and scale == "standardised":
        asked, bank = standardise(asked, bank)
        varies = bank.shape[1] > 0
    if varies:
        predicted = _vote(*Bank(bank).nearest(asked, k), shares, temperature)
    else:
        predicted = shares.sum(0).argmax().expand(len(asked)).clone()
    return NearestSegmentation(predicted.view(queries.shape[:3]), len(chosen), k, varies)


def _draw(labels: PatchLabels, memory: int, seed: int) -> Int64[Tensor, " patch"]:
    """Draw patches with labelled pixels, without replacement, and put them in order."""
    labelled = labels.pixels.nonzero()[:, 0]
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed))
    return labelled[order[:memory].sort().values]


def _vote(
    rows: Int64[Tensor, "query k"],
    cosines: Float32[Tensor, "query k"],
    shares: Float64[Tensor, "bank class"],
    temperature: float | None,
) -> Int64[Tensor, " query"]:
    """The class with the largest share of the votes of each query's neighbours."""
    predicted = []
    for some, cosine in zip(rows.split(CHUNK), cosines.split(CHUNK), strict=True):
        weights = torch.ones_like(cosine)
        if temperature is not None:
            weights = ((cosine - cosine[:, :1]) / temperature).exp()
        votes = embedding_bag(some, shares, per_sample_weights=weights.double(), mode="sum")
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)


def _require(queries: Map, dim: int, memory: int, k: int, temperature: float | None) -> None:
    """Refuse queries of other features, and numbers that are not above 0."""
    require_finite(queries)
    if queries.shape[3] != dim:
        raise InputError(
            f"The queries have {spell_count(queries.shape[3], 'dimension')} and the memory {dim}:"
            " give maps of one tap."
        )
    if memory < 1 or k < 1 or (temperature is not None and not temperature > 0):
        raise InputError(
            f"{spell_count(memory, 'patch')}, {spell_count(k, 'neighbour')} and a temperature of"
            f" {temperature} are not all above 0."
        )
