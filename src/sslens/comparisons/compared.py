"""The CKA of pairs of models over the taps of one kind, with resampled minibatches."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Float64, Int

from sslens.capture import Grams
from sslens.comparisons.deconfounding import compare_with_pixels, deconfound
from sslens.comparisons.depths import find_nearest
from sslens.comparisons.inputs import Models
from sslens.comparisons.nulls import PERMUTATIONS, Null, compute_nulls, match_depths
from sslens.measures.cka import Comparison
from sslens.models.taps import Tap
from sslens.statistics.sampled import Sampled


@final
@dataclass(frozen=True, eq=False)
class Pair:
    """The CKA of two models, or of a model with itself, over the taps of one kind.

    Attributes:
        a: name of the first model.
        b: name of the second model.
        control: whether at least one of the two models is a control.
        taps: the taps of the first model, and the taps of the second model.
        cells: CKA of all pairs of taps; a vector in the order of [tap_a, tap_b], row by row.
        matched: the pairs of taps at the same relative depth (`nulls.match_depths`), as indices.
        depths: relative depth, 0 to 1, of each pair of `matched`: the depth of its tap in the model
            with more taps.
        null: the permutation test of the cells; None if it was not requested.
        deconfounded: the same two models by deconfounded CKA; None without Grams of the pixels, and
            in a pair that is deconfounded itself.
        left: in a pair that is deconfounded itself, the share of the Grams that is left, by cell:
            of the two taps the smaller one.
    """

    a: str
    b: str
    control: bool
    taps: tuple[Sequence[Tap], Sequence[Tap]]
    cells: Sampled
    matched: Sequence[tuple[int, int]]
    depths: Float64[np.ndarray, " point"]
    null: Null | None = None
    deconfounded: "Pair | None" = None
    left: Float64[np.ndarray, " cell"] | None = None

    @functools.cached_property
    def same(self) -> Sampled:
        """The CKA of the pairs of taps at the same relative depth."""
        return self.cells[self.same_cells]

    @property
    def there(self) -> "Pair | None":
        """The same two models at the cells alone at which deconfounded CKA is defined; None without
        deconfounded CKA."""
        if self.deconfounded is None:
            return None
        cells = self.cells.where(np.asarray(np.isfinite(self.deconfounded.cells.value)))
        return replace(self, cells=cells, deconfounded=None, null=None)

    @property
    def same_cells(self) -> Int[np.ndarray, " point"]:
        """The numbers of the cells of `same`."""
        columns = len(self.taps[1])
        return np.array([i * columns + j for i, j in self.matched])

    @property
    def name(self) -> str:
        """Both names with a dot between them, as in "mae · dino"."""
        return f"{self.a} · {self.b}"

    def at(self, depths: Float64[np.ndarray, " point"]) -> Sampled:
        """Return, for each relative depth, the CKA of the pair in `same` nearest to that depth; of
        equally near ones the first, which lies before it (`find_nearest`)."""
        return self.same[find_nearest(depths, self.depths)]

    def thirds(self) -> tuple[Sampled, Sampled]:
        """Return two means of `same`: over the last third of the depths, then over the first."""
        third = max(1, len(self.depths) // 3)
        order = np.argsort(self.depths, kind="stable")
        return self.same[order[-third:]].mean(), self.same[order[:third]].mean()


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """All compared pairs of models, for one choice of tokens and one kind of tap.

    Attributes:
        tokens: the tokens that the Grams are of: "all", "cls" or "patch".
        kind: what the taps compute, e.g. "block".
        by_names: each pair by (name of the first model, name of the second), in the order of the
            models.
    """

    tokens: str
    kind: str
    by_names: Mapping[tuple[str, str], Pair]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.by_names.values())

    @property
    def deconfounded(self) -> "Pairs | None":
        """The same pairs by deconfounded CKA; None without Grams of the pixels."""
        pairs = {names: pair.deconfounded for names, pair in self.by_names.items()}
        present = {names: pair for names, pair in pairs.items() if pair is not None}
        return replace(self, by_names=present) if present else None

    def find(self, a: str, b: str) -> Pair | None:
        """Return the pair of two models, in either order; None if they were not compared."""
        return self.by_names.get((a, b)) or self.by_names.get((b, a))

    def find_all(self, first: Iterable[str], second: Iterable[str]) -> list[Pair]:
        """Return all compared pairs of a model named in `first` and a model named in `second`."""
        pairs = [self.find(a, b) for a, b in itertools.product(first, second)]
        return [pair for pair in pairs if pair]


def compare_pairs(
    models: Models,
    grams: Mapping[str, Grams],
    tokens: str,
    kind: str,
    wanted: Callable[[str, str], bool] = lambda a, b: True,
    *,
    pixels: Grams | None = None,
    seed: int = 0,
    null: bool = False,
) -> Pairs:
    """Compare all models and controls that have taps of a kind with each other and with themselves.

    Args:
        models: the models and the controls, in their order.
        grams: the Grams of each model that has these tokens, by the model's name.
        tokens: the tokens that the Grams are of: "all", "cls" or "patch".
        kind: what the taps compute, e.g. "block".
        wanted: called with two names; pairs for which it returns False are left out.
        pixels: the Grams of the raw pixels (`find_pixels`), to which deconfounded CKA is due.
        seed: seed of the permutations.
        null: whether to run the permutation test for each pair of models under study.

    Raises:
        InputError: two models have not seen the same images in the same minibatches.
    """
    of_kind = {name: choose_kind(one, kind) for name, one in grams.items()}
    names = [name for name in models.names if name in of_kind and of_kind[name].taps]
    studied = [name for name in names if not models.is_control(name)]
    nulls: dict[tuple[str, str], Null] = {}
    if null and len(studied) > 1:
        permuted = compute_nulls(
            [of_kind[name] for name in studied], permutations=PERMUTATIONS, seed=seed
        )
        nulls = {(studied[i], studied[j]): one for (i, j), one in permuted.items()}
    beside = {name: compare_with_pixels(of_kind[name], pixels) for name in names if pixels}
    pairs = {}
    for a, b in itertools.combinations_with_replacement(names, 2):
        if wanted(a, b):
            control = models.is_control(a) or models.is_control(b)
            # a model is its own Grams: a comparison sees that by identity and halves its work
            pair = compare_pair((a, of_kind[a]), (b, of_kind[b]), control, nulls.get((a, b)))
            pairs[a, b] = deconfound_pair(pair, beside[a], beside[b]) if beside else pair
    return Pairs(tokens, kind, pairs)


def compare_pair(
    first: tuple[str, Grams],
    second: tuple[str, Grams],
    control: bool,
    null: Null | None = None,
) -> Pair:
    """Compare two models over all pairs of their taps.

    Args:
        first: name and Grams of the first model.
        second: name and Grams of the second model.
        control: whether at least one of the two models is a control.
        null: the permutation test of the two models, which is stored in the result.
    """
    (name_a, a), (name_b, b) = first, second
    cells = list(itertools.product(range(len(a.taps)), range(len(b.taps))))
    every = Sampled.of(Comparison.of(a, b), cells)
    longer = a if len(a.taps) >= len(b.taps) else b
    depths = np.array([tap.depth for tap in longer.taps])
    matched = match_depths(a, b)
    return Pair(name_a, name_b, control, (a.taps, b.taps), every, matched, depths, null)


def deconfound_pair(pair: Pair, own: Sampled, other: Sampled) -> Pair:
    """Put deconfounded CKA beside the CKA of two models.

    Args:
        pair: the two models.
        own, other: the CKA of the taps of the first and of the second model with the pixels.
    """
    rows, columns = (len(taps) for taps in pair.taps)
    first = own[np.repeat(np.arange(rows), columns)]
    second = other[np.tile(np.arange(columns), rows)]
    cells, left = deconfound(pair.cells, first, second)
    return replace(pair, deconfounded=replace(pair, cells=cells, left=left, null=None))


def choose_kind(grams: Grams, kind: str) -> Grams:
    """Select the taps of a kind; raw pixels have a single tap, which counts as every kind."""
    return grams.at("pixels" if any(tap.kind == "pixels" for tap in grams.taps) else kind)
