"""Features of a model over images, stored in a folder of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from sslens import zoo
from sslens.errors import InputError
from sslens.own_files import OwnFiles
from sslens.progress import progress
from sslens.store import Store
from sslens.study.image_sets import describe_skipped
from sslens.study.members import load_members
from sslens.study.single import enter, open_request_images
from sslens.study.stored import require_folder_name

if TYPE_CHECKING:
    from sslens.capture.manifest import Manifest
    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone


@final
@dataclass(frozen=True)
class FeatureRequest:
    """The request to store features in a folder; the settings are those of `sslens.extract`.

    Raises:
        InputError: a mistake that can be recognised before anything is opened.
    """

    model: str
    images: str
    out: Path
    taps: tuple[str, ...] = ()
    poolings: tuple[str, ...] = ()
    dtype: str = "float16"
    shard: int | None = None
    batch: int = 64
    seed: int = 0
    limit: int | None = None
    device: str = "auto"
    precision: str = "float32"
    on_bad: str = "stop"

    def __post_init__(self) -> None:
        zoo.check(self.model)
        require_folder_name(self.out, "features are stored in a folder")
        if (there := OwnFiles(self.out).read()) is not None:
            what = there.explain("set of features", {})
            raise InputError(f"{self.out} holds {what}", mend="give another {out}")
        for name, value in (("batch", self.batch), ("shard", self.shard)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}", mend=f"give 1 or more to {{{name}}}")


def run(
    request: FeatureRequest,
    *,
    store: Store | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Store the features; returns the folder, or None for a dry run and for processes that are not
    the first.

    Raises:
        InputError: something given cannot be used.
    """
    with enter(request, store) as here:
        from sslens.capture.shards import (
            describe,
            fill,
            is_stored,
            remove_others,
            require_folder,
        )

        quiet = not here.first
        (member,) = load_members((request.model,), controls=False)
        model, images = member.network, open_request_images(request, quiet=quiet, minimum=1)
        wanted = describe(
            model,
            images,
            taps=request.taps or None,
            poolings=request.poolings or None,
            dtype=request.dtype,
            shard=request.shard,
            precision=here.precision,
            folder=request.out,
            overwrite=overwrite,
        )
        missing = require_folder(request.out, wanted, overwrite=overwrite)
        if here.first:
            stored = is_stored(wanted, model, images, here.store, batch=request.batch)
            source = None if stored else here.device
            say(_describe(model, images, wanted, len(missing), source))
        if dry_run:
            return None
        if overwrite:
            remove_others(request.out, wanted)
        with progress(model.name, quiet=quiet) as report:
            fill(
                request.out,
                wanted,
                missing,
                model,
                images,
                batch=request.batch,
                device=here.device,
                store=here.store,
                progress=report,
            )
        return request.out if here.first else None


def _describe(
    model: "Backbone", images: "ImageSet", wanted: "Manifest", missing: int, device: str | None
) -> str:
    """The plan and its size, for a person.

    Args:
        model, images, wanted: what the folder is to hold.
        missing: the number of files that the folder lacks.
        device: where the pass would run; None where the store has the features already.
    """
    from sslens.report.writing.numbers import spell_count
    from sslens.study.costing import spell_size

    transform, size = model.transform, len(images) * wanted.row_bytes
    files = f"{wanted.count} file{'' if wanted.count == 1 else 's'}"
    lines = [
        f"model     {model.name}, {spell_count(len(wanted.taps), 'tap')},"
        f" {spell_count(len(wanted.columns), 'vector')} an image",
        f"images    {len(images):,} of {images.name} ({images.digest[:12]})",
        f"seen as   {transform.crop} of {transform.resize} px, {transform.interpolation};"
        f" {wanted.precision}",
        f"size      {spell_size(float(size))}: {wanted.row_bytes / 1e3:.3g} kB an image in"
        f" {wanted.dtype}, {files} of {spell_count(wanted.shard, 'image')} at most",
        f"pass      {_describe_pass(files, missing, device)}",
    ]
    lines += [f"note      {note}" for note in describe_skipped(images)]
    return "\n".join(lines)


def _describe_pass(files: str, missing: int, device: str | None) -> str:
    """Whether there is a pass, and how many files are made by it or without it.

    >>> _describe_pass("3 files", 2, "cpu")
    '2 of 3 files to be made, on cpu'
    >>> _describe_pass("1 file", 1, None)
    'none, as the features are in the store: 1 of 1 file to be written'
    >>> _describe_pass("1 file", 0, "cpu")
    'none, as the folder has them all'
    """
    if not missing:
        return "none, as the folder has them all"
    if device is None:
        return f"none, as the features are in the store: {missing} of {files} to be written"
    return f"{missing} of {files} to be made, on {device}"
