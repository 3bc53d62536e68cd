"""Models that compute the same, or almost, such as a model and its conversion to fewer bits, or
neighbouring steps of one run: they are one training."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sslens.capture import Features, Grams
from sslens.comparisons.inputs import Models
from sslens.measures.cka import minibatch_cka
from sslens.models.taps import Tap

#: two models with a CKA of at least this at every tap are one training. On 256 scenes the least
#: alike tap of a ViT has 0.999997 with its conversion to bfloat16, 0.99995 with one to 8-bit
#: integers and 0.9992 with one to 8-bit floats; two random initialisations, which no training
#: connects, have 0.992 to 0.997, and two seeds of one objective 0.49 to 0.92
ALIKE = 0.998
#: two networks without Grams or features are one training where nearly all weights differ by less
#: than this share of themselves, twice what rounding to bfloat16 does. Even a short fine-tuning
#: moves small weights by more; 8-bit numbers are not told by weights
ROUNDING = 2**-8
#: nearly all: noise of 1e-6 leaves so many, and rounding all
NEARLY_ALL = 0.99
#: the images whose features are compared, and how many make a minibatch
IMAGES, BATCH = 256, 32


def mark_copies(
    models: Models,
    names: Iterable[str],
    values: Mapping[str, Any],
    networks: Mapping[str, nn.Module] | None = None,
) -> Models:
    """Mark each model that computes the same as an earlier one, or almost.

    It is told from the Grams of a study, or else from its features, or else from the weights, of
    models that are fine-tuned alike.

    Args:
        models: the models of the study and their controls.
        names: the models that may be copies: no random initialisations, which are alike untrained.
        values: the values of the needs of the study's analyses, by name.
        networks: the networks by the models' names, as far as they are there.
    """
    listed = list(names)
    of_tokens: Mapping[str, Grams] = next(iter(values.get("grams", {}).values()), {})
    copies = find_copies({name: of_tokens[name] for name in listed if name in of_tokens})
    if not of_tokens and "features" in values:
        images = values["features"].images
        copies = _find_by_features({name: images[name] for name in listed if name in images})
    elif not of_tokens:
        copies = _find_by_weights(
            models, {n: one for n, one in (networks or {}).items() if n in listed}
        )
    return Models(tuple(replace(one, copy_of=copies.get(one.name)) for one in models))


def find_copies(grams: Mapping[str, Grams]) -> dict[str, str]:
    """Find the models that compute the same as an earlier model, or almost: whose CKA with it is
    `ALIKE` or more at every tap at which it is defined.

    Returns:
        The name of the first model of its kind, by the name of the copy.

    >>> import torch
    >>> x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1], [3, 1]])
    >>> sets = {"a": x, "other": x.flip(0), "a, rounded": 2 * x + 1e-6}
    >>> find_copies({name: Grams.of_features([values]) for name, values in sets.items()})
    {'a, rounded': 'a'}
    """
    copies: dict[str, str] = {}
    for name, own in grams.items():
        firsts = (one for one in grams if one not in copies)
        for first in firsts:
            if first == name:
                break
            if _are_alike(grams[first], own):
                copies[name] = first
                break
    return copies


def _find_by_features(features: Mapping[str, Features]) -> dict[str, str]:
    """Find copies by the last tap, and then among these by all taps, so that columns of other
    models, which may lie in shards that nothing else needs, are not read."""
    ends = {name: _take_grams(one, one.taps[-1:]) for name, one in features.items()}
    alike = find_copies(ends)
    both = {*alike, *alike.values()}
    return find_copies(
        {name: _take_grams(one, one.taps) for name, one in features.items() if name in both}
    )


def _find_by_weights(models: Models, networks: Mapping[str, nn.Module]) -> dict[str, str]:
    """Find copies by the weights of networks of one architecture."""
    weights = {name: one.state_dict() for name, one in networks.items()}
    copies: dict[str, str] = {}
    for one, other in itertools.combinations(weights, 2):
        tuned = {models.about(name).tuned for name in (one, other)}
        known = len(tuned) > 1 or {one, other} & copies.keys()
        if not known and _are_near(weights[one], weights[other]):
            copies[other] = one
    return copies


def _are_near(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    if {name: value.shape for name, value in one.items()} != {
        name: value.shape for name, value in other.items()
    }:
        return False
    near = count = 0
    for name, value in one.items():
        if value.is_floating_point():
            own, theirs = value.float(), other[name].to(value.device, torch.float32)
            near += int(((own - theirs).abs() <= ROUNDING * own.abs()).sum())
            count += own.numel()
    return near >= NEARLY_ALL * count


def _are_alike(one: Grams, other: Grams) -> bool:
    """Whether CKA is `ALIKE` or more at every tap; the last tap, which differs most often, is
    compared first."""
    names = [[tap.name for tap in side.taps] for side in (one, other)]
    sizes = [side.sizes.tolist() for side in (one, other)]
    if names[0] != names[1] or one.ids != other.ids or sizes[0] != sizes[1] or min(sizes[0]) < 4:
        return False
    defined = False
    for row in reversed(range(len(one.taps))):
        cka = float(minibatch_cka(_take_tap(one, row), _take_tap(other, row))[0, 0])
        if cka < ALIKE:
            return False
        defined |= cka == cka
    return defined


def _take_tap(grams: Grams, row: int) -> Grams:
    chosen = slice(row, row + 1)
    taps, blocks, energy = grams.taps[chosen], grams.blocks[chosen], grams.energy[chosen]
    return replace(grams, taps=taps, blocks=blocks, energy=energy)


def _take_grams(features: Features, taps: Sequence[Tap]) -> Grams:
    """The Grams of the first features of a model, a tap for each pooling of some taps."""
    chosen = {tap.name for tap in taps}
    count = min(len(features), IMAGES)
    count -= count % BATCH if count > BATCH else 0
    sizes = np.full(max(1, count // BATCH), min(count, BATCH))
    columns = [column for column in features.columns if column[0] in chosen]
    arrays = [features.read(*column, slice(count)).float() for column in columns]
    return Grams.of_features(arrays, features.ids[:count], sizes)
