"""Hugging Face transformers: BEiT and data2vec's vision model, with and without a head."""

from sslens.zoo.claim import AFTER_POOLING, Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents

TITLE = "Hugging Face, BEiT"
KINDS = {"beit": "beit", "data2vec-vision": "data2vec"}


def claim(contents: Contents) -> Claim | None:
    """Claim a BEiT in Hugging Face's names: layer scale `lambda_1`, keys without a bias.

    Models with pooling over patches have no final normalisation. config.json tells BEiT from
    data2vec.
    """
    told = KINDS.get(contents.beside.kind)
    words = any(
        key.startswith("lm_head.") for weights in contents.states.values() for key in weights
    )
    objective = told or ("beit" if words else None)
    return claim_network(
        contents,
        ("beit-hf",),
        method=TITLE,
        sign="it has BEiT's layer scale (encoder.layer.0.lambda_1)",
        objective=objective,
        family="REC" if objective else None,
        beside=(
            (r"lm_head\..*", "the head that predicts visual words"),
            (r"layernorm\..*", AFTER_POOLING),
        ),
        classifier=r"classifier\..*",
        transform={"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        notes=() if objective else ("The file does not say what trained it.",),
    )
