"""Probes of a model's features: trained on some images, chosen on others, tested on a third set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sslens.counts import spell_count
from sslens.own_files import OwnFiles
from sslens.progress import progress
from sslens.store import Store, home
from sslens.study.given import keep_devices
from sslens.study.image_sets import require_sources
from sslens.study.out_folders import claim_probes
from sslens.study.passes import PassRunner
from sslens.study.probe_request import ProbeRequest

if TYPE_CHECKING:
    from sslens.probes.linear.choosing import Outcome
    from sslens.probes.linear.grid import Point
    from sslens.probes.linear.heads import Head
    from sslens.probes.linear.protocols import Grid
    from sslens.study.probe_sets import ProbeSets
    from sslens.study.result import Result
    from sslens.table import Table

Say = Callable[[str], None]


def run(
    request: ProbeRequest,
    *,
    store: Store | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    say: Say = lambda _: None,
) -> Path | None:
    """Train the probes and write their tables; returns the folder, or None for a dry run and for
    processes that are not the first.

    Raises:
        InputError: something given cannot be used.
    """
    claim_probes(request).require(request.out, overwrite=overwrite)
    result = train(request, store=store, dry_run=dry_run, say=say)
    return None if result is None else result.save(request.out, overwrite=overwrite)


def train(
    request: ProbeRequest,
    *,
    store: Store | None = None,
    quiet: bool = False,
    dry_run: bool = False,
    say: Say = lambda _: None,
) -> "Result | None":
    """Train the probes; returns the result, or None for a dry run and for processes that are not
    the first.

    Raises:
        InputError: something given cannot be used.
    """
    if not request.is_stored:
        require_sources(request.images, request.val, request.test, given=request.given)
    from sslens.comparisons.probe_training import CONVERGED
    from sslens.probes.linear.training import GRIDS
    from sslens.processes import best_device, best_precision, processes
    from sslens.report.writing.numbers import set_minus
    from sslens.study.probe_cost import estimate_probes
    from sslens.study.probe_sets import open_probe_sets
    from sslens.study.probe_tables import decode_factors, list_outcomes, require_scenes

    grid = None if request.grid == CONVERGED else GRIDS[request.grid]
    count = len(grid(1, 1)) if grid else 0  # whatever the images
    device = best_device(request.device)
    with keep_devices(request.given), processes(device) as process:
        precision = best_precision(request.precision, process.device)
        runner = PassRunner(
            store or Store(home() / "store"), process.device, precision, quiet or not process.first
        )
        sets = open_probe_sets(request, runner, planned=dry_run)
    if not process.first:
        return None
    heads = sets.heads()
    say(sets.describe(heads, count))
    if request.folds is None and len(sets.val.rows) < count:
        say(
            f"note      {count} points are chosen among with"
            f" {spell_count(len(sets.val.rows), 'image')}, which can hardly tell them apart"
        )
    if dry_run:
        if request.factors:
            require_scenes(sets)
        if request.is_stored:
            stored = sets.train.features
            say(f"features  {len(stored):,} stored images of {stored.model}")
        say(f"cost      {estimate_probes(sets, heads, runner, count).describe()}")
        return None
    tables = {"factors": decode_factors(sets, heads)} if request.factors else {}
    if grid is None:
        outcomes, points, more = _converge(sets, heads, process.device, say, quiet)
    else:
        fit = _train if request.folds is None else _train_in_folds
        outcomes, points, more = fit(sets, heads, grid, process.device, say, quiet)
    said = list_outcomes(outcomes, points)
    say(set_minus(said))
    return _conclude(sets, outcomes, tables | more)


def _conclude(
    sets: "ProbeSets", outcomes: "Sequence[Outcome]", tables: "dict[str, Table]"
) -> "Result":
    """The result of probes with their tables."""
    from sslens.report.answer import answer_outcomes
    from sslens.statistics.proportions import find_chance
    from sslens.study.result import Result, Tables

    def write_files(folder: Path, **_: bool) -> Path:
        for name, table in tables.items():
            table.save(OwnFiles(folder).before(folder / f"{name}.csv"))
        return folder

    labels = sets.test.labels[sets.test.rows]
    chance = find_chance(sets.test.labels)
    model = sets.train.features.model
    return Result(
        f"Probes of {model}, tested on {spell_count(len(labels), 'image')}",
        answer_outcomes(model, outcomes, chance),
        Tables(tables),
        write_files,
        claim_probes(sets.request),
        notes=(
            *sets.notes,
            *(f"{one.head.name} is not settled: {one.why}." for one in outcomes if one.why),
        ),
    )


def _converge(
    sets: "ProbeSets", heads: "Sequence[Head]", device: str, say: Say, quiet: bool
) -> "tuple[list[Outcome], Sequence[Point], dict[str, Table]]":
    """Train every probe to its optimum, and choose its penalty or setting on other images."""
    from sslens.comparisons.probe_protocols import converge_in_folds
    from sslens.comparisons.probe_training import Parts, train_heads
    from sslens.probes.linear.choosing import table
    from sslens.study.probe_tables import preview, tabulate_penalties, try_few_shot

    request = sets.request
    if request.folds is not None:
        outcomes = converge_in_folds(
            sets.data(sets.train, heads),
            sets.train.ids,
            heads,
            count=request.folds,
            classes=sets.classes,
            seed=request.seed,
            top=request.top,
            device=device,
        )
        return outcomes, (), {"probes": table(outcomes)}
    ridge = preview(sets, heads)
    _say_preview(ridge, say)
    parts = Parts(*(sets.data(part, heads) for part in (sets.train, sets.val, sets.test)))
    with progress("probes", unit="", quiet=quiet) as report:
        trained = train_heads(
            parts, heads, seed=request.seed, top=request.top, device=device, progress=report
        )
    few_shot = {
        f"few-shot-{share:g}": try_few_shot(sets, share, heads, None, device)
        for share in request.few_shot
    }
    outcomes = list(trained.outcomes.values())
    tables = {"ridge": ridge, "penalties": tabulate_penalties(trained), **few_shot}
    return outcomes, (), tables | {"probes": table(outcomes)}


def _say_preview(ridge: "Table", say: Say) -> None:
    best = ridge.frame.loc[ridge.frame.accuracy.idxmax()]
    say(
        f"ridge     {best.tap}/{best.pooling}: {best.accuracy:.1%} [{best.low:.1%},"
        f" {best.high:.1%}], in closed form"
    )


def _train(
    sets: "ProbeSets", heads: "Sequence[Head]", grid: "Grid", device: str, say: Say, quiet: bool
) -> "tuple[list[Outcome], Sequence[Point], dict[str, Table]]":
    """Train every point of the grid at once, and choose on the validation images."""
    from sslens.probes.linear.choosing import choose, table
    from sslens.probes.linear.training import train_probes
    from sslens.study.probe_tables import preview, tabulate_grid, try_few_shot

    request = sets.request
    ridge = preview(sets, heads)
    _say_preview(ridge, say)
    with progress("probes", unit="epochs", quiet=quiet) as report:
        training = sets.training(heads, device)
        points = grid(training.batch, training.steps)
        say(
            f"steps     {training.steps:,} an epoch, of {spell_count(training.batch, 'image')}; the"
            f" rate of a step is lr × {training.batch:,} / 256"
        )
        probes = train_probes(
            training, heads, points, seed=request.seed, device=device, progress=report
        )
    validated, tested = (
        probes.right(sets.data(part, heads), request.top) for part in (sets.val, sets.test)
    )
    outcomes = [
        choose(head, validated[head], tested[head], probes.diverged[head], points) for head in heads
    ]
    few_shot = {
        f"few-shot-{share:g}": try_few_shot(sets, share, heads, grid, device)
        for share in request.few_shot
    }
    tables = {"ridge": ridge, "grid": tabulate_grid(probes, validated, tested), **few_shot}
    return outcomes, points, tables | {"probes": table(outcomes, points)}


def _train_in_folds(
    sets: "ProbeSets", heads: "Sequence[Head]", grid: "Grid", device: str, say: Say, quiet: bool
) -> "tuple[list[Outcome], Sequence[Point], dict[str, Table]]":
    """Test every image once, by probes that have not seen it."""
    from sslens.probes.linear.choosing import table
    from sslens.probes.linear.protocols import train_in_folds

    request = sets.request
    assert request.folds is not None
    outcomes, points = train_in_folds(
        sets.data(sets.train, heads),
        sets.train.ids,
        heads,
        grid,
        count=request.folds,
        classes=sets.classes,
        seed=request.seed,
        top=request.top,
        device=device,
    )
    return list(outcomes.values()), points, {"probes": table(list(outcomes.values()), points)}
