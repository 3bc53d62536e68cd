"""The folder of a run: its config, its log, the encoder file that others load, and the state file
from which the run can go on."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import yaml
from torch import Tensor

from sslens import __version__, zoo
from sslens.errors import InputError
from sslens.models.about import About
from sslens.own_files import TRAINING, OwnFiles
from sslens.store import digest, write_tensors, write_text
from sslens.training.changes import describe_changes
from sslens.training.kept import HEADER, KeptState, LogLine, read_log
from sslens.training.run_files import CONFIG, LOG, STATE, find_older, list_files, require_free

#: keys in which two runs of one recipe may differ: what the seed decides (also the order of the
#: images), and what is no setting
_APART = {"arch", "pretrained", "sslens", "seed", "digest"}


@final
@dataclass(frozen=True)
class RunFolder:
    """The files of one run; all files but the log are written atomically, and strangers' files
    are left as they are.

    Attributes:
        path: the folder.
        config: all that decides the weights at the end, as plain JSON values.
    """

    path: Path
    config: Mapping[str, Any]

    @property
    def own(self) -> OwnFiles:
        """The list of the run's files."""
        return OwnFiles(self.path)

    def state(self, resume: bool) -> KeptState | None:
        """Read the last checkpoint; None where there is none.

        Raises:
            InputError: the folder already holds a run and `resume` is False; its run has another
                config; the state file is truncated; the folder holds an encoder but no state, or
                strangers' files where those of the run would be.
        """
        require_free(self.path, resume=resume)
        if not (self.path / STATE).exists():
            return None
        state = KeptState.read(self.path / STATE)
        self._require_same(state.config)
        return state

    def _require_same(self, before: Mapping[str, Any]) -> None:
        old, new = _flatten(before), _flatten(self.config)
        if changes := describe_changes(old, new):
            raise InputError(
                f"The run in {self.path} cannot go on with other settings ({changes})",
                mend="give the same ones, or another {out}",
            )

    def prepare(self, *, resumed: bool) -> None:
        """Remove files of the run that a kill left half-written, and write `config.yaml`.

        Args:
            resumed: whether the folder holds a state of this run, so that files with a run's names
                are the run's also where no list says so.
        """
        unlisted = resumed and self.own.read() is None
        older = list_files(self.path) if unlisted else find_older(self.path)
        self.own.claim(TRAINING, {}, older=older)
        for name in (STATE, zoo.ENCODER):
            self.own.before(self.path / name)
        self.own.remove_parts()
        text = yaml.safe_dump({**self.config, "sslens": __version__}, sort_keys=False)
        write_text(self.own.before(self.path / CONFIG), text)

    def keep_state(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the checkpoint after `step` steps."""
        header = {HEADER: json.dumps({"step": step, "config": self.config})}
        write_tensors(self.own.before(self.path / STATE), _on_cpu(tensors), header)

    def keep_encoder(
        self,
        weights: Mapping[str, Tensor],
        name: str,
        shape: Mapping[str, Any],
        about: About,
        transform: Mapping[str, Any],
        file: str = zoo.ENCODER,
    ) -> None:
        """Write a model file that `sslens.load` reads.

        Args:
            weights: the tensors by name.
            name: the model's name in tables and figures.
            shape: the network's shape, as `sslens.zoo.shapes.read` reads it.
            about: what is known of the model; the digests of the run's config and recipe are added.
            transform: how images are prepared for the model.
            file: the file's name in the folder.
        """
        of_run = replace(
            about, config=digest(self.config), recipe=digest(select_shared_settings(self.config))
        )
        header = zoo.make_header(name, shape, of_run.to_json(), transform)
        write_tensors(self.own.before(self.path / file), _on_cpu(weights), header)

    @contextlib.contextmanager
    def log(self, start: int) -> Iterator[Callable[[LogLine], None]]:
        """Open the log for appending, after deleting the lines of steps later than `start`.

        Yields:
            A function that appends one line.
        """
        path = self.own.before(self.path / LOG)
        if path.exists():
            write_text(path, "".join(f"{text}\n" for text, _ in self._lines(start)))
        with path.open("a", encoding="utf-8") as file:

            def write(line: LogLine) -> None:
                file.write(json.dumps(line) + "\n")
                file.flush()

            yield write

    def lines(self, until: int | None = None) -> tuple[LogLine, ...]:
        """Read the lines of the log up to and including step `until` (all lines for None); no lines
        where there is no log yet.

        Raises:
            InputError: a line is damaged.
        """
        return tuple(line for _, line in self._lines(until))

    def _lines(self, until: int | None) -> list[tuple[str, LogLine]]:
        last = math.inf if until is None else until
        return [pair for pair in read_log(self.path / LOG) if float(pair[1]["step"]) <= last]


def select_shared_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Select the settings that all runs of one recipe share, as text by dotted name.

    The seed, the architecture and the digests are left out.

    >>> training = {"epochs": 3, "seed": 1}
    >>> select_shared_settings({"arch": "vit", "settings": {"mixup": 0.8}, "training": training})
    {'settings.mixup': '0.8', 'training.epochs': '3'}
    """
    return {
        key: str(value)
        for key, value in _flatten(config).items()
        if not _APART & set(key.split("."))
    }


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in tensors.items()}


def _flatten(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flatten(value, f"{before}{key}.")
            if isinstance(value, Mapping)
            else {f"{before}{key}": value}
        )
    return flat
