"""Sentences about the analysis probe-depth."""

from collections.abc import Iterator

from sslens.analyses.probe_depth import LAYERS
from sslens.comparisons.probing import read_accuracy, read_gain
from sslens.comparisons.readings import USUAL, name_pooling_in
from sslens.report.writing.numbers import spell_share
from sslens.report.writing.probing import (
    name_best_control,
    spell_gain,
    write_families,
    write_unsettled,
)
from sslens.table import Results

#: layers of the deepest probe, of which the gain over the linear one is claim C7
DEEP = LAYERS[-1]


def sentences(results: Results) -> tuple[str, ...]:
    """Write claim C7 for each pooling if models have families; else write how much accuracy each
    model gains by deeper probes, and the controls' gain beside it."""
    return tuple(_write_claims(results)) or tuple(_write_models(results))


def _write_claims(results: Results) -> Iterator[str]:
    """Write the gain of each family by three layers, one sentence per pooling."""
    if "families" not in results:
        return
    families = results["families"]
    for main, rows in families[families.layers == DEEP].groupby("main", sort=False):
        where = f"last {USUAL}" if main else "mean of patch tokens"
        yield write_families(rows, f"Three layers instead of one on the {where} gain")


def _write_models(results: Results) -> Iterator[str]:
    """Write the gain of each model by three layers, one sentence per model."""
    probes = results["probes"]
    probes = probes[probes.main]
    beside = name_best_control(probes[probes.layers == DEEP])
    for name, rows in probes[~probes.control].groupby("model", sort=False):
        by_layers = {row["layers"]: row for row in rows.to_dict("records")}
        linear, deep = by_layers[1], by_layers[DEEP]
        yield write_unsettled(str(name), (linear, deep)) or (
            f"{name}: a linear probe of the last {name_pooling_in(rows, linear['pooling'])} has"
            f" {spell_share(read_accuracy(linear))}, one of three layers"
            f" {spell_share(read_accuracy(deep))}: {spell_gain(read_gain(deep))}{beside}."
        )
