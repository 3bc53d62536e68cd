"""Straightness of the path of the weights in fine-tuning (figure 14 of Shekhar et al., 2023; claim
C10)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import pandas as pd

from sslens.comparisons.inputs import Models, Paths
from sslens.comparisons.pairs import Row, make_pair_results
from sslens.comparisons.roles import CONTROL, JE, REC, is_tuned, list_names
from sslens.comparisons.tuned import differ_in_recipe, is_control
from sslens.errors import InputError
from sslens.figure import Figure, Heatmap, Line, Lines, Panel
from sslens.models.about import About
from sslens.statistics.estimate import Contrast, Estimate
from sslens.statistics.runs import difference_of_means, mean_of_objectives
from sslens.table import Results

TITLE = "How straight do the weights go in training with labels?"
CAPTION = (
    "With θ_e the weights after epoch e of the training (of a model that was fine-tuned, of its"
    " fine-tuning): straightness is ‖θ_e − θ_0‖ over the length travelled, the sum of the moves"
    " ‖θ_i − θ_{i−1}‖ until there, 1 of a straight path. Below it the paper's normalisation, each"
    " move over the displacement at the end (of a straight path they add up to 1), the displacement"
    " relative to ‖θ_0‖, and the cosine between successive moves; then each block and kind of"
    " parameter at the end. A fine-tuned random initialisation, dashed, is what the recipe does to"
    " any weights. Two models of one run are shown once. Intervals are 95 %, Welch's, over runs of"
    " the same objectives; one run of an objective has none."
)
#: the group of parameters that the papers' claim is about
ATTENTION = "attention"
#: the measures of which roles are held against each other
MEASURES = ("straightness", "step_straightness")
#: kinds of parameters that are drawn over epochs
DRAWN = (ATTENTION, "mlp", "norm", "backbone")
#: how blocks are called among the groups of parameters
BLOCK = "block "
NUMBERS = (
    "straightness",
    "step_straightness",
    "relative",
    "cosine",
    "move_of_whole",
    "displacement_of_whole",
)
#: a row of `records` is a run after an epoch (or file); a row of `differences` holds the runs of
#: two roles against each other at the end; a row of `not-shown` is a model without a path
TABLES: Mapping[str, tuple[str, ...]] = {
    "records": ("model", "role", "objective", "group", "depth", "record", *NUMBERS),
    "differences": (
        *("role", "less", "group", "measure", "value", "members", "runs", "unlike"),
        *("difference", "difference_low", "difference_high"),
    ),
    "not-shown": ("model", "why"),
}
UNITS = {
    "model": "name of the trained model",
    "role": "JE, REC or control (a random initialisation); empty of other models",
    "objective": "of the pre-training",
    "group": (
        "parameters: backbone (all but the head), attention (qkv and projection), a kind, or a"
        " block"
    ),
    "depth": "of a block: relative depth of its end, 0 to 1",
    "record": "number of the epoch, or of the file after the first",
    "straightness": "displacement / length, 0 to 1",
    "step_straightness": "displacement / length with every step of the optimiser counted",
    "relative": "displacement / ‖θ_0‖",
    "cosine": "of this move and the one before",
    "move_of_whole": (
        "move / displacement of the last record: the paper's; its sum is 1 / straightness"
    ),
    "displacement_of_whole": "displacement / displacement of the last record",
    "measure": "of which the difference is: straightness or step_straightness",
    "value": "mean over objectives of the mean over runs of the first role",
    "less": "role that is subtracted",
    "members": "the runs of both roles",
    "runs": "number of runs of the role that has the fewest",
    "unlike": "why the two are not to be compared; empty if they are",
    "difference": "value less the value of the other role",
    "difference_low": "lower end of its 95 % interval over runs",
    "difference_high": "upper end",
    "why": "why the model is not shown",
}
#: why a model has no path
UNTUNED, UNRECORDED = "it is not fine-tuned", "no path of its weights was recorded beside its file"


@final
@dataclass(frozen=True, eq=False)
class TunedRun:
    """A fine-tuning run and the path of its weights.

    Attributes:
        name: name of the model; of the first model if the run gave several.
        role: "JE", "REC", "control", or empty if the family is not known.
        about: the model's family, objective and architecture, as far as known.
        rows: the table of the path: one row for each record and group of parameters.
        recipe: the settings of the fine-tuning; empty if they are not known.
    """

    name: str
    role: str
    about: About
    rows: pd.DataFrame
    recipe: Mapping[str, str]

    def read_end(self, group: str, measure: str) -> float:
        """Read a measure of a group of parameters at the last record; nan without such a group."""
        last = self.rows[(self.rows.group == group) & (self.rows.record == self.rows.record.max())]
        return float(last[measure].iloc[0]) if len(last) else float("nan")


def explain_absence(models: Models) -> str | None:
    """Say why there is nothing to show: no model under study is fine-tuned."""
    if any(is_tuned(models.about(name)) for name in models.studied):
        return None
    return "none of the models is fine-tuned"


def choose_role(about: About) -> str:
    """Return the role of a run: "JE" or "REC", "control" if it began with a random initialisation,
    or an empty text.

    >>> choose_role(About(family="REC")), choose_role(About(family="control"))
    ('REC', 'control')
    """
    if is_control(about):
        return CONTROL
    return str(about.family) if about.family in (JE, REC) else ""


def compute(models: Models, *, paths: Paths, seed: int = 0) -> Results:
    """Collect the path of each run, and compare JE, REC and the control at the end of their paths.

    The tables are `records`, `differences` and `not-shown`. Nothing is random here, so that the
    seed has no effect.
    """
    runs = _list_runs(models, paths)
    rows = [("records", row) for run in runs for row in _list_records(run)]
    for role, less in ((REC, JE), (REC, CONTROL), (JE, CONTROL)):
        rows += [("differences", row) for row in _list_differences(runs, role, less)]
    for name in models.studied:
        if name not in paths:
            why = UNRECORDED if is_tuned(models.about(name)) else UNTUNED
            rows.append(("not-shown", {"model": name, "why": why}))
    return make_pair_results(rows, TABLES, UNITS)


def _list_runs(models: Models, paths: Paths) -> list[TunedRun]:
    """List each run once, although the best and the last model of a run share one path, and a
    converted copy has a path of its own."""
    runs: dict[str, TunedRun] = {}
    for name in models.studied:
        copied = models[name].copy_of
        if name in paths and copied not in paths:
            table, about = paths[name], models.about(name)
            recipe = table.provenance.get("recipe", {})
            run = TunedRun(name, choose_role(about), about, table.frame, recipe)
            runs.setdefault(table.csv(), run)
    return list(runs.values())


def _list_records(run: TunedRun) -> Iterator[Row]:
    blocks = [group for group in dict.fromkeys(run.rows.group) if group.startswith(BLOCK)]
    names = {"model": run.name, "role": run.role, "objective": run.about.objective or ""}
    for row in run.rows.to_dict("records"):
        group = row["group"]
        depth = (blocks.index(group) + 1) / len(blocks) if group in blocks else float("nan")
        numbers = {column: float(row[column]) for column in ("record", *NUMBERS)}
        yield names | {"group": group, "depth": depth} | numbers


def _list_differences(runs: Sequence[TunedRun], role: str, less: str) -> Iterator[Row]:
    """One role less another, by measure and kind of parameter."""
    own, other = ([run for run in runs if run.role == side] for side in (role, less))
    if not own or not other:
        return
    reason = explain_unlike([*own, *other])
    names = {
        "role": role,
        "less": less,
        "members": "; ".join(
            f"{side}: {list_names([run.name for run in members])}"
            for side, members in ((role, own), (less, other))
        ),
        "unlike": reason,
    }
    kinds = [group for group in dict.fromkeys(own[0].rows.group) if not group.startswith(BLOCK)]
    for measure in MEASURES:
        for group in kinds:
            ends = [_read_ends(side, group, measure) for side in (own, other)]
            if any(value != value for side in ends for values in side.values() for value in values):
                continue
            difference = difference_of_means(*ends)
            row = names | {"measure": measure, "group": group, "runs": difference.n}
            row["value"] = mean_of_objectives(ends[0])
            yield row if reason else row | difference.columns("difference")


def _read_ends(runs: Sequence[TunedRun], group: str, measure: str) -> dict[str, list[float]]:
    """Read a measure at the last record of each run, by objective."""
    ends: dict[str, list[float]] = {}
    for run in runs:
        ends.setdefault(str(run.about.objective), []).append(run.read_end(group, measure))
    return ends


def explain_unlike(runs: Sequence[TunedRun]) -> str:
    """Say in a clause why the straightness of runs cannot be compared; empty if it can."""
    records = sorted({int(run.rows.record.max()) for run in runs})
    steps = sorted({int(step) for step in (run.rows.step.max() for run in runs) if step == step})
    archs = sorted({str(run.about.arch) for run in runs if run.about.arch})
    if records[0] < 2:
        return "of one epoch every path is straight"
    if records[1:]:
        return f"they were looked at {list_names([str(count) for count in records])} times"
    if steps[1:]:
        return f"they took {list_names([str(count) for count in steps])} steps"
    if archs[1:]:
        return f"their architectures are {list_names(archs)}"
    settings = _list_unlike_settings([run.recipe for run in runs if run.recipe])
    if settings:
        return f"they differ in {list_names(settings[:3])}"
    return "their recipes differ" if differ_in_recipe([run.about for run in runs]) else ""


def _list_unlike_settings(recipes: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of settings that are not the same in all recipes."""
    names = {name for recipe in recipes for name in recipe}
    return sorted(name for name in names if len({recipe.get(name) for recipe in recipes}) > 1)


