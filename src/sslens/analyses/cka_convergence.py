"""CKA against the size of minibatches and the number of images (figure 6 of Shekhar et al., 2023;
claim C14)."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from sslens.capture import Grams
from sslens.comparisons import pairs as _pairs
from sslens.comparisons import panels as _panels
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.untyped import FEWEST
from sslens.figure import Figure, Line, Lines
from sslens.measures.cka import Comparison
from sslens.models.about import About
from sslens.plan import SMALLEST
from sslens.statistics.sampled import Sampled
from sslens.table import Table

TITLE = "Does CKA depend on the minibatch and the number of images?"
CAPTION = (
    "Minibatch CKA of a few taps, drawn at random, of two models at the same relative depth: with"
    " minibatches of 32 to 1,024 images, all images used (above), and with more and more images in"
    " minibatches of 32 (below); under 1,024 images the numbers are powers of two from 64. Unbiased"
    " HSIC should give level curves. All minibatches are cut from the same pass in the same order,"
    " so that the last point of both is of the same images. Bands are 95 % bootstrap intervals over"
    " minibatches; under six minibatches none is given."
)
VERSION = 1
NEEDS = ("wide",)
ON_REQUEST = True
BATCH, FEW, LARGEST = 32, 64, 1024
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
    "minibatches": "drawn from by the bootstrap",
    "kind": "what the taps compute",
    "tap_a": "tap of model_a",
    "tap_b": "tap of model_b, of the same kind at the nearest relative depth",
    "depth": "relative depth of tap_a, 0 to 1",
    "cka": "minibatch CKA, unbiased; empty where a tap is constant over images and CKA is 0/0",
    "low": "lower end of the 95 % bootstrap interval over minibatches; empty under six of them",
    "high": "upper end",
}


def without(about: Mapping[str, About], controls: Sequence[str]) -> str | None:
    """A model with itself has a CKA of 1 at every size."""
    if len([name for name in about if name != "pixels"]) < 2:
        return "it needs two models, or one and its controls"
    return None


def compute(inputs: Inputs) -> Table:
    """CKA at every size of minibatch and number of images, of the first pairs of models (of one
    model: with a control)."""
    known = [
        name
        for name in (*inputs.models, *inputs.controls)
        if name in inputs.wide and name != "pixels"
    ]
    pairs = list(itertools.combinations([name for name in known if name in inputs.models], 2))[
        :PAIRS
    ]
    pairs = pairs or list(itertools.combinations(known, 2))[:1]
    rows: list[dict[str, Any]] = []
    for a, b in pairs:
        cells = matched(inputs.wide[a], inputs.wide[b])
        names = {
            "model_a": a,
            "model_b": b,
            "control": a in inputs.controls or b in inputs.controls,
        }
        for setting, sampled in _settings(inputs.wide[a], inputs.wide[b], cells, inputs.seed):
            rows += _rows(inputs.wide[a], inputs.wide[b], cells, names | setting, sampled)
    return Table(pd.DataFrame(rows, columns=list(UNITS)), UNITS)


def matched(a: Grams, b: Grams) -> list[tuple[int, int]]:
    """Each tap of `a` with the tap of `b` of its kind that is nearest in relative depth; taps
    without such a one are left out."""
    cells = []
    for i, tap in enumerate(a.taps):
        same = [j for j, other in enumerate(b.taps) if other.kind == tap.kind]
        if same:
            cells.append((i, min(same, key=lambda j: abs(b.taps[j].depth - tap.depth))))
    return cells


def _settings(
    a: Grams, b: Grams, cells: Sequence[tuple[int, int]], seed: int
) -> Iterator[tuple[dict[str, Any], Sampled]]:
    """Sizes of minibatches over all images, then numbers of images in minibatches of the smallest
    size."""
    widest = int(a.sizes.max())
    smallest = min(BATCH, widest)
    sizes = [
        smallest,
        *itertools.takewhile(lambda n: n <= min(LARGEST, widest), _doubled(2 * smallest)),
    ]
    count = int(a.sizes.sum())
    for size in sizes:
        compared, ends = _cut(a, b, size)
        setting = {"varied": "batch", "batch": size, "images": count, "minibatches": len(ends)}
        yield setting, Sampled.of(compared, cells, seed, _pairs.REPLICATES)
    compared, ends = _cut(a, b, smallest)
    first = 1024 if count > 1024 else FEW
    numbers = [*itertools.takewhile(lambda n: n < count, _doubled(first)), count]
    for number in numbers:
        taken = int(np.searchsorted(ends, number, side="right"))
        part = replace(
            compared,
            cross=compared.cross[..., :taken],
            own_a=compared.own_a[..., :taken],
            own_b=compared.own_b[..., :taken],
        )
        setting = {
            "varied": "images",
            "batch": smallest,
            "images": int(ends[taken - 1]),
            "minibatches": taken,
        }
        yield setting, Sampled.of(part, cells, seed, _pairs.REPLICATES)


def _doubled(first: int) -> Iterator[int]:
    return (first * 2**k for k in itertools.count())


def _cut(a: Grams, b: Grams, size: int) -> tuple[Comparison, np.ndarray]:
    """Two models compared on minibatches of a size, cut from their wide Grams; and the images up to
    the end of each.

    One group at a time: a Gram of 1,024 images in float64 has 8 MB a tap.
    """
    parts, lengths = [], []
    for group, count in enumerate(a.sizes.tolist()):
        pieces = _pieces(count, size)
        parts.append(Comparison.of(_group(a, group, pieces), _group(b, group, pieces)))
        lengths += pieces
    cross, own_a, own_b = (
        torch.cat([getattr(part, name) for part in parts], -1)
        for name in ("cross", "own_a", "own_b")
    )
    defined = torch.stack([part.defined for part in parts]).any(0)
    return Comparison(cross, own_a, own_b, defined), np.cumsum(lengths)


def _pieces(count: int, size: int) -> list[int]:
    """Sizes of the minibatches of a group; what is left over is one more, or joins the last if it
    is too small for HSIC_1.

    >>> _pieces(70, 32), _pieces(66, 32), _pieces(20, 32)
    ([32, 32, 6], [32, 34], [20])
    """
    whole, left = divmod(count, size)
    pieces = [size] * whole
    if left >= SMALLEST or not pieces:
        return [*pieces, left]
    return [*pieces[:-1], size + left]


def _group(wide: Grams, group: int, pieces: Sequence[int]) -> Grams:
    """The blocks on the diagonal of one group's Gram, as Grams: centred about the group's mean, to
    which HSIC_1 is blind."""
    gram, energy = wide.blocks[:, group], wide.energy[:, group, None]
    blocks = torch.zeros(len(gram), len(pieces), max(pieces), max(pieces))
    for k, (end, size) in enumerate(zip(itertools.accumulate(pieces), pieces, strict=True)):
        blocks[:, k, :size, :size] = gram[:, end - size : end, end - size : end]
    share = torch.tensor(pieces, dtype=torch.float64) / sum(pieces)
    return replace(wide, blocks=blocks, energy=energy * share, sizes=torch.tensor(pieces))


def _rows(
    a: Grams,
    b: Grams,
    cells: Sequence[tuple[int, int]],
    names: dict[str, Any],
    sampled: Sampled,
) -> Iterator[dict[str, Any]]:
    low, high = sampled.interval()
    if sampled.batches < FEWEST:
        low = high = np.full(len(cells), np.nan)
    for k, (i, j) in enumerate(cells):
        taps = {
            "kind": a.taps[i].kind,
            "tap_a": a.taps[i].name,
            "tap_b": b.taps[j].name,
            "depth": a.taps[i].depth,
        }
        yield names | taps | {"cka": sampled.value[k], "low": low[k], "high": high[k]}


def draw(table: Table) -> Figure:
    """A column a pair of models, above by size of minibatch, below by number of images; a line a
    tap."""
    frame = table.frame
    pairs = list(frame.groupby(["model_a", "model_b"], sort=False).groups)
    labels = {"batch": "images in a minibatch", "images": "number of images"}
    grid = [
        [
            Lines(
                f"{a} · {b}",
                labels[varied],
                "CKA",
                tuple(_lines(frame, a, b, varied)),
                None,
                log_x=True,
            )
            for a, b in pairs
        ]
        for varied in labels
    ]
    return _panels.make_figure("cka-convergence", grid)


def _lines(frame: pd.DataFrame, a: str, b: str, varied: str) -> Iterator[Line]:
    here = frame[
        (frame.model_a == a) & (frame.model_b == b) & (frame.varied == varied) & frame.cka.notna()
    ]
    for tap, points in here.groupby("tap_a", sort=False):
        ordered = points.sort_values(varied)
        x, y, low, high = (
            ordered[column].to_numpy(float) for column in (varied, "cka", "low", "high")
        )
        yield Line(str(tap), x, y, low, high)


def findings(table: Table) -> tuple[str, ...]:
    """How far CKA moves with either, beside how sure it is at the smallest minibatch."""
    frame = table.frame
    said = []
    for (a, b), here in frame[frame.cka.notna()].groupby(["model_a", "model_b"], sort=False):
        by_batch, by_images = here[here.varied == "batch"], here[here.varied == "images"]
        if len(set(by_batch.batch)) == len(set(by_images.images)) == 1:
            said.append(
                f"{a} and {b}: {by_batch.images.iloc[0]} images are too few to vary their number or"
                " the minibatch."
            )
        if by_batch.batch.nunique() > 1:
            said.append(f"{a} and {b}: {_by_batch(by_batch)}.")
        if by_images.images.nunique() > 1:
            said.append(f"{a} and {b}: {_by_images(by_images)}.")
    return tuple(said)


def _by_batch(here: pd.DataFrame) -> str:
    spread = here.groupby("tap_a").cka.agg(lambda values: values.max() - values.min())
    first = here[here.batch == here.batch.min()]
    ends = f"from {here.batch.min()} to {here.batch.max():,} images in a minibatch"
    said = (
        f"{ends} the CKA of {len(spread)} taps moves by {spread.median():.3f} in the median and"
        f" {spread.max():.3f} at most"
    )
    if first.minibatches.iloc[0] < FEWEST:
        return said
    width = float((first.high - first.low).median())
    side = "less" if spread.median() < width else "more"
    return (
        f"{said}, {side} than the width of its 95 % interval at {here.batch.min()} ({width:.3f} in"
        " the median)"
    )


def _by_images(here: pd.DataFrame) -> str:
    last = here[here.images == here.images.max()].set_index("tap_a").cka
    numbers = sorted(set(here.images) - {here.images.max()})
    moved = {n: (here[here.images == n].set_index("tap_a").cka - last).abs() for n in numbers}
    shown = numbers if len(numbers) < 3 else [numbers[0], numbers[-1]]
    parts = [
        f"{moved[n].median():.3f} in the median and {moved[n].max():.3f} at most with {n:,}"
        for n in shown
    ]
    return (
        f"the CKA of {len(last)} taps with {here.images.max():,} images is missed by"
        f" {', by '.join(parts)}"
    )
