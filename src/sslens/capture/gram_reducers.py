"""Grams of each minibatch, and of several minibatches joined."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from sslens.capture.gram import centred_gram
from sslens.capture.grams import Grams
from sslens.capture.keys import PassRequest
from sslens.capture.pooling import choose_tokens
from sslens.capture.sharing import sum_over_processes, this_process
from sslens.errors import InputError, Mishap
from sslens.models.backbone import Backbone
from sslens.models.taps import ON_REQUEST, Tap
from sslens.plan import Plan
from sslens.store import Store, scratch

TOKENS = ("all", "cls", "patch")
#: images over which a wide Gram reaches, and taps of which wide Grams are made: as in the papers'
#: figure on convergence
WIDTH, DRAWN = 1024, 10
#: bytes of a tap's features above which they wait on disk until a wide Gram is made of them
IN_MEMORY = 2**28


@final
@dataclass(frozen=True)
class GramReducer:
    """Asks a pass for the mean-centred n × n Gram of the flattened features, for each tap and
    minibatch.

    A minibatch shorter than the others is padded with zeros, which no measure reads.

    Args:
        tokens: which tokens are flattened: "all" (flattened), "cls" or "patch".
        kinds: the kinds of the taps that are read; all kinds unless given.

    Raises:
        InputError: `tokens` is none of these.
    """

    kind: ClassVar[str] = "grams"
    version: ClassVar[int] = 1
    tokens: str = "all"
    kinds: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.tokens not in TOKENS:
            raise InputError(f'There are no tokens "{self.tokens}": expected all, cls or patch.')

    def settings(self) -> Mapping[str, str | list[str]]:
        """The settings that decide the result, besides the pass itself."""
        kinds = {} if self.kinds is None else {"kinds": list(self.kinds)}
        return {"tokens": self.tokens, **kinds}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Return all taps of the kinds that have such tokens."""
        return tuple(
            tap
            for tap in taps
            if (self.kinds is None or tap.kind in self.kinds) and model.has_tokens(tap, self.tokens)
        )

    def has(self, request: PassRequest, store: Store) -> bool:
        """Whether the store has the Grams."""
        return store.has(self.kind, request.key(self.kind, self.version, self.settings()))

    def find(self, request: PassRequest, store: Store) -> Grams | None:
        """Return the Grams, or None where the store lacks them."""
        return _read(
            store, self.kind, request, request.key(self.kind, self.version, self.settings())
        )

    def start(self, request: PassRequest, store: Store | None) -> "GramAccumulator":
        """Begin a pass."""
        key = request.key(self.kind, self.version, self.settings())
        return GramAccumulator(request, self.tokens, _Keeper(self.kind, key, store))


