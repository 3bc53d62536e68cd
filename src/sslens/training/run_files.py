"""The files of a training's folder by name, and which folders a training may take; nothing heavy is
imported."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sslens import zoo
from sslens.data.sources import require_no_images
from sslens.errors import InputError
from sslens.own_files import TRAINING, Contents, OwnFiles
from sslens.settings_file import read_yaml

STATE, LOG, CONFIG = "state.safetensors", "log.jsonl", "config.yaml"
#: the files of what did best on held-out images, and of the path of the weights
BEST, PATH = "best.safetensors", "path.csv"
#: the folder of the report of a run that is over
REPORT = "report"
#: other files that a run may write, as patterns
_MORE = ("states.csv", "wandb.txt", "states/[0-9]*.safetensors", "samples/step-[0-9]*.png")


def require_free(
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    models: Sequence[str] = (),
) -> None:
    """Refuse a folder that holds another run or study, strangers' files where a run's would be, or,
    where it is to be replaced, a model that the run reads.

    Args:
        folder: the folder, which need not be there.
        resume: whether a run that is there goes on.
        overwrite: whether the files of what is there may be removed.
        models: the models that the run reads, as they were given.

    Raises:
        InputError: the folder cannot be taken.
    """
    for model in models if overwrite else ():
        if Path(model.partition("@")[0]).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{model} is a model that the run reads, and {folder} is to be replaced",
                mend="give another {out}",
            )
    if resume and overwrite:
        raise InputError(
            "A run cannot both go on and be replaced", mend="give {resume=True} or {overwrite=True}"
        )
    if not overwrite and not resume and (folder / STATE).exists():
        raise InputError(
            f"{folder} already holds a run",
            mend="go on with {resume=True}, replace it with {overwrite=True}, or choose another"
            " {out}",
        )
    older = find_older(folder)
    there = OwnFiles(folder).read() or older
    replaced = overwrite and there is not None and zoo.ENCODER in there.files
    lone = (folder / zoo.ENCODER).exists() and not (folder / STATE).exists()
    if lone and not replaced:
        raise InputError(
            f"{folder} holds a trained encoder but no {STATE} to go on from",
            mend="choose another {out}",
        )
    # whether a state that is there is of a run is told by its header
    going_on = resume and (folder / STATE).exists()
    names = () if going_on else (CONFIG, LOG, STATE, zoo.ENCODER)
    OwnFiles(folder).require(TRAINING, {}, names=names, overwrite=overwrite, older=older)


def require_place_for_images(folder: Path) -> None:
    """Refuse a folder of someone's images for a run that generates images in its course.

    Raises:
        InputError: the folder holds images, and no run or study.
    """
    if OwnFiles(folder).read() is None and find_older(folder) is None:
        require_no_images(folder, "samples")


def find_older(folder: Path) -> Contents | None:
    """Find the files of a run that was written before there were lists of files, by its settings;
    None where the folder has a list, or no such settings."""
    if OwnFiles(folder).read() is not None or not _has_settings(folder / CONFIG):
        return None
    return list_files(folder)


def list_files(folder: Path) -> Contents:
    """List the files in a folder that have a name of a run's."""
    named = [CONFIG, LOG, STATE, zoo.ENCODER, BEST, PATH, *_MORE]
    files = (path for name in named for path in folder.glob(name) if path.is_file())
    return Contents(
        TRAINING, files=frozenset(path.relative_to(folder).as_posix() for path in files)
    )


def _has_settings(path: Path) -> bool:
    """Whether a file is the settings of a run: YAML with the keys that every run writes."""
    try:
        values = read_yaml(path)
    except (OSError, InputError):
        return False
    return isinstance(values, Mapping) and {"sslens", "settings", "training"} <= values.keys()


def remove_run(folder: Path) -> None:
    """Remove the files of a run or of another study, the run's report too, and nothing else."""
    OwnFiles(folder / REPORT).remove_all()
    OwnFiles(folder).remove_all(OwnFiles(folder).read() or find_older(folder))
