"""What a page shows of pairs of models where its reader picks: the matrix of all models, and the
map and the curve of every pair."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from sslens.comparisons.panels import (
    CKA,
    DECONFOUNDED,
    LABELS,
    MEASURES,
    PAIRS,
    Cells,
    draw_cells,
    draw_families,
    name_facets,
)
from sslens.figure import Heatmap, Line, Lines, Panel
from sslens.table import Results

#: with more models and controls than this, a page holds the maps and curves of the first choice of
#: tokens only, and the maps of CKA only, so that it stays small
MANY = 20


def list_pickable(results: Results, first: Sequence[tuple[str, str]]) -> tuple[Panel, ...]:
    """List the matrices, maps and curves among which a page's reader picks.

    Args:
        results: of an exhibit with the tables `cells`, `same-depth` and `means`.
        first: the pairs whose curves come first, and are coloured unless the reader picks others.
    """
    cells = Cells.of(results["cells"])
    names = [*cells.models(), *cells.controls()]
    many = len(names) > MANY
    tokens = cells.tokens()[: 1 if many else None]
    kinds = list(dict.fromkeys(kind for _, kind, *_ in cells.pairs))
    panels: list[Panel | None] = []
    for one in tokens:
        for kind in kinds:
            panels += _list_of_tokens(results, cells, names, (one, kind), first, many=many)
    return tuple(panel for panel in panels if panel is not None)


def _list_of_tokens(
    results: Results,
    cells: Cells,
    names: Sequence[str],
    of: tuple[str, str],
    first: Sequence[tuple[str, str]],
    *,
    many: bool,
) -> Iterator[Panel | None]:
    """The panels of one choice of tokens and one type of layer, `of`."""
    pairs = [*_order_pairs(results["means"], of, names), *((name, name) for name in names)]
    for measure in MEASURES:
        yield _draw_matrix(results["means"], names, of, measure)
        yield _draw_curves(results["same-depth"], of, measure, first)
        if measure == CKA or not many:
            yield from _draw_maps(cells, pairs, of, measure)
    yield draw_families(results, *of, f"families, {LABELS[of[0]]}")


def _select(rows: pd.DataFrame, of: tuple[str, str]) -> pd.DataFrame:
    return rows[(rows.tokens == of[0]) & (rows.kind == of[1])]


def _draw_matrix(
    means: pd.DataFrame, names: Sequence[str], of: tuple[str, str], measure: str
) -> Heatmap | None:
    """Draw the mean at the same depth of every two models, the first model at the top; None if
    there are no two models, or nothing is defined."""
    rows = _select(means, of)
    places = {name: place for place, name in enumerate(names)}
    a, b = (rows[column].map(places).to_numpy(float) for column in ("model_a", "model_b"))
    known = np.isfinite(a) & np.isfinite(b)
    values = rows[MEASURES[measure][0]].to_numpy(float)[known]
    i, j = a[known].astype(int), b[known].astype(int)
    if not np.isfinite(values[i != j]).any():
        return None
    square = np.full((len(names), len(names)), np.nan)
    square[i, j] = square[j, i] = values
    return Heatmap(
        f"mean {measure} at the same depth",
        square[::-1],
        tuple(names[::-1]),
        tuple(names),
        "",
        "",
        (0.0, 1.0),
        f"mean {measure}",
        facets=name_facets(*of, measure=measure),
        picks="pair",
    )


def _order_pairs(
    means: pd.DataFrame, of: tuple[str, str], names: Sequence[str]
) -> list[tuple[str, str]]:
    """Order all pairs of two models for the picker as the models stand: those under study first."""
    rows = _select(means, of).sort_values("control", kind="stable")
    pairs = [(str(a), str(b)) for a, b in zip(rows.model_a, rows.model_b, strict=True)]
    return [(a, b) for a, b in pairs if a != b and {a, b} <= set(names)]


def _draw_maps(
    cells: Cells, pairs: Sequence[tuple[str, str]], of: tuple[str, str], measure: str
) -> Iterator[Heatmap]:
    """Draw the map of every pair."""
    for a, b in pairs:
        panel = draw_cells(cells, a, b, *of, measure=measure)
        if panel is not None and np.isfinite(panel.values).any():
            yield panel


def _draw_curves(
    rows: pd.DataFrame, of: tuple[str, str], measure: str, first: Sequence[tuple[str, str]]
) -> Lines | None:
    """Draw the curve of every pair of two models over the depths at which it is defined, the pairs
    `first` first; None if nothing is defined."""
    rows = _select(rows, of)
    x, *values = (rows[column].to_numpy(float) for column in ("depth", *MEASURES[measure]))
    names = list(zip(rows["model_a"].tolist(), rows["model_b"].tolist(), strict=True))
    controls = rows["control"].tolist()
    points: dict[tuple[str, str], list[int]] = {}
    for place in np.argsort(x, kind="stable").tolist():
        a, b = names[place]
        if a != b and not np.isnan(values[0][place]):
            points.setdefault((a, b), []).append(place)
    curves = {}
    for (a, b), own in points.items():
        y, low, high = (value[own] for value in values)
        curves[a, b] = Line(f"{a} · {b}", x[own], y, low, high, control=bool(controls[own[0]]))
    known = [(a, b) if (a, b) in curves else (b, a) for a, b in first]
    order = dict.fromkeys([*(pair for pair in known if pair in curves), *curves])
    if not order:
        return None
    label = "deconfounded CKA" if measure == DECONFOUNDED else "CKA at the same depth"
    return Lines(
        LABELS[of[0]],
        "relative depth",
        label,
        tuple(curves[pair] for pair in order),
        None,
        facets=name_facets(*of, curves=PAIRS, measure=measure),
    )
