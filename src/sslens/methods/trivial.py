"""The loss of a method that has learnt nothing, which a healthy training soon leaves below it."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int64

from sslens.counts import spell_count


@final
@dataclass(frozen=True)
class TrivialLoss:
    """The loss that a method has where it tells no image from another.

    Attributes:
        value: the loss.
        words: what has this loss, for people.
        mend: what usually helps, a sentence for people.
    """

    value: float
    words: str
    mend: str


def guess_classes(labels: Int64[np.ndarray, " image"], smoothing: float, mend: str) -> TrivialLoss:
    """The loss of guessing the classes by how often they come: the entropy −Σ_c q_c ln q_c.

    Here q is the mean target, (1 − ε) f + ε / C, with the frequencies f and the smoothing ε. It is
    ln C where all C classes come equally often. Mixing images does not change the mean target.

    Args:
        labels: the class of each image, from 0.
        smoothing: ε.
        mend: what usually helps where nothing is learnt.

    >>> found = guess_classes(np.array([0, 1, 2, 3]), 0.1, "")
    >>> round(found.value, 6), found.words  # ln 4 = 1.386294
    (1.386294, 'guessing among 4 classes, ln 4')
    >>> found = guess_classes(np.array([0, 0, 0, 1]), 0.0, "")
    >>> round(found.value, 6)  # 0.75 ln (4 / 3) + 0.25 ln 4
    0.562335
    """
    counts = np.bincount(labels)
    classes = len(counts)
    mean = (1 - smoothing) * counts / len(labels) + smoothing / classes
    known = mean[mean > 0]
    words = f"guessing among {spell_count(classes, 'class')}"
    words += f", ln {classes:,}" if counts.min() == counts.max() else " by how often they come"
    return TrivialLoss(float(-(known * np.log(known)).sum()), words, mend)


def assign_alike(prototypes: int) -> TrivialLoss:
    """The loss of assigning every image to all prototypes alike: ln K.

    >>> round(assign_alike(64).value, 6)
    4.158883
    """
    return TrivialLoss(
        math.log(prototypes),
        f"assigning all images alike to {prototypes:,} prototypes, ln {prototypes:,}",
        "A lower teacher temperature or stronger sharpening, a lower base_lr and a longer warmup"
        " usually help.",
    )


def predict_means(normalised: bool) -> TrivialLoss | None:
    """The loss of predicting each patch's mean colour, 1 where patches are scaled to a variance of
    1; None where they are not, and the images decide it.

    >>> predict_means(True).value, predict_means(False)
    (1.0, None)
    """
    if not normalised:
        return None
    return TrivialLoss(
        1.0,
        "predicting nothing but the mean colour of each patch",
        "A higher base_lr (a lower one where the loss jumps about), more epochs and a look at"
        " whether the images have anything in them usually help.",
    )


def rank_alike(keys: int, scale: float) -> TrivialLoss:
    """The loss of InfoNCE where all keys are equally near: scale · ln N.

    >>> round(rank_alike(256, 0.8).value, 6)  # 0.8 · ln 256 = 0.8 · 5.545177
    4.436142
    """
    return TrivialLoss(
        scale * math.log(keys),
        f"finding the {spell_count(keys, 'image')} of a step equally alike, {scale:g} · ln"
        f" {keys:,}",
        "A lower base_lr, a longer warmup and a larger batch_size usually help.",
    )
