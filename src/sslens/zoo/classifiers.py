"""The classifier in a checkpoint file: what its authors put on top of the network and trained with
labels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
from jaxtyping import Float64

from sslens import cards
from sslens.errors import InputError
from sslens.whole_file import exists
from sslens.zoo import download, find_file, split_options
from sslens.zoo.arrays import Array
from sslens.zoo.files import read_contents
from sslens.zoo.recognise import find_layout

#: added to the variance by the layer norms of all networks here
EPS = 1e-6
#: names of the linear layer, and of the layer norm between pooling and linear layer
HEADS = ("classifier.head", "head", "fc")
NORMS = ("classifier.norm", "fc_norm")


@final
@dataclass(frozen=True, eq=False)
class ReleasedClassifier:
    """A linear classifier of pooled features, x ↦ W LN(x) + b, or W x + b without a layer norm.

    Attributes:
        pooling: how the last features are pooled: "cls", "patch" (mean of the patch tokens) or
            "mean" (over the places of a CNN's map).
        weight: W.
        bias: b.
        norm: weight and bias of the layer norm; None where there is none.
    """

    pooling: Literal["cls", "patch", "mean"]
    weight: Float64[np.ndarray, "class dim"]
    bias: Float64[np.ndarray, " class"]
    norm: tuple[Float64[np.ndarray, " dim"], Float64[np.ndarray, " dim"]] | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of the pooling and of all numbers."""
        state = hashlib.sha256(self.pooling.encode())
        for part in (self.weight, self.bias, *(self.norm or ())):
            state.update(f"{part.shape}".encode())
            state.update(np.ascontiguousarray(part).tobytes())
        return state.hexdigest()

    def score(
        self, features: Float64[np.ndarray, "image dim"]
    ) -> Float64[np.ndarray, "image class"]:
        """Compute the score of each class.

        >>> one = ReleasedClassifier("cls", np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.5, 0]))
        >>> one.score(np.array([[3.0, 4.0]])).tolist()
        [[3.5, 8.0]]
        """
        if self.norm is not None:
            centred = features - features.mean(1, keepdims=True)
            spread = np.sqrt((centred**2).mean(1, keepdims=True) + EPS)
            features = centred / spread * self.norm[0] + self.norm[1]
        return features @ self.weight.T + self.bias


def read_classifier(source: str) -> ReleasedClassifier:
    """Read the classifier of a model's file.

    Args:
        source: the name of a card, which is fetched if it is not here, or a file or a run's folder.

    Raises:
        InputError: the source is no file, or the file has no classifier of a known form.
    """
    name, _ = split_options(source)
    card = cards.look_up(name)
    if card is not None and card.source is None:
        path = download.fetch(card)
    elif exists(name):
        path = find_file(Path(name))
    else:
        raise InputError(f"{source} is no checkpoint file, so that no classifier can be read.")
    contents = read_contents(path)
    _, claim = find_layout(contents)
    branch = (card.branch if card is not None else None) or claim.taken
    if branch is None or branch not in claim.branches:
        raise InputError(f"{path} holds several networks: no classifier is taken from it.")
    trunk = claim.branches[branch]
    return _choose_form(trunk.weights(contents.states), path, cnn=trunk.naming != "vit")


def _choose_form(weights: Mapping[str, Array], path: Path, *, cnn: bool) -> ReleasedClassifier:
    """Find the linear layer and the layer norm before it, by their names."""
    head = next((name for name in HEADS if f"{name}.weight" in weights), None)
    if head is None or weights[f"{head}.weight"].ndim != 2:
        raise InputError(
            f"{path} holds no classifier that is one linear layer"
            f" ({' or '.join(f'{name}.weight' for name in HEADS)})."
        )
    norms = (*NORMS, "norm") if cnn else NORMS
    norm = next((name for name in norms if f"{name}.weight" in weights), None)
    parts = None if norm is None else (_take(weights, norm, "weight"), _take(weights, norm, "bias"))
    pooling: Literal["cls", "patch", "mean"] = "mean" if cnn else "cls" if norm is None else "patch"
    return ReleasedClassifier(
        pooling, _take(weights, head, "weight"), _take(weights, head, "bias"), parts
    )


def _take(weights: Mapping[str, Array], name: str, part: str) -> Float64[np.ndarray, "..."]:
    return np.asarray(weights[f"{name}.{part}"].as_float32().values, np.float64)
