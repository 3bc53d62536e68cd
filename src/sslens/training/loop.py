"""The only training loop: a method, images, an optimiser, checkpoints.

Everything random in a step is a function of (seed, step): which images, their views, their masks.
So a step is the same whatever the number of processes, of data workers and of parts it is
accumulated over; and a run that was killed goes on from its last checkpoint to the same weights,
with no generator's state to keep.

A run is a folder: `config.yaml`, `log.jsonl` (a line every `log_every` steps), `last.safetensors`
(the encoder, which `sslens.load` takes) and `state.safetensors` (everything, to go on).
"""

import contextlib
import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sslens import zoo
from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.methods import Method, Moment, WholeBatch
from sslens.models.blocks import Way, by_block, require_compiler
from sslens.models.vit import explicit_attention
from sslens.paths.tracker import PathTracker
from sslens.processes import Processes, best_device, best_precision, processes
from sslens.progress import progress
from sslens.training.exam import Exam
from sslens.training.folder import Folder
from sslens.training.gradients import backward, backward_whole
from sslens.training.lines import Lines
from sslens.training.mishaps import Run, mishap
from sslens.training.optim import load_named_state, named_state, optimiser, scaled_lr, set_rates
from sslens.training.parts import ORDER, Feed, Part, Parts
from sslens.training.schedule import FREE, Schedule, Training, doubt_small, plan, require_shares
from sslens.training.signs import Signs
from sslens.training.stopping import stopping
from sslens.training.subject import Subject, pretrained_by
from sslens.training.watch import Looks, Watch

#: the files of what did best on held-out images, and of the path
BEST, PATH = "best.safetensors", "path.csv"

__all__ = [
    "ORDER",
    "Interrupted",
    "Schedule",
    "Training",
    "doubt_small",
    "plan",
    "require_shares",
    "run",
    "train",
]


class Interrupted(InputError):  # noqa: N818 (as KeyboardInterrupt)
    """The run was asked to stop, and has kept its state."""


