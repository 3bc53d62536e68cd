"""The number of attention heads of a Vision Transformer, which most files do not tell."""

from sslens.errors import InputError

#: heads of the released shapes with heads that are not 64 wide (ViT-H and ViT-g of Dosovitskiy
#: et al. and Zhai et al., DINOv3's ViT-7B)
HEADS = {1280: 16, 1408: 16, 4096: 32}


class UnknownHeads(InputError):  # noqa: N818 (it says what is not known)
    """Nothing tells the number of heads: the user must give it."""


def choose_heads(dim: int, asked: int | None, width: int | None, where: str) -> int:
    """Return the number of heads.

    Args:
        dim: the width of the network.
        asked: the number that the user, a card or the method says, or None.
        width: the width of a head, where tables of relative positions tell it, or None.
        where: the file, for messages.

    Raises:
        UnknownHeads: nothing tells the number.
        InputError: the tables tell another number than was asked for.

    >>> choose_heads(768, None, None, "a.pth"), choose_heads(1280, None, 80, "b.pkl")
    (12, 16)
    """
    if width is not None:
        if asked not in (None, dim // width):
            raise InputError(
                f"{where} has relative positions for {dim // width} heads of attention, and not"
                f" for {asked}: leave num_heads out."
            )
        return dim // width
    if asked is None and dim not in HEADS and dim % 64:
        raise UnknownHeads(
            f"{where} is a ViT of width {dim}, which is no multiple of 64: its heads cannot be"
            " known from shapes.",
            mend=f"say how many: {where}@heads=N, or num_heads",
        )
    return asked or HEADS.get(dim) or dim // 64
