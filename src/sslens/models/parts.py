"""The part of a network to which a parameter belongs, told from its name in the spelling of timm,
Hugging Face, torchvision or the authors."""

import re

#: what a name says, the first that fits: of "head.norm" the head, of "attn.q_norm" the norm
_KINDS = {
    "head": r"(^|\.)(heads?|head_dist|classifier|fc|lm_head)\.",
    "embedding": (
        r"(^|\.)(patch_embed|embeddings?|stem|conv_proj)\.|^(encoder\.|backbone\.|visual\.)?conv1\.|pos_embed|"
        r"position_embedding|pos_embedding|cls_token|class_token|class_embedding|reg_token|register_token|dist_token|mask_token"
    ),
    "norm": r"norm|(^|\.)(ln|bn|gn|grn)_?\w*\.|(^|_)ln_",
    "attention qkv": (
        r"attn\.(qkv|q|k|v|q_bias|k_bias|v_bias)\b|attn\.qkv|[qkv]_proj|in_proj|attention\.(query|key|value)\."
    ),
    "attention projection": r"attn\.proj|attention\.output\.dense|out_proj|o_proj",
    "mlp": (
        r"(^|\.)(mlp|ffn)\.|fc[12]|intermediate\.dense|\.output\.dense|linear[12]|pwconv|c_fc|w12|\.w3\."
    ),
}
_EXPRESSIONS = {kind: re.compile(expression) for kind, expression in _KINDS.items()}
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