def train(
    objective: str,
    images: ImageSet,
    arch: str,
    out: Path,
    *,
    settings: Any = None,
    training: Training | None = None,
    resume: bool = False,
    name: str | None = None,
    watch: Watch | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Pre-train an encoder on images with an objective; returns the encoder's file, as `run` does.

    Args:
        objective: the name of a file of `objectives/`.
        arch: a name such as `vit_mini_patch8_64`.
        out: the run's folder.
        settings: the objective's `Settings`; its defaults unless given.
        resume: go on from the checkpoint in `out`, or start where there is none yet.
        name: of the model in tables and figures; the objective's unless given.
        watch: what is looked at while the run goes on, and what is warned of; the weights are the
            same without it.
        say: called with lines for a person.

    Raises:
        InputError: `out` holds another run, or one that was not asked to go on; too few images, or
            images without classes for an objective that learns them; a loss that is not finite;
            torch cannot compile.
        Mishap: memory ran out, or a data worker or another process was lost; the last state is
            kept.
        Interrupted: on Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2, after the state was kept; but for
            Ctrl-C, what handled the signal before is called then.
    """
    subject = pretrained_by(objective, arch, settings, images)
    return run(
        subject,
        images,
        out,
        training=training or Training(),
        resume=resume,
        name=name or objective,
        watch=watch,
        say=say,
    )


def run(
    subject: Subject,
    images: ImageSet,
    out: Path,
    *,
    training: Training,
    resume: bool = False,
    name: str,
    watch: Watch | None = None,
    exam: Exam | None = None,
    path: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train what is given on images, as `train` does; returns the file of what is kept.

    Args:
        subject: what is trained; with an exam its method has a `classifier`.
        exam: held-out images that are classified after each epoch; what did best (`top1`, the first
            of equals) is kept too.
        path: whether the path of what is trained (of a fine-tuning's `tuned`) is measured, into
            `path.csv` after each epoch; the state then holds the weights three times more.
    """
    with processes(best_device(training.device)) as where:
        made = None
        try:
            made = _Run(subject, images, out, training, where, name, watch, exam, path, say)
            return made.go(resume)
        except (RuntimeError, MemoryError) as error:
            precision, divisible = (
                (made.precision, made.method.divisible) if made else (training.precision, False)
            )
            if (said := mishap(error, Run(out, training, where, precision, divisible))) is not None:
                raise said from error
            raise


@final
class _Run:
    def __init__(
        self,
        subject: Subject,
        images: ImageSet,
        out: Path,
        training: Training,
        where: Processes,
        name: str,
        watch: Watch | None,
        exam: Exam | None,
        path: bool,
        say: Callable[[str], None],
    ) -> None:
        self.subject, self.settings, self.images, self.out, self.where = (
            subject,
            subject.settings,
            images,
            out,
            where,
        )
        self.training, self.name, self.say = training, name, say if where.first else lambda _: None
        self.precision = best_precision(training.precision, where.device)
        self.schedule = subject.plan(len(images), training, where.size)
        torch.manual_seed(training.seed)
        self.module: nn.Module = cast(nn.Module, subject.build()).to(where.device)
        self.method = cast(Method, self.module)
        explicit_attention(self.module, torch.device(where.device).type == "cpu")
        if training.compile:
            require_compiler(where.device)
        if training.compile or training.recompute:
            by_block(self.module, Way(training.compile, training.recompute))
        self.optimizer = optimiser(self.method.parameter_groups(), self.settings)
        self.lr = scaled_lr(self.settings.base_lr, training.batch_size)
        self.folder = Folder(out, self.config())
        self.watch, self.exam, self.best = watch, exam, -1.0
        if watch:
            self.looks = Looks(watch, images, subject.transform, str(subject.about.family))
        self.followed = path and where.first
        self.path: PathTracker | None = None
        self.parts = Parts(subject.batch, self.settings, subject.shape, images, training, where)

    def config(self) -> dict[str, Any]:
        """What decides the weights at the end."""
        kept = {name: value for name, value in asdict(self.training).items() if name not in FREE}
        return {
            **self.subject.config,
            "settings": json.loads(json.dumps(asdict(self.settings))),
            "training": kept | {"precision": self.precision},
            "images": {
                "name": self.images.name,
                "count": len(self.images),
                "digest": self.images.digest,
                "unordered": self.images.content,
            },
        }

    def go(self, resume: bool) -> Path:
        start = self._start(resume)
        s = self.schedule
        if start == s.steps and self.where.first:
            self._save_encoder(start)  # a kill may have come between the last state and it
        self.say(
            f"{self.subject.name} on {len(self.images):,} images of {self.images.name}: {s.steps:,}"
            f" steps, {s.epoch:,} an epoch; {self.training.batch_size} images a step, lr"
            f" {self.lr:.3g} after scaling {self.settings.base_lr:.3g} to that batch;"
            f" {self.precision} on {self.where.size} × {self.where.device}"
        )
        model = self.module
        if self.where.size > 1:
            model = DistributedDataParallel(self.module)
        self.module.train()
        label = f"{self.subject.verb} {self.name}"
        bar = progress(label, start=start * s.batch_size, quiet=not self.where.first)
        with stopping() as stop, bar as report, self._log(start) as log:
            shown: dict[str, float] = {}
            for step, loss, rate in self._steps(model, start):
                done = step + 1
                log.step(done, loss, self.optimizer.param_groups[0]["lr"], rate)
                if self.path and done % s.epoch == 0:
                    self.path.record(done // s.epoch)
                    self.path.table().save(self.out / PATH)
                if self.watch and self.watch.due(done, s.epoch, s.steps):
                    found = self.looks.look(self.method.encoder, self.where.device, self.precision)
                    log.note(done, found)
                    shown = {key: value for key, value in found.items() if key.startswith("knn")}
                if self.exam and done % s.epoch == 0:
                    shown = self._examined(self.exam, done, log)
                report(done * s.batch_size, s.steps * s.batch_size, loss=loss, **shown)
                last, stopped = done == s.steps, self._agree(stop.asked)
                if last or stopped or done % (self.training.save_every or s.epoch) == 0:
                    self._save(done)
                if stopped and not last:
                    stop.kept = stopped
                    raise Interrupted(
                        f"Stopped after step {done} of {s.steps}; the state is kept in {self.out}:"
                        " go on with --resume."
                    )
        return self.out / zoo.ENCODER

    def _steps(self, model: nn.Module, start: int) -> Iterator[tuple[int, float, float]]:
        t, s = self.training, self.schedule
        feed = Feed(
            self.parts,
            range(start * t.accumulate, s.steps * t.accumulate),
            self.where.device,
            t.workers,
        )
        for step in range(start, s.steps):
            began = time.monotonic()
            at = Moment(step, s.steps, s.epoch)
            self.method.before_step(at)
            set_rates(self.optimizer, *self.method.rates(at, self.lr))
            loss = self._backward(model, feed.take(t.accumulate))
            self.method.before_update(at)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.method.after_update(at)
            if self.path:
                self.path.step()
            feed.fetch()
            value = self._mean(
                loss
            )  # only here a GPU is waited for; what is not finite is never kept
            if not math.isfinite(value):
                raise InputError(
                    f"The loss is {value} at step {step + 1} of {s.steps}: the training has"
                    " diverged. Start again in another --out with a lower --set base_lr, a longer"
                    " --set warmup, or --precision float32."
                )
            yield step, value, t.batch_size / (time.monotonic() - began)

    def _examined(self, exam: Exam, step: int, log: Lines) -> dict[str, float]:
        """How the classifier does on held-out images, noted; it is kept where it does better than
        before."""
        self.module.eval()
        found = exam.sit(self.method.classifier, self.where, self.precision, self.training.workers)  # type: ignore[attr-defined]
        self.module.train()
        log.note(step, found)
        if found["top1"] > self.best:
            self.best = found["top1"]
            if self.where.first:
                self._save_encoder(step, BEST, found)
        return {"top1": found["top1"]}

    def _backward(self, model: nn.Module, parts: Iterator[Part]) -> Tensor:
        """Gradients of this process' share of a step, averaged over processes; returns its loss."""
        kind = torch.device(self.where.device).type
        autocast = torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16")
        if isinstance(self.method, WholeBatch) and self.training.accumulate > 1:
            return backward_whole(self.method, parts, autocast)
        return backward(model, parts, self.training.accumulate, autocast)

    def _mean(self, value: Tensor) -> float:
        if self.where.size > 1:
            dist.all_reduce(value)
        return value.item() / self.where.size

    def _agree(self, stop: int) -> int:
        """The signal by which any process was asked to stop, or 0; all learn it in the same
        step."""
        if self.where.size == 1:
            return stop
        asked = torch.tensor(stop, device=self.where.device)
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return int(asked)

    def _start(self, resume: bool) -> int:
        """The step to start at: 0, or where the checkpoint left off."""
        kept = self.folder.state(resume)
        if self.where.first:
            self.folder.prepare()
        if kept is None:
            self._follow()
            return 0
        step, tensors = kept
        self.module.load_state_dict(_within("module/", tensors))
        load_named_state(self.optimizer, self.module, _within("optimizer/", tensors))
        self._follow(_within("path/", tensors))
        self.say(f"going on at step {step} of {self.schedule.steps}")
        return step

    def _follow(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Follow the weights from where they are now, or go on following them."""
        if not self.followed:
            return
        self.path = PathTracker(getattr(self.method, "tuned", self.module))
        if state is not None:
            if not state:
                raise InputError(
                    f"The run in {self.out} was not followed from its first step: go on without its"
                    " path."
                )
            self.path.load(state)

    def _save(self, step: int) -> None:
        if self.where.first:
            tensors = {f"module/{name}": value for name, value in self.module.state_dict().items()}
            tensors |= {
                f"optimizer/{name}": value
                for name, value in named_state(self.optimizer, self.module).items()
            }
            if self.path:
                tensors |= {f"path/{name}": value for name, value in self.path.state().items()}
            self.folder.keep_state(step, tensors)
            self._save_encoder(step)
        if self.where.size > 1:
            # torchrun ends all processes when one has ended with an error, as after Ctrl-C
            dist.barrier()

    def _save_encoder(
        self, step: int, file: str = zoo.ENCODER, found: Mapping[str, float] | None = None
    ) -> None:
        done = {
            "step": step,
            "epochs": step / self.schedule.epoch,
            "images": self.images.name,
            **(found or {}),
        }
        weights, subject = self.subject.weights(self.method), self.subject
        about = {**subject.about.to_json(), **done}
        self.folder.keep_encoder(
            weights, self.name, subject.header, about, subject.transform.spec(), file
        )

    @contextlib.contextmanager
    def _log(self, start: int) -> Iterator[Lines]:
        """The run's log; its lines until `start` are judged again, but nothing is said of them
        again."""
        s = self.schedule
        made = functools.partial(
            Lines, per_epoch=s.epoch, steps=s.steps, every=self.training.log_every
        )
        if not self.where.first:
            yield made(None)
            return
        with self.folder.log(start) as write:
            self.best = max(
                [float(line["top1"]) for line in self.folder.lines() if "top1" in line],
                default=-1.0,
            )
            if self.watch is None:
                yield made(write)
                return
            signs = Signs(
                round(self.settings.warmup * s.steps), getattr(self.settings, "prototypes", None)
            )
            for line in self.folder.lines():
                signs.see(line)
            yield made(write, signs=signs, tell=self.watch.tell, say=self.say)


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
