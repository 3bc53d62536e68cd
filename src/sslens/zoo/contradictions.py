"""Settings in a file beside the weights, held against the shapes of the weights."""

from collections.abc import Iterator
from typing import Any

from sslens.errors import InputError, shorten
from sslens.zoo.architecture import Architecture, PlainTransformer, are_heads_told
from sslens.zoo.architectures.beit import BeitShape
from sslens.zoo.architectures.cnn import CNNShape
from sslens.zoo.architectures.convnext import ConvNeXtShape
from sslens.zoo.architectures.swin import SwinShape
from sslens.zoo.architectures.vit import ViTShape
from sslens.zoo.files import Contents

#: characters of a value that a message shows
SHOWN = 60


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
