"""What the files of objectives, tasks and recipes declare, read from their text: running them would
import torch, and a misspelt name should cost nothing."""

import ast
import functools
import re
from collections.abc import Sequence
from pathlib import Path

import sslens
from sslens.errors import InputError, nearest, no_setting
from sslens.settings_file import split_overrides

#: the file of the settings of what is no objective
TASKS = {
    "finetune": "tasks/classification.py",
    "diffusion": "tasks/diffusion_settings.py",
    "detection": "tasks/detection_settings.py",
}


@functools.cache
def _list_classes(file: str) -> dict[str, ast.ClassDef]:
    text = (Path(sslens.__file__).parent / file).read_text(encoding="utf-8")
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}


def list_recipes(learner: str) -> tuple[str, ...]:
    """List the recipes of an objective or task, in the order of its file.

    >>> list_recipes("dino")
    ('official', 'two-crops', 'paper', 'resnet50')
    """
    classes = _list_classes(f"recipes/{learner.replace('-', '_')}.py")
    return tuple(re.sub(r"(?<!^)(?=[A-Z])|_", "-", name).lower() for name in classes)


def list_settings(learner: str) -> tuple[str, ...]:
    """List the settings of an objective or task that a user can give.

    >>> list_settings("mae")[:2]
    ('mask_ratio', 'normalise_pixels')
    """
    file = TASKS.get(learner, f"objectives/{learner.replace('-', '_')}.py")
    fields = (node for node in _list_classes(file)["Settings"].body)
    named = (
        node.target.id
        for node in fields
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )
    return tuple(name for name in named if name != "classes")  # which the images decide


def require_words(
    learner: str,
    recipe: str | None,
    overrides: Sequence[str],
    *,
    more: Sequence[str] = (),
    of: str = "",
) -> None:
    """Refuse a recipe or a setting that is not declared, with the nearest that is.

    Args:
        learner: the objective, or a task as `TASKS` has it.
        recipe: the name of a recipe; None where none is asked for.
        overrides: settings as KEY=VALUE.
        more: further keys that can be given.
        of: words that say what has the settings, with a space before them.

    Raises:
        InputError: a name is not declared, a text is no KEY=VALUE, or a setting has two values.
    """
    if recipe is not None and recipe not in list_recipes(learner):
        raise InputError(
            f'{learner} has no recipe "{recipe}": {nearest(recipe, list_recipes(learner))}'
        )
    pairs = split_overrides(overrides, f"setting{of}")
    for key, _ in pairs:
        known = (*list_settings(learner), *more)
        if key not in known:
            raise no_setting(key, known, [name for name, _ in pairs], of)
