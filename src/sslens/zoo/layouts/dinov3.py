"""DINOv3 (Siméoni et al., 2025) in the authors' files: `storage_tokens`, rotary positions, masked
biases of keys."""

from collections.abc import Mapping
from typing import Any

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import PARTS, claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import find_trunks

TITLE = "DINOv3"
#: images of satellites; the authors' make_transform for SAT-493M
SATELLITES = {"mean": (0.430, 0.411, 0.296), "std": (0.213, 0.156, 0.143)}
_SMALL = "local_cls_norm.weight"


def claim(contents: Contents) -> Claim | None:
    """Claim a Vision Transformer with `rope_embed.periods`, which also tell the number of heads:
    there are four of them for each period.

    ViT-L for images of satellites has a second normalisation, `local_cls_norm`, and statistics of
    its own; ViT-7B has that normalisation for both kinds of images.
    """
    trunks = [t for t in find_trunks(contents.states) if t.naming == "dinov3"]
    if not trunks:
        return None
    weights = trunks[0].weights(contents.states)
    width = weights["blocks.0.norm1.weight"].size
    periods = weights["rope_embed.periods"].size
    satellites = _SMALL in weights and width == 1024
    transform: Mapping[str, Any] = {"ratio": 1.0, **(SATELLITES if satellites else {})}
    unsure = (
        "The file does not tell whether it was trained on images of satellites, whose mean is"
        " (0.430, 0.411, 0.296), and std (0.213, 0.156, 0.143)."
    )
    distilled = any(name.startswith("projectors.") for name in weights)
    return claim_network(
        contents,
        ("dinov3",),
        method="EUPE" if distilled else TITLE,
        sign="it has rotary positions and storage tokens (rope_embed.periods, storage_tokens)",
        objective=None if distilled else "dinov3",
        family=None if distilled else "JE",
        hints=Hints(heads=width // (4 * periods) if periods else None, eps=1e-5, image_size=256),
        transform=transform,
        beside=PARTS,
        notes=(unsure,) if _SMALL in weights and not satellites else (),
        certain=True,
    )
