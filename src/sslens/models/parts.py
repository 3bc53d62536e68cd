"""The part of a network to which a parameter belongs, told from its name in the spelling of timm,
Hugging Face, torchvision or the authors; and which tensors of a network are no parameters."""

import re
from collections.abc import Mapping

#: what a name says, the first that fits: of "head.mlp.norm" the head, of "attn.q_norm" the norm
_KINDS = {
    "head": r"(^|\.)(heads?\.(?!norm\.)|head_dist\.|classifier\.|fc\.|lm_head\.)",
    "norm": r"norm|(^|\.)(ln|bn|gn|grn)_?\w*\.|(^|_)ln_",
    "embedding": (
        r"(^|\.)(patch_embed|embeddings?|stem|conv_proj)\.|^(encoder\.|backbone\.|visual\.)?conv1\.|pos_embed|"
        r"position_embedding|pos_embedding|cls_token|class_token|class_embedding|reg_token|register_token|dist_token|mask_token"
    ),
    "attention qkv": (
        r"attn\.(qkv|q|k|v|q_bias|k_bias|v_bias)\b|attn\.qkv|[qkv]_proj|in_proj|attention\.(query|key|value)\."
    ),
    "attention projection": r"attn\.proj|attention\.output\.dense|out_proj|o_proj",
    "mlp": (
        r"(^|\.)(mlp|ffn)\.|fc[12]|intermediate\.dense|\.output\.dense|linear[12]|pwconv|c_fc|w12|\.w3\."
    ),
}
_EXPRESSIONS = {kind: re.compile(expression) for kind, expression in _KINDS.items()}
#: a layer with a weight of one axis that is no norm: an activation function that is trained
_ACTIVATION = re.compile(r"(^|\.)\w*(relu|act)\d*$")
#: a normalisation with which a head begins: torchvision's ConvNeXt has "classifier.0"
_BEFORE_HEAD = re.compile(r"(^|\.)(heads?|classifier)\.0$")
_STATISTIC = re.compile(r"(^|[._])(running|moving)_(mean|var|variance)$")
_COUNTER = re.compile(r"(^|\.)num_batches_tracked$")
#: number types of which no weight is, and 8 bits are not among them
_WHOLE = ("int16", "int32", "int64", "uint16", "uint32", "uint64", "bool")
_STAGED = re.compile(r"(?:^|\.)(?:stages\.|layers?\.?)(\d+)\.(?:blocks\.|layers\.)?(\d+)\.")
_BLOCK = re.compile(
    r"(?:^|\.)(?:blocks?|layers?|layer|resblocks|h)\.(?:\d+\.(?=\d+\.))?(?:encoder_layer_)?(\d+)\.(?!downsample)"
)


def find_kind_of_layer(name: str, ndim: int = 2) -> str:
    """Return the kind of layer to which a parameter belongs.

    The kinds are "attention qkv", "attention projection", "mlp", "norm", "embedding", "convolution"
    (a parameter of four axes that is of no other kind), "head", and "other".

    >>> names = ("attn.qkv.weight", "attn.proj.bias", "mlp.fc1.weight", "norm1.bias", "ls1.gamma")
    >>> [find_kind_of_layer(f"blocks.0.{name}") for name in names]
    ['attention qkv', 'attention projection', 'mlp', 'norm', 'other']
    >>> names = ("pos_embed", "patch_embed.proj.weight", "fc_norm.weight", "head.weight")
    >>> [find_kind_of_layer(name) for name in names]
    ['embedding', 'embedding', 'norm', 'head']
    """
    for kind, expression in _EXPRESSIONS.items():
        if expression.search(name):
            return kind
    return "convolution" if ndim == 4 else "other"


def find_kinds_of_layers(axes: Mapping[str, int]) -> dict[str, str]:
    """Return the kind of layer of each parameter of a network, as `find_kind_of_layer` does, with
    normalisations told from their shapes too.

    A layer with a weight of one axis is a normalisation, whatever its name: "layer2.0.downsample.1"
    of a ResNet is, and so is "features.0.1" of torchvision's ConvNeXt. Layers of the head stay the
    head's, except for a normalisation with which it begins.

    Args:
        axes: the number of axes of each parameter, by name.

    >>> axes = {"layer2.0.downsample.0.weight": 4, "layer2.0.downsample.1.weight": 1}
    >>> list(find_kinds_of_layers(axes | {"layer2.0.downsample.1.bias": 1}).values())
    ['convolution', 'norm', 'norm']
    """
    layers = {
        name.removesuffix(".weight")
        for name, ndim in axes.items()
        if ndim == 1 and name.endswith(".weight")
    }
    norms = {layer for layer in layers if not _ACTIVATION.search(layer)}
    kinds = {name: find_kind_of_layer(name, ndim) for name, ndim in axes.items()}
    return {
        name: "norm" if layer in norms and (kind != "head" or _BEFORE_HEAD.search(layer)) else kind
        for name, kind in kinds.items()
        for layer in [name.rpartition(".")[0]]
    }


def find_buffer(name: str, number_type: str = "float32") -> str:
    """Return which buffer a tensor of a network is: "statistics" for the running mean and variance
    of a batch normalisation, "counter" for whole numbers, such as the batches that it counted; ""
    for a parameter, which is trained.

    Args:
        name: the tensor's name.
        number_type: the tensor's number type, as torch calls it without "torch.".

    >>> [find_buffer(f"bn1.{name}") for name in ("weight", "running_var", "num_batches_tracked")]
    ['', 'statistics', 'counter']
    >>> find_buffer("embeddings.position_ids", "int64")
    'counter'
    """
    if _STATISTIC.search(name):
        return "statistics"
    return "counter" if _COUNTER.search(name) or number_type in _WHOLE else ""


def find_block(name: str) -> str | None:
    """Return the number of the block in which a parameter is, as "stage.block" where blocks are
    counted by stage; None where it is in no block.

    >>> hugging_face = "encoder.layer.3.attention.output.dense.weight"
    >>> find_block("blocks.11.mlp.fc1.bias"), find_block(hugging_face), find_block("norm.weight")
    ('11', '3', None)
    >>> names = ("stages.2.blocks.5.norm.weight", "layer1.0.conv2.weight", "stem.0.bias")
    >>> tuple(find_block(name) for name in names)
    ('2.5', '1.0', None)
    """
    staged = _STAGED.search(name)
    if staged and not name.startswith("blocks."):
        return f"{staged[1]}.{staged[2]}"
    found = _BLOCK.search(name)
    return found[1] if found else None
