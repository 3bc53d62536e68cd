"""What analyses are given: the models of a study, and what its needs gathered of them.

An analysis is a function `compute(models, *, seed, NEED=…)`: the names of its keyword arguments are
its needs (files of `study/needs/`), and it is given those and nothing else.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import final

import pandas as pd

from sslens.capture import Features, Grams
from sslens.errors import InputError, nearest
from sslens.models.about import About
from sslens.table import Table


@final
@dataclass(frozen=True)
class ModelInfo:
    """A model or a control of a study.

    Attributes:
        name: in tables and figures.
        control: whether it is a control: a random initialisation or raw pixels.
        about: what is known of it.
        digest: of its weights; None where it is not known.
    """

    name: str
    control: bool = False
    about: About = field(default_factory=About)
    digest: str | None = None


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
        """What is known of a model."""
        return self[name].about

    def is_control(self, name: str) -> bool:
        """Whether the model of this name is a control."""
        return self[name].control

    @property
    def names(self) -> tuple[str, ...]:
        """Of all, models first."""
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
#: how the weights of fine-tuned models went, by model, where it is known
Paths = Mapping[str, Table]


@final
@dataclass(frozen=True)
class FeatureSets:
    """Pooled features by model.

    Attributes:
        images: features of the images under study.
        bank: features of other images, which vote in k-NN and train probes; empty where each image
            is held against all others.
    """

    images: Mapping[str, Features]
    bank: Mapping[str, Features] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Labels:
    """The class of each image, by id; two sets of images may use the same ids.

    Attributes:
        images: number of the class of each image under study.
        bank: number of the class of each image of the bank.
        classes: names of the classes, in the order of their numbers.
    """

    images: Mapping[str, int]
    bank: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class ProbeSettings:
    """How probes are trained.

    Attributes:
        grid: of settings, "small" or "paper" (216 points).
        device: where they are trained.
        quiet: whether nothing is said of how far the training is.
    """

    grid: str = "small"
    device: str = "cpu"
    quiet: bool = True


@final
@dataclass(frozen=True)
class Factors:
    """What is known of each generated image: a column a factor, indexed by image id.

    Attributes:
        images: factors of the images under study.
        bank: factors of the bank; None without a bank.
    """

    images: pd.DataFrame
    bank: pd.DataFrame | None = None


def needs(analysis: ModuleType) -> tuple[str, ...]:
    """The needs of an analysis: the keyword-only parameters of its `compute`, but for the seed.

    >>> analysis = ModuleType("agreement")
    >>> exec("def compute(models, *, features, labels, seed=0): ...", analysis.__dict__)
    >>> needs(analysis)
    ('features', 'labels')
    """
    parameters = inspect.signature(analysis.compute).parameters.values()
    keywords = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    return tuple(name for name in keywords if name != "seed")
