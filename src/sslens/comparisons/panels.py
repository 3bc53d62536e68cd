"""Panels that the CKA analyses share: heat maps of two models, and curves over depth with
controls."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pandas as pd

from sslens.comparisons.depths import PLACES
from sslens.comparisons.roles import PIXELS, TOKENS
from sslens.figure import Figure, Heatmap, Line, Lines, Panel
from sslens.table import Results

#: the choices of tokens, as titles have them
LABELS = {"all": "all tokens", "cls": "CLS token", "patch": "patch tokens"}
#: the columns of a measure's value and interval, by what the page's picker calls the measure
MEASURES = {
    "CKA": ("cka", "low", "high"),
    "deconfounded CKA": ("deconfounded", "deconfounded_low", "deconfounded_high"),
}
CKA, DECONFOUNDED = MEASURES
#: which curves a page's picker chooses
PAIRS, FAMILIES = "pairs of models", "families"


def name_facets(tokens: str, kind: str, **others: str) -> dict[str, str]:
    """Name what a panel shows, for the pickers of a page.

    >>> name_facets("cls", "qkv", pair="mae · dino")
    {'pair': 'mae · dino', 'tokens': 'CLS token', 'layer': 'qkv'}
    """
    return others | {"tokens": LABELS[tokens], "layer": kind}


@final
@dataclass(frozen=True, eq=False)
class Cells:
    """The rows of a table `cells`, grouped once for all panels by tokens, kind and pair of models.

    Attributes:
        pairs: the rows by (tokens, kind, name of the first model, name of the second model).
    """

    pairs: dict[tuple[str, str, str, str], pd.DataFrame]

    @classmethod
    def of(cls, cells: pd.DataFrame) -> "Cells":
        """Group the rows of a table `cells`; each group keeps the order of its rows."""
        groups = cells.groupby(["tokens", "kind", "model_a", "model_b"], sort=False)
        return cls({(str(t), str(k), str(a), str(b)): rows for (t, k, a, b), rows in groups})

    def models(self) -> list[str]:
        """Return the models under study, in their order.

        A model is found by its comparison with itself, which is not marked as a control.
        """
        return self._list_own(control=False)

    def controls(self) -> list[str]:
        """The controls, in their order."""
        return self._list_own(control=True)

    def _list_own(self, *, control: bool) -> list[str]:
        own = {a: bool(rows.control.iloc[0]) for (_, _, a, b), rows in self.pairs.items() if a == b}
        return [name for name, is_control in own.items() if is_control == control]

    def tokens(self) -> list[str]:
        """The choices of tokens, all tokens first."""
        present = {tokens for tokens, *_ in self.pairs}
        return [tokens for tokens in TOKENS if tokens in present]

    def select(self, a: str, b: str, tokens: str, kind: str) -> pd.DataFrame | None:
        """Return the rows of a pair of models, with `a` as the first model.

        The result is None if the table has no rows of these models, tokens and kind in either
        order.
        """
        rows = self.pairs.get((tokens, kind, a, b))
        if rows is not None or (tokens, kind, b, a) not in self.pairs:
            return rows
        turned = {"tap_a": "tap_b", "tap_b": "tap_a", "depth_a": "depth_b", "depth_b": "depth_a"}
        return self.pairs[tokens, kind, b, a].rename(columns=turned)


def list_tokens_in(rows: pd.DataFrame) -> list[str]:
    """The choices of tokens of a table, all tokens first."""
    return [tokens for tokens in TOKENS if (rows.tokens == tokens).any()]


def draw_cells(
    cells: Cells,
    a: str,
    b: str,
    tokens: str,
    kind: str,
    title: str | None = None,
    measure: str = CKA,
) -> Heatmap | None:
    """Make the heat map of CKA between the taps of `a` (rows) and the taps of `b` (columns).

    The result is None if the table has no rows of these models, tokens and kind. `title` is the
    two names unless given; `measure` is one of `MEASURES`.
    """
    selected = cells.select(a, b, tokens, kind)
    if selected is None:
        return None
    taps_a, taps_b = selected["tap_a"].tolist(), selected["tap_b"].tolist()
    rows, columns = (
        {tap: place for place, tap in enumerate(dict.fromkeys(taps))} for taps in (taps_a, taps_b)
    )
    square = np.full((len(rows), len(columns)), np.nan)
    places = [rows[tap] for tap in taps_a], [columns[tap] for tap in taps_b]
    square[places] = selected[MEASURES[measure][0]].to_numpy(float)
    return Heatmap(
        title if title is not None else f"{a} · {b}",
        square,
        shorten_taps(list(rows)),
        shorten_taps(list(columns)),
        x_label=f"block of {b}",
        y_label=f"block of {a}",
        limits=(0.0, 1.0),
        unit=measure,
        facets=name_facets(tokens, kind, pair=f"{a} · {b}", measure=measure),
        row_notes=tuple(f"{a} {tap}" for tap in rows),
        column_notes=tuple(f"{b} {tap}" for tap in columns),
    )


def shorten_taps(taps: Sequence[str]) -> tuple[str, ...]:
    """Shorten the names of taps to the numbers in them: the block, or the stage and the block.

    If two taps would have the same numbers, all names stay as they are.

    >>> shorten_taps(["blocks.0.attn.qkv", "blocks.1.attn.qkv"])
    ('0', '1')
    >>> shorten_taps(["layer1.0", "layer2.0"]), shorten_taps(["pixels"])
    (('1.0', '2.0'), ('pixels',))
    """
    short = tuple(_shorten(tap) for tap in taps)
    return short if len(set(short)) == len(short) else tuple(taps)


def _shorten(tap: str) -> str:
    """`blocks.3.mlp.fc1` is 3, `layer2.0` and `stages.2.blocks.0` are 2.0."""
    parts = (part.removeprefix("layer") for part in tap.split("."))
    numbers = list(itertools.islice((part for part in parts if part.isdecimal()), 2))
    return ".".join(numbers) or tap


def draw_line(cells: Cells, a: str, b: str, tokens: str, kind: str) -> Line | None:
    """Make the curve of two models' CKA at the same relative depth against that depth.

    The result is None if the table has no rows of these models, tokens and kind, or if no CKA is
    defined.
    """
    selected = cells.select(a, b, tokens, kind)
    if selected is None:
        return None
    depth, other, *values = (
        selected[column].to_numpy(float) for column in ("depth_a", "depth_b", "cka", "low", "high")
    )
    if len(np.unique(depth)) < len(np.unique(other)):
        depth, other = other, depth
    apart = np.abs(depth - other).round(PLACES)
    order = np.lexsort((apart, depth))  # of equals the first
    nearest = order[np.diff(depth[order], prepend=-np.inf) > 0]
    y, low, high = (value[nearest] for value in values)
    if np.isnan(y).all():
        return None
    control = bool(selected["control"].iloc[0])
    return Line(f"{a} · {b}", depth[nearest], y, low, high, control=control)


def draw_lines(
    cells: Cells, tokens: str, kind: str, title: str, pairs: Sequence[tuple[str, str]]
) -> Lines:
    """Make a panel of CKA at the same relative depth, with one curve per pair of models."""
    lines = (draw_line(cells, a, b, tokens, kind) for a, b in pairs)
    defined = tuple(line for line in lines if line is not None)
    facets = name_facets(tokens, kind, curves=PAIRS, measure=CKA)
    return Lines(
        title, "relative depth", "CKA at the same depth", defined, (-0.1, 1.05), facets=facets
    )


def draw_deconfounded(
    results: Results, tokens: str, kind: str, title: str, pairs: Sequence[tuple[str, str]]
) -> Lines | None:
    """Make a panel of deconfounded CKA at the same relative depth, with one curve per pair of
    models, over the depths at which it is defined.

    It reads the table `same-depth`; the result is None if nothing is defined.
    """
    rows = results["same-depth"]
    rows = rows[(rows.tokens == tokens) & (rows.kind == kind)].dropna(subset="deconfounded")
    groups = {(str(a), str(b)): own for (a, b), own in rows.groupby(["model_a", "model_b"])}
    lines = []
    for a, b in pairs:
        points = groups.get((a, b), groups.get((b, a)))
        if points is not None:
            ordered = points.sort_values("depth")
            columns = ("depth", "deconfounded", "deconfounded_low", "deconfounded_high")
            x, y, low, high = (ordered[column].to_numpy(float) for column in columns)
            control = bool(ordered.control.iloc[0])
            lines.append(Line(f"{a} · {b}", x, y, low, high, control=control))
    if not lines:
        return None
    facets = name_facets(tokens, kind, curves=PAIRS, measure=DECONFOUNDED)
    return Lines(
        title, "relative depth", "deconfounded CKA", tuple(lines), (-0.3, 1.05), facets=facets
    )


def list_ceilings_in(results: Results) -> list[tuple[str, str]]:
    """List the pairs of two trainings of one objective that the table `ceilings` has."""
    if "ceilings" not in results:
        return []
    rows = results["ceilings"]
    return list(dict.fromkeys(zip(rows.model_a, rows.model_b, strict=True)))


def list_drawn(cells: Cells) -> list[tuple[str, str]]:
    """Choose the pairs whose curves are drawn.

    These are all pairs of up to three models, or else the first model with each other model; then
    the controls of the first two models (`list_beside`).
    """
    names = cells.models()
    pairs = (
        list(itertools.combinations(names, 2))
        if len(names) <= 3
        else [(names[0], other) for other in names[1:]]
    )
    return pairs + list_beside(cells, names[:2])


def list_beside(cells: Cells, names: Sequence[str]) -> list[tuple[str, str]]:
    """List the control pairs: the first two random initialisations with each other, and each of
    the given models with the first random initialisation and with raw pixels."""
    controls = cells.controls()
    random = [name for name in controls if name != PIXELS]
    beside = [*random[:1], *(name for name in controls if name == PIXELS)]
    return [*itertools.combinations(random[:2], 2), *itertools.product(names, beside)]


def draw_families(results: Results, tokens: str, kind: str, title: str) -> Lines | None:
    """Make a panel of the mean CKA over pairs of models of two families, against depth.

    It reads the table `families-by-depth`; the result is None if there are no such rows.
    """
    if "families-by-depth" not in results:
        return None
    rows = results["families-by-depth"]
    rows = rows[(rows.tokens == tokens) & (rows.kind == kind)]
    lines = []
    for (a, b), points in rows.groupby(["model_a", "model_b"], sort=False):
        ordered = points.sort_values("depth")
        x, y, low, high = (
            ordered[column].to_numpy(float) for column in ("depth", "cka", "low", "high")
        )
        lines.append(Line(f"{a} · {b}", x, y, low, high))
    if not lines:
        return None
    facets = name_facets(tokens, kind, curves=FAMILIES, measure=CKA)
    return Lines(
        title, "relative depth", "CKA at the same depth", tuple(lines), (-0.1, 1.05), facets=facets
    )


def make_figure(
    name: str, grid: Sequence[Sequence[Panel | None]], more: Sequence[Panel] = ()
) -> Figure:
    """Make a figure from rows of panels; shorter rows are filled up with empty cells. `more` are
    the panels that only a page shows.

    Rows without a panel are left out. If no panel is left, the figure is one empty pair of axes.
    """
    rows = [row for row in grid if any(panel is not None for panel in row)]
    if not rows:
        title, y_label = "No taps of this kind", "CKA at the same depth"
        rows = [[Lines(title, "relative depth", y_label, (), (-0.1, 1.05))]]
    width = max(len(row) for row in rows)
    filled = tuple((*row, *(None,) * (width - len(row))) for row in rows)
    return Figure(name, filled, tuple(more))
