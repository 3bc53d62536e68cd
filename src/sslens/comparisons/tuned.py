"""Fine-tuned models: what each was before, and the control, a random initialisation that was
fine-tuned likewise."""

from collections.abc import Mapping, Sequence

from sslens.comparisons import roles as _roles
from sslens.models.about import About, Origin

CONTROL = "control"


def is_control(about: About) -> bool:
    """Whether a model is a random initialisation, or was one before it was fine-tuned.

    >>> is_control(About(family="control"))
    True
    >>> is_control(About(family="REC", pretrained=Origin(source="runs/mae")))
    False
    """
    return about.family == CONTROL or str(_began(about).source).startswith("random:")


def matched(about: Mapping[str, About], names: Sequence[str]) -> dict[str, str]:
    """Fine-tuned models, each with what it was before.

    That is the model of the weights that it says it began with, else that of the name that it says,
    else the first one of the same objective and architecture; of the control, the first random
    initialisation of the same architecture.

    >>> from dataclasses import replace
    >>> mae = About(objective="mae", arch="vit")
    >>> known = {"mae": mae, "ft": replace(mae, tuned="fine-tuned")}
    >>> matched(known, ["mae", "ft"])
    {'ft': 'mae'}
    >>> known["seed 1"] = replace(mae, more={"digest": "5eed"})
    >>> known["ft"] = replace(known["ft"], pretrained=Origin(digest="5eed"))
    >>> matched(known, ["mae", "seed 1", "ft"])
    {'ft': 'seed 1'}
    """
    found = {}
    firsts = [name for name in names if not _roles.is_tuned(about[name])]
    for name in names:
        own = about[name]
        if _roles.is_tuned(own):
            began = _began(own)
            alike = [other for other in firsts if _alike(own, about[other])]
            digest = began.digest
            same = [
                other for other in firsts if digest and about[other].more.get("digest") == digest
            ]
            before = same or [other for other in alike if other == began.name] or alike
            if before:
                found[name] = before[0]
    return found


def controls(about: Mapping[str, About], names: Sequence[str], tuned: str) -> list[str]:
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
        and about[name].arch == own.arch
        and not unlike([own, about[name]])
    ]


def unlike(abouts: Sequence[About]) -> bool:
    """Whether models say that they were fine-tuned by different recipes: settings, epochs,
    images."""
    return len({about.recipe for about in abouts if about.recipe}) > 1


def match(about: Mapping[str, About], tuned: str, first: str) -> str:
    """Which model is taken for which before fine-tuning, and why.

    >>> tuned = About(objective="mae", arch="vit", pretrained=Origin(digest="da"))
    >>> known = {"mae": About(more={"digest": "da"}), "ft": tuned}
    >>> match(known, "ft", "mae"), match(known | {"mae": About()}, "ft", "mae")
    ('ft from mae', 'ft from mae: both mae, vit')
    """
    own, digest = about[tuned], _began(about[tuned]).digest
    if digest and about[first].more.get("digest") == digest:
        return f"{tuned} from {first}"
    return (
        f"{tuned} from {first}: both {own.objective or 'random'},"
        f" {own.arch or 'unknown architecture'}"
    )


def _began(about: About) -> Origin:
    """The model that a fine-tuned one began with, as far as its file says."""
    return about.pretrained or Origin()


def _alike(tuned: About, other: About) -> bool:
    known = tuned.arch if is_control(tuned) and is_control(other) else tuned.objective
    return bool(known) and (other.objective, other.arch) == (tuned.objective, tuned.arch)
