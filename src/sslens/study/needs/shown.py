"""The images under study as the first model sees them, to show some."""

from sslens.comparisons.pool import ShownImages
from sslens.store import digest
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

TYPE = ShownImages


def unmet(situation: Situation) -> Lack | None:
    """There must be images, and a model that sees them."""
    if situation.images is None:
        return Lack("it shows images, and there are none", "give {images}")
    return lack_of_passes(situation)


def gather(captured: Captured) -> ShownImages:
    """Return the images with the first model's view."""
    situation = captured.situation
    assert situation.images is not None
    seen = next(member for member in situation.members if member.model is not None)
    return ShownImages(situation.images, seen.network.transform, {})


def key(value: ShownImages) -> str:
    """Return a digest of the images and of how they are shown."""
    return digest([value.images.digest, list(value.view.geometry)])
