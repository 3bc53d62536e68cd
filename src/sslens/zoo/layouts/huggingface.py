"""Hugging Face transformers: ViT, ViT-MAE, ViT-MSN, DINOv2, and models with a head on one of
them."""

import re
from collections.abc import Iterator

from sslens.zoo.arrays import join
from sslens.zoo.claim import CLASSIFIER, MASK, Claim, Piece, Weights
from sslens.zoo.dinov2 import convert_to_timm
from sslens.zoo.files import Contents
from sslens.zoo.trunks import find_trunks, name_trunks, recognise_positions

TITLE = "Hugging Face"
_EMBEDDINGS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "embeddings.register_tokens": "register_tokens",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_LAYERS = (
    (r"attention\.output\.dense", "attn.proj"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"^output\.dense", "mlp.fc2"),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"mlp\.weights_in", "mlp.fc1"),
    (r"mlp\.weights_out", "mlp.fc2"),
)
_QKV = re.compile(r"attention\.attention\.(query|key|value)\.(weight|bias)")


def claim(contents: Contents) -> Claim | None:
    """Claim a model with three layers for queries, keys and values,
    `encoder.layer.N.attention.attention.query`.

    The method is recognised by DINOv2's layer scale, or by MAE's decoder or positions.
    """
    trunks = [trunk for trunk in find_trunks(contents.states) if trunk.naming == "vit-hf"]
    if not trunks:
        return None
    trunk, state = trunks[0], contents.states[trunks[0].state]
    weights = trunk.weights(contents.states)
    dinov2 = any("layer_scale1" in name for name in weights)
    decoder = "decoder.decoder_embed.weight" in state or "decoder.decoder_pos_embed" in state
    where = recognise_positions(weights.get("embeddings.position_embeddings"))
    objective = "dinov2" if dinov2 else "mae" if decoder or where.of == "mae" else None
    headed = "classifier.weight" in state
    signs = [
        "queries, keys and values are three layers (encoder.layer.0.attention.attention.query)"
    ]
    signs += ["it has DINOv2's layer scale"] if dinov2 else []
    signs += (
        ["it has MAE's decoder"]
        if decoder
        else ["pos_embed is MAE's fixed table"]
        if where.exact
        else []
    )
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
        signs=tuple(signs),
        branches=branches,
        taken=next(iter(branches)) if len(branches) == 1 else None,
        objective=objective,
        family={"dinov2": "JE", "mae": "REC", None: None}[objective],
        tuned="fine-tuned" if headed else False,
        drops=(
            (r"pooler\..*", "a layer on CLS that no backbone feature passes through"),
            (r"embeddings\.mask_token", MASK),
            (r"classifier\..*", CLASSIFIER),
            (r"decoder\..*", "the reconstruction decoder"),
        ),
        beside=((r"classifier\..*", CLASSIFIER), (r"decoder\..*", "the reconstruction decoder")),
        convert=lambda weights: convert_to_timm(convert_weights(weights)),
        notes=(
            (
                "Hugging Face's models may norm with eps 1e-12; here it is 1e-6, as the methods'"
                " authors have it."
            ),
        )
        + (() if objective else ("The file does not say what trained it.",)),
    )


def convert_weights(weights: Weights) -> Iterator[Piece]:
    """Convert weights to timm's names; queries, keys and values are joined into one layer."""
    joined: dict[str, dict[str, str]] = {}
    for name, value in weights.items():
        layer = _LAYER.fullmatch(name)
        if layer is None:
            yield Piece(_EMBEDDINGS.get(name, name), value, (name,))
            continue
        qkv = _QKV.fullmatch(layer[2])
        if qkv:
            joined.setdefault(f"blocks.{layer[1]}.attn.qkv.{qkv[2]}", {})[qkv[1]] = name
            continue
        rest = layer[2]
        for pattern, replacement in _LAYERS:
            rest = re.sub(pattern, replacement, rest)
        yield Piece(f"blocks.{layer[1]}.{rest}", value, (name,))
    for into, parts in joined.items():
        names = tuple(parts[part] for part in ("query", "key", "value") if part in parts)
        yield Piece(
            into,
            join([weights[name] for name in names]),
            names,
            "queries, keys and values joined",
        )
