"""Fine-tuned models: what each was before, and the control, a random initialisation that was
fine-tuned likewise."""

from collections.abc import Mapping, Sequence
from typing import Any

from sslens.comparisons import roles as _roles

CONTROL = "control"


def is_control(about: Mapping[str, Any]) -> bool:
    """Whether a model is a random initialisation, or was one before it was fine-tuned.

    >>> is_control({"family": "control"}), is_control({"family": "REC", "pretrained": {"source": "runs/mae"}})
    (True, False)
    """
    return about.get("family") == CONTROL or str(_began(about).get("source", "")).startswith(
        "random:"
    )


def matched(about: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, str]:
    """Fine-tuned models, each with what it was before.

    That is the model of the weights that it says it began with, else that of the name that it says,
    else the first one of the same objective and architecture; of the control, the first random
    initialisation of the same architecture.

    >>> known = {"mae": {"objective": "mae", "arch": "vit"}, "ft": {"objective": "mae", "arch": "vit", "tuned": "fine-tuned"}}
    >>> matched(known, ["mae", "ft"])
    {'ft': 'mae'}
    >>> known["seed 1"] = known["mae"] | {"digest": "5eed"}
    >>> matched(known | {"ft": known["ft"] | {"pretrained": {"digest": "5eed"}}}, ["mae", "seed 1", "ft"])
    {'ft': 'seed 1'}
    """
    found = {}
    firsts = [name for name in names if not _roles.is_tuned(about.get(name, {}))]
    for name in names:
        own = about.get(name, {})
        if _roles.is_tuned(own):
            began = _began(own)
            alike = [other for other in firsts if _alike(own, about.get(other, {}))]
            digest = began.get("digest")
            same = [
                other for other in firsts if digest and about.get(other, {}).get("digest") == digest
            ]
            before = same or [other for other in alike if other == began.get("name")] or alike
            if before:
                found[name] = before[0]
    return found


def controls(about: Mapping[str, Mapping[str, Any]], names: Sequence[str], tuned: str) -> list[str]:
    """The fine-tuned random initialisations that a fine-tuned model is held against: of its
    architecture and its recipe.

    Where a file does not say its recipe, it is taken for the same.
    """
    own = about[tuned]
    return [
        name
        for name in names
        if _roles.is_tuned(about[name])
        and is_control(about[name])
        and about[name].get("arch") == own.get("arch")
        and not unlike([own, about[name]])
    ]


def unlike(abouts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether models say that they were fine-tuned by different recipes: settings, epochs,
    images."""
    return len({about["recipe"] for about in abouts if about.get("recipe")}) > 1


def match(about: Mapping[str, Mapping[str, Any]], tuned: str, first: str) -> str:
    """Which model is taken for which before fine-tuning, and why.

    >>> known = {"mae": {"digest": "da"}, "ft": {"objective": "mae", "arch": "vit", "pretrained": {"digest": "da"}}}
    >>> match(known, "ft", "mae"), match(known | {"mae": {}}, "ft", "mae")
    ('ft from mae', 'ft from mae: both mae, vit')
    """
    own, digest = about[tuned], _began(about[tuned]).get("digest")
    if digest and about[first].get("digest") == digest:
        return f"{tuned} from {first}"
    return (
        f"{tuned} from {first}: both {own.get('objective') or 'random'},"
        f" {own.get('arch') or 'unknown architecture'}"
    )


def _began(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a fine-tuned model says of the one that it began with."""
    before = about.get("pretrained")
    return before if isinstance(before, Mapping) else {}


def _alike(tuned: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    known = tuned.get("arch") if is_control(tuned) and is_control(other) else tuned.get("objective")
    return bool(known) and all(other.get(key) == tuned.get(key) for key in ("objective", "arch"))
