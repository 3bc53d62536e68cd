"""Follows the weights of a training while it runs, in any loop: plain PyTorch, Lightning's, or
Hugging Face's Trainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from sslens.errors import InputError
from sslens.paths.files import strip_wrappers
from sslens.paths.path import PathMeter, Squares, group_masks
from sslens.store import scratch
from sslens.table import Table


@final
class PathTracker:
    """Follows the parameters of a module that require a gradient, from where they are now: for any
    loop.

        path = PathTracker(model)              # before the first step
        ...                                # in the loop:
            optimizer.step()
            path.step()                    # or once: optimizer.register_step_post_hook(path.step)
        ...                                # after an epoch:
            path.record()
        path.table().save(Path("path.csv"))

    It keeps one copy of the parameters beside the module (none with `steps=False`, which measures
    over records alone); the first weights and those of the last two records lie in files without a
    name under `sslens.store.home()`, memory-mapped. A step adds one subtraction, norm and copy of
    the parameters, and never waits for a GPU.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> path = PathTracker(model)
    >>> for value in (1.0, 3.0, 2.0):
    ...     _ = model.weight.data.fill_(value)
    ...     path.step()
    >>> path.record()
    >>> end = path.table().frame.iloc[0]
    >>> float(end.displacement), float(end.length), float(end.step_length)  # 0 to 2 by way of 3
    (2.0, 2.0, 4.0)
    """

    def __init__(self, module: nn.Module, *, steps: bool = True) -> None:
        """Take the weights as they are for θ_0.

        Raises:
            InputError: no parameter requires a gradient, or one is not finite.
        """
        own = {
            strip_wrappers(name): value
            for name, value in module.named_parameters()
            if value.requires_grad
        }
        self._names: list[str] = list(own)
        self._values: list[Tensor] = list(own.values())
        self._meter = PathMeter.begin(self._copy())
        self._step = 0
        self._last: list[Tensor] | None = None
        if steps:
            self._last = [value.detach().clone() for value in self._values]
            device = self._values[0].device
            precise = torch.float32 if device.type == "mps" else torch.float64
            masks = group_masks({name: value.ndim for name, value in own.items()}).values()
            self._members = torch.from_numpy(np.stack([*masks], 1)).to(device, precise)
            self._lengths = torch.zeros(len(masks), dtype=precise, device=device)
            self._broken = torch.full((len(own),), -1, device=device)

    def _copy(self) -> dict[str, Tensor]:
        """Copy the weights into a file."""
        wide = (
            torch.float64
            if any(value.dtype == torch.float64 for value in self._values)
            else torch.float32
        )
        sizes = [value.numel() for value in self._values]
        flat = torch.from_numpy(scratch((sum(sizes),), str(wide).removeprefix("torch.")))
        with torch.no_grad():
            for part, value in zip(flat.split(sizes), self._values, strict=True):
                part.view(value.shape).copy_(value)
        parts = (
            part.view(value.shape)
            for part, value in zip(flat.split(sizes), self._values, strict=True)
        )
        return dict(zip(self._names, parts, strict=True))

    @torch.no_grad()
    def step(self, *_: Any) -> None:
        """Add the length of a step of the optimiser, after it. Arguments are ignored, so that this
        can be a hook."""
        self._step += 1
        if self._last is None:
            return
        torch._foreach_sub_(self._last, self._values)
        norms = torch.stack(torch._foreach_norm(self._last, 2, torch.float32)).to(
            self._members.dtype
        )
        self._lengths += (norms.square() @ self._members).sqrt()
        self._broken = torch.where((self._broken < 0) & ~norms.isfinite(), self._step, self._broken)
        torch._foreach_copy_(self._last, self._values)

    def record(self, at: int | str | None = None) -> None:
        """Record the weights, after an epoch or at any other time.

        Args:
            at: the record's label; its number unless given.

        Raises:
            InputError: a parameter is no longer finite; the message says which one, and since which
                step.
        """
        if self._last is not None:
            broken = self._broken.tolist()
            steps = [step for step in broken if step >= 0]
            if steps:
                name = self._names[broken.index(min(steps))]
                raise InputError(
                    f"{name} holds numbers that are not finite since step {min(steps)}: a path ends"
                    " there. Look at the training's loss and learning rate."
                )
        lengths = None if self._last is None else self._lengths.double().cpu().numpy().copy()
        label = str(len(self._meter.path.labels) + 1 if at is None else at)
        self._meter.add(self._copy(), label, step=self._step, step_length=lengths)

    def table(self) -> Table:
        """Return the path as a table with a row for each record and group; `UNITS` describes the
        columns.

        Raises:
            InputError: nothing was recorded.
        """
        return self._meter.path.table()

    def state(self) -> dict[str, Tensor]:
        """Return all that is needed to go on with a module that has its weights again: three copies
        of the weights, and the sums."""
        meter, path = self._meter, self._meter.path
        last = meter.last if path.sums else {}  # until there is a record these are the first
        before = meter.before if len(path.sums) > 1 else {}
        weights: dict[str, Mapping[str, Tensor]] = {
            "first": meter.first,
            "last": last,
            "before": before or {},
        }
        state = {
            f"{when}/{name}": value
            for when, tensors in weights.items()
            for name, value in tensors.items()
        }
        state["sums"] = torch.from_numpy(np.array(path.sums).reshape(-1, 3, len(self._names)))
        state["labels"] = torch.tensor(list("\n".join(path.labels).encode()), dtype=torch.uint8)
        state["steps"] = torch.tensor([*path.steps, self._step])
        if self._last is not None:
            state["step_lengths"] = torch.from_numpy(
                np.array([*path.step_lengths, self._lengths.double().cpu().numpy()])
            )
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the tensors that `state` returned; the module must have its weights again.

        Raises:
            InputError: the state is of other parameters, or of a tracker with another value of
                `steps`.
        """
        held: dict[str, dict[str, Tensor]] = {"first": {}, "last": {}, "before": {}}
        for key, value in state.items():
            when, _, name = key.partition("/")
            if name:
                held[when][name] = value.cpu()
        shapes = [
            {name: value.shape for name, value in tensors.items()}
            for tensors in (held["first"], self._meter.first)
        ]
        if shapes[0] != shapes[1] or ("step_lengths" in state) != (self._last is not None):
            raise InputError(
                "The state of a path is of other parameters, or of a path that was measured"
                " otherwise."
            )
        first, last, before = (
            {name: tensors[name] for name in self._names if tensors} for tensors in held.values()
        )
        meter = PathMeter.begin(first)
        path = meter.path
        path.sums = [Squares(*sums) for sums in state["sums"].cpu().numpy()]
        meter.last = last or first
        meter.before = before or (first if path.sums else None)
        path.labels = bytes(state["labels"].tolist()).decode().split("\n") if len(path.sums) else []
        *path.steps, self._step = state["steps"].tolist()
        if self._last is not None:
            *path.step_lengths, lengths = state["step_lengths"].cpu().numpy()
            self._lengths = torch.from_numpy(lengths).to(self._lengths)
        self._meter = meter


