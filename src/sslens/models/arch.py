"""The names of architectures that can be trained and that `random:NAME` takes."""

from sslens.errors import InputError, nearest
from sslens.models.cnn import NAMED, CNNArch
from sslens.models.vit import ViTArch

Arch = ViTArch | CNNArch
#: how the architectures of a kind are named, for messages
EXAMPLES = {
    "vit": "Vision Transformers (such as vit_small_patch16_224)",
    "resnet": "ResNets (such as resnet50)",
    "convnextv2": "ConvNeXt-V2 (such as convnextv2_tiny)",
}


def parse(name: str) -> Arch:
    """Return the architecture of a name: `vit_SIZE_patchP_S`, or a CNN's name such as `resnet50` or
    `convnextv2_atto_64`.

    Raises:
        InputError: the name is neither; the message says what is expected, or offers the nearest
            name.

    >>> parse("vit_small_patch16_224").dim, parse("resnet50").channels
    (384, 2048)
    """
    if CNNArch.is_name(name):
        return CNNArch.parse(name)
    if name.startswith("vit"):
        return ViTArch.parse(name)
    raise InputError(
        f'"{name}" is not an architecture: expected vit_SIZE_patchP_S, such as vit_mini_patch8_64,'
        f" or a CNN: {nearest(name, NAMED)}"
    )
