"""What the loop trains, however it began: an objective on an architecture, or a pre-trained model
that is fine-tuned."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from torch import Tensor

from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform
from sslens.find import plugin
from sslens.methods import Method
from sslens.models.about import About
from sslens.models.arch import parse
from sslens.training.labels import with_classes
from sslens.training.schedule import Schedule, Training, plan
from sslens.zoo.preparing import transform


def encoder_alone(method: Method) -> Mapping[str, Tensor]:
    """The weights of a method's encoder."""
    return method.encoder.state_dict()


@final
@dataclass(frozen=True)
class Subject:
    """A method before its training.

    Attributes:
        verb: what is done, for people.
        name: of the objective, for people.
        settings: with what the loop and the optimiser read (`sslens.objectives`).
        shape: what `batch` is given as the arch.
        batch: makes the views, a pure function that data workers can be sent.
        build: makes the method; what is random in it comes from the process' generator.
        plan: the steps of a run on so many images, by a training and in so many processes, or why
            there can be none.
        config: what decides the weights at the end besides settings, training and images, as plain
            JSON values.
        header: shape of what is kept, as `sslens.zoo.shapes.read` takes it.
        about: what is known of it.
        transform: how its images are prepared when it is looked at.
        weights: what is kept of it.
    """

    verb: str
    name: str
    settings: Any
    shape: Any
    batch: Callable[..., Mapping[str, Tensor]]
    build: Callable[[], Method]
    plan: Callable[[int, Training, int], Schedule]
    config: Mapping[str, Any]
    header: Mapping[str, Any]
    about: About
    transform: EvalTransform
    weights: Callable[[Any], Mapping[str, Tensor]] = encoder_alone


def pretrained_by(objective: str, arch: str, settings: Any, images: ImageSet) -> Subject:
    """An objective on an architecture, by their names; its default settings for None.

    Raises:
        InputError: there is none of that name; images without classes for an objective that learns
            them.
    """
    module, shape = plugin("objectives", objective), parse(arch)
    chosen = with_classes(objective, module.Settings() if settings is None else settings, images)

    def planned(count: int, training: Training, world: int) -> Schedule:
        return plan(objective, count, arch, chosen, training, world)

    said = {"objective": objective, "arch": arch}
    return Subject(
        verb="pre-training",
        name=objective,
        settings=chosen,
        shape=shape,
        batch=module.batch,
        build=lambda: module.Objective(shape, chosen),
        plan=planned,
        config=said,
        header=asdict(shape),
        about=About(family=module.FAMILY, objective=objective, arch=arch),
        transform=transform(shape.image_size),
    )
