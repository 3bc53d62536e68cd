"""Checkpoint files of networks in stages (Swin, Hiera), of V-JEPA 2, C-RADIO and JAX's Vision
Transformers, and of the trainers mmpretrain and VISSL: small, in their true keys."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from released import FIRST, RELEASED, TWO, WIDE, beit, build, rename, split, without_key_bias
from sslens.models.vit import ViTArch
from sslens.zoo.architectures.beit import BeitShape
from sslens.zoo.architectures.capi import CapiShape
from sslens.zoo.architectures.hiera import HieraShape
from sslens.zoo.architectures.radio import RadioShape
from sslens.zoo.architectures.swin import SwinShape
from sslens.zoo.architectures.vjepa2 import TubeletShape
from sslens.zoo.shapes import ViTShape
from written import HEADS, RESNET, Example, State, head, trained, training, under

#: windows of 4 tokens but in the last stage, of which one window is the whole image
SWIN = SwinShape((1, 2, 2, 1), (1, 2, 4, 4), (4, 4, 4, 2), width=8, hidden=2, image_size=64)
HIERA = HieraShape((1, 2, 2, 1), width=8, heads=1, hidden=2, image_size=64)
VJEPA = TubeletShape(ViTArch(256, 64, dim=64, blocks=2, heads=2), hidden=96)
RADIO = RadioShape(
    ViTArch(512, 64, dim=64, blocks=2, heads=2), hidden=96, tokens=5, table=10, layer_scale=True
)
CAPI = CapiShape(ViTArch(224, 56, dim=64, blocks=2, heads=2), hidden=96, registers=8)
JAX = ViTShape(WIDE, hidden=96, activation="gelu_tanh")

# ------------------------------------------------------------------------------------------------
# Swin


def microsoft(state: Mapping[str, Tensor]) -> State:
    """The authors' names, in which a stage ends with the layer that makes the map smaller, and the
    tables that they have beside the weights."""
    moved = re.compile(r"^layers\.(\d)\.downsample")
    named = {
        moved.sub(lambda match: f"layers.{int(match[1]) - 1}.downsample", name): value
        for name, value in state.items()
    }
    index = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16).long()}
    return named | index | {"layers.1.blocks.1.attn_mask": torch.zeros(4, 16, 16)}


def hf_swin(state: Mapping[str, Tensor]) -> State:
    plain = {n: v for n, v in microsoft(state).items() if "index" not in n and "mask" not in n}
    return rename(
        split(plain, ("query", "key", "value")),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^patch_embed\.norm\.", "embeddings.norm."),
        (r"^norm\.", "layernorm."),
        (r"^layers\.", "encoder.layers."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.attn\.", ".attention.self."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    )


def _swin() -> dict[str, Example]:
    network = build(SWIN)
    state = network.state_dict()
    labels = head("head.weight", "head.bias")
    timms = head("head.fc.weight", "head.fc.bias")
    tuned = {"tuned": "fine-tuned"}
    return {
        "Microsoft's": Example(network, {"model": microsoft(state) | labels}, None, **tuned),
        "timm's": Example(network, state | timms, None, **tuned),
        "Hugging Face's": Example(network, hf_swin(state), None, header={"format": "pt"}),
    }


def _simmim() -> dict[str, Example]:
    network = build(SWIN, seed=3)
    state = under("encoder.", microsoft(network.state_dict()) | head("mask_token"))
    tree = {"model": state | head("decoder.0.weight", "decoder.0.bias"), **training()}
    return RELEASED["simmim"]() | {"Swin": Example(network, tree, "simmim", family="REC")}


def _torchvision() -> dict[str, Example]:
    network = build(SWIN, seed=4)
    features = rename(
        network.state_dict(),
        (r"^patch_embed\.proj\.", "features.0.0."),
        (r"^patch_embed\.norm\.", "features.0.2."),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.3."),
    )
    for stage in range(4):
        features = rename(
            features,
            (rf"^layers\.{stage}\.downsample\.", f"features.{2 * stage}."),
            (rf"^layers\.{stage}\.blocks\.", f"features.{2 * stage + 1}."),
        )
    index = {"features.1.0.attn.relative_position_index": torch.zeros(256).long()}
    tree = features | index | head("head.weight", "head.bias")
    return RELEASED["torchvision"]() | {"Swin": Example(network, tree, None, tuned="fine-tuned")}


# ------------------------------------------------------------------------------------------------
# Hiera, V-JEPA 2, C-RADIO


def _hiera() -> dict[str, Example]:
    network = build(HIERA)
    state = network.state_dict()
    decoder = head("decoder_embed.weight", "decoder_blocks.0.norm1.weight", "mask_token")
    decoder |= head("encoder_norm.weight", "encoder_norm.bias", "decoder_pos_embed")
    decoder |= head("multi_scale_fusion_heads.0.weight", "decoder_pred.bias")
    tuned = state | head("norm.weight", "norm.bias", "head.projection.weight")
    known: dict[str, Any] = {"options": {"num_heads": 1}}
    return {
        "pre-training": Example(
            network, {"model_state": state | decoder}, "mae", family="REC", **known
        ),
        "fine-tuned": Example(network, {"model_state": tuned}, None, tuned="fine-tuned", **known),
    }


def _vjepa2() -> dict[str, Example]:
    target, trained_one = build(VJEPA, seed=1), build(VJEPA, seed=2)
    inside = "module.backbone."
    tree = {
        "encoder": under(inside, trained_one.state_dict() | head("pos_embed")),
        "target_encoder": under(inside, target.state_dict() | head("pos_embed")),
        "predictor": under(inside, head("predictor_embed.weight", "predictor_blocks.0.norm1.bias")),
        "epoch": 90,
    }
    renamed = rename(
        split(target.state_dict(), ("query", "key", "value")),
        (r"^patch_embed\.", "encoder.embeddings.patch_embeddings."),
        (r"^norm\.", "encoder.layernorm."),
        (r"^blocks\.", "encoder.layer."),
        (r"\.attn\.", ".attention."),
    )
    beside = head("predictor.layer.0.norm1.weight", "predictor.layernorm.weight")
    known: dict[str, Any] = {"objective": "vjepa2", "family": "JE"}
    asked = {**TWO, "branch": "encoder"}
    return {
        "training": Example(target, tree, options=TWO, **known),
        "the trained one": Example(trained_one, tree, options=asked, **known),
        "Hugging Face's": Example(
            target, renamed | beside, options=TWO, header={"format": "pt"}, **known
        ),
    }


def capi(state: Mapping[str, Tensor]) -> State:
    """The authors' names, with the frequencies in each block."""
    named = rename(
        split(state, ("residual1.fn.q_proj", "residual1.fn.k_proj", "residual1.fn.v_proj")),
        (r"^blocks\.", "encoder.blocks."),
        (r"\.norm([12])\.", r".residual\1.norm."),
        (r"\.attn\.proj\.", ".residual1.fn.proj."),
        (r"\.attn\.", "."),
        (r"\.mlp\.", ".residual2.fn."),
        (r"^patch_embed\.proj\.", "patch_embed."),
    )
    named["registers"] = named.pop("reg_token")
    freqs = named.pop("rope.freqs")
    return named | {f"encoder.blocks.{i}.residual1.fn.rope.freqs": freqs for i in range(2)}


