"""Features as they will be made: their layers, poolings and widths are known before a pass, and
their values are not."""

from typing import NoReturn, final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sslens.capture.feature_reducer import FeatureReducer
from sslens.capture.features import Features
from sslens.capture.folders import find_widths
from sslens.capture.manifest import Column
from sslens.capture.sources import Rows
from sslens.data.images import ImageSet
from sslens.models.backbone import Backbone


def plan_features(model: Backbone, images: ImageSet) -> Features:
    """Return the features that a pass of a model over images would give, without their values.

    What is asked of them before values are needed, such as whether they have a tap or a class, is
    answered as it will be.

    >>> import sslens
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> plan_features(model, images).columns["norm", "cls"]
    64
    """
    taps = FeatureReducer().taps(model, model.pick(None))
    return Features(
        model.name,
        images.ids,
        None if images.labels is None else np.array(images.labels, np.int64),
        images.classes,
        taps,
        find_widths(model, taps),
        torch.float32,
        {"weights": model.digest, "images": images.content},
        _Unmade(),
        model.about.read_pooling,
    )


@final
class _Unmade:
    """Rows that nobody has made yet."""

    def read(self, column: Column, rows: Rows) -> Tensor:
        """There are no values."""
        self._refuse()

    def windows(
        self, rows: Int64[np.ndarray, " row"], generator: np.random.Generator, row_bytes: int
    ) -> Int64[np.ndarray, " row"]:
        """There are no values."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RuntimeError("features that are only planned have no values")
