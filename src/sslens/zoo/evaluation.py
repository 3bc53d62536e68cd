"""How images are prepared for a model that no card describes."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sslens.cards import Evaluation
from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from sslens.data.transform import EvalTransform


def make_evaluation(size: int, **given: Any) -> Evaluation:
    """Return how images are prepared for a model of `size` px: resized to `size` along the shorter
    side (from 224 px on to size · 256/224), then cropped.

    Args:
        size: the side of the images in pixels.
        given: settings that differ from the default, which is ImageNet's colours and bicubic
            interpolation.

    >>> make_evaluation(224).resize, make_evaluation(64, interpolation="bilinear").resize
    (256, 64)
    """
    settings: dict[str, Any] = {
        "resize": size * 256 // 224 if size >= 224 else size,
        "crop": size,
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    return Evaluation(**(settings | given))


def make_transform(size: int, **given: Any) -> "EvalTransform":
    """Return the transform of `make_evaluation`."""
    from sslens.data.transform import EvalTransform

    return EvalTransform(**asdict(make_evaluation(size, **given)))
