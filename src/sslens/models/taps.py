"""Named places in a network where its activations are read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tap:
    """The output of one module.

    `name` is the module's path in the network, `kind` what it computes ("block", "norm1", "qkv",
    "fc1", "norm", "stem", "pixels"), `depth` its place from 0 (input) to 1 (output), by which
    networks of different lengths are laid side by side.
    """

    name: str
    kind: str
    depth: float
