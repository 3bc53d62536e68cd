"""Recipes of generators, the presets of `sslens rcdm train`."""

from dataclasses import dataclass, field, replace

from sslens.models.dit import DiTShape
from sslens.tasks.diffusion_settings import Settings


def shorten(settings: Settings) -> Settings:
    """Return the settings for a run of a few thousand steps, in which the average must forget where
    it began."""
    return replace(settings, ema=0.999, ema_ramp=True, warmup=0.02, end_lr=0.05)


@dataclass(frozen=True)
class Official:
    """RCDM's README at 128 px: guided diffusion's UNet (422.6 million parameters for a ResNet-50's
    2,048 features), 1,000 linear steps, AdamW 1e-4.

    The released code does not say how long it trains; the paper trained for days on eight GPUs. The
    300 epochs here are of ImageNet-1k at 256 images a step, and may be stopped before.
    """

    epochs: int = 300
    batch_size: int = 256
    settings: Settings = field(default=Settings())


@dataclass(frozen=True)
class Official256:
    """The same at 256 px, by the rules of guided diffusion's released code."""

    epochs: int = 300
    batch_size: int = 256
    settings: Settings = field(default=Settings(size=256, multipliers=(1, 1, 2, 2, 4, 4)))


@dataclass(frozen=True)
class Small64:
    """For 64 px, not in any released code: 64 channels, attention at 16 and 8, cosine schedule."""

    epochs: int = 200
    batch_size: int = 128
    settings: Settings = field(
        default=shorten(
            Settings(
                schedule="cosine",
                conditions="half-whiten",
                size=64,
                width=64,
                multipliers=(1, 2, 2, 3),
                attention=(16, 8),
                base_lr=6e-4,
            )
        )
    )


@dataclass(frozen=True)
class Small32:
    """For 32 px, not in any released code: 64 channels, attention at 8, cosine schedule."""

    epochs: int = 200
    batch_size: int = 128
    settings: Settings = field(
        default=shorten(
            Settings(
                schedule="cosine",
                conditions="half-whiten",
                size=32,
                width=64,
                multipliers=(1, 2, 2),
                attention=(8,),
                base_lr=1e-3,
            )
        )
    )


@dataclass(frozen=True)
class Cpu32:
    """For 32 px on a core or two, not in any released code: 32 channels, one block a level."""

    epochs: int = 100
    batch_size: int = 64
    settings: Settings = field(
        default=shorten(
            Settings(
                schedule="cosine",
                conditions="half-whiten",
                size=32,
                width=32,
                blocks=1,
                multipliers=(1, 2, 3),
                attention=(8,),
                base_lr=4e-3,
            )
        )
    )


#: what fast generators share (LOG.md says what was measured)
_FAST = shorten(
    Settings(
        process="flow",
        network="dit",
        conditions="half-whiten",
        size=32,
        width=128,
        blocks=4,
        heads=2,
        patch=4,
        canvas=16,
        decoder=960,
        base_lr=8e-3,
        betas=(0.9, 0.99),
    )
)


@dataclass(frozen=True)
class Fast32:
    """For 32 px on a core or two, for several models at once, not in any released code: flow
    matching, and a transformer on patches of 4 px (4.6 million parameters for eight models of 128
    features)."""

    epochs: int = 100
    batch_size: int = 64
    settings: Settings = field(default=_FAST)


@dataclass(frozen=True)
class Fast64:
    """The same for 64 px, on patches of 8 px."""

    epochs: int = 100
    batch_size: int = 64
    settings: Settings = field(default=replace(_FAST, size=64, patch=8))


def choose_preset(side: int | None, *, fast: bool = False) -> str:
    """Choose the preset for images of a side in pixels; the authors' are only taken by name.

    >>> [choose_preset(side) for side in (32, 64, 128, 224, None)]
    ['small32', 'small64', 'small64', 'small64', 'small64']
    >>> [choose_preset(side, fast=True) for side in (32, 64)]
    ['fast32', 'fast64']
    """
    small = side is not None and side <= 32
    return f"{'fast' if fast else 'small'}{32 if small else 64}"


def resize(settings: Settings, side: int) -> Settings:
    """Return the settings for images of another side; attention stays at the same levels.

    Raises:
        InputError: the network cannot halve this side so often.

    >>> resize(Settings(), 96).attention
    (24, 12, 6)
    """
    shape = settings.shape(None)
    if isinstance(shape, DiTShape):
        return replace(settings, size=side)
    levels = [shape.sides.index(place) for place in settings.attention]
    sides = replace(shape, size=side, attention=()).sides
    return replace(settings, size=side, attention=tuple(sides[level] for level in levels))
