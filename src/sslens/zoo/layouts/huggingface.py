"""Hugging Face transformers: ViT, ViT-MAE, ViT-MSN, I-JEPA, DINOv2, and models with a head on one
of them."""

from sslens.zoo.claim import CLASSIFIER, Claim
from sslens.zoo.contradictions import SCALED, UNSCALED, find_wrong_kind
from sslens.zoo.files import Contents
from sslens.zoo.trunks import Trunk, choose_trunk, find_trunks, name_trunks, recognise_positions

TITLE = "Hugging Face"
#: objectives by the kind of model in config.json
KINDS = {
    "vit_mae": "mae",
    "vit_msn": "msn",
    "ijepa": "ijepa",
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
}
_FAMILIES = {"mae": "REC", "msn": "JE", "ijepa": "JE", "dinov2": "JE"}
_EPS = (
    "Hugging Face's models may norm with eps 1e-12, which config.json says; without it, here it is"
    " 1e-6, as the methods' authors have it."
)
_DECODER = "the reconstruction decoder"


def claim(contents: Contents) -> Claim | None:
    """Claim a model with three layers for queries, keys and values,
    `encoder.layer.N.attention.attention.query`.

    The method is told by config.json, unless the keys contradict it, else by DINOv2's layer scale,
    or by MAE's decoder or positions. config.json also tells heads, eps and the colours.
    """
    trunks = [trunk for trunk in find_trunks(contents.states) if trunk.naming == "vit-hf"]
    if not trunks:
        return None
    trunk, state = trunks[0], contents.states[trunks[0].state]
    weights = trunk.weights(contents.states)
    where = recognise_positions(weights.get("embeddings.position_embeddings"))
    decoder = "decoder.decoder_embed.weight" in state or "decoder.decoder_pos_embed" in state
    signs = {
        "it has DINOv2's layer scale": any("layer_scale1" in name for name in weights),
        "it has MAE's decoder": decoder,
        "pos_embed is MAE's fixed table": where.exact and not decoder,
    }
    told, is_contradicted = _read_kind(contents, trunk)
    seen = (
        None
        if is_contradicted
        else "dinov2"
        if signs["it has DINOv2's layer scale"]
        else "mae"
        if decoder or where.of == "mae"
        else None
    )
    objective = told or seen
    headed = "classifier.weight" in state
    notes = [_EPS] if contents.beside.hints.eps is None else []
    notes += [] if objective else ["The file does not say what trained it."]
    branches = name_trunks(trunks)
    return Claim(
        method=TITLE,
        form=(
            "a model with a classifier"
            if headed
            else "with MAE's decoder"
            if decoder
            else "the model alone"
        ),
        signs=(
            "queries, keys and values are three layers (encoder.layer.0.attention.attention.query)",
            *(sign for sign, there in signs.items() if there),
            *([f"{contents.beside.name} says {contents.beside.kind}"] if told else []),
        ),
        branches=branches,
        taken=choose_trunk(branches),
        objective=objective,
        family=_FAMILIES.get(str(objective)),
        tuned="fine-tuned" if headed else False,
        drops=((r"classifier\..*", CLASSIFIER), (r"decoder\..*", _DECODER)),
        beside=((r"classifier\..*", CLASSIFIER), (r"decoder\..*", _DECODER)),
        strict=objective is not None,
        certain=False,
        notes=tuple(notes),
    )


def _read_kind(contents: Contents, trunk: Trunk) -> tuple[str | None, bool]:
    """The objective that config.json tells, and whether the keys contradict a kind of model whose
    blocks are known; by an unknown kind nothing is told, and the keys may still tell it."""
    kind = contents.beside.kind
    if find_wrong_kind(kind, trunk.naming, contents.states[trunk.state]):
        return None, kind in (*SCALED, *UNSCALED)
    return KINDS.get(kind), False
