"""A detector on maps: a feature pyramid, and the heads of Mask R-CNN on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from jaxtyping import Float, Int64
from torch import Tensor, nn

from sslens.models.detection.heads import make_heads
from sslens.models.detection.objects import Detections, Objects
from sslens.models.detection.settings import find_settings
from sslens.models.pyramid import Pyramid, StagePyramid

Maps = Sequence[Float[Tensor, "image _ _ _"]]


@final
@dataclass(frozen=True)
class MapShape:
    """The shape of the maps that a detector is built on.

    Attributes:
        dims: the number of channels: of the one map of a Vision Transformer, blocks concatenated,
            or of each stage of a CNN, the finest first.
        stride: side in pixels of one place of the first map.

    >>> MapShape((768,), 16).multiple, MapShape((256, 512, 1024, 2048), 4).multiple
    (32, 32)
    """

    dims: tuple[int, ...]
    stride: int

    @property
    def multiple(self) -> int:
        """Image sides that are a multiple of so many pixels lose no place at any level."""
        return (2 if len(self.dims) == 1 else 8) * self.stride

    def build_pyramid(self, channels: int) -> Pyramid | StagePyramid:
        """Build the feature pyramid on these maps, each level with so many channels."""
        if len(self.dims) == 1:
            return Pyramid(self.dims[0], self.stride, channels)
        return StagePyramid(self.dims, self.stride, channels)


@final
class Detector(nn.Module):
    """A feature pyramid, Mask R-CNN's heads on it, and the network under it where it is trained
    too; the three parts have the names that checkpoints of detectors have.

    Args:
        shape: of the maps that the pyramid is built on.
        heads: the name of the heads, "vitdet" or "small".
        classes: the number of classes.
        backbone: the network that makes the maps; None where they are given.
        masks: whether there is a mask head.

    Raises:
        InputError: there are no such heads, no class, or a map with a number of channels that a
            pyramid cannot halve twice.

    >>> import torch
    >>> detector = Detector(MapShape((16,), 8), "small", classes=3)
    >>> len(detector.detect([torch.zeros(1, 16, 8, 8)], [(64, 64)]))
    1
    """

    def __init__(
        self,
        shape: MapShape,
        heads: str,
        classes: int,
        backbone: nn.Module | None = None,
        masks: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = shape.build_pyramid(find_settings(heads).channels)
        self.heads = make_heads(heads, classes, self.pyramid.strides, masks)

    def see(self, images: Float[Tensor, "image 3 size size"]) -> Maps:
        """Make the maps of images.

        Raises:
            ValueError: the detector has no network of its own.
        """
        if self.backbone is None:
            raise ValueError("this detector is on maps, and sees no images")
        made = self.backbone(images)
        return [made] if isinstance(made, Tensor) else list(made)

    def losses(
        self,
        maps: Maps,
        sizes: Sequence[tuple[int, int]],
        objects: Sequence[Objects],
        noise: Int64[Tensor, " image"],
    ) -> dict[str, Float[Tensor, ""]]:
        """Compute the losses of a minibatch by name; the sum of them is trained.

        Args:
            maps: the map of a Vision Transformer, or the maps of the stages of a CNN.
            sizes: (height, width) of each image within its square.
            objects: the objects of each image, in pixels of the square.
            noise: a number for each image that decides which anchors and regions are sampled.
        """
        return self.heads.losses(self._levels(maps), sizes, objects, noise)

    def detect(self, maps: Maps, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detect objects, in pixels of each image within its square."""
        return self.heads.detect(self._levels(maps), sizes)

    def _levels(self, maps: Maps) -> dict[str, Tensor]:
        if isinstance(self.pyramid, StagePyramid):
            return self.pyramid(maps)
        (only,) = maps
        return self.pyramid(only)
