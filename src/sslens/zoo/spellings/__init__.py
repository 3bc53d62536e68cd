"""Spellings: one file is one way in which the layers of a network are named. It has `TITLE`,
`ANCHORS`, `DROPS` and `convert(weights) -> Iterable[Piece]`, and may have `OVER`.

`ANCHORS` are names that every network of the spelling has; the first one locates the network, and
the others are beginnings of names. `DROPS` are tensors of the network that no feature passes
through. `convert` renames the others to timm's names. `OVER` lists spellings that have the same
anchors and are less specific.

A layout says how a method or a trainer arranges networks in a file; any layout may find networks of
any spelling in it.
"""

#: what each file of this folder has
REQUIRED = ("TITLE", "ANCHORS", "DROPS", "convert")
