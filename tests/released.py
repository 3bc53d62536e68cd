"""Checkpoint files in the layouts of released models and of other people's trainers, in their true
keys: small, made from networks whose outputs are known."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sslens.models.vit import ViTArch
from sslens.zoo.architecture import Architecture
from sslens.zoo.architectures.beit import BeitShape
from sslens.zoo.architectures.convnext import ConvNeXtShape
from sslens.zoo.architectures.dinov3 import RopeShape
from sslens.zoo.shapes import ViTShape
from written import HEADS, RESNET, VIT, Example, State, head, trained, training, under, vit

WIDE = ViTArch(image_size=48, patch_size=16, dim=64, blocks=2, heads=2)
ROPE = RopeShape(
    ViTArch(image_size=256, patch_size=16, dim=64, blocks=2, heads=2), hidden=96, registers=3
)
BEIT = BeitShape(WIDE, hidden=96)
CLIP = ViTShape(WIDE, hidden=96, pre_norm=True, activation="quick_gelu", eps=1e-5)
SIGLIP = ViTShape(WIDE, hidden=96, cls=False, cls_positions=False, activation="gelu_tanh")
DINOV2 = ViTShape(VIT, hidden=96, layer_scale=True)
FIRST = ConvNeXtShape((1, 2, 1, 1), (8, 16, 24, 32))
LIGHTNING = {"pytorch-lightning_version": "2.5.0", "global_step": 10, "epoch": 1}
TWO = {"num_heads": 2}


def build(shape: Architecture, seed: int = 0) -> nn.Module:
    """The network of a shape, with no value as an initialisation leaves it."""
    generator = torch.Generator().manual_seed(seed)
    network = shape.empty()
    state = {}
    for name, value in network.state_dict().items():
        noise = 0.2 * torch.rand(value.shape, generator=generator) - 0.08
        state[name] = noise + ("norm" in name and name.endswith("weight"))
    network.load_state_dict(state, assign=True)
    return network.eval()


def rename(state: Mapping[str, Tensor], *rules: tuple[str, str]) -> State:
    named = {}
    for name, value in state.items():
        for ours, theirs in rules:
            name = re.sub(ours, theirs, name)
        named[name] = value
    return named


def split(state: Mapping[str, Tensor], parts: tuple[str, str, str], bias: str = "qkv") -> State:
    """Queries, keys and values in three layers; of `bias` without the others' biases."""
    named = {}
    for name, value in state.items():
        if ".attn.qkv." not in name:
            named[name] = value
            continue
        for letter, part, piece in zip("qkv", parts, value.chunk(3), strict=True):
            if name.endswith("weight") or letter in bias:
                named[name.replace("qkv", part)] = piece.contiguous()
    return named


def without_key_bias(network: nn.Module) -> nn.Module:
    """BEiT's and DINOv3's keys have no bias."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith("attn.qkv.bias"):
                value[len(value) // 3 : 2 * len(value) // 3] = 0
    return network


# ------------------------------------------------------------------------------------------------
# DINOv2 and DINOv3


def make_dinov2() -> dict[str, Example]:
    networks = {name: build(DINOV2, seed) for seed, name in enumerate(("student", "teacher"))}
    state: State = {}
    for name, network in networks.items():
        chunked = {
            re.sub(r"^blocks\.(\d)", lambda m: f"blocks.{m[1]}.{m[1]}", key): value
            for key, value in network.state_dict().items()
        }
        state |= under(f"{name}.backbone.", chunked | {"mask_token": torch.zeros(1, 64)})
        state |= under(f"{name}.dino_head.", head("mlp.0.weight", "last_layer.weight_g"))
        state |= under(f"{name}.ibot_head.", head("mlp.0.weight"))
    state |= {"dino_loss.center": torch.zeros(1, 8), "ibot_patch_loss.center": torch.zeros(1, 1, 8)}
    known: dict[str, Any] = {"objective": "dinov2", "family": "JE"}
    tree = {"model": state, "iteration": 3}
    student = {**HEADS, "branch": "student"}
    return {
        "DINOv2's training": Example(networks["teacher"], tree, options=HEADS, **known),
        "DINOv2's student": Example(networks["student"], tree, options=student, **known),
    }


def dinov3(state: Mapping[str, Tensor]) -> State:
    """DINOv3's own names, with the mask of each bias; the bias of keys is not zero in the file."""
    named = rename(
        state,
        (r"^reg_token$", "storage_tokens"),
        (r"gamma_([12])$", r"ls\1.gamma"),
        (r"mlp\.fc1_g\.", "mlp.w1."),
        (r"mlp\.fc1_x\.", "mlp.w2."),
    )
    for name in [name for name in named if name.endswith("qkv.bias")]:
        mask = torch.ones(len(named[name]))
        mask[64:128] = 0
        named[name] = torch.where(mask == 0, 7.0, named[name])
        named[f"{name}_mask"] = mask
    return named | {"mask_token": torch.zeros(1, 64), "rope_embed.periods": torch.ones(8)}


