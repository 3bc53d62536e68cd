"""The only training loop: a method, images, an optimiser, checkpoints.

Everything random in a step is a function of (seed, step): which images, their views, their masks.
So a step is the same in any number of processes, data workers and parts. A run that was killed goes
on from its last checkpoint to the same weights, and no generator's state has to be kept.

A run is a folder: `config.yaml`, `log.jsonl` (a line every `log_every` steps), `last.safetensors`
(the encoder, which `sslens.load` takes) and `state.safetensors` (everything, to go on).

The loop knows steps and no metric: everything that is measured while it runs is measured by
observers (`sslens.training.observers`).
"""

import contextlib
import functools
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sslens import zoo
from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.errors import InputError, Interrupted
from sslens.methods import Batch, Method, Moment, WholeBatch, call_hook
from sslens.methods.job import TrainingJob
from sslens.models.blocks import Way, require_compiler, set_block_runs
from sslens.models.transformers import set_explicit_attention
from sslens.processes import Processes, best_device, best_precision, processes
from sslens.progress import progress
from sslens.training.folder import RunFolder
from sslens.training.gradients import backward, backward_whole
from sslens.training.kept import LogLine
from sslens.training.log import RunLog
from sslens.training.mishaps import Circumstances, explain
from sslens.training.observers import BeginObserver, Observer, RunningTraining, StatefulObserver
from sslens.training.optim import (
    make_optimiser,
    name_state,
    scale_lr,
    set_rates,
)
from sslens.training.parts import Feed, Parts
from sslens.training.run_files import remove_run, require_free
from sslens.training.schedule import FREE, Training, schedule_run
from sslens.training.signs import Signs, Start
from sslens.training.stopping import note_signals


@final
@dataclass(frozen=True)
class RunRequest:
    """The request for a run.

    Attributes:
        job: what is trained.
        images: what it is trained on.
        out: the run's folder.
        training: the length of the run, and on what it runs.
        name: the model's name in tables and figures.
        resume: go on from the checkpoint in `out`, or start where there is none yet.
        overwrite: first remove the files of the run or study that `out` holds, and no others.
        observers: functions that make the observers of the run; these look at it in this order.
        judged: whether the log is checked for warning signs (`sslens.training.signs`).
        chance: the accuracy of the same guess for all images that an observer's "top1" is of.
        tell: functions that are called with every line of the log.
        say: called with lines for a person.
    """

    job: TrainingJob
    images: ImageSet
    out: Path
    training: Training
    name: str
    resume: bool = False
    overwrite: bool = False
    observers: tuple[BeginObserver, ...] = ()
    judged: bool = False
    chance: float | None = None
    tell: tuple[Callable[[LogLine], None], ...] = ()
    say: Callable[[str], None] = lambda _: None


def run(request: RunRequest) -> Path:
    """Carry out a run, and return the path of the encoder's file.

    Raises:
        InputError: there can be no such run, or the folder holds another; a loss is not finite.
        Mishap: memory ran out, or a data worker or another process was lost; the last state is
            kept.
        Interrupted: a signal asked the run to stop, after the state was kept.
    """
    training = request.training
    with processes(best_device(training.device)) as where:
        loop = None
        try:
            loop = _Loop(request, where)
            return loop.go()
        except (RuntimeError, MemoryError) as error:
            precision, divisible = (
                (loop.precision, loop.method.divisible) if loop else (training.precision, False)
            )
            exact = loop is None or getattr(loop.method, "exact", True)
            about = Circumstances(request.out, training, where, precision, divisible, exact)
            if (mishap := explain(error, about)) is not None:
                raise mishap from error
            raise


