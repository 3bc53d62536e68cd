"""Checkpoint files as the methods' authors write them, small, made from networks whose outputs are
known."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from released import RELEASED, make_dinov2
from sslens import zoo
from sslens.models.detection.heads import Heads
from sslens.models.detection.settings import HeadSettings
from sslens.models.pyramid import Pyramid
from sslens.models.vit import describe
from sslens.zoo.shapes import ViTShape
from sslens.zoo.windows import Windows
from stages import STAGES
from written import CONVNEXT as CONVNEXT
from written import HEADS as HEADS
from written import RESNET as RESNET
from written import VIT as VIT
from written import Example, State, head, trained, training, under, vit

DETECTOR = HeadSettings(channels=8, hidden=16, candidates=(50, 50), proposals=20, regions=16)
DECODER = (
    "decoder_embed.weight",
    "decoder_blocks.0.norm1.weight",
    "decoder_pred.bias",
    "mask_token",
    "decoder_pos_embed",
)


def _mae() -> dict[str, Example]:
    network = vit()
    state = network.state_dict()
    tuned = vit(seed=3)
    moved = {**tuned.state_dict(), "pos_embed": tuned.state_dict()["pos_embed"] + 0.05}
    tuned.load_state_dict(moved)
    averaged = {name: value for name, value in moved.items() if not name.startswith("norm.")}
    averaged |= head("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
    probe = head("head.0.running_mean", "head.0.running_var", "head.1.weight", "head.1.bias")
    known = {"objective": "mae", "family": "REC", "options": HEADS}
    without_norm = trained(VIT.build(3), 3)
    without_norm.norm = nn.Identity()
    without_norm.load_state_dict(
        {name: value for name, value in moved.items() if not name.startswith("norm.")}
    )
    return {
        "encoder": Example(network, {"model": state}, **known),
        "full": Example(network, {"model": state | head(*DECODER)}, **known),
        "training": Example(
            network,
            {"model": state | head(*DECODER), **training(), "scaler": {"scale": 1.0}},
            **known,
        ),
        "fine-tuned": Example(without_norm, {"model": averaged}, tuned="fine-tuned", **known),
        "fine-tuned on CLS": Example(
            tuned, {"model": moved | head("head.weight")}, tuned="fine-tuned", **known
        ),
        "probed": Example(network, {"model": state | probe, **training()}, tuned="linear", **known),
    }


def _moco() -> dict[str, Example]:
    base, momentum = vit("moco-v3", 1), vit("moco-v3", 2)
    projector = head("head.0.weight", "head.1.running_mean", "head.6.weight")
    both = under("module.base_encoder.", base.state_dict() | projector)
    both |= under("module.momentum_encoder.", momentum.state_dict() | projector) | head(
        "module.predictor.0.weight"
    )
    file = {"epoch": 300, "arch": "vit_base", "state_dict": both}
    resnet, other = trained(RESNET.build(1), 1), trained(RESNET.build(2), 2)
    fc = head("fc.0.weight", "fc.1.weight")
    cnns = under("module.base_encoder.", resnet.state_dict() | fc)
    cnns |= under("module.momentum_encoder.", other.state_dict() | fc) | head(
        "module.predictor.3.weight"
    )
    alone = base.state_dict()
    known = {"objective": "moco-v3", "family": "JE"}
    probed = {
        "state_dict": under("module.", alone | head("head.weight", "head.bias")),
        "best_acc1": torch.tensor(76.5),
    }
    return {
        "released": Example(base, file, options=HEADS, **known),
        "training": Example(base, file | training(), options=HEADS, **known),
        "momentum": Example(
            momentum, file, options={**HEADS, "branch": "momentum_encoder"}, **known
        ),
        "ResNet": Example(resnet, {"state_dict": cnns, **training()}, **known),
        "ResNet, momentum": Example(
            other, {"state_dict": cnns}, options={"branch": "momentum"}, **known
        ),
        "for DeiT": Example(base, {"model": alone}, options=HEADS, **known),
        "probed": Example(base, probed, tuned="linear", options=HEADS, **known),
    }


def _dino() -> dict[str, Example]:
    teacher, student = vit("learned", 1), vit("learned", 2)
    mlp = head("head.mlp.0.weight", "head.last_layer.weight_g", "head.last_layer.weight_v")
    full = {
        "student": under("module.", under("backbone.", student.state_dict()) | mlp),
        "teacher": under("backbone.", teacher.state_dict()) | mlp,
        "dino_loss": {"center": torch.zeros(1, 8)},
        "fp16_scaler": {"scale": 1.0},
        **training(),
    }
    resnet, other = trained(RESNET.build(1), 1), trained(RESNET.build(2), 2)
    cnns = {
        "student": under("module.backbone.", other.state_dict()) | under("module.", mlp),
        "teacher": under("module.backbone.", resnet.state_dict()) | under("module.", mlp),
        "dino_loss": {"center": torch.zeros(1, 8)},
    }
    known = {"objective": "dino", "family": "JE"}
    masked = {**full, "ibot_loss": {"center": torch.zeros(1, 8)}}
    bare = {
        "student": under("module.", student.state_dict()),
        "teacher": teacher.state_dict(),
        **training(),
    }
    masked["student"] = {**full["student"], **head("module.backbone.masked_embed")}
    return {
        "full": Example(teacher, full, options=HEADS, **known),
        "student": Example(student, full, options={**HEADS, "branch": "student"}, **known),
        "ResNet": Example(resnet, cnns, **known),
        "names alone": Example(teacher, bare, None, options=HEADS),
        "iBOT": Example(teacher, masked, objective="ibot", family="JE", options=HEADS),
        **make_dinov2(),
    }


def _msn() -> dict[str, Example]:
    target, anchor = vit("learned", 1), vit("learned", 2)
    fc = head("fc.fc1.weight", "fc.bn1.running_mean", "fc.fc3.bias")
    file = {
        "encoder": under("module.", anchor.state_dict() | fc),
        "target_encoder": under("module.", target.state_dict() | fc),
        "prototypes": torch.zeros(8, 4),
        "opt": training()["optimizer"],
        "epoch": 600,
        "loss": 3.2,
    }
    known = {"objective": "msn", "family": "JE"}
    bare = {
        name: value for name, value in target.state_dict().items() if not name.startswith("norm.")
    }
    without_norm = vit("learned", 1)
    without_norm.norm = nn.Identity()
    probe = {
        "target_encoder": under("module.", bare),
        "classifier": head("module.fc.weight"),
        "epoch": 3,
    }
    return {
        "released": Example(target, file, options=HEADS, **known),
        "anchor": Example(anchor, file, options={**HEADS, "branch": "encoder"}, **known),
        "without DDP": Example(
            target, {"target_encoder": target.state_dict() | fc}, options=HEADS, **known
        ),
        "probed": Example(without_norm, probe, tuned="linear", options=HEADS, **known),
    }


def _ijepa() -> dict[str, Example]:
    anchor = vit("learned", 2)
    shape = ViTShape(VIT, hidden=4 * VIT.dim, cls=False, cls_positions=False)
    patches: nn.Module = shape.empty().to_empty(device="cpu")
    for parameter in patches.parameters():
        nn.init.zeros_(parameter)
    trained(patches)
    jepa = {
        "encoder": under("module.", anchor.state_dict()),
        "target_encoder": under("module.", patches.state_dict()),
        "predictor": under(
            "module.", head("predictor_embed.weight", "predictor_blocks.0.norm1.weight")
        ),
        "epoch": 300,
    }
    return {"released": Example(patches, jepa, objective="ijepa", family="JE", options=HEADS)}


def detector(prefix: str = "backbone.") -> tuple[nn.Module, State]:
    """A small ViTDet with windows of 2 patches but in its last block, and its whole state in
    detectron2's names."""
    shape = ViTShape(
        VIT, hidden=4 * VIT.dim, norm=False, windows=Windows(2, (1,), rows=4, columns=4, head=16)
    )
    network: nn.Module = shape.empty().to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.05)
    trained(network)
    pyramid = trained(Pyramid(VIT.dim, VIT.patch_size, DETECTOR.channels))
    levels = {f"{prefix}simfp_{k[1:]}": value for k, value in pyramid.state_dict().items()}
    heads = trained(Heads(DETECTOR, 3, pyramid.strides))
    return network, under(f"{prefix}net.", network.state_dict()) | levels | heads.state_dict()


