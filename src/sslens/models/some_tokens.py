"""The output of a transformer's block for some of its tokens only, as is enough in the last block
of a network."""

import torch.nn.functional as F
from jaxtyping import Float
from timm.models.vision_transformer import Block
from torch import Tensor

from sslens.models.blocks import run_block


def compute_for_some(
    block: Block,
    x: Float[Tensor, "crop token dim"],
    asked: slice,
    attention: Float[Tensor, "crop 1 1"] | None = None,
    mlp: Float[Tensor, "crop 1 1"] | None = None,
) -> Float[Tensor, "crop asked dim"]:
    """Compute the block's output for the asked tokens, which attend to all tokens.

    Keys and values are computed for all tokens; queries, projections and the MLP, five sixths of a
    block's products, for the asked ones only. A loss on the CLS token alone, or on masked patches
    alone, needs no more of the last block, and its gradients are the same.

    Args:
        block: a block of a plain Vision Transformer, with biases, without layer scale and without
            norms of queries and keys.
        x: all tokens.
        asked: which tokens are computed.
        attention: the factor of the attention's output before it is added; 1 unless given.
        mlp: the factor of the MLP's output before it is added; 1 unless given.

    >>> import torch
    >>> block, x = Block(dim=4, num_heads=2, qkv_bias=True), torch.randn(3, 5, 4)
    >>> bool((compute_for_some(block, x, slice(2, None)) - block(x)[:, 2:]).abs().max() < 1e-5)
    True
    """
    return run_block(_compute_for_some, block, x, asked, attention, mlp)


def _compute_for_some(
    block: Block, x: Tensor, asked: slice, attention: Tensor | None, mlp: Tensor | None
) -> Tensor:
    a, seen = block.attn, block.norm1(x)
    dim = x.shape[-1]
    query = F.linear(seen[:, asked], a.qkv.weight[:dim], a.qkv.bias[:dim])
    key, value = F.linear(seen, a.qkv.weight[dim:], a.qkv.bias[dim:]).chunk(2, dim=-1)
    query, key, value = (
        part.unflatten(-1, (a.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
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
