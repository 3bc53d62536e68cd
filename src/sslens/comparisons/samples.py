"""Generated images that share a representation with a source, with what is needed to judge them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from jaxtyping import Float64, UInt8

from sslens.statistics.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd


@final
@dataclass(frozen=True, eq=False)
class ModelSamples:
    """The samples of all sources that were conditioned on one model's features.

    Attributes:
        tap: where the features are read.
        pooling: how they are pooled.
        pixels: the samples.
        features: their features, by the model that conditioned them.
        copies: features of the sources shifted by one pixel.
        images: features of the images among which a source is ranked; the sources come first.
        judge: the name of another model, which did not condition these samples; its own where there
            is no other.
        judged: the samples' features by the judge.
        read: the factors that are read from the samples, draw by draw of each source; None where
            the images are no scenes.
    """

    tap: str
    pooling: str
    pixels: UInt8[np.ndarray, "source draw side side 3"]
    features: Float64[np.ndarray, "source draw dim"]
    copies: Float64[np.ndarray, "source 1 dim"]
    images: Float64[np.ndarray, "image dim"]
    judge: str
    judged: Float64[np.ndarray, "sample _"]
    read: "pd.DataFrame | None" = None


@final
@dataclass(frozen=True, eq=False)
class Readings:
    """What is read from pictures of the sources and of a pool, and how well.

    Attributes:
        sources: the factors that are read from each source, at the size of the samples.
        pool: the same of the images among which sources are ranked.
        true: the factors of the sources.
        scores: how well each factor is read in held-out scenes: accuracy of kinds, R² of numbers.
    """

    sources: "pd.DataFrame"
    pool: "pd.DataFrame"
    true: "pd.DataFrame"
    scores: Mapping[str, Estimate]


@final
@dataclass(frozen=True, eq=False)
class SampleSet:
    """The samples of a generator for the models of a study.

    Attributes:
        generator: its name.
        ids: the ids of the sources.
        names: the class of each source, or its id.
        pictures: the sources at the size of the samples.
        models: by name of the model the samples that its features conditioned.
        real: by name of a judge the features of real images.
        readings: None where the images are no scenes.
        key: what decided the samples.
    """

    generator: str
    ids: tuple[str, ...]
    names: tuple[str, ...]
    pictures: UInt8[np.ndarray, "source side side 3"]
    models: Mapping[str, ModelSamples]
    real: Mapping[str, Float64[np.ndarray, "image _"]]
    readings: Readings | None
    key: Mapping[str, Any]
