"""How images are prepared for a model of which no card says it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sslens.data.transform import EvalTransform


def transform(size: int, **given: Any) -> "EvalTransform":
    """How images of `size` are prepared: from 224 px on, the shorter side is first resized to size
    · 256/224."""
    from sslens.data.colour import IMAGENET_MEAN, IMAGENET_STD
    from sslens.data.transform import EvalTransform

    settings: dict[str, Any] = {
        "resize": size * 256 // 224 if size >= 224 else size,
        "crop": size,
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    return EvalTransform(**(settings | given))
