"""What is left of the CKA of two models when the raw pixels are regressed out of both, with its
interval."""

import numpy as np
from jaxtyping import Float64

from sslens.capture import Grams
from sslens.comparisons.inputs import GramSets
from sslens.measures.cka import Comparison
from sslens.measures.deconfounded_cka import enough, partial, share_left
from sslens.statistics.sampled import Sampled, combine


def find_pixels(grams: GramSets) -> Grams | None:
    """Return the Grams of the raw pixels, the same for every choice of tokens; None where there are
    none, as among fingerprints alone."""
    for one in _list_pixels(grams).values():
        return one.at("pixels")
    return None


def add_pixels(grams: GramSets, tokens: str) -> dict[str, Grams]:
    """Return the Grams of each model for a choice of tokens, with those of the raw pixels, which
    have no tokens and stand beside every choice.

    Args:
        grams: the Grams by tokens and model.
        tokens: "all", "cls" or "patch".
    """
    own = grams.get(tokens, {})
    return {**own, **{name: one for name, one in _list_pixels(grams).items() if name not in own}}


def _list_pixels(grams: GramSets) -> dict[str, Grams]:
    """The Grams of the raw pixels by the name that they have among the models."""
    return {
        name: one
        for sets in grams.values()
        for name, one in sets.items()
        if any(tap.kind == "pixels" for tap in one.taps)
    }


def compare_with_pixels(grams: Grams, pixels: Grams) -> Sampled:
    """Compute the CKA of each tap of a model with the raw pixels.

    Raises:
        InputError: the two are not of the same images in the same minibatches.
    """
    cells = [(tap, 0) for tap in range(len(grams.taps))]
    return Sampled.of(Comparison.of(grams, pixels), cells)


def deconfound(
    cells: Sampled, own: Sampled, other: Sampled
) -> tuple[Sampled, Float64[np.ndarray, " cell"]]:
    """Compute deconfounded CKA (`sslens.measures.deconfounded_cka`) with its jackknife.

    Args:
        cells: the CKA of pairs of taps.
        own, other: for each of these pairs, the CKA of its first and of its second tap with the
            pixels.

    Returns:
        The deconfounded CKA, undefined where under 5 % of a tap is left, and the share that is left
        of the two taps: the smaller one.

    Raises:
        InputError: the three are not of the same minibatches.

    >>> share = np.full((1, 2), 0.5)
    >>> xy, xz, yz = (Sampled(np.array([r]), np.full((1, 2), r), share) for r in (0.9, 0.6, 0.8))
    >>> value, left = deconfound(xy, xz, yz)
    >>> value.value.round(9).tolist(), left.round(9).tolist()  # (0.9 − 0.48) / (0.8 · 0.6)
    ([0.875], [0.36])
    """
    left = np.minimum(share_left(own.value), share_left(other.value))
    defined = enough(own.value) & enough(other.value)
    return combine(partial, cells, own, other, reach=1.0).where(defined), left
