"""What the loop knows of a training method: the protocols, and the types that they use."""

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
    """Says which images of which step a part of a minibatch holds.

    Attributes:
        seed: the seed of the run.
        step: the number of the step, from 0.
        rows: the positions of these images among all images of the step.
        total: the number of images in the step, over all processes.
        labels: the class numbers of these images; None where the images have no classes.
        numbers: the row of each image in its `ImageSet`, by which a task looks up what it knows of
            the image (boxes, captions); the loop always gives them.
    """

    seed: int
    step: int
    rows: slice
    total: int
    labels: tuple[int, ...] | None = None
    numbers: tuple[int, ...] | None = None

    def keywords(self) -> dict[str, Any]:
        """The arguments `seed`, `step`, `rows` and `total` that decide the random views of
        `sslens.data.views`."""
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
    """A module that computes the loss of a minibatch in `forward`; the loop knows no more of a
    method.

    A method may also have any of `HOOKS`, each a function of a `Moment`. A method that does nothing
    at one of these times has no function of that name:

    - `before_step` moves what must move before the loss: a momentum network, a temperature;
    - `before_update` changes the gradients of the whole minibatch, which are the same in all
      processes: clipping, freezing;
    - `after_update` moves what follows the weights: a momentum network, a centre.
    """

    #: the loss of an image depends on the other images of the minibatch; such a method is a
    #: `WholeBatch`
    whole_batch: ClassVar[bool]

    @property
    def divisible(self) -> bool:
        """Whether a step can be computed in parts. It cannot where the trunk's features of an image
        depend on the other images."""
        ...

    @property
    def encoder(self) -> nn.Module:
        """The network that is kept after the training."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters in groups, as an optimiser takes them; a group has `weight_decay`
        where its decay differs from the one that `rates` returns."""
        ...

    def rates(self, at: Moment, peak: float) -> tuple[float, float]:
        """Return the learning rate and the weight decay of a step.

        Args:
            at: the step.
            peak: the base learning rate, scaled to the minibatch.
        """
        ...

    def forward(self, batch: Batch) -> Tensor:
        """Compute the loss, a float32 scalar."""
        ...


def call_hook(method: object, hook: Hook, at: Moment) -> None:
    """Call a hook of a method if the method has it, else do nothing.

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
    """A method with a loss that contrasts the images of a minibatch; its `forward` is
    loss(features, targets).

    `features` and `targets` treat each image by itself, so that they can be computed in parts;
    `loss` gets the features and targets of the whole minibatch.
    """

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the trained trunk's features of each image's views, one tensor per name, the
        image first."""
        ...

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """Compute, without gradient, the other trunk's features of each image's views."""
        ...

    def loss(self, features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Compute the loss of the minibatch, a float32 scalar."""
        ...
