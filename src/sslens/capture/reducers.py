"""Streaming reducers: what a pass makes of the outputs of the taps, one minibatch at a time.

A reducer turns the output of a tap on a minibatch into something small: `GramReducer` into the
mean-centred n × n Gram of the flattened features, `FeatureReducer` into pooled vectors,
`WideGramReducer` into the Gram of several minibatches joined.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from sslens.capture.features import Features
from sslens.capture.gram import centred_gram
from sslens.capture.grams import Grams
from sslens.capture.manifest import column_of
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.store import scratch

#: images over which a wide Gram reaches, and taps of which wide Grams are made: as in the papers'
#: figure on convergence
WIDTH, DRAWN = 1024, 10
#: bytes of a tap's features above which they wait on disk until a wide Gram is made of them
IN_MEMORY = 2**28


def choose_tokens(
    output: Float[Tensor, "image ..."], prefix: int | None, tokens: str
) -> Tensor | None:
    """All tokens, the CLS token or the patch tokens of a tap's output; None where the output has no
    such tokens."""
    if tokens == "all":
        return output
    if output.ndim != 3 or not prefix:
        return None
    return output[:, 0] if tokens == "cls" else output[:, prefix:]


Noun = TypeVar("Noun", covariant=True)


@runtime_checkable
class Reducer(Protocol[Noun]):
    """What a pass makes of the outputs of the taps, one minibatch at a time."""

    kind: ClassVar[str]
    version: ClassVar[int]

    def settings(self) -> dict[str, Any]:
        """What decides the result, plain JSON values."""
        ...

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Those of the taps that this reducer can read."""
        ...

    def together(self, plan: Plan) -> int:
        """How many consecutive minibatches one process must see: 1, but for a reducer that joins
        them."""
        ...

    def start(
        self, model: Backbone, taps: Sequence[Tap], plan: Plan
    ) -> Callable[[Tap, Tensor, int], None]:
        """Begin a pass; returns what takes a tap's output on the minibatch of a number, called in
        rising order."""
        ...

    def result(self) -> dict[str, Tensor]:
        """The tensors to keep, zero where they depend on minibatches that were not seen; it can be
        started again."""
        ...

    def noun(
        self,
        model: str,
        ids: tuple[str, ...],
        taps: tuple[Tap, ...],
        tensors: Mapping[str, Tensor],
        key: Mapping[str, Any],
    ) -> Noun:
        """What the tensors are of: Grams or Features."""
        ...


@final
class GramReducer:
    """Per tap and minibatch the mean-centred n × n Gram of the flattened features, float32: `grams
    [tap batch n n]`.

    A minibatch shorter than the others is padded with zeros (`sizes [batch]` says how many rows are
    real), which no measure sees. `energy [tap batch]` is n‖μ‖², what the centring took away, by
    which a constant tap is known. `tokens` is "all" (the papers' choice), "cls" or "patch".
    """

    kind: ClassVar[str] = "grams"
    version: ClassVar[int] = 1

    def __init__(self, tokens: str = "all") -> None:
        self.tokens = tokens

    def settings(self) -> dict[str, Any]:
        return {"tokens": self.tokens}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        return tuple(taps) if self.tokens == "all" or model.prefix else ()

    def together(self, plan: Plan) -> int:
        return 1

    def start(
        self, model: Backbone, taps: Sequence[Tap], plan: Plan
    ) -> Callable[[Tap, Tensor, int], None]:
        n = max(plan.sizes)
        row = {tap.name: i for i, tap in enumerate(taps)}
        self._grams = torch.zeros(len(taps), len(plan.sizes), n, n)
        self._energy = torch.zeros(len(taps), len(plan.sizes), dtype=torch.float64)
        self._sizes = torch.zeros(len(plan.sizes), dtype=torch.int64)

        def add(tap: Tap, output: Tensor, batch: int) -> None:
            self._sizes[batch] = len(output)
            chosen = choose_tokens(output, model.prefix, self.tokens)
            if chosen is not None:
                gram, energy = centred_gram(chosen.flatten(1))
                size = len(gram)
                self._grams[row[tap.name], batch, :size, :size] = gram.float().cpu()
                self._energy[row[tap.name], batch] = energy.cpu()

        return add

    def result(self) -> dict[str, Tensor]:
        return {"grams": self._grams, "energy": self._energy, "sizes": self._sizes}

    def noun(
        self,
        model: str,
        ids: tuple[str, ...],
        taps: tuple[Tap, ...],
        tensors: Mapping[str, Tensor],
        key: Mapping[str, Any],
    ) -> Grams:
        return Grams(model, ids, taps, tensors["grams"], tensors["energy"], tensors["sizes"], key)


