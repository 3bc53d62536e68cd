"""How far each image moved among the others from one representation to another."""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from sslens.probes.knn import neighbours

#: rows of the matrices of cosines that are held at a time
ROWS = 1024


def measure_movement(
    a: Float[Tensor, "image dim_a"], b: Float[Tensor, "image dim_b"]
) -> Float64[Tensor, " image"]:
    """Measure how far each image moved among the others:

        1 − corr_{j ≠ i}(cos(a_i, a_j), cos(b_i, b_j)),

    one less Pearson's correlation over all other images j. It is 0 for an image whose cosines with
    all others have the same order and proportions in both, about 1 for unrelated ones, and depends
    on no rotation or scale of either representation; so two networks of any shapes can be compared.
    It is nan where an image has one cosine with all others.

    Args:
        a, b: features of the same images in the same order, three or more.

    >>> a = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.2]])
    >>> measure_movement(a, 3 * a.flip(1)).abs().max().item() < 1e-12
    True
    """
    one, other = (torch.nn.functional.normalize(x.double(), dim=1) for x in (a, b))
    parts = []
    for start in range(0, len(a), ROWS):
        rows = torch.arange(start, min(start + ROWS, len(a)))
        near, far = (_centre(x[rows] @ x.T, rows) for x in (one, other))
        both = (near * far).sum(1)
        parts.append(1 - both / ((near * near).sum(1) * (far * far).sum(1)).sqrt())
    return torch.cat(parts)


def _centre(cosines: Float64[Tensor, "row image"], rows: Tensor) -> Float64[Tensor, "row image"]:
    """Subtract from each image's cosines their mean, without the one with itself, which becomes 0;
    rows that do not vary but for rounding become 0."""
    own = torch.arange(len(rows)), rows
    cosines[own] = 0.0
    centred = cosines - cosines.sum(1, keepdim=True) / (cosines.shape[1] - 1)
    centred[own] = 0.0
    flat = centred.abs().amax(1, keepdim=True) < 1e-12
    return centred.masked_fill(flat, 0.0)


def measure_overlap(
    a: Float[Tensor, "image dim_a"], b: Float[Tensor, "image dim_b"], k: int
) -> Float64[Tensor, " image"]:
    """Measure the share of each image's k nearest neighbours by `a` that are so by `b` too.

    >>> a = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> measure_overlap(a, a[:, :1] * torch.tensor([[1.0, 1.0]]), 1).tolist()[:2]
    [1.0, 1.0]
    """
    one, other = (neighbours(x, x, k, leave_one_out=True)[0] for x in (a, b))
    shared: Bool[Tensor, "image k"] = (one[:, :, None] == other[:, None]).any(2)
    return shared.double().mean(1)
