"""Targets that use all prototypes equally."""

from jaxtyping import Float
from torch import Tensor

from sslens.models.heads import sum_over_processes


def balance_assignments(
    p: Float[Tensor, "image prototype"], iterations: int
) -> Float[Tensor, "image prototype"]:
    """Balance assignments over the prototypes by Sinkhorn and Knopp's iteration: in turn, scale the
    columns to equal sums and the rows to sum 1 (Cuturi, 2013).

    The column sums are over the images of all processes; each process holds its own images' rows.

    Args:
        p: the assignments of this process' images; each row sums to 1.
        iterations: how many times columns and rows are scaled.

    >>> import torch
    >>> p = torch.tensor([[0.9, 0.1], [0.6, 0.4]])  # columns sum to 1.5 and 0.5
    >>> balance_assignments(p, 1)  # rows 0.6 : 0.2 and 0.4 : 0.8
    tensor([[0.7500, 0.2500],
            [0.3333, 0.6667]])
    """
    p = p / sum_over_processes(p.sum())
    for _ in range(iterations):
        p = p / (sum_over_processes(p.sum(dim=0)) * p.shape[1])
        p = p / p.sum(dim=1, keepdim=True)
    return p / p.sum(dim=1, keepdim=True)
