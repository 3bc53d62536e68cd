"""Whole detectors from files in detectron2's ViTDet layout: backbone, pyramid and heads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from sslens.errors import InputError
from sslens.models.detection.heads import Heads
from sslens.models.detection.settings import NAMED, HeadSettings
from sslens.models.pyramid import Pyramid
from sslens.models.vitdet import DetectionBackbone
from sslens.models.windowed import WindowedViT
from sslens.zoo import find_file
from sslens.zoo.arrays import Array
from sslens.zoo.files import read_contents
from sslens.zoo.identity import require_finite
from sslens.zoo.recognise import Recognised, recognise

#: a level of the pyramid, which detectron2 numbers by log2 of its stride in pixels
_PYRAMID = re.compile(r"backbone\.simfp_(\d)\.(.*)")
_HEADS = re.compile(r"((?:proposal_generator|roi_heads)\..*)")
_CLASSES = "roi_heads.box_predictor.cls_score.weight"


@final
@dataclass(frozen=True)
class LoadedDetector:
    """A detector from a file.

    Attributes:
        backbone: from images to the map of the last block.
        pyramid: from the map to the levels.
        heads: from the levels to detections.
        checkpoint: what the file was recognised as, with the fate of every key of the backbone.
    """

    backbone: DetectionBackbone
    pyramid: Pyramid
    heads: Heads
    checkpoint: Recognised

    @property
    def parameters(self) -> int:
        """Count of the numbers that training changes."""
        parts = (self.backbone, self.pyramid, self.heads)
        return sum(value.numel() for part in parts for value in part.parameters())


def load_detector(path: Path | str, *, settings: HeadSettings = NAMED["vitdet"]) -> LoadedDetector:
    """Load a detector in detectron2's ViTDet layout, strictly: every tensor of the file is used, or
    is one of the two of the images' colours, and every tensor of the detector is in the file.

    The Vision Transformer is built as `sslens.load` builds it. Levels are renamed from detectron2's
    numbers, log2 of their strides, to their factor to the patches' grid: `backbone.simfp_2.` is
    `p2.` for patches of 16 px. The heads keep their names. At ViT-B with 80 classes there are 245
    tensors with 110,895,792 numbers.

    Args:
        path: the file: a pickle of NumPy arrays as detectron2 releases, or a training's `.pth`.
        settings: how the heads detect, and their sizes, which must be the file's.

    Raises:
        InputError: the file cannot be read, is not of this layout, is a cascade of heads, or does
            not fit the settings; or values are not finite.
    """
    file = find_file(Path(path))
    contents = read_contents(file)
    checkpoint = recognise(contents)
    if checkpoint.layout != "vitdet":
        raise InputError(
            f"{file} is no detector in detectron2's ViTDet layout ({checkpoint.claim.method}:"
            f" {checkpoint.claim.form}): sslens.load reads it as a backbone."
        )
    trunk = checkpoint.claim.branches[checkpoint.branch]
    start = trunk.prefix.removesuffix("backbone.net.")
    beside = {
        key.removeprefix(start): value
        for key, value in contents.states[trunk.state].items()
        if not key.startswith(trunk.prefix)
    }
    network = checkpoint.network()
    assert isinstance(network, WindowedViT)
    require_finite(checkpoint.weights, file)
    require_finite(beside, file)
    backbone = DetectionBackbone(network, (len(network.blocks) - 1,))
    pyramid = Pyramid(network.embed_dim, network.patch_size, settings.channels)
    _fill(pyramid, _name_levels(beside, network.patch_size, file), file, "pyramid")
    heads = Heads(settings, _count_classes(beside, file), pyramid.strides)
    _fill(heads, {k: v for k, v in beside.items() if _HEADS.fullmatch(k)}, file, "heads")
    return LoadedDetector(backbone.eval(), pyramid.eval(), heads.eval(), checkpoint)


def _name_levels(beside: Mapping[str, Array], patch: int, file: Path) -> dict[str, Array]:
    """The tensors of the pyramid by our names."""
    finest = (patch // 4).bit_length() - 1
    if patch != 4 * 2**finest:
        raise InputError(f"{file} has patches of {patch} px, and detectron2 no pyramid for such.")
    named = {}
    for key, value in beside.items():
        if match := _PYRAMID.fullmatch(key):
            named[f"p{int(match[1]) - finest + 2}.{match[2]}"] = value
    return named


def _count_classes(beside: Mapping[str, Array], file: Path) -> int:
    if any(key.startswith("roi_heads.box_head.0.") for key in beside):
        raise InputError(
            f"{file} is a Cascade Mask R-CNN, with three box heads in turn: the heads here are Mask"
            " R-CNN's. sslens.load reads its backbone."
        )
    if _CLASSES not in beside:
        raise InputError(f"{file} has no {_CLASSES}: it is no Mask R-CNN with one box head.")
    return int(beside[_CLASSES].shape[0]) - 1


def _fill(module: nn.Module, weights: Mapping[str, Array], file: Path, part: str) -> None:
    """Load weights that must be exactly the module's."""
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    present = {name: tuple(value.shape) for name, value in weights.items()}
    names = expected.keys() | present.keys()
    wrong = sorted(name for name in names if expected.get(name) != present.get(name))
    if wrong:
        first = wrong[0]
        raise InputError(
            f"{file} does not fit the {part} of a ViTDet in {len(wrong)} of {len(expected)}"
            f" tensors; the first is {first}: expected {expected.get(first, 'none')}, found"
            f" {present.get(first, 'none')}."
        )
    module.load_state_dict({name: _convert(value) for name, value in weights.items()})


def _convert(value: Array) -> Tensor:
    return torch.from_numpy(np.array(value.as_float32().values))
