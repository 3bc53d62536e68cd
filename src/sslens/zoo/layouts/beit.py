"""BEiT and BEiT v2 (Bao et al., 2022; Peng et al., 2022) in the authors' files, pre-trained or
fine-tuned."""

from dataclasses import replace

from sslens.zoo.claim import AFTER_POOLING, MASK, Claim
from sslens.zoo.claiming import claim_network
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks

TITLE = "BEiT"
LANGUAGE = "the head that predicts visual words"


def claim(contents: Contents) -> Claim | None:
    """Claim a Vision Transformer with biases of queries and values beside the layer.

    A file of the pre-training has a head over visual words, `lm_head`; BEiT v2's has blocks for
    the CLS token beside it, `cls_pt_layers`. A fine-tuned one has `fc_norm` and a classifier.
    """
    trunks = [t for t in find_trunks(contents.states) if t.naming == "beit"]
    if not trunks or trunks[0].prefix.endswith("encoder."):
        return None
    weights = trunks[0].weights(contents.states)
    second = any(name.startswith("cls_pt_layers.") for name in weights)
    pretrained = "lm_head.weight" in weights
    claimed = claim_network(
        contents,
        ("beit",),
        method="BEiT v2" if second else TITLE,
        sign="queries and values have biases of their own (attn.q_bias, attn.v_bias)"
        + (", and it has a head over visual words (lm_head)" if pretrained else ""),
        objective="beitv2" if second else "beit" if pretrained else None,
        family="REC" if pretrained else None,
        drops=(
            (r"mask_token", MASK),
            (r"lm_head\..*|cls_pt_lm_head\..*", LANGUAGE),
            (r"cls_pt_layers\..*|cls_pt_norm\..*", "the blocks that predict from CLS"),
            (r"fc_norm\..*", AFTER_POOLING),
        ),
        classifier=r"head\.(weight|bias)",
        transform={} if pretrained else {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    )
    return claimed and replace(
        claimed, form="pre-training, with its head" if pretrained else claimed.form
    )
