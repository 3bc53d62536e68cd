"""Patch tokens of outlying norm, by depth (Darcet et al., 2024, arXiv 2309.16588)."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float64

from sslens.capture import Maps
from sslens.comparisons.rows import Row
from sslens.statistics.draws import Draws
from sslens.statistics.estimate import Estimate

#: a token is outlying if its norm is so many times the median's
TIMES = 3.0
#: images that are read at a time
TOGETHER = 64
COLUMNS = (
    *("model", "control", "tap", "depth", "share", "share_low", "share_high"),
    *("median", "largest", "images"),
)
UNITS = {
    "share": f"share of patch tokens with a norm of over {TIMES:g} times the median at this tap",
    "share_low": "lower end of its 95 % interval over images",
    "share_high": "upper end",
    "median": "median norm of the patch tokens",
    "largest": "largest norm, in medians",
}


def find_outlying(name: str, maps: Maps, *, control: bool) -> Iterator[Row]:
    """Make a row for each tap of a model's maps: how many patch tokens have an outlying norm.

    In ViT-L and larger models that were trained long, some percent of the tokens of late blocks
    have norms many times those of the others. They hold little of their own place, so that dense
    probes are wrong there.

    >>> values = torch.ones(2, 1, 4, 1)
    >>> values[0, 0, 0] = 10.0
    >>> row, = find_outlying("arrays", Maps.of({"x": values}, side=8), control=False)
    >>> row["share"], row["median"], row["largest"]
    (0.125, 1.0, 10.0)
    """
    for tap in maps.taps:
        norms = torch.cat(
            [block.float().norm(dim=3).flatten(1) for block in maps.blocks(tap.name, TOGETHER)]
        )
        median = float(norms.median())
        outlying = (norms > TIMES * median).double().mean(1, keepdim=True).numpy()
        yield {
            "model": name,
            "control": control,
            "tap": tap.name,
            "depth": tap.depth,
            **_average(outlying).columns("share"),
            "median": median,
            "largest": float(norms.max()) / median if median else float("nan"),
            "images": len(outlying),
        }


def _average(shares: Float64[np.ndarray, "image 1"]) -> Estimate:
    """The mean over images with its interval."""
    draws = Draws.of(len(shares))
    counts = draws.sums(np.ones_like(shares))[:, 0]
    mean = draws.sampled(draws.sums(shares)[:, 0] / counts)
    low, high = (float(end) for end in mean.share_interval())
    return Estimate(float(mean.value), low, high, "images", len(shares))
