"""Images that learn or judge, each once: copies in a set, and images of one set in another, are
left out by their content."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, overload

from sslens.errors import Caution, InputError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int64

    from sslens.capture import Features
    from sslens.data.images import ImageSet

#: what helps where all images of a bank are classified by it
OTHERS = "give others as {bank}, or leave it out: then each image is classified by the others"
#: copies of another class, and pairs of near copies, that are named
NAMED = 3


def match_bank(
    images: "ImageSet", bank: "ImageSet | None", bank_source: str, *, every: bool = False
) -> "tuple[ImageSet, ImageSet | None]":
    """Leave out the copies in both sets, and of a bank the images that are judged, and number the
    classes of both alike, by their names.

    Args:
        images: the images that are judged.
        bank: the images that vote and train, if any.
        bank_source: the source of these, for a message.
        every: whether the copies among the images that are judged stay.

    Raises:
        InputError: there are images of a class that the bank does not have, which is named; or no
            image is left of the bank.
    """
    images, bank = _match_classes(images, bank, bank_source)
    kept = images if every else leave_out_copies(images), leave_out_copies(bank)
    images, bank = _match_classes(*kept, bank_source)
    mend = OTHERS if images.objects is None else "give other images to train on than to judge"
    rest = leave_out_shared(bank, images, mend)
    return (images, rest) if rest is bank else _match_classes(images, rest, bank_source)


def _match_classes(
    images: "ImageSet", bank: "ImageSet | None", bank_source: str
) -> "tuple[ImageSet, ImageSet | None]":
    from sslens.data.classes import match_classes, require_labels

    if bank is None or images.labels is None:
        return images, bank
    if bank.labels is None:
        mend = "give a {bank} with a subfolder a class, or an index file with labels"
        require_labels(bank, "a bank votes on them", mend, name=bank_source)
    return match_classes(images, bank)


def describe_copies(images: "ImageSet") -> list[str]:
    """Say how many images are copies where none can be left out, as a fingerprint is of all, as
    notes for a reader."""
    rest = leave_out_copies(images)
    if rest is images:
        return []
    if len(rest) == len(images):
        return [_say_alike(images)]
    count = len(images) - len(rest)
    return [
        f"{count:,} of {len(images):,} images of {images.name} are copies of others, and are kept,"
        " for a fingerprint is of all of them: k-NN and probes have such images right whatever the"
        " features are."
    ]


@overload
def leave_out_copies(images: "ImageSet") -> "ImageSet": ...
@overload
def leave_out_copies(images: None) -> None: ...
def leave_out_copies(images: "ImageSet | None") -> "ImageSet | None":
    """Leave out the copies of images with classes or objects, but for the first of each: an image
    that votes on its copy, or trains a probe of it, is right whatever the features are.

    Returns:
        The images that are left, which say how many were left out, and which of these have another
        class; all of them, which say so, where they are all alike, with classes or without.
    """
    if images is None:
        return images
    import numpy as np

    from sslens.data.copies import find_copies

    copies, firsts = find_copies(images)
    if len(copies) and len(copies) == len(images) - 1:  # of one image nothing is learnt
        return replace(images, doubts=(*images.doubts, _say_alike(images)))
    if not len(copies) or (images.labels is None and images.objects is None):
        return images
    rest = images.take(np.setdiff1d(np.arange(len(images)), copies))
    those, are = ("image", "is a copy") if len(copies) == 1 else ("images", "are copies")
    said = (
        f"{len(copies):,} of {len(images):,} {those} of {images.name} {are} of others, with the"
        " same pixels, and left out: an image that votes on its copy, or trains a probe of it, is"
        " right whatever the features are."
    )
    if images.labels is not None:
        apart = images.labels[copies] != images.labels[firsts]
        said += _describe_contradictions(images, copies[apart], firsts[apart])
    return replace(rest, doubts=(*rest.doubts, Caution(said)))


def _say_alike(images: "ImageSet") -> Caution:
    """Say that all images have the same pixels."""
    return Caution(
        f"All {len(images):,} images of {images.name} have the same pixels: nothing here tells them"
        " apart, and no number of them says anything of a model."
    )


def _describe_contradictions(
    images: "ImageSet", copies: "Int64[np.ndarray, ' copy']", firsts: "Int64[np.ndarray, ' copy']"
) -> str:
    """Say which copies have another class than the image that is kept, as a further sentence."""
    if not len(copies) or images.labels is None:
        return ""
    names = [
        f"{images.ids[row]} ({images.classes[images.labels[row]]})"
        for pair in zip(copies[:NAMED], firsts[:NAMED], strict=True)
        for row in pair
    ]
    named = ", ".join(
        f"{copy} of {first}" for copy, first in zip(names[::2], names[1::2], strict=True)
    )
    more = f" and {len(copies) - NAMED:,} more" if len(copies) > NAMED else ""
    have = "copy has" if len(copies) == 1 else "copies have"
    return (
        f" The labels contradict each other: {len(copies):,} {have} another class than the image"
        f" that is kept: {named}{more}."
    )


def leave_out_shared(
    learnt: "ImageSet | None", judged: "ImageSet | None", mend: str
) -> "ImageSet | None":
    """Leave out of the images that are learnt from those that are judged, whatever their names and
    formats: in a bank they would find themselves, and a probe or a detector would have been trained
    on them.

    Args:
        learnt: a bank, or the images of a training.
        judged: the images that are judged.
        mend: what helps where no image is left.

    Returns:
        The images that are left, which say how many were left out.

    Raises:
        InputError: none is left.
    """
    if learnt is None or judged is None or (learnt.labels is None and learnt.objects is None):
        return learnt
    import numpy as np

    from sslens.data.copies import number_contents

    own, theirs = number_contents(learnt, judged)
    rest = learnt.take(np.flatnonzero(~np.isin(own, theirs)))
    both = len(learnt) - len(rest)
    if not both:
        return learnt
    if not len(rest):
        raise InputError(
            f"All {both:,} images of {learnt.name} are among those that are judged: accuracies"
            " would be of what was learnt by heart",
            mend=mend,
        )
    those, were = ("image", "was") if both == 1 else ("images", "were")
    said = (
        f"{both:,} {those} of {learnt.name} {were} left out of {len(learnt):,} to learn from, being"
        " among those that are judged."
    )
    return replace(rest, doubts=(*rest.doubts, Caution(said)))


def describe_near_copies(
    images: "Iterable[Features]", bank: "Iterable[Features]" = ()
) -> list[Caution]:
    """Say how many images with classes have a near copy, as a note for a reader; no note where
    there is none, or where the raw pixels are not among the features.

    Args:
        images: the features of the images that are judged, of all models and controls.
        bank: those of the images that vote and train.
    """
    from sslens.comparisons.image_copies import ALIKE, find_near_copies

    sets = [
        one
        for features in (images, bank)
        for one in [*filter(_is_of_pixels, features)][:1]
        if one.labels is not None
    ]
    pairs = find_near_copies(*sets).tolist() if sets else []
    if not pairs:
        return []
    names = [
        f"{name} of the bank" if number else name
        for number, one in enumerate(sets)
        for name in one.ids
    ]
    named = "; ".join(f"{names[one]} and {names[other]}" for one, other in pairs[:NAMED])
    more = f"; and {len(pairs) - NAMED:,} more pairs" if len(pairs) > NAMED else ""
    count = len({row for pair in pairs for row in pair})
    return [
        Caution(
            f"{count:,} of {len(names):,} images that vote, train or are judged have a near copy"
            " among these: k-NN and probes may have them right whatever the features are. They are"
            f" kept: {named}{more}. Shrunk to 32 × 32, the pixels of both correlate by {ALIKE:g} or"
            " more, as after a photograph is scaled or saved again."
        )
    ]


def describe_equal_rows(sets: "Sequence[Features]") -> list[Caution]:
    """Say how many images of stored features have the features of another image, as a note for a
    reader; no note where there is none.

    Args:
        sets: the stored features of one model for the images that are judged and learnt from.
    """
    from sslens.comparisons.image_copies import find_equal_rows

    rows = find_equal_rows(*sets)
    if not len(rows):
        return []
    names = [name for one in sets for name in one.ids]
    more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
    return [
        Caution(
            f"{len(rows):,} of {len(names):,} images have the features of another image, to the"
            " last digit, as copies have. They are kept, and k-NN and probes have them right"
            f" whatever the features are: {', '.join(names[row] for row in rows[:NAMED])}{more}."
        )
    ]


def _is_of_pixels(features: "Features") -> bool:
    return [tap.kind for tap in features.taps] == ["pixels"]