@final
class FeatureReducer:
    """Per tap the CLS token, the mean of all tokens and the mean of the patch tokens: `TAP/POOLING
    [image dim]`, float32.

    Maps of a CNN have the mean over places, other outputs one pooling, "flat". Rows are in the
    order of the plan.
    """

    kind: ClassVar[str] = "features"
    version: ClassVar[int] = 1

    def __init__(self, kinds: Sequence[str] = ("block", "norm", "pixels")) -> None:
        self.kinds = tuple(kinds)

    def settings(self) -> dict[str, Any]:
        return {"kinds": list(self.kinds)}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        return tuple(tap for tap in taps if tap.kind in self.kinds)

    def together(self, plan: Plan) -> int:
        return 1

    def start(
        self, model: Backbone, taps: Sequence[Tap], plan: Plan
    ) -> Callable[[Tap, Tensor, int], None]:
        self._features: dict[str, Tensor] = {}
        starts = np.cumsum([0, *plan.sizes])

        def add(tap: Tap, output: Tensor, batch: int) -> None:
            for pooling, vectors in pooled(output, model.prefix).items():
                key = f"{tap.name}/{pooling}"
                if key not in self._features:
                    self._features[key] = torch.zeros(int(starts[-1]), vectors.shape[1])
                self._features[key][starts[batch] : starts[batch + 1]] = vectors.float().cpu()

        return add

    def result(self) -> dict[str, Tensor]:
        return self._features

    def noun(
        self,
        model: str,
        ids: tuple[str, ...],
        taps: tuple[Tap, ...],
        tensors: Mapping[str, Tensor],
        key: Mapping[str, Any],
    ) -> Features:
        columns = {column_of(name): values for name, values in tensors.items()}
        return Features.of(columns, ids=ids, taps=taps, model=model, key=key)


@final
class WideGramReducer:
    """Per tap the Grams over up to 1,024 images, joined from consecutive minibatches: `grams [tap
    group n n]`, as `GramReducer` has them.

    The blocks on the diagonal of such a Gram are those of its minibatches but for the mean about
    which they are centred, to which unbiased HSIC is blind: so one pass gives CKA at every size of
    minibatch up to `width`. All tokens, of ten taps drawn by the seed (the same for models of one
    length), since the features of a whole group must be kept.
    """

    kind: ClassVar[str] = "wide"
    version: ClassVar[int] = 1

    def __init__(self, width: int = WIDTH, drawn: int = DRAWN, seed: int = 0) -> None:
        self.width, self.drawn, self.seed = width, drawn, seed

    def settings(self) -> dict[str, Any]:
        return {"tokens": "all", "width": self.width, "drawn": self.drawn, "seed": self.seed}

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        rows = np.random.default_rng(self.seed).permutation(len(taps))[: self.drawn]
        return tuple(taps[row] for row in sorted(rows))

    def together(self, plan: Plan) -> int:
        return max(1, self.width // plan.sizes[0])

    def start(
        self, model: Backbone, taps: Sequence[Tap], plan: Plan
    ) -> Callable[[Tap, Tensor, int], None]:
        joined = self.together(plan)
        groups = [plan.sizes[first : first + joined] for first in range(0, len(plan.sizes), joined)]
        n = max(sum(group) for group in groups)
        row = {tap.name: i for i, tap in enumerate(taps)}
        self._grams = torch.zeros(len(taps), len(groups), n, n)
        self._energy = torch.zeros(len(taps), len(groups), dtype=torch.float64)
        self._sizes = torch.zeros(len(groups), dtype=torch.int64)
        waiting: dict[str, Tensor] = {}

        def add(tap: Tap, output: Tensor, batch: int) -> None:
            group, place = divmod(batch, joined)
            sizes, x = groups[group], output.flatten(1)
            if place == 0:
                waiting[tap.name] = _kept(sum(sizes), x.shape[1])
            start = sum(sizes[:place])
            waiting[tap.name][start : start + len(x)] = x
            if place == len(sizes) - 1:
                gram, energy = centred_gram(waiting.pop(tap.name), x.device)
                self._sizes[group] = len(gram)
                self._grams[row[tap.name], group, : len(gram), : len(gram)] = gram.float().cpu()
                self._energy[row[tap.name], group] = energy.cpu()

        return add

    def result(self) -> dict[str, Tensor]:
        return {"grams": self._grams, "energy": self._energy, "sizes": self._sizes}

    def noun(
        self,
        model: str,
        ids: tuple[str, ...],
        taps: tuple[Tap, ...],
        tensors: Mapping[str, Tensor],
        key: Mapping[str, Any],
    ) -> Grams:
        return Grams(model, ids, taps, tensors["grams"], tensors["energy"], tensors["sizes"], key)


def _kept(images: int, features: int) -> Float32[Tensor, "image feature"]:
    """Room for features until they are multiplied: in memory, or on disk where they are large."""
    if 4 * images * features <= IN_MEMORY:
        return torch.empty(images, features)
    return torch.from_numpy(scratch((images, features), "float32"))


def pooled(
    output: Float[Tensor, "image ..."], prefix: int | None
) -> dict[str, Float[Tensor, "image dim"]]:
    """A tap's output as vectors, by pooling: "cls", "mean" (of all tokens, or places of a map),
    "patch" (mean of the patch tokens), or "flat".

    >>> {k: v.tolist() for k, v in pooled(torch.tensor([[[1.0], [3.0], [8.0]]]), prefix=1).items()}
    {'cls': [[1.0]], 'mean': [[4.0]], 'patch': [[5.5]]}
    """
    if output.ndim == 4:
        return {"mean": output.mean((2, 3))}
    if output.ndim != 3:
        return {"flat": output.flatten(1)}
    poolings = {"mean": output.mean(1)}
    if prefix:
        poolings = {"cls": output[:, 0], **poolings, "patch": output[:, prefix:].mean(1)}
    return poolings
