"""The command line: arguments only; nothing heavy is imported before they are known to be right.

A command is a file of this folder: `Command`, a dataclass with its help as docstring; `GROUP`, one
of `GROUPS`; and `run(command, line, say)`, where `line` is what was typed and `say` speaks to the
person; a path that it returns is printed on standard output, a number that it returns is the exit
status, and a `Reply` is the answer as data too, for `--json`, which every command has. The first
sentence of the docstring, up to a colon or a full stop, and the group are what `sslens --help`
shows, in one line. A command with the options of `sslens.slurm` has
`check(command)` too, which refuses what should not wait in a queue first. A command of several
actions has `ACTIONS`, a dataclass like `Command` for each; `run` is given one of these.
"""

import ast
import atexit
import contextlib
import errno
import gc
import inspect
import io
import itertools
import os
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO

from sslens.arguments.spelling import as_option
from sslens.data.sources import require_limit, require_source
from sslens.device_names import require_device_name
from sslens.errors import Doubt, InputError, Mishap, make_line, make_visible, nearest, shorten
from sslens.find import names, plugin
from sslens.memory import keep_freed_memory
from sslens.own_files import OwnFiles

if TYPE_CHECKING:
    from sslens.arguments.answers import Reply
    from sslens.arguments.parsing import Parsed

#: what each file of this folder has
REQUIRED = ("Command", "GROUP", "run")
#: the groups of commands, in the order of `sslens --help`
GROUPS = ("begin", "compare", "measure", "train", "images")

#: new containers after which a process of a command looks for garbage: at Python's own 700 a tenth
#: of a short command is spent looking
GARBAGE = 20_000
#: the option that every command has
ASKS_FOR_JSON = "--json"
#: the frame around what the parser says, and the colours of a terminal
_FRAME = re.compile(r"[\u2500-\u257f]|\x1b\[[\d;]*m")
DRY_RUN = {"--dry-run", "--dry_run"}
#: errors of names that the user gave: too long, in a ring of links, of the wrong kind or guarded
UNUSABLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)
#: the options that name images
IMAGES = ("images", "bank", "val", "test", "knn", "knn_bank")
#: images that a command needs at least, unless its file has a FEWEST of its own
FEWEST = 4
PURPOSE = "What did this training objective put into my vision backbone, and where?"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for what the user can mend, 1 for a fault of
    ours, or what the command returns (`sslens check`: 1 or 3)."""
    if arguments is None:  # a process of its own: looking for garbage once more costs it 0.5 s
        atexit.register(_keep_garbage)
        gc.set_threshold(GARBAGE)
        keep_freed_memory()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        from sslens import __version__

        print(f"sslens {__version__}")
        return 0
    try:
        if not given or given[0] in ("-h", "--help"):
            print(overview(), file=sys.stdout if given else sys.stderr)
            return 0 if given else 2
        module = _require_command(given[0])
        from sslens.arguments.answers import print_reply

        command, as_json = _parse(module, given)
        said: list[str] = []
        with warnings.catch_warnings(), _heed_interrupts():
            warnings.showwarning = _note
            result = _run(module, command, given, said)
        return print_reply(result, command=given[0], as_json=as_json, said=said)
    except InputError as error:
        return _say_error(error.spelt(_find_spelling(given)), given, own=isinstance(error, Mishap))
    except KeyboardInterrupt:
        return _say_error(
            "Stopped. Whatever was finished is kept: the same command goes on from there (a"
            " training with --resume).",
            given,
        )
    except BrokenPipeError:  # as in `sslens --help | head`
        sys.stdout = None  # which Python would flush into the closed pipe
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _say_error(
                "The disk is full; nothing half-written was left. Free some space and run the same"
                " command again.",
                given,
            )
        if error.errno in UNUSABLE and isinstance(error.filename, str):
            name = shorten(make_line(error.filename), 300)
            return _say_error(f"{name} cannot be used ({error.strerror}).", given)
        return _fault(given)
    except Exception:
        return _fault(given)


@contextlib.contextmanager
def _heed_interrupts() -> Iterator[None]:
    """Within the block Ctrl-C stops the command also where the process was started with SIGINT
    ignored, as scripts start what runs in the background."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _find_spelling(given: Sequence[str]) -> Callable[[str, str | None], str]:
    """How a command spells parameters: as options, unless it says otherwise (`SPELL`)."""
    module = plugin("cli", given[0]) if given and given[0] in names("cli") else None
    spell: Callable[[str, str | None], str] = getattr(module, "SPELL", as_option)
    return spell


def _keep_garbage() -> None:
    """Leave garbage to the end of the process; Triton's binding would report it as leaks."""
    if "triton" not in sys.modules:
        gc.freeze()


def overview() -> str:
    """What `sslens --help` prints: the commands in their groups, with the first sentence of each.
    No command is imported for it."""
    sources = {name: ast.parse(_read_source(name)) for name in names("cli")}
    groups = {name: _find_group(name, source) for name, source in sources.items()}
    ordered = sorted(sources, key=lambda name: (GROUPS.index(groups[name]), name))
    width = max(map(len, ordered)) + 2
    lines, last = [], ""
    for name in ordered:
        group = "" if groups[name] == last else groups[name]
        last = groups[name]
        lines.append(f"{group:<9}{name:<{width}}{_find_sentence(name, sources[name])}")
    usage = "usage: sslens COMMAND [OPTIONS]; COMMAND --help has the options and examples"
    return "\n".join([PURPOSE, "", *lines, "", usage])


def _read_source(name: str) -> str:
    path = Path(__file__).with_name(f"{name.replace('-', '_')}.py")
    return path.read_text(encoding="utf-8")


