"""The command line: arguments only; nothing heavy is imported before they are known to be right.

A command is a file of this folder: `Command`, a dataclass whose docstring is its help, and
`run(command, line, say)`, where `line` is what was typed and `say` speaks to the person; a path
that it returns is printed on standard output. A command with the options of `sslens.slurm` has
`check(command)` too, which refuses what should not wait in a queue first.
"""

import errno
import functools
import inspect
import operator
import os
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import tyro

from sslens import slurm
from sslens.arguments.spelling import as_option
from sslens.errors import Doubt, InputError, Mishap
from sslens.find import names, plugin

#: what each file of this folder has
REQUIRED = ("Command", "run")

DRY_RUN = {"--dry-run", "--dry_run"}


def _subcommand(name: str) -> Any:
    """A command with its whole docstring, examples too, as its help."""
    kind = plugin("cli", name).Command
    return Annotated[
        kind, tyro.conf.subcommand(name, description=inspect.cleandoc(kind.__doc__ or ""))
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for what the user can mend, 1 for a fault of
    ours."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        from sslens import __version__

        print(f"sslens {__version__}")
        return 0
    try:
        commands = [_subcommand(name) for name in names("cli")]
        command: Any = tyro.cli(
            functools.reduce(operator.or_, commands),
            prog="sslens",
            description="What did this training objective put into my vision backbone, and where?",
            args=given,
        )
        with warnings.catch_warnings():
            warnings.showwarning = _note
            path = _run(command, given)
        if path is not None:
            print(path)
        return 0
    except InputError as error:
        return _say_error(error.spelt(as_option), own=isinstance(error, Mishap))
    except KeyboardInterrupt:
        return _say_error(
            "Stopped. What was finished is kept: the same command goes on from there (a training"
            " with --resume)."
        )
    except BrokenPipeError:  # as in `sslens --help | head`
        sys.stdout = None  # which Python would flush into the closed pipe
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _say_error(
                "The disk is full; nothing half-written was left. Free some space and run the same"
                " command again."
            )
        return _fault()
    except Exception:
        return _fault()


def _run(command: Any, given: Sequence[str]) -> Path | None:
    """Carry a command out, or submit it as a job; a training's goes on from its last state whenever
    it starts."""
    module = next(
        module for name in names("cli") if (module := plugin("cli", name)).Command is type(command)
    )
    line, options = slurm.split_line(given)
    if hasattr(command, "slurm") and command.slurm.submit:
        module.check(command)
        submitted = [token for token in line if token not in DRY_RUN]
        if hasattr(command, "training") and not command.training.resume:
            submitted.append("--resume")
        return slurm.submit(
            main, submitted, command.slurm, dry_run=not DRY_RUN.isdisjoint(line), say=_say
        )
    if options:
        raise InputError(f"{options[0]} is an option of a job: give --slurm too, or leave it out.")
    path: Path | None = module.run(command, shlex.join(["sslens", *given]), _say)
    return path


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A doubt of ours is a note to the person; other warnings are as Python shows them."""
    if issubclass(category, Doubt):
        _say(f"note      {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _say_error(text: str, own: bool = False) -> int:
    if (
        own or os.environ.get("RANK", "0") == "0"
    ):  # under torchrun all processes come to the same, but for mishaps
        print(f"sslens: {text}", file=sys.stderr)
    return 2


def _fault() -> int:
    """Say that the fault is ours, in one sentence, with the traceback in a file."""
    text = traceback.format_exc()
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="sslens-fault-", suffix=".txt", delete=False
        ) as file:
            file.write(text)
        where = f"the details are in {file.name}; please send them with the command to the authors"
    except OSError:
        where = f"the details:\n{text}"
    error = sys.exception()
    last = f"{type(error).__name__}: {error}".splitlines()[0]
    print(
        f"sslens: this is a fault of sslens, not of your input ({last}); {where}.", file=sys.stderr
    )
    return 1
