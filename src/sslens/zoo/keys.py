"""Many keys of a file in a few words."""

import re

from sslens.errors import shorten

#: characters of the longest key that is shown whole
LONGEST = 200


def find_pattern(keys: list[str]) -> str:
    """Names that keys have in common, with * for what differs.

    >>> find_pattern(["head.weight", "head.bias"]), find_pattern(["mask_token"])
    ('head.*', 'mask_token')
    >>> find_pattern(["blocks.0.x", "blocks.1.x", "norm.weight"])
    'blocks.*, norm.weight'
    """
    if len(keys) == 1:
        return shorten(keys[0], LONGEST)
    keys = [shorten(key, LONGEST) for key in keys]
    common = find_shared_start(keys)
    if len(common) > 3:
        return re.sub(r"\.[^.]*$", ".", common) + "*" if "." in common else f"{common}*"
    first: dict[str, list[str]] = {}
    for key in keys:
        first.setdefault(key.split(".")[0], []).append(key)
    shown = [
        find_pattern(names) if len(names) == 1 or len(first) > 1 else f"{name}.*"
        for name, names in first.items()
    ]
    return ", ".join(shown[:6]) + (f", {len(shown) - 6} more" if len(shown) > 6 else "")


def find_shared_start(keys: list[str]) -> str:
    """The beginning that all keys have in common."""
    low, high = min(keys), max(keys)  # what these two share, all share
    return low[
        : next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    ]
