"""The labels of images, for what learns them."""

from dataclasses import replace
from typing import Any

import numpy as np

from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.find import plugin


def with_classes(objective: str, settings: Any, images: ImageSet) -> Any:
    """An objective's settings with the images' classes, where it learns labels; those of all others
    as they are.

    Raises:
        InputError: it learns labels, and the images have none, or all of them the same.
    """
    if not getattr(plugin("objectives", objective), "LABELLED", False):
        return settings
    return replace(settings, classes=classes(objective, images))


def classes(learner: str, images: ImageSet) -> tuple[str, ...]:
    """The names of the images' classes, in the order of the labels' numbers.

    Raises:
        InputError: the images have no labels, or all of them the same.
    """
    if images.labels is None:
        raise InputError(
            f"The images of {images.name} have no classes, and {learner} learns them: give a folder"
            " with a subfolder a class, or an .npz file with labels."
        )
    present = np.unique(images.labels)
    if len(present) < 2:
        raise InputError(
            f"All {len(images):,} images of {images.name} are of the class"
            f' "{images.classes[present[0]]}", and {learner} learns to tell classes apart: give'
            " images of two or more."
        )
    return images.classes
