"""Pictures that a masked autoencoder paints: an encoder of MAE with its decoder."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sslens import cards, zoo
from sslens.data.streams import mask_noise
from sslens.data.transform import EvalTransform
from sslens.errors import InputError, nearest_setting
from sslens.find import plugin
from sslens.methods.pixels import patchify
from sslens.models.arch import parse
from sslens.models.vit import ViTArch
from sslens.objectives import mae
from sslens.settings_file import read_yaml

#: the entry of a decoder's file that says what it decodes for
HEADER = "sslens.decoder"


@final
@dataclass(frozen=True)
class Reconstruction:
    """Pictures with values from 0 to 1, up to what the model paints beyond.

    Attributes:
        shown: the patches that the encoder sees; the masked ones are grey (0.5).
        painted: the same patches, and in place of the masked ones what the decoder predicts.
        masked: which patches are masked.
    """

    shown: Float[Tensor, "image 3 size size"]
    painted: Float[Tensor, "image 3 size size"]
    masked: Bool[Tensor, "image patch"]


@final
@dataclass(frozen=True)
class Reconstructor:
    """A masked autoencoder that paints what it does not see.

    Attributes:
        method: the objective with encoder and decoder, in evaluation mode.
        transform: how pictures are prepared for it.
    """

    method: mae.Objective
    transform: EvalTransform

    @torch.no_grad()
    def reconstruct(
        self, images: Float[Tensor, "image 3 size size"], seed: int = 0
    ) -> Reconstruction:
        """Mask patches of prepared images, and paint them from the others.

        A decoder that predicts patches of mean 0 and variance 1 says nothing of their own mean and
        variance; these are then taken from the image, as MAE's authors do for their figures.

        Args:
            images: as `transform` prepares them.
            seed: decides which patches are masked.
        """
        arch, settings = self.method.arch, self.method.settings
        count = len(images)
        noise = mask_noise(seed, 0, slice(0, count), total=count, patches=arch.grid**2)
        order = noise.argsort(dim=1)
        kept = int(order.shape[1] * (1 - settings.mask_ratio))
        tokens = self.method.encode(images, order[:, :kept])
        predicted = self.method.decode(tokens, order).float()
        own = patchify(images, arch.patch_size)
        index = order[:, kept:, None].expand(-1, -1, own.shape[-1])
        if settings.normalise_pixels:
            target = own.gather(1, index)
            deviation = (target.var(-1, keepdim=True) + 1e-6).sqrt()
            predicted = predicted * deviation + target.mean(-1, keepdim=True)
        masked = torch.zeros(order.shape, dtype=torch.bool).scatter(1, order[:, kept:], True)
        painted = self._show(own.scatter(1, index, predicted))
        hidden = self._show(own).masked_fill(_spread(masked, arch), 0.5)
        return Reconstruction(hidden, painted, masked)

    def _show(
        self, patches: Float[Tensor, "image patch value"]
    ) -> Float[Tensor, "image 3 size size"]:
        """Patches as pictures with values from 0 to 1."""
        grid, side = self.method.arch.grid, self.method.arch.patch_size
        parts = patches.unflatten(-1, (side, side, 3)).unflatten(1, (grid, grid))
        pictures = parts.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        mean, deviation = (
            torch.tensor(values)[:, None, None]
            for values in (self.transform.mean, self.transform.std)
        )
        return pictures * deviation + mean


def _spread(masked: Bool[Tensor, "image patch"], arch: ViTArch) -> Bool[Tensor, "image 1 _ _"]:
    """The pixels of the masked patches."""
    places = masked.unflatten(1, (arch.grid, arch.grid))[:, None]
    side = arch.patch_size
    return places.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)


def load_reconstructor(source: str) -> Reconstructor:
    """Load an encoder of MAE together with its decoder.

    Args:
        source: the name of a card whose decoder comes with the package, or a folder of a training
            by MAE, whose state holds the decoder.

    Raises:
        InputError: there is no decoder; it is one for another encoder; tensors are missing or left
            over; or the training was by another objective.

    >>> from sslens.models.vit import ViTArch
    >>> method = build_method("mae", "vit_nano_patch8_32", {"decoder_dim": 32, "decoder_heads": 2})
    >>> painter = Reconstructor(method, EvalTransform(resize=32, crop=32))
    >>> made = painter.reconstruct(torch.zeros(2, 3, 32, 32))
    >>> tuple(made.painted.shape), made.masked.sum(1).tolist()
    ((2, 3, 32, 32), [12, 12])
    """
    card = cards.look_up(source)
    if card is None:
        return _load_training(Path(source))
    if card.shipped_decoder is None:
        raise InputError(f"No decoder comes with {card.name}: {_offer_decoders()}.")
    content = card.shipped_decoder.read_bytes()
    if hashlib.sha256(content).hexdigest() != card.decoder_sha256:
        raise InputError(f"{card.shipped_decoder} is not the file that its card describes.")
    header, tensors = zoo.read(card.shipped_decoder)
    said = json.loads(header[HEADER])
    if said["encoder_sha256"] != card.sha256:
        raise InputError(f"{card.shipped_decoder} decodes for other weights than {card.file}.")
    model = zoo.load(source)
    method = build_method(said["objective"], said["arch"], said["settings"])
    encoder = {f"encoder.{name}": value for name, value in model.network.state_dict().items()}
    _fill(method, encoder | {name: value.float() for name, value in tensors.items()}, source)
    return Reconstructor(method, model.transform)


def _offer_decoders() -> str:
    """Name the cards that have a decoder."""
    names = [name for name, card in cards.cards().items() if card.decoder is not None]
    return f"give {', '.join(names) or 'a folder of a training'}"


def _load_training(folder: Path) -> Reconstructor:
    """Load encoder and decoder from the last state of a training."""
    from sslens.zoo import ENCODER

    state, config = folder / "state.safetensors", folder / "config.yaml"
    if not (state.is_file() and config.is_file()):
        raise InputError(
            f"{folder} is no folder of a training that holds its state",
            mend="give a folder of sslens pretrain mae, or a card with a decoder",
        )
    said = read_yaml(config)
    try:
        objective, arch, settings = said["objective"], said["arch"], dict(said["settings"])
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{config} is no config of a training: it says no objective, arch or settings",
            mend="give a folder of sslens pretrain mae",
        ) from error
    method = build_method(objective, arch, settings)
    _, tensors = zoo.read(state)
    weights = {
        name.removeprefix("module/"): value
        for name, value in tensors.items()
        if name.startswith("module/")
    }
    _fill(method, weights, str(folder))
    return Reconstructor(method, zoo.load(folder / ENCODER).transform)


def build_method(objective: str, arch: str, settings: Mapping[str, Any]) -> mae.Objective:
    """Build an objective of MAE in evaluation mode, with random weights.

    Args:
        objective: the name of the objective.
        arch: the name of the architecture.
        settings: those that differ from the defaults, as JSON values.

    Raises:
        InputError: the objective is not MAE, or a setting is none of its.
    """
    if objective != "mae":
        raise InputError(f"{objective} paints no masked patches: only trainings by mae do.")
    module: Any = plugin("objectives", objective)
    fields = [field.name for field in dataclasses.fields(module.Settings)]
    for name in settings:
        if name not in fields:
            near = nearest_setting(name, fields, settings)
            raise InputError(f'There is no setting "{name}": {near}')
    given = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    built: mae.Objective = module.Objective(parse(arch), module.Settings(**given))
    return built.eval()


def _fill(method: mae.Objective, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights strictly; what is missing or left over is named."""
    own = method.state_dict().keys()
    apart = sorted(own ^ weights.keys())
    if apart:
        side = "lacks" if apart[0] in own else "has, and MAE lacks,"
        raise InputError(f"{where} {side} {apart[0]} ({len(apart)} tensors differ).")
    method.load_state_dict(dict(weights))
