"""What is drawn from rows of pairs: heat maps of two models, and curves over depth beside the
controls."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sslens.comparisons import roles as _roles
from sslens.comparisons.pairs import MEAN
from sslens.figure import Figure, Heatmap, Line, Lines, Panel

LABELS = {"all": "all tokens", "cls": "CLS token", "patch": "patch tokens"}


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a table of pairs by tokens, kind and pair of models, found once for all
    panels."""

    frame: pd.DataFrame
    pairs: dict[tuple[str, str, str, str], pd.DataFrame]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Cells":
        """The rows that are cells, in their order."""
        cells = frame[frame.row == "cell"]
        groups = cells.groupby(["tokens", "kind", "model_a", "model_b"], sort=False)
        return cls(frame, {(str(t), str(k), str(a), str(b)): rows for (t, k, a, b), rows in groups})

    def models(self) -> list[str]:
        """The models under study, in their order: those whose comparison with themselves is no
        control."""
        return self._own(control=False)

    def controls(self) -> list[str]:
        """The controls, in their order."""
        return self._own(control=True)

    def _own(self, *, control: bool) -> list[str]:
        own = {a: bool(rows.control.iloc[0]) for (_, _, a, b), rows in self.pairs.items() if a == b}
        return [name for name, is_control in own.items() if is_control == control]

    def tokens(self) -> list[str]:
        """The choices of tokens, all tokens first."""
        return tokens_in(self.frame)

    def select(self, a: str, b: str, tokens: str, kind: str) -> pd.DataFrame | None:
        """The cells of one pair of models, whichever was named first; None where the pair has no
        taps of this kind."""
        found = self.pairs.get((tokens, kind, a, b))
        if found is not None or (tokens, kind, b, a) not in self.pairs:
            return found
        turned = {"tap_a": "tap_b", "tap_b": "tap_a", "depth_a": "depth_b", "depth_b": "depth_a"}
        return self.pairs[tokens, kind, b, a].rename(columns=turned)


def tokens_in(frame: pd.DataFrame) -> list[str]:
    """The choices of tokens of a table, all tokens first."""
    return [tokens for tokens in _roles.TOKENS if (frame.tokens == tokens).any()]


def heatmap(
    cells: Cells, a: str, b: str, tokens: str, kind: str, title: str | None = None
) -> Heatmap | None:
    """Taps of `a` (rows) against taps of `b` (columns); None where the pair has none of this
    kind."""
    found = cells.select(a, b, tokens, kind)
    if found is None:
        return None
    row, rows = pd.factorize(found.tap_a)
    column, columns = pd.factorize(found.tap_b)
    square = np.full((len(rows), len(columns)), np.nan)
    square[row, column] = found.cka
    return Heatmap(
        title if title is not None else f"{a} · {b}",
        square,
        labels(list(rows)),
        labels(list(columns)),
        x_label=f"block of {b}",
        y_label=f"block of {a}",
        limits=(0.0, 1.0),
        unit="CKA",
    )


def labels(taps: Sequence[str]) -> tuple[str, ...]:
    """The numbers in taps' names: of blocks, or of stage and block; the names themselves where
    these are not unique.

    >>> labels(["blocks.0.attn.qkv", "blocks.1.attn.qkv"]), labels(["layer1.0", "layer2.0"]), labels(["pixels"])
    (('0', '1'), ('1.0', '2.0'), ('pixels',))
    """
    short = tuple(_number(tap) for tap in taps)
    return short if len(set(short)) == len(short) else tuple(taps)


def _number(tap: str) -> str:
    """`blocks.3.mlp.fc1` is 3, `layer2.0` and `stages.2.blocks.0` are 2.0."""
    parts = (part.removeprefix("layer") for part in tap.split("."))
    numbers = list(itertools.islice((part for part in parts if part.isdecimal()), 2))
    return ".".join(numbers) or tap


def curve(cells: Cells, a: str, b: str, tokens: str, kind: str) -> Line | None:
    """CKA at the same relative depth, from the first block to the last; None where nothing is
    defined."""
    found = cells.select(a, b, tokens, kind)
    if found is None or found.cka.isna().all():
        return None
    if found.depth_a.nunique() < found.depth_b.nunique():
        found = found.assign(depth_a=found.depth_b, depth_b=found.depth_a)
    apart = (found.depth_a - found.depth_b).abs()
    nearest = found.loc[apart.groupby(found.depth_a).idxmin()].sort_values("depth_a")
    if nearest.cka.isna().all():
        return None
    x, y, low, high = (
        nearest[column].to_numpy(float) for column in ("depth_a", "cka", "low", "high")
    )
    return Line(f"{a} · {b}", x, y, low, high, control=bool(found.control.iloc[0]))


def curves(
    cells: Cells, tokens: str, kind: str, title: str, pairs: Sequence[tuple[str, str]]
) -> Lines:
    """CKA at the same depth, a line a pair."""
    lines = (curve(cells, a, b, tokens, kind) for a, b in pairs)
    shown = tuple(line for line in lines if line is not None)
    return Lines(title, "relative depth", "CKA at the same depth", shown, (-0.1, 1.05))


def pairs_shown(cells: Cells) -> list[tuple[str, str]]:
    """Models with each other (with the first, when they are many), and beside them the controls."""
    names = cells.models()
    pairs = (
        list(itertools.combinations(names, 2))
        if len(names) <= 3
        else [(names[0], other) for other in names[1:]]
    )
    return pairs + beside(cells, names[:2])


def beside(cells: Cells, names: Sequence[str]) -> list[tuple[str, str]]:
    """The controls: two random initialisations with each other, and models with one of them and
    with raw pixels."""
    known = cells.controls()
    random = [name for name in known if name != "pixels"]
    pairs = list(itertools.combinations(random[:2], 2))
    return pairs + [
        (name, other)
        for name in names
        for other in [*random[:1], *(["pixels"] if "pixels" in known else [])]
    ]


def families(frame: pd.DataFrame, tokens: str, kind: str, title: str) -> Lines | None:
    """The mean CKA of the pairs of models of two families, by depth; None where the table has no
    families."""
    found = frame[
        (frame.row == "families at a depth") & (frame.tokens == tokens) & (frame.kind == kind)
    ]
    lines = []
    for (a, b), points in found.groupby(["model_a", "model_b"], sort=False):
        ordered = points.sort_values("depth_a")
        x, y, low, high = (
            ordered[column].to_numpy(float) for column in ("depth_a", "cka", "low", "high")
        )
        lines.append(Line(f"{a} · {b}", x, y, low, high))
    return (
        Lines(title, "relative depth", "CKA at the same depth", tuple(lines), (-0.1, 1.05))
        if lines
        else None
    )


def figure(name: str, grid: Sequence[Sequence[Panel | None]]) -> Figure:
    """Rows of any length as a figure; an empty pair of axes where there is nothing to show."""
    kept = [row for row in grid if any(panel is not None for panel in row)]
    if not kept:
        kept = [
            [
                Lines(
                    "No taps of this kind", "relative depth", f"CKA at the {MEAN}", (), (-0.1, 1.05)
                )
            ]
        ]
    width = max(len(row) for row in kept)
    return Figure(name, tuple((*row, *(None,) * (width - len(row))) for row in kept))
