"""The groups of models that a study names, in place of the families of objectives."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sslens.errors import InputError, nearest
from sslens.study.members import Member

if TYPE_CHECKING:
    from sslens.comparisons.inputs import ModelInfo
    from sslens.comparisons.naming import SideNames

#: the names of models, by the name of a group
Groups = Mapping[str, tuple[str, ...]]


def require_groups(groups: Groups, where: str = "") -> Groups:
    """Return groups that can be compared: two, each with members, no model in both.

    Args:
        groups: the names of models by the name of a group.
        where: what the groups stand in, for messages.

    Raises:
        InputError: there are not two groups; or a group has no name, no members, or a member twice;
            or a model is in both.

    >>> require_groups({"old": ("dino",), "new": ("mae", "dino")})
    Traceback (most recent call last):
    sslens.errors.InputError: The groups "old" and "new" both have dino: give it to one of them.
    """
    place = f" ({where})" if where else ""
    if not groups:
        return groups
    if len(groups) != 2:
        raise InputError(
            f"There {'is one group' if len(groups) == 1 else f'are {len(groups)} groups'} of models"
            f"{place}: claims are about two."
        )
    for name, members in groups.items():
        if not name.strip() or "\n" in name:
            raise InputError(f"A group of models has no name{place}.")
        if not members:
            raise InputError(f'The group "{name}" has no members{place}: give it a model, or more.')
        twice = [member for member in members if members.count(member) > 1]
        if twice:
            raise InputError(f'The group "{name}" has {twice[0]} twice{place}.')
    (first, own), (second, others) = groups.items()
    shared = [member for member in own if member in others]
    if shared:
        raise InputError(
            f'The groups "{first}" and "{second}" both have {shared[0]}{place}: give it to one of'
            " them."
        )
    return groups


def parse_groups(value: object, where: str) -> Groups:
    """Read the groups of a study file: a mapping from names to lists of models.

    Args:
        value: what the file has.
        where: the name of the file, for messages.

    Raises:
        InputError: the groups cannot be compared (`require_groups`), or are no such mapping.

    >>> parse_groups({"old": "dino", "new": ["mae", "msn"]}, "study.yaml")
    {'old': ('dino',), 'new': ('mae', 'msn')}
    """
    if not isinstance(value, Mapping):
        raise InputError(
            f"groups is {value!r} ({where}): expected two names, each with a list of models, such"
            " as {old: [dino_vitb16], new: [mae_vitb16]}."
        )
    groups: dict[str, tuple[str, ...]] = {}
    for name, members in value.items():
        listed = [members] if isinstance(members, str) else members
        if listed is None:
            listed = []
        if not isinstance(listed, list | tuple) or not all(isinstance(one, str) for one in listed):
            raise InputError(
                f'The group "{name}" is {members!r} ({where}): expected a list of models.'
            )
        groups[str(name)] = tuple(listed)
    return require_groups(groups, where)


def parse_group_words(words: Sequence[str]) -> Groups:
    """Read groups from words such as "old=dino_vitb16,moco_vitb16".

    Raises:
        InputError: a word has no name or no members, or the groups cannot be compared.

    >>> parse_group_words(["old=dino_vitb16,moco_vitb16", "new=mae_vitb16"])
    {'old': ('dino_vitb16', 'moco_vitb16'), 'new': ('mae_vitb16',)}
    """
    groups: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, members = word.partition("=")
        if not equals:
            raise InputError(f'"{word}" is no group: expected NAME=MODEL,MODEL.')
        if name in groups:
            raise InputError(f'The group "{name}" is given twice.')
        groups[name] = tuple(one for one in members.split(",") if one)
    return require_groups(groups)


def assign_families(members: Sequence[Member], groups: Groups) -> "tuple[ModelInfo, ...]":
    """Return what analyses are told about the members of a study.

    Without groups it is what is known of them. With groups, the family of a model of the first
    group is "JE", that of a model of the second "REC", and that of any other model is not known;
    controls keep their family.

    Raises:
        InputError: a group names a model that is not there, or a control; or one model by two
            names.
    """
    from sslens.comparisons.roles import CONTROL, JE, REC

    infos = tuple(member.info for member in members)
    if not groups:
        return infos
    families: dict[str, str] = {}
    for (group, names), family in zip(groups.items(), (JE, REC), strict=True):
        for name in names:
            member = _find_member(members, name, group)
            if member.name in families:
                raise InputError(
                    f'"{name}" of the group "{group}" is in a group by another name too.'
                )
            families[member.name] = family
    assigned = []
    for info in infos:
        beside = CONTROL if info.about.family == CONTROL else None
        about = replace(info.about, family=families.get(info.name, beside))
        assigned.append(info if info.control else replace(info, about=about, grouped=True))
    return tuple(assigned)


def name_sides(members: Sequence[Member], groups: Groups) -> "SideNames | None":
    """Return the names that a reader sees in place of the families; None without groups.

    Raises:
        InputError: a model is called like a family, so that the two could not be told apart.
    """
    from sslens.comparisons.naming import SideNames
    from sslens.comparisons.roles import JE, REC

    if not groups:
        return None
    names = tuple(member.name for member in members)
    taken = [name for name in names if name in (JE, REC)]
    if taken:
        raise InputError(
            f"A model is called {taken[0]}, like a family of objectives: give its file another name"
            " to name groups of models."
        )
    first, second = groups
    return SideNames(first, second, names)


def _find_member(members: Sequence[Member], name: str, group: str) -> Member:
    """The member that a group names as it was given, or as tables name it."""
    for member in members:
        if name in (member.given, member.name):
            if member.control:
                raise InputError(
                    f'"{name}" of the group "{group}" is a control, and no model under study.'
                )
            return member
    options = [
        one for member in members if not member.control for one in (member.given, member.name)
    ]
    raise InputError(
        f'The group "{group}" has "{name}", which is no model of this study:'
        f" {nearest(name, list(dict.fromkeys(filter(None, options))))}"
    )
