"""The minibatches of a pass, drawn from the images' ids."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sslens.errors import InputError
from sslens.store import digest

#: HSIC_1 divides by n − 3
SMALLEST = 4


@dataclass(frozen=True)
class Plan:
    """Minibatches of image ids, the same on every machine and for every order in which the images
    are found."""

    minibatches: tuple[tuple[str, ...], ...]

    @classmethod
    def draw(cls, ids: Sequence[str], size: int = 32, seed: int = 0) -> "Plan":
        """Minibatches of `size` without replacement, in the order of SHA-256 of seed and id.

        Every image is used: what is left after whole minibatches is one more, unless it is under 4
        images, the fewest that HSIC_1 is defined for; then it joins the minibatch before.

        Raises:
            InputError: under 4 images, or a minibatch under 4.

        >>> [len(batch) for batch in Plan.draw([str(i) for i in range(70)]).minibatches]
        [32, 32, 6]
        >>> [len(batch) for batch in Plan.draw([str(i) for i in range(66)]).minibatches]
        [32, 34]
        """
        if size < SMALLEST:
            raise InputError(
                f"A minibatch of {size} images is too small: unbiased HSIC divides by n − 3, so"
                " give 4 or more."
            )
        if len(ids) < SMALLEST:
            raise InputError(
                f"{len(ids)} images are too few: unbiased HSIC divides by n − 3, so give 4 or more."
            )
        order = sorted(
            ids, key=lambda name: hashlib.sha256(f"plan/{seed}/{name}".encode()).digest()
        )
        batches = [tuple(order[start : start + size]) for start in range(0, len(order), size)]
        if len(batches) > 1 and len(batches[-1]) < SMALLEST:
            last = batches.pop()
            batches[-1] += last
        return cls(tuple(batches))

    @classmethod
    def in_order(cls, ids: Sequence[str], size: int = 64) -> "Plan":
        """Minibatches of `size` in the order of the ids, and what is left as one more.

        >>> Plan.in_order(["a", "b", "c"], size=2).minibatches
        (('a', 'b'), ('c',))
        """
        return cls(tuple(tuple(ids[at : at + size]) for at in range(0, len(ids), size)))

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids, in the order in which the pass sees them."""
        return tuple(name for batch in self.minibatches for name in batch)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images in each minibatch."""
        return tuple(len(batch) for batch in self.minibatches)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the ids, minibatch by minibatch."""
        return digest(self.minibatches)

    def require(self, ids: Sequence[str]) -> None:
        """Refuse images that are not those of the plan.

        Raises:
            InputError: an id is missing or left over; the first is named.
        """
        apart = sorted(set(self.ids) ^ set(ids))
        if apart:
            side = "the plan" if apart[0] in set(self.ids) else "the images"
            raise InputError(
                f"The plan is of other images: {len(apart)} ids differ, first {apart[0]}, which"
                f" only {side} has."
            )
