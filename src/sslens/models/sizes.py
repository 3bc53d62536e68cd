"""A model on images of another size."""

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models.backbone import Backbone, Pixels
from sslens.models.tracing import trace_shapes

#: pixels of the largest side of images
LARGEST = 1 << 14


@final
@dataclass(frozen=True)
class Resampling:
    """How a method's authors resample positions: bicubic, without antialiasing.

    Attributes:
        offset: what is added to the new grid's side before the factor is computed, against
            rounding; it moves the places a little.
    """

    offset: float = 0.0


#: the methods with a way of their own, by objective: DINO and iBOT (`interpolate_pos_encoding`),
#: MAE (`util/pos_embed.py`), MSN and I-JEPA (`interpolate_pos_encoding`)
RESAMPLED: Mapping[str, Resampling] = {
    "dino": Resampling(0.1),
    "ibot": Resampling(0.1),
    "mae": Resampling(),
    "msn": Resampling(),
    "ijepa": Resampling(),
}


def at_size(
    model: Backbone,
    side: int,
    *,
    fit: str = "crop",
    longest: int | None = None,
    flip: bool = False,
) -> Backbone:
    """Return the same model for images of another size; the weights are shared with the model.

    Position tables, absolute or relative, are resampled to the new grid by bicubic interpolation
    (antialiased where the grid shrinks); rotary positions are computed for it. Convolutional
    networks take any size as they are.

    Args:
        model: the model, which is left as it is.
        side: the side of the square that the model takes, in pixels.
        fit: "crop" cuts a central square out of each image, whose shorter side is resized to
            `side`; "pad" shows the whole image in the upper left corner, the rest in the mean
            colour.
        longest: with `fit="pad"`, the longer side of the resized image in pixels; `side` unless
            given.
        flip: whether left and right are exchanged.

    Raises:
        InputError: the side is no multiple of the model's patch, or the model cannot be given
            another size; an unknown fit; `longest` without padding, or larger than `side`.

    >>> import sslens, torch
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> larger = at_size(model, 64)
    >>> larger(torch.zeros(1, 3, 64, 64)).shape, larger.transform.crop
    (torch.Size([1, 65, 64]), 64)
    """
    if longest is not None and fit != "pad":
        raise InputError("A longest side is for padded images only", mend="give {fit=pad}")
    _require_side(side, "side")
    transform = replace(model.transform, resize=longest or side, crop=side, fit=fit, flip=flip)
    if side == model.transform.crop:
        return _rebuild(model, model.network, transform, side)
    network = _resize(model, side, "side")
    return _rebuild(model, network, transform, side)


def at_image_size(model: Backbone, side: int) -> Backbone:
    """Return the same model for larger or smaller images, which are cut as before: the part of an
    image that the model sees stays the same.

    Absolute positions are resampled as the authors of the method do it (`RESAMPLED`), and as timm
    does it (bicubic, antialiased) for other methods; rotary positions and windows' tables are made
    for the new grid. The weights are shared with the model, and `about.more` keeps its usual side
    as "usual_size".

    Args:
        model: the model, which is left as it is.
        side: the side of the square that the model takes, in pixels.

    Raises:
        InputError: the side is no multiple of the model's patch, or the model takes no images of
            that size.

    >>> import sslens
    >>> larger = at_image_size(sslens.load("random:vit_nano_patch8_32"), 64)
    >>> larger.network.pos_embed.shape, larger.transform.resize
    (torch.Size([1, 65, 64]), 64)
    """
    _require_side(side, "image_size")
    before = model.transform
    transform = scale(before, side)
    if side == before.crop:
        return model.copy_with(transform=transform)
    network = _resize(model, side, "image_size")
    table = getattr(network, "pos_embed", None)
    rule = RESAMPLED.get(model.about.objective or "")
    if rule is not None and isinstance(table, nn.Parameter):
        own = model.network.get_parameter("pos_embed")
        resampled = resample_as(own.detach(), table.shape[1], rule)
        if resampled.shape == table.shape:
            network.pos_embed = nn.Parameter(resampled, requires_grad=False)
    made = _rebuild(model, network, transform, side)
    more = {"usual_size": before.crop, **made.about.more}
    return made.copy_with(about=replace(made.about, more=more))


def scale(transform: EvalTransform, side: int) -> EvalTransform:
    """Return a transform for larger or smaller images, of which the same part is cut.

    >>> scale(EvalTransform(resize=256, crop=224), 112).resize
    128
    """
    resize = max(side, round(transform.resize * side / transform.crop))
    return replace(transform, resize=resize, crop=side)


