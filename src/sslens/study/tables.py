"""The results of an analysis: from the store where they are up to date with the code, or
computed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, final

from sslens.find import plugin
from sslens.store import Store, digest
from sslens.study.contract import load_need, needs_of
from sslens.study.freshness import list_versions, source_digest

if TYPE_CHECKING:
    from sslens.comparisons.inputs import ModelInfo, Models
    from sslens.study.planning import StudyPlan
    from sslens.table import Results


def find_models(plan: "StudyPlan", values: Mapping[str, Any]) -> "Models":
    """Return what analyses are told about the models of a study, with those marked that compute the
    same as another (`comparisons.copies`).

    Args:
        plan: the plan of the study.
        values: the value of each need, by the need's name.
    """
    from sslens.comparisons.copies import mark_copies
    from sslens.comparisons.tuned import is_control

    trained = [one.name for one in plan.members if not is_control(one.about)]
    networks = {one.name: one.model.network for one in plan.members if one.model is not None}
    return mark_copies(plan.situation.models, trained, values, networks)


def compute_results(
    analysis: str, models: "Models", values: Mapping[str, Any], seed: int, store: Store
) -> "Results":
    """Return the results of an analysis: found in the store by everything that decides them, or
    computed.

    Args:
        analysis: the name of the analysis.
        models: the models of the study and their controls.
        values: the value of each need, by the need's name.
        seed: the study's seed.
        store: where results are looked up and kept.
    """
    from sslens.table import Results

    key = ResultsKey.of(analysis, models, values, seed, store)
    stored = store.read_json("tables", key.to_json())
    if stored is not None:
        return Results.from_json(stored)
    results = _compute(analysis, plugin("analyses", analysis), models, values, seed)
    provenance = {"analysis": analysis, "key": digest(key.to_json())}
    results = Results(
        {name: replace(table, provenance=provenance) for name, table in results.tables.items()}
    )
    store.write_json("tables", key.to_json(), results.to_json())
    return results


@final
@dataclass(frozen=True)
class ResultsKey:
    """Everything that decides the results of an analysis.

    Attributes:
        analysis: the name of the analysis.
        sources: the digest of the code that its computation reaches.
        versions: the versions of the libraries that compute.
        models: of each model the name, whether it is a control, the digest, and what is known of
            it.
        seed: the study's seed.
        needs: by need, the part of its value that decides the numbers.
    """

    analysis: str
    sources: str
    versions: Mapping[str, str]
    models: tuple[tuple[str, bool, str | None, Mapping[str, Any]], ...]
    seed: int
    needs: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        analysis: str,
        models: "Models",
        values: Mapping[str, Any],
        seed: int,
        store: Store | None = None,
    ) -> "ResultsKey":
        """Return the key of an analysis for these models and these values of its needs."""
        module = f"analyses.{analysis.replace('-', '_')}"
        needs = {need: load_need(need, analysis).key(values[need]) for need in needs_of(analysis)}
        return cls(
            analysis,
            source_digest(module, entry="compute", store=store),
            list_versions(),
            tuple((one.name, one.control, one.digest, _describe(one, models)) for one in models),
            seed,
            needs,
        )

    def to_json(self) -> Mapping[str, Any]:
        """Return the key as plain JSON values."""
        return vars(self)


def _describe(one: "ModelInfo", models: "Models") -> dict[str, object]:
    """What is known of a model, whether groups decide its family, and with which models it is one
    training."""
    known: dict[str, object] = one.about.to_json() | ({"grouped": True} if one.grouped else {})
    alike = [other.name for other in models if models.are_one_training(one.name, other.name)]
    if len(alike) > 1:
        place = None if one.state is None else str(one.state.place)
        known["training"] = [alike[0], one.copy_of, place]
    return known


def _compute(
    analysis: str, module: ModuleType, models: "Models", values: Mapping[str, Any], seed: int
) -> "Results":
    results: Results = module.compute(
        models, **{need: values[need] for need in needs_of(analysis)}, seed=seed
    )
    return results
