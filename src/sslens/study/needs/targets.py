"""Known quantities of each image: mean colour, luminance and local contrast; the class where images
have classes; and every factor of generated scenes."""

from typing import TYPE_CHECKING

from sslens.comparisons.targets import Targets
from sslens.study.needs import factors
from sslens.study.situation import Captured, Lack, Situation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from sslens.data.images import ImageSet
    from sslens.store import Store

TYPE = Targets


def unmet(situation: Situation) -> Lack | None:
    """Fingerprints hold nothing of the images but their ids."""
    if situation.images is not None:
        return None
    return Lack("nothing is known of the images without the images", "give {images}")


def gather(captured: Captured) -> Targets:
    """Compute the quantities, also those that are the same in all images, which the analysis
    names."""
    from sslens.comparisons.targets import code_factors

    situation, images = captured.situation, captured.situation.images
    assert images is not None
    values = code_factors(tabulate(situation, images)) | look_at(images, captured.store)
    return Targets(images.ids, values)


def tabulate(situation: Situation, images: "ImageSet") -> "pd.DataFrame":
    """The class and, of scenes, the factors; no columns where neither is known."""
    import pandas as pd

    if factors.unmet(situation) is None:
        return factors.look_up(images)
    if images.labels is not None:
        return pd.DataFrame({"class": [images.classes[number] for number in images.labels]})
    return pd.DataFrame(index=range(len(images)))


def look_at(images: "ImageSet", store: "Store | None") -> "dict[str, np.ndarray]":
    """What the images look like, which is kept: every image must be decoded for it."""
    import torch

    from sslens.data.appearance import NAMES, VERSION, measure_appearance
    from sslens.store import digest

    key = {"images": images.content, "ids": digest(images.ids), "version": VERSION}
    stored = store.read("appearance", key) if store is not None else None
    if stored is not None:
        return {name: stored[name].numpy() for name in NAMES}
    measured = measure_appearance(images)
    if store is not None:
        tensors = {name: torch.from_numpy(numbers) for name, numbers in measured.items()}
        store.write("appearance", key, tensors)
    return measured


def key(value: Targets) -> str:
    """Return a digest of all numbers."""
    return value.digest()