def _vitdet() -> dict[str, Example]:
    network, state = detector()
    known = {"objective": None, "tuned": "fine-tuned"}
    file = {"model": state, "iteration": 184374, **training()}
    colours = {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    return {
        "training": Example(network, file, **known),
        "weights": Example(network, state | colours, **known),
        "DDP": Example(network, {"model": under("module.", state)}, **known),
    }


def theirs(state: Mapping[str, Tensor]) -> State:
    """A ConvNeXt-V2 in its authors' names, from timm's; GRN as [1, 1, 1, 4C]."""
    named = {}
    for name, value in state.items():
        into = (
            name.replace("stem.", "downsample_layers.0.")
            .replace(".conv_dw.", ".dwconv.")
            .replace(".mlp.fc", ".pwconv")
        )
        into = (
            into.replace(".mlp.grn.weight", ".grn.gamma")
            .replace(".mlp.grn.bias", ".grn.beta")
            .replace(".blocks.", ".")
        )
        if ".downsample." in into:
            stage, place = into.removeprefix("stages.").split(".downsample.")
            into = f"downsample_layers.{stage}.{place}"
        named[into] = value[None, None, None] if ".grn." in into else value
    return named


def sparse(state: Mapping[str, Tensor]) -> State:
    """The same as it is trained: sparse convolutions, whose kernels' places run through the columns
    first, a place at a time."""
    named = {}
    for name, value in theirs(state).items():
        start, _, leaf = name.rpartition(".")
        if name.startswith("downsample_layers.0."):  # the stem is dense
            named[name] = value
        elif ".grn." in name:
            named[name] = value.reshape(1, -1)
        elif value.ndim == 4:
            out, into, side, _ = value.shape
            kernel = torch.empty(side * side, into, out)
            for y in range(side):
                for x in range(side):
                    kernel[x * side + y] = value[:, :, y, x].T
            named[f"{start}.kernel"] = kernel[:, 0] if ".dwconv." in name else kernel
        elif ".pwconv" in name:
            named[f"{start}.linear.{leaf}"] = value
        elif ".norm." in name or (
            name.startswith("downsample_layers") and name.split(".")[2] == "0"
        ):
            named[f"{start}.ln.{leaf}"] = value
        else:
            named[name] = value[None]  # biases of sparse convolutions
    return named


def _fcmae() -> dict[str, Example]:
    network, average = trained(CONVNEXT.build(1), 1), trained(CONVNEXT.build(2), 2)
    state = network.state_dict()
    flat = {n: v.reshape(1, -1) if ".grn." in n else v for n, v in theirs(state).items()}
    decoder = head("decoder.0.dwconv.weight", "proj.weight", "pred.bias", "mask_token")
    tuned = theirs(state) | head("norm.weight", "norm.bias", "head.weight", "head.bias")
    known = {"objective": "fcmae", "family": "REC"}
    both = {
        "model": tuned,
        "model_ema": theirs(average.state_dict()) | head("norm.weight", "head.weight"),
    }
    return {
        "dense": Example(network, {"model": theirs(state)}, **known),
        "dense, GRN of two dimensions": Example(network, {"model": flat}, **known),
        "sparse": Example(
            network, {"model": under("encoder.", sparse(state)) | decoder, **training()}, **known
        ),
        "sparse, encoder only": Example(network, {"model": sparse(state)}, **known),
        "fine-tuned": Example(network, {"model": tuned}, tuned="fine-tuned", **known),
        "fine-tuned, average": Example(
            average, both, tuned="fine-tuned", options={"branch": "model_ema"}, **known
        ),
    }


def _timm() -> dict[str, Example]:
    network, resnet, convnext = (
        vit("learned"),
        trained(RESNET.build(1), 1),
        trained(CONVNEXT.build(1), 1),
    )
    labels = {"tuned": "fine-tuned"}
    convolved = {
        n: v[..., None, None] if n.endswith((".fc1.weight", ".fc2.weight")) else v
        for n, v in convnext.state_dict().items()
    }
    return {
        "DINO's backbone": Example(network, network.state_dict(), None, options=HEADS),
        "DeiT": Example(
            network,
            {"model": network.state_dict() | head("head.weight", "head.bias")},
            None,
            options=HEADS,
            **labels,
        ),
        "torchvision": Example(
            resnet, resnet.state_dict() | head("fc.weight", "fc.bias"), None, **labels
        ),
        "ConvNeXt-V2": Example(
            convnext,
            convolved | head("head.norm.weight", "head.fc.weight", "head.fc.bias"),
            None,
            **labels,
        ),
        "safetensors": Example(
            network, network.state_dict(), None, options=HEADS, header={"format": "pt"}
        ),
    }


def hugging(state: Mapping[str, Tensor], layer_scale: bool = False) -> State:
    """A ViT in the names of Hugging Face's transformers: queries, keys and values apart."""
    outside = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    inside = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
    }
    inside |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
    named = {}
    for name, value in state.items():
        start, _, leaf = name.rpartition(".")
        if name in outside or start in outside:
            named[outside[name] if name in outside else f"{outside[start]}.{leaf}"] = value
            continue
        _, number, what = start.split(".", 2)
        if what == "attn.qkv":
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                named[f"encoder.layer.{number}.attention.attention.{part}.{leaf}"] = (
                    piece.contiguous()
                )
        else:
            named[f"encoder.layer.{number}.{inside[what]}.{leaf}"] = value
    return named


