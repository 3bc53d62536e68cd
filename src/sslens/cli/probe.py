"""`sslens probe`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sslens.cli._options import Text
from sslens.errors import InputError


@dataclass(frozen=True)
class Command:
    """Train probes on a model's features, hundreds at a time: linear or deeper, of one layer of the model or of two.

    Every point of a grid of learning rates, weight decays and lengths is trained in one stream of features. The point is
    chosen on images that are held out, and what it does is told of other images, with its interval; the mean of the best
    five points, as papers report it, stands beside it. A closed-form ridge probe comes first, at once.

    Examples:
      sslens probe dino_vitb16 --images photos/train --test photos/val
      sslens probe runs/mae --images cifar10:train --test cifar10:val --layers 1 2 3 --grid small
      sslens probe runs/mae --images photos/train --test photos/val --taps all --with-last
      sslens probe features/train --test features/val --taps blocks.5 blocks.11
      sslens probe runs/mae --images photos --folds 5 --few-shot 0.01 0.1
      sslens probe runs/mae --images scenes:0:4000 --test scenes:1:1000 --factors
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(name="model", metavar="MODEL|FEATURES")]
    """A model as sslens compare takes it, or a folder of sslens features of the training images."""
    images: str | None = None
    """Training images, with a class a subfolder; not with a folder of features."""
    test: str | None = None
    """Images that the accuracy is told of (or a folder of features); without them give --folds."""
    val: str | None = None
    """Images that the point of the grid is chosen on; a fifth of the training images unless given."""
    folds: int | None = None
    """Test every training image once, in as many parts."""
    few_shot: tuple[float, ...] = ()
    """Shares of the labels, such as 0.01 0.1, to train and choose with as well."""
    draws: int = 5
    """Of each share."""
    factors: bool = False
    """Of generated scenes, what each layer knows of position, size, hue and the like."""
    taps: tuple[str, ...] = ()
    """Layers by name, such as blocks.5, or all; the last unless given."""
    pooling: tuple[Literal["cls", "mean", "patch", "flat"], ...] = ()
    """The CLS token, the mean of all tokens, the mean of the patch tokens; the first that there is unless given."""
    with_last: bool = False
    """Each layer also together with the last one."""
    layers: tuple[int, ...] = (1,)
    """Of the probe: 1 is linear."""
    grid: Literal["paper", "small"] = "paper"
    """The papers' 216 points, or 8 for a first look."""
    augment: bool = False
    """Train on random crops and flips, as MAE's linear probe, with a forward pass a step; slow, and a little better."""
    top: int = 1
    """An image is right when its class is among so many."""
    batch: int | None = None
    """Images of a step; chosen by their number unless given, 4,096 at most."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("probes")
    """Folder for the tables."""
    seed: int = 0
    """Of the images drawn, the parts, the first weights and the order of images."""
    limit: int | None = None
    """Images taken at most of each set, drawn by their ids and the seed."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass."""
    dry_run: bool = False
    """Print the plan, and stop."""


def check(command: Command) -> None:
    """Refuse what can be known to be wrong before anything heavy is imported."""
    from sslens import zoo

    stored = _stored(command.source)
    if stored == (command.images is not None):
        raise InputError(
            f"{command.source} holds features, of images known already: leave --images out."
            if stored
            else "There are no images to train on: give --images, a folder with a subfolder a class."
        )
    if not stored:
        zoo.check(command.source)
    if (command.test is None) == (command.folds is None):
        raise InputError("Give --test, images to tell the accuracy of, or --folds, to test every image once.")
    for name, given in (("--augment", command.augment), ("--val", command.val), ("--few-shot", command.few_shot)):
        if command.folds is not None and given:
            raise InputError(f"{name} goes with --test and not with --folds.")
    if stored and command.augment:
        raise InputError("Stored features cannot be augmented: give the model and its --images.")
    if command.out.exists() and not command.out.is_dir():
        raise InputError(f"{command.out} is a file: tables are written into a folder, give another --out.")
    for name, values, low in (
        ("--layers", command.layers, 1),
        ("--draws", (command.draws,), 1),
        ("--top", (command.top,), 1),
    ):
        if not values or min(values) < low:
            raise InputError(f"{name} is {' '.join(map(str, values)) or 'empty'}: give {low} or more.")


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the folder of the tables."""
    check(command)
    from sslens.cli._probing import Sets, grid_table, planned, spoken
    from sslens.probes._protocols import folded_outcomes
    from sslens.probes.linear import choose, paper_grid, small_grid, table, train_probes
    from sslens.processes import best_device, processes
    from sslens.progress import progress

    grid = paper_grid() if command.grid == "paper" else small_grid()
    if command.dry_run:
        say(planned(command, len(grid)))
        return None
    with processes(best_device(command.device)) as process:
        sets = Sets.open(command, process.device, quiet=not process.first)
    if not process.first:
        return None
    heads = sets.heads(command)
    say(sets.describe(command, heads, len(grid)))
    options = {"seed": command.seed, "top": command.top, "device": process.device}
    tables = {}
    if command.factors:
        tables["factors"] = sets.decoded(heads, command.seed)
    if command.folds is not None:
        data = sets.data(sets.train, command, heads)
        options |= {"count": command.folds, "classes": sets.classes}
        found = folded_outcomes(data, sets.train.ids, heads, grid, **options)  # type: ignore[arg-type]
    else:
        tables["ridge"] = sets.preview(heads)
        frame = tables["ridge"].frame
        best = frame.loc[frame.accuracy.idxmax()]
        say(
            f"ridge     {best.tap}/{best.pooling}: {best.accuracy:.1%} [{best.low:.1%}, {best.high:.1%}], in closed form"
        )
        with progress("probes", unit="epochs") as report:
            training = sets.training(command, heads, process.device)
            probes = train_probes(training, heads, grid, seed=command.seed, device=process.device, progress=report)
        validated, tested = (
            probes.right(sets.data(part, command, heads), command.top) for part in (sets.val, sets.test)
        )
        found = {head: choose(head, validated[head], tested[head], probes.diverged[head]) for head in heads}
        tables["grid"] = grid_table(probes, validated, tested)
        for share in command.few_shot:
            tables[f"few-shot-{share:g}"] = sets.few_shot(command, share, heads, grid, process.device)
    tables["probes"] = table(list(found.values()), grid)
    for name, each in tables.items():
        each.save(command.out / f"{name}.csv")
    say(spoken(list(found.values()), grid))
    return command.out


def _stored(source: str) -> bool:
    """Whether a folder of stored features is meant (`capture.is_features`, without torch)."""
    return Path(source, "features.json").is_file()
