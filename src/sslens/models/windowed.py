"""A plain Vision Transformer for images of any size: window attention with some global blocks, and
relative positions, without CLS and final norm, as ViTDet tunes it."""

from collections.abc import Sequence
from typing import final

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Attention, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.relative import WindowAttention


@final
class WindowBlock(nn.Module):
    """A block of timm's Vision Transformer with `WindowAttention`; its parts are used, not copied,
    and keep their names.

    x ← x + ls1(attn(norm1(x))); x ← x + ls2(mlp(norm2(x))). The scales of the layers are there
    where the block has them, as in DINOv2; detectron2's blocks have none.
    """

    def __init__(self, block: Block, *, window: int, grid: tuple[int, int], relative: bool) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.attn = WindowAttention(block.attn, window=window, grid=grid, relative=relative)
        self.ls1, self.ls2 = block.ls1, block.ls2
        self.drop_path1, self.drop_path2 = block.drop_path1, block.drop_path2

    def forward(
        self, x: Float[Tensor, "image token dim"], grid: tuple[int, int]
    ) -> Float[Tensor, "image token dim"]:
        """Compute the block for the patches of images with these rows and columns."""
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), grid)))
        out: Tensor = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return out


@final
class WindowedViT(nn.Module):
    """The Vision Transformer of ViTDet (Li et al., 2022, arXiv:2203.16527, section 3): all blocks
    but a few attend inside windows; positions are absolute and relative.

    Only patches pass through it: the CLS token, registers, the final norm and heads are left out,
    also of the attention. So with pre-trained weights even the first features differ from the
    frozen network's, where CLS takes part.

    Absolute positions are resampled by bicubic interpolation without antialiasing; the rows of the
    table for CLS stay in it, unused, as in detectron2's files. All parameters can be trained,
    positions and patch embedding too.

    Differences from detectron2's ViT: windows and tables of relative positions may be made for
    images that are not square; layer scale, gated MLPs, norms of queries and keys and a norm before
    the blocks are kept where the network has them; there are no residual convolution blocks.

    Args:
        network: the network; its parts are used, not copied.
        window: the side of a window in patches; 0 for no windows.
        global_blocks: the numbers of the blocks that attend to the whole image, from 0.
        grid: the rows and columns of the images for which the global blocks' relative positions
            are made; for other images they are resampled.
        relative: whether there are relative positions.

    Raises:
        InputError: the network is not built from plain blocks, patches and positions, or the window
            is negative.

    >>> import torch
    >>> from sslens.models.vit import ViTArch
    >>> network = ViTArch.parse("vit_nano_patch8_32").build()
    >>> windowed = WindowedViT(network, window=4, global_blocks=[1, 3], grid=(8, 8))
    >>> [tuple(block.attn.rel_pos_h.shape) for block in windowed.blocks]
    [(7, 64), (15, 64), (7, 64), (15, 64)]
    >>> windowed.forward_features(torch.zeros(1, 3, 64, 48)).shape
    torch.Size([1, 48, 64])
    """

    def __init__(
        self,
        network: VisionTransformer,
        *,
        window: int,
        global_blocks: Sequence[int],
        grid: tuple[int, int],
        relative: bool = True,
    ) -> None:
        super().__init__()
        require_plain(network)
        if window < 0:
            raise InputError(
                f"A window cannot be {spell_count(window, 'patch')} wide: give 0 for none, or more."
            )
        self.patch_embed = network.patch_embed
        self.pos_embed = nn.Parameter(network.pos_embed.data)
        self.norm_pre = network.norm_pre
        self.blocks = nn.ModuleList(
            WindowBlock(
                block, window=0 if i in global_blocks else window, grid=grid, relative=relative
            )
            for i, block in enumerate(network.blocks)
        )
        #: what transformers have that this one has not
        self.norm, self.cls_token, self.num_prefix_tokens = nn.Identity(), None, 0
        self.embed_dim = int(network.embed_dim)
        self.before = 0 if network.no_embed_class else int(network.num_prefix_tokens)
        self.requires_grad_(True)

    @property
    def patch_size(self) -> int:
        """The side of a patch in pixels."""
        return int(self.patch_embed.proj.kernel_size[0])

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that are not decayed: the absolute positions."""
        return {"pos_embed"}

    def forward_features(
        self, images: Float[Tensor, "image 3 height width"]
    ) -> Float[Tensor, "image patch dim"]:
        """Compute the patches' tokens after the last block."""
        return self._tokens(images, [len(self.blocks) - 1])[0]

    def maps(
        self, images: Float[Tensor, "image 3 height width"], blocks: Sequence[int]
    ) -> list[Float[Tensor, "image dim row column"]]:
        """Compute the maps after these blocks, in this order.

        Raises:
            InputError: the images cannot be cut into patches.
        """
        grid = cut_patches(images.shape[2], images.shape[3], self.patch_size)
        return [
            tokens.transpose(1, 2).unflatten(2, grid) for tokens in self._tokens(images, blocks)
        ]

    def _tokens(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        grid = cut_patches(images.shape[2], images.shape[3], self.patch_size)
        x = self.patch_embed.norm(self.patch_embed.proj(images).flatten(2).transpose(1, 2))
        x = self.norm_pre(x + resample_positions(self.pos_embed, self.before, grid))
        after: dict[int, Tensor] = {}
        for i, block in enumerate(self.blocks[: max(blocks) + 1]):
            x = block(x, grid)
            if i in blocks:
                after[i] = x
        return [after[i] for i in blocks]


def cut_patches(height: int, width: int, patch: int) -> tuple[int, int]:
    """Return the rows and columns of patches in images of this height and width, all in pixels.

    Raises:
        InputError: the patches do not divide the image.

    >>> cut_patches(64, 48, 8)
    (8, 6)
    """
    if height % patch or width % patch or height < patch or width < patch:
        raise InputError(
            f"Images of {height} × {width} px cannot be cut into patches of {patch} px: pad them to"
            f" {max(1, -(-height // patch)) * patch} × {max(1, -(-width // patch)) * patch} px."
        )
    return height // patch, width // patch


def resample_positions(
    table: Float[Tensor, "1 token dim"], before: int, grid: tuple[int, int]
) -> Float[Tensor, "1 patch dim"]:
    """Resample the positions of a square grid to other rows and columns, by bicubic interpolation
    without antialiasing; a grid of the same size is not resampled.

    Args:
        table: the positions.
        before: the number of its first rows that are not of patches, and are left out.
        grid: the rows and columns.

    >>> import torch
    >>> column = torch.tensor([0.0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12])
    >>> # midway: (−3 · 0 + 19 · 0 + 19 · 4 − 3 · 8) / 32 and its mirror
    >>> resample_positions(column.view(1, 16, 1), 0, (2, 1)).flatten().tolist()
    [1.625, 10.375]
    """
    patches = table[:, before:]
    side = round(patches.shape[1] ** 0.5)
    if grid == (side, side):
        return patches
    square = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    resampled = F.interpolate(square, size=grid, mode="bicubic")
    return resampled.flatten(2).transpose(1, 2)


def spread_global_blocks(blocks: int) -> tuple[int, ...]:
    """Return the four blocks that attend to the whole image, the last of each quarter, from 0 (Li
    et al., 2022, section 3); fewer where there are fewer than four blocks.

    >>> [spread_global_blocks(blocks) for blocks in (12, 24, 6, 3)]
    [(2, 5, 8, 11), (5, 11, 17, 23), (0, 2, 3, 5), (0, 1, 2)]
    """
    return tuple(sorted({max(0, quarter * blocks // 4 - 1) for quarter in range(1, 5)}))


def require_plain(network: VisionTransformer) -> None:
    """Refuse a Vision Transformer with parts that `WindowedViT` would have to leave out.

    Raises:
        InputError: the network is not built from plain blocks, patches and positions; the message
            says which part is not plain.
    """
    blocks = list(network.blocks)
    reason = None
    if any(type(block) is not Block for block in blocks):
        reason = f"its blocks are {type(blocks[0]).__name__}s"
    elif any(type(block.attn) is not Attention or block.attn.gate is not None for block in blocks):
        reason = f"its attention is {type(blocks[0].attn).__name__}, or has gates"
    elif type(network.patch_embed) is not PatchEmbed:
        reason = "its patches are not cut by one convolution"
    elif network.pos_embed is None:
        reason = "it has no table of positions"
    if reason is not None:
        raise InputError(
            f"A {type(network).__name__} of this kind cannot be given window attention, since"
            f" {reason}: it can be used frozen."
        )
