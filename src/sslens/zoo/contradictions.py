"""Settings in a file beside the weights, held against the shapes of the weights."""

from collections.abc import Iterable, Iterator
from typing import Any

from sslens.errors import InputError, shorten
from sslens.zoo.architecture import Architecture, PlainTransformer, are_heads_told
from sslens.zoo.architectures.beit import BeitShape
from sslens.zoo.architectures.cnn import CNNShape
from sslens.zoo.architectures.convnext import ConvNeXtShape
from sslens.zoo.architectures.swin import SwinShape
from sslens.zoo.architectures.vit import ViTShape
from sslens.zoo.files import Contents
from sslens.zoo.told import ToldHeads
from sslens.zoo.trunks import Trunk

#: characters of a value that a message shows
SHOWN = 60


#: kinds of models in Hugging Face's config.json by the spelling that their weights have; CLIP's
#: towers stand in models of many kinds
KINDS = {
    "vit-hf": (
        *("vit", "deit", "vit_mae", "vit_msn", "ijepa", "dinov2", "dinov2_with_registers"),
        *("vit_hybrid", "dpt", "yolos", "vision-encoder-decoder", "vision-text-dual-encoder"),
    ),
    "beit-hf": ("beit", "data2vec-vision"),
    "swin-hf": ("swin", "maskformer-swin", "donut-swin"),
    "convnext-hf": ("convnext", "convnextv2"),
    "dinov3-hf": ("dinov3_vit",),
    "convnext-dinov3-hf": ("dinov3_convnext",),
}
#: kinds of models with a LayerScale in every block, and those without; of others it is not known
SCALED = ("dinov2", "dinov2_with_registers")
UNSCALED = ("vit", "deit", "vit_mae", "vit_msn", "ijepa")


def find_wrong_kind(kind: str, naming: str, keys: Iterable[str]) -> str:
    """Say why weights are not of the kind of model that a file beside them names; empty where they
    may be.

    Args:
        kind: the kind of model, in the file's words; empty where none is named.
        naming: the spelling of the weights.
        keys: their names.

    >>> find_wrong_kind("bert", "swin-hf", [])
    'it is none whose weights have such names (swin, maskformer-swin, donut-swin)'
    >>> find_wrong_kind("dinov2", "vit-hf", ["encoder.layer.0.layernorm_before.weight"])
    'its blocks have a LayerScale, and these weights have none'
    """
    known = KINDS.get(naming)
    if known is None or not kind:
        return ""
    if kind not in known:
        return f"it is none whose weights have such names ({', '.join(known)})"
    if naming != "vit-hf":
        return ""
    there = list(keys)
    scale = next((key for key in there if "layer_scale1" in key), None)
    if kind in SCALED and scale is None:
        return "its blocks have a LayerScale, and these weights have none"
    if kind in UNSCALED and scale is not None:
        return f"its blocks have no LayerScale, and these weights have {scale}"
    decoder = next((key for key in there if key.startswith("decoder.decoder_")), None)
    if kind in (*SCALED, *UNSCALED) and kind != "vit_mae" and decoder is not None:
        return f"it has no decoder, and these weights have {decoder}"
    return ""


def find_contradictions(contents: Contents, trunk: Trunk, told: ToldHeads) -> Iterator[str]:
    """Yield how settings in a file, or in one beside it, contradict its weights without making
    them unreadable, one sentence each.

    Args:
        contents: the contents of the file.
        trunk: the network that is taken.
        told: the number of heads that the settings in the file tell.
    """
    kind = contents.beside.kind
    if wrong := find_wrong_kind(kind, trunk.naming, contents.states[trunk.state]):
        yield (
            f"{contents.beside.name} says model_type {shorten(repr(kind), SHOWN)}, but {wrong}: its"
            " objective is not taken from there."
        )
    if told.is_misfit:
        yield f"{told.said}: the settings may be of another network."


def require_settings(contents: Contents, shape: Architecture) -> None:
    """Refuse weights beside which a file says other sizes than they have: the file is of another
    network, so that its number of heads and its activation function may be wrong too.

    Args:
        contents: the contents of the file with the weights, and what is beside it.
        shape: the architecture that the shapes of the weights tell.

    Raises:
        InputError: the message names every setting that does not fit, and what the weights have.
    """
    beside = contents.beside
    wrong = [
        f"{key} is {shorten(repr(beside.settings[key]), SHOWN)} there and {value!r} in the weights"
        for key, value in _list_sizes(shape)
        if beside.settings.get(key) is not None and _reduce(beside.settings[key]) != value
    ]
    if wrong:
        raise InputError(
            f"{contents.path.parent / beside.name} does not fit {contents.path.name}:"
            f" {'; '.join(wrong)}. One of the two is of another network, or a part of the weights"
            f" is missing: give them as they were saved together, or move {beside.name} away, so"
            " that the weights are read without it."
        )


def _reduce(value: Any) -> Any:
    """A side that is said for both axes alike ([16, 16]) as one number, and others as they are."""
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return value[0]
    return value


def _list_sizes(shape: Architecture) -> Iterator[tuple[str, Any]]:
    """The settings that the shapes of weights tell, by the names that Hugging Face and open_clip
    (width, layers) give them."""
    if isinstance(shape, PlainTransformer):
        arch = shape.arch
        yield from dict.fromkeys(("hidden_size", "width"), arch.dim).items()
        yield from dict.fromkeys(("num_hidden_layers", "layers"), arch.blocks).items()
        yield "intermediate_size", shape.hidden
        yield "patch_size", arch.patch_size
        if isinstance(shape, BeitShape) or (isinstance(shape, ViTShape) and not shape.windows):
            yield "image_size", arch.image_size  # by the table of positions
        if are_heads_told(shape):
            yield "num_attention_heads", arch.heads
        if isinstance(shape, ViTShape):
            yield "qkv_bias", shape.qkv_bias
    elif isinstance(shape, SwinShape):
        yield "embed_dim", shape.width
        yield "depths", [*shape.blocks]
        yield "num_heads", [*shape.stage_heads]
        yield "window_size", shape.windows[0]
        yield "patch_size", shape.patch_size
    elif isinstance(shape, ConvNeXtShape):
        yield "hidden_sizes", [*shape.widths]
        yield "depths", [*shape.blocks]
        yield "patch_size", shape.stem
    elif isinstance(shape, CNNShape) and shape.arch.kind == "convnextv2":
        yield "hidden_sizes", [*shape.arch.widths]
        yield "depths", [*shape.arch.blocks]
        yield "patch_size", shape.arch.stem
