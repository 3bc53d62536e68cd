"""What a layout says of a checkpoint file, and what becomes of every key in it.

A file of `zoo/layouts/` describes one way in which checkpoints are written. Its `claim(contents)`
looks at keys, shapes and, for positions that are fixed, at values, never at the file's name, and
returns a `Claim` or None.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sslens.zoo.arrays import Array
from sslens.zoo.trunks import Trunk

Weights = Mapping[str, Array]
#: a regular expression for whole names, and the reason for which what it fits is dropped
Drops = tuple[tuple[str, str], ...]
Tuned = Literal[False, "fine-tuned", "linear"]

CLASSIFIER = "the classification head"
AFTER_POOLING = "the normalisation between pooling and classifier, which no token passes through"
MASK = "the token that stands for masked patches in pre-training"


@dataclass(frozen=True)
class Piece:
    """One tensor of the network: its name in timm's spelling, its value, the keys it was made of,
    and what was done."""

    into: str
    value: Array
    sources: tuple[str, ...]
    done: str = ""


Convert = Callable[[Weights], Iterable[Piece]]


def as_named(weights: Weights) -> Iterable[Piece]:
    """The conversion of weights that are in timm's names already."""
    return (Piece(name, value, (name,)) for name, value in weights.items())


@dataclass(frozen=True)
class Claim:
    """A layout's reading of a file.

    Attributes:
        method: the layout's method, for people ("MAE").
        form: how this file is written, in words ("full, with the decoder").
        signs: how that is known, a phrase each, with the keys it was seen by.
        branches: the networks in the file by the name that `branch=` takes.
        taken: the branch that the authors evaluate, or None where the file cannot say and the user
            must.
        objective, family: as in `Backbone.about`, None where keys and shapes do not tell.
        tuned: False, "fine-tuned" or "linear" (labels trained a probe on the frozen backbone).
        drops: by names within the network, once its prefix is taken away.
        beside: by names outside it, in the same state dict.
        convert: to timm's names and shapes.
        heads: of attention by width, where the authors have other than width / 64.
        transform: settings of the evaluation transform that differ from ImageNet's at 224 px,
            bicubic.
        certain: False for a reading that any more telling one overrides.
        notes: what the user should know.
        written: what the file itself says of its name, shape and origin, where it does.
    """

    method: str
    form: str
    signs: tuple[str, ...]
    branches: Mapping[str, Trunk]
    taken: str | None
    objective: str | None = None
    family: str | None = None
    tuned: Tuned = False
    drops: Drops = ()
    beside: Drops = ()
    convert: Convert = as_named
    heads: Mapping[int, int] = field(default_factory=dict)
    transform: Mapping[str, Any] = field(default_factory=dict)
    certain: bool = True
    notes: tuple[str, ...] = ()
    written: Mapping[str, Any] | None = None


Fate = Literal["kept", "renamed", "reshaped", "dropped"]


@dataclass(frozen=True)
class Entry:
    """What became of one key: `key` as in the file, in the state dict `state`; `into` is the
    network's name for it."""

    state: str
    key: str
    fate: Fate
    into: str | None
    reason: str
