"""What tests give to analyses, and what analyses make of it."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from sslens.comparisons import predictions, probe_gaps, probe_training
from sslens.comparisons.inputs import ModelInfo, Models
from sslens.figure import Figure
from sslens.find import plugin
from sslens.models.about import About
from sslens.probes.linear.converging import train_converged
from sslens.probes.logistic import fit_logistic
from sslens.report import writing
from sslens.study.contract import needs_of
from sslens.table import Results

#: probes with few penalties: the others are tried only where the choice lies at an end
FEW = functools.partial(fit_logistic, penalties=(1.0, 0.1, 0.01))


@dataclass(frozen=True)
class Given:
    """Models, and the value of each need by its name."""

    models: Models
    values: Mapping[str, Any]

    def but(self, models: Models | None = None, **values: Any) -> "Given":
        """The same with other models or other values."""
        return replace(self, models=models or self.models, values={**self.values, **values})


def shorten_predictions(patch: pytest.MonkeyPatch) -> None:
    """Predict classes by probes of three folds and three penalties: probes have tests of their
    own, and weak penalties of a few images cost most."""
    patch.setattr(predictions, "FOLDS", 3)
    patch.setattr(predictions, "fit_logistic", FEW)


def shorten_probes(patch: pytest.MonkeyPatch) -> None:
    """Fit linear probes at three penalties and train deeper ones for few epochs."""
    patch.setattr(probe_gaps, "fit_logistic", FEW)
    patch.setattr(probe_training, "fit_logistic", FEW)
    brief = functools.partial(train_converged, cap=5, rounds=0)
    patch.setattr(probe_training, "train_converged", brief)


def make_models(
    names: Sequence[str], controls: Sequence[str], about: Mapping[str, Mapping[str, Any]]
) -> Models:
    """Models and controls of which is known what a file says, with a digest where it says one."""
    return Models(
        tuple(
            ModelInfo(
                name,
                name in controls,
                About.from_json({k: v for k, v in about[name].items() if k != "digest"}),
                about[name].get("digest"),
            )
            for name in (*names, *controls)
        )
    )


def compute(name: str, given: Given) -> Results:
    """The results of an analysis that is given the needs that it names, and nothing else."""
    module = plugin("analyses", name)
    values = {need: given.values[need] for need in needs_of(name)}
    results: Results = module.compute(given.models, **values)
    return results


def draw(name: str, results: Results) -> Figure:
    """The figure of an analysis."""
    module = plugin("analyses", name)
    figure: Figure = module.draw(results)
    return figure


def write(name: str, results: Results) -> tuple[str, ...]:
    """What the results of an analysis say."""
    return writing.sentences(name, results)


def excuse(name: str, models: Models) -> str | None:
    """Why an analysis has nothing to show of these models; None where it has."""
    return ask(name, "explain_absence", models)


def ask(name: str, question: str, models: Models) -> Any:
    """The answer of an analysis to `explain_absence` or `on_request`; None where it has no such
    function."""
    module = plugin("analyses", name)
    if not hasattr(module, question):
        return None
    return getattr(module, question)(models)
