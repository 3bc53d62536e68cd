"""`sslens doctor`."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sslens.arguments.options import Text
from sslens.arguments.spelling import as_option
from sslens.counts import spell_count

GROUP = "begin"


@dataclass(frozen=True)
class Command:
    """Say what a checkpoint file is: how that is known, what loading drops or renames, and what
    looks wrong in it.

    The exit status is 0 when the file can be loaded and 2 when it cannot. Nothing in a file is run.

    Examples:
      sslens doctor mae_pretrain_vit_base.pth
      sslens doctor vit-s-300ep.pth.tar --branch momentum_encoder --num-heads 12
      sslens doctor simclr.pth@drop=tuner+gate
      sslens doctor dino_vitb16 --json
      sslens doctor last.ckpt --extract weights.safetensors
    """

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE|NAME")]
    """A checkpoint file, a run's folder, or a name that `sslens zoo` lists; the file of a name is
    fetched."""
    branch: str | None = None
    """Another network of the file than the one that is evaluated, such as student."""
    num_heads: int | None = None
    """Heads of attention, which no file tells."""
    json: bool = False
    """Print JSON rather than text."""
    extract: Path | None = None
    """Write the weights alone to this file (.safetensors), and say what it is: for a file that also
    holds objects of Python's classes. None of them is built."""


def run(command: Command, line: str, say: Text) -> int | None:
    """Carry it out: the diagnosis goes to standard output; why a file cannot be loaded goes to
    standard error too, unless both are one terminal. Returns the exit status."""
    from sslens import zoo
    from sslens.fingerprint import describe, is_fingerprint, read

    path = Path(command.file)
    if path.is_file() and is_fingerprint(path):
        print(json.dumps(read(path).to_json(), indent=2) if command.json else describe(path))
        return None
    zoo.check(command.file)
    from sslens.zoo import doctor

    file, given = zoo.split_options(command.file)
    if command.extract is not None:
        from sslens.zoo.extracting import extract_weights

        count = extract_weights(zoo.find_file(Path(file)), command.extract)
        say(f"Wrote {spell_count(count, 'tensor')} to {command.extract}.")
        file = str(command.extract)
    diagnosis = doctor.examine(
        file,
        branch=given.get("branch", command.branch),
        num_heads=given.get("num_heads", command.num_heads),
        drop=given.get("drop"),
        spell=as_option,
    )
    refused = diagnosis.refused
    error = {} if refused is None else {"status": 2, "error": refused}
    print(json.dumps(diagnosis.to_json() | error, indent=2) if command.json else diagnosis.text())
    if refused is None:
        return None
    if command.json or not (sys.stdout.isatty() and sys.stderr.isatty()):  # else it is seen twice
        say(f"sslens: {refused}")
    return 2
