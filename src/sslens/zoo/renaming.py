"""Renaming: from the names of a network's tensors to timm's, by a table of regular expressions, and
what names alone do not do: one layer made of three, tensors with other axes."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import ModuleType
from typing import TypeAlias

import numpy as np

from sslens.zoo.arrays import Array, join
from sslens.zoo.claim import Drops, Piece, Weights

#: regular expressions with their replacements, all of which are applied in this order
Rules: TypeAlias = Sequence[tuple[str, str]]
#: what is done to all tensors of a network once they are renamed
Step: TypeAlias = Callable[[Iterable[Piece]], Iterable[Piece]]

#: why a table of indices is dropped
INDEX = "a table of indices that is computed anew"
#: tables that Swin Transformers of some libraries have beside their weights
SWIN_TABLES: Drops = (
    (r".*relative_position_index", INDEX),
    (r".*attn_mask", "a table that keeps windows apart, which is computed anew"),
)
#: from Hugging Face's names of a Vision Transformer to timm's
HF_EMBEDDINGS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^layernorm\.", "norm."),
)
HF_LAYERS = (
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(^blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
#: torchvision's `features.N`: odd numbers are stages, even ones make the map smaller
TORCHVISION_STAGES = tuple(
    (rf"^features\.{number}\.", f"stages.{number // 2}.{part}.")
    for number in range(1, 8)
    for part in ("blocks" if number % 2 else "downsample",)
)

_PART = re.compile(r"(.*\.attn\.)(q|k|v)\.(weight|bias)")
#: names that hold three layers in one, of which only the name differs
_PACKED = "attn.in_proj_"


def convert(spelling: ModuleType, weights: Weights) -> list[Piece]:
    """Convert the tensors of a network to timm's names and shapes by the rules and the steps of a
    spelling.

    Args:
        spelling: a file of `zoo/spellings`.
        weights: the tensors by the names that the spelling has.
    """
    pieces: Iterable[Piece] = rename(weights, spelling.RULES)
    steps: Sequence[Step] = spelling.STEPS
    for step in steps:
        pieces = step(pieces)
    return list(pieces)


def rename(weights: Weights, rules: Rules) -> Iterator[Piece]:
    """Rename tensors.

    >>> one = Array(np.zeros(1), "float64")
    >>> [piece.into for piece in rename({"layers.3.ln.bias": one}, [("layers", "blocks")])]
    ['blocks.3.ln.bias']
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    for name, value in weights.items():
        into = name
        for pattern, replacement in compiled:
            into = pattern.sub(replacement, into)
        yield Piece(into, value, (name,))


def join_parts(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Join `attn.q`, `attn.k` and `attn.v` into `attn.qkv`, in this order of rows.

    Where some of the three have a bias and others have none, the missing ones are zero: b = [b_q;
    0; b_v] of BEiT and DINOv3.

    >>> ones = Array(np.ones(2), "float64")
    >>> parts = [Piece(f"blocks.0.attn.{part}.bias", ones, (part,)) for part in "qv"]
    >>> joined = next(join_parts(parts))
    >>> joined.into, joined.value.values.tolist(), joined.sources
    ('blocks.0.attn.qkv.bias', [1.0, 1.0, 0.0, 0.0, 1.0, 1.0], ('q', 'v'))
    """
    parts: dict[str, dict[str, Piece]] = {}
    for piece in pieces:
        match = _PART.fullmatch(piece.into)
        if match is None:
            yield piece
        else:
            parts.setdefault(f"{match[1]}qkv.{match[3]}", {})[match[2]] = piece
    for into, three in parts.items():
        there = [three[part] for part in "qkv" if part in three]
        first = there[0].value
        values = [
            three[part].value
            if part in three or into.endswith("weight")
            else Array(np.zeros(first.shape, first.raw.dtype), first.kind)
            for part in "qkv"
            if part in three or into.endswith("bias")
        ]
        sources = tuple(source for piece in there for source in piece.sources)
        yield Piece(into, join(values), sources, "queries, keys and values joined")


def unpack(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Rename torch's packed attention, `attn.in_proj_weight`, to timm's `attn.qkv.weight`."""
    for piece in pieces:
        into = piece.into.replace(_PACKED, "attn.qkv.").replace("attn.out_proj.", "attn.proj.")
        yield Piece(into, piece.value, piece.sources, piece.done)


def shape_tokens(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Give CLS and the positions the axes that they have in timm, [1, token, width]."""
    for piece in pieces:
        if piece.into in ("cls_token", "pos_embed") and piece.value.ndim < 3:
            shape = (1,) * (3 - piece.value.ndim) + piece.value.shape
            yield replace(piece, value=piece.value.reshape(*shape), done="to three axes")
        else:
            yield piece


def flatten(names: str) -> Step:
    """Make the step that gives tensors one axis.

    Args:
        names: a regular expression, found in the names of the tensors.

    >>> step = flatten("gamma$")
    >>> [p.value.shape for p in step([Piece("gamma", Array(np.ones((2, 1)), "float64"), ("a",))])]
    [(2,)]
    """
    return _reshape(names, "to one dimension", lambda value: value.ndim > 1, kept=0)


def make_linear(names: str) -> Step:
    """Make the step that makes linear layers of 1 × 1 convolutions.

    Args:
        names: a regular expression, found in the names of their weights.
    """
    done = "1 × 1 convolution to a linear layer"
    return _reshape(names, done, lambda value: value.ndim == 4, kept=1)


def _reshape(names: str, done: str, wanted: Callable[[Array], bool], *, kept: int) -> Step:
    """The step that keeps the first axes of tensors, and joins the others into one."""
    fitting = re.compile(names)

    def step(pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            value = piece.value
            if fitting.search(piece.into) and wanted(value):
                shape = (*value.shape[:kept], -1)
                yield replace(piece, value=value.reshape(*shape), done=done)
            else:
                yield piece

    return step
