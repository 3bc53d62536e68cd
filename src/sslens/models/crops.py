"""A Vision Transformer on crops of any size, with patches left out and residual branches
dropped."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from sslens.errors import InputError
from sslens.models.blocks import run_block
from sslens.models.heads import draw_xavier_uniform
from sslens.models.some_tokens import compute_for_some

#: the first token
CLS = slice(0, 1)


def learn_positions(network: VisionTransformer) -> None:
    """Make the positions trainable, and draw them and the CLS token from a truncated normal with a
    standard deviation of 0.02, as DINO and MSN begin; in place."""
    network.pos_embed = nn.Parameter(
        nn.init.trunc_normal_(torch.empty_like(network.pos_embed), std=0.02)
    )
    nn.init.trunc_normal_(network.cls_token, std=0.02)


def begin_as_mae(network: VisionTransformer) -> None:
    """Draw the first weights as MAE does, in place: matrices Xavier-uniform and the CLS token
    normal with a standard deviation of 0.02; positions stay fixed sin-cos ones.

    >>> from sslens.models.vit import ViTArch
    >>> network = ViTArch(8, 4, dim=16, blocks=1, heads=2).build(seed=0)
    >>> begin_as_mae(network)
    >>> largest = network.blocks[0].mlp.fc1.weight.abs().max()
    >>> network.pos_embed.requires_grad, bool(largest <= (6 / (16 + 64)) ** 0.5)
    (False, True)
    """
    draw_xavier_uniform(network)
    projection = network.patch_embed.proj.weight
    nn.init.xavier_uniform_(projection.view(len(projection), -1))
    nn.init.normal_(network.cls_token, std=0.02)


def resize_positions(
    table: Float[Tensor, "1 token dim"], grid: int, *, shift: float = 0.0
) -> Float[Tensor, "1 resized dim"]:
    """Resample the positions of a square grid to another grid, by bicubic interpolation without
    antialiasing; CLS's row stays first.

    With `shift=0.1` the scale is (grid + 0.1) / old instead of grid / old, as in DINO. That was
    meant as a guard against rounding, but it moves every position a little, and DINO's models were
    trained with it. A grid of the same size is not resampled.

    >>> column = torch.tensor([0.0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12])
    >>> table = torch.cat([torch.tensor([9.0]), column]).view(1, 17, 1)
    >>> # midway: (−3 · 0 + 19 · 0 + 19 · 4 − 3 · 8) / 32 and its mirror
    >>> resize_positions(table, 2).flatten().tolist()
    [9.0, 1.625, 1.625, 10.375, 10.375]
    """
    old = round((table.shape[1] - 1) ** 0.5)
    if grid == old:
        return table
    patches = table[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)
    if shift:
        resized = F.interpolate(patches, scale_factor=(grid + shift) / old, mode="bicubic")
    else:
        resized = F.interpolate(patches, size=(grid, grid), mode="bicubic")
    return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def compute_class_tokens(
    network: VisionTransformer,
    crops: Float[Tensor, "*image 3 size size"],
    *,
    shift: float = 0.0,
    patches: Int[Tensor, " kept"] | None = None,
    branches: Float[Tensor, "*image block 2"] | None = None,
) -> Float[Tensor, "*image dim"]:
    """Compute the CLS token of each crop after the final norm.

    Args:
        network: the network; its positions are resampled to the crops' grid by `resize_positions`,
            with this shift.
        patches: the numbers of the patches that are seen, the same in all crops; all patches unless
            given.
        branches: the factors of the attention and of the MLP of each block, applied before these
            are added (stochastic depth); 1 unless given.
    """
    x = network.patch_embed.proj(crops.flatten(0, -4)).flatten(2).transpose(1, 2)
    positions = resize_positions(
        network.pos_embed, crops.shape[-1] // network.patch_embed.patch_size[0], shift=shift
    )
    x = x + positions[:, 1:]
    if patches is not None:
        x = x[:, patches]
    x = torch.cat([(network.cls_token + positions[:, :1]).expand(len(x), -1, -1), x], dim=1)
    *blocks, last = network.blocks
    if branches is None:
        for block in blocks:
            x = block(x)
        x = compute_for_some(last, x, CLS)
    else:
        *factors, of_last = branches.flatten(0, -3).permute(1, 2, 0)[..., None, None]
        for block, (attention, mlp) in zip(blocks, factors, strict=True):
            x = run_block(_drop, block, x, attention, mlp)
        x = compute_for_some(last, x, CLS, *of_last)
    tokens: Tensor = network.norm(x[:, 0])
    return tokens.unflatten(0, crops.shape[:-3])


def _drop(
    block: Block,
    x: Float[Tensor, "crop token dim"],
    attention: Float[Tensor, "crop 1 1"],
    mlp: Float[Tensor, "crop 1 1"],
) -> Float[Tensor, "crop token dim"]:
    x = x + attention * block.attn(block.norm1(x))
    out: Tensor = x + mlp * block.mlp(block.norm2(x))
    return out


def make_depth_factors(
    noise: Float[Tensor, "*image block 2"], drop_path: float
) -> Float[Tensor, "*image block 2"]:
    """Return the factors of stochastic depth: 0 where the noise, uniform in [0, 1), is below the
    block's rate p, else 1 / (1 − p).

    p rises linearly from 0 in the first block to `drop_path` in the last (Huang et al., 2016,
    arXiv:1603.09382).

    >>> make_depth_factors(torch.tensor([[[0.0, 0.9], [0.1, 0.3]]]), drop_path=0.2).tolist()
    [[[1.0, 1.0], [0.0, 1.25]]]
    """
    rate = torch.linspace(0, drop_path, noise.shape[-2], dtype=noise.dtype, device=noise.device)[
        :, None
    ]
    return (noise >= rate) / (1 - rate)


def choose_local_size(image_size: int, patch_size: int, asked: int) -> int:
    """Return the side of local crops in pixels: `asked`, or for 0 three sevenths of the image in
    whole patches, as 96 is of 224.

    Raises:
        InputError: the side is no multiple of the patch, or larger than the images.

    >>> choose_local_size(224, 16, 0), choose_local_size(64, 8, 0), choose_local_size(64, 8, 32)
    (96, 24, 32)
    """
    size = asked or max(1, round(image_size * 3 / 7 / patch_size)) * patch_size
    if size < 1 or size % patch_size or size > image_size:
        raise InputError(
            f"Small crops of {size} px cannot be cut into patches: expected a multiple of the patch"
            f" of {patch_size} px, up to the images' {image_size} px, or 0 for three sevenths of"
            " that."
        )
    return size
