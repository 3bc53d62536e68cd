"""The names and shapes of the tensors of the known architectures, in timm's names, without timm.

A test holds them against the networks that timm builds.
"""

from collections.abc import Iterator
from typing import TypeAlias

from sslens.models.cnn import CNNArch
from sslens.zoo.shapes import CNNShape, ViTShape
from sslens.zoo.variants import BeitShape, ConvNeXtShape, RopeShape

#: the architectures whose tensors are listed here
Listed: TypeAlias = ViTShape | RopeShape | BeitShape | CNNShape | ConvNeXtShape

#: the name of a tensor and its shape
Entry = tuple[str, tuple[int, ...]]


def list_tensors(shape: Listed) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a network, by name.

    >>> from sslens.models.vit import ViTArch
    >>> found = list_tensors(ViTShape(ViTArch.parse("vit_nano_patch8_32"), hidden=256))
    >>> found["pos_embed"], found["blocks.3.mlp.fc1.weight"], len(found)
    ((1, 17, 64), (256, 64), 54)
    """
    if isinstance(shape, ViTShape):
        return dict(_list_vit(shape))
    if isinstance(shape, RopeShape):
        return dict(_list_rotary(shape))
    if isinstance(shape, BeitShape):
        return dict(_list_beit(shape))
    if isinstance(shape, ConvNeXtShape):
        return dict(_list_first_convnext(shape))
    return dict((_list_resnet if shape.arch.kind == "resnet" else _list_convnext)(shape.arch))


def _list_affine(name: str, out: int, *inputs: int, bias: bool = True) -> Iterator[Entry]:
    """A linear layer, a convolution or a normalisation: a weight, and a bias of its outputs."""
    yield f"{name}.weight", (out, *inputs)
    if bias:
        yield f"{name}.bias", (out,)


def _list_vit(shape: ViTShape) -> Iterator[Entry]:
    arch = shape.arch
    dim = arch.dim
    if shape.cls and shape.windows is None:
        yield "cls_token", (1, 1, dim)
    if shape.registers:
        yield "reg_token", (1, shape.registers, dim)
    if shape.distilled:
        yield "dist_token", (1, 1, dim)
    before = 2 if shape.distilled else (shape.cls + shape.registers) * shape.cls_positions
    yield "pos_embed", (1, arch.grid**2 + before, dim)
    patch = arch.patch_size
    yield from _list_affine("patch_embed.proj", dim, 3, patch, patch, bias=not shape.pre_norm)
    if shape.pre_norm:
        yield from _list_affine("norm_pre", dim)
    # as timm rounds the ratio of widths that it is given
    hidden = int(dim * (shape.hidden * (2 if shape.gated else 1) / dim))
    for i in range(arch.blocks):
        block = f"blocks.{i}"
        yield from _list_affine(f"{block}.norm1", dim)
        yield from _list_affine(f"{block}.attn.qkv", 3 * dim, dim, bias=shape.qkv_bias)
        yield from _list_affine(f"{block}.attn.proj", dim, dim)
        if shape.windows is not None:
            rows, columns = shape.windows.count_entries(i)
            yield f"{block}.attn.rel_pos_h", (rows, shape.windows.head)
            yield f"{block}.attn.rel_pos_w", (columns, shape.windows.head)
        yield from _list_affine(f"{block}.norm2", dim)
        yield from _list_affine(f"{block}.mlp.fc1", hidden, dim)
        yield from _list_affine(f"{block}.mlp.fc2", dim, hidden // (2 if shape.gated else 1))
        if shape.layer_scale:
            yield f"{block}.ls1.gamma", (dim,)
            yield f"{block}.ls2.gamma", (dim,)
    if shape.norm:
        yield from _list_affine("norm", dim)


def _list_rotary(shape: RopeShape) -> Iterator[Entry]:
    arch, dim = shape.arch, shape.arch.dim
    yield "cls_token", (1, 1, dim)
    if shape.registers:
        yield "reg_token", (1, shape.registers, dim)
    yield from _list_affine("patch_embed.proj", dim, 3, arch.patch_size, arch.patch_size)
    firsts = ("fc1_g", "fc1_x") if shape.gated else ("fc1",)
    for i in range(arch.blocks):
        block = f"blocks.{i}"
        yield f"{block}.gamma_1", (dim,)
        yield f"{block}.gamma_2", (dim,)
        yield from _list_affine(f"{block}.norm1", dim)
        yield from _list_affine(f"{block}.attn.qkv", 3 * dim, dim, bias=shape.qkv_bias)
        yield from _list_affine(f"{block}.attn.proj", dim, dim)
        yield from _list_affine(f"{block}.norm2", dim)
        for first in firsts:
            yield from _list_affine(f"{block}.mlp.{first}", shape.hidden, dim)
        yield from _list_affine(f"{block}.mlp.fc2", dim, shape.hidden)
    if shape.norm:
        yield from _list_affine("norm", dim)


def _list_beit(shape: BeitShape) -> Iterator[Entry]:
    arch, dim = shape.arch, shape.arch.dim
    table = ((2 * arch.grid - 1) ** 2 + 3, arch.heads)
    yield "cls_token", (1, 1, dim)
    if shape.positions:
        yield "pos_embed", (1, arch.grid**2 + 1, dim)
    if shape.relative == "shared":
        yield "rel_pos_bias.relative_position_bias_table", table
    yield from _list_affine("patch_embed.proj", dim, 3, arch.patch_size, arch.patch_size)
    for i in range(arch.blocks):
        block = f"blocks.{i}"
        if shape.layer_scale:
            yield f"{block}.gamma_1", (dim,)
            yield f"{block}.gamma_2", (dim,)
        yield from _list_affine(f"{block}.norm1", dim)
        yield from _list_affine(f"{block}.attn.qkv", 3 * dim, dim)
        if shape.relative == "blocks":
            yield f"{block}.attn.relative_position_bias_table", table
        yield from _list_affine(f"{block}.attn.proj", dim, dim)
        yield from _list_affine(f"{block}.norm2", dim)
        yield from _list_affine(f"{block}.mlp.fc1", shape.hidden, dim)
        yield from _list_affine(f"{block}.mlp.fc2", dim, shape.hidden)
    if shape.norm:
        yield from _list_affine("norm", dim)


def _list_first_convnext(shape: ConvNeXtShape) -> Iterator[Entry]:
    grn = CNNArch("convnextv2", shape.blocks, shape.widths)
    for name, size in _list_convnext(grn, stem=shape.stem):
        if ".grn." not in name:
            yield name, size
            if name.endswith(".conv_dw.bias"):
                yield name.replace("conv_dw.bias", "gamma"), size


def _list_batch_norm(name: str, channels: int) -> Iterator[Entry]:
    yield from _list_affine(name, channels)
    yield f"{name}.running_mean", (channels,)
    yield f"{name}.running_var", (channels,)
    yield f"{name}.num_batches_tracked", ()


def _list_resnet(arch: CNNArch) -> Iterator[Entry]:
    before, kernel = (64, 7) if arch.stem == 4 else (arch.widths[0], 3)
    yield "conv1.weight", (before, 3, kernel, kernel)
    yield from _list_batch_norm("bn1", before)
    for stage, (count, width) in enumerate(zip(arch.blocks, arch.widths, strict=True), 1):
        out = width * (4 if arch.bottleneck else 1)
        sizes = [(width, 1), (width, 3), (out, 1)] if arch.bottleneck else [(width, 3), (width, 3)]
        for i in range(count):
            block, inside = f"layer{stage}.{i}", before
            for number, (channels, kernel) in enumerate(sizes, 1):
                yield f"{block}.conv{number}.weight", (channels, inside, kernel, kernel)
                yield from _list_batch_norm(f"{block}.bn{number}", channels)
                inside = channels
            if i == 0 and (stage > 1 or before != out):
                yield f"{block}.downsample.0.weight", (out, before, 1, 1)
                yield from _list_batch_norm(f"{block}.downsample.1", out)
            before = out


def _list_convnext(arch: CNNArch, stem: int | None = None) -> Iterator[Entry]:
    before, side = arch.widths[0], stem or arch.stem
    yield from _list_affine("stem.0", before, 3, side, side)
    yield from _list_affine("stem.1", before)
    for stage, (count, width) in enumerate(zip(arch.blocks, arch.widths, strict=True)):
        if stage:
            yield from _list_affine(f"stages.{stage}.downsample.0", before)
            yield from _list_affine(f"stages.{stage}.downsample.1", width, before, 2, 2)
        for i in range(count):
            block = f"stages.{stage}.blocks.{i}"
            yield from _list_affine(f"{block}.conv_dw", width, 1, 7, 7)
            yield from _list_affine(f"{block}.norm", width)
            yield from _list_affine(f"{block}.mlp.fc1", 4 * width, width)
            yield f"{block}.mlp.grn.weight", (4 * width,)
            yield f"{block}.mlp.grn.bias", (4 * width,)
            yield from _list_affine(f"{block}.mlp.fc2", width, 4 * width)
        before = width
