"""A network with a linear classifier of its pooled features."""

import copy
from typing import final

import torch
from jaxtyping import Float
from timm.models.resnet import ResNet
from torch import Tensor, nn

from sslens.errors import InputError
from sslens.models import networks
from sslens.models.backbone import Backbone
from sslens.models.heads import share_norms


@final
class Classifier(nn.Module):
    """A network, the pooling of its features, and a linear layer that scores each class.

    The linear layer's first weights are drawn from a truncated normal with a small deviation, so
    that the first gradients in the network are small.

    Args:
        model: the classifier has a copy of this model's network.
        pooling: "patches" or "cls", as in `sslens.tasks.classification.Settings`.
        classes: the number of classes.
        head_std: the standard deviation of the linear layer's first weights.

    Raises:
        InputError: the classifier is to see a CLS token, and the network has none.
    """

    def __init__(self, model: Backbone, *, pooling: str, classes: int, head_std: float) -> None:
        super().__init__()
        if not isinstance(model.network, networks.TRANSFORMERS + networks.CNNS):
            raise InputError(
                f"{model.name} is a {type(model.network).__name__}, which can be read but not"
                " tuned here: Vision Transformers, ResNets and ConvNeXts can."
            )
        network = copy.deepcopy(model.network).requires_grad_(True)
        self.pooling, self.prefix = pooling, model.prefix
        self.tokens = isinstance(network, networks.TRANSFORMERS)
        if pooling == "cls" and self.prefix is None:
            raise InputError(
                f"{model.name} has no CLS token for the classifier to see",
                mend="give {settings.pooling=patches}, or another {preset}",
            )
        dim = int(network.num_features)  # type: ignore[arg-type]
        self.norm: nn.Module = nn.Identity()
        if pooling == "patches" and not isinstance(network, ResNet):
            self.norm = nn.LayerNorm(dim, eps=1e-6)
            if self.tokens:
                network.norm = nn.Identity()
        if isinstance(network, ResNet):
            share_norms(network)
        self.network = network
        self.head = nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=head_std)
        nn.init.zeros_(self.head.bias)
        _freeze_unused(network)

    def forward(
        self, images: Float[Tensor, "image 3 height width"]
    ) -> Float[Tensor, "image class"]:
        """Compute the score (logit) of each class."""
        features: Tensor = self.network.forward_features(images)
        if not self.tokens:
            pooled = features.mean((2, 3))
        elif self.pooling == "cls":
            pooled = features[:, 0]
        else:
            pooled = features[:, self.prefix or 0 :].mean(1)
        scores: Tensor = self.head(self.norm(pooled))
        return scores


def _freeze_unused(network: nn.Module) -> None:
    """Freeze the parameters that no feature depends on, such as a pooling's: nothing would move
    them."""
    training = network.training
    size = getattr(getattr(network, "patch_embed", None), "img_size", (64, 64))
    with torch.enable_grad():
        image = torch.zeros(1, 3, *size, device=next(network.parameters()).device)
        network.eval().forward_features(image).sum().backward()  # type: ignore[operator]
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    network.train(training)
