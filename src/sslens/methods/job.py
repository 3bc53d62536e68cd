"""What a training is given: a method before it is built, and what becomes of its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from sslens.data.transform import EvalTransform
from sslens.methods import Batch, Method
from sslens.models.about import About


def encoder_weights(method: Method) -> Mapping[str, Tensor]:
    """The weights of a method's encoder, by name."""
    return method.encoder.state_dict()


def accept_batch_size(batch_size: int, shares: int) -> None:
    """Refuse nothing: the images of a step may be shared out in any numbers."""


@final
@dataclass(frozen=True)
class TrainingJob:
    """A method that is going to be trained: an objective on an architecture, or a task on a
    pre-trained model.

    Attributes:
        verb: what is done, for people: "pre-training".
        name: of the method, for people.
        learner: name of the objective or of the task, which messages begin with.
        network: name of the architecture or of the model that is trained.
        settings: with what the loop and the optimiser read (`sslens.objectives`).
        start: the third argument of `batch`: what making views takes to know of the network.
        batch: makes the views, a pure function that data workers can be sent.
        build: makes the method; what is random in it comes from the process' generator.
        sketch: the method for looking at alone; its weights may be on the meta device.
        config: what decides the weights at the end besides settings, training and images, as plain
            JSON values.
        shape: of the network that is kept, as `sslens.zoo.shapes.read` takes it.
        about: what is known of the network that is kept.
        transform: how images are prepared for the network that is kept.
        weights: takes from the method the weights that are kept.
        require_batch_size: refuses a number of images of a step that cannot be divided into so many
            shares.
        in_parts: what else would make the method's steps divisible, as the end of a mend.
    """

    verb: str
    name: str
    learner: str
    network: str
    settings: Any
    start: Any
    batch: Callable[..., Batch]
    build: Callable[[], Method]
    sketch: Method
    config: Mapping[str, Any]
    shape: Mapping[str, Any]
    about: About
    transform: EvalTransform
    weights: Callable[[Any], Mapping[str, Tensor]] = encoder_weights
    require_batch_size: Callable[[int, int], None] = accept_batch_size
    in_parts: str = ""
