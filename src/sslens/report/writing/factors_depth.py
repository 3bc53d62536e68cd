"""Sentences about the analysis factors-depth."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.readings import name_pooling_in
from sslens.counts import spell_count
from sslens.report.writing.numbers import spell
from sslens.statistics.estimate import SMALLEST, Estimate, subtract_unpaired
from sslens.table import Results

#: factors that are named of a model
NAMED = 3
#: rows by factor
ByFactor = Mapping[str, Mapping[str, Any]]


def sentences(results: Results) -> tuple[str, ...]:
    """Write which factors the last layer decodes best in each model, of those that it decodes
    better than the controls, and which factors an earlier block decodes better, by at least 0.02,
    than the last layer; the best control's numbers once.
    Last come the factors that do not vary, and are not decoded."""
    frame = results["factors"]
    constant = results.tables["factors"].provenance.get("constant", ())
    frame = frame[frame.main]
    models = list(frame[~frame.control].groupby("model", sort=False))
    if not models:
        return ()
    controls = _index_by_factor(frame[frame.control].sort_values("decoded", kind="stable"))
    ends = [_write_end(str(name), rows, controls) for name, rows in models]
    lost = [text for name, rows in models if (text := _write_lost(str(name), rows))]
    if controls:
        factors = sorted(controls, key=lambda factor: -controls[factor]["decoded"])[:NAMED]
        best = ", ".join(
            f"{factor} {spell(Estimate(controls[factor]['decoded']))} ({controls[factor]['model']})"
            for factor in factors
        )
        ends.append(f"of the controls, any block, {best}")
    if not lost:
        ends.append("no earlier block tells clearly more")
    beyond = ", beyond the controls" if controls else ""
    written = f"The last layer tells best of the scene{beyond}: {'; '.join(ends)}."
    told = [written]
    if lost:
        told.append(f"An earlier block tells more than the last layer: {'; '.join(lost)}.")
    if constant:
        vary = "it does not vary" if len(constant) == 1 else "they do not vary"
        told.append(
            f"Not decoded, because {vary} among the training or the test images:"
            f" {', '.join(constant)}."
        )
    return tuple(told)


def _write_end(name: str, rows: pd.DataFrame, controls: ByFactor) -> str:
    """Write which factors the last layer of one model decodes best, of those that no control
    decodes as well."""
    last = _index_by_factor(rows[rows["last"]])
    beyond = [
        factor
        for factor in last
        if factor not in controls
        or subtract_unpaired(_read(last[factor]), _read(controls[factor])).find_side() == "more"
    ]
    top = sorted(beyond, key=lambda factor: -last[factor]["decoded"])[:NAMED]
    told = ", ".join(f"{factor} {spell(_read(last[factor]))}" for factor in top) or "nothing"
    return f"{name} ({name_pooling_in(rows, str(rows.pooling.iloc[0]))}) {told}"


def _write_lost(name: str, rows: pd.DataFrame) -> str:
    """Write which factors an earlier block of one model decodes better than its last layer; empty
    if there are none."""
    last, best = _index_by_factor(rows[rows["last"]]), _find_best_by_factor(rows)
    losses = {
        factor: subtract_unpaired(_read(best[factor]), _read(last[factor])) for factor in best
    }
    lost = [one for one in losses if losses[one].find_side(SMALLEST["r2"]) == "more"]
    if not lost:
        return ""
    lost.sort(key=lambda factor: -losses[factor].value)
    told = ", ".join(
        f"{factor} {spell(_read(best[factor]))} at {best[factor]['tap']} against"
        f" {spell(_read(last[factor]))}"
        for factor in lost[:NAMED]
    )
    more = f" and {spell_count(len(lost) - NAMED, 'more factor')}" if len(lost) > NAMED else ""
    return f"{name} {told}{more}"


def _index_by_factor(rows: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """Index the rows by factor; if a factor has several rows, the last one is taken."""
    return {row["factor"]: row for row in rows.to_dict("records")}


def _find_best_by_factor(rows: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """Select for each factor the row in which it is decoded best; the first one if several tie."""
    return _index_by_factor(rows.loc[rows.groupby("factor", sort=False).decoded.idxmax()])


def _read(row: Mapping[str, Any]) -> Estimate:
    """Read how much of a factor is decoded, with its interval."""
    return Estimate.from_row(row, "decoded", "images", "images")
