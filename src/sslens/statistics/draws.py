"""The jackknife over images, for statistics that are computed from sums over images."""

from dataclasses import dataclass

import numpy as np
import scipy  # a part of scipy is loaded when it is first used
from jaxtyping import Float64, Int64

from sslens.statistics.sampled import Sampled

#: the most groups of images that are left out in turn
GROUPS = 500


@dataclass(frozen=True, eq=False)
class Draws:
    """The jackknife over images: all images first, then all but a group, for each group in turn.

    A group is one image, or several where there are more than `GROUPS` images. All statistics of
    one `Draws` leave out the same groups, so that their differences are paired.

    >>> draws = Draws.of(images=3)
    >>> draws.sums(np.array([[1.0], [2.0], [4.0]]))[:, 0].tolist()
    [7.0, 6.0, 5.0, 3.0]
    """

    group: Int64[np.ndarray, " image"]
    drawn: tuple[int, int, int]

    @classmethod
    def of(cls, images: int, groups: int = GROUPS, seed: int = 0) -> "Draws":
        """Divide the images into groups of equal size; at random where there are several a group.

        Args:
            images: number of images.
            groups: the most groups.
            seed: seed of the groups.
        """
        count = min(images, groups)
        group = np.arange(images) % max(1, count)
        if count < images:
            group = np.random.default_rng(seed).permutation(group)
        return cls(group, (images, count, seed))

    def sums(
        self, columns: "Float64[np.ndarray, 'image column'] | scipy.sparse.csr_array[np.float64]"
    ) -> Float64[np.ndarray, "draw column"]:
        """Sum each column over all images, and over all images but those of each group."""
        images, count, _ = self.drawn
        members = scipy.sparse.csr_array(
            (np.ones(images), (self.group, np.arange(images))), shape=(count, images)
        )
        product = members @ columns
        parts = product.toarray() if scipy.sparse.issparse(product) else np.asarray(product)
        total = parts.sum(0)
        return np.concatenate([total[None], total - parts])

    def sampled(
        self,
        values: Float64[np.ndarray, " draw"],
        counted: Float64[np.ndarray, " draw"] | None = None,
        reach: float = 1.0,
    ) -> Sampled:
        """Turn a statistic of each draw into a value with its values without each group.

        Args:
            values: the statistic of each draw.
            counted: the number of images that the statistic is of, in each draw; all images unless
                given.
            reach: the largest magnitude that the statistic can have: intervals end there. It is 1
                for shares; give inf where there is none.
        """
        number = self.sums(np.ones((self.drawn[0], 1)))[:, 0] if counted is None else counted
        with np.errstate(invalid="ignore"):
            share = 1 - number[1:] / number[0]
        return Sampled(np.array(values[0]), values[1:], share, self.drawn, reach)
