"""C-RADIO's Vision Transformer (Ranzinger et al., 2024): several summary tokens, and one large
table of positions that is resampled to the image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    list_block,
    require_activation,
)
from sslens.zoo.finders import find_root
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "C-RADIO's Vision Transformer"
TABLE = "pos_table"


@dataclass(frozen=True)
class RadioShape(PlainTransformer):
    """The architecture of a C-RADIO.

    Attributes:
        arch: image and patch size, width, blocks, heads; images of other sizes are taken too.
        hidden: the width of the input of the MLPs' second layer.
        tokens: the number of tokens before the patches: summaries and registers.
        table: the side of the table of positions in patches.
        aligned: whether the table's corners are laid on those of the image's patches when it is
            resampled, or the edges.
        layer_scale, norm: whether there is one; `norm` is the final normalisation.
        eps: what normalisations add to the variance.
    """

    arch: ViTArch
    hidden: int
    tokens: int
    table: int = 128
    aligned: bool = False
    layer_scale: bool = False
    norm: bool = False
    eps: float = 1e-6

    @property
    def name(self) -> None:
        """It has no name: timm's networks of this kind have other names of tensors."""
        return None

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        arch, dim = self.arch, self.arch.dim
        yield "cls_token", (1, self.tokens, dim)
        yield TABLE, (1, self.table**2, dim)
        patch = arch.patch_size
        yield from list_affine("patch_embed.proj", dim, 3, patch, patch, bias=False)
        scales = ("ls1.gamma", "ls2.gamma") if self.layer_scale else ()
        for i in range(arch.blocks):
            yield from list_block(f"blocks.{i}", dim, self.hidden, scales=scales)
        if self.norm:
            yield from list_affine("norm", dim)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        from sslens.models.cropped import CroppedViT

        return build_transformer(
            CroppedViT,
            self.arch,
            self.hidden,
            norm=self.norm,
            eps=self.eps,
            tokens=self.tokens,
            table=self.table,
            aligned=self.aligned,
            init_values=1.0 if self.layer_scale else None,
            global_pool="token",
            weight_init="skip",
        )

    def describe_variant(self) -> Iterator[str]:
        """Yield the differences from a plain Vision Transformer, in words; some may be empty."""
        yield f"{self.tokens} summary tokens and registers"
        yield f"positions from a table of {self.table} × {self.table}"
        yield "layer scale" if self.layer_scale else ""
        yield "" if self.norm else "no final norm"


SHAPE = RadioShape


def matches(weights: Weights) -> bool:
    """Whether there is a table of positions that is resampled to the image."""
    return TABLE in weights


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> RadioShape:
    """Find the architecture of a C-RADIO.

    C-RADIOv3's B and H (8 tokens, widths 768 and 1280) lay corners on corners, as the code beside
    the released weights does; the others lay edges on edges.

    Raises:
        InputError: the shapes make no such network.
    """
    require_activation(hints, "gelu", where)
    tokens, rows = (weights.get(name) for name in ("cls_token", TABLE))
    side = find_root(int(rows.shape[1])) if rows is not None and rows.ndim == 3 else None
    if tokens is None or tokens.ndim != 3 or side is None:
        raise InputError(
            f"{where} is a C-RADIO without summary tokens, or with positions for no square of"
            " patches: get the whole file."
        )
    found = find_transformer(
        weights, where, heads or hints.heads, image_size=cut_to_patches(hints, 512)
    )
    count = int(tokens.shape[1])
    return RadioShape(
        found.arch,
        hidden=found.hidden,
        tokens=count,
        table=side,
        aligned=count == 8 and found.arch.dim in (768, 1280),
        layer_scale="blocks.0.ls1.gamma" in weights,
        norm=found.norm,
        eps=hints.eps or 1e-6,
    )
