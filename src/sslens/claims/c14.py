"""C14: CKA is stable in the size of minibatches and in the number of images (figure 6 of Shekhar et
al., 2023)."""

from collections.abc import Mapping

import pandas as pd

from sslens.comparisons.parts import refuse
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate
from sslens.statistics.verdicts import Part, Quotation, Verdict, reach_verdict
from sslens.table import Results

WORDS = "CKA depends neither on the size of minibatches nor on the number of images."
GROUP_WORDS = WORDS
SHORT = "CKA depends on neither the minibatch nor the number of images"
PAPERS = (
    Quotation(
        "and found no noticeable differences",
        "2022, appendix B",
        "minibatches of 2^5 to 2^10, 10^3 to 10^6 examples",
    ),
)
READS = ("cka-convergence",)
#: what is varied, in words
VARIED = {"batch": "minibatches of", "images": "images, in number"}


def judge(results: Mapping[str, Results]) -> tuple[Verdict, ...]:
    """Judge whether CKA moves by less than 0.02 over sizes of minibatches and numbers of images.

    Of each series the two ends are compared that have an interval (six minibatches or more): the
    largest minibatches less the smallest, and the fewest images less all of them. The effect is the
    mean over taps and pairs of models of CKA at one end less CKA at the other, without its sign;
    its interval is the mean of the intervals at the end with fewer minibatches, shifted, which is
    too wide rather than too narrow, because both ends see the same images.

    Args:
        results: the results of the analyses that ran, by the analysis' name.

    Returns:
        One verdict; it is "not run" if neither size nor number could be varied with intervals.
    """
    if READS[0] not in results:
        return ()
    points = results[READS[0]]["points"]
    points = points[points.cka.notna() & points.low.notna() & ~points.control]
    parts = [
        part
        for varied in VARIED
        if (part := _compare_ends(points[points.varied == varied], varied)) is not None
    ]
    pairs = [f"{a} · {b}" for a, b in points.groupby(["model_a", "model_b"], sort=False).groups]
    if not parts:
        why = "it needs two models, and images for six minibatches of two sizes"
        return (refuse("c14", why, {"pairs": pairs}),)
    return (reach_verdict("c14", parts, members={"pairs": tuple(pairs)}),)


def _compare_ends(points: pd.DataFrame, varied: str) -> Part | None:
    """Compare the ends of one series; None if it has one end only."""
    sizes = sorted(points[varied].unique())
    if len(sizes) < 2:
        return None
    # the end with fewer minibatches is the one that an interval is needed of
    here, other = (sizes[-1], sizes[0]) if varied == "batch" else (sizes[0], sizes[-1])
    keys = ["model_a", "model_b", "tap_a"]
    end, base = (points[points[varied] == size].set_index(keys) for size in (here, other))
    shared = end.index.intersection(base.index)
    moved = end.loc[shared, "cka"] - base.loc[shared, "cka"]
    low, high = (
        (end.loc[shared, column] - base.loc[shared, "cka"]).mean() for column in ("low", "high")
    )
    value = moved.mean()
    if value < 0:
        value, low, high = -value, -high, -low
    n = int(end.loc[shared, "minibatches"].min())
    estimate = Estimate(float(value), float(low), float(high), "minibatches", n)
    names = f"CKA with {VARIED[varied]} {here:,}", f"{other:,} (without its sign)"
    return Part("", Contrast(*names, estimate), SMALLEST["cka"], "cka", 0)
