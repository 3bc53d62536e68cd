"""What the commands about generators compute: features of the images that condition them, the cost
of a training, and samples."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens.data.sources import HEIC, SUFFIXES, require_no_images
from sslens.errors import InputError
from sslens.plan import Plan
from sslens.progress import progress
from sslens.store import Store, home, write_beside, write_text

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.study.out_folders import Claim
    from sslens.tasks.generator import Generator
    from sslens.tasks.representations import Condition, Represented

#: images in a pass that makes features
TOGETHER = 32
#: how the name of a sheet ends
SHEET_END = ".png"
#: digits of digests by which samples are known
DIGITS = 12


def represent(
    models: Sequence["Backbone"],
    images: "ImageSet",
    *,
    tap: str | None = None,
    tokens: str | None = None,
    device: str = "cpu",
    quiet: bool = True,
    store: Store | None = None,
) -> "Represented":
    """Make the features of images by models that condition a generator, or read them from the
    store.

    Args:
        models: the models.
        images: the images.
        tap: the tap of every model; the last one of each unless given.
        tokens: the pooling; as the model's own classifier read, else the CLS token, or the mean
            where there is none, unless given.
        device: the name of a torch device.
        quiet: whether no progress is shown.
        store: where features are kept.

    Raises:
        InputError: a model has no such tap or pooling, or its features condition nothing.
    """
    from sslens.capture.passes import features
    from sslens.tasks.representations import Condition, Represented, choose_tap

    made, conditions = [], []
    for model in models:
        chosen = tap or choose_tap(model)
        with progress(f"features of {model.name}", quiet=quiet) as report:
            made.append(
                features(
                    model,
                    images,
                    plan=Plan.in_order(images.ids, TOGETHER),
                    taps=[chosen],
                    store=store or Store(home() / "store"),
                    device=device,
                    progress=report,
                )
            )
        model.to("cpu")
        conditions.append(Condition.of(model, made[-1], chosen, tokens))
    return Represented(images, conditions, made)


@final
@dataclass(frozen=True)
class SampleRequest:
    """The request for samples.

    Attributes:
        out: a PNG file for a sheet, or a folder for a sheet and a file a sample.
        draws: samples of each image.
        steps: as the generator's process reads it; its default unless given.
        seed: of the noise.
        batch: images that are generated together.
        device: the name of a torch device.
        precision: of the network, "float32" or "bfloat16".
        overwrite: whether other samples, or the files of a study, that the folder holds may be
            removed.
    """

    out: Path
    draws: int = 8
    steps: str | None = None
    seed: int = 0
    batch: int = 64
    device: str = "cpu"
    precision: str = "float32"
    overwrite: bool = False

    def require_out(self) -> None:
        """Refuse a place where neither a sheet nor a folder can be.

        Raises:
            InputError: an image's name that does not end in .png, a folder in a file's place, or a
                sheet among the files of a study or beside someone's images.
        """
        from sslens.study.lone_sheets import require_place

        end = self.out.suffix.lower()
        if self.out.is_dir():
            if end == SHEET_END:
                raise InputError(f"{self.out} is a folder", mend="give {out} another name")
        elif end == SHEET_END:
            require_place(self.out)
        elif end[1:] in SUFFIXES + HEIC:
            raise InputError(
                f"A sheet of samples is a {SHEET_END} file, and {self.out} ends in {end}",
                mend=f"give {{out={self.out.with_suffix(SHEET_END)}}}, or a folder",
            )


def sample(
    generator: "Generator",
    models: Sequence["Backbone"],
    images: "ImageSet",
    request: SampleRequest,
    *,
    store: Store | None = None,
    quiet: bool = True,
) -> Path:
    """Generate images from the features that models have of others, and write them.

    Args:
        generator: the generator.
        models: the models with features that it takes.
        images: the source images.
        request: what is asked for.
        store: where features are kept.
        quiet: whether no progress is shown.

    Returns:
        The path that was written.

    Raises:
        InputError: the generator takes no features of a model, or has no such steps; or the place
            holds other samples, or strangers' files.
    """
    import numpy as np

    from sslens.data.decoded import Decoded
    from sslens.tasks.diffusion import see_images

    generator.process.require_steps(request.steps or generator.process.default_steps)
    asked = _describe_samples(generator, models, images, request)
    claim = _claim_out(asked, request)
    sources = Decoded(images, see_images(generator.size), keep=False).pixels(range(len(images)))
    made: dict[str, np.ndarray] = {}
    for model in models:
        name = generator.find_model(model)
        vectors = read_condition(
            generator.condition(name), model, images, request.device, store=store
        )
        with progress(f"samples of {name}", quiet=quiet) as report:
            made[name] = generator.sample(
                vectors,
                name,
                request.draws,
                seed=request.seed,
                steps=request.steps,
                batch=request.batch,
                device=request.device,
                precision=request.precision,
                progress=report,
            )
    if claim is not None:
        claim.take(request.out, overwrite=request.overwrite)
    return write_samples(request.out, images, sources, made, asked)


def _describe_samples(
    generator: "Generator",
    models: Sequence["Backbone"],
    images: "ImageSet",
    request: SampleRequest,
) -> Mapping[str, object]:
    """What decides the samples, as plain JSON values."""
    return {
        "generator": generator.name,
        "weights": str(generator.key["weights"])[:DIGITS],
        "models": [generator.find_model(model) for model in models],
        "images": images.name,
        "digest of the images": images.digest[:DIGITS],
        "number of images": len(images),
        "draws": request.draws,
        "steps": request.steps or generator.process.default_steps,
        "seed": request.seed,
    }


def _claim_out(asked: Mapping[str, Any], request: SampleRequest) -> "Claim | None":
    """Describe the folder that is to be written, before anything is computed; None for a sheet
    alone.

    Raises:
        InputError: the place cannot be taken.
    """
    from sslens.own_files import OwnFiles
    from sslens.study.lone_sheets import require_own
    from sslens.study.out_folders import claim_samples

    request.require_out()
    if request.out.suffix.lower() == SHEET_END:
        require_own(request.out, asked, overwrite=request.overwrite)
        return None
    counts = len(asked["models"]), asked["number of images"], request.draws
    files = (name_sample(*place) for place in itertools.product(*map(range, counts)))
    claim = claim_samples(asked, files)
    if OwnFiles(request.out).read() is None and claim.find_older(request.out) is None:
        require_no_images(request.out, "samples")
    claim.require(request.out, overwrite=request.overwrite)
    return claim


def name_sample(model: int, image: int, draw: int) -> str:
    """Return the path of a sample below its folder.

    >>> name_sample(0, 3, 1)
    'model-0/image-0003-sample-01.png'
    """
    return f"model-{model}/image-{image:04d}-sample-{draw:02d}.png"


def read_condition(
    condition: "Condition",
    model: "Backbone",
    images: "ImageSet",
    device: str = "cpu",
    *,
    store: Store | None = None,
) -> "Tensor":
    """Make the features of images that a condition asks for, or read them from the store.

    Raises:
        InputError: the model is another one than the condition's.
    """
    from sslens.capture.passes import features
    from sslens.tasks.representations import find_rows

    made = features(
        condition.prepare(model),
        images,
        plan=Plan.in_order(images.ids, TOGETHER),
        taps=[condition.tap],
        store=store or Store(home() / "store"),
        device=device,
    )
    condition.require(made)
    rows = find_rows(made, images.ids)
    return made.read(condition.tap, condition.pooling, rows).float()


def write_samples(
    out: Path,
    images: "ImageSet",
    sources: "np.ndarray",
    made: "Mapping[str, np.ndarray]",
    asked: Mapping[str, object],
) -> Path:
    """Write samples as a sheet, a row an image and model, the source first; into a folder also as
    files, listed in `samples.csv`.

    Args:
        out: a PNG file, or a folder.
        images: the source images.
        sources: their pixels as the generator sees them, [image, row, column, 3].
        made: samples by model, [image, draw, row, column, 3].
        asked: what decides them, as plain JSON values.

    Returns:
        The path that was written.
    """
    import numpy as np
    from PIL import Image

    from sslens.own_files import OwnFiles
    from sslens.study.lone_sheets import write_sheet
    from sslens.study.out_folders import LIST_COLUMNS, LISTED, SHEET
    from sslens.tasks.sheet import arrange_sheet

    rows = [
        np.concatenate([sources[row][None], each[row]])
        for row in range(len(images))
        for each in made.values()
    ]
    alone = out.suffix.lower() == SHEET_END
    sheet = out if alone else out / SHEET
    lines = [
        (name_sample(number, row, draw), model, name, draw)
        for number, (model, each) in enumerate(made.items())
        for row, name in enumerate(images.ids)
        for draw in range(each.shape[1])
    ]
    if not alone:
        names = [SHEET, LISTED, *(line[0] for line in lines)]
        OwnFiles(out).before_all(out / name for name in names)
    write_sheet(sheet, arrange_sheet(np.stack(rows)), asked)
    if alone:
        return out
    place = {name: row for row, name in enumerate(images.ids)}
    for file, model, name, draw in lines:
        with write_beside(out / file) as temporary:
            Image.fromarray(made[model][place[name], draw]).save(temporary, "png")
    listed = io.StringIO()
    table = csv.writer(listed, lineterminator="\n")
    table.writerows([LIST_COLUMNS, *lines])
    write_text(out / LISTED, listed.getvalue())
    return out


def load_models(generator: "Generator", sources: Sequence[str]) -> "list[Backbone]":
    """Load the models with features that a generator takes.

    Args:
        generator: the generator.
        sources: their sources, in the order of the samples; those that the generator's file says
            unless given.

    Raises:
        InputError: a model cannot be loaded, or the generator takes no features of it.
    """
    from sslens import zoo

    loaded = []
    for source in sources or [each.source for each in generator.conditions.values()]:
        try:
            model = zoo.load(source)
        except InputError as error:
            if sources:
                raise
            raise InputError(
                f"The generator takes features of {source}, which cannot be loaded ({error})",
                mend="say where it is with {models}",
            ) from error
        generator.find_model(model)
        loaded.append(model)
    return loaded
