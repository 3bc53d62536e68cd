"""Trackers: TensorBoard or Weights & Biases get the lines of a run's log as well. Neither package
is imported unless it is asked for."""

import importlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sslens.errors import InputError
from sslens.own_files import OwnFiles
from sslens.store import write_text
from sslens.training.kept import LogLine

Tell = Callable[[LogLine], None]

#: what a line says of itself, or what is no curve
PLACE = ("step", "time")


def import_tracker(name: str) -> Any:
    """Import the package of a tracker, and return it.

    Raises:
        InputError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"The package {name}, by which runs can be followed, is not installed",
            mend="run pip install 'sslens[track]', or leave {" + name + "} out",
        ) from error


def split_line(line: LogLine) -> tuple[dict[str, float], dict[str, str]]:
    """Split a line of the log into numbers, which make curves, and texts; the step and the time are
    left out.

    >>> split_line({"step": 10, "epoch": 0.5, "loss": 1.25, "time": 1e9})
    ({'epoch': 0.5, 'loss': 1.25}, {})
    """
    shown = {key: value for key, value in line.items() if key not in PLACE}
    return (
        {key: float(value) for key, value in shown.items() if not isinstance(value, str)},
        {key: value for key, value in shown.items() if isinstance(value, str)},
    )


@contextmanager
def tensorboard(folder: Path) -> Iterator[Tell]:
    """Write the lines of a log as TensorBoard events into a folder.

    In a resumed run the new events replace those after the checkpoint.

    Yields:
        A function that writes one line.
    """
    import_tracker("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    made: list[SummaryWriter] = []

    def tell(line: LogLine) -> None:
        step = int(line["step"])
        if not made:
            made.append(SummaryWriter(folder, purge_step=step))
        numbers, texts = split_line(line)
        for name, value in numbers.items():
            made[0].add_scalar(name, value, step, walltime=float(line["time"]))
        for name, text in texts.items():
            made[0].add_text(name, text, step, walltime=float(line["time"]))

    try:
        yield tell
    finally:
        for writer in made:
            writer.close()


@contextmanager
def wandb(folder: Path, name: str, config: Mapping[str, Any]) -> Iterator[Tell]:
    """Send the lines of a log to the project `sslens` of Weights & Biases.

    A resumed run continues the Weights & Biases run with the id that its folder holds.

    Yields:
        A function that sends one line. It raises InputError at the first line where the service
            refuses the run.
    """
    package = import_tracker("wandb")
    kept = folder / "wandb.txt"
    made: list[Any] = []

    def tell(line: LogLine) -> None:
        if not made:
            known = (
                kept.read_text(encoding="utf-8").strip() if kept.exists() else secrets.token_hex(4)
            )
            asked = {
                "project": "sslens",
                "name": name,
                "id": known,
                "resume": "allow",
                "dir": str(folder),
            }
            try:
                made.append(package.init(**asked, config=dict(config)))
            except package.Error as error:
                raise InputError(
                    f"Weights & Biases does not take the run ({error})",
                    mend="run wandb login, or set WANDB_MODE=offline",
                ) from error
            write_text(OwnFiles(folder).before(kept), known + "\n")
        numbers, texts = split_line(line)
        made[0].log(numbers | texts, step=int(line["step"]))

    try:
        yield tell
    finally:
        for run in made:
            run.finish()
