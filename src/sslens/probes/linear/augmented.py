"""Random views through a frozen backbone: one forward pass a batch, whose features all heads
share."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from sslens.capture import Column, visit_taps
from sslens.capture.pooling import pool_tap
from sslens.data.classes import require_labels
from sslens.data.colour import Normalize
from sslens.data.geometry import Flip, RandomResizedCrop
from sslens.data.images import ImageSet
from sslens.data.streams import stream
from sslens.data.views import RandomViews, View
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.probes.linear.batches import Batch, class_count, require_columns, step_size

#: images of a forward pass, and passes for which a GPU's machine makes the crops ahead
FORWARD, AHEAD = 64, 16


@final
class Augmented:
    """Labelled images as features of random views, as in MAE's linear probe: a random crop (drawn
    once, without further tries) and a flip.

    The batches of an epoch are decided by its number and the seed. Heads are cheap beside the
    forward pass, which is made once for all of them; see `bench/probes.py`.

    Args:
        model: the backbone; it is not trained.
        images: images with classes.
        columns: the taps and poolings to read.
        batch: the number of images in a step; `usual_batch` unless given.
        seed: decides the order of images, and the views.
        device: where the backbone runs.
        scale: the least and the largest share of an image's area that a crop shows.

    Raises:
        InputError: images without classes or of one class, a tap or a pooling that the model lacks.

    >>> import sslens
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:40")
    >>> data = Augmented(model, images, [("blocks.1", "cls"), ("norm", "patch")], batch=16)
    >>> [(x[("norm", "patch")].shape, len(y)) for x, y in data.epoch(0)]
    [(torch.Size([16, 64]), 16), (torch.Size([16, 64]), 16)]
    """

    def __init__(
        self,
        model: Backbone,
        images: ImageSet,
        columns: Sequence[Column],
        *,
        batch: int | None = None,
        seed: int = 0,
        device: str = "cpu",
        scale: tuple[float, float] = (0.08, 1.0),
    ) -> None:
        require_labels(images, "a probe learns them", "give images in a folder a class")
        assert images.labels is not None
        self._labels = torch.from_numpy(images.labels.copy())
        self.classes = class_count(self._labels, len(images.classes))
        self.batch, self.seed, self._device = step_size(batch, len(images)), seed, device
        transform = model.transform
        crop = RandomResizedCrop(
            transform.crop, scale, interpolation=transform.interpolation, clip=True
        )
        self._recipe = RandomViews(
            (View(crop, (Flip(), Normalize(transform.mean, transform.std))),)
        )
        self._model, self._images, self._wanted = model.to(device), images, tuple(columns)
        self._taps = model.pick(list(dict.fromkeys(tap for tap, _ in columns)))
        self.columns: Mapping[Column, int] = {}
        there = {
            column: x.shape[1]
            for column, x in self._forward(transform(images.image(0))[None], every=True).items()
        }
        require_columns(columns, there)
        self.columns = {column: there[column] for column in columns}

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def steps(self) -> int:
        return len(self._labels) // self.batch

    def epoch(self, number: int) -> Iterator[Batch]:
        order = stream(self.seed, number, 2).permutation(len(self._labels))
        parts = [
            (step, slice(start, min(start + FORWARD, self.batch)))
            for step in range(self.steps)
            for start in range(0, self.batch, FORWARD)
        ]
        found: dict[Column, list[Tensor]] = {column: [] for column in self._wanted}
        for (step, rows), crops in zip(parts, self._cropped(number, order, parts), strict=True):
            (views,) = self._recipe.finish(
                (crops.to(self._device),),
                seed=self.seed,
                step=number * self.steps + step,
                rows=rows,
                total=self.batch,
            )
            for column, vectors in self._forward(views).items():
                found[column].append(vectors)
            if rows.stop == self.batch:
                taken = torch.from_numpy(order[step * self.batch : (step + 1) * self.batch])
                yield (
                    {column: torch.cat(parts) for column, parts in found.items()},
                    self._labels[taken],
                )
                found = {column: [] for column in self._wanted}

    def _cropped(
        self, number: int, order: Int64[np.ndarray, " image"], parts: Sequence[tuple[int, slice]]
    ) -> Iterator[UInt8[Tensor, "image 3 size size"]]:
        """The crops of each part, made ahead in threads: PIL alone, so that torch's own threads are
        left alone."""

        def crop(step: int, rows: slice) -> Tensor:
            start = step * self.batch
            images = [
                self._images.image(int(row))
                for row in order[start + rows.start : start + rows.stop]
            ]
            return self._recipe.crops(
                images, seed=self.seed, step=number * self.steps + step, rows=rows, total=self.batch
            )[0]

        ahead = AHEAD if torch.device(self._device).type == "cuda" else 1
        with ThreadPoolExecutor(ahead) as pool:
            waiting: deque[Future[Tensor]] = deque()
            for part in parts:
                waiting.append(pool.submit(crop, *part))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    @torch.no_grad()
    def _forward(
        self, views: Float[Tensor, "image 3 size size"], *, every: bool = False
    ) -> dict[Column, Float[Tensor, "image _"]]:
        found: dict[Column, Tensor] = {}

        def visit(tap: Tap, output: Tensor) -> None:
            for pooling, vectors in pool_tap(self._model, tap, output).items():
                if every or (tap.name, pooling) in self._wanted:
                    found[tap.name, pooling] = vectors.float()

        with visit_taps(self._model, self._taps, visit):
            self._model(views.to(self._device))
        return found
