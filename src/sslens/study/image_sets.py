"""Opening and checking images and a bank, and notes about them for the reader of a report."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, cast

from sslens.data.sources import require_source
from sslens.errors import InputError
from sslens.progress import progress

if TYPE_CHECKING:
    from sslens.data.images import ImageSet

#: images that are named where they could not be decoded
NAMED = 20


def require_sources(*sources: str | None) -> None:
    """Refuse sources of images that are not there, before anything heavy is imported.

    Raises:
        InputError: a source is not there; the message names the first.
    """
    for source in sources:
        if source is not None:
            require_source(source)


def open_sets(
    sources: "Mapping[str, tuple[str | None, int | None]]",
    *,
    seed: int = 0,
    on_bad: str = "stop",
    minimum: int = 4,
    quiet: bool = False,
) -> "dict[str, ImageSet | None]":
    """Open sets of images and check each file.

    Args:
        sources: by role, a source as `open_images` reads it (or None) and the largest number of
            images taken.
        seed: decides which images are drawn.
        on_bad: "stop" at an image that cannot be decoded, or "skip" it.
        minimum: the fewest images that will do.
        quiet: whether no progress is shown.

    Raises:
        InputError: images are not there, cannot be read, or are too few.
    """
    from sslens.data import open_images

    stop_or_skip = cast(Literal["stop", "skip"], on_bad)
    sets: dict[str, ImageSet | None] = {}
    with progress("checking images", quiet=quiet) as report:
        for role, (source, limit) in sources.items():
            sets[role] = None
            if source is not None:
                sets[role] = open_images(
                    source,
                    limit=limit,
                    seed=seed,
                    on_bad=stop_or_skip,
                    minimum=minimum,
                    progress=report,
                )
    return sets


def require_classes(images: "ImageSet", source: str, why: str) -> None:
    """Refuse images without classes.

    Args:
        images: the images.
        source: their source, for the message.
        why: a clause that says what needs the classes.

    Raises:
        InputError: the images have no classes.
    """
    if images.labels is None:
        raise InputError(
            f"The images of {source} have no classes, and {why}",
            mend="give a folder with a subfolder a class",
        )


def require_same_classes(
    images: "ImageSet", bank: "ImageSet | None", images_source: str, bank_source: str
) -> None:
    """Refuse a bank that has other classes than the images.

    Raises:
        InputError: the classes differ.
    """
    if bank is not None and images.labels is not None and bank.classes != images.classes:
        raise InputError(
            f"{bank_source} and {images_source} have different classes ({len(bank.classes)} and"
            f" {len(images.classes)}): k-NN needs the same folders in both."
        )


def describe_skipped(images: "ImageSet | None") -> list[str]:
    """Say which images and which annotations were left out, as notes for a reader."""
    if images is None:
        return []
    left = [] if images.objects is None else [*images.objects.left_out]
    notes = []
    if left:
        faults = ", ".join(f"{count} {fault}" for fault, count in left)
        total = sum(count for _, count in left)
        notes.append(f"{total} annotations of {images.name} were left out: {faults}.")
    if not images.skipped:
        return notes
    # an annotated image may also be missing, or have another size than was annotated
    wrong = "could not be decoded" if images.objects is None else "could not be used"
    named = "; ".join(f"{name} ({reason})" for name, reason in images.skipped[:NAMED])
    more = len(images.skipped) - NAMED
    return [
        *notes,
        f"{len(images.skipped)} images of {images.name} {wrong} and were left out:"
        f" {named}{f'; and {more} more' if more > 0 else ''}.",
    ]


def describe_blurred(*sets: "ImageSet | None") -> list[str]:
    """Require that faces in sets of images are blurred, and say by which manifests, as notes for a
    reader.

    Raises:
        InputError: an image is in no manifest, or was changed since.
    """
    from sslens.data.faces.manifest import require_blurred

    notes = []
    for images in sets:
        if images is None:
            continue
        blurred = require_blurred(images)
        if blurred.manifest is None:
            notes.append(f"The images of {images.name} are generated and show no people.")
            continue
        manifest = f"{blurred.manifest.parent.name}/{blurred.manifest.name}"
        notes.append(
            f"Faces in {images.name} are blurred, by {manifest}: {blurred.with_faces} of"
            f" {len(images)} images had faces, {blurred.without} had none"
            + (f", and {blurred.unlisted} were not listed." if blurred.unlisted else ".")
        )
    return notes


def describe_overlap(images: "ImageSet | None", bank: "ImageSet | None", use: str) -> list[str]:
    """Say how many of the images are also in the bank, compared by their contents, as notes for a
    reader.

    Args:
        images, bank: the two sets.
        use: a clause that says what follows from the overlap.
    """
    if images is None or bank is None or images.labels is None:
        return []
    both = len(images.contents & bank.contents)
    return [f"{both} of the {len(images)} images are in the bank too, {use}"] if both else []
