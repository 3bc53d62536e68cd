"""What a method of training is to the loop: the protocol, and what methods share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

from torch import Tensor, nn

#: what a method is given of the images of a part of a step: tensors by name, the first axis of each
#: being the image
Batch = Mapping[str, Tensor]
#: the times of a step at which a method may do more than the loop does
Hook = Literal["before_step", "before_update", "after_update"]
HOOKS: tuple[Hook, ...] = get_args(Hook)


@dataclass(frozen=True)
class Rows:
    """Which images of which step.

    Attributes:
        seed: of the run.
        step: its number, from 0.
        rows: the places of these images among those of the step.
        total: images of the step, over all processes.
        labels: numbers of these images' classes, where they have classes.
        numbers: of these images in their `ImageSet`, by which a task finds what it knows of each
            (boxes, captions); the loop always gives them.
    """

    seed: int
    step: int
    rows: slice
    total: int
    labels: tuple[int, ...] | None = None
    numbers: tuple[int, ...] | None = None

    def keywords(self) -> dict[str, Any]:
        """The random stream of the views, as keyword arguments of `sslens.data.views`."""
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
    this.

    A method may also have any of `HOOKS`, each a function of a `Moment`. A method that does nothing
    at one of these times has no function of that name:

    - `before_step` moves what must move before the loss: a momentum network, a temperature;
    - `before_update` changes the gradients of the whole minibatch, which are the same in all
      processes: clipping, freezing;
    - `after_update` lets what follows the weights follow them: a momentum network, a centre.
    """

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

    def forward(self, batch: Batch) -> Tensor:
        """The loss, a float32 scalar."""
        ...


def call_hook(method: object, hook: Hook, at: Moment) -> None:
    """Call a hook of a method, where the method has it.

    >>> class Method:
    ...     def after_update(self, at):
    ...         print(at.step)
    >>> call_hook(Method(), "before_step", Moment(3, 10, 5))
    >>> call_hook(Method(), "after_update", Moment(3, 10, 5))
    3
    """
    function = getattr(method, hook, None)
    if function is not None:
        function(at)


@runtime_checkable
class WholeBatch(Protocol):
    """A method whose loss contrasts the images of a minibatch: forward is loss(features, targets)
    of that minibatch.

    Features and targets treat each image by itself, so that they can be computed in parts; `loss`
    sees them all.
    """

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """What the trained trunk makes of each image's views."""
        ...

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """What the other trunk makes of them, without gradient."""
        ...

    def loss(self, features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """The loss of the minibatch, a float32 scalar."""
        ...
