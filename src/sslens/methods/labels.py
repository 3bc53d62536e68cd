"""The labels of images, for methods that learn them."""

from dataclasses import replace
from typing import Any

import numpy as np

from sslens.data.classes import require_labels
from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.find import plugin


def with_classes(objective: str, settings: Any, images: ImageSet) -> Any:
    """Return an objective's settings, with the images' classes filled in where the objective learns
    labels.

    Raises:
        InputError: the objective learns labels, and the images have none or all have the same.
    """
    if not getattr(plugin("objectives", objective), "LABELLED", False):
        return settings
    return replace(settings, classes=class_names(objective, images))


def class_names(learner: str, images: ImageSet) -> tuple[str, ...]:
    """Return the names of the images' classes, in the order of the label numbers.

    Args:
        learner: the name of what learns the classes, for the message.
        images: the images.

    Raises:
        InputError: the images have no labels, or all have the same.
    """
    mend = "give a folder with a subfolder a class, or an index or .npz file with labels"
    require_labels(images, f"{learner} learns them", mend)
    assert images.labels is not None
    present = np.unique(images.labels)
    if len(present) < 2:
        raise InputError(
            f"All {len(images):,} images of {images.name} are of the class"
            f' "{images.classes[present[0]]}", and {learner} learns to tell classes apart',
            mend="give images of two or more",
        )
    return images.classes