def _find_group(name: str, source: ast.Module) -> str:
    """The `GROUP` of a command, read from its source."""
    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GROUP":
            return str(ast.literal_eval(node.value))
    return str(plugin("cli", name).GROUP)  # it comes from elsewhere


def _find_sentence(name: str, source: ast.Module) -> str:
    """The first sentence of a command's docstring, read from its source."""
    for node in source.body:
        if isinstance(node, ast.ClassDef) and node.name == "Command":
            return _sentence(ast.get_docstring(node))
    return _sentence(plugin("cli", name).Command.__doc__)  # the class comes from elsewhere


def _sentence(docstring: str | None) -> str:
    """The first paragraph up to its colon or full stop, on one line.

    >>> _sentence("Compare models on images: one report\\nwith CKA.\\n\\nExamples:")
    'Compare models on images'
    """
    paragraph = " ".join(inspect.cleandoc(docstring or "").partition("\n\n")[0].split())
    return paragraph.partition(": ")[0].partition(". ")[0].rstrip(".")


def _require_command(name: str) -> ModuleType:
    if name not in names("cli"):
        raise InputError(f'sslens has no command "{name}": {nearest(name, names("cli"))}')
    return plugin("cli", name)


def _parse(module: ModuleType, given: Sequence[str]) -> "Parsed":
    """Read a command from its words. What the parser says of wrong ones is JSON too where that is
    asked for."""
    from sslens.arguments.parsing import parse  # which imports tyro

    chosen = _choose_action(module, given)
    if ASKS_FOR_JSON not in given:
        return parse(*chosen)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse(*chosen)
    except SystemExit as stop:
        if stop.code:
            _print_refusal(" ".join(_FRAME.sub(" ", said.getvalue()).split()), given)
        raise
    finally:
        sys.stderr.write(said.getvalue())


def _choose_action(module: ModuleType, given: Sequence[str]) -> tuple[type, str, Sequence[str]]:
    """What is read from the words of a command: its class, its name for the help, and the words."""
    actions = getattr(module, "ACTIONS", {})
    name = " ".join(["sslens", *given[:1]])
    if not actions or not given[1:] or given[1].startswith("-"):
        return module.Command, name, given[1:]
    if given[1] not in actions:
        raise InputError(f'{name} has no "{given[1]}": {nearest(given[1], actions)}')
    return actions[given[1]], f"{name} {given[1]}", given[2:]


def _run(
    module: ModuleType, command: Any, given: Sequence[str], said: list[str]
) -> "Reply | Path | int | None":
    """Carry a command out, or submit it as a job; what it says is kept in `said`. A job of a
    training goes on from its last state whenever it starts."""

    def say(text: str) -> None:
        said.append(text)
        _say(text)

    if hasattr(command, "slurm"):
        from sslens import slurm

        line, options = slurm.split_line(given)
        if command.slurm.submit:
            module.check(command)
            submitted = [token for token in line if token not in DRY_RUN]
            if hasattr(command, "training") and not command.training.resume:
                submitted.append("--resume")
            return slurm.submit(
                main, submitted, command.slurm, dry_run=not DRY_RUN.isdisjoint(line), say=say
            )
        if options:
            raise InputError(
                f"{options[0]} is an option of a job: give --slurm too, or leave it out."
            )
    for fields in (command, getattr(command, "common", None)):
        require_device_name(getattr(fields, "device", "auto"))
        require_limit(getattr(fields, "limit", None), getattr(module, "FEWEST", FEWEST))
    for fields, name in itertools.product((command, getattr(command, "watch", None)), IMAGES):
        if isinstance(source := getattr(fields, name, None), str):
            _require_images(source, name)
    if (folder := getattr(getattr(command, "common", None), "out", None)) is not None:
        OwnFiles(folder).require_folder()
    result: Reply | Path | int | None = module.run(command, shlex.join(["sslens", *given]), say)
    return result


def _require_images(source: str, name: str) -> None:
    """Refuse a source of images that is not there, before anything heavy is imported; a model in
    its place is named as one.

    Args:
        source: what was given.
        name: the name of the option.
    """
    try:
        require_source(source)
    except InputError as error:
        from sslens import cards

        if source != "pixels" and cards.look_up(source) is None:
            raise
        raise InputError(
            f"{source} is a model, and images are wanted",
            mend=f"give the model before the options, and a folder of images as {{{name}}}",
        ) from error


def _say(text: str) -> None:
    print(make_visible(text), file=sys.stderr)


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


def _say_error(text: str, given: Sequence[str], own: bool = False) -> int:
    """Say what cannot be used, as JSON too where that is asked for; returns the exit status."""
    if (
        own or os.environ.get("RANK", "0") == "0"
    ):  # under torchrun all processes come to the same, but for mishaps
        _print_refusal(text, given)
        print(f"sslens: {text}", file=sys.stderr)
    return 2


def _print_refusal(text: str, given: Sequence[str], status: int = 2) -> None:
    """Print as JSON that a command cannot be carried out, where JSON is asked for."""
    if ASKS_FOR_JSON in given:
        from sslens.arguments.answers import print_refusal

        print_refusal(given[0], text, status)


def _fault(given: Sequence[str]) -> int:
    """Say that the fault is ours, in one sentence, as JSON too where that is asked for, with the
    traceback in a file."""
    import tempfile
    import traceback

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
    said = f"this is a fault of sslens, not of your input ({last}); {where}."
    _print_refusal(said, given, 1)
    print(f"sslens: {said}", file=sys.stderr)
    return 1
