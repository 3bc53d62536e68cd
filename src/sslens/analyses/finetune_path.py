"""How straight do the weights go in fine-tuning (figure 14 of Shekhar et al., 2023; claim C10)?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from sslens.comparisons import untyped as _roles
from sslens.comparisons import untyped as _tuned
from sslens.comparisons.inputs import Inputs
from sslens.comparisons.roles import CONTROL, JE, REC
from sslens.errors import InputError
from sslens.figure import Figure, Heatmap, Line, Lines, Panel
from sslens.models.about import About
from sslens.statistics import runs as _runs
from sslens.table import Table

TITLE = "How straight do the weights go in fine-tuning?"
CAPTION = (
    "With θ_e the weights after epoch e of fine-tuning: straightness is ‖θ_e − θ_0‖ over the length"
    " travelled, the sum of the moves ‖θ_i − θ_{i−1}‖ until there, 1 of a straight path. Below it"
    " the paper's normalisation, each move over the displacement at the end (of a straight path"
    " they add up to 1), the displacement relative to ‖θ_0‖, and the cosine between successive"
    " moves; then each block and kind of parameter at the end. A fine-tuned random initialisation,"
    " dashed, is what the recipe does to any weights. Two models of one run are shown once."
    " Intervals are 95 %, Welch's, over runs of the same objectives; one run of an objective has"
    " none."
)
VERSION = 1
NEEDS = ("paths",)
ATTENTION = "attention"
MEASURES = ("straightness", "step_straightness")
#: kinds of parameters that are drawn over epochs
DRAWN = (ATTENTION, "mlp", "norm", "backbone")
#: runs that are spoken of where there are no families
SAID = 6
UNITS = {
    "row": "record: a run after an epoch (or file); difference: runs of two roles at the end",
    "model": (
        "name of the fine-tuned model; of a difference the role that the other is subtracted from"
    ),
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
    "runs": "smallest number of runs of an objective among them",
    "unlike": "why the two are not to be compared; empty if they are",
    "difference": "value less that of the other role",
    "difference_low": "lower end of its 95 % interval over runs",
    "difference_high": "upper end",
}
NUMBERS = (
    "straightness",
    "step_straightness",
    "relative",
    "cosine",
    "move_of_whole",
    "displacement_of_whole",
)
TEXTS = ("row", "model", "role", "objective", "group", "measure", "less", "members", "unlike")


class Run(NamedTuple):
    """A fine-tuning run: who it is, and the rows and settings of its path."""

    name: str
    role: str
    about: About
    frame: pd.DataFrame
    recipe: Mapping[str, str]

    def end(self, group: str, measure: str) -> float:
        """A number of the last record; nan where there is none."""
        found = self.frame[
            (self.frame.group == group) & (self.frame.record == self.frame.record.max())
        ]
        return float(found[measure].iloc[0]) if len(found) else float("nan")


def without(about: Mapping[str, About], controls: Sequence[str]) -> str | None:
    """A fine-tuned model must be there."""
    if any(_roles.is_tuned(about[name]) for name in _roles.models(about, controls)):
        return None
    return "none of the models is fine-tuned"


def role(about: About) -> str:
    """Whose path it is: of a family, of the control, or of neither.

    >>> role(About(family="REC")), role(About(family="control"))
    ('REC', 'control')
    """
    if _tuned.is_control(about):
        return CONTROL
    return str(about.family) if about.family in (JE, REC) else ""


def compute(inputs: Inputs) -> Table:
    """A row a run, record and group; then JE, REC and the control held against each other at the
    end."""
    runs = _distinct(inputs)
    rows = [row for run in runs for row in _records(run)]
    rows += [
        row
        for one, other in ((REC, JE), (REC, CONTROL), (JE, CONTROL))
        for row in _differences(runs, one, other)
    ]
    frame = pd.DataFrame([dict.fromkeys(TEXTS, "") | row for row in rows], columns=list(UNITS))
    return Table(frame.astype({name: float for name in UNITS if name not in TEXTS}), UNITS)


def _distinct(inputs: Inputs) -> list[Run]:
    """The runs, each once: the best and the last model of a run have one path."""
    found: dict[str, Run] = {}
    for name in inputs.models:
        if name in inputs.paths:
            table, about = inputs.paths[name], inputs.about[name]
            recipe = table.provenance.get("recipe", {})
            found.setdefault(table.csv(), Run(name, role(about), about, table.frame, recipe))
    return list(found.values())


def _records(run: Run) -> Iterator[dict[str, Any]]:
    blocks = [group for group in dict.fromkeys(run.frame.group) if group.startswith("block ")]
    who = {
        "row": "record",
        "model": run.name,
        "role": run.role,
        "objective": run.about.objective or "",
    }
    for row in run.frame.to_dict("records"):
        depth = (blocks.index(row["group"]) + 1) / len(blocks) if row["group"] in blocks else None
        yield who | {"depth": depth} | {name: row[name] for name in ("group", "record", *NUMBERS)}


def _differences(runs: Sequence[Run], one: str, other: str) -> Iterator[dict[str, Any]]:
    """One role less another, by measure and kind of parameter."""
    sides = [[run for run in runs if run.role == each] for each in (one, other)]
    if not all(sides):
        return
    both = [*sides[0], *sides[1]]
    members = "; ".join(
        f"{each}: {_roles.listed([r.name for r in side])}"
        for each, side in zip((one, other), sides, strict=True)
    )
    known = {
        "row": "difference",
        "model": one,
        "role": one,
        "less": other,
        "members": members,
        "unlike": unlike(both),
    }
    kinds = [
        group for group in dict.fromkeys(both[0].frame.group) if not group.startswith("block ")
    ]
    for measure in MEASURES:
        for group in kinds:
            ends = [_by_objective(side, group, measure) for side in sides]
            counts = [len(each) for side in ends for each in side.values()]
            if any(value != value for side in ends for each in side.values() for value in each):
                continue
            found = _runs.difference_of_means(*ends)
            row = known | {"measure": measure, "group": group, "runs": min(counts)}
            row["value"] = _runs.mean_of_objectives(ends[0])
            if not known["unlike"]:
                row |= {
                    "difference": found.value,
                    "difference_low": found.low,
                    "difference_high": found.high,
                }
            yield row


def _by_objective(runs: Sequence[Run], group: str, measure: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        found.setdefault(str(run.about.objective), []).append(run.end(group, measure))
    return found


def unlike(runs: Sequence[Run]) -> str:
    """Why the straightness of runs is not to be compared, as a clause; empty where it is."""
    records = sorted({int(run.frame.record.max()) for run in runs})
    steps = sorted({int(step) for step in (run.frame.step.max() for run in runs) if step == step})
    archs = sorted({str(run.about.arch) for run in runs if run.about.arch})
    if records[0] < 2:
        return "of one epoch every path is straight"
    if records[1:]:
        return f"they were looked at {_roles.listed([str(each) for each in records])} times"
    if steps[1:]:
        return f"they took {_roles.listed([str(each) for each in steps])} steps"
    if archs[1:]:
        return f"their architectures are {_roles.listed(archs)}"
    recipes = [run.recipe for run in runs if run.recipe]
    apart = sorted(
        {
            k
            for each in recipes
            for k in each.keys() | recipes[0].keys()
            if each.get(k) != recipes[0].get(k)
        }
    )
    if apart:
        return f"they differ in {_roles.listed(apart[:3])}"
    return "their recipes differ" if _tuned.unlike([run.about for run in runs]) else ""


def draw(table: Table) -> Figure:
    """Straightness over epochs by kind; the attention's moves, distance and turns; every block and
    kind at the end.

    Raises:
        InputError: the table is of no run.
    """
    frame = table.frame[table.frame.row == "record"]
    if frame.empty:
        raise InputError("There is no path to draw: give models that were fine-tuned with --path.")
    last = frame[frame.record == frame.groupby("model").record.transform("max")]
    kinds = [kind for kind in DRAWN if (frame.group == kind).any()]
    first = kinds[0]
    over: list[Panel | None] = [
        _lines(
            frame[frame.group == kind],
            f"Straightness: {kind}",
            "epoch",
            "straightness",
            (0.0, 1.05),
        )
        for kind in kinds
    ]
    own = frame[frame.group == first]
    within: list[Panel | None] = [
        _lines(
            own, f"Moves: {first}", "epoch", "move / displacement at the end", None, "move_of_whole"
        ),
        _lines(
            own,
            f"Distance from the start: {first}",
            "epoch",
            "displacement / norm at the start",
            None,
            "relative",
        ),
        _lines(
            own, f"Turns: {first}", "epoch", "cosine of successive moves", (-1.05, 1.05), "cosine"
        ),
    ]
    blocks = last[last.depth.notna()]
    ends: list[Panel | None] = [
        _lines(blocks, "Straightness of blocks", "relative depth", "straightness", (0.0, 1.05)),
        _lines(
            blocks,
            "Distance of blocks from the start",
            "relative depth",
            "displacement / norm at the start",
            None,
            "relative",
        ),
        _kinds(last[last.depth.isna()]),
    ]
    grid = [row for row in (over, within, ends) if any(panel is not None for panel in row)]
    width = max(len(row) for row in grid)
    return Figure("finetune-path", tuple((*row, *(None,) * (width - len(row))) for row in grid))


def _lines(
    rows: pd.DataFrame,
    title: str,
    x: str,
    y: str,
    limits: tuple[float, float] | None,
    column: str = "straightness",
) -> Lines | None:
    """A line a run, where any number is defined."""
    by = "depth" if x == "relative depth" else "record"
    lines = [
        Line(
            str(model),
            own[by].to_numpy(float),
            own[column].to_numpy(float),
            control=bool((own.role == CONTROL).all()),
        )
        for model, own in rows.groupby("model", sort=False)
        if own[column].notna().any()
    ]
    return Lines(title, x, y, tuple(lines), limits) if lines else None


def _kinds(last: pd.DataFrame) -> Heatmap:
    square = last.pivot(index="model", columns="group", values="straightness")
    square = square.reindex(index=last.model.unique()[::-1], columns=last.group.unique())
    rows, columns = tuple(map(str, square.index)), tuple(map(str, square.columns))
    return Heatmap(
        "Straightness of kinds of parameters",
        square.to_numpy(float),
        rows,
        columns,
        "",
        "",
        (0.0, 1.0),
        "straightness",
    )


def findings(table: Table) -> tuple[str, ...]:
    """Claim C10, of attention first; without families how straight each run went."""
    frame = table.frame
    apart = frame[(frame.row == "difference") & (frame.measure == "straightness")]
    said = [_claimed(rows) for _, rows in apart.groupby(["model", "less"], sort=False)]
    if said:
        return tuple(said)
    records = frame[frame.row == "record"]
    return tuple(_went(rows) for _, rows in records.groupby("model", sort=False))[:SAID]


def _claimed(rows: pd.DataFrame) -> str:
    """Whether one role goes straighter than another."""
    own = rows[rows.group == ATTENTION]
    row = (own if len(own) else rows).iloc[0]
    said = (
        f"In fine-tuning the {row.group} parameters of {row.model} have a straightness of"
        f" {row.value:.2f} ({row.members})"
    )
    if row.unlike:
        return f"{said}; it is not held against that of the {row.less}, for {row.unlike}."
    said += f", {_roles.spelt_difference(row)} more than those of the {row.less}{_verdict(row)}"
    others = [
        f"{other.group} {_roles.spelt_difference(other)}"
        for _, other in rows.iterrows()
        if other.group
        not in (
            row.group,
            "backbone",
            "head",
            "attention qkv",
            "attention projection",
        )
    ]
    return (
        f"{said}; by kind of parameter the same difference is {', '.join(others)}."
        if others
        else f"{said}."
    )


def _verdict(row: Any) -> str:
    """What a difference decides."""
    if pd.isna(row.difference_low):
        return (
            " (one run of an objective has no interval: what another seed would give is not known)"
        )
    if row.difference_low > 0:
        return ": they go straighter"
    return ": they go less straight" if row.difference_high < 0 else ", which is not decided"


def _went(rows: pd.DataFrame) -> str:
    """How straight a run went by kind, and how far."""
    last = rows[(rows.record == rows.record.max()) & rows.depth.isna() & rows.straightness.notna()]
    ends = last.set_index("group")
    parts = [f"{group} {ends.straightness[group]:.2f}" for group in DRAWN if group in ends.index]
    said = (
        f"{rows.model.iloc[0]}: straightness after {rows.record.max():.0f} epochs or checkpoints"
        f" {', '.join(parts)}"
    )
    if not parts:
        return f"{rows.model.iloc[0]} did not move."
    group = next(group for group in DRAWN if group in ends.index)
    far = ends.relative[group]
    return (
        f"{said}."
        if pd.isna(far)
        else f"{said}; its {group} parameters moved by {far:.1%} of their norm."
    )
