"""Adapters: how representations of several models enter one network, each through a linear layer of
its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from sslens.counts import spell_count
from sslens.errors import InputError, nearest

#: what is done to each model's features before they enter the network
WAYS = ("none", "standardise", "half-whiten", "whiten")
#: the ways that turn features into their principal directions
TURNED = ("half-whiten", "whiten")
#: directions of less variance than this share of the mean variance are hardly enlarged by whitening
FLOOR = 1e-3
#: a feature that varies less than this share of the most varying one counts as constant
CONSTANT = 1e-6


@final
@dataclass(frozen=True, eq=False)
class Adapters:
    """Vectors through which one network takes the representations of several models.

    The network has one linear layer for its condition. Every model has its own part of that layer's
    input, which holds z = (f − m) S and a 1; the parts of the other models are 0. So the layer
    computes z A + b with a matrix A and a bias b of the model's own: a linear adapter for each
    model. A single model's vectors are z alone, and the layer's own bias is the bias.

    m and S come from the images that the network is trained on; they decide how fast each direction
    of a representation is learned, not what the network can learn:

    - "none": m = 0, S = 1, as RCDM does (Bordes et al., 2022, arXiv:2112.09164);
    - "standardise": the mean and 1 / the standard deviation of each feature;
    - "whiten": the mean and V (Λ + 10⁻³ λ̄)^(−1/2), with the eigenvectors V and eigenvalues Λ of the
      covariance, and λ̄ their mean;
    - "half-whiten": the mean and V (Λ + 10⁻³ λ̄)^(−1/4), over a number by which the mean variance is
      1: the loud directions stay louder, and the quiet ones can be heard.

    Attributes:
        how: one of `WAYS`.
        means: m by model, in the order of the parts.
        scales: S by model: [dim], the diagonal, or where features are turned [dim, dim].

    >>> features = {"a": torch.tensor([[0.0], [2.0]]), "b": torch.tensor([[1.0, 5.0], [3.0, 5.0]])}
    >>> adapters = Adapters.fit(features, "standardise")
    >>> adapters.width, adapters.models
    (5, ('a', 'b'))
    >>> adapters.place("b", torch.tensor([[3.0, 5.0]])).tolist()
    [[0.0, 0.0, 1.0, 0.0, 1.0]]
    """

    how: str
    means: Mapping[str, Float32[Tensor, " dim"]]
    scales: Mapping[str, Float32[Tensor, "dim ..."]]

    def __post_init__(self) -> None:
        if self.how not in WAYS:
            raise InputError(
                f'Representations cannot be prepared by "{self.how}": {nearest(self.how, WAYS)}'
            )
        if not self.means:
            raise InputError("There are no models to make adapters for: give one or more.")

    @classmethod
    def fit(cls, features: Mapping[str, Float[Tensor, "image _"]], how: str) -> "Adapters":
        """Measure m and S on features.

        Args:
            features: the features of the training images by model.
            how: one of `WAYS`.

        Raises:
            InputError: there is no such way or no model, features are not finite, or there are
                fewer than two images.
        """
        means, scales = {}, {}
        for model, values in features.items():
            if len(values) < 2:
                raise InputError(
                    f"There are features of {spell_count(len(values), 'image')} of {model}:"
                    " adapters are measured on two or more."
                )
            if not values.isfinite().all():
                raise InputError(f"Features of {model} are not finite: give other features.")
            means[model], scales[model] = _measure(values, how)
        return cls(how, means, scales)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models, in the order of their parts."""
        return tuple(self.means)

    @property
    def dims(self) -> dict[str, int]:
        """The width of each model's features."""
        return {model: len(mean) for model, mean in self.means.items()}

    @property
    def width(self) -> int:
        """The width of the vectors: Σ (dim + 1) over the models, or dim for a single model."""
        dims = self.dims.values()
        return sum(dims) + (len(dims) if len(dims) > 1 else 0)

    def place(
        self, model: str, features: Float[Tensor, "image dim"]
    ) -> Float32[Tensor, "image width"]:
        """Make the vectors of some images from one model's features.

        Raises:
            InputError: the model is not one of these, or its features have another width.
        """
        if model not in self.means:
            raise InputError(
                f'The generator takes no representations of "{model}":'
                f" {nearest(model, self.models)}"
            )
        mean, scale = self.means[model], self.scales[model]
        if features.shape[1] != len(mean):
            raise InputError(
                f"The features have {spell_count(features.shape[1], 'number')} for each image, and"
                f" the generator takes {len(mean)} of {model}: give the features that it was"
                " trained with."
            )
        centred = features.float() - mean.to(features.device)
        scale = scale.to(features.device)
        with torch.autocast(features.device.type, enabled=False):
            own = centred @ scale if scale.ndim == 2 else centred * scale
        if len(self.means) == 1:
            return own
        placed = own.new_zeros(len(own), self.width)
        start = sum(dim + 1 for dim in list(self.dims.values())[: self.models.index(model)])
        placed[:, start : start + len(mean)] = own
        placed[:, start + len(mean)] = 1.0
        return placed

    def tensors(self) -> dict[str, Tensor]:
        """Return m and S by name, as `from_tensors` takes them; nothing for "none"."""
        if self.how == "none":
            return {}
        means = {f"{number}.mean": mean for number, mean in enumerate(self.means.values())}
        scales = {f"{number}.scale": scale for number, scale in enumerate(self.scales.values())}
        return means | scales

    @classmethod
    def from_tensors(
        cls, dims: Mapping[str, int], how: str, tensors: Mapping[str, Tensor]
    ) -> "Adapters":
        """Make adapters again from what a file holds.

        Args:
            dims: the width of each model's features, in the order of the parts.
            how: one of `WAYS`.
            tensors: as `tensors` returns them, of any precision.

        Raises:
            InputError: a tensor is missing, left over or of another shape, or holds a number that
                is not finite.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for number, dim in enumerate(dims.values() if how != "none" else ()):
            shapes[f"{number}.mean"] = (dim,)
            shapes[f"{number}.scale"] = (dim, dim) if how in TURNED else (dim,)
        for name in sorted(shapes.keys() | tensors.keys()):
            given = tuple(tensors[name].shape) if name in tensors else None
            if given != shapes.get(name):
                raise InputError(
                    f"The file's adapters have {name} of shape {given}, and"
                    f" {shapes.get(name)} was expected: the file is damaged."
                )
            if not tensors[name].isfinite().all():
                raise InputError(f"The file's adapters have {name} that is not finite.")
        means, scales = {}, {}
        for number, (model, dim) in enumerate(dims.items()):
            means[model] = tensors.get(f"{number}.mean", torch.zeros(dim)).float()
            scales[model] = tensors.get(f"{number}.scale", torch.ones(dim)).float()
        return cls(how, means, scales)


def _measure(
    values: Float[Tensor, "image dim"], how: str
) -> tuple[Float32[Tensor, " dim"], Float32[Tensor, "dim ..."]]:
    """Measure m and S of one model, in float64."""
    values = values.double()
    if how not in ("standardise", *TURNED):
        dim = values.shape[1]
        return torch.zeros(dim), torch.ones(dim)
    mean = values.mean(0)
    if how == "standardise":
        deviations = values.std(0, correction=0)
        least = CONSTANT * deviations.max()
        scale = torch.where(deviations > least, 1 / deviations, 0.0)
    else:
        variances, directions = torch.linalg.eigh((values - mean).T.cov(correction=0))
        variances = variances.clamp(min=0)
        deviations = (variances + FLOOR * variances.mean()).sqrt()
        scale = directions / deviations
        if how == "half-whiten":
            scale = directions / deviations.sqrt()
            scale = scale / (variances / deviations).mean().sqrt()
    return mean.float(), scale.nan_to_num(posinf=0.0).float()
