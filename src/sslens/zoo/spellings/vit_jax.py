"""Vision Transformers of google-research/vision_transformer, as JAX has them: kernels with their
outputs last, heads apart."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sslens.zoo.claim import CLASSIFIER, Drops, Piece
from sslens.zoo.renaming import Rules, join_parts

TITLE = "a ViT in the names of google-research/vision_transformer"
ANCHORS = (
    "Transformer/encoderblock_0/LayerNorm_0/scale",
    "Transformer/encoder_norm/",
    "embedding/kernel",
)
DROPS: Drops = ((r"(head|pre_logits)/.*", CLASSIFIER),)
#: the numbers of layers are those of the files, or of newer versions of JAX's library
RULES: Rules = (
    (r"^cls$", "cls_token"),
    (r"^embedding/", "patch_embed.proj/"),
    (r"^Transformer/posembed_input/pos_embedding$", "pos_embed"),
    (r"^Transformer/encoder_norm/", "norm/"),
    (r"^Transformer/encoderblock_(\d+)/", r"blocks.\1."),
    (r"\.LayerNorm_0/", ".norm1/"),
    (r"\.LayerNorm_[12]/", ".norm2/"),
    (r"\.MultiHeadDotProductAttention_[01]/(q|k|v)(?:uery|ey|alue)/", r".attn.\1/"),
    (r"\.MultiHeadDotProductAttention_[01]/out/", ".attn.proj/"),
    (r"\.MlpBlock_[03]/Dense_0/", ".mlp.fc1/"),
    (r"\.MlpBlock_[03]/Dense_1/", ".mlp.fc2/"),
    (r"/(kernel|scale)$", ".weight"),
    (r"/bias$", ".bias"),
)


def turn_kernels(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Give kernels and biases the axes that torch has.

    A convolution's kernel is [row, column, in, out], a linear layer's [in, out]. Queries, keys and
    values are [in, head, width of a head], and the layer after them [head, width, out].
    """
    for piece in pieces:
        value, inside = piece.value, ".attn." in piece.into
        if piece.into.endswith(".bias") and value.ndim > 1:
            yield replace(piece, value=value.reshape(-1), done="heads joined")
        elif not piece.sources[0].endswith("kernel") or value.ndim < 2:
            yield piece
        elif value.ndim == 4:
            yield replace(piece, value=value.transpose(3, 2, 0, 1), done="outputs first")
        elif ".attn.proj." in piece.into:
            joined = value.reshape(-1, value.shape[-1]).transpose(1, 0)
            yield replace(piece, value=joined, done="heads joined, outputs first")
        else:
            joined = value.reshape(value.shape[0], -1).transpose(1, 0)
            done = "heads joined, outputs first" if inside else "outputs first"
            yield replace(piece, value=joined, done=done)


STEPS = (turn_kernels, join_parts)
