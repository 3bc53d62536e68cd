"""Named places in a network where its activations are read."""

from dataclasses import dataclass

#: kinds of taps that are read only where they are asked for
ON_REQUEST = ("norm2",)


@dataclass(frozen=True)
class Tap:
    """The output of one module of a network.

    Attributes:
        name: the module's path in the network.
        kind: what the module computes: "block", "norm1", "qkv", "fc1", "norm", "stem" or "pixels",
            and on request "norm2".
        depth: the place in the network from 0 (input) to 1 (output), which makes networks of
            different lengths comparable.
    """

    name: str
    kind: str
    depth: float
