"""The minibatches of a run in parts: data workers make them from images, and a feed brings them to
the device."""

import contextlib
import time
from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Int64
from numpy import ndarray
from torch.utils.data import DataLoader, Dataset

from sslens.data.images import ImageSet
from sslens.data.streams import stream
from sslens.errors import InputError
from sslens.methods import Batch, Rows
from sslens.methods.job import TrainingJob
from sslens.processes import Processes
from sslens.training.schedule import Training

#: key of the random stream that orders the images of an epoch; the views use 0 and 1
ORDER = 2
#: parts that each data worker has ready
READY = 2


@final
class Parts(Dataset[Batch | InputError]):
    """The parts of a run's minibatches, by number: part i has the views of this process' images in
    part i mod `accumulate` of step i div `accumulate`.

    Where an image cannot be decoded, the part is the error itself: an error raised in a data worker
    would reach the caller as the text of a traceback.
    """

    def __init__(
        self, job: TrainingJob, images: ImageSet, training: Training, where: Processes
    ) -> None:
        # not the job itself: data workers are sent this, and a job holds a method
        self.batch, self.settings, self.start = job.batch, job.settings, job.start
        self.images, self.training = images, training
        self.rank, self.size = where.rank, where.size
        self._order: tuple[int, Int64[ndarray, " image"]] | None = None

    def __getitem__(self, index: int) -> Batch | InputError:
        t = self.training
        step, part = divmod(index, t.accumulate)
        epoch, place = divmod(step, len(self.images) // t.batch_size)
        length = t.batch_size // (self.size * t.accumulate)
        start = (self.rank * t.accumulate + part) * length
        rows = slice(start, start + length)
        chosen = self._order_of(epoch)[place * t.batch_size : (place + 1) * t.batch_size][rows]
        try:
            images = [self.images.image(int(row)) for row in chosen]
        except InputError as error:
            return error
        labels = None if self.images.labels is None else tuple(self.images.labels[chosen].tolist())
        which = Rows(t.seed, step, rows, t.batch_size, labels, tuple(chosen.tolist()))
        views: Batch = self.batch(images, self.settings, self.start, which)
        return views

    def _order_of(self, epoch: int) -> Int64[ndarray, " image"]:
        """The rows of all images in the order of an epoch, kept until another is asked for."""
        if self._order is None or self._order[0] != epoch:
            self._order = (
                epoch,
                stream(self.training.seed, epoch, ORDER).permutation(len(self.images)),
            )
        return self._order[1]


@final
class Feed:
    """Brings parts to the device, in order.

    With a GPU, parts are copied from pinned memory: `fetch` loads the next part and copies it in a
    CUDA stream of its own while the GPU computes with the part before. The numbers and their order
    stay the same.

    Args:
        parts: the data set of parts.
        numbers: the numbers of the parts to bring.
        device: where parts are brought.
        workers: the number of processes that make parts; 0 makes them in this process.
        ahead: whether `fetch` does anything; True only for a GPU unless given.
    """

    def __init__(
        self,
        parts: Dataset[Batch | InputError],
        numbers: range,
        device: str,
        workers: int = 0,
        ahead: bool | None = None,
    ) -> None:
        self.device = torch.device(device)
        cuda = self.device.type == "cuda"
        self.ahead = cuda if ahead is None else ahead
        self.stream = torch.cuda.Stream(self.device) if cuda else None
        loader = DataLoader(
            parts,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            pin_memory=cuda,
            prefetch_factor=READY if workers else None,
        )
        self._loaded: Iterator[Batch | InputError] = iter(loader)
        self._next: Batch | None = None

    def take(self, count: int) -> Iterator[Batch]:
        """Yield the next `count` parts, one after another.

        Raises:
            InputError: an image cannot be decoded.
        """
        for _ in range(count):
            part, self._next = self._next or self._to_device(self._load()), None
            if self.stream is not None:
                # computing waits for the copy, and the memory for the computing
                computing = torch.cuda.current_stream(self.device)
                computing.wait_stream(self.stream)
                for value in part.values():
                    value.record_stream(computing)
            yield part

    def fetch(self) -> None:
        """Load the part after those taken so far, and begin to copy it to the device.

        Call it once the device has work to do.
        """
        if self.ahead and self._next is None:
            with contextlib.suppress(StopIteration):
                self._next = self._to_device(self._load())

    def _load(self) -> Batch | InputError:
        try:
            return next(self._loaded)
        except (ConnectionError, EOFError) as error:
            # a worker ended while it handed a part over; torch says so once the system has reported
            # it, in this thread
            time.sleep(1)
            raise RuntimeError(f"DataLoader worker (pid not known) was lost: {error}") from error

    def _to_device(self, part: Batch | InputError) -> Batch:
        if isinstance(part, InputError):
            raise part
        with torch.cuda.stream(self.stream):
            return {name: value.to(self.device, non_blocking=True) for name, value in part.items()}
