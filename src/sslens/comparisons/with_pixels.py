"""How alike models are to the raw pixels: what their likeness to each other is held against where
the pixels are not regressed out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from sslens.comparisons.likeness import Likeness
from sslens.comparisons.roles import PIXELS
from sslens.measures.deconfounded_cka import LEAST
from sslens.statistics.estimate import Estimate, subtract_unpaired


@final
@dataclass(frozen=True)
class WithPixels:
    """The likeness of models to the raw pixels.

    Attributes:
        cka: the mean CKA of each model with the raw pixels, by the model's name; empty where raw
            pixels are not compared.
    """

    cka: Mapping[str, Estimate]

    @classmethod
    def of(cls, pairs: Sequence[Likeness]) -> "WithPixels":
        """Find the pairs of a model with the raw pixels.

        >>> half = Estimate(0.5)
        >>> found = WithPixels.of([Likeness("a", "pixels", True, half, half, False)])
        >>> found.cka["a"].value
        0.5
        """
        return cls(
            {
                pair.b if pair.a == PIXELS else pair.a: pair.plain
                for pair in pairs
                if PIXELS in (pair.a, pair.b)
            }
        )

    def choose_nearest(self, pair: Likeness) -> str | None:
        """Return the one of two models that is less like the raw pixels: if all that the two share
        were pixels, they would be alike as that one is to the pixels, or less. None where one of
        the two is not known, or is the pixels."""
        if pair.a not in self.cka or pair.b not in self.cka:
            return None
        return min((pair.a, pair.b), key=lambda name: self.cka[name].value)

    def subtract(self, pair: Likeness) -> Estimate | None:
        """Return the CKA of two models, less that of `choose_nearest` with the raw pixels."""
        name = self.choose_nearest(pair)
        return None if name is None else subtract_unpaired(pair.plain, self.cka[name])

    def list_explained(self, names: Sequence[str]) -> list[str]:
        """List the models of which the raw pixels leave so little that they cannot be regressed
        out: r² is above 0.95.

        >>> WithPixels({"a": Estimate(0.97), "b": Estimate(0.98)}).list_explained(["a", "b"])
        ['b']
        """
        return [
            name for name in names if name in self.cka and self.cka[name].value ** 2 > 1 - LEAST
        ]
