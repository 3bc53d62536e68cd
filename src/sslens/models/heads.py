"""Projection heads, and the batch normalisation in them, which sees the whole batch of all
processes."""

import itertools
from typing import Any, final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@final
class _Sum(torch.autograd.Function):
    """The sum over processes; the gradient of the sum of their losses is the sum of their
    gradients."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total


def sum_over_processes(x: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, with gradients; the tensor itself where there
    is one process.

    >>> sum_over_processes(torch.ones(2)).tolist()
    [1.0, 1.0]
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return x
    total: Tensor = _Sum.apply(x)
    return total


@final
class BatchNorm(nn.Module):
    """Batch normalisation over the images of all processes, also on a CPU, where torch's
    SyncBatchNorm does not work.

    In evaluation it uses running statistics, as `nn.BatchNorm1d` with its defaults does (eps 1e-5,
    momentum 0.1). Feature maps are normalised per channel, over images and places, as by
    `nn.BatchNorm2d`.

    >>> norm = BatchNorm(1, affine=False)
    >>> norm(torch.tensor([[1.0], [3.0]])).round(decimals=3).flatten().tolist()
    [-1.0, 1.0]
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        dim: int,
        *,
        affine: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        counted: bool = False,
    ) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        if counted:  # as in torch's, so that state dicts have the same names
            self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Float[Tensor, "image dim *place"]) -> Float[Tensor, "image dim *place"]:
        """Normalise the batch."""
        if self.training and "num_batches_tracked" in self._buffers:
            self.get_buffer("num_batches_tracked").add_(1)
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return F.batch_norm(
                x,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                self.training,
                self.momentum,
                self.eps,
            )
        over, along = (0, *range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = sum_over_processes(x.float().sum(over)) / count
        centred = x.float() - mean.view(along)
        var = sum_over_processes(centred.square().sum(over)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        normal = centred * (var + self.eps).rsqrt().view(along)
        if self.weight is not None and self.bias is not None:
            normal = normal * self.weight.view(along) + self.bias.view(along)
        return normal.to(x.dtype)


def share_norms(network: nn.Module) -> None:
    """Replace, in place, every `nn.BatchNorm2d` of a network so that it sees the images of all
    processes; the state dict keeps its names.

    In one process, and in evaluation, the network computes as before.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    >>> before = list(network.state_dict())
    >>> share_norms(network)
    >>> type(network[1]).__name__, list(network.state_dict()) == before
    ('BatchNorm', True)
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                shared = BatchNorm(
                    child.num_features, eps=child.eps, momentum=child.momentum or 0.1, counted=True
                )
                shared.to(child.weight.device).load_state_dict(child.state_dict())
                setattr(module, name, shared)


def build_mlp(dims: tuple[int, ...], *, last_norm: bool = True) -> nn.Sequential:
    """Build the projector (three layers) or predictor (two) of MoCo-v3.

    Its layers are linear without bias, each followed by BatchNorm and ReLU; the last is followed by
    BatchNorm without affine part, or by nothing.

    Args:
        dims: the widths, from the input to the output.
        last_norm: whether the last layer is followed by BatchNorm.

    >>> [type(layer).__name__ for layer in build_mlp((8, 16, 4))]
    ['Linear', 'BatchNorm', 'ReLU', 'Linear', 'BatchNorm']
    """
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(dims)):
        layers.append(nn.Linear(before, after, bias=False))
        if i < len(dims) - 2:
            layers += [BatchNorm(after), nn.ReLU(inplace=True)]
        elif last_norm:
            layers.append(BatchNorm(after, affine=False))
    return nn.Sequential(*layers)


def build_gelu_mlp(dims: tuple[int, ...], *, norm: bool = False) -> nn.Sequential:
    """Build the head of DINO (without norm) or of MSN (with norm), up to the prototypes.

    Its layers are linear with bias, with GELU between them, and with BatchNorm before each GELU if
    `norm`. Weights are truncated normal with a standard deviation of 0.02.

    >>> [type(layer).__name__ for layer in build_gelu_mlp((8, 16, 4), norm=True)]
    ['Linear', 'BatchNorm', 'GELU', 'Linear']
    """
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(dims)):
        layers.append(nn.Linear(before, after))
        if i < len(dims) - 2:
            layers += [BatchNorm(after), nn.GELU()] if norm else [nn.GELU()]
    head = nn.Sequential(*layers)
    draw_truncated_normal(head)
    return head


def draw_truncated_normal(module: nn.Module) -> None:
    """Draw the weights of a linear layer from a truncated normal with a standard deviation of 0.02,
    and set its bias to zero, as DINO and MSN begin; in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def draw_xavier_uniform(module: nn.Module) -> None:
    """Draw the weights of linear layers Xavier-uniform, and set biases to zero, as MAE begins; in
    place."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
