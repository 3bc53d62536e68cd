"""What a pass makes of the outputs of the taps, one minibatch at a time.

A reducer says what is wanted: `GramReducer` the mean-centred n × n Gram of each minibatch,
`WideGramReducer` the Grams of several minibatches joined, `FeatureReducer` pooled vectors. It
looks its result up in the store, or starts an accumulator, which takes what the taps put out and
keeps the result.
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
    """Takes the outputs of the taps, one minibatch at a time, and makes the result of them."""

    @property
    def minibatches(self) -> Sequence[int]:
        """The numbers of the minibatches that it needs, rising."""
        ...

    @property
    def together(self) -> int:
        """How many consecutive minibatches one process must see: 1, but where they are joined."""
        ...

    def add(self, tap: Tap, output: Tensor, batch: int) -> None:
        """Take a tap's output on the minibatch of a number; called in rising order."""
        ...

    def finish(self) -> Noun:
        """The result over all processes, which is now in the store if there is one."""
        ...


@runtime_checkable
class Reducer(Protocol[Noun]):
    """What is wanted of a pass: Grams or Features."""

    kind: ClassVar[str]

    def settings(self) -> Mapping[str, Any]:
        """What decides the result beside the pass: plain JSON values."""
        ...

    def taps(self, model: Backbone, taps: Sequence[Tap]) -> tuple[Tap, ...]:
        """Those of the taps that this reducer can read."""
        ...

    def has(self, request: PassRequest, store: Store) -> bool:
        """Whether the store has the result."""
        ...

    def find(self, request: PassRequest, store: Store) -> Noun | None:
        """The result, if the store has it."""
        ...

    def start(self, request: PassRequest, store: Store | None) -> Accumulator[Noun]:
        """Begin a pass, the result of which is kept in the store if there is one."""
        ...
