"""A ConvNeXt-V2 on images of which only some places are seen, as sparse convolutions compute it, in
dense arithmetic."""

import torch
from jaxtyping import Bool, Float, Int
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional

from sslens.models.blocks import run_block
from sslens.models.heads import sum_over_processes


def compute_masked_features(
    network: ConvNeXt,
    images: Float[Tensor, "image 3 size size"],
    seen: Bool[Tensor, "image row column"],
    *,
    together: bool = True,
) -> Float[Tensor, "image channel row column"]:
    """Compute the last features at the seen places, from seen places alone; the others are zero.

    A sparse convolution takes unseen neighbours as zero and puts out seen places only. A dense
    convolution does the same on a map that is zero at unseen places, if its output is set to zero
    there again. Operations on single places (normalisation of channels, MLP) are computed for the
    seen places only, which is also less work. Maps are laid out with channels last, which makes
    depthwise convolutions on a CPU several times as fast. Down-sampling gets contiguous maps: its
    gradient is then laid out as its weights are, which exchanging it between processes needs. The
    stem and the down-sampling never mix places of different patches.

    Only the global response normalisation mixes places: N(h_c) = |h_c| / (mean_c |h_c| + 1e-6),
    where |h_c| is the Euclidean norm of channel c over seen places.

    Args:
        network: a network without drop path, layer scale or dilation.
        images: the images.
        seen: the patches that are seen, as many in every image. A patch is the part of an image for
            which one place of the last features stands.
        together: whether |h_c| is over all images of the minibatch and all processes (FCMAE's
            sparse code takes the images of one process); otherwise it is over each image, as in the
            dense network.
    """
    x = network.stem(images)
    for stage in network.stages:
        if isinstance(stage.downsample, nn.Sequential):
            norm, convolution = stage.downsample
            x = convolution(norm(x).contiguous())
        side = x.shape[-1] // seen.shape[-1]
        places = seen.repeat_interleave(side, dim=1).repeat_interleave(side, dim=2)
        x = (x * places[:, None]).contiguous(memory_format=torch.channels_last)
        index = places.flatten().nonzero()[:, 0]
        for block in stage.blocks:
            x = x + run_block(_compute_branch, block, x, index, 1 if together else len(images))
    return x


def _compute_branch(
    block: ConvNeXtBlock,
    x: Float[Tensor, "image channel row column"],
    index: Int[Tensor, " seen"],
    groups: int,
) -> Float[Tensor, "image channel row column"]:
    """Compute the residual of a block at the seen places; it is zero elsewhere."""
    mixed = _convolve(block.conv_dw, x).permute(0, 2, 3, 1)
    rows = block.norm(mixed.flatten(0, 2)[index])
    hidden = block.mlp.act(block.mlp.fc1(rows))
    out = block.mlp.fc2(_respond(block.mlp.grn, hidden, groups))
    spread = out.new_zeros(mixed.shape[:3].numel(), out.shape[1]).index_copy(0, index, out)
    return spread.view(*mixed.shape[:3], -1).permute(0, 3, 1, 2)


def _convolve(
    depthwise: nn.Conv2d, x: Float[Tensor, "image channel row column"]
) -> Float[Tensor, "image channel row column"]:
    """Convolve each channel. The gradient of weights that are flattened and shaped again is laid
    out as they are, whatever the layout of the maps; on a CPU it takes twice as long in
    bfloat16."""
    weight = depthwise.weight.flatten(1).view_as(depthwise.weight)
    with torch.autocast("cpu", enabled=False):
        wide = x.to(weight.dtype) if x.device.type == "cpu" else x
        return functional.conv2d(
            wide, weight, depthwise.bias, padding=depthwise.padding, groups=depthwise.groups
        )


def _respond(
    grn: nn.Module, hidden: Float[Tensor, "seen channel"], groups: int
) -> Float[Tensor, "seen channel"]:
    """h + γ h N(h) + β, with norms over each of `groups` equal shares of the rows; over those of
    all processes for one."""
    h = hidden.unflatten(0, (groups, -1))
    gamma, beta = (grn.get_parameter(name).to(h.dtype) for name in ("weight", "bias"))
    squares = h.float().square().sum(1, keepdim=True)
    squares = sum_over_processes(squares) if groups == 1 else squares
    # the gradient of the root is not finite at 0
    norms = torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)
    scale = (norms / (norms.mean(-1, keepdim=True) + 1e-6)).to(h.dtype)
    return (h + torch.addcmul(beta, gamma, h * scale)).flatten(0, 1)
