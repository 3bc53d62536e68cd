"""The minibatches of a pass, drawn from the images' ids."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.store import digest

#: HSIC_1 divides by n − 3
SMALLEST = 4


def require_size(size: int) -> None:
    """Refuse minibatches that are too small for the unbiased HSIC_1.

    Raises:
        InputError: the size is under 4.
    """
    if size < SMALLEST:
        raise InputError(
            f"A minibatch of {spell_count(size, 'image')} is too small: unbiased HSIC divides by n"
            " − 3, so give 4 or more."
        )


@dataclass(frozen=True)
class Plan:
    """The minibatches of a pass over the images, as tuples of image ids.

    `draw` gives the same minibatches on every machine, for any order of the ids.
    """

    minibatches: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        count = sum(map(len, self.minibatches))
        return (
            f"<Plan: {spell_count(count, 'image')} in"
            f" {spell_count(len(self.minibatches), 'minibatch')}>"
        )

    @classmethod
    def draw(cls, ids: Sequence[str], size: int = 32, seed: int = 0) -> "Plan":
        """Divide all images into minibatches, in the order of the SHA-256 of seed and id.

        Images that are left over make one more, smaller minibatch. If fewer than 4 are left over,
        they join the last minibatch instead, because the unbiased HSIC_1 needs 4 images.

        Args:
            ids: ids of the images.
            size: number of images in a minibatch.
            seed: seed of the order.

        Raises:
            InputError: there are fewer than 4 images, or `size` is less than 4.

        >>> [len(batch) for batch in Plan.draw([str(i) for i in range(70)]).minibatches]
        [32, 32, 6]
        >>> [len(batch) for batch in Plan.draw([str(i) for i in range(66)]).minibatches]
        [32, 34]
        """
        require_size(size)
        if len(ids) < SMALLEST:
            raise InputError(
                f"{spell_count(len(ids), 'image', 'are')} too few: unbiased HSIC divides by n − 3,"
                " so give 4 or more."
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
        """Divide the images into minibatches of `size`, in the order of `ids`; the last minibatch
        may be smaller.

        >>> Plan.in_order(["a", "b", "c"], size=2).minibatches
        (('a', 'b'), ('c',))
        """
        return cls(tuple(tuple(ids[at : at + size]) for at in range(0, len(ids), size)))

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all images, in the order of the pass."""
        return tuple(name for batch in self.minibatches for name in batch)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of images in each minibatch."""
        return tuple(len(batch) for batch in self.minibatches)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the ids, minibatch by minibatch."""
        return digest(self.minibatches)

    def require(self, ids: Sequence[str]) -> None:
        """Raise unless `ids` are exactly the ids of the plan, in any order.

        Raises:
            InputError: an id is only in the plan or only in `ids`; the message names the first one.
        """
        apart = sorted(set(self.ids) ^ set(ids))
        if apart:
            side = "the plan" if apart[0] in set(self.ids) else "the images"
            raise InputError(
                f"The plan is of other images: {spell_count(len(apart), 'id', 'differ')}, first"
                f" {apart[0]}, which only {side} has."
            )
