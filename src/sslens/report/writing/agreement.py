"""Whether models are right and wrong alike, in sentences."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.readings import name_pooling
from sslens.comparisons.roles import JE, REC
from sslens.probes.agreement import SUBSETS, Asked
from sslens.report.writing.numbers import (
    compare,
    spell,
    spell_count,
    spell_effect,
    spell_share,
)
from sslens.statistics.estimate import SMALLEST, Estimate
from sslens.table import Results

#: pairs of models that are spoken of, those that agree most
MOST = 3
#: what is said of numbers on each side of their counterparts
SIDES = {
    "more": "more alike are",
    "less": "less alike are",
    "the same": f"the same within {SMALLEST['tau']:g} are",
    "undecided": "not decided are",
    "too few": "of too few images to decide are",
}
#: rows by what was asked
Rows = Mapping[Asked, Mapping[str, Any]]


def sentences(results: Results) -> tuple[str, ...]:
    """Write claim C6 for each pooling; without two families, write how far the pairs of models that
    agree most agree."""
    if "families" in results:
        by_pooling = results["families"].groupby("pooling", sort=False)
        return tuple(_write_families(rows, str(pooling)) for pooling, rows in by_pooling)
    frame = results["pairs"]
    frame = frame[(frame.pooling == frame.pooling.iloc[0]) & ~frame.control]
    pairs = [
        _index_by_number(rows) for _, rows in frame.groupby(["model_a", "model_b"], sort=False)
    ]
    pairs.sort(key=lambda rows: -rows[Asked("same", 0, "all")]["value"])
    return tuple(_write_pair(rows) for rows in pairs[:MOST])


def _name_reading(pooling: str) -> str:
    """Name what the probes read; the mean is read only where no model has anything else."""
    return name_pooling(pooling, places=True)


def _write_unsettled(row: Mapping[str, Any], what: str) -> str:
    """Write why nothing is concluded from a number."""
    return f"Of {what} nothing is said, because a probe is not at its optimum: {row['why']}."


def _index_by_number(rows: pd.DataFrame) -> Rows:
    """Index the rows of one pair by measure, k and group of images."""
    return {Asked(row["measure"], row["k"], row["images"]): row for row in rows.to_dict("records")}


def _find_smallest_top(rows: Rows) -> int:
    """Find the smallest k for which there is a tau over the top k."""
    return int(min(asked.k for asked in rows if asked.measure == "tau"))


def _read(row: Mapping[str, Any]) -> Estimate:
    """Read the value of a row with its interval."""
    return Estimate.from_row(row, "value", "images", "count", ends=("low", "high"))


def _read_difference(row: Mapping[str, Any]) -> Estimate:
    """Read the difference of a row: its value less the value that `less` names."""
    return Estimate.from_row(row, "difference", "images", "count")


def _write_families(families: pd.DataFrame, pooling: str) -> str:
    """Write for each number whether JE models agree more with each other than with REC models."""
    if families.why.iloc[0]:
        what = f"{JE} and {REC} by the {_name_reading(pooling)}"
        return _write_unsettled(families.iloc[0].to_dict(), what)
    rows = _index_by_number(families[families.model_b == JE])
    k = _find_smallest_top(rows)
    asked = {
        f"tau over the top {k}, {images} images": Asked("tau", k, images) for images in SUBSETS
    }
    asked["F1 of the first choice"] = Asked("f1", 0, "all")
    asked["F1 of being right"] = Asked("f1 right", 0, "all")
    asked["error consistency"] = Asked("kappa", 0, "all")
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for name, which in asked.items():
        difference = _read_difference(rows[which]) if which in rows else Estimate(float("nan"))
        if difference.defined:
            value = rows[which]["value"]
            number = f"{name} {spell(Estimate(value))}{_explain_negative(which, value)}"
            side = difference.find_side(SMALLEST["tau"])
            sides[side].append(f"{number} ({spell_effect(difference, 'tau')})")
    groups = [f"{SIDES[side]}: {', '.join(numbers)}" for side, numbers in sides.items() if numbers]
    return (
        f"{JE} models with each other, against {JE} with {REC}"
        f" ({families.members.iloc[0]}; probes of the {_name_reading(pooling)});"
        f" {'; '.join(groups)}."
    )


def _explain_negative(asked: Asked, value: float) -> str:
    """Write why a tau is below 0, as a clause; empty where it is not below 0."""
    negative = asked.measure == "tau" and value < 0
    return ", below 0 because the two tops hardly overlap" if negative else ""


def _name_folds(row: Mapping[str, Any]) -> str:
    """Say of which probes the shares of right images are, where these are not the probes of the
    sections on probes, which without a bank are tested on half of the images."""
    if not row["folds"]:
        return ""
    count = spell_count(int(row["count"]))
    return f" of all {count}, each image by one of {row['folds']} probes trained on others"


def _write_pair(rows: Rows) -> str:
    """Write how far two models agree, beside the agreement of two random initialisations."""
    k = _find_smallest_top(rows)
    tau, f1, f1_right, same, kappa = (
        rows[Asked(measure, top, "all")]
        for measure, top in (("tau", k), ("f1", 0), ("f1 right", 0), ("same", 0), ("kappa", 0))
    )
    if same["why"]:
        return _write_unsettled(same, f"{same['model_a']} and {same['model_b']}")
    value, *accuracies = (
        spell_share(Estimate(same[column])) for column in ("value", "accuracy_a", "accuracy_b")
    )
    sentence = (
        f"{same['model_a']} and {same['model_b']} predict the same class of {value} of the images"
        f" (F1 {spell(Estimate(f1['value']))}, of being right"
        f" {spell(Estimate(f1_right['value']))}; right {' and '.join(accuracies)}"
        f"{_name_folds(same)})"
    )
    if _read(kappa).defined:
        sentence += f", with error consistency {spell(_read(kappa))}"
    if _read(tau).defined:
        sentence += f" and tau over the top {k} {spell(_read(tau))}"
        chance = Estimate(tau["chance"])
        sentence += f" (by chance {spell(chance)})" if chance.defined else ""
        sentence += _explain_negative(Asked("tau", k, "all"), tau["value"])
    difference = _read_difference(kappa)
    if difference.defined:
        other = "that of two random initialisations"
        sentence += f"; error consistency is {compare(difference, other, 'tau')}"
    return sentence + "."