def read_path_contrast(row: Mapping[str, Any]) -> Contrast:
    """Read the difference of two roles from a row of `differences`, with its interval over runs.

    The difference is not paired, because the models of the two roles are trained separately.
    """
    difference = Estimate.from_row(row, "difference", "trainings", "runs")
    return Contrast(row["role"], row["less"], difference, paired=False)


@final
@dataclass(frozen=True)
class Scale:
    """A column of `records` that is drawn on a y axis, with the axis's label and limits."""

    column: str
    label: str
    limits: tuple[float, float] | None = None


STRAIGHTNESS = Scale("straightness", "straightness", (0.0, 1.05))
DISTANCE = Scale("relative", "displacement / norm at the start")
MOVES = Scale("move_of_whole", "move / displacement at the end")
TURNS = Scale("cosine", "cosine of successive moves", (-1.05, 1.05))


def draw(results: Results) -> Figure:
    """Draw the paths: straightness against epochs for each kind of parameter; then, for attention,
    each epoch's move, the distance from the start and the angle between moves; then every block and
    kind at the end.

    Raises:
        InputError: there is no run.
    """
    rows = results["records"]
    if rows.empty:
        raise InputError(
            "There is no path to draw", mend="give models that were fine-tuned with {path=True}"
        )
    last = rows[rows.record == rows.groupby("model").record.transform("max")]
    kinds = [kind for kind in DRAWN if (rows.group == kind).any()]
    grid: list[list[Panel | None]] = [
        [
            _draw_lines(rows[rows.group == kind], f"Straightness: {kind}", STRAIGHTNESS)
            for kind in kinds
        ],
        [
            _draw_lines(rows[rows.group == kinds[0]], f"{title}: {kinds[0]}", scale)
            for title, scale in (
                ("Moves", MOVES),
                ("Distance from the start", DISTANCE),
                ("Turns", TURNS),
            )
        ],
        [*_draw_blocks(last[last.depth.notna()]), _draw_kinds(last[last.depth.isna()])],
    ]
    shown = [row for row in grid if any(panel is not None for panel in row)]
    width = max(len(row) for row in shown)
    return Figure("finetune-path", tuple((*row, *(None,) * (width - len(row))) for row in shown))


