"""What a task takes over from the pre-trained model that it begins with."""

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
from sslens.zoo.shapes import written


@final
@dataclass(frozen=True)
class StartingPoint:
    """What making views takes to know of a pre-trained model.

    Attributes:
        name: of the model's architecture.
        transform: how the model's images are prepared.
        branches: number of the model's residual branches.
    """

    name: str
    transform: EvalTransform
    branches: int

    @property
    def image_size(self) -> int:
        """Side of the images that the model sees."""
        return self.transform.crop

    @classmethod
    def of(cls, model: Backbone) -> "StartingPoint":
        """The starting point that a model is.

        Raises:
            InputError: the control of raw pixels, which has nothing to train.
        """
        if model.prefix is None and not any(True for _ in model.network.parameters()):
            raise InputError(
                f"{model.name} has no weights that could be fine-tuned", mend="give a network"
            )
        return cls(str(model.about.arch), model.transform, count_branches(model.network))


def origin(model: Backbone) -> Origin:
    """The model that a training began with, as the headers of files say it."""
    return Origin(model.name, model.source, model.digest)


def describe_shape(model: Backbone, encoder: nn.Module) -> Mapping[str, Any]:
    """The shape of a network that was made of a model's, as `sslens.zoo.shapes.read` takes it; a
    network that came from timm is given by its name there.

    Raises:
        InputError: nothing says how such a network could be built again.
    """
    card = cards.known(model.source)
    source, arch = model.source if card is None else card.source or "", model.about.arch
    if source.startswith("hf-hub:"):
        raise InputError(
            f"{source} has no name by which its network could be built again",
            mend="fine-tune the model of its file, or of timm:NAME",
        )
    if source.startswith("timm:"):
        arch = f"timm/{source.removeprefix('timm:').partition('.')[0]}"
    return written(encoder, arch, model.name)
