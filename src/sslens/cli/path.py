"""`sslens path`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sslens.arguments.options import Text
from sslens.errors import InputError

if TYPE_CHECKING:
    from sslens.table import Table

GROUP = "measure"

#: what a folder's checkpoints are called
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")


@dataclass(frozen=True)
class Command:
    """Follow a training through its checkpoints: how far the weights got, and how straight they
    went, by kind and by block.

    Files of any training will do: safetensors, or PyTorch's (of which no code is run). The first is
    where the path begins, such as the pre-trained weights. They are taken in the order of the
    numbers in their names; two at most are in memory at a time.

    Examples:
      sslens path run/checkpoints/*.safetensors
      sslens path mae_pretrain_vit_base.pth finetuned/checkpoint-*.pth --out mae-path.csv
      sslens path run/checkpoints --state student
    """

    checkpoints: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")
    ]
    """Checkpoints of one run, or the folder that they are in."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("path.csv")
    """The table, a row a checkpoint and group of parameters."""
    state: str | None = None
    """Whose weights, in files that hold several sets, such as student or model_ema."""
    as_given: bool = False
    """Take the files in the order given, not in that of the numbers in their names."""


def run(command: Command, line: str, say: Text) -> Path:
    """Carry it out; returns the path of the table."""
    paths = _files(command.checkpoints)
    if len(paths) < 2:
        raise InputError(
            f"A path needs two or more checkpoints, and {len(paths)}"
            f" {'is' if len(paths) == 1 else 'are'} given: the weights at the start and at least"
            " one file after that."
        )
    if command.out.is_dir():
        raise InputError(
            f"{command.out} is a folder: give the file to write, such as"
            f" {command.out / 'path.csv'}."
        )
    if command.out.suffix in SUFFIXES:
        raise InputError(
            f"{command.out} is named like a checkpoint: give a name that ends in .csv with --out."
        )

    from sslens.paths.files import sort_paths
    from sslens.paths.path import measure_path

    paths = paths if command.as_given else sort_paths(paths)
    say(f"path      {len(paths)} checkpoints, from {paths[0]} to {paths[-1]}")
    table = measure_path(paths, command.state)
    table.save(command.out)
    say(summarise(table))
    return command.out


def _files(given: tuple[Path, ...]) -> list[Path]:
    """The files, those of folders too."""
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = [
                file
                for file in path.iterdir()
                if file.suffix in SUFFIXES and not file.name.startswith(".")
            ]
            if not inside:
                raise InputError(
                    f"{path} holds no checkpoints ({', '.join(SUFFIXES)}): give the files"
                    " themselves."
                )
            files += sorted(inside)
        elif not path.exists() and path.suffix not in SUFFIXES:
            raise InputError(
                f"{path} is not there: give checkpoints, or the folder that they are in."
            )
        else:
            files.append(path)
    return files


def summarise(table: "Table") -> str:
    """Where the path ended, a line a group, for a person."""
    frame = table.frame
    ends = frame[frame.record == frame.record.max()]
    lines = [f"{'':<22}{'parameters':>12}{'displacement':>14}{'relative':>10}{'straightness':>14}"]
    for row in ends.itertuples():
        straight = "–" if row.straightness != row.straightness else f"{row.straightness:.3f}"
        relative = "–" if row.relative != row.relative else f"{row.relative:.1%}"
        lines.append(
            f"{row.group:<22}{row.parameters:>12,}{row.displacement:>14.4g}{relative:>10}{straight:>14}"
        )
    return "\n".join(lines)
