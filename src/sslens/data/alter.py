"""Changes of images to which a representation may be blind, as operations on batches of tensors.

A transform at a fixed strength does the same to every image, so that a representation can follow it
by one map. A drawn transform does something else to each image, drawn by the image's id, so that it
can be asked how well a representation tells what was done. Neither depends on the other images of
a batch, or on their order.

What lies outside of an image is its mirror image at the edge. Patch shuffle cuts the image into
squares of pixels, and knows nothing of the patches of a network: it is the same for a CNN.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from sslens.counts import spell_count
from sslens.data.colour import GaussianBlur, _adjust_contrast_, _grey, _turn_hue_
from sslens.data.transform_names import (
    STRENGTHS,
    label_transform,
    parse_transform,
    require_strength,
)
from sslens.errors import InputError, nearest

#: of the arithmetic of all transforms; it enters the keys of altered passes
VERSION = 1
#: transforms that are made or not made
SWITCHES = ("horizontal-flip", "vertical-flip", "grey", "patch-shuffle")
#: the parts of the parameter of each other transform, as tables name them
PARTS: Mapping[str, tuple[str, ...]] = {
    "rotation": ("degrees",),
    "shift": ("to the right", "down"),
    "scale": ("log of the factor",),
    "hue": ("degrees",),
    "contrast": ("log of the factor",),
    "blur": ("standard deviation",),
    "occlusion": ("to the right", "down"),
    "noise": ("standard deviation",),
    "crop": ("to the right", "down"),
}
Parameters = Float64[np.ndarray, "image part"]
Images = Float32[Tensor, "image 3 side side"]


@final
@dataclass(frozen=True)
class Transform:
    """A change of images.

    Args:
        name: one of `STRENGTHS`.
        strength: what it does to every image; a drawn one does at most so much.
        drawn: whether what it does is drawn for each image, by the image's id: for a flip, grey and
            patch shuffle whether it is made; else the parameter, uniformly up to the strength, in
            both directions where there are two.

    Raises:
        InputError: there is no such transform, or the strength is out of its range.

    >>> row = torch.arange(12.0).view(1, 3, 2, 2)
    >>> Transform("horizontal-flip", 1.0).apply(row, ["a"])[0, 0].tolist()
    [[1.0, 0.0], [3.0, 2.0]]
    >>> flip = Transform("horizontal-flip", 1.0, drawn=True)
    >>> flip.parameters(["a", "b", "d"], side=2)[:, 0].tolist()  # whether the hash is below a half
    [1.0, 1.0, 0.0]
    """

    name: str
    strength: float
    drawn: bool = False

    def __post_init__(self) -> None:
        if self.name not in STRENGTHS:
            raise InputError(
                f'There is no transform "{self.name}": {nearest(self.name, STRENGTHS)}'
            )
        require_strength(self.name, self.strength)

    @classmethod
    def parse(cls, text: str, *, drawn: bool = False) -> "Transform":
        """Read a transform from "rotation" or "rotation=45".

        Raises:
            InputError: it cannot be read.
        """
        return cls(*parse_transform(text), drawn)

    @property
    def label(self) -> str:
        """The name for a reader, with the strength where it is not the usual one."""
        return label_transform(self.name, self.strength)

    @property
    def parts(self) -> tuple[str, ...]:
        """What the parts of the parameter are."""
        return PARTS.get(self.name, ("made",))

    def spec(self) -> Mapping[str, Any]:
        """Return all that decides what is done, as plain JSON values."""
        return {
            "name": self.name,
            "strength": float(self.strength),
            "drawn": self.drawn,
            "version": VERSION,
        }

    def parameters(self, ids: Sequence[str], side: int) -> Parameters:
        """Return what is done to each image, one column for each of `parts`.

        Args:
            ids: the ids of the images.
            side: the side of the images in pixels; shifts are whole pixels.
        """
        signed = self._draw(ids) if self.drawn else np.ones((len(ids), 2))
        if self.name in SWITCHES:
            return (signed[:, :1] > 0).astype(float)
        return _PARAMETERS[self.name](signed, self.strength, side, self.drawn)

    def apply(self, images: Images, ids: Sequence[str]) -> Images:
        """Return the changed images.

        Args:
            images: square images with values from 0 to 1.
            ids: the id of each image.

        Raises:
            InputError: there is not one id for each image, or the transform does not apply to
                images of this size.
        """
        if len(ids) != len(images):
            raise InputError(
                f"{len(images)} images have {spell_count(len(ids), 'id')}: give one an image."
            )
        self.require_side(images.shape[-1])
        parameters = self.parameters(ids, images.shape[-1])
        if self.name not in SWITCHES:
            return _APPLY[self.name](images, parameters, self.strength)
        made = _SWITCH[self.name](images, self.strength)
        if not self.drawn:
            return made
        chosen = torch.from_numpy(parameters[:, 0] > 0).to(images.device)
        return torch.where(chosen[:, None, None, None], made, images)

    def require_side(self, side: int) -> None:
        """Refuse a size of images at which the transform cannot be made, or does nothing.

        Raises:
            InputError: it cannot be made, with the strengths at which it can.
        """
        if self.name == "patch-shuffle" and side % round(self.strength):
            fitting = [count for count in range(2, 17) if side % count == 0]
            raise InputError(
                f"patch-shuffle={self.strength:g} does not apply to images of {side} px, which"
                f" {self.strength:g} does not divide",
                mend=(
                    f"give patch-shuffle={fitting[0]} to {{transforms}}"
                    if fitting
                    else "leave it out of {transforms}"
                ),
            )
        if self.name in ("shift", "occlusion") and round(self.strength * side) < 1:
            raise InputError(
                f"{self.name}={self.strength:g} is less than a pixel of images of {side} px",
                mend="give more to {transforms}",
            )

    def _draw(self, ids: Sequence[str]) -> Float64[np.ndarray, "image 2"]:
        """Two numbers for each image, uniform from −1 to 1: from the SHA-256 of the transform's
        name and the image's id, whatever the strength."""
        hashes = b"".join(hashlib.sha256(f"{self.name}/{name}".encode()).digest() for name in ids)
        words = np.frombuffer(hashes, ">u8").reshape(len(ids), 4)[:, :2]
        return 1 - 2 * (words / 2.0**64)


