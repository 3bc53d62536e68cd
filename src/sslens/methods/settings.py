"""Checks of an objective's settings."""

from typing import Any

from sslens.errors import InputError


def require(
    settings: Any,
    *,
    above_0: tuple[str, ...] = (),
    below_1: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    counts: tuple[str, ...] = (),
) -> None:
    """Refuse settings out of bounds: numbers above 0, shares from 0 to below 1 or to 1, or numbers
    of 0 or more.

    Raises:
        InputError: names the first that is.

    >>> from types import SimpleNamespace
    >>> require(SimpleNamespace(momentum=1.5), shares=("momentum",))
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
