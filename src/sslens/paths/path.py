"""The path of a training through the space of its weights: how far it gets, and how far it travels.

For any group of parameters, let θ_0 be the weights at the start and θ_e the weights after epoch e
(or in the e-th file):

    displacement  D_e = ‖θ_e − θ_0‖             length  L_e = Σ_{i ≤ e} ‖θ_i − θ_{i−1}‖
    straightness  D_e / L_e

Straightness is 1 for a straight path and 0 for a path that returns to its start. It depends on how
often the weights are recorded: recorded after every step, a path is longer than recorded after
every epoch, since the noise of single minibatches counts too. Both lengths are kept.

The 2023 paper (arXiv:2304.13089, section 2.3, figure 14) normalises the total displacement "by the
norm of the difference between parameters after each epoch", 1 being straight: this is straightness
over epochs; the same in pieces is `move_of_whole`, ‖θ_e − θ_{e−1}‖ / D of the whole run, whose sum
over epochs is 1 / straightness ("displacement relative to the actual distance covered"). It shows
attention parameters.

`sslens.paths.tracker.PathTracker` measures while a training runs, in any loop; `measure_path` reads
a run's checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from sslens.cores import one_each
from sslens.errors import InputError
from sslens.models.parts import find_block, find_kinds_of_layers
from sslens.paths.files import Checkpoints
from sslens.table import Table

UNITS = {
    "record": "number of the epoch, or of the file after the first",
    "at": "what it is called: the epoch's label, or the file's name",
    "step": "optimiser steps done; empty for files",
    "group": (
        "parameters: backbone (all but the head), attention (qkv and projection), a kind, or a"
        " block"
    ),
    "parameters": "numbers in the group",
    "move": "‖θ_e − θ_{e−1}‖",
    "length": "sum of the moves until here",
    "step_length": "sum over all steps until here of ‖θ_t − θ_{t−1}‖; empty for files",
    "displacement": "‖θ_e − θ_0‖",
    "straightness": (
        "displacement / length, 0 to 1; empty where nothing moved, and of a single move 1 by"
        " definition"
    ),
    "step_straightness": "displacement / step_length, 0 to 1",
    "relative": "displacement / ‖θ_0‖",
    "cosine": "of this move and the one before; empty for the first",
    "move_of_whole": (
        "move / displacement of the last record: the paper's; its sum is 1 / straightness"
    ),
    "displacement_of_whole": "displacement / displacement of the last record",
}
#: numbers of a parameter that are taken to float64 at a time: few enough for a cache, enough for a
#: call to be worth its while
CHUNK = 1 << 17


class Squares(NamedTuple):
    """Inner products at one record, summed over the numbers of each parameter.

    `move` is ‖θ_e − θ_{e−1}‖², `turn` is (θ_e − θ_{e−1}) · (θ_{e−1} − θ_{e−2}), and `displacement`
    is ‖θ_e − θ_0‖².
    """

    move: Float64[np.ndarray, " parameter"]
    turn: Float64[np.ndarray, " parameter"]
    displacement: Float64[np.ndarray, " parameter"]


@final
@dataclass(eq=False)
class PathSums:
    """The sums from which every column of a path's table is computed.

    Attributes:
        shapes: the shape of each parameter, by name.
        norms: ‖θ_0‖² of each parameter.
        sums: the inner products at each record.
        labels: the label of each record.
        steps: the number of optimiser steps until each record; empty for files.
        step_lengths: the summed lengths of all steps until each record, for each group; empty for
            files.
    """

    shapes: dict[str, torch.Size]
    norms: Float64[np.ndarray, " parameter"]
    sums: list[Squares] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    step_lengths: list[Float64[np.ndarray, " group"]] = field(default_factory=list)

    @classmethod
    def of_parts(cls, parts: Sequence["PathSums"]) -> "PathSums":
        """Join the sums of disjoint sets of parameters, all with the same records."""
        shapes = {name: shape for part in parts for name, shape in part.shapes.items()}
        joined = [
            Squares(*map(np.concatenate, zip(*sums, strict=True)))
            for sums in zip(*(p.sums for p in parts), strict=True)
        ]
        return cls(shapes, np.concatenate([part.norms for part in parts]), joined, parts[0].labels)

    def table(self) -> Table:
        """Return the path as a table, with a row for each record and group.

        Raises:
            InputError: there is no record.
        """
        if not self.sums:
            raise InputError(
                "A path needs weights at two or more times, and here is only its beginning."
            )
        sizes = np.array([shape.numel() for shape in self.shapes.values()])
        rows: list[dict[str, Any]] = []
        members = group_masks({name: len(shape) for name, shape in self.shapes.items()})
        for number, (group, inside) in enumerate(members.items()):
            move, turn, displacement = (
                np.array([sums[i][inside].sum() for sums in self.sums]) for i in range(3)
            )
            move, displacement = np.sqrt(move), np.sqrt(displacement)
            length, whole = np.cumsum(move), displacement[-1]
            steps = (
                np.array([lengths[number] for lengths in self.step_lengths])
                if self.step_lengths
                else np.nan * length
            )
            with np.errstate(invalid="ignore", divide="ignore"):
                columns = {
                    "record": np.arange(1, len(move) + 1),
                    "at": self.labels,
                    "step": (
                        np.array(self.steps, float) if self.steps else np.full(len(move), np.nan)
                    ),
                    "group": [group] * len(move),
                    "parameters": [int(sizes[inside].sum())] * len(move),
                    "move": move,
                    "length": length,
                    "step_length": steps,
                    "displacement": displacement,
                    "straightness": displacement / length,
                    "step_straightness": displacement / steps,
                    "relative": _divide(displacement, np.sqrt(self.norms[inside].sum())),
                    "cosine": np.append(np.nan, turn[1:] / (move[1:] * move[:-1])),
                    "move_of_whole": _divide(move, whole),
                    "displacement_of_whole": _divide(displacement, whole),
                }
            rows += [
                dict(zip(columns, values, strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
        frame = pd.DataFrame(rows, columns=list(UNITS)).sort_values(
            "record", kind="stable", ignore_index=True
        )
        return Table(frame, UNITS)


@final
@dataclass(eq=False)
class PathMeter:
    """Measures the path of weights that are given to it one record after another; it holds the
    first weights, the last two, and the sums.

    Attributes:
        first: θ_0, by name.
        last: the weights of the last record.
        before: the weights of the record before the last; None until there are two.
        path: the sums so far.

    >>> meter = PathMeter.begin({"w": torch.zeros(2)})
    >>> meter.add({"w": torch.tensor([3.0, 0.0])}, "1")
    >>> meter.add({"w": torch.tensor([3.0, 4.0])}, "2")
    >>> end = meter.path.table().frame.query("group == 'backbone'").iloc[-1]
    >>> float(end.displacement), float(end.length)  # 3, then 4 at a right angle, is 5 away
    (5.0, 7.0)
    >>> float(end.cosine)
    0.0
    """

    first: Mapping[str, Tensor]
    last: Mapping[str, Tensor]
    path: PathSums
    before: Mapping[str, Tensor] | None = None

    @classmethod
    def begin(
        cls, weights: Mapping[str, Tensor], where: str = "the weights at the start"
    ) -> "PathMeter":
        """Begin with θ_0.

        Args:
            weights: the parameters by name.
            where: what messages call these weights.

        Raises:
            InputError: there are no weights, or one is not finite.
        """
        if not weights:
            raise InputError(f"There are no parameters in {where} whose path could be followed.")
        zero = {
            name: torch.zeros((), dtype=value.dtype).expand(value.shape)
            for name, value in weights.items()
        }
        norms = _compute_squares(weights, zero, None, zero, where).move
        return cls(
            weights,
            weights,
            PathSums({name: value.shape for name, value in weights.items()}, norms),
        )

    def add(
        self,
        weights: Mapping[str, Tensor],
        at: str,
        *,
        step: int | None = None,
        step_length: Float64[np.ndarray, " group"] | None = None,
        where: str | None = None,
    ) -> None:
        """Add a record. The tensors are kept, not copied, until two more records were added.

        Args:
            weights: the parameters by name.
            at: the label of the record.
            step: the number of optimiser steps until now; None for files.
            step_length: the summed lengths of all steps until now, for each group; None for files.
            where: what messages call these weights.

        Raises:
            InputError: a weight is not finite.
        """
        sums = _compute_squares(
            weights, self.last, self.before, self.first, where or f"the weights at {at}"
        )
        self.before, self.last = self.last, weights
        self.path.sums.append(sums)
        self.path.labels.append(at)
        if step is not None and step_length is not None:
            self.path.steps.append(step)
            self.path.step_lengths.append(step_length)


def _divide(values: Float64[np.ndarray, " record"], of: float) -> Float64[np.ndarray, " record"]:
    """Divide; the ratio is undefined where the divisor is 0: for a head that begins at 0, and for a
    run that ends where it began."""
    return values / of if of > 0 else np.full_like(values, np.nan)


def _compute_squares(
    now: Mapping[str, Tensor],
    last: Mapping[str, Tensor],
    before: Mapping[str, Tensor] | None,
    first: Mapping[str, Tensor],
    where: str,
) -> Squares:
    """‖θ_e − θ_{e−1}‖², (θ_e − θ_{e−1}) · (θ_{e−1} − θ_{e−2}) and ‖θ_e − θ_0‖² of each parameter,
    in float64."""
    weights = (now, last, first, *([before] if before else []))

    def sums_of(room: Float64[Tensor, "weights chunk"], name: str) -> Float64[np.ndarray, "3"]:
        sums = np.zeros(3)
        for parts in zip(*(_list_chunks(tensors[name]) for tensors in weights), strict=True):
            x, y, start, *earlier = (
                row[: len(part)].copy_(part) for row, part in zip(room, parts, strict=True)
            )
            away = torch.sub(x, start, out=start)
            past = [torch.sub(y, z, out=z) for z in earlier]
            move = torch.sub(x, y, out=y)
            sums += [
                float(move @ move),
                sum(float(move @ turn) for turn in past),
                float(away @ away),
            ]
        return sums

    rows: Float64[np.ndarray, "3 parameter"] = np.array(
        one_each(sums_of, first, lambda: torch.empty(len(weights), CHUNK, dtype=torch.float64))
    ).T
    for name, sums in zip(first, rows.T, strict=True):
        if not np.isfinite(sums).all():
            raise InputError(
                f"{name} holds numbers that are not finite in {where}: a path ends there.",
                mend="take what comes before, or look at the training's loss",
            )
    return Squares(*rows)


def _list_chunks(value: Tensor) -> Sequence[Tensor]:
    return value.detach().reshape(-1).split(CHUNK)


def group_masks(parameters: Mapping[str, int]) -> dict[str, Bool[np.ndarray, " parameter"]]:
    """Return the groups of parameters, each as a mask over all parameters; groups may overlap.

    Args:
        parameters: the number of axes of each parameter, by name.

    >>> list(group_masks({"pos_embed": 3, "blocks.0.attn.qkv.weight": 2, "head.weight": 2}))
    ['backbone', 'attention', 'attention qkv', 'embedding', 'head', 'block 0']
    """
    kinds = np.array(list(find_kinds_of_layers(parameters).values()))
    blocks = [find_block(name) for name in parameters]
    masks = {"backbone": kinds != "head", "attention": np.char.startswith(kinds, "attention")}
    order = (
        "attention qkv",
        "attention projection",
        "mlp",
        "norm",
        "embedding",
        "convolution",
        "other",
        "head",
    )
    masks |= {kind: kinds == kind for kind in order}
    for block in dict.fromkeys(number for number in blocks if number is not None):
        inside = np.array([number == block for number in blocks])
        masks[f"block {block}"] = inside & (kinds != "head")
    return {group: mask for group, mask in masks.items() if mask.any()}


def list_equal(table: Table) -> list[tuple[str, str]]:
    """List the records at which nothing had moved, each with the record before it.

    Args:
        table: what `measure_path` returned.
    """
    moved = table.frame.groupby("record").agg({"at": "first", "move": "max"})
    labels = moved["at"].tolist()
    return [
        (label, before)
        for label, before, move in zip(labels[1:], labels, moved.move[1:], strict=False)
        if move == 0
    ]


def label_files(paths: Sequence[Path]) -> list[str]:
    """Name each file: by its name alone where no two are called the same.

    >>> label_files([Path("run/1.pth"), Path("run/2.pth")])
    ['1.pth', '2.pth']
    """
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    return [str(path) for path in paths]


def measure_path(paths: Sequence[Path], state: str | None = None) -> Table:
    """Measure the path through a run's checkpoints, in the order given, with less than one of them
    in memory (`Checkpoints`).

    Files are read as `sslens.zoo.files` does (no pickle is run); buffers such as running means do
    not belong to a path. Where the first file is a pre-trained network and the others have a new
    head, parameters that only one of the two has are left out, with a `Doubt`.

    Args:
        paths: the weights at the start, and at least one file after them.
        state: key of the weights in files that hold several sets, such as "student".

    Raises:
        InputError: under two files; one that cannot be read, is of another architecture, or holds a
            number that is not finite.
    """
    if len(paths) < 2:
        raise InputError(
            f"A path needs two or more checkpoints, and {len(paths)}"
            f" {'is' if len(paths) == 1 else 'are'} given: the weights at the start and at least"
            " one file after that."
        )
    labels = label_files(paths)
    run = Checkpoints(paths, state)
    path_parts: list[PathSums] = []
    until, broken = len(paths), None
    for names in run.parts():
        meter = None
        for number, here in enumerate(run.read(names, until)):
            try:
                if meter is None:
                    meter = PathMeter.begin(here, str(paths[0]))
                else:
                    meter.add(here, labels[number], where=str(paths[number]))
            except InputError as error:  # another part may be broken before it
                until, broken = number, error
                break
        if meter is not None:
            path_parts.append(meter.path)
    if broken is not None:
        raise broken
    return PathSums.of_parts(path_parts).table()
