"""The columns of the answer where no analysis ran that tells which features to use: the numbers of
each model that the analyses without classes and CKA have."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.dense_scores import READINGS
from sslens.comparisons.probing import PLUS
from sslens.comparisons.rows import Row
from sslens.data.transform_names import label_transform
from sslens.table import Results, Table

#: of analyses with a table of a row a model: that table
BY_MODEL = {"samples": "fidelity", "checkpoints": "checkpoints"}
INVARIANCE = "invariance"
DENSE = "dense-depth"
#: of analyses with a table of a row for two models, the columns that tell of the second how it
#: differs from the first
CHANGES = {
    "weights-changed": ("pairs", ("model_a", "relative", "angle")),
    "images-moved": (
        "pairs",
        ("model_a", "moved", "moved_low", "moved_high", "gain", "gain_low", "gain_high", "images"),
    ),
}
Columns = dict[str, Row]


def add_alone(table: Table, results: Mapping[str, Results]) -> Table:
    """Add to the table of the answer what else is known of each model; each column begins with the
    name of its analysis.

    Args:
        table: the table, with a row for each model.
        results: the results of the analyses that ran, by the analysis' name.
    """
    known, units = _read_rows(results)
    if not units:
        return table
    own = [known.get(str(name), {}) for name in table.frame.model]
    added = pd.DataFrame(own, columns=list(units), index=table.frame.index)
    return Table(pd.concat([table.frame, added], axis=1), {**table.units, **units})


def _read_rows(results: Mapping[str, Results]) -> tuple[Columns, dict[str, str]]:
    """The columns of each model, by its name, and what each column is."""
    known: Columns = {}
    units: dict[str, str] = {}
    for name, column, value, unit in _list_cells(results):
        known.setdefault(name, {})[column] = value
        units.setdefault(column, unit)
    return known, units


def _list_cells(results: Mapping[str, Results]) -> Iterator[tuple[str, str, Any, str]]:
    """Each number with its model, its column and what that is."""
    for analysis, name in BY_MODEL.items():
        if analysis in results and name in results[analysis]:
            table = results[analysis].tables[name]
            for row in table.frame.to_dict("records"):
                for column, value in row.items():
                    if column not in ("model", "control"):
                        text = table.units[str(column)]
                        yield str(row["model"]), f"{analysis}_{column}", value, text
    for analysis, (name, columns) in CHANGES.items():
        if analysis in results and name in results[analysis]:
            table, start = results[analysis].tables[name], analysis.replace("-", "_")
            for row in table.frame.to_dict("records"):
                for column in columns:
                    text = table.units.get(column, "")
                    yield str(row["model_b"]), f"{start}_{column}", row[column], text
    if DENSE in results and "scores" in results[DENSE]:
        yield from _list_dense(results[DENSE].tables["scores"])
    if INVARIANCE in results and "changes" in results[INVARIANCE]:
        frame = results[INVARIANCE]["changes"]
        for row in frame[frame.main & frame["last"]].to_dict("records"):
            yield from _list_invariance(row)


def _list_dense(table: Table) -> Iterator[tuple[str, str, Any, str]]:
    """How well images are segmented from the last block of each model, by a linear probe where one
    was trained, else by k-NN."""
    frame = table.frame[table.frame["size"] == "all"]
    frame = frame[~frame.tap.str.contains(PLUS, regex=False)]
    for name, own in frame.groupby("model", sort=False):
        reading = max(READINGS, key=lambda one: (one in set(own.reading), READINGS.index(one)))
        read = own[own.reading == reading]
        last = read.loc[read.depth.idxmax()]
        for column in ("tap", "reading", "miou", "low", "high", "images"):
            yield (
                str(name),
                f"{DENSE.replace('-', '_')}_{column}",
                last[column],
                table.units[column],
            )


def _list_invariance(row: Mapping[Any, Any]) -> Iterator[tuple[str, str, Any, str]]:
    """The invariance of the last layer of a model to a transform, and over how many images."""
    label, name = label_transform(str(row["transform"]), float(row["strength"])), str(row["model"])
    column = f"{INVARIANCE}_{label.replace(' ', '_')}"
    value = f"invariance of the last layer to {label}, with the usual pooling: 1 is blind to it"
    yield name, column, row["invariance"], value
    low = "lower end of its 95 % interval over `invariance_images`"
    yield name, f"{column}_low", row["invariance_low"], low
    yield name, f"{column}_high", row["invariance_high"], "upper end"
    yield name, f"{INVARIANCE}_images", row["images"], "images that were changed"