def resample_as(
    table: Float[Tensor, "1 token dim"], tokens: int, rule: Resampling
) -> Float[Tensor, "1 _ dim"]:
    """Resample a table of positions to another square grid, as a method's authors do it.

    Args:
        table: the positions, those of CLS and registers first.
        tokens: the number of rows of the new table.
        rule: how it is done.

    >>> table = torch.arange(5.0).view(1, 5, 1)
    >>> resample_as(table, 5, RESAMPLED["mae"]).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    rows = table.shape[1]
    old = next(k for k in range(rows) if math.isqrt(rows - k) ** 2 == rows - k)
    before, patches = table[:, :old], table[:, old:]
    grid, new = math.isqrt(rows - old), math.isqrt(tokens - old)
    if grid == new:
        return table
    square = patches.unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
    scale = (new + rule.offset) / grid
    # torch computes places by the factor where it is given, which differs from the sizes' ratio
    wanted = {"scale_factor": (scale, scale)} if rule.offset else {"size": (new, new)}
    made = F.interpolate(square, mode="bicubic", antialias=False, **wanted)
    return torch.cat([before, made.flatten(2).transpose(1, 2)], dim=1)


def pixels_at_size(pixels: Backbone, transform: EvalTransform, patch: int) -> Backbone:
    """Return the control of raw pixels as another model sees the images, in patches.

    Args:
        pixels: the control.
        transform: how the other model sees the images.
        patch: the side of a patch in pixels.

    Raises:
        InputError: the images cannot be cut into such patches.
    """
    side = transform.crop
    if side % patch:
        raise InputError(
            f"Images of {side} px cannot be cut into patches of {patch} px: give a patch that"
            " divides them."
        )
    return _rebuild(pixels, Pixels(patch), transform, side)


def patch_side(model: Backbone) -> int | None:
    """Return the side in pixels of a patch of a transformer, or of the raw pixels; None for
    networks without patches, or with patches that are not square."""
    if isinstance(model.network, Pixels):
        return model.network.patch
    size = getattr(getattr(model.network, "patch_embed", None), "patch_size", None)
    return int(size[0]) if size is not None and size[0] == size[1] else None


def _require_side(side: int, parameter: str) -> None:
    if not 1 <= side <= LARGEST:
        mend = f"give 1 to {LARGEST:,} as {{{parameter}}}"
        raise InputError(f"Images of {side} px cannot be seen", mend=mend)


def _rebuild(model: Backbone, network: nn.Module, transform: EvalTransform, side: int) -> Backbone:
    outputs = None
    if model.outputs and side != model.transform.crop:
        from sslens.models import networks

        calls = trace_shapes(network, side)
        if set(model.taps) - set(calls):
            raise InputError(
                f"{model.name} has other taps on images of {side} px: give images of"
                f" {model.transform.crop} px."
            )
        taps = list(model.taps.values())
        outputs = networks.describe(network, calls, taps, model.prefix).outputs
    return model.copy_with(
        network=network,
        source=f"{model.source} at {side} px",
        transform=transform,
        outputs=outputs,
    )


def _resize(model: Backbone, side: int, parameter: str) -> nn.Module:
    """Copy the network with the positions of another grid, and all other weights shared."""
    # timm takes a second, and stored results need none of it
    from sslens.models import networks
    from sslens.models.windowed import WindowedViT

    if isinstance(model.network, networks.CNNS):
        return model.network
    if isinstance(model.network, Pixels):
        return Pixels(model.network.patch)
    patch = patch_side(model)
    if patch is not None and side % patch:
        below = side // patch * patch
        near = f"{below} or {below + patch}" if below else str(patch)
        raise InputError(
            f"{model.name} cuts images into patches of {patch} px, which do not divide {side} px",
            mend=f"give {near} as {{{parameter}}}",
        )
    if isinstance(model.network, WindowedViT):
        return model.network  # which resamples its positions as it computes
    network = model.network
    if hasattr(network, "set_input_size"):
        shared = {id(value): value for value in network.parameters()}
        network = copy.deepcopy(network, dict(shared))
        with warnings.catch_warnings():
            # of BEiT's, where timm calls torch in ways that are slow or will be given up
            warnings.simplefilter("ignore", UserWarning)
            try:
                network.set_input_size(img_size=(side, side))  # type: ignore[operator]
            except (RuntimeError, MemoryError) as error:  # its tables do not fit into memory
                raise InputError(
                    f"{model.name} cannot be given images of {side} px"
                    f" ({(str(error).splitlines() or ['no memory'])[0]:.80})",
                    mend=f"give a smaller {{{parameter}}}",
                ) from error
    if not isinstance(network, networks.TRANSFORMERS):
        try:
            trace_shapes(network, side)
        except (Exception, SystemExit) as error:  # whatever the network raises
            raise InputError(
                f"{model.name} cannot be given images of {side} px, because how its positions are"
                f" resampled is not known: give images of {model.transform.crop} px."
            ) from error
    return network
