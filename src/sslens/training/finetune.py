"""Fine-tuning of a pre-trained model, on the one loop."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sslens import cards
from sslens.data.images import ImageSet
from sslens.errors import Doubt, InputError
from sslens.models import networks
from sslens.models.about import About, Origin
from sslens.models.backbone import Backbone
from sslens.tasks import finetuning as _finetuning
from sslens.tasks.finetuning import FineTuning, Start
from sslens.tasks.finetuning import Settings as Settings
from sslens.training import loop
from sslens.training.exam import Exam
from sslens.training.labels import classes
from sslens.training.optim import check
from sslens.training.schedule import Schedule, Training, scheduled
from sslens.training.subject import Subject
from sslens.training.watch import Watch
from sslens.zoo.shapes import written


def finetune(
    model: Backbone,
    images: ImageSet,
    out: Path,
    *,
    settings: Settings | None = None,
    training: Training | None = None,
    held: ImageSet | None = None,
    resume: bool = False,
    name: str | None = None,
    watch: Watch | None = None,
    path: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train all weights of a model, and a classifier on top of it, to tell the classes of images;
    returns the file of the last.

    Args:
        model: any that `sslens.load` gives, but pixels.
        images: labelled ones.
        out: the run's folder: that of `sslens.training.loop.train`, and `best.safetensors` with the
            encoder of the best epoch. Both encoders carry the classifier's weights too, and
            `sslens.load` takes them.
        held: labelled images that are classified after each epoch, top-1 and top-5 (MAE calls them
            its validation set).
        path: whether the path through the space of the weights is measured, into `path.csv`
            (`sslens.paths.path`).
        name: of the tuned model in tables and figures; the model's with "-ft" unless given.

    Raises:
        InputError: as `sslens.training.loop.train` does; images without labels or of one class,
            held-out ones of other classes; settings that do not go with the network.
    """
    subject = tuned(model, images, settings or Settings())
    exam = None if held is None else Exam(held, model.transform, subject.settings.classes)
    name = name or f"{model.name}-ft"
    how = training or Training()
    return loop.run(
        subject,
        images,
        out,
        training=how,
        resume=resume,
        name=name,
        watch=watch,
        exam=exam,
        path=path,
        say=say,
    )


def require_fit(preset: str, model: Backbone) -> None:
    """Refuse a preset that is not for such networks, and doubt one that its authors have for
    another size.

    Raises:
        InputError: the presets are for Vision Transformers, and the model is a CNN.

    Warns:
        Doubt: MAE's code has other numbers for a ViT of this width.
    """
    if not isinstance(model.network, networks.TRANSFORMERS):
        raise InputError(
            f"The preset {preset} is for Vision Transformers, and {model.name} is none: leave"
            " --preset out, and give the settings, epochs and minibatch of your own."
        )
    width = int(model.network.embed_dim)
    meant = {1024: "mae-official-large", 1280: "mae-official-huge"}.get(width, "mae-official")
    if preset.startswith("mae-official") and preset != meant:
        said = (
            f"MAE's code fine-tunes ViTs of width {width} with the numbers of the preset {meant},"
            f" not {preset}."
        )
        warnings.warn(said, Doubt, stacklevel=2)


def tuned(model: Backbone, images: ImageSet, settings: Settings) -> Subject:
    """A model that is to be fine-tuned on labelled images, for the loop.

    Raises:
        InputError: as `finetune` does.
    """
    settings = replace(settings, classes=classes("fine-tuning", images))
    check(settings)
    start = Start.of(model)
    built = FineTuning(model, settings)
    arch = model.about.arch

    def planned(count: int, training: Training, world: int) -> Schedule:
        share = training.batch_size // (world * training.accumulate)
        if settings.mixing() is not None and share % 2:
            raise InputError(
                f"Images are mixed in pairs, and each of {world * training.accumulate} shares of a"
                f" minibatch of {training.batch_size} would have {share}: give a --batch-size of a"
                f" multiple of {2 * world * training.accumulate}, or --set mixup=0 cutmix=0."
            )
        return scheduled(built, "fine-tuning", model.name, count, training, world)

    return Subject(
        verb="fine-tuning",
        name=f"{model.name} with a classifier",
        settings=settings,
        shape=start,
        batch=_finetuning.batch,
        build=lambda: FineTuning(model, settings),
        plan=planned,
        config={
            "objective": "fine-tuning",
            "arch": arch,
            "pretrained": {"name": model.name, "digest": model.digest},
        },
        header=_shape(model, built),
        about=About(
            family=model.about.family,
            objective=model.about.objective,
            tuned="fine-tuned",
            arch=arch,
            pretrained=Origin(model.name, model.source, model.digest),
            pooling=settings.pooling,
            classes=settings.classes,
        ),
        transform=model.transform,
        weights=FineTuning.kept,
    )


def _shape(model: Backbone, built: FineTuning) -> dict[str, object]:
    """The tuned network's shape; of a model that came from timm by its name there."""
    card = cards.known(model.source)
    source, arch = model.source if card is None else card.source or "", model.about.arch
    if source.startswith("hf-hub:"):
        raise InputError(
            f"{source} has no name by which its network could be built again: fine-tune the model"
            " of its file, or of timm:NAME."
        )
    by_timm = source.startswith("timm:") or (
        str(arch).startswith("timm/") and model.about.layout is None
    )
    if by_timm and source.startswith("timm:"):
        arch = f"timm/{source.removeprefix('timm:').partition('.')[0]}"
    return written(built.encoder, arch, model.name)
