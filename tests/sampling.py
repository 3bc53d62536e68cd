"""A sampler of pretence, and sets of samples made from arrays, for tests."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sslens.comparisons.samples import ModelSamples, Readings, SampleSet
from sslens.statistics.estimate import Estimate

#: sources, draws, images among which a source is ranked, dimensions of features
SOURCES, DRAWS, IMAGES, DIM = 6, 3, 40, 5


def make_samples(names: Sequence[str], noise: Mapping[str, float] | None = None) -> SampleSet:
    """Samples of features that are their source's but for noise, and read with other facings
    where there is noise."""
    rng = np.random.default_rng(0)
    models = {}
    for name in names:
        level = (noise or {}).get(name, 0.1)
        images = rng.normal(size=(IMAGES, DIM)) + 4
        own = images[:SOURCES, None] + level * rng.normal(size=(SOURCES, DRAWS, DIM))
        turned = rng.random((SOURCES, DRAWS)) < level
        x = np.arange(SOURCES)[:, None] + level * rng.normal(size=(SOURCES, DRAWS))
        read = pd.DataFrame(
            {"facing": np.where(turned, "left", "right").ravel(), "x": x.ravel().astype(float)}
        )
        models[name] = ModelSamples(
            "norm",
            "cls",
            rng.integers(0, 255, (SOURCES, DRAWS, 4, 4, 3), dtype=np.uint8),
            own,
            images[:SOURCES, None] + 0.01,
            images,
            "judge",
            rng.normal(size=(SOURCES * DRAWS, 2)),
            read,
        )
    true = pd.DataFrame({"facing": ["right"] * SOURCES, "x": np.arange(float(SOURCES))})
    pool = pd.DataFrame({"facing": ["right", "left"] * 20, "x": np.linspace(0.0, 5.0, IMAGES)})
    return SampleSet(
        "pretence",
        tuple(f"id{row}" for row in range(SOURCES)),
        tuple("abcdef"),
        rng.integers(0, 255, (SOURCES, 4, 4, 3), dtype=np.uint8),
        models,
        {"judge": rng.normal(size=(IMAGES, 2))},
        Readings(true, pool, true, {name: Estimate(0.97, 0.95, 0.98, n=900) for name in true}),
        {"generator": "0"},
    )
