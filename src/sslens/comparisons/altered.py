"""The features and Grams of images, and of the same images altered by known transforms."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from sslens.capture import Features, Grams
from sslens.data.alter import Transform
from sslens.errors import InputError
from sslens.store import digest

#: the label of an image as it is
UNCHANGED = "unchanged"


@final
@dataclass(frozen=True)
class Altered:
    """What one transform makes of all images, as all models see them.

    Attributes:
        features: the pooled features of the altered images, by the model's name.
        grams: their Grams over all tokens, by the model's name; of a drawn transform there are
            none.
    """

    features: Mapping[str, Features]
    grams: Mapping[str, Grams] = field(default_factory=dict)


@final
@dataclass(frozen=True, eq=False)
class AlteredSets:
    """Images as they are, and altered by several transforms.

    Attributes:
        features: the pooled features of the images as they are, by the model's name.
        grams: their Grams over all tokens, by the model's name.
        sides: the side in pixels of the images that a model sees, by the model's name.
        fixed: what each transform makes of them at a fixed strength.
        drawn: what each transform makes of them where it is drawn for each image, by its id.
        factors: the known factors of generated scenes, one row for each image, indexed by its id;
            None of other images.
        examples: one image as it is (`UNCHANGED`) and altered, by the transform's label.
    """

    features: Mapping[str, Features]
    grams: Mapping[str, Grams]
    sides: Mapping[str, int]
    fixed: Mapping[Transform, Altered]
    drawn: Mapping[Transform, Altered] = field(default_factory=dict)
    factors: pd.DataFrame | None = None
    examples: Mapping[str, UInt8[np.ndarray, "row column 3"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = next(iter(self.features.values()))
        for _, own in self._list_parts():
            for features in own.features.values():
                if features.ids != first.ids:
                    raise InputError(
                        f"The features of {features.model} are of other images than those of"
                        f" {first.model}."
                    )

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the images, in the order of all features."""
        return next(iter(self.features.values())).ids

    @property
    def sizes(self) -> list[int]:
        """The number of images of each minibatch, in the order of all features."""
        sizes: list[int] = next(iter(self.grams.values())).sizes.tolist()
        return sizes

    def key(self) -> Mapping[str, Any]:
        """Return what decides the numbers: a digest of all passes of each model, by its name, of
        the factors, and of the examples."""
        parts: dict[str, list[Any]] = {name: [] for name in self.features}
        for spec, own in self._list_parts():
            for nouns in (own.features, own.grams):
                for name, noun in nouns.items():
                    parts[name].append([spec, dict(noun.key)])
        factors = [] if self.factors is None else self.factors.index.tolist()
        shown = {label: pixels.tolist() for label, pixels in self.examples.items()}
        return {
            "models": {name: digest([self.sides[name], *own]) for name, own in parts.items()},
            "factors": digest(factors),
            "examples": digest(shown),
        }

    def _list_parts(self) -> Iterator[tuple[Mapping[str, Any], Altered]]:
        """All passes, each with what was done to the images."""
        yield {}, Altered(self.features, self.grams)
        for ways in (self.fixed, self.drawn):
            for transform, own in ways.items():
                yield transform.spec(), own
