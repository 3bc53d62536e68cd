"""Models that have a name and no file: the controls, and models that timm or the Hugging Face hub
fetches."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import timm
from huggingface_hub.errors import HfHubHTTPError
from torch import nn

from sslens.cards import Card, cards
from sslens.data.transform import EvalTransform
from sslens.errors import InputError, nearest, shorten, warn_of_doubt
from sslens.models import cnn, networks
from sslens.models.about import About
from sslens.models.backbone import Backbone, Pixels
from sslens.models.taps import Tap
from sslens.models.vit import SIZES, ViTArch
from sslens.zoo.evaluation import make_transform
from sslens.zoo.identity import describe_card
from sslens.zoo.wrapping import read_config

#: digits of the longest seed
DIGITS = 18
#: side to which the pixels control shrinks an image
PIXELS = 32


def build_pixels() -> Backbone:
    """Return the control of raw pixels, resized to 32 × 32."""
    return Backbone(
        Pixels(),
        name="pixels",
        source="pixels",
        taps=[Tap("pixels", "pixels", 0.0)],
        transform=make_transform(PIXELS, interpolation="bilinear"),
        prefix=None,
        about=About(family="control", network="pixels"),
    )


def wrap_network(
    network: nn.Module,
    *,
    name: str,
    source: str,
    transformed: EvalTransform,
    about: About,
) -> Backbone:
    """Wrap a network as a Backbone; the taps, the prefix and the kind of network are read from its
    class, or found (`sslens.models.networks.read_network`)."""
    reading = networks.read_network(network, side=transformed.crop)
    return Backbone(
        network,
        name=name,
        source=source,
        taps=reading.taps,
        transform=transformed,
        prefix=reading.prefix,
        about=replace(about, network=reading.kind),
        outputs=reading.outputs,
    )


def build_random(rest: str, num_heads: int | None, overrides: Mapping[str, int]) -> Backbone:
    """Build the control `random:NAME[:SEED]` with random weights; NAME is a ViT's in `ViTArch`'s
    spelling, a CNN's, or timm/NAME.

    Args:
        rest: the source after "random:".
        num_heads: another number of attention heads.
        overrides: fields of the architecture to change.

    Raises:
        InputError: no such architecture, a seed that is no number, or changes that it cannot take.
    """
    name, _, seed = rest.partition(":")
    if seed and not (seed.isdecimal() and len(seed) <= DIGITS):
        raise InputError(
            f'The seed of random:{shorten(rest, 80)} is "{shorten(seed, 40)}": expected'
            f" random:NAME:SEED with SEED a whole number of at most {DIGITS} digits."
        )
    number = int(seed or 0)
    network: nn.Module
    if cnn.CNNArch.is_name(name):
        if overrides or num_heads:
            raise InputError(
                f"random:{name} is a convolutional network of a fixed shape: it takes no num_heads"
                " or blocks."
            )
        shape = cnn.CNNArch.parse(name)
        network, transformed = shape.build(number), make_transform(shape.image_size)
    elif (
        overrides
        or num_heads
        or ViTArch.is_name(name)
        or name.startswith(tuple(f"vit_{size}_" for size in SIZES))
    ):
        arch = ViTArch.parse(name, num_heads, **overrides)
        network, transformed = arch.build(number), make_transform(arch.image_size)
    else:
        network = networks.create(name.removeprefix("timm/"), seed=number)
        transformed = _read_transform(network, name)
    changes = dict(overrides) | ({"num_heads": num_heads} if num_heads else {})
    about = About(
        family="control",
        arch=None if changes else name,
        seed=number,
        num_heads=num_heads or None,
        more=dict(overrides),
    )
    source = " ".join(
        [f"random:{name}:{number}", *(f"{key}={value}" for key, value in changes.items())]
    )
    return wrap_network(
        network, name=f"random #{number}", source=source, transformed=transformed, about=about
    )


def fetch_from_timm(source: str, card: Card | None = None) -> Backbone:
    """Load a model of `timm:NAME` or `hf-hub:ID` with its weights.

    Where a card has this source, it says what the model is.

    Args:
        source: the source.
        card: the card; it is looked up by the source unless given.

    Raises:
        InputError: timm has no such model, no taps are found in it, or its weights cannot be
            fetched.
    """
    card = card or next((one for one in cards().values() if one.source == source), None)
    scheme, _, name = source.partition(":")
    network = networks.prepare(_fetch_network(name if scheme == "timm" else source))
    about = About(arch=f"timm/{name.partition('.')[0]}" if scheme == "timm" else None)
    if card is not None:
        about = replace(describe_card(card), arch=card.arch)
    transformed = (
        _read_transform(network, name) if card is None else EvalTransform(**asdict(card.evaluation))
    )
    return wrap_network(
        network,
        name=card.name if card else name,
        source=source,
        transformed=transformed,
        about=about,
    )


def _fetch_network(name: str) -> nn.Module:
    base = name.partition(".")[0]
    hub = name.startswith("hf-hub:")
    if not hub and (
        not timm.is_model(base) or ("." in name and name not in timm.list_pretrained())
    ):
        raise InputError(f'timm has no model "{name}": {nearest(name, timm.list_pretrained())}')
    if not hub:
        networks.require_taps(base)
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError, ValueError, KeyError, HfHubHTTPError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        more = (
            " A model of Hugging Face's transformers is loaded from its folder or its"
            " model.safetensors."
            if hub
            else ""
        )
        raise InputError(
            f"timm could not get the weights of {name} ({reason}): check the network, or fetch them"
            " once on a machine that has one and set HF_HOME to that cache and"
            f" HF_HUB_OFFLINE=1.{more}"
        ) from error
    return network


def _read_transform(network: nn.Module, name: str) -> EvalTransform:
    """The transform of a model's configuration in timm."""
    config = timm.data.resolve_model_data_config(network)
    if config["crop_mode"] == "squash":
        warn_of_doubt(
            f"{name} was trained on images squashed to a square; here the central square is cut"
            " out, so that all models see one geometry."
        )
    return read_config(config)