def _capi() -> dict[str, Example]:
    average, student = build(CAPI, seed=1), build(CAPI, seed=2)
    predictor = head("decoder.blocks.0.residual1.norm.weight", "mask_token")
    files = {
        name: under("backbone.", capi(one.state_dict()) | predictor) | head("head.layer.weight")
        for name, one in (("student", student), ("student_ema", average), ("teacher", average))
    }
    known: dict[str, Any] = {"objective": "capi", "family": "JE"}
    training_state = {
        "model": {f"{name}.{key}": v for name, file in files.items() for key, v in file.items()},
        "iteration": 10,
        **training(),
    }
    return {
        "released": Example(average, files["student_ema"], **known),
        "training": Example(average, training_state, **known),
        "the student": Example(student, training_state, options={"branch": "student"}, **known),
    }


def radio(state: Mapping[str, Tensor]) -> State:
    """NVIDIA's names: patches by a linear layer, [width, 3 · P · P], and tokens [token, width]."""
    named = rename(
        state,
        (r"^patch_embed\.proj\.", "patch_generator.embedder."),
        (r"^cls_token$", "patch_generator.cls_token.token"),
        (r"^pos_table$", "patch_generator.pos_embed"),
    )
    named["patch_generator.embedder.weight"] = named["patch_generator.embedder.weight"].flatten(1)
    named["patch_generator.cls_token.token"] = named["patch_generator.cls_token.token"][0]
    return named


def _c_radio() -> dict[str, Example]:
    network = build(RADIO)
    state = radio(network.state_dict())
    colours = {
        "input_conditioner.norm_mean": torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1),
        "input_conditioner.norm_std": torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1),
    }
    hugging = {name.replace("gamma", "grandma"): value for name, value in state.items()}
    hugging = under("radio_model.model.", hugging) | under("radio_model.", colours)
    hugging |= {"radio_model.summary_idxs": torch.tensor([0, 1])}
    heads = head("_heads.0.mlp.fc1.weight", "_feature_projections.0.final.weight")
    tree = {"state_dict": under("base_model.", state) | colours | heads, **training()}
    return {
        "NVIDIA's": Example(network, tree, None, options=TWO),
        "Hugging Face's": Example(network, hugging, None, options=TWO, header={"format": "pt"}),
    }


# ------------------------------------------------------------------------------------------------
# JAX


