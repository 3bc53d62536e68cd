"""Hiera (Ryali et al., 2023): pre-trained as a masked autoencoder, with and without its decoder, or
fine-tuned."""

from sslens.zoo.claim import CLASSIFIER, MASK, Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import find_trunks

TITLE = "Hiera"
_DECODER = "the reconstruction decoder"


def claim(contents: Contents) -> Claim | None:
    """Claim a network in which blocks have a layer that makes their input wider, `blocks.2.proj`.

    A file of the pre-training has a decoder (`decoder_embed`) and heads that gather the stages for
    it (`multi_scale_fusion_heads`). Others do not say what trained them.
    """
    trunks = [t for t in find_trunks(contents.states) if t.naming == "hiera"]
    if not trunks:
        return None
    names = trunks[0].weights(contents.states)
    decoder = any(name.startswith(("decoder_", "multi_scale_fusion")) for name in names)
    encoder = decoder or "encoder_norm.weight" in names
    return claim_network(
        contents,
        ("hiera",),
        method=TITLE,
        sign="blocks have a layer that makes their input wider (blocks.N.proj)"
        + (", and it has a decoder" if decoder else ""),
        objective="mae" if encoder else None,
        family="REC" if encoder else None,
        drops=(
            (r"(decoder_.*|multi_scale_fusion_heads\..*)", _DECODER),
            (r"mask_token", MASK),
            (r"head\.(projection|fc)\..*", CLASSIFIER),
        ),
        classifier=r"head\.(projection|fc)\..*",
        hints=Hints(eps=1e-6),
        notes=() if encoder else ("The file does not say what trained it.",),
        certain=True,
    )
