"""The class of each image where images have classes, for analyses that can do without."""

from sslens.comparisons.inputs import KnownClasses, Labels
from sslens.study.needs import labels
from sslens.study.situation import Captured, Lack, Situation

TYPE = KnownClasses


def unmet(situation: Situation) -> Lack | None:
    """Images need no classes, but there must be images."""
    if situation.images is None:
        return Lack("it is about images, and there are none", "give {images}")
    return None


def gather(captured: Captured) -> KnownClasses:
    """Return the classes of the images; none where they lie in no folders."""
    if labels.unmet(captured.situation) is not None:
        return KnownClasses(None)
    return KnownClasses(labels.gather(captured))


def key(value: KnownClasses) -> str:
    """Return a digest of the classes; an empty text where there are none."""
    known: Labels | None = value.labels
    return "" if known is None else labels.key(known)
