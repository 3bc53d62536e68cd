"""The answer of a terminal to what models are blind to: transforms by models and controls."""

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from sslens.comparisons.readings import name_pooling_in
from sslens.comparisons.roles import PIXELS
from sslens.data.transform_names import label_transform
from sslens.report.writing.answer_grid import Grid, Way
from sslens.report.writing.numbers import set_minus, spell, spell_count, spell_level
from sslens.statistics.estimate import Estimate

#: how a column of a control ends
CONTROL = " *"
#: what stands where an invariance is not defined: all images have the same features
UNDEFINED = "–"
#: the estimates of a transform by model
Found = Mapping[str, Estimate]


def make_grid(changes: pd.DataFrame, file: str = "") -> Grid | None:
    """Make the table of a terminal: the invariance of the last layer, a row a transform.

    The rows are in the order of the models' mean, the blindest first; where there is room for few,
    those on which the columns differ most are shown. Where not all fits, one control with random
    weights and raw pixels are left of the controls, and then the intervals are left out.

    Args:
        changes: the table `changes` of the analysis invariance.
        file: where it was saved.

    Returns:
        The table; None where there is no model beside the controls.
    """
    frame = changes[changes.main & changes["last"]]
    studied = [str(name) for name in frame[~frame.control].model.unique()]
    controls = [str(name) for name in frame[frame.control].model.unique()]
    if not studied:
        return None
    rows = _group(frame)
    rows.sort(key=lambda row: -_average([row[1][name].value for name in studied if name in row[1]]))
    few = [name for name in controls if name != PIXELS][:1]
    few += [name for name in controls if name == PIXELS]
    caption = _write_caption(frame, studied)
    return Grid(
        [
            Way(
                f"{caption}{' * a control.' if shown else ''}{end}",
                ["change", *studied, *(f"{name}{CONTROL}" for name in shown)],
                [[label, *_spell_all(own, [*studied, *shown], way)] for label, own in rows],
            )
            for shown, way, end in (
                (controls, spell, ""),
                (few, spell, ""),
                (controls, _spell_value, " Intervals: in the report."),
                (few, _spell_value, " Intervals: in the report."),
            )
        ],
        sorted(range(len(rows)), key=lambda place: -_measure_span(rows[place][1])),
        file,
    )


def _group(frame: pd.DataFrame) -> list[tuple[str, Found]]:
    """The invariances of all models to each transform."""
    found: dict[str, dict[str, Estimate]] = {}
    for row in frame.to_dict("records"):
        label = label_transform(str(row["transform"]), float(row["strength"]))
        own = Estimate.from_row(row, "invariance", "images", "images")
        found.setdefault(label, {})[str(row["model"])] = own
    return list(found.items())


def _average(values: Sequence[float]) -> float:
    """The mean of the numbers that are known; −∞ of none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else -math.inf


def _measure_span(found: Found) -> float:
    """How far the models and controls differ."""
    known = [one.value for one in found.values() if one.defined]
    return max(known) - min(known) if known else 0.0


def _spell_all(found: Found, names: Sequence[str], way: Callable[[Estimate], str]) -> list[str]:
    """The invariances of some models to a transform."""
    known = {name: one for name, one in found.items() if one.defined}
    return [set_minus(way(known[name])) if name in known else UNDEFINED for name in names]


def _spell_value(estimate: Estimate) -> str:
    return spell_level(estimate.value)


def _write_caption(frame: pd.DataFrame, studied: Sequence[str]) -> str:
    """What the numbers are: of which features, and over how many images."""
    poolings = {}
    for name in studied:
        own = frame[frame.model == name]
        poolings[name] = name_pooling_in(own, str(own.pooling.iloc[0]))
    features = ", ".join(f"{name}: {pooling}" for name, pooling in poolings.items())
    if len(set(poolings.values())) == 1:
        features = next(iter(poolings.values()))
    count = spell_count(int(frame.images.iloc[0]), "image")
    return (
        f"Invariance of the last layer ({features}) over {count}: 1 is blind to the change,"
        " 0 sees another image."
    )
