"""The features of images, and of two altered views of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from sslens.capture import Features


@final
@dataclass(frozen=True)
class ViewSets:
    """The pooled features of all models.

    Attributes:
        images: of the images as they are, by the model's name.
        views: of two views of each image, by the model's name.
    """

    images: Mapping[str, Features]
    views: tuple[Mapping[str, Features], Mapping[str, Features]]

    def key(self) -> Mapping[str, Any]:
        """Return the keys of all features, by the model's name."""
        return {
            name: [dict(one.key), *(dict(view[name].key) for view in self.views)]
            for name, one in self.images.items()
        }
