"""Vision Transformers with named taps; timm underneath."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from timm.layers import AttentionRope
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from sslens.errors import InputError
from sslens.models.taps import Tap

#: width and number of blocks; heads are dim / 64, as in most released ViTs, but not in MoCo-v3's
#: small (12) and MAE's huge (16)
SIZES = {
    "nano": (64, 4),
    "mini": (128, 6),
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}
#: blocks that normalise before the attention
PRE_NORM = (Block, EvaBlock, BeitBlock)
_NAME = re.compile(rf"vit_({'|'.join(SIZES)}|\d+x\d+)_patch(\d+)_(\d+)(?:_heads(\d+))?")


@dataclass(frozen=True)
class ViTArch:
    """The shape of a Vision Transformer: all that is needed to build one, and what its checkpoints
    carry.

    >>> ViTArch.parse("vit_base_patch16_224")
    ViTArch(image_size=224, patch_size=16, dim=768, blocks=12, heads=12)
    >>> ViTArch.parse("vit_mini_patch8_32").tokens  # a 4 × 4 grid and CLS
    17
    """

    image_size: int
    patch_size: int
    dim: int
    blocks: int
    heads: int
    kind: ClassVar[str] = "vit"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"A ViT's {name} is {value}: give 1 or more.")
        if self.image_size % self.patch_size:
            raise InputError(
                f"Images of {self.image_size} px cannot be cut into patches of {self.patch_size}"
                " px: the image size must be a multiple of the patch size."
            )
        if self.dim % self.heads:
            raise InputError(f"A width of {self.dim} cannot be shared by {self.heads} heads.")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Patch tokens and the CLS token."""
        return self.grid**2 + 1

    @classmethod
    def parse(cls, name: str, num_heads: int | None = None, **overrides: int) -> "ViTArch":
        """The arch of a name such as `vit_small_patch16_224`, in timm's spelling, for any patch and
        image size.

        In place of a size stand width and blocks where they are no named one's, as in
        `vit_128x3_patch16_64`; `_heads12` at the end gives the heads where they are not width / 64.

        Raises:
            InputError: the name is not of this form, or an override names no field.

        >>> ViTArch.parse("vit_small_patch16_224_heads12").heads, ViTArch.parse("vit_128x3_patch16_64").blocks
        (12, 3)
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise InputError(
                f'"{name}" is not an architecture: expected vit_SIZE_patchP_S, with SIZE one of'
                f" {', '.join(SIZES)}, P the patch size and S the image size in pixels, e.g."
                " vit_mini_patch8_64."
            )
        dim, blocks = SIZES[match[1]] if match[1] in SIZES else map(int, match[1].split("x"))
        heads = num_heads or int(match[4] or 0) or max(1, dim // 64)
        arch = cls(int(match[3]), int(match[2]), dim, blocks, heads)
        unknown = set(overrides) - set(asdict(arch))
        if unknown:
            raise InputError(
                f"A ViT has no {', '.join(sorted(unknown))}: it has {', '.join(asdict(arch))}."
            )
        return replace(arch, **overrides)

    @property
    def name(self) -> str:
        """The name that `parse` takes.

        >>> ViTArch(224, 16, 384, 12, 12).name, ViTArch(64, 16, 128, 3, 2).name
        ('vit_small_patch16_224_heads12', 'vit_128x3_patch16_64')
        """
        named = {shape: size for size, shape in SIZES.items()}
        size = named.get((self.dim, self.blocks), f"{self.dim}x{self.blocks}")
        heads = "" if self.heads == max(1, self.dim // 64) else f"_heads{self.heads}"
        return f"vit_{size}_patch{self.patch_size}_{self.image_size}{heads}"

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether `parse` takes it."""
        return _NAME.fullmatch(text) is not None

    def build(self, seed: int | None = None) -> VisionTransformer:
        """A network of this shape without a head: qkv bias, LayerNorm eps 1e-6, timm's
        initialisation, fixed sin-cos positions.

        The random numbers of the process are left as they were when `seed` is given.
        """
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            network = VisionTransformer(
                img_size=self.image_size,
                patch_size=self.patch_size,
                embed_dim=self.dim,
                depth=self.blocks,
                num_heads=self.heads,
                num_classes=0,
            )
        network.pos_embed = nn.Parameter(sincos_positions(self.dim, self.grid), requires_grad=False)
        return network


