"""Representations as conditions: which features of which model a generator takes, and images with
these features."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture import Features
from sslens.capture.pooling import choose_pooling
from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models.backbone import Backbone

#: kinds of taps of which the last one is taken unless another is asked for
KINDS = ("block", "norm", "pixels")
#: rows of features that are looked at together
BLOCK = 4096


@final
@dataclass(frozen=True)
class Condition:
    """A representation that conditions a generator.

    Attributes:
        model: the model's name.
        source: what `sslens.load` loads the model by.
        digest: of the model's weights.
        transform: how images are prepared for the model.
        tap: the name of the tap.
        pooling: "cls", "patch", "mean" or "flat".
        dim: the width of the features.
    """

    model: str
    source: str
    digest: str
    transform: Mapping[str, Any]
    tap: str
    pooling: str
    dim: int

    @classmethod
    def of(
        cls, model: Backbone, features: Features, tap: str | None = None, tokens: str | None = None
    ) -> "Condition":
        """Describe the features of a model at a tap and pooling.

        Args:
            model: the model.
            features: the model's features.
            tap: the name of the tap; the last one unless given.
            tokens: the pooling; that of `choose_tokens` unless given.

        Raises:
            InputError: the features are another model's, or lack this tap or pooling.
        """
        column = features.require(tap or choose_tap(model), tokens or choose_tokens(model))
        transform = model.transform.spec()
        made = cls(
            model.name,
            model.source,
            model.digest,
            transform,
            *column,
            features.columns[column],
        )
        made.require(features)
        return made

    def to_json(self) -> Mapping[str, Any]:
        """Return plain JSON values, of which `Condition(**values)` makes it again."""
        return asdict(self)

    def prepare(self, model: Backbone) -> Backbone:
        """Return a model with images prepared as these features need them."""
        if model.transform.spec() == self.transform:
            return model
        settings: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.transform.items()
        }
        return model.copy_with(transform=EvalTransform(**settings))

    def require(self, features: Features) -> None:
        """Refuse features that are not these: of other weights, prepared in another way, or of
        another width.

        Raises:
            InputError: they are others.
        """
        wanted = {"weights": self.digest, "transform": dict(self.transform)}
        for name, value in wanted.items():
            if name in features.key and features.key[name] != value:
                how = "other weights" if name == "weights" else "images prepared in another way"
                raise InputError(
                    f"The features of {features.model} are of {how} than the representation of"
                    f" {self.model} that conditions the generator",
                    mend=f"give features of {self.source}",
                )
        column = features.require(self.tap, self.pooling)
        if features.columns[column] != self.dim:
            raise InputError(
                f"The features of {features.model} at {self.tap} ({self.pooling}) are"
                f" {spell_count(features.columns[column], 'number')}, and the generator takes"
                f" {self.dim}",
                mend=f"give features of {self.source}",
            )


def choose_tap(model: Backbone) -> str:
    """Return the name of a model's last tap that has features.

    >>> import sslens
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> choose_tap(model), choose_tokens(model)
    ('norm', 'cls')
    """
    return next(tap.name for tap in reversed(model.taps.values()) if tap.kind in KINDS)


def choose_tokens(model: Backbone) -> str:
    """Return the pooling by which a model is usually read, as k-NN and probes choose it
    (`choose_pooling`): as its own classifier read, else the CLS token where there is one, else the
    mean over places, or the values as they are.

    >>> import dataclasses, sslens
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> tuned = model.copy_with(about=dataclasses.replace(model.about, pooling="patches"))
    >>> choose_tokens(model), choose_tokens(tuned)
    ('cls', 'patch')
    """
    there: tuple[str, ...] = ("cls", "mean", "patch")
    if not model.prefix:
        there = ("flat",) if model.about.network in ("pixels", None) else ("mean",)
    return choose_pooling(there, model.about.read_pooling)


def find_rows(features: Features, ids: Sequence[str]) -> Int64[np.ndarray, " image"]:
    """Return the row of each image in features.

    Raises:
        InputError: the features lack an image.
    """
    row = {name: place for place, name in enumerate(features.ids)}
    lacking = [name for name in ids if name not in row]
    if lacking:
        raise InputError(
            f"The features of {features.model} are of other images: they lack {lacking[0]}"
            f" ({len(lacking):,} of {len(ids):,})",
            mend="make the features of these {images}",
        )
    return np.array([row[name] for name in ids], np.int64)


@final
class Represented:
    """Images with features of each by one model or several.

    Args:
        images: the images.
        conditions: which features are taken, for each model.
        features: the features of each model, of these images.

    Raises:
        InputError: no model or two of one name; features of other images, of another model or of
            another width; features that are not finite, or the same for all images.
    """

    def __init__(
        self,
        images: ImageSet,
        conditions: Sequence[Condition],
        features: Sequence[Features],
    ) -> None:
        self.images, self.conditions, self.features = images, tuple(conditions), tuple(features)
        if not conditions or len(conditions) != len(features):
            raise InputError("A generator needs a model with features: give one or more.")
        names = [condition.model for condition in conditions]
        if len(set(names)) < len(names):
            raise InputError(
                f"Two models are called {max(names, key=names.count)}: give each model once."
            )
        self._rows = [find_rows(each, images.ids) for each in features]
        for condition, each in zip(conditions, features, strict=True):
            condition.require(each)
            if "images" in each.key and each.key["images"] != images.content:
                raise InputError(
                    f"The features of {each.model} are of other images than {images.name}, under"
                    " the same ids or beside others",
                    mend="make the features of these {images}",
                )
        self._require_different()

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models."""
        return tuple(condition.model for condition in self.conditions)

    def __len__(self) -> int:
        return len(self.images)

    def read(
        self, number: int, rows: Int64[np.ndarray, " row"] | None = None
    ) -> Float[Tensor, "row dim"]:
        """Read the features of some images, or of all, by model number `number`, in float32."""
        condition, where = self.conditions[number], self._rows[number]
        where = where if rows is None else where[rows]
        return self.features[number].read(condition.tap, condition.pooling, where).float()

    def matrices(self) -> dict[str, Float[Tensor, "image _"]]:
        """Return the features of all images by the name of the model."""
        return {name: self.read(number) for number, name in enumerate(self.models)}

    def take(self, rows: Sequence[int]) -> "Represented":
        """Return some of the images with their features."""
        taken = object.__new__(Represented)
        taken.images, taken.conditions = self.images.take(rows), self.conditions
        taken.features = self.features
        taken._rows = [where[np.asarray(rows, np.int64)] for where in self._rows]
        return taken

    def _require_different(self) -> None:
        """Refuse features from which nothing can be learnt."""
        for number, condition in enumerate(self.conditions):
            where = f"The features of {condition.model} at {condition.tap} ({condition.pooling})"
            low = high = None
            for start in range(0, len(self), BLOCK):
                block = self.read(number, np.arange(start, min(start + BLOCK, len(self))))
                if not torch.isfinite(block).all():
                    raise InputError(
                        f"{where} are not finite for all images",
                        mend="give another {tap}, or another model",
                    )
                least, most = block.amin(0), block.amax(0)
                low = least if low is None else torch.minimum(low, least)
                high = most if high is None else torch.maximum(high, most)
            if len(self) == 1:
                raise InputError(
                    "There is 1 image: of one a generator learns nothing", mend="give more {images}"
                )
            if low is None or high is None or bool((low == high).all()):
                raise InputError(
                    f"{where} are the same for all {len(self):,} images: a generator would learn"
                    " nothing from them",
                    mend="give another {tap} or {tokens}, or more {images}",
                )
