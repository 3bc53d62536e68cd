"""SimMIM (Xie et al., 2022): BEiT's Vision Transformer or a Swin under `encoder.`, and a decoder of
one layer."""

from dataclasses import replace

from sslens.zoo.claim import MASK, Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "SimMIM"
KINDS = {"beit": "BEiT's network", "swin-microsoft": "a Swin"}
DECODER = "the reconstruction decoder"


def claim(contents: Contents) -> Claim | None:
    """Claim a file of the pre-training: `encoder.`, a BEiT or a Swin with a mask token, and
    `decoder.0.` beside it."""
    trunks = [t for t in find_trunks(contents.states) if t.naming in KINDS]
    if not trunks or not trunks[0].prefix.endswith("encoder."):
        return None
    state, start = contents.states[trunks[0].state], trunks[0].prefix.removesuffix("encoder.")
    if f"{start}decoder.0.weight" not in state:
        return None
    claimed = claim_network(
        contents,
        tuple(KINDS),
        method=TITLE,
        sign=f"{KINDS[trunks[0].naming]} is under {trunks[0].prefix}* with a decoder beside it",
        objective="simmim",
        family="REC",
        drops=((r"mask_token", MASK),),
        beside=((r"(module\.)?decoder\..*", DECODER),),
        certain=True,
    )
    return claimed and replace(claimed, form="pre-training, with the decoder")
