"""The images of a study and its bank, opened and checked."""

from typing import TYPE_CHECKING, Literal, cast

from sslens.errors import InputError
from sslens.progress import progress
from sslens.study.asked import Study

if TYPE_CHECKING:
    from sslens.data.images import ImageSet

#: images that are named where they could not be decoded
NAMED = 20


def open_sets(study: Study, *, quiet: bool) -> "tuple[ImageSet | None, ImageSet | None]":
    """Open the images and the bank of a study, and check each file.

    Raises:
        InputError: they are not there or cannot be read, or the bank has other classes.
    """
    from sslens.data import open_images

    if study.images is None:
        return None, None
    on_bad = cast(Literal["stop", "skip"], study.on_bad)
    sets: list[ImageSet | None] = []
    with progress("checking images", quiet=quiet) as report:
        for source, limit in ((study.images, study.limit), (study.bank, None)):
            if source is None:
                sets.append(None)
                continue
            sets.append(
                open_images(source, limit=limit, seed=study.seed, on_bad=on_bad, progress=report)
            )
    images, bank = sets
    assert images is not None
    if bank is not None and images.labels is not None and bank.classes != images.classes:
        raise InputError(
            f"{study.bank} and {study.images} have different classes ({len(bank.classes)} and"
            f" {len(images.classes)}): k-NN needs the same folders in both."
        )
    return images, bank


def describe_sets(images: "ImageSet | None", bank: "ImageSet | None") -> list[str]:
    """What a reader must know of the images: which could not be decoded, and which are in both."""
    notes = []
    for each in (images, bank):
        if each is not None and each.skipped:
            named = "; ".join(f"{name} ({reason})" for name, reason in each.skipped[:NAMED])
            left = len(each.skipped) - NAMED
            notes.append(
                f"{len(each.skipped)} images of {each.name} could not be decoded and were left out:"
                f" {named}{f'; and {left} more' if left > 0 else ''}."
            )
    both = overlap(images, bank)
    if both and images is not None and images.labels is not None:
        notes.append(
            f"{both} of the {len(images)} images are in the bank too, where k-NN finds them"
            " themselves and probes are trained on them."
        )
    return notes


def overlap(images: "ImageSet | None", bank: "ImageSet | None") -> int:
    """How many images are in the bank too, by their contents."""
    return 0 if images is None or bank is None else len(images.contents & bank.contents)
