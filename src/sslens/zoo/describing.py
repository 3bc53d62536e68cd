"""An architecture in words."""

from collections.abc import Iterator

from sslens.zoo.shapes import CNNShape, NamedShape, Shape, ViTShape
from sslens.zoo.variants import BeitShape, ConvNeXtShape, RopeShape


def describe_shape(shape: Shape) -> str:
    """Describe an architecture in words.

    >>> from sslens.models.cnn import CNNArch
    >>> from sslens.zoo.shapes import CNNShape
    >>> describe_shape(CNNShape(CNNArch.parse("resnet50")))
    'resnet50: stages of 3, 4, 6, 3 blocks, 2048 channels at the end, for images of 224 px'
    """
    if isinstance(shape, NamedShape):
        return shape.name
    if isinstance(shape, CNNShape | ConvNeXtShape):
        sizes = shape.arch if isinstance(shape, CNNShape) else shape
        blocks, channels = ", ".join(map(str, sizes.blocks)), sizes.widths[-1]
        kind = shape.arch.kind if isinstance(shape, CNNShape) else "ConvNeXt"
        channels = shape.arch.channels if isinstance(shape, CNNShape) else channels
        return (
            f"{shape.name or kind}: stages of {blocks} blocks, {channels} channels at the end, for"
            f" images of {shape.image_size} px"
        )
    arch = shape.arch
    parts = [
        f"{shape.name or 'ViT'}: {arch.blocks} blocks of width {arch.dim} with {arch.heads} heads",
        f"patches of {arch.patch_size} px, images of {arch.image_size} px",
        *_describe_variant(shape),
        "" if shape.norm else "no final norm",
    ]
    return ", ".join(filter(None, parts))


def _describe_variant(shape: ViTShape | RopeShape | BeitShape) -> Iterator[str]:
    """What a transformer has and others have not; empty where it has not."""
    if isinstance(shape, BeitShape):
        places = {"blocks": "in each block", "shared": "shared by the blocks"}
        yield f"relative positions {places[shape.relative]}" if shape.relative else ""
        yield "layer scale" if shape.layer_scale else ""
        return
    if isinstance(shape, RopeShape):
        yield "rotary positions"
    else:
        yield "" if shape.cls and not shape.windows else "no CLS token"
        yield str(shape.windows or "")
    yield f"{shape.registers} registers" if shape.registers else ""
    if isinstance(shape, RopeShape) or shape.layer_scale:
        yield "layer scale"
    yield "gated MLPs" if shape.gated else ""
    yield "" if shape.qkv_bias else "no qkv bias"
    if isinstance(shape, ViTShape):
        yield "a norm before the first block" if shape.pre_norm else ""
        yield f"activation {shape.activation}" if shape.activation != "gelu" else ""
        yield f"eps {shape.eps:g}" if shape.eps != 1e-6 else ""
