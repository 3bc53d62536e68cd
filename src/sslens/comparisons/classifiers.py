"""The classifiers that files of weights hold beside their networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture import Features
from sslens.zoo.weights import Weights

#: of the normalisation between pooling and classifier, as MAE, timm and `sslens finetune` have it
EPS = 1e-6


@final
@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear layer that scores each class by pooled features of the last tap.

    Attributes:
        weight, bias: of the linear layer.
        norm: weight and bias of a layer normalisation before it; None where there is none.
    """

    weight: Float[Tensor, "class dim"]
    bias: Float[Tensor, " class"]
    norm: tuple[Float[Tensor, " dim"], Float[Tensor, " dim"]] | None = None

    @property
    def pooling(self) -> str:
        """What it reads: the mean of the patch tokens where it has a normalisation of its own, else
        the CLS token."""
        return "cls" if self.norm is None else "patch"

    def predict(self, features: Features) -> Int64[np.ndarray, " image"] | None:
        """Predict the class of each image; None where the features are not those that it reads."""
        tap = features.taps[-1].name
        pooling = self.pooling if (tap, self.pooling) in features.columns else "mean"
        if features.columns.get((tap, pooling)) != self.weight.shape[1]:
            return None
        pooled = features.read(tap, pooling).float()
        if self.norm is not None:
            pooled = torch.nn.functional.layer_norm(pooled, pooled.shape[1:], *self.norm, eps=EPS)
        predicted: Int64[np.ndarray, " image"] = (
            (pooled @ self.weight.T + self.bias).argmax(1).numpy()
        )
        return predicted


def find_classifier(weights: Weights) -> LinearClassifier | None:
    """Find the linear classifier among the tensors beside a network; None where there is none, or
    one of another form.

    >>> from sslens.models.about import About
    >>> find_classifier(Weights("mae", "mae", About(), {})) is None
    True
    """
    found = {
        name: torch.from_numpy(np.array(tensor.value.values, np.float32))
        for name, tensor in weights.tensors.items()
        if tensor.beside and name.startswith(("head.", "fc_norm."))
    }
    weight, bias = found.pop("head.weight", None), found.pop("head.bias", None)
    norm = _find_norm(found)
    if weight is None or weight.ndim != 2 or len(found) not in (0, 2) or (found and norm is None):
        return None
    return LinearClassifier(weight, torch.zeros(len(weight)) if bias is None else bias, norm)


def _find_norm(found: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    if set(found) != {"fc_norm.weight", "fc_norm.bias"}:
        return None
    return found["fc_norm.weight"], found["fc_norm.bias"]
