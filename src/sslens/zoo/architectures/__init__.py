"""Architectures: one file is one kind of network. It has `TITLE`, `SHAPE`, the class that describes
such networks (an `Architecture`), `matches(weights) -> bool` and `find(weights, where, heads,
hints) -> SHAPE`.

`matches` looks at the names of weights in timm's spelling, and at numbers of axes; `vit` is taken
where no other file matches. `find` tells sizes from the shapes of the weights. A `SHAPE` says which
tensors the network has, and builds it without memory for them.
"""

#: what each file of this folder has
REQUIRED = ("TITLE", "SHAPE", "matches", "find")
