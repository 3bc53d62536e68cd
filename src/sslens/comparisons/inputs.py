"""The inputs of analyses: the models of a study, and the Grams, features and labels they need.

An analysis is a function `compute(models, *, NEED, …, seed)`. Each keyword argument except the seed
is a need: it is named after a file of `study/needs/`, which computes the argument from the models
and the images. An analysis receives the needs that it names, and nothing else.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import final

import numpy as np
import pandas as pd

from sslens.capture import Features, Grams, Maps
from sslens.errors import InputError, nearest
from sslens.models.about import About
from sslens.paths.runs import TrainingState
from sslens.statistics.proportions import find_chance
from sslens.table import Table


@final
@dataclass(frozen=True)
class ModelInfo:
    """A model or a control of a study.

    Attributes:
        name: the model's name in tables and figures.
        control: whether the model is a control: a random initialisation or raw pixels.
        about: the model's family, objective, architecture and training, as far as known.
        digest: SHA-256 of the model's weights; None if it is not known.
        grouped: whether the study names groups of models, which then decide the family: "JE" in the
            first group, "REC" in the second, and None of a model in neither.
        state: the training that the model is a state of; None where that is not known.
        copy_of: the first model of the study that computes the same, or almost (`copies`); None
            where there is no such model.
    """

    name: str
    control: bool = False
    about: About = field(default_factory=About)
    digest: str | None = None
    grouped: bool = False
    state: TrainingState | None = None
    copy_of: str | None = None


@final
@dataclass(frozen=True)
class Models:
    """The models of a study in the order given, then the controls.

    >>> models = Models((ModelInfo("mae", about=About("REC")), ModelInfo("pixels", control=True)))
    >>> models.studied, models.controls, models.about("mae").family
    (('mae',), ('pixels',), 'REC')
    """

    members: tuple[ModelInfo, ...]

    def __iter__(self) -> Iterator[ModelInfo]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, name: str) -> ModelInfo:
        """A model by its name.

        Raises:
            InputError: there is none of that name; the nearest is offered.
        """
        for member in self.members:
            if member.name == name:
                return member
        raise InputError(f'There is no model "{name}": {nearest(name, self.names)}')

    def about(self, name: str) -> About:
        """Return the family, objective, architecture and training of a model, as far as known."""
        return self[name].about

    def are_one_training(self, a: str, b: str) -> bool:
        """Whether two models are of one training, as far as is known: of equal weights, states of
        one training, or copies that compute almost the same."""
        return self._trainings[a] == self._trainings[b]

    @functools.cached_property
    def _trainings(self) -> dict[str, int]:
        """The number of each model's training."""
        marks: list[tuple[set[object], list[str]]] = []
        for one in self.members:
            state = None if one.state is None else one.state.training
            own = {("copy", one.copy_of or one.name), ("weights", one.digest), ("state", state)}
            own -= {("weights", None), ("state", None)}
            same = [entry for entry in marks if entry[0] & own]
            merged = own.union(*(entry[0] for entry in same))
            names = [name for entry in same for name in entry[1]]
            marks = [entry for entry in marks if entry not in same]
            marks.append((merged, [*names, one.name]))
        return {name: number for number, (_, names) in enumerate(marks) for name in names}

    def is_control(self, name: str) -> bool:
        """Whether the model of this name is a control."""
        return self[name].control

    @property
    def grouped(self) -> bool:
        """Whether groups that the study names decide the families."""
        return any(member.grouped for member in self.members)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models under study, then of all controls."""
        return tuple(member.name for member in self.members)

    @property
    def studied(self) -> tuple[str, ...]:
        """Names of the models under study."""
        return tuple(member.name for member in self.members if not member.control)

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls."""
        return tuple(member.name for member in self.members if member.control)


#: Grams by tokens ("all", "cls", "patch"), then by model; a model without such tokens is absent
GramSets = Mapping[str, Mapping[str, Grams]]
#: Grams of a few taps over minibatches of up to 1,024 images, by model
WideGrams = Mapping[str, Grams]
#: tables of the path of the weights during fine-tuning, by model; other models are absent
Paths = Mapping[str, Table]


@final
@dataclass(frozen=True)
class FeatureSets:
    """The pooled features of all models.

    Attributes:
        images: features of the images under study, by the model's name.
        bank: features of other images, which vote in k-NN and train probes, by the model's name.
            Without a bank it is empty: then images under study vote, and train probes, for the
            other images under study.
    """

    images: Mapping[str, Features]
    bank: Mapping[str, Features] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class MapSets:
    """The maps of all models that have them.

    Attributes:
        images: maps of the images under study, by the model's name.
        bank: maps of other images, which vote in k-NN and train probes, by the model's name; empty
            without a bank.
    """

    images: Mapping[str, Maps]
    bank: Mapping[str, Maps] = field(default_factory=dict)


#: columns of a table of accuracies, which say of how many classes these are
CLASSES = {
    "classes": "classes of the images that are classified",
    "classes_of": "classes that there were, of which these were drawn or had images enough",
}


@final
@dataclass(frozen=True)
class Labels:
    """The class of each image, as an index into `classes`.

    The images under study and the images of the bank may use the same ids for different images.

    Attributes:
        images: class of each image under study, by the image's id.
        bank: class of each image of the bank, by the image's id.
        classes: names of the classes.
        drawn_from: the number of classes of which those of the images were drawn; None where all
            are taken.
    """

    images: Mapping[str, int]
    bank: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    drawn_from: int | None = None

    @property
    def chance(self) -> float:
        """The share of the most frequent class among all labelled images under study, which is the
        accuracy of who always says this class; nan without images.

        >>> Labels({"a": 0, "b": 0, "c": 1, "d": 0}).chance
        0.75
        """
        return find_chance(np.array([*self.images.values()], np.int64))

    def count_classes(self, labels: "np.ndarray") -> dict[str, int]:
        """Count the classes among the labels of some images, and those that there were, as the
        columns `CLASSES` of a row."""
        every = len(set(self.images.values())) if self.drawn_from is None else self.drawn_from
        return {"classes": len(np.unique(labels)), "classes_of": every}


@final
@dataclass(frozen=True)
class KnownClasses:
    """The class of each image where images have classes; `labels` is None where they have none."""

    labels: Labels | None


@final
@dataclass(frozen=True)
class ProbeSettings:
    """How probes are trained.

    Attributes:
        grid: "converged", or the grid of trainings that are tried, "small" or "paper" (216 points).
        device: the device that trains the probes, such as "cpu" or "cuda".
        quiet: True hides the line of progress.
    """

    grid: str = "converged"
    device: str = "cpu"
    quiet: bool = True


@final
@dataclass(frozen=True)
class Factors:
    """The known factors of generated images: one column per factor, indexed by image id.

    Attributes:
        images: factors of the images under study.
        bank: factors of the bank; None without a bank.
    """

    images: pd.DataFrame
    bank: pd.DataFrame | None = None


def needs(analysis: ModuleType) -> tuple[str, ...]:
    """List the needs of an analysis: the keyword-only parameters of its `compute` except `seed`.

    >>> analysis = ModuleType("agreement")
    >>> exec("def compute(models, *, features, labels, seed=0): ...", analysis.__dict__)
    >>> needs(analysis)
    ('features', 'labels')
    """
    parameters = inspect.signature(analysis.compute).parameters.values()
    keywords = [entry.name for entry in parameters if entry.kind is entry.KEYWORD_ONLY]
    return tuple(name for name in keywords if name != "seed")
