"""How a network is read: its taps, the number of tokens before the patches, and how it is prepared
for reading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

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
from sslens.models.finding import find_taps, read_outputs
from sslens.models.outputs import Output
from sslens.models.sketching import sketch_networks
from sslens.models.taps import ON_REQUEST, Tap
from sslens.models.tracing import Call, trace_shapes
from sslens.models.windowed import WindowedViT

_OF_TIMM = (VisionTransformer, Eva, Beit)
TRANSFORMERS = (*_OF_TIMM, WindowedViT)
CNNS = (ResNet, ConvNeXt)
#: the side in pixels of the images on which a network is run that does not say a size
SIDE = 224
#: sides in pixels on which a network is tried that does not run on the one that was assumed
SIDES = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 288, 299, 320, 336, 384, 448, 512)


@final
@dataclass(frozen=True)
class Reading:
    """How a network is read.

    Attributes:
        taps: all taps in the order of computation.
        outputs: how each tap's output is read; empty for networks of the classes that are known
            here, of which class and prefix say it.
        kind: "vit" where the outputs are tokens, "cnn" where they are maps, None where they are
            vectors.
        prefix: the number of tokens before the patches, CLS included; None where outputs are not
            tokens or there is no CLS.
    """

    taps: tuple[Tap, ...]
    outputs: Mapping[str, Output]
    kind: Network | None
    prefix: int | None


def read_network(network: nn.Module, *, side: int | None = None) -> Reading:
    """Find how a network is read: by its class where that is known here, else by its modules and by
    what runs in a pass that computes nothing (`sslens.models.structure.find_blocks`).

    | class of timm's | models |
    |---|---|
    | VisionTransformer | ViT, DeiT, MAE, DINO, DINOv2, CLIP, SigLIP, BEiT-3, AIM |
    | Eva | EVA, EVA-02, DINOv3, Perception Encoder |
    | Beit | BEiT, BEiT v2, data2vec |
    | WindowedViT (of this package) | ViTDet's backbones |
    | ResNet | ResNet, ResNeXt and their kin |
    | ConvNeXt | ConvNeXt, ConvNeXt-V2, DINOv3's ConvNeXts |
    | all others | Swin, Hiera, MaxViT, XCiT, EfficientNet, RegNet, … |

    Args:
        network: the network.
        side: the side of the images in pixels; as the network says unless given.

    Raises:
        InputError: the network does not run on such images, or no taps are found.

    >>> reading = read_network(create("mobilenetv3_small_050", seed=0))
    >>> reading.kind, [tap.name for tap in reading.taps][:3]
    ('cnn', ['bn1', 'blocks.0.0', 'blocks.1.0'])
    """
    if isinstance(network, CNNS):
        return Reading(tuple(convolutions.list_taps(network)), {}, "cnn", None)
    if isinstance(network, TRANSFORMERS):
        taps = transformers.list_taps(network, every=True)
        return Reading(tuple(taps), {}, "vit", transformers.count_prefix_tokens(network))
    side = side or find_side(network) or SIDE
    try:
        calls = trace_shapes(network, side)
    except (Exception, SystemExit) as error:  # whatever the network raises
        raise InputError(explain_failed_pass(network, side, error)) from error
    return read_calls(network, calls)


def read_calls(
    network: nn.Module, calls: Mapping[str, Call], *, prefix: int | None = None
) -> Reading:
    """Find how a network is read from a pass that was traced.

    Args:
        network: the network.
        calls: what `sslens.models.tracing.trace` returned.
        prefix: the number of tokens before the patches, if the user said it.

    Raises:
        InputError: no taps are found.
    """
    taps = find_taps(network, calls)
    if not taps:
        raise InputError(
            f"No taps are found in a {type(network).__name__}: no modules are repeated in it, and"
            " its layers do not each put out a tensor with a row for each image."
        )
    return describe(network, calls, taps, prefix)


def describe(
    network: nn.Module, calls: Mapping[str, Call], taps: Sequence[Tap], prefix: int | None
) -> Reading:
    """Describe how a network is read at these taps."""
    outputs = read_outputs(network, calls, taps, prefix)
    blocks = [outputs[tap.name] for tap in taps if tap.kind in ("block", "norm")]
    last = (blocks or list(outputs.values()))[-1]
    kind: dict[int, Network] = {2: "vit", 3: "cnn"}
    return Reading(tuple(taps), outputs, kind.get(len(last.shape)), last.prefix)


def explain_failed_pass(network: nn.Module, side: int, error: BaseException) -> str:
    """Say that a network does not run on images of a side in pixels."""
    reason = (str(error).splitlines() or [""])[0]
    return (
        f"A {type(network).__name__} does not run on images of 3 × {side} × {side}"
        f" ({type(error).__name__}: {reason})."
    )


def find_running_sides(network: nn.Module) -> list[int]:
    """Find on images of which of the usual sides in pixels a network runs, from its shapes alone
    where that can be.

    >>> find_running_sides(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)))
    [64]
    """
    return [side for side in SIDES if runs(network, side)]


def runs(network: nn.Module, side: int) -> bool:
    """Whether a network runs on images of a side in pixels."""
    try:
        trace_shapes(network, side)
    except (Exception, SystemExit):  # whatever the network raises
        return False
    return True


def find_side(network: nn.Module) -> int | None:
    """Return the side in pixels of the images that a network says it takes, in the words of timm or
    of Hugging Face's transformers; None where it does not say.

    >>> find_side(timm.create_model("vit_tiny_patch16_224", img_size=64))
    64
    >>> find_side(nn.Identity()) is None
    True
    """
    config = getattr(network, "pretrained_cfg", None)
    said = (
        getattr(getattr(network, "patch_embed", None), "img_size", None),
        getattr(getattr(network, "config", None), "image_size", None),
        config.get("input_size") if isinstance(config, Mapping) else None,
    )
    for size in said:
        last = size[-1] if isinstance(size, tuple | list) and size else size
        if isinstance(last, int) and last > 0:
            return last
    return None


def list_taps(network: nn.Module, *, every: bool = False) -> list[Tap]:
    """List the taps of a network in the order of computation.

    Args:
        network: the network.
        every: whether the taps that are read on request are among them: `norm2` of transformers.

    Raises:
        InputError: no taps are found.

    >>> [tap.name for tap in list_taps(create("resnet18", seed=0))][:3]
    ['maxpool', 'layer1.0', 'layer1.1']
    """
    return [tap for tap in read_network(network).taps if every or tap.kind not in ON_REQUEST]


def count_prefix_tokens(network: nn.Module) -> int | None:
    """Return the number of tokens before the patches, CLS included; None where outputs are not
    tokens or there is no CLS."""
    return read_network(network).prefix


def find_kind(network: nn.Module) -> Network | None:
    """Return "vit" where a network's outputs are tokens, "cnn" where they are maps, None where they
    are vectors.

    >>> find_kind(create("resnet18", seed=0))
    'cnn'
    """
    return read_network(network).kind


def prepare(network: nn.Module) -> nn.Module:
    """Change a network in place so that it can be read and still computes the same.

    Queries, keys and values are joined (`transformers.join_qkv`), and a ConvNeXt loses the
    normalisation that only its classifier uses. Networks of other classes stay as they are.
    """
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
        InputError: timm has no such model.
    """
    if not timm.is_model(name):
        raise InputError(f'timm has no model "{name}": {nearest(name, timm.list_models())}')
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return prepare(timm.create_model(name, pretrained=False, num_classes=0)).eval()


def require_taps(name: str) -> None:
    """Refuse an architecture of timm's in which no taps are found, before its weights are asked
    for; nothing is computed.

    Raises:
        InputError: no taps are found.
    """
    with sketch_networks():
        network = timm.create_model(name, pretrained=False, num_classes=0)
    read_network(prepare(network).eval())
