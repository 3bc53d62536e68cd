"""A model with ordered taps, its evaluation transform and its identity."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sslens.data.transform import EvalTransform
from sslens.errors import InputError, nearest
from sslens.models.about import About
from sslens.models.outputs import Output, find_part, take_part
from sslens.models.taps import ON_REQUEST, Tap
from sslens.models.tracing import run


@final
@dataclass(frozen=True)
class Assumptions:
    """What a model or its file does not tell, and was assumed.

    Attributes:
        settings: the settings for images that its file does not tell, in words.
        branch: the network that was taken of a file that holds several; empty where it holds one,
            or where the network was asked for.
        others: the other networks of this file.
        prepared: how images are prepared for a module that says nothing of it, in words.
        untaken: what its file says of images and is not taken, and why.
    """

    settings: tuple[str, ...] = ()
    branch: str = ""
    others: tuple[str, ...] = ()
    prepared: str = ""
    untaken: str = ""

    def say_prepared(self, name: str) -> str:
        """Say what was assumed of the images of a module of this name.

        >>> Assumptions(prepared="the central 64 px").say_prepared("mine")
        'mine does not say how its images are prepared: the central 64 px are assumed.'
        """
        return f"{name} does not say how its images are prepared: {self.prepared} are assumed."


#: modules of which older releases of torch do not print whether they have a bias, and where newer
#: ones do
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
AFFINE = re.compile(r"\b(elementwise_)?affine=(True|False)")
#: nothing was assumed
NOTHING_ASSUMED = Assumptions()


@final
class Backbone(nn.Module):
    """A network, its taps in the order of computation, and how images are prepared for it.

    Attributes:
        name: short, for tables and figures.
        source: what `sslens.load` was given; the same source gives the same model.
        taps: the taps by name, in the order of computation, without those that are read on request
            alone.
        prefix: the number of tokens before the patches (CLS first), or None where outputs are not
            tokens or there is no CLS.
        about: what is known of the model.
        outputs: how the outputs of taps are read, by the tap's name; of taps that are not in it,
            the network and the prefix say it.
        code: a digest of what decides the outputs beside weights and modules, such as the source
            of a user's own classes; empty where nothing does.
        assumptions: what its file does not tell.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        source: str,
        taps: Sequence[Tap],
        transform: EvalTransform,
        prefix: int | None,
        about: About,
        outputs: Mapping[str, Output] | None = None,
        code: str = "",
        assumptions: Assumptions = NOTHING_ASSUMED,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.name = name
        self.source = source
        self._every = {tap.name: tap for tap in taps}
        self.taps = {tap.name: tap for tap in taps if tap.kind not in ON_REQUEST}
        self.transform = transform
        self.prefix = prefix
        self.about = about
        self.outputs = outputs or {}
        self.code = code
        self.assumptions = assumptions
        self._hashed: tuple[Any, str] | None = None
        self.eval()

    def forward(self, x: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image ..."]:
        """Compute the last features, without a head: tokens [image, token, dim] after the final
        norm, a CNN's [image, channel, height, width], or what else the network puts out.

        Raises:
            InputError: the network does not take images of this size, which are not those that its
                transform makes.
        """
        try:
            output = run(self.network, x)
        except (AssertionError, RuntimeError, ValueError) as error:
            side = self.transform.crop
            if tuple(x.shape[-2:]) == (side, side) or isinstance(error, torch.OutOfMemoryError):
                raise
            raise InputError(
                f"{self.name} takes images of {side} × {side} px, and was given"
                f" {' × '.join(map(str, x.shape[-2:]))} px",
                mend="load it with another {image_size}",
            ) from error
        part = () if isinstance(output, Tensor) else find_part(output, len(x))
        if part is None:
            raise InputError(
                f"{self.name} puts out no features: its forward pass returns"
                f" {type(output).__name__}, which holds no tensor with a row for each image."
            )
        return take_part(output, part)

    def copy_with(
        self,
        *,
        network: nn.Module | None = None,
        name: str | None = None,
        source: str | None = None,
        transform: EvalTransform | None = None,
        about: About | None = None,
        outputs: Mapping[str, Output] | None = None,
    ) -> "Backbone":
        """Return the model with some things changed; the weights are shared unless the network is
        another."""
        return Backbone(
            network or self.network,
            name=name or self.name,
            source=source or self.source,
            taps=self.every,
            transform=transform or self.transform,
            prefix=self.prefix,
            about=about or self.about,
            outputs=self.outputs if outputs is None else outputs,
            code=self.code,
            assumptions=self.assumptions,
        )

    def pick(self, names: Sequence[str] | None) -> tuple[Tap, ...]:
        """Return the taps of these names in the order of computation; the usual taps for None.

        A name of a kind that is read on request, "norm2", stands for all taps of that kind; where
        nothing else is named, the usual taps are there too.

        Raises:
            InputError: a name is not a tap of this model; the message offers the nearest names.
        """
        if names is None:
            return tuple(self.taps.values())
        # CoaT's final norm is called "norm2"
        kinds = (set(names) & set(ON_REQUEST)) - set(self._every)
        named = set(names) - kinds
        if kinds and not named:
            named = set(self.taps)
        for name in names:
            if name not in self._every and name not in kinds:
                raise InputError(f'{self.name} has no tap "{name}": {nearest(name, self.taps)}')
        every = self._every.values()
        return tuple(tap for tap in every if tap.name in named or tap.kind in kinds)

    def output_of(self, tap: Tap) -> Output:
        """Return how the output of a tap is read."""
        if tap.name in self.outputs:
            return self.outputs[tap.name]
        last = isinstance(self.network.get_submodule(tap.name), nn.Linear)
        if self.prefix is not None:
            return Output(before=self.prefix, cls=True, channels_last=last)
        before = getattr(self.network, "num_prefix_tokens", 0)
        return Output(before=before if isinstance(before, int) else 0, channels_last=last)

    def has_tokens(self, tap: Tap, tokens: str) -> bool:
        """Whether a tap has tokens of a kind: "all", "cls", or "patch", which are all but those
        before the patches.

        >>> import sslens
        >>> model = sslens.load("random:resnet18")
        >>> [model.has_tokens(model.taps["layer4.1"], kind) for kind in ("all", "cls", "patch")]
        [True, False, False]
        """
        if tokens == "all":
            return True
        output = self.output_of(tap)
        if tokens == "cls":
            return output.cls
        if output.shape:
            return len(output.shape) == 2
        return self.prefix is not None or self.about.network == "vit"

    def __repr__(self) -> str:
        """The model in a line; `model.network` shows its modules."""
        taps = "tap" if len(self.taps) == 1 else "taps"
        family = "" if self.about.family is None else f", {self.about.family}"
        return (
            f"<Backbone {self.name}: {len(self.taps)} {taps}, images of"
            f" {self.transform.crop} px{family}>"
        )

    @property
    def every(self) -> tuple[Tap, ...]:
        """All taps in the order of computation, those that are read on request among them."""
        return tuple(self._every.values())

    @property
    def digest(self) -> str:
        """The SHA-256 of all weights (names, shapes, types and values) and of all modules (names,
        classes, settings and attention heads), and of the model's `code`.

        Tables that checkpoints leave out, such as rotary positions, count too. The digest is
        computed again after a weight was replaced or changed in place.
        """
        weights: dict[str, Tensor] = dict(self.network.named_parameters(remove_duplicate=False))
        weights |= dict(self.network.named_buffers(remove_duplicate=False))
        # ConViT makes a table in its first pass, and tensors of such a pass count no changes
        now = tuple(
            (name, value.data_ptr(), 0 if value.is_inference() else value._version)
            for name, value in weights.items()
        )
        if self._hashed is None or self._hashed[0] != now:
            self._hashed = (now, _digest(self.network, weights, self.code))
        return self._hashed[1]


def spell_settings(module: nn.Module) -> str:
    """Spell the settings of a module, the same with every release of torch, so that a model's
    digest is.

    >>> spell_settings(nn.LayerNorm(8))
    '(8,), eps=1e-05, elementwise_affine=True, bias=True'
    >>> spell_settings(nn.BatchNorm2d(8, affine=False))
    '8, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=True'
    """
    text = module.extra_repr()
    if isinstance(module, NORMS) and "bias=" not in text:
        text = AFFINE.sub(rf"\g<0>, bias={module.bias is not None}", text)
    return text


def _digest(network: nn.Module, weights: Mapping[str, Tensor], code: str) -> str:
    state = hashlib.sha256(code.encode())
    for name, module in network.named_modules():
        # heads share the weights' shapes, so that a model with other heads would else be the same
        heads = getattr(module, "num_heads", "")
        state.update(f"{name} {type(module).__name__} {spell_settings(module)} {heads}\n".encode())
    for name, value in sorted(weights.items()):
        state.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        state.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()


@final
class Pixels(nn.Module):
    """A network without weights: it returns the pixels themselves, as one tap. It serves as a
    control that has learnt nothing.

    Args:
        patch: the side in pixels of the patches into which maps cut the image; None where no maps
            are made.
    """

    def __init__(self, patch: int | None = None) -> None:
        super().__init__()
        self.pixels = nn.Flatten()
        self.patch = patch

    def extra_repr(self) -> str:
        """The settings, which count in a model's digest."""
        return "" if self.patch is None else f"patch={self.patch}"

    def forward_features(
        self, x: Float[Tensor, "image channel height width"]
    ) -> Float[Tensor, "image value"]:
        """Flatten all values of each image."""
        values: Tensor = self.pixels(x)
        return values
