"""Swin Transformers (Liu et al., 2021) in the authors' files, in timm's and in Hugging Face's."""

from sslens.zoo.claim import MASK, Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents

TITLE = "Swin Transformer"


def claim(contents: Contents) -> Claim | None:
    """Claim a Swin Transformer of the first version. Tables of relative positions tell windows and
    heads, and those of the last stage the size of the images."""
    return claim_network(
        contents,
        ("swin", "swin-microsoft", "swin-hf"),
        method=TITLE,
        sign="its blocks have tables of relative positions of windows",
        drops=((r"mask_token", MASK),),
        beside=((r"layernorm\..*|pooler\..*", "a layer after the network"),),
        classifier=r"(head|classifier)\..*",
        notes=("The file does not say what trained it.",),
    )
