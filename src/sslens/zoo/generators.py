"""Generators in the files of RCDM's authors, and of trainings with their code."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.models.sketching import sketch_networks
from sslens.models.unet import COLOURS, PRESETS, UNet, UNetShape
from sslens.zoo import find_file
from sslens.zoo.arrays import Array
from sslens.zoo.files import read_contents
from sslens.zoo.identity import require_finite
from sslens.zoo.refusals import GENERATOR

_LAST_OF_LEVEL = re.compile(r"output_blocks\.\d+\.[12]\.in_layers\.0\.weight")
#: keys of forms of guided diffusion's UNet that RCDM does not use, and what they are
_FORMS = {
    r"label_emb\..*": "it is conditioned on classes",
    r"input_blocks\.\d+\.0\.op\..*": "its maps are halved by a convolution, not by a block",
    r"output_blocks\.\d+\.\d\.conv\..*": "its maps are doubled by a convolution, not by a block",
    r"low_res.*": "it is for super-resolution",
}

Weights = Mapping[str, Array]


def load_rcdm(
    path: Path | str, *, size: int | None = None, heads: int = 4, head_width: int | None = None
) -> UNet:
    """Load a network of RCDM's authors, such as `rcdm_ema_dino_trunk.pt`, strictly: every tensor of
    the file is used, and every tensor of the network is in the file.

    Width, levels, blocks, places of attention and the width of the representation are read from the
    tensors' names and shapes. The released networks have 494 tensors; with the 2048 channels of a
    ResNet-50's trunk, 422,603,782 parameters.

    Args:
        path: the file.
        size: the side in pixels of the images, which no file tells; unless given, that of the
            preset with the same levels (128 px for the released files).
        heads: the heads of each attention, which no file tells; the released networks have 4.
        head_width: the channels of a head, in place of `heads`.

    Raises:
        InputError: the file cannot be read, holds another network, or a form of guided diffusion's
            that RCDM does not use; no size is known; or values are not finite.
    """
    file = find_file(Path(path))
    found = read_contents(file).states.values()
    states = [weights for weights in found if set(GENERATOR) <= weights.keys()]
    if len(states) != 1:
        raise InputError(
            f"{file} holds no network of RCDM's, which has {', '.join(GENERATOR)}",
            mend="give the folder that sslens rcdm train wrote, or a file of RCDM's authors",
        )
    weights = states[0]
    shape = _read_shape(weights, file, size, heads, head_width)
    with sketch_networks():
        network = shape.build()
    _require_fit(weights, network, file)
    require_finite(weights, file)
    tensors = {
        name: torch.from_numpy(np.array(value.as_float32().values))
        for name, value in weights.items()
    }
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def _read_shape(
    weights: Weights, file: Path, size: int | None, heads: int, head_width: int | None
) -> UNetShape:
    """The shape of the network. There are levels × (blocks + 1) stages on the way up, and all
    levels but one end in one block more."""
    for name in weights:
        for pattern, form in _FORMS.items():
            if re.fullmatch(pattern, name):
                raise InputError(
                    f"{file} holds another UNet of guided diffusion's than RCDM's: {form} ({name})."
                )
    ups = {name.split(".")[1] for name in weights if name.startswith("output_blocks.")}
    levels = 1 + sum(_LAST_OF_LEVEL.fullmatch(name) is not None for name in weights)
    stages = len(ups) // levels
    firsts = [f"input_blocks.{1 + level * stages}" for level in range(levels)]
    out = [weights.get(f"{first}.0.in_layers.2.weight") for first in firsts]
    width = weights["time_embed.0.weight"].shape[-1]
    if stages < 2 or stages * levels != len(ups) or any(value is None for value in out):
        raise InputError(f"{file} holds a UNet with stages that are missing or left over.")
    multipliers = tuple(value.shape[0] // width for value in out if value is not None)
    size = size or _find_size(multipliers, file)
    condition = weights.get("ssl_emb.weight")
    return UNetShape(
        size=size,
        width=width,
        blocks=stages - 1,
        multipliers=multipliers,
        attention=tuple(
            size >> level
            for level, first in enumerate(firsts)
            if f"{first}.1.qkv.weight" in weights
        ),
        heads=heads,
        head_width=head_width,
        learned_variance=weights["out.2.weight"].shape[0] == 2 * COLOURS,
        condition=None if condition is None else condition.shape[-1],
    )


def _find_size(multipliers: tuple[int, ...], file: Path) -> int:
    """The side of the images of a preset with these levels."""
    for shape in PRESETS.values():
        if shape.multipliers == multipliers:
            return shape.size
    levels = ", ".join(map(str, multipliers))
    raise InputError(
        f"{file} does not tell the side of its images, and no preset has its levels ({levels}):"
        " sslens.zoo.generators.load_rcdm takes the side as size."
    )


def _require_fit(weights: Weights, network: UNet, file: Path) -> None:
    """Refuse weights that are not exactly the network's."""
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    present = {name: tuple(value.shape) for name, value in weights.items()}
    names = expected.keys() | present.keys()
    wrong = sorted(name for name in names if expected.get(name) != present.get(name))
    if wrong:
        first = wrong[0]
        raise InputError(
            f"{file} does not fit RCDM's network in {len(wrong)} of"
            f" {spell_count(len(expected), 'tensor')}; the first is {first}: expected"
            f" {expected.get(first, 'none')}, found {present.get(first, 'none')}."
        )
