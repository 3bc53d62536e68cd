"""Settings that a checkpoint file holds beside its weights, such as Lightning's hyper-parameters,
where they tell the number of attention heads."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from sslens.zoo.finders import Shaped, count_blocks

#: names of settings for the number of heads, the width, the side of a patch and of the images in
#: pixels, and the number of blocks
HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads", "n_head", "nhead")
WIDTH = ("embed_dim", "hidden_size")
PATCH = ("patch_size",)
SIDE = ("img_size", "image_size")
BLOCKS = ("depth", "num_hidden_layers")
KNOWN = frozenset((*HEADS, *WIDTH, *PATCH, *SIDE, *BLOCKS))
#: parts of a training that have heads of attention of their own, by the names of their settings
OTHERS = ("decoder", "predictor", "projector", "text", "teacher")
#: how deep settings may lie in one another, and how many entries are looked at
DEPTH, MOST = 4, 10_000
#: the largest number that is a setting of a network, and the most tokens before the patches
LARGEST, PREFIX = 1 << 16, 16


@final
@dataclass(frozen=True)
class Told:
    """Whole numbers of one group of settings.

    Attributes:
        where: the keys that lead to it ("hyper_parameters"); empty for the top of the file.
        numbers: the numbers by the names of the settings, those of `KNOWN`.
    """

    where: str
    numbers: Mapping[str, int]

    def say(self, name: str) -> str:
        """Say what a setting is.

        >>> Told("hyper_parameters", {"num_heads": 4}).say("num_heads")
        'hyper_parameters in the file says num_heads 4'
        """
        start = f"{self.where} in the file" if self.where else "the file"
        return f"{start} says {name} {self.numbers[name]}"

    def find(self, names: tuple[str, ...]) -> str | None:
        """Find the first of some names that there is."""
        return next((name for name in names if name in self.numbers), None)


@final
@dataclass(frozen=True)
class ToldHeads:
    """The number of heads that settings in a file tell.

    Attributes:
        count: the number; None where none is told for this network.
        said: where the number stands, or why none of those that are there is taken; empty where
            there is none.
    """

    count: int | None = None
    said: str = ""


def list_told(tree: Any) -> tuple[Told, ...]:
    """List the groups of settings in what a file holds that tell a number of heads.

    >>> list_told({"args": {"num_heads": 4, "lr": 0.1}, "epoch": 3})
    (Told(where='args', numbers={'num_heads': 4}),)
    """
    return tuple(_walk(tree, "", DEPTH, [MOST]))


def read_told(settings: Any) -> tuple[Told, ...]:
    """Read groups of settings by where they stand in a file; what are none is left out.

    >>> read_told({"args": {"num_heads": 4}, "": 3})
    (Told(where='args', numbers={'num_heads': 4}),)
    """
    groups = settings.items() if isinstance(settings, Mapping) else ()
    return tuple(
        Told(str(where), numbers) for where, group in groups if (numbers := _find_numbers(group))
    )


def _find_numbers(entries: Any) -> dict[str, int]:
    """The whole numbers of a group that tells a number of heads; none of another group."""
    numbers = {
        key: value
        for key, value in (entries.items() if isinstance(entries, Mapping) else ())
        if isinstance(key, str) and key in KNOWN and type(value) is int and 0 < value < LARGEST
    }
    return numbers if any(name in numbers for name in HEADS) else {}


def _walk(tree: Any, where: str, depth: int, left: list[int]) -> Iterator[Told]:
    entries = vars(tree) if isinstance(tree, argparse.Namespace) else tree
    if not isinstance(entries, Mapping) or depth == 0:
        return
    left[0] -= len(entries)
    if left[0] < 0:
        return
    if numbers := _find_numbers(entries):
        yield Told(where, numbers)
    for key, value in entries.items():
        if isinstance(key, str) and not any(other in key.lower() for other in OTHERS):
            yield from _walk(value, f"{where}/{key}" if where else key, depth - 1, left)


def choose_told_heads(told: tuple[Told, ...], weights: Mapping[str, Shaped]) -> ToldHeads:
    """Choose the number of heads among settings: the one of a group that fits the weights.

    Args:
        told: the settings that the file holds.
        weights: the weights of a plain transformer in timm's names.
    """
    fits = [group for group in told if _agrees(group, weights)]
    counts = {group.numbers[group.find(HEADS) or ""] for group in fits}
    if len(counts) == 1:
        return ToldHeads(counts.pop(), fits[0].say(fits[0].find(HEADS) or ""))
    if not told:
        return ToldHeads()
    said = " and ".join(group.say(group.find(HEADS) or "") for group in fits or told)
    why = "which is not one number" if fits else "which does not fit the shapes of these weights"
    return ToldHeads(said=f"{said}, {why}")


def _agrees(group: Told, weights: Mapping[str, Shaped]) -> bool:
    """Whether all numbers of a group are those of the weights."""
    patches = weights.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4:
        return False
    width, patch = patches.shape[0], patches.shape[-1]
    own = {WIDTH: width, PATCH: patch, BLOCKS: count_blocks(weights, "blocks.")}
    for names, value in own.items():
        name = group.find(names)
        if name is not None and group.numbers[name] != value:
            return False
    positions, side = weights.get("pos_embed"), group.find(SIDE)
    if side is not None and positions is not None and positions.ndim == 3:
        tokens = (group.numbers[side] // patch) ** 2
        if not 0 <= positions.shape[1] - tokens <= PREFIX:
            return False
    return width % group.numbers[group.find(HEADS) or ""] == 0
