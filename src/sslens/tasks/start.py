"""What a task takes over from the pre-trained model with which it begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from sslens import cards
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models.about import Origin
from sslens.models.backbone import Backbone
from sslens.models.branches import count_branches
from sslens.zoo.shapes import describe_network


@final
@dataclass(frozen=True)
class StartingPoint:
    """The facts about a pre-trained model that are needed to make views for it; small enough to
    send to data workers.

    Attributes:
        name: the name of the model's architecture.
        transform: how images are prepared for the model.
        branches: the number of residual branches in the model.
    """

    name: str
    transform: EvalTransform
    branches: int

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the model sees."""
        return self.transform.crop

    @classmethod
    def of(cls, model: Backbone) -> "StartingPoint":
        """Return the starting point of a model.

        Raises:
            InputError: the model is raw pixels, which have no weights to train.
        """
        if model.prefix is None and not any(True for _ in model.network.parameters()):
            raise InputError(
                f"{model.name} has no weights that could be fine-tuned", mend="give a network"
            )
        return cls(str(model.about.arch), model.transform, count_branches(model.network))


def origin(model: Backbone) -> Origin:
    """Return the name, source and digest of the model with which a training began."""
    return Origin(model.name, model.source, model.digest)


def describe_shape(model: Backbone, encoder: nn.Module) -> Mapping[str, Any]:
    """Describe the shape of a network that was fine-tuned from a model's, as
    `sslens.zoo.shapes.read` reads it; for a model of timm's the shape is timm's name.

    Args:
        model: the model with which the fine-tuning began.
        encoder: the fine-tuned network.

    Raises:
        InputError: the model has no name or shape by which its network could be built again.
    """
    card = cards.look_up(model.source)
    source, arch = model.source if card is None else card.source or "", model.about.arch
    if source.startswith("hf-hub:"):
        raise InputError(
            f"{source} has no name by which its network could be built again",
            mend="fine-tune the model of its file, or of timm:NAME",
        )
    if source.startswith("timm:"):
        arch = f"timm/{source.removeprefix('timm:').partition('.')[0]}"
    return describe_network(encoder, arch, model.name)
