"""How a classifier does on held-out images while it is trained."""

from dataclasses import dataclass
from typing import final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sslens.data.images import ImageSet
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.processes import Processes

#: images at a time
SIZE = 128


@final
@dataclass(frozen=True)
class Exam:
    """Labelled images, prepared as for evaluation, whose classes are among those that are learnt.

    Raises:
        InputError: images without labels, or of a class that is not learnt.
    """

    images: ImageSet
    transform: EvalTransform
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.labels is None:
            raise InputError(
                f"The images of {self.images.name} have no classes, and are to be classified: give"
                " labelled ones."
            )
        there = {self.images.classes[label] for label in self.images.labels.tolist()}
        if unknown := sorted(there - set(self.classes)):
            raise InputError(
                f'{self.images.name} has images of the class "{unknown[0]}", which is not among the'
                f" {len(self.classes)} that are learnt: give held-out images of the same classes."
            )

    def sit(
        self, classifier: nn.Module, where: Processes, precision: str, workers: int = 0
    ) -> dict[str, float]:
        """Shares of the images whose class has the highest score (`top1`) and one of the five
        highest (`top5`), and their mean cross-entropy (`val_loss`), by a classifier in evaluation
        mode; each process takes its share of the images.
        """
        rows = _Rows(self, where.rank, where.size)
        sums = torch.zeros(4, dtype=torch.float64)
        kind = torch.device(where.device).type
        with (
            torch.inference_mode(),
            torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            for pixels, labels in DataLoader(rows, batch_size=SIZE, num_workers=workers):
                sums += counted(classifier(pixels.to(where.device)).float().cpu(), labels)
        if where.size > 1:
            total = sums.to(where.device)
            dist.all_reduce(total)
            sums = total.cpu()
        top1, top5, loss = (sums[1:] / sums[0]).tolist()
        return {"top1": top1, "top5": top5, "val_loss": loss}


def counted(
    scores: Float[Tensor, "image class"], labels: Int64[Tensor, " image"]
) -> Float[Tensor, "4"]:
    """How many images there are, have the highest score right, have one of the five highest right;
    their summed cross-entropy.

    >>> scores = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    >>> [round(value, 4) for value in counted(scores, torch.tensor([0, 1])).tolist()]  # ln(e² + e + 1) − 2 and − 1
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
class _Rows(Dataset[tuple[Tensor, int]]):
    """Every so manyth image of an exam, with its label among the classes that are learnt."""

    def __init__(self, exam: Exam, first: int, every: int) -> None:
        self.exam, self.rows = exam, range(first, len(exam.images), every)
        self.label = [
            exam.classes.index(name) if name in exam.classes else -1 for name in exam.images.classes
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, row = self.exam.images, self.rows[index]
        assert images.labels is not None
        return self.exam.transform(images.image(row)), self.label[int(images.labels[row])]
