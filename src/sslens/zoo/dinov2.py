"""Names that differ from timm's in DINOv2's own files and in Hugging Face's: registers and gated
MLPs."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sslens.zoo.claim import Piece

_GATED = {"mlp.w12": "mlp.fc1", "mlp.w3": "mlp.fc2"}


def convert_to_timm(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Convert DINOv2's pieces to timm's names.

    In DINOv2, registers are inserted after the positions were added, so that of the tokens before
    the patches only CLS has a position. In timm's network neither has one. So the position p_0 of
    CLS is added to the CLS token, c' = c + p_0, and the first row of the positions is removed. The
    tokens that the blocks get are the same.
    """
    by_name = {piece.into: piece for piece in pieces}
    if "register_tokens" in by_name and {"cls_token", "pos_embed"} <= by_name.keys():
        cls, table, registers = (
            by_name["cls_token"],
            by_name["pos_embed"],
            by_name.pop("register_tokens"),
        )
        summed = cls.value + table.value[:, :1]
        by_name["cls_token"] = replace(cls, value=summed, done="its position added")
        by_name["pos_embed"] = replace(
            table, value=table.value[:, 1:], done="the row of CLS added to cls_token"
        )
        by_name["reg_token"] = replace(registers, into="reg_token")
    for piece in by_name.values():
        into = piece.into
        for theirs, ours in _GATED.items():
            into = into.replace(theirs, ours)
        yield replace(piece, into=into)
