"""Fine-tuning of a pre-trained model, on the one loop."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sslens.data.images import ImageSet
from sslens.errors import Doubt, InputError
from sslens.models import networks
from sslens.models.backbone import Backbone
from sslens.tasks import classification
from sslens.tasks.accuracy import Accuracy
from sslens.tasks.classification import Settings
from sslens.training.loop import RunRequest, run
from sslens.training.observers import BeginObserver, BestKeeper, follow_path
from sslens.training.schedule import Training
from sslens.training.watch import Watch

__all__ = ["Settings", "finetune", "require_fit"]


def finetune(
    model: Backbone,
    images: ImageSet,
    out: Path,
    *,
    settings: Settings | None = None,
    training: Training | None = None,
    held: ImageSet | None = None,
    resume: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    watch: Watch | None = None,
    path: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a model and a classifier on top of it; returns the path of the last encoder.

    Args:
        model: a Vision Transformer, a ResNet or a ConvNeXt.
        images: labelled images.
        out: the run's folder, with the same files as `sslens.training.pretrain.pretrain` writes.
            Where `held` is given, also `best.safetensors`, the encoder of the best epoch. Both
            carry the classifier's weights too, and `sslens.load` reads them.
        settings: the settings of the task; MAE's for a ViT-B unless given.
        training: the length of the run, and on what it runs.
        held: labelled images that are classified after each epoch, top-1 and top-5.
        resume: go on from the checkpoint in `out`, or start where there is none yet.
        overwrite: first remove the files of the run that `out` holds, and no others.
        name: the tuned model's name; the original model's name with "-ft" unless given.
        watch: what is measured, and warned of, while the run goes on.
        path: whether `path.csv` is written (`sslens.paths.path`): three times the weights in state.
        say: called with lines for a person.

    Raises:
        InputError: as for pre-training; or the images have no labels or one class, the held-out
            images have others, or the settings do not fit the network.
    """
    job = classification.job(model, images, settings or Settings())
    observers: list[BeginObserver] = [follow_path] if path else []
    if watch is not None:
        observers += watch.observers()
    judge = None if held is None else Accuracy(held, model.transform, job.settings.classes)
    if judge is not None:
        observers.append(partial(BestKeeper, evaluation=judge))
    return run(
        RunRequest(
            job=job,
            images=images,
            out=out,
            training=training or Training(),
            name=name or f"{model.name}-ft",
            resume=resume,
            overwrite=overwrite,
            observers=tuple(observers),
            judged=watch is not None,
            chance=None if judge is None else judge.chance,
            tell=() if watch is None else watch.tell,
            say=say,
        )
    )


def require_fit(preset: str, model: Backbone) -> None:
    """Refuse a preset that is not for the model's kind of network, and warn where MAE's authors use
    another preset for a network of its width.

    Raises:
        InputError: the model is a CNN; all presets are for Vision Transformers.

    Warns:
        Doubt: MAE's code has another preset for a ViT of this width.
    """
    if not isinstance(model.network, networks.TRANSFORMERS):
        raise InputError(
            f"The preset {preset} is for Vision Transformers, and {model.name} is none",
            mend="leave {preset} out, and give the settings, epochs and minibatch of your own",
        )
    width = int(model.network.embed_dim)
    meant = {1024: "mae-official-large", 1280: "mae-official-huge"}.get(width, "mae-official")
    if preset.startswith("mae-official") and preset != meant:
        warnings.warn(
            f"MAE's code fine-tunes ViTs of width {width} with the numbers of the preset {meant},"
            f" not {preset}.",
            Doubt,
            stacklevel=2,
        )
