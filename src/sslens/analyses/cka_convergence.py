"""CKA against the size of minibatches and the number of images (figure 6 of Shekhar et al., 2023;
claim C14)."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import pandas as pd
import torch

from sslens.capture import Grams
from sslens.comparisons.depths import find_nearest
from sslens.comparisons.inputs import Models, WideGrams
from sslens.comparisons.pairs import Row
from sslens.comparisons.panels import make_figure
from sslens.comparisons.roles import PIXELS
from sslens.figure import Figure, Line, Lines
from sslens.measures.cka import Comparison
from sslens.plan import SMALLEST
from sslens.statistics.estimate import FEWEST
from sslens.statistics.sampled import Sampled
from sslens.table import Results, Table

TITLE = "Does CKA depend on the minibatch and the number of images?"
CAPTION = (
    "Minibatch CKA of a few taps, drawn at random, of two models at the same relative depth: with"
    " minibatches of 32 to 1,024 images, all images used (above), and with more and more images in"
    " minibatches of 32 (below); under 1,024 images the numbers are powers of two from 64. Unbiased"
    " HSIC should give level curves. All minibatches are cut from the same pass in the same order,"
    " so that the last point of both is of the same images. Bands are 95 % jackknife intervals over"
    " minibatches; under six minibatches none is given."
)
ON_REQUEST = True
#: images in the smallest and in the largest minibatch
BATCH, LARGEST = 32, 1024
#: the smallest number of images, where there are up to 1,024 and where there are more
FEW, MANY = 64, 1024
#: pairs of models shown
PAIRS = 3
UNITS = {
    "model_a": "name",
    "model_b": "name",
    "control": "whether a control is among the two",
    "varied": (
        "batch: the size of minibatches, over all images; images: their number, at the smallest"
        " size"
    ),
    "batch": "images in a minibatch; the last one may be smaller",
    "images": "images used",
    "minibatches": "each left out once by the jackknife",
    "kind": "what the taps compute",
    "tap_a": "tap of model_a",
    "tap_b": "tap of model_b, of the same kind at the nearest relative depth",
    "depth": "relative depth of tap_a, 0 to 1",
    "cka": "minibatch CKA, unbiased; empty where a tap is constant over images and CKA is 0/0",
    "low": "lower end of the 95 % jackknife interval over minibatches; empty under six of them",
    "high": "upper end",
}


@final
@dataclass(frozen=True, eq=False)
class Setting:
    """One size of minibatches and one number of images, with the CKA that they give.

    Attributes:
        varied: the quantity that a series of settings varies: "batch" or "images".
        batch: number of images in a minibatch.
        images: number of images in all minibatches.
        sampled: CKA of each pair of taps.
    """

    varied: str
    batch: int
    images: int
    sampled: Sampled


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: there are fewer than two models and controls.

    A single model would have a CKA of 1 with itself at every size.
    """
    if len([name for name in models.names if name != PIXELS]) < 2:
        return "it needs two models, or one and its controls"
    return None


def compute(models: Models, *, wide: WideGrams, seed: int = 0) -> Results:
    """Compute CKA for several sizes of minibatch and several numbers of images.

    The table is `points`. It has the first pairs of models, or one model with a control.
    """
    rows: list[Row] = []
    for a, b in _choose_pairs(models, wide):
        cells = match_taps(wide[a], wide[b])
        control = models.is_control(a) or models.is_control(b)
        names = {"model_a": a, "model_b": b, "control": control}
        for setting in _compare(wide[a], wide[b], cells):
            rows += _list_rows(wide[a], wide[b], cells, names, setting)
    return Results({"points": Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)})


def _choose_pairs(models: Models, wide: WideGrams) -> list[tuple[str, str]]:
    names = [name for name in models.names if name in wide and name != PIXELS]
    studied = [name for name in names if not models.is_control(name)]
    chosen = list(itertools.combinations(studied, 2))[:PAIRS]
    return chosen or list(itertools.combinations(names, 2))[:1]


def match_taps(a: Grams, b: Grams) -> list[tuple[int, int]]:
    """Match each tap of `a` with the nearest tap in relative depth, of the same kind, of `b`.

    Taps of `a` are left out if `b` has no tap of the same kind; of equally near taps the first one
    is taken.

    Returns:
        Pairs (index of a tap of `a`, index of a tap of `b`).
    """
    cells = []
    for i, tap in enumerate(a.taps):
        same = [j for j, other in enumerate(b.taps) if other.kind == tap.kind]
        if same:
            depths = np.array([b.taps[j].depth for j in same])
            cells.append((i, same[int(find_nearest(np.array([tap.depth]), depths)[0])]))
    return cells


