"""Which models under study are untrained, and which have no untrained control."""

from collections.abc import Mapping, Sequence

from sslens.study.members import Member


def describe_uncontrolled(
    members: Sequence[Member], untrained: Mapping[str, Sequence[str]]
) -> list[str]:
    """Say which models under study have no untrained control, where others may seem to be theirs:
    an architecture of a user's own has no name by which it is drawn again. A copy with random
    weights among them is read as a model, which is said too.

    Args:
        members: the models and controls.
        untrained: the models that seem untrained, as `find_untrained` finds them.
    """
    controls = [member for member in members if member.control]
    bare = [
        member.name
        for member in members
        if not member.control and not member.about.arch and member.described.source != "pixels"
    ]
    copies = [name for names in untrained.values() for name in names if name in bare]
    bare = [name for name in bare if name not in copies]
    if not controls or not bare:
        return []
    others = dict.fromkeys(str(one.about.arch) for one in controls if one.about.arch)
    several = len(bare) > 1
    clause = f": those here are of {', '.join(others)}" if others else ""
    lack = f"{', '.join(bare)} {'have' if several else 'has'} no untrained control{clause}."
    if not copies:
        return [
            f"{lack} Give a copy with random weights as one more model, to see what"
            f" {'their' if several else 'its'} training added."
        ]
    said = "seem untrained and are" if len(copies) > 1 else "seems untrained and is"
    return [
        f"{lack} {', '.join(copies)} {said} no control by name: where the architecture is the same,"
        f" the difference to it says what {'their' if several else 'its'} training added."
    ]


def find_untrained(members: Sequence[Member]) -> dict[str, list[str]]:
    """Find the models under study that are as an initialisation leaves them, beside those that are
    known to be random: their names, by what makes them seem so."""
    from sslens.zoo.suspicions import find_untouched

    told: dict[str, list[str]] = {}
    for member in members:
        if member.control or member.about.family == "control":
            continue
        if member.model is not None:
            state = member.model.network.state_dict()
            values = {name: one.float().cpu().numpy() for name, one in state.items()}
        elif member.weights is not None:  # as in a diff without images, which builds no network
            tensors = member.weights.tensors
            values = {name: one.value.values for name, one in tensors.items() if not one.beside}
        else:
            continue
        for said in list(find_untouched(values))[:1]:
            told.setdefault(said, []).append(member.name)
    return told