def sincos_positions(
    dim: int, grid: int, *, transposed: bool = False
) -> Float[Tensor, "1 token {dim}"]:
    """Fixed two-dimensional sin-cos positions, a zero row for CLS first (MAE; Vaswani et al., 2017,
    in each direction).

    With ω_i = 10000^(−4i/dim), i < dim/4, a patch at column x and row y has [sin xω, cos xω, sin
    yω, cos yω]. `transposed` exchanges x and y, which is MoCo-v3's table.

    >>> table = sincos_positions(8, 2)
    >>> [round(v, 3) for v in table[0, 2].tolist()]  # x = 1, y = 0, ω = 1, 0.01
    [0.841, 0.01, 0.54, 1.0, 0.0, 0.0, 1.0, 1.0]
    """
    if dim % 4:
        raise InputError(f"Sin-cos positions need a width that is a multiple of 4, got {dim}.")
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    y, x = torch.meshgrid(*(torch.arange(grid, dtype=torch.float64),) * 2, indexing="ij")
    first, second = (y, x) if transposed else (x, y)
    angles = [place.reshape(-1, 1) * omega for place in (first, second)]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), table]).float()[None]


def taps(network: VisionTransformer | Eva | Beit) -> Iterator[Tap]:
    """The taps of a transformer in the order of computation; the depth of what lies in block i of L
    is (i + 1) / L.

    Every block has `block`, the sum that it hands on. Inside it stand `norm1` where a normalisation
    comes before the attention (not in blocks that normalise after it), `qkv` where queries, keys
    and values are one layer (`join_qkv` makes it so in EVA, DINOv3 and BEiT), and `fc1` where the
    MLP has one first layer (gated MLPs with a packed one put out gate and value together; those
    with two layers have none). `norm` is the final one, which backbones that were fine-tuned on the
    mean of their patches do not have: they normalise after the pooling.
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
        if isinstance(getattr(mlp, "fc1", None), nn.Linear):
            yield Tap(f"blocks.{i}.mlp.fc1", "fc1", depth)
        yield Tap(f"blocks.{i}", "block", depth)
    if not isinstance(network.norm, nn.Identity):
        yield Tap("norm", "norm", 1.0)


def prefix_tokens(network: VisionTransformer | Eva | Beit) -> int | None:
    """How many tokens stand before the patches: CLS, then registers or a distillation token; None
    without CLS."""
    return None if network.cls_token is None else int(network.num_prefix_tokens)


def join_qkv(network: nn.Module) -> None:
    """Let every attention compute queries, keys and values by one layer with its bias, in place.

    EVA, DINOv3 and BEiT keep the biases of queries and values beside the layer (keys have none), or
    three layers: there is then no output of one module that is the qkv projection. The joined
    layer, W = [W_q; W_k; W_v] and b = [b_q; 0; b_v], computes the same. Grouped keys and values,
    fewer than the queries, are left as they are.

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
        attention.qkv = _linear(weight, biases)


def _linear(weight: Tensor, biases: list[Tensor | None]) -> nn.Linear:
    """The layer of these weights; where some parts have a bias and others none, theirs is zero."""
    out, dim = weight.shape
    bare = all(bias is None for bias in biases)
    layer = nn.Linear(dim, out, bias=not bare, device="meta")
    parts = [weight.new_zeros(out // 3) if bias is None else bias for bias in biases]
    values = {"weight": weight} if bare else {"weight": weight, "bias": torch.cat(parts)}
    layer.load_state_dict({name: value.detach() for name, value in values.items()}, assign=True)
    return layer


def explicit_attention(network: nn.Module, explicit: bool) -> None:
    """Compute attention as softmax(qkᵀ)v in the open rather than by the fused kernel.

    On a CPU the fused kernel's backward pass is the slower one at these lengths (LOG.md); on a GPU
    it is the faster one.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", not explicit)  # noqa: B010 (modules declare tensors only)


def describe(arch: ViTArch) -> dict[str, Any]:
    """The arch as plain JSON values, for a checkpoint's header."""
    return asdict(arch)
