"""What a study has computed for its models and their controls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sslens.capture import Artefact
from sslens.table import Table


@dataclass(frozen=True)
class Inputs:
    """What a study has computed for its models and their controls, by model name.

    Attributes:
        models: names of the models under study, in the order given.
        controls: names of the controls.
        about: what is known of each model and control: family, objective, arch, tuned, ….
        grams: by tokens ("all", "cls", "patch"), then by model; a model without such tokens is
            absent.
        wide: Grams of a few taps over minibatches of up to 1,024 images, by model.
        features: pooled features of the images.
        bank: pooled features of other images whose labels vote in k-NN; leave-one-out on `features`
            when empty.
        labels: class of each image of `features`, by id.
        bank_labels: class of each image of `bank`, by id; two sets may use the same ids.
        classes: their names.
        factors: what is known of each image of `features`, indexed by id; None where images are not
            generated.
        bank_factors: the same of `bank`.
        paths: how the weights of fine-tuned models went, of those of which it is known.
        grid: of probes, "small" or "paper".
        device: where probes are trained.
        quiet: whether nothing is said of how far that is.
    """

    models: tuple[str, ...]
    controls: tuple[str, ...]
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    grams: Mapping[str, Mapping[str, Artefact]] = field(default_factory=dict)
    wide: Mapping[str, Artefact] = field(default_factory=dict)
    features: Mapping[str, Artefact] = field(default_factory=dict)
    bank: Mapping[str, Artefact] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    bank_labels: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    seed: int = 0
    factors: pd.DataFrame | None = None
    bank_factors: pd.DataFrame | None = None
    paths: Mapping[str, Table] = field(default_factory=dict)
    grid: str = "small"
    device: str = "cpu"
    quiet: bool = True
