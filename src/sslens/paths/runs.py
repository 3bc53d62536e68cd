"""Which checkpoints are states of one training: told by the settings in their files, else by their
folder and their names."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

from sslens.models.about import About
from sslens.paths.order import BEST, FIRST, LAST, SUFFIXES

#: words in a checkpoint's name that say nothing of the training: a number after these is a state's
STATES = frozenset(
    (
        *("checkpoint", "checkpoints", "ckpt", "chkpt", "epoch", "epochs", "ep", "e", "step"),
        *("steps", "s", "iter", "iters", "iteration", "it", "model", "weights", "state"),
        *("snapshot", "encoder"),
    )
)
#: words before a number that tells one training from another
TRAININGS = frozenset(
    ("seed", "run", "trial", "try", "rep", "repeat", "fold", "split", "version", "v", "exp")
)
_PART = re.compile(r"[a-z]+|\d+", re.IGNORECASE)


@final
@dataclass(frozen=True)
class TrainingState:
    """A state of a training that may have others.

    Attributes:
        training: what all states of the training have in common, and no other training has.
        place: where in the training the state stands: its step or epoch, or what its name says.
    """

    training: str
    place: float = 0.0


def find_training(source: str, about: About) -> TrainingState | None:
    """Find the training of which a model is a state.

    Two models are of one training if their files say the same settings and the same seed; or if
    they lie in one folder, have one architecture and names that differ in the number of an epoch or
    step, or in a word such as "last", alone. A number after a word such as "seed" tells trainings
    apart.

    Args:
        source: the path of the model's file or folder, without options.
        about: what is known of the model.

    Returns:
        None of a control, of a released checkpoint that a card knows, and of a model without a
        file.

    >>> names = ("a/mae_epoch9.pth", "a/mae_last.pth", "b/mae_epoch9.pth", "a/dino_epoch9.pth")
    >>> states = [find_training(name, About(arch="vit")) for name in names]
    >>> [(state.training == states[0].training, state.place) for state in states]
    [(True, 9.0), (True, inf), (False, 9.0), (False, 9.0)]
    >>> seeds = [find_training(f"a/mae_seed{seed}.pth", About()) for seed in (0, 1)]
    >>> seeds[0].training == seeds[1].training
    False
    """
    if about.family == "control" or about.card:
        return None
    if about.recipe and about.seed is not None:
        began = about.pretrained.digest if about.pretrained else None
        run = (about.recipe, about.seed, about.arch, about.images, about.tuned, began)
        step = about.step if about.step is not None else float("inf")
        return TrainingState(repr(run), float(step))
    path = Path(source).expanduser()
    if not path.exists() and path.suffix not in SUFFIXES:
        return None
    name, place = _read_name(path.name if path.is_dir() else path.stem, is_folder=path.is_dir())
    parts = (str(path.parent.absolute()), name, about.arch, about.objective, about.tuned)
    return TrainingState(repr((*parts, about.recipe, about.seed)), place)


def _read_name(name: str, *, is_folder: bool) -> tuple[str, float]:
    """Split a name into what is the training's and the place of the state.

    Of a folder only a number after a word such as "checkpoint" is a state's.

    >>> _read_name("checkpoint_0003", is_folder=False), _read_name("best", is_folder=False)
    (('#', 3.0), ('#', inf))
    >>> _read_name("vitb16_ep100", is_folder=False), _read_name("run2", is_folder=True)
    (('vitb 16 #', 100.0), ('run 2', 0.0))
    """
    parts: list[str] = []
    place, before, end = 0.0, "", -1
    for match in _PART.finditer(name.lower()):
        part, is_apart = match[0], match.start() > end
        is_states = before in STATES or (is_apart and not is_folder and before not in TRAININGS)
        mark = "#"
        if part in FIRST:
            place = -1.0
        elif part in LAST | BEST:
            place = float("inf")
        elif part.isdecimal() and is_states:
            place = float(part)
        elif part not in STATES:
            mark = part
        if mark != "#" or parts[-1:] != ["#"]:
            parts.append(mark)
        before, end = part, match.end()
    return " ".join(parts), place
