"""Known quantities of images, and their Grams over the minibatches of a model."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from jaxtyping import Float64

from sslens.capture import Grams
from sslens.models.taps import Tap
from sslens.probes.factors import kind_of

if TYPE_CHECKING:
    import pandas as pd


@final
@dataclass(frozen=True)
class Targets:
    """Known quantities of each image, coded as numbers.

    Attributes:
        ids: the ids of the images, in the order of the rows of `values`.
        values: the numbers of each quantity, by the quantity's name. A categorical quantity has one
            column per class (one-hot), an angle has its cosine and its sine, and any other quantity
            has its own number or numbers.
    """

    ids: tuple[str, ...]
    values: Mapping[str, Float64[np.ndarray, "image part"]]

    def grams(self, like: Grams) -> Grams:
        """Compute the Gram matrix of each quantity, as if the quantity were a tap of a model.

        The values x [image, part] of a minibatch with the mean μ give K = (x − 1μᵀ)(x − 1μᵀ)ᵀ.

        Args:
            like: Grams of a model; its images and minibatches are used.

        Raises:
            KeyError: `like` has an image that is not in `ids`.

        >>> like = Grams.of_features([torch.eye(4)], ids="abcd")
        >>> targets = Targets(("d", "c", "b", "a"), {"x": np.array([[3.0], [1.0], [1.0], [1.0]])})
        >>> targets.grams(like).blocks[0, 0, 3].tolist()  # 1.5 and −0.5 about the mean
        [-0.75, -0.75, -0.75, 2.25]
        """
        row = {name: number for number, name in enumerate(self.ids)}
        order = [row[name] for name in like.ids]
        features = [torch.from_numpy(values[order]).float() for values in self.values.values()]
        grams = Grams.of_features(features, ids=like.ids, sizes=like.sizes.numpy())
        taps = tuple(Tap(name, "target", 0.0) for name in self.values)
        key = {name: like.key.get(name) for name in ("images", "plan")}
        return replace(grams, model="targets", taps=taps, key=key)

    def digest(self) -> str:
        """Compute the SHA-256 of all ids, names and numbers, as hexadecimal digits."""
        hashed = hashlib.sha256(repr((self.ids, list(self.values))).encode())
        for values in self.values.values():
            hashed.update(np.ascontiguousarray(values).tobytes())
        return hashed.hexdigest()


def code_factors(frame: "pd.DataFrame") -> dict[str, Float64[np.ndarray, "image part"]]:
    """Code each column of a table of factors as numbers, in the way that `Targets.values` says.

    `sslens.probes.factors.kind_of` decides whether a column is categorical, an angle in degrees, or
    a number.

    >>> import pandas as pd
    >>> coded = code_factors(pd.DataFrame({"hue": [0.0, 90.0], "class": ["bird", "axe"]}))
    >>> coded["hue"].round(9).tolist(), coded["class"].tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
    """
    return {str(name): _code_column(str(name), frame[name]) for name in frame.columns}


def _code_column(name: str, values: "pd.Series[Any]") -> Float64[np.ndarray, "image part"]:
    kind = kind_of(name, values)
    if kind == "categorical":
        texts = values.astype(str).to_numpy()
        classes = np.array(sorted(set(texts)))
        return (texts[:, None] == classes).astype(np.float64)
    numbers = values.to_numpy(np.float64)[:, None]
    if kind == "circular":
        angles = np.deg2rad(numbers)
        return np.concatenate([np.cos(angles), np.sin(angles)], 1)
    return numbers
