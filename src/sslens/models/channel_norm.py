"""Normalisation over the channels of a map, and a convolution that is followed by one, as the
pyramid and the heads of ViTDet are made of."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@final
class ChannelNorm(nn.Module):
    """Layer normalisation of each place of a map over its channels.

    y = (x − mean_c x) / sqrt(var_c x + ε) · weight_c + bias_c, with ε = 1e-6 and the biased
    variance over the channels c of one place (Li et al., 2022, arXiv:2203.16527, section 3, from
    ConvNeXt).

    >>> norm = ChannelNorm(2)
    >>> norm(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)).round(decimals=3).flatten().tolist()
    [-1.0, 1.0]
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Float[Tensor, "image channel row column"]
    ) -> Float[Tensor, "image channel row column"]:
        """Normalise each place; the result has the channels last in memory."""
        places = x.permute(0, 2, 3, 1)
        normal = F.layer_norm(places, self.weight.shape, self.weight, self.bias, self.eps)
        return normal.permute(0, 3, 1, 2)


@final
class ConvNorm(nn.Module):
    """A convolution of stride 1 without bias that keeps a map's size, followed by `ChannelNorm`.

    Its parameters are called `weight`, `norm.weight` and `norm.bias`, as detectron2 calls them. The
    weight begins as torch begins a convolution's, unless the user draws it anew.

    >>> sorted(ConvNorm(8, 4, 3).state_dict())
    ['norm.bias', 'norm.weight', 'weight']
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.norm = ChannelNorm(outputs)

    def forward(
        self, x: Float[Tensor, "image channel row column"]
    ) -> Float[Tensor, "image out row column"]:
        """Convolve and normalise."""
        normal: Tensor = self.norm(F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2))
        return normal
