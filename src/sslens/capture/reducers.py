"""Reducers and accumulators: how a pass turns the outputs of taps into results, one minibatch at a
time.

A reducer says which result is wanted: `GramReducer` the mean-centred n × n Gram of each minibatch,
`WideGramReducer` the Grams of several minibatches joined, `FeatureReducer` pooled vectors. It looks
for the result in the store. If the result is not there, the reducer starts an accumulator, which
takes the taps' outputs and keeps the result.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from sslens.capture.keys import PassRequest
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.store import Store

Noun = TypeVar("Noun", covariant=True)


@runtime_checkable
class Accumulator(Protocol[Noun]):
    """Takes the outputs of taps, one minibatch at a time, and computes a result from them."""

    @property
    def minibatches(self) -> Sequence[int]:
        """The numbers of the minibatches that the accumulator needs, in rising order."""
        ...

    @property
    def together(self) -> int:
        """How many consecutive minibatches must go to the same process: 1, except for joined
        minibatches."""
        ...

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on minibatch number `batch`; the numbers rise from call to call."""
        ...

    def finish(self) -> Noun:
        """Return the result over all processes, after writing it to the store if there is one."""
        ...


@runtime_checkable
class Reducer(Protocol[Noun]):
    """Says which result is wanted from a pass: Grams or Features."""

    kind: ClassVar[str]

    def settings(self) -> Mapping[str, Any]:
        """The settings that decide the result, besides the pass itself, as plain JSON values."""
        ...

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Return those of the taps that this reducer reads."""
        ...

    def has(self, request: PassRequest, store: Store) -> bool:
        """Whether the store has the result."""
        ...

    def find(self, request: PassRequest, store: Store) -> Noun | None:
        """Return the result, or None where the store lacks it."""
        ...

    def start(self, request: PassRequest, store: Store | None) -> Accumulator[Noun]:
        """Begin a pass; its result is kept in the store if there is one."""
        ...
