"""Pre-training objectives: one file is one method.

A file `objectives/NAME.py` has

- `Settings`, a frozen dataclass: the method's numbers, with `base_lr` (for 256 images), `weight_decay`, `betas` and
  `warmup` (share of the training), and the papers' table and where the released code differs from it in its docstring;
- `batch(images, settings, arch, rows) -> dict[str, Tensor]`: the views (and other random numbers) of some images of a step, a pure
  function, so that data workers can call it;
- `Objective(arch, settings)`, a `Method`: what the loop trains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Which images of which step: `total` of them in the step, over all processes, of which these are `rows`."""

    seed: int
    step: int
    rows: slice
    total: int

    def keywords(self) -> dict[str, Any]:
        """As keyword arguments of `sslens.data.views`."""
        return {"seed": self.seed, "step": self.step, "rows": self.rows, "total": self.total}


@runtime_checkable
class Method(Protocol):
    """A module whose forward is the loss of a minibatch; the loop knows no more of a method than this."""

    #: the loss of an image depends on the other images of the minibatch, so that accumulating over parts changes it
    whole_batch: ClassVar[bool]

    @property
    def encoder(self) -> VisionTransformer:
        """The network that is kept."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, with `weight_decay` where it is not the settings' own."""
        ...

    def before_step(self, progress: float) -> None:
        """What moves with each step, `progress` (0 to 1) through the training: momentum networks, schedules."""
        ...

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss, a float32 scalar."""
        ...
