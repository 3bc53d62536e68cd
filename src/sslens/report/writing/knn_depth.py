"""Sentences about the analysis knn-depth."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.probing import read_accuracy, read_gain
from sslens.comparisons.readings import READINGS
from sslens.report.writing.numbers import spell_points, spell_share
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: what a gain over the best control decides, by its sign
VERDICTS = {
    1: "",
    0: ", which is not clearly better",
    -1: ", which is worse",
    None: ", which so few images cannot decide",
}


def sentences(results: Results) -> tuple[str, ...]:
    """Write the best block and pooling of each model, and their gain over the best control."""
    frame = results["accuracies"]
    frame = frame[frame.vote == "weighted"]
    controls = frame[frame.control].sort_values("accuracy", kind="stable").to_dict("records")
    control = controls[-1] if controls else None
    return tuple(
        _write_model(str(name), rows, control)
        for name, rows in frame[~frame.control].groupby("model", sort=False)
    )


def _write_model(name: str, rows: pd.DataFrame, control: Mapping[str, Any] | None) -> str:
    """The best block and pooling of one model.

    Args:
        name: of the model.
        rows: its rows, a tap and pooling each.
        control: the best row of any control; None without one.
    """
    ordered = rows.sort_values("accuracy", ascending=False, kind="stable")
    best: Mapping[str, Any] = ordered.iloc[0].to_dict()
    where = f"at {best['tap']}"
    if best["pooling"] != "flat":
        where += f" with the {READINGS[best['pooling']]}"
    accuracy = spell_share(read_accuracy(best))
    sentence = f"{name} separates the classes best {where}: {best['k']}-NN {accuracy}"
    if control is None:
        return f"{sentence}; there is no control beside it."
    gain = read_gain(best)
    return (
        f"{sentence}, {spell_points(gain)} against the best control, {control['model']}"
        f" ({spell_share(Estimate(control['accuracy']))}){VERDICTS[gain.sign]}."
    )
