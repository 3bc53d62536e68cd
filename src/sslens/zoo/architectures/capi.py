"""CAPI's Vision Transformer (Darcet et al., 2025): no CLS, registers that have rotary positions on
the border of the image, root-mean-square norms, and no biases in the blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.vit import ViTArch
from sslens.zoo.architecture import (
    PlainTransformer,
    Tensors,
    Weights,
    build_transformer,
    cut_to_patches,
    find_transformer,
    list_affine,
    require_activation,
)
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "CAPI's Vision Transformer"
FREQUENCIES = "rope.freqs"


@dataclass(frozen=True)
class CapiShape(PlainTransformer):
    """The architecture of a CAPI encoder.

    Attributes:
        arch: image and patch size, width, blocks, heads; images of other sizes are taken too.
        hidden: the width of the input of the MLPs' second layer.
        registers: the number of tokens before the patches.
        eps: what normalisations add to the mean square.
    """

    arch: ViTArch
    hidden: int
    registers: int = 16
    eps: float = 1e-5

    @property
    def name(self) -> None:
        """It has no name: timm has no such network."""
        return None

    @property
    def tells_heads(self) -> bool:
        """Whether weights tell the number of heads: the frequencies of one head are among them."""
        return True

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        arch, dim = self.arch, self.arch.dim
        yield "reg_token", (1, self.registers, dim)
        yield from list_affine("patch_embed.proj", dim, 3, arch.patch_size, arch.patch_size)
        yield FREQUENCIES, (2, dim // arch.heads)
        for i in range(arch.blocks):
            for layer, shape in (
                ("norm1", (dim,)),
                ("attn.qkv", (3 * dim, dim)),
                ("attn.proj", (dim, dim)),
                ("norm2", (dim,)),
                ("mlp.fc1", (self.hidden, dim)),
                ("mlp.fc2", (dim, self.hidden)),
            ):
                yield from list_affine(f"blocks.{i}.{layer}", *shape, bias=False)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        from timm.layers import RmsNorm
        from timm.models.eva import Eva
        from torch import nn

        from sslens.models.edges import EdgeRotation

        arch, hidden, registers = self.arch, self.hidden, self.registers

        def make(**settings: Any) -> Eva:
            settings["norm_layer"] = partial(RmsNorm, eps=self.eps)
            network = Eva(**settings)
            grid = (arch.grid, arch.grid)
            network.rope = EdgeRotation(arch.dim // arch.heads, grid, registers)
            network.norm = RmsNorm(arch.dim, eps=self.eps, affine=False)
            for block in network.blocks:
                block.attn.num_prefix_tokens = 0  # registers turn too
                block.attn.proj = nn.Linear(arch.dim, arch.dim, bias=False)
                block.mlp.fc1 = nn.Linear(arch.dim, hidden, bias=False)
                block.mlp.fc2 = nn.Linear(hidden, arch.dim, bias=False)
            return network

        return build_transformer(
            make,
            arch,
            hidden,
            norm=True,
            eps=self.eps,
            qkv_bias=False,
            class_token=False,
            num_reg_tokens=registers,
            global_pool="avg",
            use_abs_pos_emb=False,
            use_rot_pos_emb=False,
            rope_rotate_half=True,
            use_fc_norm=False,
        )

    def describe_variant(self) -> Iterator[str]:
        """Yield the differences from a plain Vision Transformer, in words."""
        yield "rotary positions"
        yield f"{spell_count(self.registers, 'register')} on the border"
        yield "root-mean-square norms"
        yield "no CLS token"


SHAPE = CapiShape


def matches(weights: Weights) -> bool:
    """Whether the frequencies of rotary positions are among the weights."""
    return FREQUENCIES in weights and "reg_token" in weights


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> CapiShape:
    """Find the architecture of a CAPI encoder. The frequencies are of one head, and so tell the
    number of heads.

    Raises:
        InputError: the shapes make no such network.
    """
    require_activation(hints, "gelu", where)
    frequencies, registers = (weights[name].shape for name in (FREQUENCIES, "reg_token"))
    dim = int(registers[-1])
    if (
        len(frequencies) != 2
        or len(registers) != 3
        or frequencies[0] != 2
        or not frequencies[1]
        or dim % int(frequencies[1])
        or int(registers[1]) % 4
    ):
        raise InputError(
            f"{where} has frequencies of shape {tuple(frequencies)} and registers of shape"
            f" {tuple(registers)}: expected [2, width of a head] and [1, a multiple of 4, width]."
        )
    found = find_transformer(
        weights,
        where,
        heads,
        image_size=cut_to_patches(hints, 224),
        told=dim // int(frequencies[1]),
    )
    return CapiShape(
        found.arch, hidden=found.hidden, registers=int(registers[1]), eps=hints.eps or 1e-5
    )
