"""C-RADIO and RADIO (Ranzinger et al., 2024), NVIDIA's files and Hugging Face's: one network that
was distilled from several."""

from typing import Any

from sslens.zoo.arrays import Array
from sslens.zoo.claim import Claim
from sslens.zoo.claiming import CLIP_MEAN, CLIP_STD, PARTS, claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import find_trunks

TITLE = "C-RADIO"
_BESIDE = (
    (r"(.*\.)?input_conditioner\..*", "the colours' means and spreads, which are read"),
    (r"(.*\.)?summary_idxs", "the places of the summary tokens"),
    (r"(.*\.)?_?(heads|feature_projections|adaptors)\..*", "what a teacher's features are read by"),
    (r"(.*\.)?_?(intermediate_|inter_)?feature_normalizer\..*", "a normalisation of features"),
    *PARTS,
)


def claim(contents: Contents) -> Claim | None:
    """Claim a Vision Transformer with `patch_generator`, under `radio_model.model.` in Hugging
    Face's files and under `base_model.` in NVIDIA's. Images are prepared with the means and spreads
    that the file holds."""
    trunks = [t for t in find_trunks(contents.states) if t.naming == "radio"]
    if not trunks:
        return None
    weights = contents.states[trunks[0].state]
    colours: dict[str, Any] = {"mean": CLIP_MEAN, "std": CLIP_STD}
    for name in colours:
        value = next((v for k, v in weights.items() if k.endswith(f"norm_{name}")), None)
        colours[name] = _read_colour(value) or colours[name]
    return claim_network(
        contents,
        ("radio",),
        method=TITLE,
        sign="it has a generator of patches with summary tokens (patch_generator.cls_token.token)",
        beside=_BESIDE,
        hints=Hints(eps=1e-6),
        transform={**colours, "ratio": 1.0},
        notes=(
            "It was distilled from several networks, and has a summary token for each, or for"
            " several: CLS is the first of them.",
        ),
        certain=True,
        normless=True,
    )


def _read_colour(value: Array | None) -> tuple[float, ...] | None:
    """Three numbers of a file, one a channel; None where there are none."""
    if value is None or not value.is_floating or value.size != 3:
        return None
    return tuple(round(float(one), 7) for one in value.values.reshape(-1))