def _compare(a: Grams, b: Grams, cells: Sequence[tuple[int, int]]) -> Iterator[Setting]:
    """Sizes of minibatches over all images, then numbers of images in minibatches of the smallest
    size."""
    count, widest = int(a.sizes.sum()), int(a.sizes.max())
    smallest = min(BATCH, widest)
    largest = min(LARGEST, widest)
    sizes = [smallest, *itertools.takewhile(lambda n: n <= largest, _double(2 * smallest))]
    for size in sizes:
        comparison, _ = _cut(a, b, size)
        sampled = Sampled.of(comparison, cells)
        yield Setting("batch", size, count, sampled)
    comparison, ends = _cut(a, b, smallest)
    first = MANY if count > MANY else FEW
    for number in (*itertools.takewhile(lambda n: n < count, _double(first)), count):
        taken = int(np.searchsorted(ends, number, side="right"))
        part = replace(
            comparison,
            cross=comparison.cross[..., :taken],
            own_a=comparison.own_a[..., :taken],
            own_b=comparison.own_b[..., :taken],
        )
        sampled = Sampled.of(part, cells)
        yield Setting("images", smallest, int(ends[taken - 1]), sampled)


def _double(first: int) -> Iterator[int]:
    """Doubled again and again: first, 2 first, 4 first, …"""
    return (first * 2**k for k in itertools.count())


def _cut(a: Grams, b: Grams, size: int) -> tuple[Comparison, np.ndarray]:
    """Two models compared on minibatches of a size, which are cut from their wide Grams.

    One group is cut at a time, for a Gram of 1,024 images in float64 has 8 MB a tap.

    Returns:
        The comparison, and the number of images up to the end of each minibatch.
    """
    parts, lengths = [], []
    for group, count in enumerate(a.sizes.tolist()):
        pieces = _divide(count, size)
        parts.append(Comparison.of(_cut_group(a, group, pieces), _cut_group(b, group, pieces)))
        lengths += pieces
    cross, own_a, own_b = (
        torch.cat([getattr(part, name) for part in parts], -1)
        for name in ("cross", "own_a", "own_b")
    )
    defined = torch.stack([part.defined for part in parts]).any(0)
    return Comparison(cross, own_a, own_b, defined), np.cumsum(lengths)


def _divide(count: int, size: int) -> list[int]:
    """Sizes of the minibatches of a group.

    The images that are left over make one more minibatch, or join the last one where they are too
    few for HSIC_1.

    >>> _divide(70, 32), _divide(66, 32), _divide(20, 32)
    ([32, 32, 6], [32, 34], [20])
    """
    whole, left = divmod(count, size)
    pieces = [size] * whole
    if left >= SMALLEST or not pieces:
        return [*pieces, left]
    return [*pieces[:-1], size + left]


def _cut_group(wide: Grams, group: int, pieces: Sequence[int]) -> Grams:
    """The blocks on the diagonal of one group's Gram, as Grams.

    They stay centred about the group's mean, to which HSIC_1 is blind.
    """
    gram, energy = wide.blocks[:, group], wide.energy[:, group, None]
    blocks = torch.zeros(len(gram), len(pieces), max(pieces), max(pieces))
    for k, (end, size) in enumerate(zip(itertools.accumulate(pieces), pieces, strict=True)):
        blocks[:, k, :size, :size] = gram[:, end - size : end, end - size : end]
    share = torch.tensor(pieces, dtype=torch.float64) / sum(pieces)
    return replace(wide, blocks=blocks, energy=energy * share, sizes=torch.tensor(pieces))


def _list_rows(
    a: Grams, b: Grams, cells: Sequence[tuple[int, int]], names: Row, setting: Setting
) -> Iterator[Row]:
    """A row for each pair of taps."""
    sampled = setting.sampled
    low, high = sampled.interval()
    if sampled.batches < FEWEST["minibatches"]:
        low = high = np.full(len(cells), np.nan)
    sizes = {
        "varied": setting.varied,
        "batch": setting.batch,
        "images": setting.images,
        "minibatches": sampled.batches,
    }
    for k, (i, j) in enumerate(cells):
        taps = {
            "kind": a.taps[i].kind,
            "tap_a": a.taps[i].name,
            "tap_b": b.taps[j].name,
            "depth": a.taps[i].depth,
        }
        yield names | sizes | taps | {"cka": sampled.value[k], "low": low[k], "high": high[k]}


def draw(results: Results) -> Figure:
    """Draw a column of two panels for each pair of models, with one curve per tap.

    The upper panel has CKA against the size of minibatches, the lower one against the number of
    images.
    """
    rows = results["points"]
    names = list(rows.groupby(["model_a", "model_b"], sort=False).groups)
    labels = {"batch": "images in a minibatch", "images": "number of images"}
    grid = [
        [
            Lines(
                f"{a} · {b}",
                label,
                "CKA",
                tuple(_draw_lines(rows, a, b, varied)),
                None,
                log_x=True,
                facets={"pair": f"{a} · {b}", "against": label},
            )
            for a, b in names
        ]
        for varied, label in labels.items()
    ]
    return make_figure("cka-convergence", grid)


def _draw_lines(rows: pd.DataFrame, a: str, b: str, varied: str) -> Iterator[Line]:
    pair = rows[(rows.model_a == a) & (rows.model_b == b) & (rows.varied == varied)]
    for tap, points in pair[pair.cka.notna()].groupby("tap_a", sort=False):
        ordered = points.sort_values(varied)
        x, y, low, high = (
            ordered[column].to_numpy(float) for column in (varied, "cka", "low", "high")
        )
        yield Line(str(tap), x, y, low, high)
