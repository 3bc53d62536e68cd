"""Images to seek neighbours in, which are the bank, or without one the other images; with what is
known of each."""

from sslens.comparisons.pool import Pool, ShownImages
from sslens.study.needs import factors, targets
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

TYPE = Pool
#: fewest images in which neighbours are sought
FEWEST = 16


def unmet(situation: Situation) -> Lack | None:
    """Neighbours need images, models, and enough images to choose from."""
    if situation.images is None:
        return Lack("neighbours are images, and there are none", "give {images}")
    among = len(situation.images) - 1 if situation.bank is None else len(situation.bank)
    if among < FEWEST:
        return Lack(
            f"neighbours are sought among {FEWEST} images or more, and there are {among}",
            "give more {images} or a larger {bank}",
        )
    return lack_of_passes(situation)


def gather(captured: Captured) -> Pool:
    """Look up what is known of the images: of generated scenes the factors, and of others the class
    and what they look like."""
    import numpy as np
    import pandas as pd

    from sslens.comparisons.targets import code_factors
    from sslens.probes.factors import kind_of

    situation = captured.situation
    sets = situation.sets
    frames = [targets.tabulate(situation, one) for one in sets]
    frame = pd.concat(frames, ignore_index=True)
    kinds = {str(name): str(kind_of(str(name), frame[name])) for name in frame.columns}
    coded, known = code_factors(frame), []
    ends = np.cumsum([len(one) for one in sets])[:-1]
    parts = {name: np.split(numbers, ends) for name, numbers in coded.items()}
    for place, images in enumerate(sets):
        known.append({name: own[place] for name, own in parts.items()})
        if factors.unmet(situation) is not None:
            known[place] |= targets.look_at(images, captured.store)
    kinds |= {name: "continuous" for name in known[0] if name not in kinds}
    seen = next(member for member in situation.members if member.model is not None)
    view = seen.network.transform
    shown = [ShownImages(one, view, own) for one, own in zip(sets, known, strict=True)]
    return Pool(shown[0], shown[1] if shown[1:] else None, kinds)


def key(value: Pool) -> str:
    """Return a digest of the images and of how they are shown."""
    return value.digest()
