"""The only training loop: a method, images, an optimiser, checkpoints.

Everything random in a step is a function of (seed, step): which images, their views, their masks. So a step is the same
whatever the number of processes, of data workers and of parts it is accumulated over; and a run that was killed
goes on from its last checkpoint to the same weights, with no generator's state to keep.

A run is a folder: `config.yaml`, `log.jsonl` (a line every `log_every` steps), `last.safetensors` (the encoder, which
`sslens.load` takes) and `state.safetensors` (everything, to go on).
"""

import contextlib
import functools
import itertools
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, cast, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from sslens import zoo
from sslens.data.images import ImageSet
from sslens.data.views import stream
from sslens.errors import InputError
from sslens.find import plugin
from sslens.models.arch import EXAMPLES, Arch
from sslens.models.arch import parse as parsed
from sslens.models.vit import explicit_attention
from sslens.objectives import Method, Moment, Rows, WholeBatch
from sslens.processes import Processes, best_device, best_precision, processes
from sslens.progress import progress
from sslens.training.folder import Folder
from sslens.training.gradients import backward, backward_whole
from sslens.training.lines import Lines
from sslens.training.optim import check, load_named_state, named_state, optimiser, scaled_lr, set_rates
from sslens.training.signs import Signs
from sslens.training.watch import Looks, Watch
from sslens.zoo.preparing import transform

#: key of the random stream that orders the images of an epoch; the views use 0 and 1
ORDER = 2