class PathCallback:
    """Measures the path of a run of Lightning's Trainer or Hugging Face's; to be mixed into the
    callback class of either library.

        class Path(PathCallback, lightning.Callback): ...
        class Path(PathCallback, transformers.TrainerCallback): ...

        trainer = Trainer(..., callbacks=[Path("path.csv")])

    Neither library is imported here: the methods have the names that the two libraries call. After
    every epoch the table is written to a file. Of several processes only the first follows its
    weights, since all have the same.
    """

    def __init__(self, out: Path | str = "path.csv", *, steps: bool = True) -> None:
        super().__init__()
        self.out, self.steps = Path(out), steps
        self.tracker: PathTracker | None = None

    def begin(self, module: nn.Module, first: bool) -> None:
        """Begin to follow the weights of a module where this is the first process, else do
        nothing."""
        self.tracker = PathTracker(module, steps=self.steps) if first else None

    def step(self) -> None:
        """Add the length of a step of the optimiser.

        Calling it without an update in between adds no length; only the count of steps rises.
        """
        if self.tracker is not None:
            self.tracker.step()

    def record(self) -> None:
        """Record the weights, and write the table."""
        if self.tracker is not None:
            self.tracker.record()
            self.tracker.table().save(self.out)

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Begin: Lightning calls this before the first epoch."""
        self.begin(pl_module, trainer.is_global_zero)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Add a step: Lightning calls this after a minibatch."""
        self.step()

    def on_train_epoch_end(self, *_: Any, **__: Any) -> None:
        """Record: Lightning calls this after an epoch."""
        self.record()

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any
    ) -> None:
        """Begin: Hugging Face's Trainer calls this before the first epoch."""
        self.begin(model, state.is_world_process_zero)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Add a step: Hugging Face's Trainer calls this after a step of the optimiser."""
        self.step()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Record: Hugging Face's Trainer calls this after an epoch."""
        self.record()
