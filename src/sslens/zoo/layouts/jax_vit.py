"""AugReg (Steiner et al., 2022) and other Vision Transformers of
google-research/vision_transformer, as NumPy's archives (.npz)."""

import re

from sslens.zoo.claim import CLASSIFIER, Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import find_trunks

TITLE = "google-research/vision_transformer"
_QUERY = re.compile(r"Transformer/encoderblock_0/MultiHeadDotProductAttention_[01]/query/kernel")


def claim(contents: Contents) -> Claim | None:
    """Claim a Vision Transformer with `Transformer/encoderblock_0`. Its queries tell the number of
    heads.

    JAX approximates GELU by tanh unless it is told otherwise, and these networks do not tell it.
    timm's copies of the weights have the exact function.
    """
    trunks = [t for t in find_trunks(contents.states) if t.naming == "vit-jax"]
    if not trunks:
        return None
    weights = trunks[0].weights(contents.states)
    query = next((value for name, value in weights.items() if _QUERY.fullmatch(name)), None)
    heads = query.shape[1] if query is not None and query.ndim == 3 else None
    half = (0.5, 0.5, 0.5)
    return claim_network(
        contents,
        ("vit-jax",),
        method=TITLE,
        sign="its layers have JAX's names (Transformer/encoderblock_0)",
        classifier=r"head/.*",
        drops=((r"pre_logits/.*", CLASSIFIER),),
        hints=Hints(heads=heads, eps=1e-6, activation="gelu_tanh"),
        transform={"mean": half, "std": half},
        notes=(
            "GELU is approximated by tanh, as JAX computes it. timm's copies of such weights have"
            " the exact function, and other features from the third decimal on.",
            "The file does not say what trained it; the released ones are supervised.",
        ),
        certain=True,
    )
