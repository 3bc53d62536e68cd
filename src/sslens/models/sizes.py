"""A model on images of another size."""

import copy
import warnings
from dataclasses import replace

from torch import nn

from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models.backbone import Backbone, Pixels


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
    if side < 1:
        raise InputError(f"Images of {side} px cannot be", mend="give 1 or more as {side}")
    transform = replace(model.transform, resize=longest or side, crop=side, fit=fit, flip=flip)
    network = model.network
    if side != model.transform.crop:
        network = _resize(model, side)
    return _rebuild(model, network, transform, side)


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


def _rebuild(model: Backbone, network: nn.Module, transform: EvalTransform, side: int) -> Backbone:
    return Backbone(
        network,
        name=model.name,
        source=f"{model.source} at {side} px",
        taps=model.every,
        transform=transform,
        prefix=model.prefix,
        about=model.about,
    )


def _resize(model: Backbone, side: int) -> nn.Module:
    """Copy the network with the positions of another grid, and all other weights shared."""
    # timm takes a second, and stored results need none of it
    from sslens.models import networks
    from sslens.models.windowed import WindowedViT

    if isinstance(model.network, networks.CNNS):
        return model.network
    if isinstance(model.network, Pixels):
        return Pixels(model.network.patch)
    patch = patch_side(model)
    if patch is None or not isinstance(model.network, networks.TRANSFORMERS):
        raise InputError(
            f"{model.name} cannot be given images of another size, because how its positions are"
            f" resampled is not known: give images of {model.transform.crop} px."
        )
    if side % patch:
        below = side // patch * patch
        near = f"{below} or {below + patch}" if below else str(patch)
        raise InputError(
            f"{model.name} cuts images into patches of {patch} px, which do not divide {side} px",
            mend=f"give {near} as {{side}}",
        )
    if isinstance(model.network, WindowedViT):
        return model.network  # which resamples its positions as it computes
    shared = {id(value): value for value in model.network.parameters()}
    network: nn.Module = copy.deepcopy(model.network, dict(shared))
    with warnings.catch_warnings():
        # of BEiT's, where timm calls torch in ways that are slow or will be given up
        warnings.simplefilter("ignore", UserWarning)
        network.set_input_size(img_size=(side, side))  # type: ignore[operator]
    return network