def _huggingface() -> dict[str, Example]:
    learned, mae = vit("learned"), vit()
    plain = hugging(learned.state_dict())
    decoder = head("decoder.decoder_embed.weight", "decoder.mask_token")
    tuned = under("vit.", plain) | head("classifier.weight", "classifier.bias")
    known = {"options": HEADS, "header": {"format": "pt"}}
    return {
        "ViTModel": Example(learned, plain | head("pooler.dense.weight"), None, **known),
        "with a classifier": Example(learned, tuned, None, tuned="fine-tuned", options=HEADS),
        "ViTMAE": Example(
            mae,
            under("vit.", hugging(mae.state_dict())) | decoder,
            "mae",
            family="REC",
            options=HEADS,
        ),
    }


def _sslens() -> dict[str, Example]:
    network = vit()
    about = {"family": "JE", "objective": "moco-v3", "arch": None, "epochs": 3}
    return {
        "run": Example(
            network,
            network.state_dict(),
            "moco-v3",
            family="JE",
            header=zoo.make_header("mine", describe(VIT), about),
        )
    }


LAYOUTS: dict[str, Callable[[], dict[str, Example]]] = {
    "mae": _mae,
    "moco-v3": _moco,
    "dino": _dino,
    "msn": _msn,
    "ijepa": _ijepa,
    "vitdet": _vitdet,
    "fcmae": _fcmae,
    "timm": _timm,
    "huggingface": _huggingface,
    "sslens": _sslens,
    **RELEASED,
    **STAGES,
}
#: by the layout's name; made once, so that a test that changes an example copies it first
EXAMPLES = {layout: functools.cache(make) for layout, make in LAYOUTS.items()}


def count(tree: Any) -> int:
    """Tensors in a file, but for an optimiser's."""
    if isinstance(tree, Tensor):
        return 1
    if not isinstance(tree, Mapping) or {"state", "param_groups"} <= set(tree):
        return 0
    return sum(count(value) for value in tree.values())
