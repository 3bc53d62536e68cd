"""The accuracy of a classifier on held-out images."""

from dataclasses import dataclass
from typing import final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslens.data.classes import require_labels
from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.processes import Processes
from sslens.statistics.proportions import find_chance
from sslens.tasks import Metric
from sslens.tasks.classification import FineTuning

#: images at a time
SIZE = 128
METRICS = (
    Metric(
        "top1",
        "top-1",
        "share of held-out images whose class has the highest score of the classifier",
    ),
    Metric(
        "top5", "top-5", "share of held-out images whose class has one of its five highest scores"
    ),
    Metric("val_loss", "loss", "mean cross-entropy of held-out images", higher_is_better=False),
)


@final
@dataclass(frozen=True)
class Accuracy:
    """Evaluates a classifier on held-out images: top-1, top-5 and cross-entropy.

    Attributes:
        images: labelled images.
        transform: how the images are prepared.
        classes: the names of the learnt classes, in the order of the classifier's scores.

    Raises:
        InputError: the images have no labels, or a class that is not learnt.
    """

    images: ImageSet
    transform: EvalTransform
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        require_labels(self.images, "are to be classified", "give labelled ones")
        assert self.images.labels is not None
        there = {self.images.classes[label] for label in self.images.labels.tolist()}
        if unknown := sorted(there - set(self.classes)):
            raise InputError(
                f'{self.images.name} has images of the class "{unknown[0]}", which is not among the'
                f" {len(self.classes)} that are learnt",
                mend="give held-out images of the same classes",
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics top-1, top-5 and cross-entropy; top-1 decides which model is the best."""
        return METRICS

    @property
    def chance(self) -> float:
        """The share of the most frequent class among the images: the accuracy that a classifier has
        at least to exceed."""
        assert self.images.labels is not None
        return find_chance(self.images.labels)

    def measure(
        self, method: FineTuning, where: Processes, precision: str, workers: int = 0
    ) -> dict[str, float]:
        """Classify the images; each process classifies its share of them.

        Returns:
            "top1" and "top5", shares from 0 to 1, and "val_loss", the mean cross-entropy in nats.
        """
        images = _Share(self, where.rank, where.size)
        sums = torch.zeros(4, dtype=torch.float64)
        kind = torch.device(where.device).type
        with (
            torch.inference_mode(),
            torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            for pixels, labels in DataLoader(images, batch_size=SIZE, num_workers=workers):
                scores = method.classifier(pixels.to(where.device)).float().cpu()
                sums += count_correct(scores, labels)
        if where.size > 1:
            total = sums.to(where.device)
            dist.all_reduce(total)
            sums = total.cpu()
        top1, top5, loss = (sums[1:] / sums[0]).tolist()
        return {"top1": top1, "top5": top5, "val_loss": loss}


def count_correct(
    scores: Float[Tensor, "image class"], labels: Int64[Tensor, " image"]
) -> Float[Tensor, "4"]:
    """Count correct classifications, as four sums in float64.

    Returns:
        The number of images; of images with the highest score at the right class; of images with
            one of the five highest scores at the right class; and the summed cross-entropy in nats.

    >>> scores = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    >>> counts = count_correct(scores, torch.tensor([0, 1]))
    >>> [round(value, 4) for value in counts.tolist()]  # ln(e² + e + 1) − 2 and − 1
    [2.0, 1.0, 2.0, 1.8152]
    """
    best = scores.topk(min(5, scores.shape[1])).indices == labels[:, None]
    loss = F.cross_entropy(scores.double(), labels, reduction="sum")
    return torch.stack(
        [
            torch.tensor(float(len(labels))).double(),
            best[:, 0].sum().double(),
            best.sum().double(),
            loss,
        ]
    )


@final
class _Share(Dataset[tuple[Tensor, int]]):
    """One process' share of the images, with their labels among the classes that are learnt."""

    def __init__(self, held: Accuracy, rank: int, size: int) -> None:
        self.held, self.rows = held, range(rank, len(held.images), size)
        self.label = [
            held.classes.index(name) if name in held.classes else -1 for name in held.images.classes
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, row = self.held.images, self.rows[index]
        assert images.labels is not None
        return self.held.transform(images.image(row)), self.label[int(images.labels[row])]
