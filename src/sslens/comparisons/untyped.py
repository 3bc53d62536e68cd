"""Roles and families of models from `Inputs`, for analyses that are not given `Models` yet.

This module goes with the last analysis that takes `Inputs`; new code uses `roles`, `families`,
`tuned` and `pairs`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.comparisons import families, roles, tuned
from sslens.comparisons.inputs import Inputs, ModelInfo, Models
from sslens.comparisons.roles import is_cnn as is_cnn
from sslens.comparisons.roles import is_tuned as is_tuned
from sslens.comparisons.roles import list_names as listed
from sslens.comparisons.tuned import differ_in_recipe as unlike
from sslens.comparisons.tuned import is_control as is_control
from sslens.models.about import About
from sslens.statistics import estimate

__all__ = ["is_cnn", "is_control", "is_tuned", "listed", "unlike"]

FEWEST = estimate.FEWEST["minibatches"]


def _models(inputs: Inputs) -> Models:
    names = [*inputs.models, *inputs.controls]
    return Models(
        tuple(
            ModelInfo(name, name in inputs.controls, inputs.about.get(name, About()))
            for name in names
        )
    )


def models(about: Mapping[str, About], controls: Sequence[str]) -> list[str]:
    """The models under study."""
    return [name for name in about if name not in controls]


def tokens(inputs: Inputs) -> list[str]:
    """`roles.list_tokens`."""
    return roles.list_tokens(_models(inputs), inputs.grams)


def twins(inputs: Inputs, a: str, b: str) -> tuple[str, str] | None:
    """`roles.find_twins`."""
    return roles.find_twins(_models(inputs), a, b)


def both(inputs: Inputs) -> tuple[list[str], list[str]]:
    """`families.list_families`."""
    return families.list_families(_models(inputs))


def members(inputs: Inputs) -> str:
    """`families.describe_members`."""
    return families.describe_members(_models(inputs))


def matched(about: Mapping[str, About], names: Sequence[str]) -> dict[str, str]:
    """`tuned.match_origins`."""
    infos = [ModelInfo(name, False, about[name], about[name].more.get("digest")) for name in names]
    return tuned.match_origins(Models(tuple(infos)))


def spelt_difference(row: Any) -> str:
    """A difference with its interval, as `report.writing.numbers` spells it."""
    import math

    numbers = [
        row.difference,
        *(() if pd.isna(row.difference_low) else (row.difference_low, row.difference_high)),
    ]
    sizes = [abs(number) for number in numbers]
    telling = min(sizes) if min(numbers) > 0 or max(numbers) < 0 else max(sizes)
    digits = min(max(2, -math.floor(math.log10(telling))), 6) if telling > 0 else 2
    value, *ends = (f"{number:+.{digits}f}" for number in numbers)
    return f"{value} [{', '.join(ends)}]" if ends else value
