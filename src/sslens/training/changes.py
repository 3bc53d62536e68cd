"""What is other in the settings of a run that is to go on, in words."""

import re
from collections.abc import Mapping
from typing import Any

from sslens.own_files import word_lists

#: changes that are named
SHOWN = 3
#: a digest, and the digits of it that are shown
_DIGEST = re.compile(r"[0-9a-f]{64}")
DIGITS = 12
#: what a config says of the images
IMAGES = "images."
NAME, COUNT, DIGEST, UNORDERED = (
    f"{IMAGES}{name}" for name in ("name", "count", "digest", "unordered")
)


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Describe what changed between two configs, classes first; empty where nothing did.

    Args:
        old, new: the values by dotted name.

    >>> describe_changes({"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 1})
    'seed was 0 and is now 1'
    """
    apart = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    if DIGEST in apart:
        apart = {key for key in apart if key == DIGEST or not key.startswith(IMAGES)}
    ordered = sorted(apart, key=lambda key: (not key.endswith(".classes"), key))
    changes = [
        _describe_images(old, new)
        if key == DIGEST
        else _describe_change(key, old.get(key), new.get(key))
        for key in ordered[:SHOWN]
    ]
    more = [f"and {len(ordered) - SHOWN} more"] if len(ordered) > SHOWN else []
    return "; ".join(changes + more)


def _describe_images(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say how the images differ: by name or number, by order, or else by what they are.

    >>> old = {"images.name": "birds", "images.count": 48, "images.digest": "a" * 64}
    >>> old["images.unordered"] = "c" * 64
    >>> _describe_images(old, old | {"images.count": 40, "images.digest": "b" * 64})
    'the images were 48 of birds and are now 40 of birds, digest aaaaaaaaaaaa and now bbbbbbbbbbbb'
    >>> _describe_images(old, old | {"images.digest": "b" * 64}).partition(", digest")[0]
    'the images are the same 48 of birds in another order'
    """
    digests = f"digest {_spell(old.get(DIGEST))} and now {_spell(new.get(DIGEST))}"
    before, now = (f"{one.get(COUNT)} of {one.get(NAME)}" for one in (old, new))
    if before != now:
        return f"the images were {before} and are now {now}, {digests}"
    if old.get(UNORDERED) and old.get(UNORDERED) == new.get(UNORDERED):
        return f"the images are the same {now} in another order, {digests}"
    return (
        f"the images are {now} as before and not the same ones: files or classes were changed, or"
        f" others were drawn, {digests}"
    )


def _describe_change(key: str, old: Any, new: Any) -> str:
    """Say how a setting changed; of a long list what it lost and what it gained.

    >>> old, new = ["cat", "dog", "fox", "owl"], ["cat", "cow", "dog", "fox"]
    >>> _describe_change("settings.classes", old, new)
    'settings.classes lost owl and gained cow'
    >>> mae, dino = {"model": "mae", "tap": "norm"}, {"model": "dino", "tap": "norm"}
    >>> _describe_change("conditions", [mae], [mae, dino])
    'models were mae and are now mae, dino'
    >>> _describe_change("conditions", [mae], [mae | {"tap": "blocks.5"}])
    'tap of mae was norm and is now blocks.5'
    """
    if _are_conditions(old) and _are_conditions(new):
        return _describe_conditions(old, new)
    if isinstance(old, list) and isinstance(new, list) and len(old) > 3 and set(old) != set(new):
        return f"{key} {word_lists(old, new)}"
    return f"{key} was {_spell(old)} and is now {_spell(new)}"


def _are_conditions(value: Any) -> bool:
    """Whether a value is the list of the models that condition a generator."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, Mapping) and "model" in each for each in value)
    )


def _describe_conditions(old: list[Any], new: list[Any]) -> str:
    """Say which models condition a generator, or what is other about one of them."""
    names, now = ([str(each["model"]) for each in one] for one in (old, new))
    if names != now:
        return f"models were {', '.join(names)} and are now {', '.join(now)}"
    changes = [
        f"{key} of {before['model']} was {_spell(before.get(key))} and is now {_spell(value)}"
        for before, after in zip(old, new, strict=True)
        for key, value in after.items()
        if before.get(key) != value
    ]
    return "; ".join(changes[:SHOWN])


def _spell(value: Any) -> str:
    """Format a value; of digests their beginning."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_spell(part)}" for key, part in value.items())
    if value is None:
        return "not given"
    return _DIGEST.sub(lambda match: match[0][:DIGITS], str(value))
