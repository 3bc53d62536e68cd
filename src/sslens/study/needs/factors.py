"""The factors of each generated image: its class, position, size, hue and the like."""

from typing import TYPE_CHECKING

from sslens.comparisons.inputs import Factors
from sslens.store import digest
from sslens.study.situation import Captured, Lack, Situation

if TYPE_CHECKING:
    import pandas as pd

    from sslens.data.images import ImageSet

TYPE = Factors


def unmet(situation: Situation) -> Lack | None:
    """Only the factors of generated scenes are known."""
    from sslens.data.scene_images import SceneSource

    sets = situation.sets
    if sets and all(isinstance(images.source, SceneSource) for images in sets):
        return None
    return Lack(
        "the images are not generated scenes, and of no others are the factors known",
        "give {images=scenes:1:1000}",
    )


def gather(captured: Captured) -> Factors:
    """Return the factors of the images and of the bank, indexed by id."""
    images, bank = captured.situation.images, captured.situation.bank
    assert images is not None
    return Factors(look_up(images), None if bank is None else look_up(bank))


def look_up(images: "ImageSet") -> "pd.DataFrame":
    """Compute the factors of generated scenes, indexed by id."""
    from sslens.data.scene_images import factors_of

    return factors_of(images).set_axis(list(images.ids))


def key(value: Factors) -> str:
    """Return a digest of the ids. They contain the version of the scenes, and so decide the
    factors."""
    bank = [] if value.bank is None else value.bank.index.tolist()
    return digest([value.images.index.tolist(), bank])
