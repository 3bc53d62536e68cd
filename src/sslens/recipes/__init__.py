"""Recipes: the papers' tables and the authors' code as presets of an objective; one file is one
objective.

A recipe is a frozen dataclass in `recipes/OBJECTIVE.py` with epochs, minibatch and settings; its
docstring names its source and how it differs from the others. Its name is the class's: `class
TwoCrops` of `recipes/dino.py` is `two-crops`. Those of fine-tuning are in `recipes/finetune.py`.
Every objective has `official`, what its released code does by default; the settings of `official`
are the objective's own defaults.

Where the published numbers are too large for a trial of seconds on a few small images, a file has
`TRIAL`: for each kind of network the settings that a trial takes instead. Without it a trial takes
`NARROW` for every width over it, and the learning rate and warm-up of `trial_settings`.
"""

import re
from dataclasses import asdict, replace
from typing import Any, Protocol, runtime_checkable

from sslens.errors import InputError, nearest
from sslens.find import plugin

#: width of heads, and number of whatever else a setting counts by hundreds, in a trial
NARROW = 32


@runtime_checkable
class Recipe(Protocol):
    """What a training of an objective is given."""

    @property
    def epochs(self) -> int:
        """Passes over the images, of ImageNet-1k unless its docstring says otherwise."""
        ...

    @property
    def batch_size(self) -> int:
        """Images of a step."""
        ...

    @property
    def settings(self) -> Any:
        """The objective's `Settings`."""
        ...


def recipes(objective: str) -> dict[str, Recipe]:
    """The recipes of an objective by name, in the order of its file.

    >>> list(recipes("dino"))
    ['official', 'two-crops', 'paper', 'resnet50']

    Raises:
        InputError: there is no such objective.
    """
    module = plugin("recipes", objective)
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
    ]
    return {re.sub(r"(?<!^)(?=[A-Z])|_", "-", kind.__name__).lower(): kind() for kind in kinds}


def meant_for(objective: str, kind: str) -> str:
    """The recipe that is meant where none is given: the first whose name begins with the kind of
    network, else `official`.

    >>> meant_for("moco-v3", "resnet"), meant_for("moco-v3", "vit")
    ('resnet50-e100', 'official')
    """
    return next((name for name in recipes(objective) if name.startswith(kind)), "official")


def recipe(objective: str, name: str) -> Recipe:
    """One recipe of an objective.

    >>> recipe("mae", "official").epochs
    800
    >>> recipe("mae", "offical")
    Traceback (most recent call last):
    sslens.errors.InputError: mae has no recipe "offical": did you mean official?

    Raises:
        InputError: the objective has none of that name; the nearest names are offered.
    """
    known = recipes(objective)
    if name not in known:
        raise InputError(f'{objective} has no recipe "{name}": {nearest(name, known)}')
    return known[name]


def trial_settings(objective: str, kind: str) -> Any:
    """An objective's settings for a trial of seconds on a few small images.

    They are the settings of the recipe that is meant for the kind of network, changed as the
    recipe's file says; the tests of every objective take them.

    Args:
        kind: of the network, "vit", "resnet" or "convnextv2".

    >>> trial_settings("mae", "vit").decoder_dim
    32

    Raises:
        InputError: there is no such objective.
    """
    settings = recipe(objective, meant_for(objective, kind)).settings
    given = getattr(plugin("recipes", objective), "TRIAL", {})
    if kind in given:
        return replace(settings, **given[kind])
    wide = {
        name: NARROW
        for name, value in asdict(settings).items()
        if type(value) is int and value > 8 * NARROW
    }
    return replace(settings, **wide, base_lr=0.05, warmup=0.25)
