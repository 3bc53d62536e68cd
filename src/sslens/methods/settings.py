"""Checks of an objective's settings."""

import math
from typing import Any

from sslens.errors import InputError, nearest

#: the most blocks of a network; the deepest that was published has 201
DEEPEST = 4096
OPTIMISERS = ("adamw", "lars", "sgd")


def require_bounds(
    settings: Any,
    *,
    above_0: tuple[str, ...] = (),
    below_1: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    counts: tuple[str, ...] = (),
) -> None:
    """Refuse settings that are out of bounds.

    Args:
        settings: an object that has the settings as attributes.
        above_0: the names of settings that must be above 0.
        below_1: the names of settings that must be from 0 to below 1.
        shares: the names of settings that must be from 0 to 1.
        counts: the names of settings that must be 0 or more.

    Raises:
        InputError: a setting is out of bounds; the message names the first one.

    >>> from types import SimpleNamespace
    >>> require_bounds(SimpleNamespace(momentum=1.5), shares=("momentum",))
    Traceback (most recent call last):
    sslens.errors.InputError: The setting momentum is 1.5: expected a share, 0 to 1.
    """
    for names, expected, low, high in (
        (above_0, "more than 0", 1e-12, float("inf")),
        (below_1, "a share, 0 to below 1", 0, 1 - 1e-6),
        (shares, "a share, 0 to 1", 0, 1),
        (counts, "0 or more", 0, float("inf")),
    ):
        for name in names:
            value = getattr(settings, name)
            if not low <= value <= high:
                raise InputError(f"The setting {name} is {value}: expected {expected}.")


def require_depth(name: str, blocks: int) -> None:
    """Refuse a count of blocks beyond any network, which would be built without an end.

    Raises:
        InputError: there are more than 4,096.

    >>> require_depth("decoder_blocks", 10**20)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    sslens.errors.InputError: The setting decoder_blocks is 1000...: expected 4,096 or less.
    """
    if blocks > DEEPEST:
        raise InputError(f"The setting {name} is {blocks}: expected {DEEPEST:,} or less.")


def require_optimisable(settings: Any) -> None:
    """Refuse settings that the optimiser or the schedule cannot follow.

    Raises:
        InputError: there is no such optimiser; base_lr is not above 0, weight_decay is below 0, a
            beta is outside [0, 1) or warmup outside [0, 1].
    """
    wanted = {
        "base_lr": (0 < settings.base_lr < math.inf, "above 0"),
        "weight_decay": (0 <= settings.weight_decay < math.inf, "0 or more"),
        "betas": (
            len(settings.betas) == 2 and all(0 <= beta < 1 for beta in settings.betas),
            "two from 0 to below 1",
        ),
        "warmup": (0 <= settings.warmup <= 1, "a share of the training, 0 to 1"),
    }
    if getattr(settings, "optimiser", "adamw") not in OPTIMISERS:
        raise InputError(
            f'There is no optimiser "{settings.optimiser}":'
            f" {nearest(settings.optimiser, OPTIMISERS)}"
        )
    for name, (holds, expected) in wanted.items():
        if not holds:
            value = getattr(settings, name)
            shown = f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else value
            raise InputError(f"The setting {name} is {shown}: expected {expected}.")
