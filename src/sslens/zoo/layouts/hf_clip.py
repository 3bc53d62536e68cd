"""Hugging Face transformers: CLIP, SigLIP and SigLIP 2, of which the vision tower is taken."""

from sslens.zoo.claim import Claim
from sslens.zoo.claiming import CLIP_MEAN, CLIP_STD, claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import find_trunks

TITLE = "Hugging Face, CLIP"
#: everything outside the vision tower
TEXT = (
    (r"(.*\.)?text_(model|projection|embed)\w*\..*", "the text tower"),
    (r"(.*\.)?(visual_projection|text_projection)\..*", "the projection to the shared space"),
    (r"(.*\.)?logit_(scale|bias)", "a number of the training"),
)


def claim(contents: Contents) -> Claim | None:
    """Claim a vision tower, `vision_model.embeddings.patch_embedding`.

    SigLIP's has no CLS token and pools by attention. The activation is config.json's; without it,
    it is OpenAI's QuickGELU in CLIP, and GELU's approximation by tanh in SigLIP.
    """
    trunks = [t for t in find_trunks(contents.states) if t.naming == "clip-hf"]
    if not trunks:
        return None
    weights = trunks[0].weights(contents.states)
    siglip = "embeddings.class_embedding" not in weights
    told = contents.beside.hints.activation is not None or contents.beside.kind != ""
    default = "gelu_tanh" if siglip else "quick_gelu"
    assumed = (
        "Without config.json the activation function is taken to be"
        f" {'GELU by tanh, as SigLIP' if siglip else 'QuickGELU, as OpenAI'}'s have."
    )
    half = (0.5, 0.5, 0.5)
    return claim_network(
        contents,
        ("clip-hf",),
        method="Hugging Face, SigLIP" if siglip else TITLE,
        sign=f"it has a vision tower ({trunks[0]})",
        objective="siglip" if siglip else "clip",
        family="language-image",
        beside=TEXT,
        classifier=r"classifier\..*",
        hints=Hints(eps=1e-6 if siglip else 1e-5, activation=default),
        transform={
            "mean": half if siglip else CLIP_MEAN,
            "std": half if siglip else CLIP_STD,
        },
        notes=() if told else (assumed,),
    )