def jax(state: Mapping[str, Tensor], heads: int) -> State:
    """The names and axes of google-research/vision_transformer."""
    named = {}
    for name, value in split(state, ("query", "key", "value")).items():
        into = rename(
            {name: value},
            (r"^cls_token$", "cls"),
            (r"^pos_embed$", "Transformer/posembed_input/pos_embedding"),
            (r"^patch_embed\.proj\.", "embedding/"),
            (r"^norm\.", "Transformer/encoder_norm/"),
            (r"^blocks\.(\d+)\.", r"Transformer/encoderblock_\1/"),
            (r"norm1\.", "LayerNorm_0/"),
            (r"norm2\.", "LayerNorm_2/"),
            (r"attn\.(query|key|value)\.", r"MultiHeadDotProductAttention_1/\1/"),
            (r"attn\.proj\.", "MultiHeadDotProductAttention_1/out/"),
            (r"mlp\.fc1\.", "MlpBlock_3/Dense_0/"),
            (r"mlp\.fc2\.", "MlpBlock_3/Dense_1/"),
        )
        key = next(iter(into))
        norm = "LayerNorm" in key or "encoder_norm" in key
        key = re.sub("weight$", "scale" if norm else "kernel", key)
        if re.search("(query|key|value)/", key):  # a bias is [head, width of a head]
            turned = (value.T if value.ndim == 2 else value).unflatten(-1, (heads, -1))
        elif "/out/kernel" in key:
            turned = value.T.unflatten(0, (heads, -1))
        elif value.ndim == 4:
            turned = value.permute(2, 3, 1, 0)
        else:
            turned = value.T if key.endswith("kernel") else value
        named[key] = turned
    return named


def _jax_vit() -> dict[str, Example]:
    network = build(JAX)
    state = jax(network.state_dict(), heads=2)
    labels = {"head/kernel": torch.zeros(64, 5), "head/bias": torch.ones(5)}
    return {
        "AugReg": Example(network, state | labels, None, tuned="fine-tuned", archive=True),
        "without a head": Example(network, under("params/", state), None, archive=True),
    }


# ------------------------------------------------------------------------------------------------
# mmpretrain and VISSL


def openmmlab(state: Mapping[str, Tensor]) -> State:
    return rename(
        state,
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"^norm\.", "ln1."),
        (r"^blocks\.", "layers."),
        (r"\.norm([12])\.", r".ln\1."),
        (r"\.ls1\.gamma$", ".attn.gamma1.weight"),
        (r"\.ls2\.gamma$", ".ffn.gamma2.weight"),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".ffn.layers.1."),
    )


def _mmpretrain() -> dict[str, Example]:
    network, convnext = build(ViTShape(WIDE, hidden=96, layer_scale=True)), build(FIRST, seed=1)
    relative = without_key_bias(build(BeitShape(WIDE, hidden=96), seed=2))
    resnet = trained(RESNET.build(1), 1)
    meta = {"meta": {"mmpretrain_version": "1.2.0"}}
    labels = head("head.layers.head.weight", "data_preprocessor.mean")
    mae = under("backbone.", openmmlab(network.state_dict())) | head("neck.decoder_embed.weight")
    own = rename(
        convnext.state_dict(),
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."),
        (r"\.conv_dw\.", ".depthwise_conv."),
        (r"\.mlp\.fc", ".pointwise_conv"),
    )
    after = head("norm3.weight", "norm3.bias")
    words = under("backbone.", openmmlab(beit(relative.state_dict())))
    words |= head("head.cls_head.weight")
    return {
        "MAE": Example(network, {"state_dict": mae, **meta}, "mae", family="REC", options=TWO),
        "BEiT": Example(relative, {"state_dict": words, **meta}, None),
        "ConvNeXt": Example(
            convnext, {"state_dict": under("backbone.", own | after) | labels, **meta}, None
        ),
        "ResNet": Example(
            resnet,
            {"state_dict": under("backbone.", resnet.state_dict()) | labels, **meta},
            None,
        ),
    }


def _vissl() -> dict[str, Example]:
    resnet, network = trained(RESNET.build(1), 1), build(ViTShape(WIDE, hidden=96))

    def write(trunk: State) -> Mapping[str, Any]:
        model = {"trunk": trunk, "heads": head("0.clf.0.weight", "0.prototypes0.weight")}
        training_state = {"base_model": {"model": model}, "train": True, "phase": 3}
        return {"classy_state_dict": training_state, "iteration": 10, "type": "consolidated"}

    blocks = under("_feature_blocks.", resnet.state_dict())
    return {
        "ResNet": Example(resnet, write(blocks), None),
        "ViT": Example(network, write(dict(network.state_dict())), None, options=HEADS | TWO),
    }


#: by the layout's name
STAGES: dict[str, Callable[[], dict[str, Example]]] = {
    "swin": _swin,
    "simmim": _simmim,
    "torchvision": _torchvision,
    "hiera": _hiera,
    "vjepa2": _vjepa2,
    "c-radio": _c_radio,
    "capi": _capi,
    "jax-vit": _jax_vit,
    "mmpretrain": _mmpretrain,
    "vissl": _vissl,
}
