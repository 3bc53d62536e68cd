"""Spellings: one file is one way in which the layers of a network are named. It has `TITLE`,
`ANCHORS`, `DROPS`, `RULES` and `STEPS`, and may have `MARK` and `OVER`.

`ANCHORS` are names that every network of the spelling has; the first one locates the network, and
the others are beginnings of names. `DROPS` are tensors of the network that no feature passes
through. `RULES` rename the others to timm's names (`sslens.zoo.renaming.rename`), and `STEPS`,
functions from pieces to pieces, do what names alone do not: join layers, give tensors other axes.
`MARK` is a pattern that a name of every network fits, where anchors do not tell it from another.
`OVER` lists spellings that have the same anchors and are less specific.

A layout says how a method or a trainer arranges networks in a file; any layout may find networks of
any spelling in it.
"""

#: what each file of this folder has
REQUIRED = ("TITLE", "ANCHORS", "DROPS", "RULES", "STEPS")
