"""The paths of the weights of fine-tuned models, for those models whose path was recorded."""

from typing import Any

from sslens.comparisons.inputs import Paths
from sslens.comparisons.paths import find_path, is_path_beside
from sslens.comparisons.roles import is_tuned, list_names
from sslens.study.situation import Captured, Lack, Situation

TYPE = Paths
IMAGES = False


def unmet(situation: Situation) -> Lack | None:
    """A path is known only for a model that was fine-tuned with its path recorded."""
    if _look_up(situation):
        return None
    untuned = _list_untuned(situation)
    if untuned:
        return Lack(
            f"there is a path.csv beside {list_names(untuned)}, but no file says that it was"
            " fine-tuned, and this analysis is of fine-tuned models",
            "see the path of a pre-training by sslens path",
        )
    return Lack(
        "of no fine-tuned model the path is known",
        "fine-tune with {path=True}, or write path.csv beside the checkpoints with sslens path",
    )


def _list_untuned(situation: Situation) -> list[str]:
    """The models beside which there is a path, and that no file says to be fine-tuned."""
    return [
        member.name
        for member in situation.members
        if member.model is not None
        and not is_tuned(member.described.about)
        and is_path_beside(member.described.source)
    ]


def gather(captured: Captured) -> Paths:
    """Return the table of each model's path."""
    return _look_up(captured.situation)


def _look_up(situation: Situation) -> Paths:
    paths = {
        member.name: find_path(member.described.source, member.described.about)
        for member in situation.members
        if member.model is not None
    }
    return {name: table for name, table in paths.items() if table is not None}


def key(value: Paths) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the whole tables, and what is known of the models."""
    return {name: (path.csv(), dict(path.provenance)) for name, path in value.items()}