def _dinov3() -> dict[str, Example]:
    network = without_key_bias(build(ROPE))
    gated = without_key_bias(
        build(RopeShape(ROPE.arch, hidden=96, registers=4, gated=True), seed=1)
    )
    state = dinov3(network.state_dict())
    second = {k.replace("fc2", "w3"): v for k, v in dinov3(gated.state_dict()).items()}
    crops = head("local_cls_norm.weight", "local_cls_norm.bias")
    known: dict[str, Any] = {"objective": "dinov3", "family": "JE"}
    broken = {k: v * float("nan") if k.endswith("bias_mask") else v for k, v in state.items()}
    return {
        "released": Example(network, state, **known),
        "gated": Example(gated, second | crops, **known),
        "masks that were never set": Example(network, {"teacher": broken}, **known),
    }


def _hf_dinov3() -> dict[str, Example]:
    network = without_key_bias(build(RopeShape(WIDE_224, hidden=96, registers=3)))
    state = rename(
        split(network.state_dict(), ("q_proj", "k_proj", "v_proj"), bias="qv"),
        (r"^cls_token$", "embeddings.cls_token"),
        (r"^reg_token$", "embeddings.register_tokens"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings."),
        (r"^blocks\.", "layer."),
        (r"\.attn\.proj\.", ".attention.o_proj."),
        (r"\.attn\.", ".attention."),
        (r"gamma_([12])$", r"layer_scale\1.lambda1"),
        (r"mlp\.fc1\.", "mlp.up_proj."),
        (r"mlp\.fc2\.", "mlp.down_proj."),
    )
    state |= {"embeddings.mask_token": torch.zeros(1, 1, 64)}
    known: dict[str, Any] = {"objective": "dinov3", "family": "JE", "options": TWO}
    nested = {name.replace("layer.", "model.layer.", 1): v for name, v in state.items()}
    nested = {
        name.replace("model.layer_scale", "layer_scale"): value for name, value in nested.items()
    }
    return {
        "model": Example(network, state, header={"format": "pt"}, **known),
        "version 5's names": Example(network, nested, header={"format": "pt"}, **known),
    }


WIDE_224 = ViTArch(image_size=224, patch_size=16, dim=64, blocks=2, heads=2)

# ------------------------------------------------------------------------------------------------
# BEiT, SimMIM


def beit(state: Mapping[str, Tensor]) -> State:
    named = {}
    for name, value in state.items():
        if name.endswith("attn.qkv.bias"):
            query, _, third = value.chunk(3)
            named |= {name.replace("qkv.bias", "q_bias"): query.clone()}
            named |= {name.replace("qkv.bias", "v_bias"): third.clone()}
        else:
            named[name] = value
    return named


def _beit() -> dict[str, Example]:
    network = without_key_bias(build(BEIT))
    shared = without_key_bias(build(BeitShape(WIDE, hidden=96, relative="shared"), seed=1))
    bare = without_key_bias(build(BeitShape(WIDE, hidden=96, norm=False), seed=2))
    index = {"blocks.0.attn.relative_position_index": torch.zeros(10, 10, dtype=torch.long)}
    tuned = beit(bare.state_dict()) | index
    tuned |= head("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
    words = head("mask_token", "lm_head.weight", "lm_head.bias")
    second = beit(network.state_dict()) | words
    second |= head("cls_pt_layers.0.attn.q_bias", "cls_pt_layers.0.norm1.weight")
    known: dict[str, Any] = {"family": "REC"}
    pretrained = {"model": beit(shared.state_dict()) | words}
    return {
        "pre-trained": Example(shared, pretrained, "beit", **known),
        "BEiT v2": Example(network, {"module": second}, "beitv2", **known),
        "fine-tuned": Example(bare, {"model": tuned}, None, tuned="fine-tuned"),
    }


def _simmim() -> dict[str, Example]:
    network = without_key_bias(build(BeitShape(WIDE, hidden=96, relative="shared")))
    state = under("encoder.", beit(network.state_dict()) | head("mask_token"))
    index = {"encoder.rel_pos_bias.relative_position_index": torch.zeros(10, 10).long()}
    tree = {"model": state | index | head("decoder.0.weight", "decoder.0.bias"), **training()}
    return {"pre-training": Example(network, tree, "simmim", family="REC")}


def _hf_beit() -> dict[str, Example]:
    network = without_key_bias(build(BEIT))
    table = "relative_position_bias_table"
    state = rename(
        split(network.state_dict(), ("query", "key", "value"), bias="qv"),
        (r"^cls_token$", "embeddings.cls_token"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^norm\.", "layernorm."),
        (r"^blocks\.", "encoder.layer."),
        (rf"\.attn\.{table}", f".attention.attention.relative_position_bias.{table}"),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.attn\.", ".attention.attention."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
        (r"gamma_([12])$", r"lambda_\1"),
    )
    words = head("lm_head.weight", "lm_head.bias")
    moved = {f"beit.{name}": value for name, value in state.items()} | words
    return {
        "model": Example(network, state | head("embeddings.mask_token"), None),
        "with its head": Example(network, moved, "beit", family="REC"),
    }


# ------------------------------------------------------------------------------------------------
# CLIP and SigLIP


def hf_tower(state: Mapping[str, Tensor]) -> State:
    named = rename(
        split(state, ("q_proj", "k_proj", "v_proj")),
        (r"^cls_token$", "embeddings.class_embedding"),
        (r"^pos_embed$", "embeddings.position_embedding.weight"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
        (r"^norm_pre\.", "pre_layrnorm."),
        (r"^norm\.", "post_layernorm."),
        (r"^blocks\.", "encoder.layers."),
        (r"\.attn\.proj\.", ".self_attn.out_proj."),
        (r"\.attn\.", ".self_attn."),
        (r"\.norm([12])\.", r".layer_norm\1."),
    )
    for name in ("embeddings.class_embedding", "embeddings.position_embedding.weight"):
        if name in named:
            named[name] = named[name][0, 0] if "class" in name else named[name][0]
    return under("vision_model.", named)


def _hf_clip() -> dict[str, Example]:
    network, other = build(CLIP), build(SIGLIP, seed=1)
    tower = hf_tower(network.state_dict())
    ids = {"vision_model.embeddings.position_ids": torch.arange(10)[None]}
    text = head("text_model.embeddings.token_embedding.weight", "text_projection.weight")
    text |= head("visual_projection.weight") | {"logit_scale": torch.tensor(4.6)}
    sig = hf_tower(other.state_dict()) | {"logit_bias": torch.zeros(1)}
    sig |= head("vision_model.head.probe", "vision_model.head.attention.in_proj_weight")
    sig |= head("text_model.final_layer_norm.weight")
    known: dict[str, Any] = {"family": "language-image", "options": TWO}
    return {
        "CLIP": Example(network, tower | ids | text, "clip", header={"format": "pt"}, **known),
        "the tower": Example(network, tower, "clip", **known),
        "SigLIP": Example(other, sig, "siglip", header={"format": "pt"}, **known),
    }


def openai_tower(state: Mapping[str, Tensor]) -> State:
    named = rename(
        state,
        (r"^cls_token$", "class_embedding"),
        (r"^pos_embed$", "positional_embedding"),
        (r"^patch_embed\.proj\.", "conv1."),
        (r"^norm_pre\.", "ln_pre."),
        (r"^norm\.", "ln_post."),
        (r"^blocks\.", "transformer.resblocks."),
        (r"\.attn\.qkv\.", ".attn.in_proj_"),
        (r"\.attn\.proj\.", ".attn.out_proj."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.mlp\.fc1\.", ".mlp.c_fc."),
        (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    )
    named["class_embedding"] = named["class_embedding"][0, 0]
    named["positional_embedding"] = named["positional_embedding"][0]
    return under("visual.", named | head("proj"))


def _open_clip() -> dict[str, Example]:
    plain = ViTShape(WIDE, hidden=96, pre_norm=True, eps=1e-5)
    network, openai = build(plain), build(CLIP, seed=1)
    text = head("transformer.resblocks.0.ln_1.weight", "token_embedding.weight", "ln_final.bias")
    text |= head("positional_embedding", "text_projection") | {"logit_scale": torch.tensor(4.6)}
    numbers = {
        name: torch.tensor(48) for name in ("input_resolution", "context_length", "vocab_size")
    }
    training_file = under("module.", openai_tower(network.state_dict()) | text)
    known: dict[str, Any] = {"family": "language-image", "options": TWO}
    tree = {"state_dict": training_file, "name": "run", **training()}
    return {
        "training": Example(network, tree, "clip", **known),
        "OpenAI's": Example(
            openai, openai_tower(openai.state_dict()) | text | numbers, "clip", **known
        ),
    }


# ------------------------------------------------------------------------------------------------
# ConvNeXt, torchvision


def authors_convnext(state: Mapping[str, Tensor]) -> State:
    return rename(
        state,
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"\.mlp\.fc", ".pwconv"),
    )


def _convnext() -> dict[str, Example]:
    network = build(FIRST)
    larger = ConvNeXtShape(FIRST.blocks, FIRST.widths, image_size=256)
    dino = build(larger, seed=1)
    state = authors_convnext(network.state_dict())
    norms = head("norm.weight", "norm.bias")
    twice = norms | head("norms.3.weight", "norms.3.bias")
    tuned = {"model": state | norms | head("head.weight", "head.bias")}
    return {
        "supervised": Example(network, tuned, None, tuned="fine-tuned"),
        "DINOv3": Example(dino, authors_convnext(dino.state_dict()) | twice, "dinov3", family="JE"),
    }


def _hf_convnext() -> dict[str, Example]:
    network = build(FIRST)
    state = rename(
        network.state_dict(),
        (r"^stem\.0\.", "embeddings.patch_embeddings."),
        (r"^stem\.1\.", "embeddings.layernorm."),
        (r"^stages\.(\d)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
        (r"^stages\.(\d)\.blocks\.", r"encoder.stages.\1.layers."),
        (r"(layers\.\d)\.conv_dw\.", r"\1.dwconv."),
        (r"(layers\.\d)\.norm\.", r"\1.layernorm."),
        (r"\.mlp\.fc", ".pwconv"),
        (r"\.gamma$", ".layer_scale_parameter"),
    )
    dino = rename(
        network.state_dict(),
        (r"^stem\.", "stages.0.downsample_layers."),
        (r"\.downsample\.", ".downsample_layers."),
        (r"\.blocks\.", ".layers."),
        (r"\.conv_dw\.", ".depthwise_conv."),
        (r"\.norm\.", ".layer_norm."),
        (r"\.mlp\.fc", ".pointwise_conv"),
    )
    tuned = under("convnext.", state | head("layernorm.weight")) | head("classifier.weight")
    after = head("layer_norm.weight", "layer_norm.bias")
    nested = under("model.", dino) | after
    known: dict[str, Any] = {"objective": "dinov3", "family": "JE"}
    return {
        "with a classifier": Example(network, tuned, None, tuned="fine-tuned"),
        "DINOv3": Example(network, dino | after, **known),
        "DINOv3, version 5's names": Example(network, nested, **known),
    }


def _torchvision() -> dict[str, Example]:
    network, convnext = build(ViTShape(WIDE, hidden=96)), build(FIRST, seed=1)
    state = rename(
        network.state_dict(),
        (r"^cls_token$", "class_token"),
        (r"^pos_embed$", "encoder.pos_embedding"),
        (r"^patch_embed\.proj\.", "conv_proj."),
        (r"^norm\.", "encoder.ln."),
        (r"^blocks\.(\d)\.", r"encoder.layers.encoder_layer_\1."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
        (r"\.attn\.proj\.", ".self_attention.out_proj."),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.3."),
    )
    older = rename(state, (r"mlp\.0\.", "mlp.linear_1."), (r"mlp\.3\.", "mlp.linear_2."))
    features = rename(
        convnext.state_dict(),
        (r"^stem\.", "features.0."),
        (r"\.conv_dw\.", ".block.0."),
        (r"\.blocks\.(\d)\.norm\.", r".blocks.\1.block.2."),
        (r"\.mlp\.fc1\.", ".block.3."),
        (r"\.mlp\.fc2\.", ".block.5."),
        (r"\.gamma$", ".layer_scale"),
    )
    for stage in range(4):
        features = rename(
            features,
            (rf"^stages\.{stage}\.downsample\.", f"features.{2 * stage}."),
            (rf"^stages\.{stage}\.blocks\.", f"features.{2 * stage + 1}."),
        )
    features = {n: v[:, None, None] if "layer_scale" in n else v for n, v in features.items()}
    labels = head("classifier.0.weight", "classifier.2.weight")
    known: dict[str, Any] = {"objective": None, "tuned": "fine-tuned"}
    return {
        "ViT": Example(network, state | head("heads.head.weight"), options=TWO, **known),
        "older ViT": Example(network, older, None, options=TWO),
        "ConvNeXt": Example(convnext, features | labels, **known),
    }


# ------------------------------------------------------------------------------------------------
# ResNets of the first joint embeddings


def resnets() -> tuple[nn.Module, nn.Module]:
    return trained(RESNET.build(1), 1), trained(RESNET.build(2), 2)


def _moco() -> dict[str, Example]:
    query, key = resnets()
    tree: dict[str, State] = {}
    for version, mlp in (("v1", head("fc.weight", "fc.bias")), ("v2", head("fc.0.bias"))):
        mlp = mlp | (head("fc.2.weight") if version == "v2" else {})
        state = under("module.encoder_q.", query.state_dict() | mlp)
        state |= under("module.encoder_k.", key.state_dict() | mlp)
        tree[version] = state | head("module.queue") | {"module.queue_ptr": torch.zeros(1).long()}
    momentum = {"branch": "encoder_k"}
    v2 = {"state_dict": tree["v2"], "arch": "resnet50", **training()}
    return {
        "v1": Example(query, {"state_dict": tree["v1"], "epoch": 200}, "moco", family="JE"),
        "v2": Example(query, v2, "moco-v2", family="JE"),
        "v2, of keys": Example(key, v2, "moco-v2", family="JE", options=momentum),
    }


def _swav() -> dict[str, Example]:
    network, _ = resnets()
    mlp = head("projection_head.0.weight", "projection_head.1.running_mean")
    plain = under("module.", network.state_dict() | mlp | head("prototypes.weight"))
    sets = head("prototypes.prototypes0.weight", "prototypes.prototypes1.weight")
    return {
        "released": Example(network, plain, "swav", family="JE"),
        "training": Example(network, {"state_dict": plain, **training()}, "swav", family="JE"),
        "DeepCluster-v2": Example(
            network,
            under("module.", network.state_dict() | mlp | sets),
            "deepcluster-v2",
            family="JE",
        ),
    }


def _byol() -> dict[str, Example]:
    online, target = resnets()
    state = under("online_encoder.net.", online.state_dict() | head("fc.weight"))
    state |= under("target_encoder.net.", target.state_dict() | head("fc.weight"))
    state |= head("online_encoder.projector.0.weight", "online_predictor.0.weight")
    state |= head("target_encoder.projector.0.weight")
    wanted = {"branch": "target_encoder"}
    bare = {name: value for name, value in state.items() if ".net." in name}
    own = under("module.online.backbone.", online.state_dict())
    own |= under("module.momentum.backbone.", target.state_dict())
    own |= head("module.online.projector.0.weight", "module.momentum.projector.0.weight")
    own |= head("module.predictor.0.weight")
    twin = {"branch": "momentum"}
    alone = {name: value for name, value in own.items() if "predictor" not in name}
    return {
        "a projector and no predictor": Example(online, alone, None),
        "an own loop's, in DDP": Example(online, own, "byol", family="JE"),
        "an own loop's momentum network": Example(target, own, "byol", family="JE", options=twin),
        "names alone": Example(online, bare, None),
        "online": Example(online, state, "byol", family="JE"),
        "target": Example(target, state, "byol", family="JE", options=wanted),
    }


def _simclr() -> dict[str, Example]:
    network, _ = resnets()
    state = under("backbone.", network.state_dict() | head("fc.0.weight", "fc.2.weight"))
    return {
        "training": Example(network, {"state_dict": state, **training()}, "simclr", family="JE")
    }


def _simsiam() -> dict[str, Example]:
    network, _ = resnets()
    mlp = head("fc.0.weight", "fc.3.weight", "fc.6.weight")
    state = under("module.encoder.", network.state_dict() | mlp) | head("module.predictor.0.weight")
    tree = {"state_dict": state, **training()}
    return {"training": Example(network, tree, "simsiam", family="JE")}


def _barlow() -> dict[str, Example]:
    network, _ = resnets()
    state = under("module.backbone.", network.state_dict())
    state |= head("module.projector.0.weight", "module.bn.running_mean")
    tree = {"model": state, **training()}
    return {"full": Example(network, tree, "barlow-twins", family="JE")}


def _vicreg() -> dict[str, Example]:
    network, _ = resnets()
    state = under("module.backbone.", network.state_dict())
    state |= under("module.projector.", head("0.weight", "0.bias", "1.running_mean", "6.weight"))
    return {"full": Example(network, {"model": state, **training()}, "vicreg", family="JE")}


# ------------------------------------------------------------------------------------------------
# trainers


def sequence(state: Mapping[str, Tensor]) -> State:
    """A ResNet as nn.Sequential(*list(resnet.children())[:-1])."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return {
        f"{numbers[name.split('.')[0]]}.{name.split('.', 1)[1]}": value
        for name, value in state.items()
    }


def _solo() -> dict[str, Example]:
    network, momentum = vit("learned", 1), vit("learned", 2)
    state = under("backbone.", network.state_dict())
    state |= head("projector.0.weight", "classifier.weight", "classifier.bias", "predictor.0.bias")
    twins = state | under("momentum_backbone.", momentum.state_dict())
    twins |= head("momentum_projector.0.weight", "momentum_classifier.weight", "queue")
    known: dict[str, Any] = {"objective": None, "family": "JE"}
    backbone = {**HEADS, "branch": "backbone"}
    return {
        "SimSiam": Example(network, {"state_dict": state, **LIGHTNING}, options=HEADS, **known),
        "BYOL": Example(momentum, {"state_dict": twins, **LIGHTNING}, options=HEADS, **known),
        "BYOL's trained network": Example(
            network, {"state_dict": twins, **LIGHTNING}, options=backbone, **known
        ),
    }


def _lightly() -> dict[str, Example]:
    network, momentum = resnets()
    state = under("backbone.", sequence(network.state_dict()))
    twins = state | under("backbone_momentum.", sequence(momentum.state_dict()))
    twins |= head("projection_head.layers.0.weight", "projection_head_momentum.layers.0.weight")
    twins |= head("prediction_head.layers.0.weight")
    alone = state | head("projection_head.layers.0.weight", "criterion.memory_bank.bank")
    return {
        "BYOL": Example(momentum, {"state_dict": twins, **LIGHTNING}, None),
        "SimCLR": Example(network, alone, None),
    }


def _lightly_train() -> dict[str, Example]:
    teacher, student = vit("learned", 1), vit("learned", 2)
    inside = "embedding_model.wrapped_model._model."
    state = under(f"teacher_{inside}", teacher.state_dict())
    state |= under(f"student_{inside}", student.state_dict())
    state |= head("teacher_projection_head.mlp.0.weight", "student_projection_head.mlp.0.weight")
    state |= head("criterion.center.center", "student_embedding_model.embed_head.weight")
    return {"DINO": Example(teacher, {"state_dict": state, **LIGHTNING}, None, options=HEADS)}


def _stable_pretraining() -> dict[str, Example]:
    teacher, student = vit("learned", 1), vit("learned", 2)
    state = under("backbone.teacher.", teacher.state_dict())
    state |= under("backbone.student.", student.state_dict())
    state |= head("projector.teacher.0.weight", "predictor.0.weight")
    state |= head("callbacks_modules.linear_probe.weight", "callbacks_metrics.top1.tp")
    one = under("backbone.", student.state_dict()) | head("callbacks_modules.knn.weight")
    wrapped = {"state_dict": state, **LIGHTNING}
    return {
        "BYOL": Example(teacher, wrapped, None, options=HEADS),
        "one network": Example(student, {"state_dict": one}, None, options=HEADS),
    }


def _lightning() -> dict[str, Example]:
    network, average = vit("learned", 1), vit("learned", 2)
    state = under("model.", network.state_dict()) | head("projection.0.weight", "val_metric.total")
    twins = under("net.", network.state_dict()) | under("ema_net.", average.state_dict())
    plain = under("backbone.", network.state_dict())
    compiled = {
        name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."): value
        for name, value in under(
            "_orig_mod.model._fsdp_wrapped_module.", network.state_dict()
        ).items()
    }
    return {
        "one network": Example(network, {"state_dict": state, **LIGHTNING}, None, options=HEADS),
        "with an average": Example(
            average, {"state_dict": twins, **LIGHTNING}, None, options=HEADS
        ),
        "compiled and sharded": Example(
            network, {"state_dict": compiled, **LIGHTNING}, None, options=HEADS
        ),
        # also what SimCLR of solo-learn is: no family is told
        "supervised, with a projector": Example(
            network,
            {"state_dict": plain | linear("classifier") | head("projector.0.weight"), **LIGHTNING},
            None,
            options=HEADS,
        ),
        **{
            f"supervised, with {name}": Example(
                network, {"state_dict": plain | linear(name), **LIGHTNING}, None, options=HEADS
            )
            for name in ("classifier", "fc", "to_labels")
        },
    }


def linear(name: str) -> State:
    """A linear layer of 5 outputs."""
    return {f"{name}.weight": torch.ones(5, 64), f"{name}.bias": torch.zeros(5)}


#: by the layout's name; that of DINO has more in `checkpoints`
RELEASED: dict[str, Callable[[], dict[str, Example]]] = {
    "dinov3": _dinov3,
    "hf-dinov3": _hf_dinov3,
    "beit": _beit,
    "simmim": _simmim,
    "hf-beit": _hf_beit,
    "hf-clip": _hf_clip,
    "open-clip": _open_clip,
    "convnext": _convnext,
    "hf-convnext": _hf_convnext,
    "torchvision": _torchvision,
    "moco": _moco,
    "swav": _swav,
    "byol": _byol,
    "simclr": _simclr,
    "simsiam": _simsiam,
    "barlow-twins": _barlow,
    "vicreg": _vicreg,
    "solo-learn": _solo,
    "lightly": _lightly,
    "lightly-train": _lightly_train,
    "stable-pretraining": _stable_pretraining,
    "lightning": _lightning,
}