def _both_ways(signed: np.ndarray, strength: float, side: int, drawn: bool) -> Parameters:
    """From −strength to strength."""
    return signed[:, :1] * strength


def _logarithm(signed: np.ndarray, strength: float, side: int, drawn: bool) -> Parameters:
    """The logarithm of a factor from 1/strength to strength."""
    return signed[:, :1] * math.log(strength)


def _up_to(signed: np.ndarray, strength: float, side: int, drawn: bool) -> Parameters:
    """From 0 to strength."""
    return (signed[:, :1] + 1) / 2 * strength


def _whole_pixels(signed: np.ndarray, strength: float, side: int, drawn: bool) -> Parameters:
    """Whole pixels, as shares of the side: to the right alone, or drawn in both directions."""
    signed = signed if drawn else signed * [1, 0]
    return np.round(signed * strength * side) / side


def _corner(signed: np.ndarray, strength: float, side: int, drawn: bool) -> Parameters:
    """The upper left corner of a square with the side `strength`, in shares of the image's side: of
    a covered square that is not drawn the centre's, of a crop the image's own."""
    width = round(strength * side)
    place = (signed + 1) / 2 if drawn else np.full_like(signed, 0.5)
    return np.round(place * (side - width)) / side


def _first_corner(signed: np.ndarray, strength: float, side: int, drawn: bool) -> Parameters:
    """As `_corner`, and the upper left one where it is not drawn."""
    place = (signed + 1) / 2 if drawn else np.zeros_like(signed)
    return place * (1 - strength)


#: how what is drawn, from −1 to 1, becomes a parameter
_PARAMETERS: Mapping[str, Callable[[np.ndarray, float, int, bool], Parameters]] = {
    "rotation": _both_ways,
    "shift": _whole_pixels,
    "scale": _logarithm,
    "hue": _both_ways,
    "contrast": _logarithm,
    "blur": _up_to,
    "occlusion": _corner,
    "noise": _up_to,
    "crop": _first_corner,
}


def _flip_horizontally(images: Images, strength: float) -> Images:
    return images.flip(-1)


def _flip_vertically(images: Images, strength: float) -> Images:
    return images.flip(-2)


def _turn_grey(images: Images, strength: float) -> Images:
    return _grey(images).repeat(1, 3, 1, 1)


def _shuffle(images: Images, strength: float) -> Images:
    """Cut into squares, each of which goes to another place, the same place for all images."""
    count = round(strength)
    n, _, side, _ = images.shape
    width = side // count
    squares = images.view(n, 3, count, width, count, width).transpose(3, 4)
    squares = squares.reshape(n, 3, count * count, width, width)[:, :, _derange(count * count)]
    return squares.view(n, 3, count, count, width, width).transpose(3, 4).reshape(images.shape)


@functools.cache
def _derange(count: int) -> Int64[Tensor, " place"]:
    """An order of so many things that leaves none in its place: one cycle through all of them."""
    order = np.random.default_rng(count).permutation(count)
    places = np.empty(count, np.int64)
    places[order] = np.roll(order, 1)
    return torch.from_numpy(places)


