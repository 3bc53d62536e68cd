"""A layout's claim about a checkpoint file: what the file is, and what happens to every key in it.

A file of `zoo/layouts/` describes one way in which checkpoints are written. Its `claim(contents)`
looks at keys, shapes and, for positions that are fixed, at values, never at the file's name, and
returns a `Claim` or None.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sslens.cards import Tuned
from sslens.zoo.arrays import Array
from sslens.zoo.hints import NONE, Hints
from sslens.zoo.trunks import Trunk

Weights = Mapping[str, Array]
#: a regular expression for whole names, and the reason for which what it fits is dropped
Drops = tuple[tuple[str, str], ...]

CLASSIFIER = "the classification head"
AFTER_POOLING = "the normalisation between pooling and classifier, which no token passes through"
#: what stands on a network in the networks' own libraries, under the network's prefix
HEADS: Drops = (
    (r"head\.norm\..*", AFTER_POOLING),
    (r"(head|heads|head_dist|fc|pre_logits)\..*", CLASSIFIER),
    (r"fc_norm\..*", AFTER_POOLING),
)
MASK = "the token that stands for masked patches in pre-training"


def find_reason(name: str, drops: Drops) -> str | None:
    """Find the reason for which a tensor is dropped; None where it is not.

    >>> find_reason("head.norm.weight", HEADS) == AFTER_POOLING, find_reason("norm.weight", HEADS)
    (True, None)
    """
    return next((reason for pattern, reason in drops if re.fullmatch(pattern, name)), None)


@dataclass(frozen=True)
class Piece:
    """One tensor of the network.

    Attributes:
        into: its name in timm's spelling.
        value: its value.
        sources: the keys of the file from which it was made.
        done: how it was changed, a phrase; empty where it was not.
    """

    into: str
    value: Array
    sources: tuple[str, ...]
    done: str = ""


@dataclass(frozen=True)
class Claim:
    """A layout's reading of a file.

    Attributes:
        method: the name of the method, for people ("MAE").
        form: the form of this file, in words ("full, with the decoder").
        signs: how the layout recognised the file, one phrase for each sign, with the keys.
        branches: the networks in the file, by the names that `branch=` takes.
        taken: the branch that the authors evaluate, or None where the user must choose.
        objective, family: as in `Backbone.about`; None where keys and shapes do not tell.
        tuned: False, "fine-tuned", or "linear" (a probe was trained with labels on the frozen
            backbone).
        drops: which tensors of the network are dropped: regular expressions for their names without
            the network's prefix, each with the reason.
        beside: which tensors outside the network, in the same state dict, are dropped; written like
            `drops`.
        heads: the number of attention heads by width, where the authors use another than width /
            64.
        hints: what the file or the method tells of the architecture that shapes do not.
        normless: whether the network may be without its final normalisation; otherwise a network
            without one is taken for cut off.
        transform: settings of the evaluation transform that differ from the default: ImageNet's
            colours, 224 px, bicubic.
        strict: whether a tensor beside the network that `beside` does not name is refused, as in
            the files of a method, which have known parts; otherwise the file is of anybody's own
            training, and its parts are dropped by their place or name (`sslens.zoo.parts`).
        certain: False where the claim of any other, more specific layout is preferred.
        notes: sentences that the user should know.
        written: the name, shape and origin in the file's own header; None where it has none.
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
    heads: Mapping[int, int] = field(default_factory=dict)
    hints: Hints = NONE
    normless: bool = False
    transform: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = True
    certain: bool = True
    notes: tuple[str, ...] = ()
    written: Mapping[str, Any] | None = None


Fate = Literal["kept", "renamed", "reshaped", "dropped"]


@dataclass(frozen=True)
class Entry:
    """What happened to one key of the file.

    Attributes:
        state: the state dict of the key.
        key: the key as in the file.
        fate: "kept", "renamed", "reshaped" or "dropped".
        into: the network's name for it; None where it was dropped.
        reason: why it was dropped, or how it was changed.
    """

    state: str
    key: str
    fate: Fate
    into: str | None
    reason: str
