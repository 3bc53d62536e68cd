"""The paths of the weights of fine-tuned models, for those models whose path was recorded."""

from typing import Any

from sslens.comparisons.inputs import Paths
from sslens.comparisons.paths import find_path
from sslens.study.situation import Captured, Lack, Situation

TYPE = Paths
IMAGES = False


def unmet(situation: Situation) -> Lack | None:
    """A path is known only for a model that was fine-tuned with its path recorded."""
    if _look_up(situation):
        return None
    return Lack(
        "of no fine-tuned model the path is known",
        "fine-tune with {path=True}, or write path.csv beside the checkpoints with sslens path",
    )


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
