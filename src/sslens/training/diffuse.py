"""The training of a generator from representations, on the one loop."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from sslens.data.hidden import hide_pixels
from sslens.diffusion.adapters import Adapters
from sslens.errors import InputError
from sslens.own_files import OwnFiles
from sslens.store import write_beside
from sslens.tasks import diffusion
from sslens.tasks.diffusion import Diffusion, GeneratorStart, describe_generator
from sslens.tasks.diffusion_settings import Settings
from sslens.tasks.generator import Generator
from sslens.tasks.held_out_loss import HeldOutLoss
from sslens.tasks.representations import Represented
from sslens.tasks.sheet import arrange_sheet
from sslens.training.detect import EvaluatedAt
from sslens.training.kept import LogLine
from sslens.training.loop import RunRequest, run
from sslens.training.observers import BeginObserver, Findings, RunningTraining
from sslens.training.run_files import require_place_for_images
from sslens.training.schedule import Training

#: rows of features by which they are standardised or whitened, at most
FITTED = 2**16
#: held-out images of which the loss is measured, at most
HELD = 512
#: the shares of a training after which the held-out loss is measured
EVALUATED = tuple(share / 10 for share in range(1, 11))
#: the shares of a training after which images are generated
PICTURED = (0.1, 0.25, 0.5, 0.75, 1.0)
#: source images of each model in a picture, and samples of each
SOURCES, DRAWS = 4, 4
#: steps of a process that takes more by default than a look in passing should; ancestral ones mend
#: what a half-trained network leaves wrong early, and deterministic ones keep it
QUICK = {"gaussian": "25"}


def train_generator(
    represented: Represented,
    out: Path,
    *,
    settings: Settings | None = None,
    training: Training | None = None,
    held: Represented | None = None,
    resume: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    pictures: bool = True,
    tell: Sequence[Callable[[LogLine], None]] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a generator on images and the features that models have of them.

    Args:
        represented: the training images with their features.
        out: the run's folder, with the same files as `sslens.training.pretrain.pretrain` writes;
            `sslens.tasks.generator.open_generator` opens it.
        settings: of the task; RCDM's at 128 px unless given.
        training: the length of the run, and on what it runs.
        held: held-out images with features of the same models, of which the loss is measured ten
            times in the course of the run.
        resume: go on from the checkpoint in `out`, or start where there is none yet.
        overwrite: first remove the files of the run or study that `out` holds, and no others.
        name: the generator's name.
        pictures: whether images are generated a few times in the course of the run, into the folder
            `samples`: of held-out images where there are any, else of training images.
        tell: called with every line of the log.
        say: called with lines for a person.

    Returns:
        The path of `last.safetensors`, which holds the average of the weights.

    Raises:
        InputError: as `sslens.training.pretrain.pretrain`; or fewer than two images, held-out
            features of other models, or pictures for a folder of someone's images.
    """
    if pictures:
        require_place_for_images(out)
    start = prepare(represented, settings := settings or Settings())
    return run(
        RunRequest(
            job=diffusion.job(start, settings),
            images=hide_pixels(represented.images),
            out=out,
            training=training or Training(),
            name=name or out.name,
            resume=resume,
            overwrite=overwrite,
            observers=observe(start, settings, held, pictures=pictures),
            tell=tuple(tell),
            say=say,
        )
    )


def observe(
    start: GeneratorStart, settings: Settings, held: Represented | None, *, pictures: bool
) -> tuple[BeginObserver, ...]:
    """Return what makes the observers of a training: its held-out loss, and its samples.

    Raises:
        InputError: the held-out features are of other models, taps or poolings.
    """
    observers: list[BeginObserver] = []
    shown = start.represented
    if held is not None:
        if held.conditions != shown.conditions:
            raise InputError(
                f"The features of {held.images.name} are of other models, taps or poolings than"
                f" those of {shown.images.name}",
                mend="make both with the same models",
            )
        shown = held.take(range(min(HELD, len(held))))
        evaluation = HeldOutLoss(GeneratorStart.of(shown, start.adapters, settings))
        observers.append(partial(EvaluatedAt, evaluation=evaluation, shares=EVALUATED))
    if pictures:
        few = shown.take(range(min(SOURCES, len(shown))))
        sources = GeneratorStart.of(few, start.adapters, settings)
        observers.append(partial(SamplePainter, start=sources, settings=settings))
    return tuple(observers)


def prepare(represented: Represented, settings: Settings) -> GeneratorStart:
    """Prepare images and features for a generator: features are standardised or whitened as the
    settings say, by the first 65,536 images."""
    fitted = represented.take(range(min(FITTED, len(represented))))
    adapters = Adapters.fit(fitted.matrices(), settings.conditions)
    return GeneratorStart.of(represented, adapters, settings)


@final
class SamplePainter:
    """Generates images after some shares of a training, into `samples/step-….png`: a row a source
    and model, the source first. The noise is the same each time, and no random number of the run is
    drawn.

    Args:
        run: the training.
        start: the source images with their features.
        settings: of the task.
        shares: of the steps, above 0, up to 1.
    """

    def __init__(
        self,
        run: RunningTraining,
        start: GeneratorStart,
        settings: Settings,
        shares: Sequence[float] = PICTURED,
    ) -> None:
        self._run, self._start, self._settings = run, start, settings
        self._steps = {max(1, round(share * run.schedule.steps)) for share in shares}

    def due(self, step: int) -> bool:
        """True after the steps at which these shares are done."""
        return step in self._steps

    def look(self, step: int) -> Findings:
        """Generate the images, in the first process; the log gets no numbers."""
        run = self._run
        if run.where.first:
            method = run.method
            assert isinstance(method, Diffusion)
            path = OwnFiles(run.out).before(run.out / "samples" / f"step-{step:07d}.png")
            sheet = paint_sheet(
                as_generator(method, self._start, self._settings),
                self._start,
                run.where.device,
                run.precision,
            )
            with write_beside(path) as temporary:
                Image.fromarray(sheet).save(temporary, "png")
        return Findings()


def as_generator(method: Diffusion, start: GeneratorStart, settings: Settings) -> Generator:
    """Return the average of a method as a generator, which shares its weights."""
    return Generator(
        name="generator",
        network=method.average,
        process=method.process,
        adapters=start.adapters,
        conditions={each.model: each for each in start.represented.conditions},
        size=settings.size,
        key=describe_generator(start, settings),
    )


def paint_sheet(
    generator: Generator, start: GeneratorStart, device: str, precision: str
) -> np.ndarray:
    """Generate images from all sources by every model, as one picture."""
    sources = start.pictures.pixels(range(len(start.represented)))
    rows = []
    for number, model in enumerate(generator.models):
        samples = generator.sample(
            start.represented.read(number),
            model,
            DRAWS,
            steps=QUICK.get(str(generator.process.describe()["process"])),
            device=device,
            precision=precision,
        )
        rows.append(np.concatenate([sources[:, None], samples], axis=1))
    return arrange_sheet(np.concatenate(rows))
