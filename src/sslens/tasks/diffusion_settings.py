"""The settings of a generator that a representation conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sslens.diffusion.process import Process
from sslens.errors import InputError, nearest
from sslens.methods.settings import require_bounds
from sslens.models.dit import DiTShape
from sslens.models.unet import UNetShape

PROCESSES = ("gaussian", "flow")
#: the shapes of networks by their kind
NETWORKS: Mapping[str, type[UNetShape] | type[DiTShape]] = {"unet": UNetShape, "dit": DiTShape}
#: what is done to a representation before the network gets it
PREPARATIONS = ("none", "standardise", "half-whiten", "whiten")


#: the settings of one process or one kind of network alone, by the setting that chooses it
OWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "process": {
        "gaussian": ("schedule", "times"),
        "flow": ("time_mean", "time_deviation", "weighting"),
    },
    "network": {
        "unet": ("multipliers", "attention", "head_width", "fold"),
        "dit": ("patch", "embedding", "canvas", "decoder"),
    },
}


@dataclass(frozen=True)
class Settings:
    """The settings of a generator; the defaults are RCDM's at 128 px (Bordes et al., 2022).

    | | RCDM's paper and README | here |
    |---|---|---|
    | network | guided diffusion's UNet, 256 channels, attention at 32, 16, 8 | the same |
    | process | 1,000 linear steps, learned variances (MSE + VLB) | the same |
    | condition | as it is, a linear layer into the time's embedding, never dropped | the same |
    | lr, weight decay | AdamW 1e-4, 0 | base lr 1e-4 of 256 images, 0 |
    | warm-up, decay | none | none |
    | average of the weights | 0.9999 | the same |
    | images | random mirroring | as they are: their features are made once |

    Attributes:
        process: "gaussian" (a diffusion) or "flow" (flow matching).
        schedule: the noise of a diffusion, "linear" or "cosine".
        times: the number of steps of a diffusion.
        time_mean, time_deviation, weighting: of flow matching (`Flow`).
        network: "unet" (guided diffusion's), or "dit" (a transformer on patches).
        conditions: what is done to the features before the network gets them: "none",
            "standardise" (mean 0 and variance 1 in each dimension), "half-whiten" or "whiten"
            (`Adapters`). Features of several models are not left as they are.
        size: side in pixels of the generated images.
        width, blocks, multipliers, attention, heads, head_width, fold: of a UNet (`UNetShape`); a
            `head_width` of 0 leaves it to `heads`.
        width, blocks, heads, patch, embedding, canvas, decoder: of a transformer (`DiTShape`); with
            a decoder, what it paints from a representation alone is trained too.
        ema: momentum m of the average of the weights, which is what is evaluated and kept.
        ema_ramp: whether the momentum after n steps is min(m, (1 + n) / (10 + n)), so that the
            average forgets where it began in a short run.
        end_lr: the learning rate at the end as a share of the highest; it falls by half a cosine.
        warmup: the share of the training in which the learning rate rises linearly.
    """

    process: str = "gaussian"
    schedule: str = "linear"
    times: int = 1000
    time_mean: float = -0.8
    time_deviation: float = 0.8
    weighting: str = "velocity"
    network: str = "unet"
    conditions: str = "none"
    size: int = 128
    width: int = 256
    blocks: int = 2
    multipliers: tuple[int, ...] = (1, 1, 2, 3, 4)
    attention: tuple[int, ...] = (32, 16, 8)
    heads: int = 4
    head_width: int = 0
    fold: int = 1
    patch: int = 4
    embedding: int = 192
    canvas: int = 0
    decoder: int = 0
    ema: float = 0.9999
    ema_ramp: bool = False
    base_lr: float = 1e-4
    end_lr: float = 1.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.0
    optimiser: str = "adamw"

    def __post_init__(self) -> None:
        require_bounds(self, above_0=("size", "times"), below_1=("ema",), shares=("end_lr",))
        for name, options in (
            ("process", PROCESSES),
            ("network", NETWORKS),
            ("conditions", PREPARATIONS),
        ):
            if (value := getattr(self, name)) not in options:
                raise InputError(f'The setting {name} is "{value}": {nearest(value, options)}')
        self.make_process()
        self.shape(None)

    def make_process(self) -> Process:
        """Make the process that turns noise into images."""
        described: dict[str, Any] = {"process": self.process}
        if self.process == "gaussian":
            described |= {"schedule": self.schedule, "times": self.times}
        else:
            described |= {
                "mean": self.time_mean,
                "deviation": self.time_deviation,
                "weighting": self.weighting,
            }
        return make_process(described)

    def find_idle(self) -> Mapping[str, tuple[str, str]]:
        """Find the settings of another process or network than these have, which decide nothing:
        by their names the setting that chooses, and the choice by which they would count.

        >>> sorted(Settings(network="dit").find_idle())[:3], Settings().find_idle()["patch"]
        (['attention', 'fold', 'head_width'], ('network', 'dit'))
        """
        return {
            name: (chooser, choice)
            for chooser, choices in OWN.items()
            for choice, names in choices.items()
            if choice != getattr(self, chooser)
            for name in names
        }

    @property
    def paints(self) -> bool:
        """Whether the network has a decoder, which learns to paint from a representation alone."""
        return self.network == "dit" and min(self.decoder, self.canvas) > 0

    def shape(self, condition: int | None) -> UNetShape | DiTShape:
        """Return the shape of the network.

        Args:
            condition: the width of what the network gets of a representation.

        Raises:
            InputError: the side cannot be halved so often, or a number does not fit the network.
        """
        shared: dict[str, Any] = {
            "size": self.size,
            "width": self.width,
            "blocks": self.blocks,
            "heads": self.heads,
            "learned_variance": self.make_process().learned_variance,
            "condition": condition,
        }
        if self.network == "dit":
            return DiTShape(
                **shared,
                patch=self.patch,
                embedding=self.embedding,
                canvas=self.canvas,
                decoder=self.decoder,
            )
        return UNetShape(
            **shared,
            multipliers=self.multipliers,
            attention=self.attention,
            head_width=self.head_width or None,
            fold=self.fold,
        )


def describe_shape(shape: UNetShape | DiTShape) -> dict[str, object]:
    """Describe the shape of a network as plain JSON values, of which `make_shape` makes it again.

    >>> describe_shape(DiTShape())["kind"], make_shape(describe_shape(DiTShape())) == DiTShape()
    ('dit', True)
    """
    kind = next(name for name, made in NETWORKS.items() if isinstance(shape, made))
    return {"kind": kind, **vars(shape)}


def make_shape(described: Mapping[str, Any]) -> UNetShape | DiTShape:
    """Make the shape of a network from what a file says of it (`describe_shape`).

    Raises:
        InputError: there is no such kind of network.
    """
    kind, rest = described["kind"], dict(described)
    del rest["kind"]
    if kind not in NETWORKS:
        raise InputError(f'There is no network "{kind}": {nearest(kind, NETWORKS)}')
    return NETWORKS[kind](**rest)


def make_process(described: Mapping[str, Any]) -> Process:
    """Make a process from what a file says of it (`Process.describe`).

    Raises:
        InputError: there is no such process.

    >>> make_process({"process": "gaussian", "schedule": "linear", "times": 1000}).default_steps
    '100'
    """
    name, rest = described["process"], dict(described)
    del rest["process"]
    if name == "flow":
        from sslens.diffusion.flow import Flow

        return Flow(**rest)
    if name == "gaussian":
        from sslens.diffusion.gaussian import Gaussian

        return Gaussian(**rest)
    raise InputError(f'There is no process "{name}": {nearest(name, PROCESSES)}')
