"""timm's networks of the classes that are known here: preparing them for reading, their taps, and
the number of tokens before the patches."""

import timm
import torch
from timm.models.beit import Beit
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sslens.errors import InputError, nearest
from sslens.models import convolutions, transformers
from sslens.models.about import Network
from sslens.models.taps import Tap
from sslens.models.windowed import WindowedViT

_OF_TIMM = (VisionTransformer, Eva, Beit)
TRANSFORMERS = (*_OF_TIMM, WindowedViT)
CNNS = (ResNet, ConvNeXt)


def require_known(network: nn.Module) -> None:
    """Refuse a network of a class that is not known here.

    Raises:
        InputError: the class is not known; the message names it and the known classes.
    """
    if not isinstance(network, TRANSFORMERS + CNNS):
        known = ", ".join(kind.__name__ for kind in _OF_TIMM + CNNS)
        raise InputError(
            f"A {type(network).__name__} has no taps here, because where its layers stand is not"
            f" known: models of the timm classes {known} have them."
        )


def list_taps(network: nn.Module, *, every: bool = False) -> list[Tap]:
    """List the taps of a network in the order of computation.

    | class of timm's | models |
    |---|---|
    | VisionTransformer | ViT, DeiT, MAE, DINO, DINOv2, CLIP, SigLIP, BEiT-3, AIM |
    | Eva | EVA, EVA-02, DINOv3, Perception Encoder |
    | Beit | BEiT, BEiT v2, data2vec |
    | WindowedViT (of this package) | ViTDet's backbones |
    | ResNet | ResNet, ResNeXt and their kin |
    | ConvNeXt | ConvNeXt, ConvNeXt-V2, DINOv3's ConvNeXts |

    Args:
        every: whether the taps that are read on request are among them: `norm2` of transformers.

    Raises:
        InputError: the class is none of these.

    >>> [tap.name for tap in list_taps(create("resnet18", seed=0))][:3]
    ['maxpool', 'layer1.0', 'layer1.1']
    """
    require_known(network)
    if isinstance(network, CNNS):
        return list(convolutions.list_taps(network))
    return list(transformers.list_taps(network, every=every))


def count_prefix_tokens(network: nn.Module) -> int | None:
    """Return the number of tokens before the patches, CLS included; None where outputs are not
    tokens or there is no CLS."""
    require_known(network)
    return None if isinstance(network, CNNS) else transformers.count_prefix_tokens(network)


def find_kind(network: nn.Module) -> Network:
    """Return "vit" where a network's outputs are tokens, "cnn" where they are maps.

    Raises:
        InputError: the network's class is not known here.

    >>> find_kind(create("resnet18", seed=0))
    'cnn'
    """
    require_known(network)
    return "cnn" if isinstance(network, CNNS) else "vit"


def prepare(network: nn.Module) -> nn.Module:
    """Change a network in place so that it can be read and still computes the same.

    Queries, keys and values are joined (`transformers.join_qkv`), and a ConvNeXt loses the
    normalisation that only its classifier uses.

    Raises:
        InputError: nothing is known of the network's class.
    """
    require_known(network)
    if isinstance(network, ConvNeXt):
        convolutions.drop_head(network)
    elif isinstance(network, TRANSFORMERS):
        transformers.join_qkv(network)
    return network


def create(name: str, *, seed: int | None = None) -> nn.Module:
    """Build a network by timm's name, prepared for reading, without a head, at timm's random
    initialisation.

    Args:
        name: timm's name.
        seed: if given, the weights depend on it alone, and the random numbers of the process are
            left as they were.

    Raises:
        InputError: timm has no such model, or its class is not known here.
    """
    if not timm.is_model(name):
        raise InputError(f'timm has no model "{name}": {nearest(name, timm.list_models())}')
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return prepare(timm.create_model(name, pretrained=False, num_classes=0)).eval()
