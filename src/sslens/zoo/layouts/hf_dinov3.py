"""Hugging Face transformers: DINOv3's Vision Transformers."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints

TITLE = "Hugging Face, DINOv3"


def claim(contents: Contents) -> Claim | None:
    """Claim a Vision Transformer with `layer.N.attention.q_proj` and register tokens, and without a
    table of positions."""
    return claim_network(
        contents,
        ("dinov3-hf",),
        method=TITLE,
        sign="it has register tokens and no table of positions (embeddings.register_tokens)",
        objective="dinov3",
        family="JE",
        hints=Hints(eps=1e-5),
        transform={"ratio": 1.0},
        classifier=r"classifier\..*",
    )
