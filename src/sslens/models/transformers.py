"""The taps of Vision Transformers, and how such a network is made ready to be read."""

from collections.abc import Iterator

import torch
from timm.layers import AttentionRope
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from sslens.models.taps import Tap
from sslens.models.windowed import WindowBlock, WindowedViT

#: blocks that normalise before the attention
PRE_NORM = (Block, EvaBlock, BeitBlock, WindowBlock)


def list_taps(
    network: VisionTransformer | Eva | Beit | WindowedViT, *, every: bool = False
) -> Iterator[Tap]:
    """Yield the taps of a transformer in the order of computation; a tap in block i of L has the
    depth (i + 1) / L.

    Every block has the tap `block`, its output. `norm1` is there where a normalisation comes before
    the attention (not in blocks that normalise after it). `qkv` is there where queries, keys and
    values are one layer (`join_qkv` makes them one in EVA, DINOv3 and BEiT). `fc1` is there where
    the MLP has one first layer; in a gated MLP with one packed first layer, `fc1` puts out gate and
    value together, and a gated MLP with two first layers has no `fc1`. `norm` is the final
    normalisation. Backbones that were fine-tuned on the mean of their patches have none: they
    normalise after the pooling.

    Args:
        every: whether the taps that are read on request are among them: `norm2`, the normalisation
            between attention and MLP, in blocks that have `norm1`.
    """
    count = len(network.blocks)
    for i, block in enumerate(network.blocks):
        depth = (i + 1) / count
        if isinstance(block, PRE_NORM):
            yield Tap(f"blocks.{i}.norm1", "norm1", depth)
        attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
        # with biases beside it the layer's weights are used, but the layer is not run
        if (
            isinstance(getattr(attention, "qkv", None), nn.Linear)
            and getattr(attention, "q_bias", None) is None
        ):
            yield Tap(f"blocks.{i}.attn.qkv", "qkv", depth)
        if every and isinstance(block, PRE_NORM):
            yield Tap(f"blocks.{i}.norm2", "norm2", depth)
        if isinstance(getattr(mlp, "fc1", None), nn.Linear):
            yield Tap(f"blocks.{i}.mlp.fc1", "fc1", depth)
        yield Tap(f"blocks.{i}", "block", depth)
    if not isinstance(network.norm, nn.Identity):
        yield Tap("norm", "norm", 1.0)


def count_prefix_tokens(network: VisionTransformer | Eva | Beit | WindowedViT) -> int | None:
    """Return the number of tokens before the patches: CLS, then registers or a distillation token;
    None without CLS."""
    return None if network.cls_token is None else int(network.num_prefix_tokens)


def join_qkv(network: nn.Module) -> None:
    """Make every attention compute queries, keys and values by one layer with its bias, in place.

    EVA, DINOv3 and BEiT keep the biases of queries and values outside the layer (keys have none),
    or have three layers; no module's output is then the qkv projection. The joined layer, with W =
    [W_q; W_k; W_v] and b = [b_q; 0; b_v], computes the same. Attention with fewer keys and values
    than queries (grouped) is left as it is.

    >>> attention = EvaAttention(dim=2, num_heads=1, qkv_fused=False, scale_norm=False)
    >>> join_qkv(attention)
    >>> tuple(attention.qkv.weight.shape), attention.qkv.bias[2:4].tolist()
    ((6, 2), [0.0, 0.0])
    """
    for attention in network.modules():
        if not isinstance(attention, (EvaAttention, AttentionRope, BeitAttention)):
            continue
        if (
            getattr(attention, "q_proj", None) is not None
            and getattr(attention, "num_kv_groups", 1) == 1
        ):
            layers = [attention.q_proj, attention.k_proj, attention.v_proj]
            weight = torch.cat([layer.weight for layer in layers])
            biases = [layer.bias for layer in layers]
            attention.q_proj = attention.k_proj = attention.v_proj = None
        elif getattr(attention, "q_bias", None) is not None:
            weight = attention.qkv.weight
            biases = [attention.q_bias, attention.k_bias, attention.v_bias]
            attention.q_bias = attention.k_bias = attention.v_bias = None
        else:
            continue
        attention.qkv = _make_linear(weight, biases)


def _make_linear(weight: Tensor, biases: list[Tensor | None]) -> nn.Linear:
    """Make the layer of these weights; parts without a bias have a zero bias if others have one."""
    out, dim = weight.shape
    bare = all(bias is None for bias in biases)
    layer = nn.Linear(dim, out, bias=not bare, device="meta")
    parts = [weight.new_zeros(out // 3) if bias is None else bias for bias in biases]
    values = {"weight": weight} if bare else {"weight": weight, "bias": torch.cat(parts)}
    layer.load_state_dict({name: value.detach() for name, value in values.items()}, assign=True)
    return layer


def set_explicit_attention(network: nn.Module, explicit: bool) -> None:
    """Choose whether attention is computed as softmax(qkᵀ)v in plain operations (`explicit`) or by
    torch's fused kernel, in place.

    On a CPU the backward pass of the fused kernel is the slower one at these lengths (LOG.md); on a
    GPU it is the faster one.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", not explicit)  # noqa: B010 (modules declare tensors only)
