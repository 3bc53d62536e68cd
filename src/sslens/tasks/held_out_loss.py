"""How well a generator that is trained denoises held-out images, with and without their own
representations."""

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor

from sslens.processes import Processes
from sslens.statistics.explained import estimate_saving
from sslens.tasks import Metric
from sslens.tasks.diffusion import DRAWN, Diffusion, GeneratorStart

#: images at a time
SIZE = 64
METRICS = (
    Metric(
        "held_loss",
        "held-out loss",
        "mean squared error (or loss, of flow matching) of held-out images by the average of the"
        " weights; noise and times stay the same",
        higher_is_better=False,
    ),
    Metric(
        "held_gain",
        "gain",
        "share by which the held-out loss falls from another image's features to the image's own",
    ),
)
#: what a log says of the gain beside it
GAIN_ENDS = {
    "held_gain_low": "lower end of the gain's 95 % interval over images",
    "held_gain_high": "upper end",
    "held_images": "held-out images of which the loss and the gain are",
}


@final
@dataclass(frozen=True, eq=False)
class HeldOutLoss:
    """Evaluates a generator on held-out images.

    The loss is the squared error of the predicted noise, without the bound: there a single image at
    a noisy time can have a hundred times the mean. Noise and times depend on the place of an image
    alone, so that two looks differ by the weights and by nothing else. Image i has the features of
    model i mod M; the gain compares them with the features of image i + 1 by the same model.
    Without a gain the representation does not reach the images.

    Attributes:
        start: the held-out images with their features.
    """

    start: GeneratorStart

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The loss, by which a generator is judged, and the gain."""
        return METRICS

    def measure(
        self, method: Diffusion, where: Processes, precision: str, workers: int = 0
    ) -> dict[str, float]:
        """Compute the losses; each process computes its share of them.

        Returns:
            "held_loss", in the units of the process' loss, and "held_gain", a share up to 1, with
            what `GAIN_ENDS` names; without the ends where there are too few images.
        """
        pairs = torch.zeros(2, len(self.start.represented), dtype=torch.float64)
        kind = torch.device(where.device).type
        numbers = range(0, len(self.start.represented), SIZE)
        with (
            torch.inference_mode(),
            torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            for part in range(where.rank, len(numbers), where.size):
                losses = torch.stack(self._losses(method, numbers[part], where.device))
                pairs[:, numbers[part] : numbers[part] + losses.shape[1]] = losses
        if where.size > 1:
            total = pairs.to(where.device)
            dist.all_reduce(total)
            pairs = total.cpu()
        gain = estimate_saving(*pairs.numpy())
        found = {"held_loss": float(pairs[0].mean()), "held_gain": gain.value}
        if not math.isnan(gain.low):
            found |= {"held_gain_low": gain.low, "held_gain_high": gain.high}
        return found | {"held_images": gain.n}

    def _losses(self, method: Diffusion, first: int, device: str) -> tuple[Tensor, Tensor]:
        """The losses of some images, with their own features and with the next image's."""
        start, count = self.start, len(self.start.represented)
        rows = range(first, min(first + SIZE, count))
        models = [row % len(start.represented.models) for row in rows]
        drawn = start.draw(0, first, len(rows))
        batch = {"view": start.view(rows)} | {
            f"{DRAWN}{name}": values for name, values in drawn.items()
        }
        losses = []
        for shift in (0, 1):
            condition = start.condition([(row + shift) % count for row in rows], models)
            here = {
                name: value.to(device) for name, value in (batch | {"condition": condition}).items()
            }
            terms = method.losses(method.average, here)
            losses.append(terms.get("mse", terms["loss"]).double().cpu())
        return losses[0], losses[1]
