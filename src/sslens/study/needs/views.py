"""Features of the images as they are, and of two views of each: a crop of it, and it in other
colours, both drawn by the image's id."""

from collections.abc import Mapping
from typing import Any

from sslens.capture import FeatureReducer
from sslens.comparisons.views import ViewSets
from sslens.data.alter import Transform
from sslens.data.transform_names import STRENGTHS
from sslens.study.asked import Study
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

TYPE = ViewSets
FEATURES = FeatureReducer()
#: what is drawn for each view: what joint embedding's views differ in most, place and colour
VIEWS = tuple(Transform(name, STRENGTHS[name].usual, drawn=True) for name in ("crop", "hue"))


def reducers(study: Study) -> tuple[FeatureReducer, ...]:
    """Ask for pooled features of the images as they are."""
    return (FEATURES,)


def altered(study: Study) -> tuple[tuple[Transform, tuple[FeatureReducer, ...]], ...]:
    """Ask for the same of both views: a pass for each."""
    return tuple((view, (FEATURES,)) for view in VIEWS)


def unmet(situation: Situation) -> Lack | None:
    """Views are of images, and fingerprints hold no features."""
    if situation.images is None:
        return Lack("views are of images, and there are none", "give {images}")
    return lack_of_passes(situation)


def gather(captured: Captured) -> ViewSets:
    """Return the features of each model."""
    one, other = (captured.of(FEATURES, altered=view) for view in VIEWS)
    return ViewSets(captured.of(FEATURES), (one, other))


def key(value: ViewSets) -> Mapping[str, Any]:
    """Return the key of each model's features."""
    return value.key()
