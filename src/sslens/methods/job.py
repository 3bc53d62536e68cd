"""The description of a training: how the method is built, and how its weights are kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from sslens.data.transform import EvalTransform
from sslens.methods import Batch, Method
from sslens.methods.trivial import TrivialLoss
from sslens.models.about import About


def encoder_weights(method: Method) -> Mapping[str, Tensor]:
    """Return the weights of a method's encoder, by name."""
    return method.encoder.state_dict()


def accept_batch_size(batch_size: int, shares: int) -> None:
    """Accept every minibatch: the images of a step may be divided in any way."""


def find_no_trivial(labels: object, images: int) -> None:
    """Find no loss of a method that has learnt nothing."""


@final
@dataclass(frozen=True)
class TrainingJob:
    """The description of a training for the loop: an objective on an architecture, or a task on a
    pre-trained model.

    Attributes:
        verb: the kind of training, for people: "pre-training".
        name: the name of the method, for people.
        learner: the name of the objective or task, with which messages begin.
        network: the name of the architecture or model that is trained.
        settings: the method's settings, with the fields that the loop and the optimiser read
            (`sslens.objectives`).
        start: what `batch` must know of the network to make views (an architecture or a
            `StartingPoint`); the third argument of `batch`.
        batch: makes the views of some images; a pure function that can be sent to data workers.
        build: makes the method; its random weights come from the generator of the process.
        sketch: a method of the same shape for looking at only; its weights may be on the meta
            device.
        config: what decides the weights at the end besides settings, training and images, as plain
            JSON values.
        shape: the shape of the network that is kept, as `sslens.zoo.shapes.read` reads it.
        about: what is known of the network that is kept.
        transform: how images are prepared for the network that is kept.
        weights: selects from the method the weights that are kept.
        require_batch_size: called with a number of images and a number of shares; raises InputError
            where a step of so many images cannot be divided into so many shares.
        find_trivial: returns the loss of a method that has learnt nothing, from the labels of the
            images (or None) and the number of images in a step; None where it is not known.
        in_parts: another way to make the method's steps divisible, as the last words of an error
            message; empty where there is none.
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
    find_trivial: Callable[[Any, int], TrivialLoss | None] = find_no_trivial
    in_parts: str = ""
