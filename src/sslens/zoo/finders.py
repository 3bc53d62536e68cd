"""What the shapes of single tensors tell of a network: numbers of blocks, patches, stages."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from sslens.errors import InputError
from sslens.models.cnn import CNNArch


@runtime_checkable
class Shaped(Protocol):
    """A torch tensor or an array of a file; only the shape is used here."""

    @property
    def shape(self) -> Sequence[int]:
        """The size along each axis."""
        ...

    @property
    def ndim(self) -> int:
        """The number of axes."""
        ...


def count_blocks(weights: Mapping[str, Shaped], start: str) -> int:
    """Count how many of `start`0., `start`1., … there are in a row."""
    there = {name[len(start) :].split(".")[0] for name in weights if name.startswith(start)}
    return next(i for i in range(len(there) + 1) if str(i) not in there)


def find_resnet(weights: Mapping[str, Shaped], where: str) -> CNNArch:
    """Find the architecture of a ResNet.

    Raises:
        InputError: its convolutions are grouped, or its first one is not 7 px wide.
    """
    bottleneck = "layer1.0.conv3.weight" in weights
    if weights["layer1.0.conv2.weight"].shape[1] != weights["layer1.0.conv2.weight"].shape[0]:
        raise InputError(
            f"{where} is a ResNet with grouped convolutions (ResNeXt): only plain ResNets are read"
            " from files."
        )
    if weights["conv1.weight"].shape[2] != 7:
        raise InputError(
            f"{where} is a ResNet whose first convolution is {weights['conv1.weight'].shape[2]} px"
            " wide: only ResNets with a 7 × 7 convolution, for images of about 224 px, are read"
            " from files."
        )
    return CNNArch(
        "resnet",
        [count_blocks(weights, f"layer{i}.") for i in range(1, 5)],
        [int(weights[f"layer{i}.0.conv2.weight"].shape[0]) for i in range(1, 5)],
        bottleneck,
    )


def find_convnext(weights: Mapping[str, Shaped]) -> CNNArch:
    """Find the architecture of a ConvNeXt-V2."""
    blocks = [count_blocks(weights, f"stages.{i}.blocks.") for i in range(4)]
    stem = weights.get("stem.0.weight")  # where it is missing, loading says so
    return CNNArch(
        "convnextv2",
        blocks,
        [int(weights[f"stages.{i}.blocks.0.conv_dw.weight"].shape[0]) for i in range(4)],
        stem=int(stem.shape[2]) if stem is not None else 4,
    )


def find_patches(weights: Mapping[str, Shaped], where: str) -> tuple[int, int]:
    """Return the width and the patch size of a Vision Transformer.

    Raises:
        InputError: it cuts its patches in another way than by one convolution on colour images.
    """
    if "patch_embed.proj.weight" not in weights:
        there = [name for name in weights if name.startswith("patch_embed")]
        raise InputError(
            f"{where} is a ViT that cuts its patches by several convolutions (patch_embed has"
            f" {', '.join(sorted(there)[:2]) or 'no weights'}):"
            " only plain patches are read."
        )
    kernel = weights["patch_embed.proj.weight"]
    if kernel.ndim != 4 or kernel.shape[1] != 3 or kernel.shape[2] != kernel.shape[3]:
        raise InputError(
            f"{where} has patches of shape {tuple(kernel.shape)}: expected [width, 3, P, P], square"
            " patches of colour images."
        )
    return int(kernel.shape[0]), int(kernel.shape[2])


def find_root(count: int) -> int | None:
    """Return the square root of a number of patches; None where it is not whole."""
    side = round(max(count, 0) ** 0.5)
    return side if side > 0 and side * side == count else None
