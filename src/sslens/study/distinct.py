"""Names that tell files and folders apart: the shortest ends of their paths that differ."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath


def distinguish_paths(paths: Sequence[str]) -> list[str]:
    """Return the shortest end of each path that no other path has; of equal paths the whole.

    >>> distinguish_paths(["data/birds/val", "data/cars/val", "data/cars/train"])
    ['birds/val', 'cars/val', 'train']
    >>> distinguish_paths(["a/val", "b/a/val", "a/val"])
    ['a/val', 'b/a/val', 'a/val']
    """
    every = [PurePath(path).parts for path in paths]
    names = []
    for parts in every:
        ends = (parts[-length:] for length in range(1, len(parts) + 1))
        own = next((end for end in ends if _count_ends(every, end) == 1), parts)
        names.append(str(PurePath(*own)) if own else "")
    return names


def _count_ends(every: Sequence[tuple[str, ...]], end: tuple[str, ...]) -> int:
    """Count the paths that end so."""
    return Counter(parts[-len(end) :] for parts in every)[end]
