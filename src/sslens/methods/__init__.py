"""What a method of training is to the loop: the protocol, and what methods share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True)
class Rows:
    """Which images of which step: `total` of them in the step, over all processes, of which these
    are `rows`.

    `labels` are the numbers of these images' classes, where they have classes.
    """

    seed: int
    step: int
    rows: slice
    total: int
    labels: tuple[int, ...] | None = None

    def keywords(self) -> dict[str, Any]:
        """As keyword arguments of `sslens.data.views`."""
        return {"seed": self.seed, "step": self.step, "rows": self.rows, "total": self.total}


@dataclass(frozen=True)
class Moment:
    """A step of a training, counted from 0.

    >>> at = Moment(step=25, steps=100, per_epoch=10)
    >>> at.progress, at.epoch
    (0.25, 2)
    """

    step: int
    steps: int
    per_epoch: int

    @property
    def progress(self) -> float:
        """The share of the training that is done, 0 to below 1."""
        return self.step / self.steps

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.per_epoch


@runtime_checkable
class Method(Protocol):
    """A module whose forward is the loss of a minibatch; the loop knows no more of a method than
    this."""

    #: the loss of an image depends on the other images of the minibatch; such a method is a
    #: `WholeBatch`
    whole_batch: ClassVar[bool]

    @property
    def divisible(self) -> bool:
        """Whether a step can be computed in parts; not where the trunk's features of an image
        depend on the other images."""
        ...

    @property
    def encoder(self) -> nn.Module:
        """The network that is kept."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, with `weight_decay` where it is not that of `rates`."""
        ...

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Learning rate and weight decay of a step; `peak` is the base learning rate scaled to the
        minibatch."""
        ...

    def before_step(self, at: Moment) -> None:
        """What moves before the loss: a momentum network, a temperature."""
        ...

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss, a float32 scalar."""
        ...

    def before_update(self, at: Moment) -> None:
        """What is done to the gradients of the whole minibatch, which are the same in all
        processes: clipping, freezing."""
        ...

    def after_update(self, at: Moment) -> None:
        """What follows the updated weights: a momentum network, a centre."""
        ...


@runtime_checkable
class WholeBatch(Protocol):
    """A method whose loss contrasts the images of a minibatch: forward is loss(features, targets)
    of that minibatch.

    Features and targets treat each image by itself, so that they can be computed in parts; `loss`
    sees them all.
    """

    def features(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the trained trunk makes of each image's views."""
        ...

    def targets(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the other trunk makes of them, without gradient."""
        ...

    def loss(self, features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """The loss of the minibatch, a float32 scalar."""
        ...