def _draw_blocks(blocks: pd.DataFrame) -> tuple[Lines | None, Lines | None]:
    """Straightness and distance of blocks at the end, by depth."""
    return (
        _draw_lines(blocks, "Straightness of blocks", STRAIGHTNESS, by_depth=True),
        _draw_lines(blocks, "Distance of blocks from the start", DISTANCE, by_depth=True),
    )


def _draw_lines(
    rows: pd.DataFrame, title: str, scale: Scale, *, by_depth: bool = False
) -> Lines | None:
    """Draw one curve per run, against the epoch or the depth; None if nothing is defined."""
    x = "depth" if by_depth else "record"
    lines = [
        Line(
            str(model),
            own[x].to_numpy(float),
            own[scale.column].to_numpy(float),
            control=bool((own.role == CONTROL).all()),
        )
        for model, own in rows.groupby("model", sort=False)
        if own[scale.column].notna().any()
    ]
    label = "relative depth" if by_depth else "epoch"
    if not lines:
        return None
    facets = {"number": title}
    return Lines(title, label, scale.label, tuple(lines), scale.limits, facets=facets)


def _draw_kinds(last: pd.DataFrame) -> Heatmap:
    """Draw the straightness at the end, with a row per run and a column per kind of parameter."""
    square = last.pivot(index="model", columns="group", values="straightness")
    square = square.reindex(index=last.model.unique()[::-1], columns=last.group.unique())
    return Heatmap(
        "Straightness of kinds of parameters",
        square.to_numpy(float),
        tuple(map(str, square.index)),
        tuple(map(str, square.columns)),
        "",
        "",
        (0.0, 1.0),
        "straightness",
    )
