"""`sslens probe`."""

from pathlib import Path

from sslens.arguments.options import Text
from sslens.arguments.probe import Command
from sslens.errors import InputError


def check(command: Command) -> None:
    """Refuse what can be known to be wrong before anything heavy is imported."""
    from sslens import zoo

    stored = _stored(command.source)
    if stored == (command.images is not None):
        raise InputError(
            f"{command.source} holds features, of images known already: leave --images out."
            if stored
            else (
                "There are no images to train on: give --images, a folder with a subfolder a class."
            )
        )
    if not stored:
        zoo.check(command.source)
    if (command.test is None) == (command.folds is None):
        raise InputError(
            "Give --test, images to tell the accuracy of, or --folds, to test every image once."
        )
    for name, given in (
        ("--augment", command.augment),
        ("--val", command.val),
        ("--few-shot", command.few_shot),
    ):
        if command.folds is not None and given:
            raise InputError(f"{name} goes with --test and not with --folds.")
    if stored and command.augment:
        raise InputError("Stored features cannot be augmented: give the model and its --images.")
    if command.out.exists() and not command.out.is_dir():
        raise InputError(
            f"{command.out} is a file: tables are written into a folder, give another --out."
        )
    for name, values, low in (
        ("--layers", command.layers, 1),
        ("--draws", (command.draws,), 1),
        ("--top", (command.top,), 1),
    ):
        if not values or min(values) < low:
            raise InputError(
                f"{name} is {' '.join(map(str, values)) or 'empty'}: give {low} or more."
            )


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the folder of the tables."""
    check(command)
    from sslens.arguments.probing import Sets, grid_table, planned, spoken
    from sslens.probes.linear.protocols import folded_outcomes
    from sslens.probes.linear.training import GRIDS, choose, table, train_probes
    from sslens.processes import best_device, processes
    from sslens.progress import progress

    made = GRIDS[command.grid]
    count = len(made(1, 1))  # whatever the images
    if command.dry_run:
        say(planned(command, count))
        return None
    with processes(best_device(command.device)) as process:
        sets = Sets.open(command, process.device, quiet=not process.first)
    if not process.first:
        return None
    heads = sets.heads(command)
    say(sets.describe(command, heads, count))
    options = {"seed": command.seed, "top": command.top, "device": process.device}
    tables = {}
    if command.factors:
        tables["factors"] = sets.decoded(heads, command.seed)
    if command.folds is not None:
        data = sets.data(sets.train, command, heads)
        options |= {"count": command.folds, "classes": sets.classes}
        found, grid = folded_outcomes(data, sets.train.ids, heads, made, **options)  # type: ignore[arg-type]
    else:
        tables["ridge"] = sets.preview(heads)
        frame = tables["ridge"].frame
        best = frame.loc[frame.accuracy.idxmax()]
        say(
            f"ridge     {best.tap}/{best.pooling}: {best.accuracy:.1%} [{best.low:.1%},"
            f" {best.high:.1%}], in closed form"
        )
        with progress("probes", unit="epochs") as report:
            training = sets.training(command, heads, process.device)
            grid = made(training.batch, training.steps)
            probes = train_probes(
                training, heads, grid, seed=command.seed, device=process.device, progress=report
            )
        validated, tested = (
            probes.right(sets.data(part, command, heads), command.top)
            for part in (sets.val, sets.test)
        )
        found = {
            head: choose(head, validated[head], tested[head], probes.diverged[head])
            for head in heads
        }
        tables["grid"] = grid_table(probes, validated, tested)
        for share in command.few_shot:
            tables[f"few-shot-{share:g}"] = sets.few_shot(
                command, share, heads, made, process.device
            )
    tables["probes"] = table(list(found.values()), grid)
    for name, each in tables.items():
        each.save(command.out / f"{name}.csv")
    say(spoken(list(found.values()), grid))
    return command.out


def _stored(source: str) -> bool:
    """Whether a folder of stored features is meant (`capture.is_features`, without torch)."""
    return Path(source, "features.json").is_file()
