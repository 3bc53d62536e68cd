"""Settings that a checkpoint file holds beside its weights, such as Lightning's hyper-parameters,
where they tell the number of attention heads."""

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from sslens.zoo.finders import Shaped, count_blocks

#: names of settings for the number of heads, the width, the side of a patch and of the images in
#: pixels, and the number of blocks
HEADS = ("num_attention_heads", "num_heads", "n_heads", "heads", "n_head", "nhead")
WIDTH = ("embed_dim", "hidden_size")
PATCH = ("patch_size",)
SIDE = ("img_size", "image_size")
BLOCKS = ("depth", "num_hidden_layers")
#: names that heads of tasks have as often: without the network's width or blocks beside them they
#: are not believed
VAGUE = ("n_heads", "heads", "n_head", "nhead")
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

    @property
    def key(self) -> str:
        """The setting that tells the number of heads."""
        return self.find(HEADS) or ""

    @property
    def is_sure(self) -> bool:
        """Whether these are heads of attention by their name, or by settings of the network beside
        them."""
        return self.key == "num_attention_heads" or self.find((*WIDTH, *BLOCKS)) is not None


@final
@dataclass(frozen=True)
class ToldHeads:
    """The number of heads that settings in a file tell.

    Attributes:
        count: the number; None where none is told for this network.
        said: where the number stands, or why none of those that are there is taken; empty where
            there is none.
        sure: whether the number is known to be one of heads of attention.
        is_misfit: whether no settings that tell a number of heads fit the shapes of the weights.
    """

    count: int | None = None
    said: str = ""
    sure: bool = True
    is_misfit: bool = False


def list_told(tree: Any) -> tuple[Told, ...]:
    """List the groups of settings in what a file holds that tell a number of heads.

    >>> list_told({"args": {"num_heads": 4, "lr": 0.1}, "epoch": 3})
    (Told(where='args', numbers={'num_heads': 4}),)
    """
    groups = ((where, _find_numbers(entries)) for where, entries in list_groups(tree))
    return tuple(Told(where, numbers) for where, numbers in groups if numbers)


def list_groups(tree: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the groups of settings in what a file holds, each with the keys that lead to it; those
    of other parts of a training, such as a decoder, are left out.

    >>> [where for where, _ in list_groups({"args": {"lr": 0.1, "decoder": {}}})]
    ['', 'args']
    """
    yield from _walk(tree, "", DEPTH, [MOST])


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
    """The whole numbers of a group that tells a number of heads, those written as text too; none of
    another group."""
    numbers = {
        key: number
        for key, value in (entries.items() if isinstance(entries, Mapping) else ())
        if isinstance(key, str) and key in KNOWN and (number := _read_number(value)) is not None
    }
    return numbers if any(name in numbers for name in HEADS) else {}


def _read_number(value: Any) -> int | None:
    """A whole number that can be a setting of a network; None of anything else."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,5}", value):  # as a shell passes it on
        value = int(value)
    return value if type(value) is int and 0 < value < LARGEST else None


def _walk(
    tree: Any, where: str, depth: int, left: list[int]
) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    entries = vars(tree) if isinstance(tree, argparse.Namespace) else tree
    if not isinstance(entries, Mapping) or depth == 0:
        return
    left[0] -= len(entries)
    if left[0] < 0:
        return
    yield where, entries
    for key, value in entries.items():
        if isinstance(key, str) and not any(other in key.lower() for other in OTHERS):
            yield from _walk(value, f"{where}/{key}" if where else key, depth - 1, left)


def choose_told_heads(
    told: tuple[Told, ...], weights: Mapping[str, Shaped], usual: int | None = None
) -> ToldHeads:
    """Choose the number of heads among settings: the one of a group that fits the weights.

    A group that may mean heads of tasks counts only where no other does; by a name of `VAGUE` it is
    not taken.

    Args:
        told: the settings that the file holds.
        weights: the weights of a plain transformer in timm's names.
        usual: the number that is usual for such a network, which confirms an equal one.
    """
    misfits = [(group, _find_misfit(group, weights)) for group in told]
    fits = [group for group, misfit in misfits if not misfit]
    fits = [group for group in fits if group.is_sure] or fits
    counts = {group.numbers[group.key] for group in fits}
    if len(counts) == 1:
        count, first = counts.pop(), fits[0]
        said = first.say(first.key)
        if first.is_sure:
            return ToldHeads(count, said)
        said += ", without the network's width or number of blocks beside it"
        if all(group.key in VAGUE for group in fits):
            return ToldHeads(said=f"{said}, so that it may be heads of tasks")
        return ToldHeads(count, said, sure=count == usual)
    if not told:
        return ToldHeads()
    if fits:
        said = " and ".join(group.say(group.key) for group in fits)
        return ToldHeads(said=f"{said}, which is not one number")
    said = " and ".join(_say_misfit(*pair) for pair in misfits)
    return ToldHeads(said=said, is_misfit=True)


def _say_misfit(group: Told, name: str) -> str:
    """Say the number of heads of a group and the setting that does not fit."""
    beside = "" if name == group.key else f", and beside it {name} {group.numbers[name]}"
    return f"{group.say(group.key)}{beside}, which does not fit the shapes of these weights"


def _find_misfit(group: Told, weights: Mapping[str, Shaped]) -> str:
    """The first setting of a group that is not that of the weights; empty where all fit."""
    patches = weights.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4:
        return group.key
    width, patch = patches.shape[0], patches.shape[-1]
    own = {WIDTH: width, PATCH: patch, BLOCKS: count_blocks(weights, "blocks.")}
    for names, value in own.items():
        name = group.find(names)
        if name is not None and group.numbers[name] != value:
            return name
    positions, side = weights.get("pos_embed"), group.find(SIDE)
    if side is not None and positions is not None and positions.ndim == 3:
        tokens = (group.numbers[side] // patch) ** 2
        if not 0 <= positions.shape[1] - tokens <= PREFIX:
            return side
    return "" if width % group.numbers[group.key] == 0 else group.key
