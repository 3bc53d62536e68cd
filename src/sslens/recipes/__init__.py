"""Recipes: the papers' tables and the authors' code as presets of an objective; one file is one
objective.

A recipe is a frozen dataclass in `recipes/OBJECTIVE.py` with epochs, minibatch and settings; its
docstring names its source and how it differs from the others. Its name is made from the class'
name: `class TwoCrops` of `recipes/dino.py` is `two-crops`. The recipes of fine-tuning are in
`recipes/finetune.py`. Every objective has the recipe `official`, which is what the released code
does by default; its settings are the objective's own defaults.

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
    """The epochs, minibatch and settings with which an objective is trained."""

    @property
    def epochs(self) -> int:
        """The number of passes over the images; over ImageNet-1k unless the recipe's docstring says
        otherwise."""
        ...

    @property
    def batch_size(self) -> int:
        """The number of images in a step."""
        ...

    @property
    def settings(self) -> Any:
        """The settings, an object of the objective's class `Settings`."""
        ...


def recipes(objective: str) -> dict[str, Recipe]:
    """Return the recipes of an objective by name, in the order of its file.

    Raises:
        InputError: there is no such objective.

    >>> list(recipes("dino"))
    ['official', 'two-crops', 'paper', 'resnet50']
    """
    module = plugin("recipes", objective)
    kinds = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
    ]
    return {re.sub(r"(?<!^)(?=[A-Z])|_", "-", kind.__name__).lower(): kind() for kind in kinds}


def meant_for(objective: str, kind: str) -> str:
    """Return the name of the default recipe for a kind of network: the first whose name begins with
    the kind, else `official`.

    >>> meant_for("moco-v3", "resnet"), meant_for("moco-v3", "vit")
    ('resnet50-e100', 'official')
    """
    return next((name for name in recipes(objective) if name.startswith(kind)), "official")


def recipe(objective: str, name: str) -> Recipe:
    """Return one recipe of an objective.

    Raises:
        InputError: the objective has no recipe of that name; the message offers the nearest names.

    >>> recipe("mae", "official").epochs
    800
    >>> recipe("mae", "offical")
    Traceback (most recent call last):
    sslens.errors.InputError: mae has no recipe "offical": did you mean official?
    """
    known = recipes(objective)
    if name not in known:
        raise InputError(f'{objective} has no recipe "{name}": {nearest(name, known)}')
    return known[name]


def trial_settings(objective: str, kind: str) -> Any:
    """Return an objective's settings for a trial of seconds on a few small images.

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
