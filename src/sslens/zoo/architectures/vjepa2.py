"""V-JEPA 2's Vision Transformer (Assran et al., 2025) for images: patches of several frames, which
see one image, and rotary positions of rows and columns."""

from collections.abc import Iterator
from dataclasses import dataclass
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
    list_block,
    require_activation,
)
from sslens.zoo.hints import Hints

if TYPE_CHECKING:
    from torch import nn

TITLE = "V-JEPA 2's Vision Transformer"
PATCHES = "patch_embed.proj.weight"
#: heads of the released networks with heads that are not 64 wide, by width
HEADS = {1280: 16, 1408: 22}


@dataclass(frozen=True)
class TubeletShape(PlainTransformer):
    """The architecture of a V-JEPA 2 encoder.

    Attributes:
        arch: image and patch size, width, blocks, heads; images of other sizes are taken too.
        hidden: the width of the input of the MLPs' second layer.
        frames: the frames of a patch, all of which see the image.
        eps: what normalisations add to the variance.
    """

    arch: ViTArch
    hidden: int
    frames: int = 2
    eps: float = 1e-6

    @property
    def name(self) -> None:
        """It has no name: timm has no such network."""
        return None

    def iterate_tensors(self) -> Tensors:
        """Yield the name and the shape of every tensor."""
        arch, dim = self.arch, self.arch.dim
        kernel = (3, self.frames, arch.patch_size, arch.patch_size)
        yield from list_affine("patch_embed.proj", dim, *kernel)
        for i in range(arch.blocks):
            yield from list_block(f"blocks.{i}", dim, self.hidden)
        yield from list_affine("norm", dim)

    def empty(self) -> "nn.Module":
        """Build the network without memory for its weights (on the meta device)."""
        from timm.models.eva import Eva

        from sslens.models.tubelets import PlaneRotation, RepeatedConv

        arch, frames = self.arch, self.frames

        def make(**settings: Any) -> Eva:
            network = Eva(**settings)
            side = (frames, arch.patch_size, arch.patch_size)
            network.patch_embed.proj = RepeatedConv(3, arch.dim, side, stride=side)
            network.rope = PlaneRotation(arch.dim // arch.heads, (arch.grid, arch.grid))
            return network

        return build_transformer(
            make,
            arch,
            self.hidden,
            norm=True,
            eps=self.eps,
            class_token=False,
            num_reg_tokens=0,
            global_pool="avg",
            use_abs_pos_emb=False,
            use_rot_pos_emb=False,
            use_fc_norm=False,
        )

    def describe_variant(self) -> Iterator[str]:
        """Yield the differences from a plain Vision Transformer, in words."""
        yield "rotary positions"
        yield f"patches of {spell_count(self.frames, 'frame')}, all of which see the image"
        yield "no CLS token"


SHAPE = TubeletShape


def matches(weights: Weights) -> bool:
    """Whether the kernel that cuts the patches has a size in time, in a network without CLS."""
    return PATCHES in weights and weights[PATCHES].ndim == 5 and "cls_token" not in weights


def find(weights: Weights, where: str, heads: int | None, hints: Hints) -> TubeletShape:
    """Find the architecture of a V-JEPA 2 encoder.

    Raises:
        InputError: the shapes make no such network.
    """
    require_activation(hints, "gelu", where)
    kernel = tuple(int(side) for side in weights[PATCHES].shape)
    if kernel[1] != 3 or kernel[3] != kernel[4]:
        raise InputError(
            f"{where} has patches of shape {kernel}: expected [width, 3, frames, P, P], square"
            " patches of colour frames."
        )
    found = find_transformer(
        weights,
        where,
        heads or hints.heads or HEADS.get(kernel[0]),
        image_size=cut_to_patches(hints, 256),
        patches=(kernel[0], kernel[3]),
    )
    return TubeletShape(found.arch, hidden=found.hidden, frames=kernel[2], eps=hints.eps or 1e-6)
