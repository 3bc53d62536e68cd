"""`sslens path`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sslens.arguments.answers import Reply
from sslens.arguments.options import Text
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.paths.order import SUFFIXES, CheckpointOrder, order_checkpoints, require_two

if TYPE_CHECKING:
    from sslens.table import Table

GROUP = "measure"

#: files that are listed by name where more are given
LISTED = 24


@dataclass(frozen=True)
class Command:
    """Follow a training through its checkpoints: how far the weights got, and how straight they
    went, by kind and by block.

    Files of any training will do: safetensors, or PyTorch's (of which no code is run). The first is
    where the path begins, such as the pre-trained weights. Files keep the order in which they are
    given; those of a folder or a glob are sorted by the numbers in their names, "last" after them
    and without "best". The order is printed. Two files at most are in memory at a time.

    Examples:
      sslens path run/checkpoints/*.safetensors
      sslens path mae_pretrain_vit_base.pth finetuned/checkpoint-*.pth --out mae-path.csv
      sslens path run/checkpoints --state student
    """

    checkpoints: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")
    ]
    """Checkpoints of one run, or the folder that they are in, or a glob."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("path.csv")
    """The table, a row a checkpoint and group of parameters."""
    state: str | None = None
    """Whose weights, in files that hold several sets, such as student or model_ema."""
    as_given: bool = False
    """Keep the order of the files that are named, also of those that a shell made of a glob, and
    leave none of them out; files of a folder are sorted in any case."""
    overwrite: bool = False
    """Replace the table of another path in --out; any other file stays."""


def run(command: Command, line: str, say: Text) -> Reply:
    """Carry it out; returns the answer with the path of the table."""
    order = order_checkpoints(command.checkpoints, as_given=command.as_given)
    require_two(order)
    if command.out.is_dir():
        raise InputError(
            f"{command.out} is a folder: give the file to write, such as"
            f" {command.out / 'path.csv'}."
        )
    if command.out.suffix in SUFFIXES:
        raise InputError(
            f"{command.out} is named like a checkpoint: give a name that ends in .csv with --out."
        )

    from sslens.paths.path import label_files
    from sslens.paths.tables import require_same_path
    from sslens.study.measuring import follow

    labels = label_files(order.paths)[1:]
    require_same_path(command.out, labels, overwrite=command.overwrite)
    say(describe_order(order))
    result = follow(order, command.state)
    table = result.tables.to_tables()["path"]
    require_same_path(command.out, labels, table, overwrite=command.overwrite)
    table.save(command.out)
    say(summarise(table))
    for note in result.notes[len(order.left_out) :]:  # the others were said with the order
        say(f"equal     {note}")
    return Reply(result.to_json(), command.out)


def describe_order(order: CheckpointOrder) -> str:
    """Describe the order in which checkpoints are taken, in lines for a person.

    >>> print(describe_order(CheckpointOrder((Path("a/1.pth"), Path("a/2.pth")))))
    path      2 checkpoints, from a/1.pth to a/2.pth
    order     as given: 1.pth, 2.pth
    """
    paths = order.paths
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(names) > LISTED:
        names = [*names[: LISTED // 2], f"{len(names) - LISTED} more", *names[-LISTED // 2 :]]
    how = "by the numbers in their names" if order.sorted else "as given"
    lines = [
        f"path      {spell_count(len(paths), 'checkpoint')}, from {paths[0]} to {paths[-1]}",
        f"order     {how}: {', '.join(names)}",
    ]
    if order.left_out:
        left = ", ".join(map(str, order.left_out))
        lines.append(
            f"left out  {left}: no number says where it belongs (name the files one by one, with"
            " --as-given, to give it a place)"
        )
    return "\n".join(lines)


def summarise(table: "Table") -> str:
    """Where the path ended, a line a group, for a person; of a group that moved once no
    straightness, which is 1 by definition."""
    from sslens.paths.tables import count_moves
    from sslens.report.writing.numbers import spell_relative

    frame = table.frame
    moves = {group: count_moves(frame, group) for group in frame.group.unique()}
    ends = frame[frame.record == frame.record.max()]
    lines = [f"{'':<22}{'parameters':>12}{'displacement':>14}{'relative':>10}{'straightness':>14}"]
    for row in ends.itertuples():
        straight = "–" if moves[row.group] < 2 else f"{row.straightness:.3f}"
        relative = "–" if row.relative != row.relative else spell_relative(row.relative)
        lines.append(
            f"{row.group:<22}{row.parameters:>12,}{row.displacement:>14.4g}{relative:>10}{straight:>14}"
        )
    if 1 in moves.values():
        lines.append("–: of one move, which is straight by definition; give more checkpoints")
    return "\n".join(lines)
