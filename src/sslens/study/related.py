"""What lies beside the models of a study that its reader may want: a better epoch of the same run,
and the command that tells what a fine-tuning changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sslens import zoo
from sslens.comparisons.copies import ALIKE
from sslens.comparisons.inputs import ModelInfo, Models
from sslens.comparisons.roles import is_tuned, list_names
from sslens.comparisons.trainings import count_trainings_once
from sslens.comparisons.tuned import NOTHING, is_start
from sslens.errors import InputError

if TYPE_CHECKING:
    from sslens.models.backbone import Backbone
    from sslens.study.members import Member


def describe_related(members: Sequence["Member"], *, diff: bool = False) -> list[str]:
    """Write a sentence for each run of which the folder was given and another epoch did best, one
    for a model that is there before and after fine-tuning, and one for each training of which
    several states are there.

    Args:
        members: the models and controls of a study.
        diff: whether the study tells already what changed between its models.
    """
    studied = [member for member in members if not member.control and member.given]
    tuned = [] if diff else _describe_tuned(studied)
    return [*filter(None, map(_describe_best, studied)), *tuned, *_describe_states(studied)]


def describe_assumed(members: Sequence["Member"]) -> list[str]:
    """Say in one note what the files of models do not tell: how images are prepared, and which
    network was taken of a file that holds several.

    Args:
        members: the models and controls of a study.
    """
    known = {one.name: one.model.assumptions for one in members if one.model is not None}
    settings: dict[tuple[str, ...], list[str]] = {}
    for name, one in known.items():
        if one.settings:
            settings.setdefault(one.settings, []).append(name)
    told = [f"{list_names(names)} ({list_names(list(what))})" for what, names in settings.items()]
    sentences = []
    if told:
        sentences.append(
            f"No file tells how images are prepared for {list_names(told)}: ImageNet's"
            " settings are assumed, as sslens doctor shows them."
        )
    sentences += [f"Of {name}, {one.untaken}." for name, one in known.items() if one.untaken]
    taken = [
        f"of {name} the {one.branch} and not its {' or '.join(one.others)}"
        for name, one in known.items()
        if one.branch
    ]
    if taken:
        text = f"{list_names(taken)} was taken"
        sentences.append(f"{text[0].upper()}{text[1:]}.")
    return [" ".join(sentences)] if sentences else []


def describe_read_apart(members: Sequence["Member"]) -> list[str]:
    """Say which models under study hold the same tensors and are read as different networks, as
    with other numbers of attention heads.

    Args:
        members: the models and controls of a study.
    """
    groups: list[list[Backbone]] = []
    named = {id(one.model): one.name for one in members}
    for model in [one.model for one in members if one.model is not None and not one.control]:
        same = [group for group in groups if _have_same_tensors(group[0], model)]
        if same:
            same[0].append(model)
        else:
            groups.append([model])
    return [
        f"{list_names([named[id(one)] for one in group])} hold the same tensors and are read as"
        f" different networks{_spell_heads(group)}: nothing but that sets their features apart."
        for group in groups
        if len({one.digest for one in group}) > 1
    ]


def _have_same_tensors(one: "Backbone", other: "Backbone") -> bool:
    """Whether all tensors of two networks are equal."""
    first, second = one.network.state_dict(), other.network.state_dict()
    return first.keys() == second.keys() and all(
        value.shape == second[name].shape and value.equal(second[name])
        for name, value in first.items()
    )


def _spell_heads(models: Sequence["Backbone"]) -> str:
    """Numbers of attention heads in brackets; empty where they are equal or there are none."""
    from sslens.zoo.hints import read_hints

    counts = [read_hints(one.network)[0] for one in models]
    if None in counts or len({*counts}) == 1:
        return ""
    return f" ({list_names([str(count) for count in counts])} heads of attention)"


def describe_unprepared(members: Sequence["Member"], said: Sequence[str]) -> list[str]:
    """Say of each module that does not tell how its images are prepared what was assumed, where it
    was wrapped before its study was planned.

    Args:
        members: the models and controls of a study.
        said: the doubts that arose when models were loaded for the study.
    """
    return [
        one.model.assumptions.say_prepared(one.name)
        for one in members
        if one.model is not None
        and one.model.assumptions.prepared
        and one.model.assumptions.say_prepared(one.model.name) not in said
    ]


def _describe_states(members: Sequence["Member"]) -> list[str]:
    """Say which models of a known objective or family are states of one training: they count once
    where trainings are counted."""
    states: dict[str, list[ModelInfo]] = {}
    for info in (member.info for member in members):
        if info.state is not None and (info.about.objective or info.about.family):
            states.setdefault(info.state.training, []).append(info)
    sentences = []
    for alike in states.values():
        if len({info.digest for info in alike}) > 1:
            last = count_trainings_once(Models(tuple(alike)), [info.name for info in alike])
            sentences.append(
                f"{list_names([info.name for info in alike])} are taken for states of one training,"
                f" by their settings or their names in one folder: it counts once, by {last[0]},"
                " and they are no two trainings that others are held against."
            )
    return sentences


def describe_copies(models: Models) -> list[str]:
    """Say which models of a known objective or family compute the same, or almost, and by which of
    them they count where trainings are counted.

    Args:
        models: the models of a study, with the copies among them marked (`copies.mark_copies`).

    >>> from sslens.models.about import About
    >>> mae = About("REC", "mae")
    >>> copy = ModelInfo("mae in bfloat16", about=mae, copy_of="mae")
    >>> describe_copies(Models((ModelInfo("mae", about=mae), copy)))[0][:52]
    'mae and mae in bfloat16 compute the same, or almost:'
    """
    groups: dict[str, list[str]] = {}
    for one in models:
        first = one.copy_of
        known = one.about.objective or one.about.family
        # of equal digests the plan says that they are one model
        if first and known and (one.digest is None or one.digest != models[first].digest):
            groups.setdefault(first, [first]).append(one.name)
    if not groups:
        return []
    named = "; ".join(list_names(names) for names in groups.values())
    return [
        f"{named} compute the same, or almost: their CKA is {ALIKE} or more at every tap (their"
        " weights are equal but for rounding, where no CKA is known). They count as one training,"
        f" by {list_names(list(groups))}, and are no two trainings that others are held against."
    ]


def _describe_best(member: "Member") -> str:
    """Say which file a folder stands for, where the run kept a better one on its held-out images;
    empty where it did not."""
    from sslens.training.folder import RunFolder
    from sslens.training.run_files import BEST

    folder = Path(zoo.split_options(member.given)[0]).expanduser()
    if not (folder / BEST).is_file() or not (folder / zoo.ENCODER).is_file():
        return ""
    try:
        judged = [line for line in RunFolder(folder, {}).lines() if "top1" in line]
    except InputError:  # another program's log has the same name
        return ""
    if not judged:
        return ""
    best, last = max(judged, key=lambda line: float(line["top1"])), judged[-1]
    if float(best["top1"]) == float(last["top1"]):
        return ""
    return (
        f"{member.name} is the last epoch of {folder} (top-1 {float(last['top1']):.1%} on the run's"
        f" own held-out images); {folder / BEST} is its best, epoch {best['epoch']:g}"
        f" ({float(best['top1']):.1%})."
    )


def _describe_tuned(members: Sequence["Member"]) -> list[str]:
    """Name the command that tells what a fine-tuning changed, for the first pair that is there
    before and after."""
    for tuned in members:
        began = tuned.about.pretrained or NOTHING
        for first in members:
            if is_tuned(tuned.about) and first is not tuned and is_start(began, first.info):
                return [
                    f"{tuned.name} was fine-tuned from {first.name}: sslens diff {first.given}"
                    f" {tuned.given} tells what that changed, layer by layer."
                ]
    return []
