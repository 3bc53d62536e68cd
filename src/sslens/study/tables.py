"""The tables of an analysis: from the store where they are as fresh as the code, or computed."""

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sslens.find import plugin
from sslens.store import Store, digest
from sslens.study.contract import is_old, load_need, needs_of
from sslens.study.freshness import source_digest, versions

if TYPE_CHECKING:
    from sslens.comparisons.inputs import Inputs, Models
    from sslens.models.about import About
    from sslens.table import Results


def compute_results(
    analysis: str, models: "Models", values: Mapping[str, Any], seed: int, store: Store
) -> "Results":
    """The results of an analysis, found in the store by all that decides them, or computed.

    Args:
        analysis: its name.
        models: the models of the study and their controls.
        values: the value of each need, by the need's name.
        seed: of the study.
        store: where results are looked up and kept.
    """
    from sslens.table import Results

    key = results_key(analysis, models, values, seed, store)
    kept = store.read_json("tables", key)
    if kept is not None:
        return Results.from_json(kept)
    results = _compute(analysis, plugin("analyses", analysis), models, values, seed)
    provenance = {"analysis": analysis, "key": digest(key)}
    results = Results(
        {name: replace(table, provenance=provenance) for name, table in results.tables.items()}
    )
    store.write_json("tables", key, results.to_json())
    return results


def results_key(
    analysis: str,
    models: "Models",
    values: Mapping[str, Any],
    seed: int,
    store: Store | None = None,
) -> dict[str, Any]:
    """Everything that decides the results of an analysis: code, libraries, models and needs."""
    module = f"analyses.{analysis.replace('-', '_')}"
    return {
        "analysis": analysis,
        "sources": source_digest(module, entry="compute", store=store),
        "versions": versions(),
        "models": [
            [model.name, model.control, model.digest, model.about.to_json()] for model in models
        ],
        "seed": seed,
        "needs": {need: load_need(need, analysis).key(values[need]) for need in needs_of(analysis)},
    }


def _compute(
    analysis: str, module: ModuleType, models: "Models", values: Mapping[str, Any], seed: int
) -> "Results":
    from sslens.table import Results

    if is_old(module):
        return Results({analysis: module.compute(as_inputs(models, values, seed))})
    results: Results = module.compute(
        models, **{need: values[need] for need in needs_of(analysis)}, seed=seed
    )
    return results


def about_by_name(models: "Models") -> dict[str, "About"]:
    """What is known of each model, as an analysis takes it that still takes `Inputs`."""
    return {
        model.name: replace(model.about, more={**model.about.more, "digest": model.digest})
        for model in models
    }


def as_inputs(models: "Models", values: Mapping[str, Any], seed: int) -> "Inputs":
    """The values of needs as an analysis takes them that still takes `Inputs`."""
    from sslens.comparisons.inputs import (
        Factors,
        FeatureSets,
        Inputs,
        Labels,
        ProbeSettings,
    )

    features: FeatureSets = values.get("features", FeatureSets({}))
    labels: Labels = values.get("labels", Labels({}))
    factors: Factors | None = values.get("factors")
    probes: ProbeSettings = values.get("probes", ProbeSettings())
    return Inputs(
        models=models.studied,
        controls=models.controls,
        about=about_by_name(models),
        grams=values.get("grams", {}),
        wide=values.get("wide", {}),
        features=features.images,
        bank=features.bank,
        labels=labels.images,
        bank_labels=labels.bank,
        classes=labels.classes,
        seed=seed,
        factors=None if factors is None else factors.images,
        bank_factors=None if factors is None else factors.bank,
        paths=values.get("paths", {}),
        grid=probes.grid,
        device=probes.device,
        quiet=probes.quiet,
    )