@final
class _Loop:
    """A run in one process."""

    def __init__(self, request: RunRequest, where: Processes) -> None:
        self.request, self.job, self.training = request, request.job, request.training
        self.where, self.say = where, request.say if where.first else lambda _: None
        self.precision = best_precision(self.training.precision, where.device)
        self.schedule = schedule_run(self.job, len(request.images), self.training, where.size)
        torch.manual_seed(self.training.seed)
        self.module: nn.Module = cast(nn.Module, self.job.build()).to(where.device)
        self.method = cast(Method, self.module)
        set_explicit_attention(self.module, torch.device(where.device).type == "cpu")
        if self.training.compile:
            require_compiler(where.device)
        if self.training.compile or self.training.recompute:
            set_block_runs(self.module, Way(self.training.compile, self.training.recompute))
        settings = self.job.settings
        self.optimizer = make_optimiser(self.method.parameter_groups(), settings)
        self.lr = scale_lr(settings.base_lr, self.training.batch_size)
        self.folder = RunFolder(request.out, self.config())
        self.parts = Parts(self.job, request.images, self.training, where)
        self.observers: tuple[Observer, ...] = ()
        self.losses: tuple[float, ...] = ()

    def config(self) -> dict[str, Any]:
        """What decides the weights at the end."""
        training, images = asdict(self.training), self.request.images
        kept = {name: value for name, value in training.items() if name not in FREE}
        return {
            **self.job.config,
            "settings": json.loads(json.dumps(asdict(self.job.settings))),
            "training": kept | {"precision": self.precision},
            "images": {
                "name": images.name,
                "count": len(images),
                "digest": images.digest,
                "unordered": images.content,
            },
        }

    def go(self) -> Path:
        """Train from where the run is to its end."""
        start = self._start()
        s = self.schedule
        if start == s.steps and self.where.first:
            # a kill may have come between writing the last state and writing the encoder
            self._keep_encoder(start)
        self._say_plan()
        model = self.module
        if self.where.size > 1:
            model = DistributedDataParallel(self.module)
        self.module.train()
        label = f"{self.job.verb} {self.request.name}"
        bar = progress(label, start=start * s.batch_size, quiet=not self.where.first)
        with note_signals(tell=self.where.first) as stop, bar as report, self._log(start) as log:
            shown: dict[str, float] = {}
            for step, loss, rate in self._steps(model, start):
                done = step + 1
                log.step(done, loss, self.optimizer.param_groups[0]["lr"], rate)
                shown |= self._observe(done, log)
                report(done * s.batch_size, s.steps * s.batch_size, loss=loss, **shown)
                last, stopped = done == s.steps, self._agree(stop.asked)
                if last or stopped or done % (self.training.save_every or s.epoch) == 0:
                    self._save(done, log.losses)
                if stopped and not last:
                    stop.kept = stopped
                    raise Interrupted(
                        f"Stopped after step {done} of {s.steps}; the state is kept in"
                        f" {self.request.out}",
                        mend="go on with {resume=True}",
                    )
            came = self._agree(stop.asked)
        if came:
            self.say(
                f"note      {signal.Signals(came).name} came in the last step: the run had ended"
                f" then, and all of it is kept in {self.request.out}"
            )
        return self.request.out / zoo.ENCODER

    def _say_plan(self) -> None:
        images, s = self.request.images, self.schedule
        self.say(
            f"{self.job.name} on {spell_count(len(images), 'image')} of {images.name}:"
            f" {spell_count(s.steps, 'step')}, {s.epoch:,} an epoch;"
            f" {spell_count(self.training.batch_size, 'image')} a step, lr {self.lr:.3g} after"
            f" scaling {self.job.settings.base_lr:.3g} to that batch; {self.precision} on"
            f" {self.where.size} × {self.where.device}"
        )

    def _steps(self, model: nn.Module, start: int) -> Iterator[tuple[int, float, float]]:
        """Take the steps; yields each one's number, its loss and images a second."""
        t, s = self.training, self.schedule
        numbers = range(start * t.accumulate, s.steps * t.accumulate)
        feed = Feed(self.parts, numbers, self.where.device, t.workers)
        for step in range(start, s.steps):
            began = time.monotonic()
            at = Moment(step, s.steps, s.epoch)
            call_hook(self.method, "before_step", at)
            set_rates(self.optimizer, *self.method.rates(at, self.lr))
            loss = self._backward(model, feed.take(t.accumulate))
            call_hook(self.method, "before_update", at)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            call_hook(self.method, "after_update", at)
            feed.fetch()
            value = self._mean(loss)  # only here a GPU is waited for
            if not math.isfinite(value):  # before anything of this step is kept
                raise InputError(
                    f"The loss is {value} at step {step + 1} of {s.steps}: the training has"
                    " diverged.",
                    mend="start again in another {out} with a lower {settings.base_lr}, a longer"
                    " {settings.warmup}, or {precision=float32}",
                )
            yield step, value, t.batch_size / (time.monotonic() - began)

    def _observe(self, step: int, log: RunLog) -> dict[str, float]:
        """Let the observers look where a look is due; returns what the progress bar shows of it."""
        shown: dict[str, float] = {}
        for observer in self.observers:
            if observer.due(step):
                findings = observer.look(step)
                log.note(step, findings.numbers)
                shown |= {name: findings.numbers[name] for name in findings.shown}
        return shown

    def _backward(self, model: nn.Module, parts: Iterator[Batch]) -> Tensor:
        """Gradients of this process' share of a step, averaged over processes; returns its loss."""
        kind = torch.device(self.where.device).type
        autocast = torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bfloat16")
        if isinstance(self.method, WholeBatch) and self.training.accumulate > 1:
            return backward_whole(self.method, parts, autocast)
        return backward(model, parts, self.training.accumulate, autocast)

    def _mean(self, value: Tensor) -> float:
        """The mean over processes."""
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

    def _start(self) -> int:
        """Put the weights and the observers in place; returns the step to start at: 0, or the step
        of the checkpoint."""
        if self.request.overwrite:
            self._clear()
        kept = self.folder.state(self.request.resume)
        if self.where.size > 1:
            dist.barrier()  # before the first writes what others would take for a stranger's
        if self.where.first:
            self.folder.prepare(resumed=kept is not None)
        if kept is None:
            self.observers = self._begin_observers(0)
            return 0
        total = self.schedule.steps
        self.losses = kept.load(self.module, self.optimizer, total)
        self.observers = self._begin_observers(kept.step)
        for observer in self.observers:
            if isinstance(observer, StatefulObserver):
                with kept.explain():
                    observer.load(kept.select(observer.key))
        self.say(
            f"going on at step {kept.step} of {total}"
            if kept.step < total
            else f"all {total} steps are done: nothing is left to train"
        )
        return kept.step

    def _clear(self) -> None:
        """Remove what the folder holds of ours; all processes wait until it is gone."""
        require_free(self.request.out, resume=self.request.resume, overwrite=True)
        if self.where.size > 1:
            dist.barrier()  # all have seen what was there
        if self.where.first:
            remove_run(self.request.out)
        if self.where.size > 1:
            dist.barrier()

    def _begin_observers(self, start: int) -> tuple[Observer, ...]:
        running = RunningTraining(
            job=self.job,
            images=self.request.images,
            out=self.request.out,
            training=self.training,
            schedule=self.schedule,
            where=self.where,
            precision=self.precision,
            method=self.method,
            optimizer=self.optimizer,
            start=start,
            lines=self.folder.lines(start),
            keep=self._keep_encoder,
        )
        begun = (begin(running) for begin in self.request.observers)
        return tuple(observer for observer in begun if observer is not None)

    def _save(self, step: int, losses: Sequence[float]) -> None:
        """Keep the state and the encoder; all processes wait until they are kept. The losses are
        those since the last line of the log: a run that goes on has them in its next line."""
        if self.where.first:
            named = {
                "module": self.module.state_dict(),
                "optimizer": name_state(self.optimizer, self.module),
            }
            if losses:
                named["log"] = {"losses": torch.tensor(losses, dtype=torch.float64)}
            for observer in self.observers:
                if isinstance(observer, StatefulObserver):
                    named[observer.key] = dict(observer.state())
            tensors = {
                f"{key}/{name}": value
                for key, state in named.items()
                for name, value in state.items()
            }
            self.folder.keep_state(step, tensors)
            self._keep_encoder(step)
        if self.where.size > 1:
            # torchrun ends all processes when one has ended with an error, as after Ctrl-C
            dist.barrier()

    def _keep_encoder(
        self, step: int, file: str = zoo.ENCODER, numbers: Mapping[str, float] | None = None
    ) -> None:
        """Write the encoder as it is, in the first process; numbers stand in its header."""
        if not self.where.first:
            return
        about = replace(
            self.job.about,
            step=step,
            epochs=step / self.schedule.epoch,
            images=self.request.images.name,
            more={**self.job.about.more, **(numbers or {})},
        )
        weights, transform = self.job.weights(self.method), self.job.transform.spec()
        self.folder.keep_encoder(weights, self.request.name, self.job.shape, about, transform, file)

    @contextlib.contextmanager
    def _log(self, start: int) -> Iterator[RunLog]:
        """The run's log; its lines until `start` are judged again, but nothing is said of them
        again."""
        s = self.schedule
        make = functools.partial(
            RunLog, per_epoch=s.epoch, steps=s.steps, every=self.training.log_every
        )
        if not self.where.first:
            yield make(None, losses=self.losses)
            return
        with self.folder.log(start) as write:
            signs = None
            if self.request.judged:
                settings = self.job.settings
                labels, chance = self.request.images.labels, self.request.chance
                trivial = self.job.find_trivial(labels, self.training.batch_size)
                every = self.training.log_every
                signs = Signs(
                    round(settings.warmup * s.steps),
                    getattr(settings, "prototypes", None),
                    None if trivial is None else Start(trivial, s.steps, every, chance),
                )
                for line in self.folder.lines():
                    signs.judge(line)
            yield make(write, signs=signs, tell=self.request.tell, say=self.say, losses=self.losses)
