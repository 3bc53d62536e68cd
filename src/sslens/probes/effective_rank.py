"""The effective rank of features: how many directions they use, without any label."""

import torch
from jaxtyping import Float
from torch import Tensor


def measure_effective_rank(features: Float[Tensor, "image dim"]) -> float:
    """Measure the effective rank of features, RankMe (Garrido et al., 2023, arXiv:2210.02885):

        exp(−Σ_k p_k log p_k),  p_k = σ_k / Σ_j σ_j,

    where σ are the singular values of the features, which are not centred. It goes from 1, where
    all features are multiples of one, to the smaller of the number of images and of dimensions; it
    is 0 where all features are zero. The papers add 1e-7 to each p_k, which 0 log 0 = 0 replaces
    here. Computed in float64.

    Args:
        features: one row an image.

    >>> # σ = 3, 1: p = ¾, ¼, and exp(−¾ log ¾ − ¼ log ¼) = 4 / 3^¾
    >>> round(measure_effective_rank(torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])), 9)
    1.754765351
    """
    sigma = torch.linalg.svdvals(features.double())
    share = sigma / sigma.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return float(torch.special.entr(share).sum().exp()) if share.any() else 0.0
