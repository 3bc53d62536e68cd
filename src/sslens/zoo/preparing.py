"""How images are prepared for a model of which no card says it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sslens.cards import Evaluation
from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from sslens.data.transform import EvalTransform


def evaluation(size: int, **given: Any) -> Evaluation:
    """How images of `size` are prepared: from 224 px on, the shorter side is first resized to size
    · 256/224.

    Args:
        given: settings that differ from this, ImageNet's colours or bicubic interpolation.

    >>> evaluation(224).resize, evaluation(64, interpolation="bilinear").resize
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


def transform(size: int, **given: Any) -> "EvalTransform":
    """The transform of `evaluation`."""
    from sslens.data.transform import EvalTransform

    return EvalTransform(**asdict(evaluation(size, **given)))
