"""A probe of several layers that was trained until it had converged: its accuracy, and what is
known of its convergence."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from sslens.counts import spell_count
from sslens.probes.linear.batches import Labelled, require_columns
from sslens.probes.linear.choosing import Outcome
from sslens.probes.linear.grid import Point
from sslens.probes.linear.heads import Head
from sslens.probes.linear.training import find_right, join_columns, require_top
from sslens.statistics.proportions import wilson


@final
@dataclass(frozen=True, eq=False)
class ConvergedHead:
    """A head that was trained until it had converged, at the point that was chosen for it.

    Attributes:
        head: what it reads, and its number of layers.
        points: all points that were tried, those of a wider grid last.
        losses: by point, the lowest validation loss (mean cross-entropy); infinite where the values
            overflowed.
        epochs: by point, the epochs after which the validation loss was lowest.
        stopped: by point, whether the validation loss had stopped falling before the cap.
        chosen: the chosen point.
        edge: on which side the chosen point lies at the edge of the grid, as a clause; empty if it
            lies inside.
        module: the head as a plain module in evaluation mode; it takes features that are not
            normalised, with the head's columns concatenated, and returns logits.
        validation: share of validation images right.
    """

    head: Head
    points: tuple[Point, ...]
    losses: Float64[np.ndarray, " point"]
    epochs: Int64[np.ndarray, " point"]
    stopped: Bool[np.ndarray, " point"]
    chosen: int
    edge: str
    module: nn.Sequential
    validation: float

    @property
    def converged(self) -> bool:
        """Whether the chosen point's validation loss had stopped falling before the cap."""
        return bool(self.stopped[self.chosen])

    @property
    def inside(self) -> bool:
        """Whether the chosen point lies inside the grid."""
        return not self.edge

    @property
    def why(self) -> str:
        """What keeps the number from being settled, as a clause; empty if nothing does."""
        epochs = spell_count(self.points[self.chosen].epochs, "epoch")
        late = "" if self.converged else f"the validation loss was still falling after {epochs}"
        return "; ".join(filter(None, (late, self.edge)))

    def logits(self, data: Labelled) -> Float[Tensor, "image class"]:
        """Compute the logits of the images of `data`.

        Raises:
            InputError: a column that `data` lacks.
        """
        require_columns(self.head.columns, data.columns)
        weight = next(self.module.parameters())
        with torch.no_grad():
            return torch.cat(
                [
                    self.module(join_columns(self.head, features).to(weight)).cpu()
                    for features, _ in data.blocks(self.head.columns)
                ]
            )

    def right(self, data: Labelled, top: int = 1) -> Bool[np.ndarray, " image"]:
        """Return which images are right: the label is among the `top` highest logits; of equal
        logits the first class comes first.

        Raises:
            InputError: fewer classes than `top`, or a column that `data` lacks.
        """
        require_top(top, data.classes)
        logits = self.logits(data)
        return np.asarray(find_right(logits.T[None].contiguous(), data.labels, top)[0].numpy())

    def outcome(self, test: Labelled, top: int = 1) -> Outcome:
        """Measure the accuracy on test images.

        Raises:
            InputError: fewer classes than `top`, or a column that `test` lacks.
        """
        right = self.right(test, top)
        low, high = wilson(int(right.sum()), len(right))
        return Outcome(
            self.head,
            self.chosen,
            self.validation,
            float(right.mean()),
            low,
            high,
            float("nan"),
            float("nan"),
            int(np.isinf(self.losses).sum()),
            right,
            self.converged,
            self.inside,
            self.why,
            replace(self.points[self.chosen], epochs=max(1, int(self.epochs[self.chosen]))),
            len(self.points),
        )
