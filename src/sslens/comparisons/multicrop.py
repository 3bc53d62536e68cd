"""Which models were trained with multi-crop: small crops of an image beside large ones."""

from sslens import cards
from sslens.models.about import About

#: objectives that are trained with small crops unless it is said otherwise
USUAL = ("dino", "dinov2", "dinov3", "ibot", "msn")


def uses_multicrop(about: About) -> bool:
    """Whether a model was trained with small crops of its images beside the large ones.

    The training of a model of ours says how many; of released models the card says it, or else the
    objective decides: DINO's and MSN's authors train with small crops, and MAE's and MoCo-v3's do
    not.

    >>> uses_multicrop(About("JE", "dino")), uses_multicrop(About("JE", "moco-v3"))
    (True, False)
    >>> uses_multicrop(About("JE", "dino", more={"local_crops": 0}))
    False
    """
    crops = about.more.get("local_crops")
    if isinstance(crops, int):
        return crops > 0
    card = cards.look_up(about.card) if about.card else None
    if card is not None and card.multicrop is not None:
        return card.multicrop
    return about.objective in USUAL
