"""A block's output for those tokens alone that somebody asks for, as after the last block of a
network."""

import torch.nn.functional as F
from jaxtyping import Float
from timm.models.vision_transformer import Block
from torch import Tensor

from sslens.models.blocks import through


def for_some(
    block: Block,
    x: Float[Tensor, "crop token dim"],
    asked: slice,
    attention: Float[Tensor, "crop 1 1"] | None = None,
    mlp: Float[Tensor, "crop 1 1"] | None = None,
) -> Float[Tensor, "crop asked dim"]:
    """What the block puts out for these tokens, which see all of them.

    The keys and values are those of all tokens; queries, projections and the MLP, five sixths of a
    block's products, are computed for the asked ones. A loss on the CLS token alone, or on masked
    patches alone, needs no more of the last block, and its gradients are the same.

    Args:
        block: of a plain Vision Transformer, with biases, without layer scale and norms of queries
            and keys.
        attention: what the attention's output is multiplied with before it is added; 1 unless
            given.
        mlp: the same of the MLP's.

    >>> import torch
    >>> block, x = Block(dim=4, num_heads=2, qkv_bias=True), torch.randn(3, 5, 4)
    >>> bool((for_some(block, x, slice(2, None)) - block(x)[:, 2:]).abs().max() < 1e-5)
    True
    """
    return through(_some, block, x, asked, attention, mlp)


def _some(
    block: Block, x: Tensor, asked: slice, attention: Tensor | None, mlp: Tensor | None
) -> Tensor:
    a, seen = block.attn, block.norm1(x)
    dim = x.shape[-1]
    query = F.linear(seen[:, asked], a.qkv.weight[:dim], a.qkv.bias[:dim])
    key, value = F.linear(seen, a.qkv.weight[dim:], a.qkv.bias[dim:]).chunk(2, dim=-1)
    query, key, value = (
        each.unflatten(-1, (a.num_heads, -1)).transpose(1, 2) for each in (query, key, value)
    )
    if a.fused_attn:
        attended = F.scaled_dot_product_attention(query, key, value)
    else:
        attended = ((query * a.scale) @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    out = a.proj(attended.transpose(1, 2).flatten(2))
    x = x[:, asked] + (out if attention is None else attention * out)
    out = block.mlp(block.norm2(x))
    result: Tensor = x + (out if mlp is None else mlp * out)
    return result
