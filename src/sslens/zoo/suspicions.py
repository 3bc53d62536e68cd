"""Checks for values that look wrong in a checkpoint with the right keys and shapes."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from sslens.counts import spell_count
from sslens.zoo.arrays import Array
from sslens.zoo.contradictions import find_contradictions
from sslens.zoo.files import Contents
from sslens.zoo.identity import gather_about
from sslens.zoo.recognise import Recognised
from sslens.zoo.unfinished import describe_unfinished
from sslens.zoo.wrappers import unwrap


def find_suspicions(checkpoint: Recognised, inside: Contents) -> Iterator[str]:
    """Yield what looks wrong in the values of a checkpoint, one sentence each, after whether its
    training is over."""
    if unfinished := describe_unfinished(inside.path, gather_about(checkpoint, None)):
        yield unfinished
    weights = {name: array.values for name, array in checkpoint.weights.items()}
    # one reading each of 100 million numbers: a mask of them would be three
    ends = {name: (v.min(), v.max()) for name, v in weights.items() if v.size}
    broken = [name for name, pair in ends.items() if not np.isfinite(pair).all()]
    if broken:
        yield (
            f"{spell_count(len(broken), 'tensor', 'have')} NaN or infinite values, the first"
            f" {broken[0]}."
        )
    constant = [
        name
        for name, (low, high) in ends.items()
        if weights[name].ndim > 1 and weights[name].size > 1 and low == high
    ]
    if constant:
        yield (
            f"{spell_count(len(constant), 'weight', 'have')} one value throughout, the first"
            f" {constant[0]}: never trained, or overwritten."
        )
    large = [
        name
        for name, (low, high) in ends.items()
        if checkpoint.weights[name].is_floating
        and "running_var" not in name
        and max(-low, high) > 1e4
    ]
    if large:
        yield (
            f"{spell_count(len(large), 'tensor', 'have')} values above 10,000, the first"
            f" {large[0]}."
        )
    trunk = checkpoint.claim.branches[checkpoint.branch]
    yield from find_contradictions(unwrap(inside)[0], trunk, checkpoint.told)
    if checkpoint.claim.tuned == "fine-tuned" and checkpoint.claim.objective is not None:
        yield (
            "Labels trained these weights after the objective did: for a pre-trained backbone take"
            " the file from before."
        )
    yield from find_untouched(weights)
    yield from _find_untrained_head(checkpoint, inside)
    yield from _find_equal_twins(checkpoint, inside)


def find_untouched(weights: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield what is as an initialisation leaves it, one sentence each.

    Args:
        weights: the values of parameters and buffers by name.
    """
    norms = [name for name, v in weights.items() if v.ndim == 1 and name.endswith(".weight")]
    if norms and all(
        (weights[n] == 1).all() and not weights.get(n[:-6] + "bias", weights[n] * 0).any()
        for n in norms
    ):
        yield (
            f"The network seems untrained: all {len(norms)} normalisations are as at initialisation"
            " (weight 1, bias 0)."
        )
    linear = [name[:-6] for name, v in weights.items() if name.endswith("weight") and v.ndim == 2]
    biases = [weights[f"{name}bias"] for name in linear if f"{name}bias" in weights]
    if biases and not any(v.any() for v in biases):
        yield f"All {len(biases)} biases of linear layers are zero, as at initialisation."
    means = [v for name, v in weights.items() if name.endswith("running_mean")]
    if means and not any(v.any() for v in means):
        yield (
            f"The running means of all {len(means)} batch normalisations are zero: no batch was"
            " ever seen in training mode."
        )


def _find_untrained_head(checkpoint: Recognised, inside: Contents) -> Iterator[str]:
    for entry in checkpoint.account:
        if entry.fate != "dropped" or not re.search(
            r"(^|\.)(head|fc|classifier)(\.\w+)?\.bias$", entry.key
        ):
            continue
        bias = inside.states[entry.state][entry.key]
        if "classification" in entry.reason and bias.size > 1 and not bias.values.any():
            yield (
                f"The classifier's bias ({entry.key}) is zero throughout: the head seems untrained."
            )


def _find_equal_twins(checkpoint: Recognised, inside: Contents) -> Iterator[str]:
    inside, _ = unwrap(inside)
    twins = [trunk.weights(inside.states) for trunk in checkpoint.claim.branches.values()]
    if len(twins) != 2:
        return
    shared = [name for name in twins[0] if name in twins[1]]
    if shared and all(_are_equal(twins[0][name], twins[1][name]) for name in shared):
        both = " and ".join(checkpoint.claim.branches)
        yield (
            f"The branches {both} are equal: the training had not begun, or one was copied over the"
            " other."
        )


def _are_equal(one: Array, other: Array) -> bool:
    return one.shape == other.shape and np.array_equal(one.values, other.values)