@final
@dataclass(frozen=True)
class WideGramReducer:
    """Asks a pass for Grams over up to 1,024 images, each over several consecutive minibatches
    joined.

    The blocks on the diagonal of a wide Gram are the Grams of its minibatches, but centred about
    another mean; unbiased HSIC does not depend on that mean. So one pass gives CKA at every
    minibatch size up to `width`. All tokens are used. Since the features of a whole group of
    minibatches must be kept, only ten taps are read; the seed draws them, and draws the same ones
    for models with as many taps.
    """

    kind: ClassVar[str] = "wide"
    version: ClassVar[int] = 1
    width: int = WIDTH
    drawn: int = DRAWN
    seed: int = 0

    def settings(self) -> dict[str, str | int]:
        """The settings that decide the result, besides the pass itself."""
        return {"tokens": "all", "width": self.width, "drawn": self.drawn, "seed": self.seed}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Return the ten taps that the seed draws; none that is read on request."""
        usual = [tap for tap in taps if tap.kind not in ON_REQUEST]
        rows = np.random.default_rng(self.seed).permutation(len(usual))[: self.drawn]
        return tuple(usual[row] for row in sorted(rows))

    def has(self, request: PassRequest, store: Store) -> bool:
        """Whether the store has the Grams."""
        return store.has(self.kind, request.key(self.kind, self.version, self.settings()))

    def find(self, request: PassRequest, store: Store) -> Grams | None:
        """Return the Grams, or None where the store lacks them."""
        return _read(
            store, self.kind, request, request.key(self.kind, self.version, self.settings())
        )

    def start(self, request: PassRequest, store: Store | None) -> "WideGramAccumulator":
        """Begin a pass."""
        key = request.key(self.kind, self.version, self.settings())
        return WideGramAccumulator(request, self.width, _Keeper(self.kind, key, store))


def _read(store: Store, kind: str, request: PassRequest, key: Mapping[str, Any]) -> Grams | None:
    tensors = store.read(kind, key)
    if tensors is None:
        return None
    blocks, energy, sizes = (tensors[name] for name in ("grams", "energy", "sizes"))
    return Grams(request.model.name, request.plan.ids, request.taps, blocks, energy, sizes, key)


@dataclass(frozen=True)
class _Keeper:
    """Where Grams are kept, and under which key."""

    kind: str
    key: Mapping[str, Any]
    store: Store | None

    def keep(self, part: Grams) -> Grams:
        """The Grams over all processes, written by the first."""
        tensors = {"grams": part.blocks, "energy": part.energy, "sizes": part.sizes}
        tensors = sum_over_processes(tensors)
        if self.store is not None and this_process()[0] == 0:
            self.store.write(self.kind, self.key, tensors)
        blocks, energy, sizes = (tensors[name] for name in ("grams", "energy", "sizes"))
        return replace(part, blocks=blocks, energy=energy, sizes=sizes)


def _empty(request: PassRequest, batches: int, n: int, key: Mapping[str, Any]) -> Grams:
    """Grams of zeros, which are zero where a process saw nothing."""
    taps = len(request.taps)
    return Grams(
        request.model.name,
        request.plan.ids,
        request.taps,
        torch.zeros(taps, batches, n, n),
        torch.zeros(taps, batches, dtype=torch.float64),
        torch.zeros(batches, dtype=torch.int64),
        key,
    )


@final
class GramAccumulator:
    """Computes the Gram of each tap's output in the course of a pass."""

    together = 1

    def __init__(self, request: PassRequest, tokens: str, keeper: _Keeper) -> None:
        sizes = request.plan.sizes
        self.minibatches = range(len(sizes))
        self._grams = _empty(request, len(sizes), max(sizes), keeper.key)
        self._row = {tap.name: row for row, tap in enumerate(request.taps)}
        self._model, self._tokens, self._keeper = request.model, tokens, keeper
        self._request = request

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on minibatch number `batch`."""
        self._grams.sizes[batch] = len(output)
        chosen = choose_tokens(output, self._model.output_of(tap), self._tokens)
        if chosen is not None:
            gram, energy = centred_gram(chosen.flatten(1))
            row, size = self._row[tap.name], len(gram)
            self._grams.blocks[row, batch, :size, :size] = gram.float().cpu()
            self._grams.energy[row, batch] = energy.cpu()
            if not math.isfinite(self._grams.energy[row, batch]):
                require_finite(self._request, tap, chosen, self._request.plan.minibatches[batch])

    def finish(self) -> Grams:
        """Return the Grams of all processes together."""
        return self._keeper.keep(self._grams)


@final
class WideGramAccumulator:
    """Keeps each tap's features until a group of minibatches is complete, then computes their
    Gram."""

    def __init__(self, request: PassRequest, width: int, keeper: _Keeper) -> None:
        self.minibatches = range(len(request.plan.sizes))
        self.together = count_joined_minibatches(request.plan, width)
        self._groups = [
            request.plan.sizes[first : first + self.together]
            for first in range(0, len(request.plan.sizes), self.together)
        ]
        n = max(sum(group) for group in self._groups)
        self._grams = _empty(request, len(self._groups), n, keeper.key)
        self._row = {tap.name: row for row, tap in enumerate(request.taps)}
        self._waiting: dict[str, Tensor] = {}
        self._keeper, self._request = keeper, request

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on minibatch number `batch`."""
        group, place = divmod(batch, self.together)
        sizes, x = self._groups[group], output.flatten(1)
        if place == 0:
            self._waiting[tap.name] = _room(sum(sizes), x.shape[1])
        start = sum(sizes[:place])
        self._waiting[tap.name][start : start + len(x)] = x
        if not math.isfinite(x.sum(dtype=torch.float64)):
            require_finite(self._request, tap, x, self._request.plan.minibatches[batch])
        if place == len(sizes) - 1:
            gram, energy = centred_gram(self._waiting.pop(tap.name), x.device)
            row, size = self._row[tap.name], len(gram)
            self._grams.sizes[group] = size
            self._grams.blocks[row, group, :size, :size] = gram.float().cpu()
            self._grams.energy[row, group] = energy.cpu()

    def finish(self) -> Grams:
        """Return the Grams of all processes together."""
        return self._keeper.keep(self._grams)


def require_finite(
    request: PassRequest, tap: Tap, values: Float[Tensor, "image ..."], ids: Sequence[str]
) -> None:
    """Refuse features that are not finite: CKA of a tap that overflows would be nan, as of a tap
    that gives the same output for every image.

    Args:
        request: the pass.
        tap: the tap.
        values: its output for the images of a minibatch.
        ids: the images' ids.

    Raises:
        Mishap: a value is infinite or no number; the message names the tap and the first image.
    """
    bad = (~values.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
    if not bad:
        return
    more = f" and {len(bad) - 1} more of its minibatch" if len(bad) > 1 else ""
    where = f"{request.model.name} at {tap.name} are not finite for the image {ids[bad[0]]}{more}"
    if request.precision == "float16":
        raise Mishap(
            f"The outputs of {where}: the forward pass overflows in float16, which ends at 65,504",
            mend="give {precision=bfloat16}, which reaches as far as float32, or"
            " {precision=float32}",
        )
    raise Mishap(
        f"The outputs of {where}: the model is broken there, or its forward pass overflows in"
        f" {request.precision}."
    )


def count_joined_minibatches(plan: Plan, width: int) -> int:
    """Return how many minibatches are joined into one wide Gram.

    >>> count_joined_minibatches(Plan.draw([str(i) for i in range(2048)]), width=1024)
    32
    """
    return max(1, width // plan.sizes[0])


def _room(images: int, features: int) -> Float32[Tensor, "image feature"]:
    """Room for features until they are multiplied: in memory, or on disk where they are large."""
    if 4 * images * features <= IN_MEMORY:
        return torch.empty(images, features)
    return torch.from_numpy(scratch((images, features), "float32"))