class Interrupted(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """The run was asked to stop, and has kept its state."""


@dataclass(frozen=True)
class Training:
    """How long, on what, and how a run is kept; what belongs to the method is in its own settings.

    Attributes:
        epochs: passes over the images; a last minibatch that is not whole is dropped.
        batch_size: images of a step, over all processes and parts.
        accumulate: parts that a process computes its share of a step in, one after another.
        precision: "float32", "bfloat16" (autocast; losses stay float32), or "auto".
        workers: processes that decode and augment; 0 does it in the training process.
        save_every: steps between checkpoints; an epoch for 0.
        log_every: steps between lines of the log.
    """

    epochs: int = 100
    batch_size: int = 256
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    save_every: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        least = {
            "epochs": 1,
            "batch_size": 1,
            "accumulate": 1,
            "log_every": 1,
            "seed": 0,
            "workers": 0,
            "save_every": 0,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name} is {getattr(self, name)}: give {low} or more.")
        if self.precision == "float16":
            raise InputError("Gradients vanish in float16: train with --precision bfloat16, or float32.")


#: settings that may differ when a run goes on, since they do not change what is computed
FREE = ("device", "workers", "save_every", "log_every", "accumulate")


@dataclass(frozen=True)
class Schedule:
    """The steps of a run."""

    images: int
    batch_size: int
    epochs: int

    @property
    def epoch(self) -> int:
        """Steps of an epoch."""
        return self.images // self.batch_size

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epoch * self.epochs


@final
class _Parts(Dataset[dict[str, Tensor]]):
    """Part number i of the run: the views of this process' images in part i mod `accumulate` of step i div `accumulate`."""

    def __init__(
        self, module: ModuleType, settings: Any, arch: Arch, images: ImageSet, training: Training, where: Processes
    ) -> None:
        self.batch = module.batch
        self.settings, self.arch, self.images, self.training = settings, arch, images, training
        self.rank, self.size = where.rank, where.size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        t = self.training
        step, part = divmod(index, t.accumulate)
        epoch, place = divmod(step, len(self.images) // t.batch_size)
        order = stream(t.seed, epoch, ORDER).permutation(len(self.images))
        length = t.batch_size // (self.size * t.accumulate)
        start = (self.rank * t.accumulate + part) * length
        rows = slice(start, start + length)
        chosen = order[place * t.batch_size : (place + 1) * t.batch_size][rows]
        images = [self.images.image(int(row)) for row in chosen]
        made: dict[str, Tensor] = self.batch(images, self.settings, self.arch, Rows(t.seed, step, rows, t.batch_size))
        return made


def train(
    objective: str,
    images: ImageSet,
    arch: str,
    out: Path,
    *,
    settings: Any = None,
    training: Training = Training(),
    resume: bool = False,
    name: str | None = None,
    watch: Watch | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Pre-train an encoder on images with an objective; returns the encoder's file.

    Args:
        objective: the name of a file of `objectives/`.
        arch: a name such as `vit_mini_patch8_64`.
        out: the run's folder.
        settings: the objective's `Settings`; its defaults unless given.
        resume: go on from the checkpoint in `out`, or start where there is none yet.
        name: of the model in tables and figures; the objective's unless given.
        watch: what is looked at while the run goes on, and what is warned of; the weights are the same without it.
        say: called with lines for a person.

    Raises:
        InputError: `out` holds another run, or one that was not asked to go on; too few images; a loss that is not finite.
        Interrupted: on Ctrl-C or SIGTERM, after the state was kept.
    """
    with processes(best_device(training.device)) as where:
        run = _Run(objective, images, arch, out, settings, training, where, name, watch, say)
        return run.go(resume)


def plan(objective: str, images: int, arch: str, settings: Any, training: Training, world: int = 1) -> Schedule:
    """The steps of a run, or why there can be none.

    Raises:
        InputError: the batch is larger than the set, or cannot be shared out, or is one image of an objective that contrasts
            images; a setting is out of bounds, or does not go with the arch.
    """
    check(settings)
    module, shape = plugin("objectives", objective), parsed(arch)
    if shape.kind not in module.KINDS:
        raise InputError(
            f"{objective} cannot train {arch}: it trains {' and '.join(EXAMPLES[kind] for kind in module.KINDS)}."
        )
    with torch.device("meta"):  # settings that do not go with the arch are refused, and no memory is taken
        method = module.Objective(shape, settings)
    if training.accumulate > 1 and not method.divisible:
        raise InputError(
            f"{objective} on {arch} normalises over all images of a step, which parts would change: leave --accumulate out, and "
            f"give a smaller --batch-size or more processes{getattr(module, 'IN_PARTS', '')}."
        )
    shares = world * training.accumulate
    if training.batch_size > images:
        raise InputError(
            f"A minibatch of {training.batch_size} is more than the {images} images: give --batch-size {images} or less."
        )
    if training.batch_size % shares:
        raise InputError(
            f"A minibatch of {training.batch_size} cannot be shared by {world} processes in {training.accumulate} parts: "
            f"give a multiple of {shares}."
        )
    if method.whole_batch and training.batch_size < 2:
        raise InputError(f"{objective} contrasts images with each other: give a --batch-size of 2 or more.")
    return Schedule(images, training.batch_size, training.epochs)


@final
class _Run:
    def __init__(
        self,
        objective: str,
        images: ImageSet,
        arch: str,
        out: Path,
        settings: Any,
        training: Training,
        where: Processes,
        name: str | None,
        watch: Watch | None,
        say: Callable[[str], None],
    ) -> None:
        module = plugin("objectives", objective)
        self.objective, self.images, self.arch, self.out, self.where = objective, images, arch, out, where
        self.settings = settings if settings is not None else module.Settings()
        self.family = module.FAMILY
        self.training, self.name, self.say = training, name or objective, say if where.first else lambda _: None
        self.precision = best_precision(training.precision, where.device)
        self.schedule = plan(objective, len(images), arch, self.settings, training, where.size)
        self.shape = parsed(arch)
        torch.manual_seed(training.seed)
        self.module: nn.Module = module.Objective(self.shape, self.settings).to(where.device)
        self.method = cast(Method, self.module)
        explicit_attention(self.module, torch.device(where.device).type == "cpu")
        self.optimizer = optimiser(self.method.parameter_groups(), self.settings)
        self.lr = scaled_lr(self.settings.base_lr, training.batch_size)
        self.folder = Folder(out, self.config())
        self.watch = watch
        if watch:
            self.looks = Looks(watch, images, transform(self.shape.image_size), self.family)
        self.parts = _Parts(module, self.settings, self.shape, images, training, where)

    def config(self) -> dict[str, Any]:
        """What decides the weights at the end."""
        kept = {name: value for name, value in asdict(self.training).items() if name not in FREE}
        return {
            "objective": self.objective,
            "arch": self.arch,
            "settings": json.loads(json.dumps(asdict(self.settings))),
            "training": kept | {"precision": self.precision},
            "images": {"name": self.images.name, "count": len(self.images), "digest": self.images.digest},
        }

    def go(self, resume: bool) -> Path:
        start = self._start(resume)
        s = self.schedule
        if start == s.steps and self.where.first:
            self._save_encoder(start)  # a kill may have come between the last state and it
        self.say(
            f"{self.objective} on {len(self.images):,} images of {self.images.name}: {s.steps:,} steps, {s.epoch:,} an epoch; "
            f"{self.training.batch_size} images a step, lr {self.lr:.3g} after scaling {self.settings.base_lr:.3g} to that batch; "
            f"{self.precision} on {self.where.size} × {self.where.device}"
        )
        model = self.module
        if self.where.size > 1:
            model = DistributedDataParallel(self.module)
        self.module.train()
        label = f"pre-training {self.name}"
        bar = progress(label, start=start * s.batch_size, quiet=not self.where.first)
        with _stopping() as stop, bar as report, self._log(start) as log:
            shown: dict[str, float] = {}
            for step, loss, rate in self._steps(model, start):
                done = step + 1
                log.step(done, loss, self.optimizer.param_groups[0]["lr"], rate)
                if self.watch and self.watch.due(done, s.epoch, s.steps):
                    found = self.looks.look(self.method.encoder, self.where.device, self.precision)
                    log.note(done, found)
                    shown = {key: value for key, value in found.items() if key.startswith("knn")}
                report(done * s.batch_size, s.steps * s.batch_size, loss=loss, **shown)
                last, stopped = done == s.steps, self._agree(stop.is_set())
                if last or stopped or done % (self.training.save_every or s.epoch) == 0:
                    self._save(done)
                if stopped and not last:
                    raise Interrupted(
                        f"Stopped after step {done} of {s.steps}; the state is kept in {self.out}: go on with --resume."
                    )
        return self.out / zoo.ENCODER

    def _steps(self, model: nn.Module, start: int) -> Iterator[tuple[int, float, float]]:
        t, s = self.training, self.schedule
        numbers = range(start * t.accumulate, s.steps * t.accumulate)
        loader = iter(DataLoader(self.parts, batch_size=None, sampler=numbers, num_workers=t.workers))
        for step in range(start, s.steps):
            began = time.monotonic()
            at = Moment(step, s.steps, s.epoch)
            self.method.before_step(at)
            set_rates(self.optimizer, *self.method.rates(at, self.lr))
            value = self._mean(self._backward(model, itertools.islice(loader, t.accumulate)))
            if not math.isfinite(value):
                raise InputError(
                    f"The loss is {value} at step {step + 1} of {s.steps}: the training has diverged. Start again in another "
                    "--out with a lower --set base_lr, a longer --set warmup, or --precision float32."
                )
            self.method.before_update(at)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.method.after_update(at)
            yield step, value, t.batch_size / (time.monotonic() - began)

    def _backward(self, model: nn.Module, parts: Iterator[dict[str, Tensor]]) -> Tensor:
        """Gradients of this process' share of a step, averaged over processes; returns its loss."""
        moved = ({key: value.to(self.where.device, non_blocking=True) for key, value in part.items()} for part in parts)
        kind = torch.device(self.where.device).type
        autocast = torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16")
        if isinstance(self.method, WholeBatch) and self.training.accumulate > 1:
            return backward_whole(self.method, moved, autocast)
        return backward(model, moved, self.training.accumulate, autocast)

    def _mean(self, value: Tensor) -> float:
        if self.where.size > 1:
            dist.all_reduce(value)
        return value.item() / self.where.size

    def _agree(self, stop: bool) -> bool:
        """Whether any process was asked to stop; all learn it in the same step."""
        if self.where.size == 1:
            return stop
        asked = torch.tensor(float(stop), device=self.where.device)
        dist.all_reduce(asked)
        return asked.item() > 0

    def _start(self, resume: bool) -> int:
        """The step to start at: 0, or where the checkpoint left off."""
        kept = self.folder.state(resume)
        if self.where.first:
            self.folder.prepare()
        if kept is None:
            return 0
        step, tensors = kept
        self.module.load_state_dict(_within("module/", tensors))
        load_named_state(self.optimizer, self.module, _within("optimizer/", tensors))
        self.say(f"going on at step {step} of {self.schedule.steps}")
        return step

    def _save(self, step: int) -> None:
        if self.where.first:
            tensors = {f"module/{name}": value for name, value in self.module.state_dict().items()}
            tensors |= {f"optimizer/{name}": value for name, value in named_state(self.optimizer, self.module).items()}
            self.folder.keep_state(step, tensors)
            self._save_encoder(step)
        if self.where.size > 1:
            dist.barrier()  # torchrun ends all processes when one has ended with an error, as after Ctrl-C

    def _save_encoder(self, step: int) -> None:
        about = {
            "family": self.family,
            "objective": self.objective,
            "arch": self.arch,
            "step": step,
            "epochs": step / self.schedule.epoch,
            "images": self.images.name,
        }
        self.folder.keep_encoder(self.method.encoder.state_dict(), self.name, asdict(self.shape), about)

    @contextlib.contextmanager
    def _log(self, start: int) -> Iterator[Lines]:
        """The run's log; its lines until `start` are judged again, but nothing is said of them again."""
        s = self.schedule
        made = functools.partial(Lines, per_epoch=s.epoch, steps=s.steps, every=self.training.log_every)
        if not self.where.first:
            yield made(None)
            return
        with self.folder.log(start) as write:
            if self.watch is None:
                yield made(write)
                return
            signs = Signs(round(self.settings.warmup * s.steps), getattr(self.settings, "prototypes", None))
            for line in self.folder.lines():
                signs.see(line)
            yield made(write, signs=signs, tell=self.watch.tell, say=self.say)


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that the step is finished and kept; a second Ctrl-C stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