_SWITCH: Mapping[str, Callable[[Images, float], Images]] = {
    "horizontal-flip": _flip_horizontally,
    "vertical-flip": _flip_vertically,
    "grey": _turn_grey,
    "patch-shuffle": _shuffle,
}


def _like(images: Images, values: np.ndarray) -> Tensor:
    """Parameters as a tensor that fits the images."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(images)


def _rotate(images: Images, parameters: Parameters, strength: float) -> Images:
    angle = np.deg2rad(parameters[:, 0])
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return _sample(images, np.array(turn).transpose(2, 0, 1), np.zeros((len(angle), 2)))


def _scale(images: Images, parameters: Parameters, strength: float) -> Images:
    shrunk = np.exp(-parameters[:, 0])[:, None, None] * np.eye(2)
    return _sample(images, shrunk, np.zeros((len(parameters), 2)))


def _crop(images: Images, parameters: Parameters, strength: float) -> Images:
    # coordinates reach from −1 to 1: the centre of the part, and its half side
    centre = 2 * parameters + strength - 1
    return _sample(images, np.tile(strength * np.eye(2), (len(parameters), 1, 1)), centre)


def _sample(
    images: Images,
    matrix: Float64[np.ndarray, "image 2 2"],
    centre: Float64[np.ndarray, "image 2"],
) -> Images:
    """Show at each place what the image has at `matrix` · place + `centre`, by bilinear
    interpolation; coordinates (x, y) reach from −1 to 1."""
    theta = _like(images, np.concatenate([matrix, centre[:, :, None]], axis=2))
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


def _shift(images: Images, parameters: Parameters, strength: float) -> Images:
    n, _, side, _ = images.shape
    pixels = np.rint(parameters * side).astype(np.int64)
    columns, rows = (_mirror(np.arange(side) - own[:, None], side) for own in pixels.T)
    moved = images.gather(3, _index(columns, images)[:, None, None, :].expand(n, 3, side, side))
    return moved.gather(2, _index(rows, images)[:, None, :, None].expand(n, 3, side, side))


def _mirror(place: Int64[np.ndarray, "image place"], side: int) -> Int64[np.ndarray, "image place"]:
    """Places inside of an image, of which those outside are the mirror images at the edge."""
    place = place % (2 * side)
    return np.where(place < side, place, 2 * side - 1 - place)


def _index(values: Int64[np.ndarray, "image place"], images: Images) -> Tensor:
    return torch.from_numpy(values).to(images.device)


def _turn_hue(images: Images, parameters: Parameters, strength: float) -> Images:
    return _turn_hue_(images.clone(), _like(images, parameters / 360)[:, :, None, None])


def _lower_contrast(images: Images, parameters: Parameters, strength: float) -> Images:
    return _adjust_contrast_(images.clone(), _like(images, np.exp(parameters))[:, :, None, None])


def _blur(images: Images, parameters: Parameters, strength: float) -> Images:
    side = images.shape[-1]
    sigma = np.maximum(parameters[:, 0], 1e-3) * side
    operation = GaussianBlur(sigma=(1e-3 * side, strength * side))
    return operation.apply(images, {"chosen": np.ones(len(images), bool), "sigma": sigma})


def _cover(images: Images, parameters: Parameters, strength: float) -> Images:
    """Cover a square with the image's mean colour."""
    side = images.shape[-1]
    width, place = round(strength * side), np.arange(side)
    corner = np.rint(parameters * side).astype(np.int64)
    inside = [(place >= own[:, None]) & (place < own[:, None] + width) for own in corner.T]
    covered = torch.from_numpy(inside[1][:, None, :, None] & inside[0][:, None, None, :])
    return torch.where(covered.to(images.device), images.mean((2, 3), keepdim=True), images)


def _add_noise(images: Images, parameters: Parameters, strength: float) -> Images:
    """Add one pattern of normal numbers to all images, so that the transform is one map."""
    sigma = _like(images, parameters[:, :1])[:, :, None, None]
    return (images + sigma * _make_pattern(images.shape[-1]).to(images)).clamp_(0, 1)


@functools.cache
def _make_pattern(side: int) -> Float32[Tensor, "3 side side"]:
    numbers = np.random.default_rng(side).standard_normal((3, side, side), dtype=np.float32)
    return torch.from_numpy(numbers)


_APPLY: Mapping[str, Callable[[Images, Parameters, float], Images]] = {
    "rotation": _rotate,
    "shift": _shift,
    "scale": _scale,
    "hue": _turn_hue,
    "contrast": _lower_contrast,
    "blur": _blur,
    "occlusion": _cover,
    "noise": _add_noise,
    "crop": _crop,
}
