"""What the folder of a run keeps, read back and checked: the lines of the log, and the state from
which the run goes on.

A kill may cut off the last line of the log, which is left out. All else that is damaged is refused,
with the file and the line or the tensor.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from sslens import zoo
from sslens.errors import InputError
from sslens.training.optim import load_named_state
from sslens.whole_file import open_regular

#: the entry of the state file's header
HEADER = "sslens.state"
#: keys of a line of the log that are texts; the values of all others are numbers
TEXTS = ("warning",)

#: a line of the log
LogLine = Mapping[str, int | float | str]


def read_log(path: Path) -> list[tuple[str, LogLine]]:
    """Read a log: the text and the values of each line; no lines where there is no log yet.

    Raises:
        InputError: the file cannot be read, or a line is damaged and was not cut off by a kill.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "log.jsonl"
    >>> _ = path.write_text('{"step": 1, "loss": 2.5}\\n{"step": 2, "lo')
    >>> read_log(path)
    [('{"step": 1, "loss": 2.5}', {'step': 1, 'loss': 2.5})]
    >>> _ = path.write_text('{"step": 1, "loss": null}\\n')
    >>> read_log(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    sslens.errors.InputError: .../log.jsonl is damaged in line 1 (its loss is no number): ...
    """
    try:
        with open_regular(path) as file:
            *whole, cut = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{path} cannot be read as the log of a run ({error.strerror})",
            mend="move it away, or choose another {out}",
        ) from error
    lines = []
    for number, content in enumerate(whole, 1):
        try:
            lines.append(_read_line(content))
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path} is damaged in line {number:,} ({reason})",
                mend="copy the file again, remove that line, which the weights do not depend on,"
                " or choose another {out}",
            ) from error
    with contextlib.suppress(ValueError, RecursionError):
        lines += [_read_line(cut)] if cut else []
    return lines


def _read_line(content: bytes) -> tuple[str, LogLine]:
    text = content.decode("utf-8")
    values = json.loads(text)
    if not isinstance(values, dict) or "step" not in values:
        raise ValueError("it has no step")
    for key, value in values.items():
        if not isinstance(value, str) if key in TEXTS else type(value) not in (int, float):
            raise ValueError(f"its {key[:40]} is no {'text' if key in TEXTS else 'number'}")
    if not math.isfinite(values["step"]):  # a loss may be, of a run that went wrong
        raise ValueError("its step is not finite")
    if "top1" in values and "epoch" not in values:
        raise ValueError("its top1 is of no epoch")
    return text, values


@final
@dataclass(frozen=True)
class KeptState:
    """The state of a run after some steps.

    Attributes:
        path: the file.
        step: the number of steps done.
        config: the run's config.
        tensors: all tensors of the file.
    """

    path: Path
    step: int
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> "KeptState":
        """Read a state file.

        Raises:
            InputError: it is truncated or damaged, or is no state.
        """
        header, tensors = zoo.read(path)
        if HEADER not in header:
            raise InputError(f"{path} is not the state of a run: its header has no {HEADER}.")
        try:
            before = json.loads(header[HEADER])
            step, config = int(before["step"]), dict(before["config"])
            if step < 0:
                raise ValueError(f"the step is {step}")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(
                f"{path} is damaged: its header tells no step and no settings ({error})",
                mend="copy it again, or choose another {out}",
            ) from error
        return cls(path, step, config, tensors)

    def select(self, key: str) -> dict[str, Tensor]:
        """Select the tensors with names that begin with KEY/, by the rest of their names."""
        prefix = f"{key}/"
        return {
            name.removeprefix(prefix): value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }

    @contextlib.contextmanager
    def explain(self) -> Iterator[None]:
        """Explain errors of tensors that are missing or do not fit.

        Raises:
            InputError: for a LookupError, TypeError or ValueError of the block.
        """
        try:
            yield
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.path} is damaged: it is not a state of this run"
                f" ({' '.join(str(error).split())[:200]})",
                mend="copy it again, or choose another {out}",
            ) from error

    def load(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, steps: int
    ) -> tuple[float, ...]:
        """Load the weights and the optimiser's quantities; returns the losses since the last line
        of the log.

        Args:
            module: what is trained.
            optimizer: its optimiser.
            steps: the number of steps in the run.

        Raises:
            InputError: a tensor is missing, is of another shape or number type, or is of no
                parameter; the step is beyond the run.
        """
        with self.explain():
            if self.step > steps:
                raise ValueError(f"step {self.step:,} of {steps:,}")
            weights, quantities = self.select("module"), self.select("optimizer")
            _require_same(weights, module.state_dict())
            _require_quantities(quantities, dict(module.named_parameters()))
            losses = self.select("log").get("losses", torch.zeros(0))
            if losses.ndim != 1 or not losses.isfinite().all():
                raise ValueError("log/losses are no list of numbers")
        module.load_state_dict(weights)
        load_named_state(optimizer, module, quantities)
        return tuple(losses.tolist())


def _require_same(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Require the tensors of a module: each by its name, in its shape and number type."""
    for name in sorted({*given, *wanted}):
        if name not in given:
            raise ValueError(f"module/{name} is missing")
        if name not in wanted:
            raise ValueError(f"module/{name} is of no weight")
        one, other = given[name], wanted[name]
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            raise ValueError(
                f"module/{name} is {_describe(one)} where the weight is {_describe(other)}"
            )


def _require_quantities(given: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Require that each quantity of an optimiser is one number or one for each number of its
    parameter, and that all parameters have the same."""
    quantities: dict[str, set[str]] = {}
    for key, value in given.items():
        name, _, quantity = key.rpartition("/")
        if name not in parameters:
            raise ValueError(f"optimizer/{key} is of no parameter")
        if value.shape not in ((), parameters[name].shape) or not value.is_floating_point():
            raise ValueError(
                f"optimizer/{key} is {_describe(value)} where the weight is"
                f" {_describe(parameters[name])}"
            )
        quantities.setdefault(name, set()).add(quantity)
    every = set().union(*quantities.values())
    for name, those in quantities.items():
        if those != every:
            raise ValueError(f"optimizer/{name}/{min(every - those)} is missing")


def _describe(tensor: Tensor) -> str:
    shape = " × ".join(map(str, tensor.shape)) or "one number"
    return f"{shape} ({str(tensor.dtype).removeprefix('torch.')})"
