"""Opening and checking images and a bank, and notes about them for the reader of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from sslens.data.sources import require_source
from sslens.errors import InputError, nearest
from sslens.fingerprint import is_fingerprint
from sslens.progress import progress
from sslens.study.distinct import distinguish_paths
from sslens.study.given import Given

if TYPE_CHECKING:
    from sslens.data.images import ImageSet

#: ways of drawing the images of a limit
SAMPLES = ("plain", "stratified")
#: images a class of a sample under which whole classes are drawn
PER_CLASS = 20
#: images of a class that a probe needs without a bank
LEAST = 4
#: classes that are named where they have too few images
NAMED = 12


def choose_sample(models: Sequence[object], asked: str | None = None) -> str:
    """Choose how a new comparison draws its images: with the classes in proportion, but for
    fingerprints, which are of plain samples.

    Args:
        models: the sources of the models, or the models themselves.
        asked: what the user asks for; None to choose.

    Raises:
        InputError: there is no such way, or images of fingerprints are asked for otherwise.

    >>> choose_sample(["dino_vits16"]), choose_sample(["dino_vits16"], "plain")
    ('stratified', 'plain')
    """
    if asked is not None and asked not in SAMPLES:
        raise InputError(f'sample is "{asked}": {nearest(asked, SAMPLES)}')
    stored = _find_fingerprint(models)
    if stored is None:
        return asked or "stratified"
    if asked == "stratified":
        raise InputError(
            f"{stored} is a fingerprint, of a plain sample of its images",
            mend="give {sample=plain}, or the models themselves",
        )
    return "plain"


def has_fingerprint(models: Sequence[object]) -> bool:
    """Whether one of the models is a fingerprint, which is of all images of a plain sample."""
    return _find_fingerprint(models) is not None


def _find_fingerprint(models: Sequence[object]) -> object:
    return next((one for one in models if _is_stored(one)), None)


def _is_stored(model: object) -> bool:
    """Whether a model is a fingerprint, in a file or in memory."""
    if isinstance(model, str | Path):
        return is_fingerprint(Path(model))
    return hasattr(model, "grams")


def require_sources(*sources: str | None, given: Given | None = None) -> None:
    """Refuse sources of images that are not there, before anything heavy is imported.

    Args:
        sources: the sources.
        given: images in memory, by the sources that stand for them.

    Raises:
        InputError: a source is not there; the message names the first.
    """
    for source in sources:
        if source is not None and source not in (given or {}):
            require_source(source)


def open_sets(
    sources: "Mapping[str, tuple[str | None, int | None]]",
    *,
    seed: int = 0,
    on_bad: str = "stop",
    sample: str = "plain",
    minimum: int = 4,
    classed: bool = True,
    quiet: bool = False,
    given: Given | None = None,
) -> "dict[str, ImageSet | None]":
    """Open sets of images and check each file.

    Args:
        sources: by role, a source as `open_images` reads it (or None) and the largest number of
            images taken.
        seed: decides which images are drawn.
        on_bad: "stop" at an image that cannot be decoded, or "skip" it.
        sample: how the images of a limit are drawn, "plain" or "stratified"; with a bank, which has
            images of each class, all classes are taken in any case.
        minimum: the fewest images that will do.
        classed: whether classes are told apart: of more classes than a limit has images for, some
            are then taken whole; else all are taken.
        quiet: whether no progress is shown.
        given: images in memory, by the sources that stand for them.

    Raises:
        InputError: images are not there, cannot be read, or are too few.
    """
    from sslens.data import open_images

    stop_or_skip = cast(Literal["stop", "skip"], on_bad)
    drawn = cast(Literal["plain", "stratified"], sample)
    banked = sources.get("bank", (None, None))[0] is not None
    sets: dict[str, ImageSet | None] = {}
    with progress("checking images", quiet=quiet) as report:
        for role, (source, limit) in sources.items():
            sets[role] = None
            if source is not None:
                sets[role] = open_images(
                    (given or {}).get(source, source),
                    limit=limit,
                    seed=seed,
                    on_bad=stop_or_skip,
                    sample=drawn,
                    per_class=PER_CLASS if classed and not banked else 0,
                    minimum=minimum,
                    progress=report,
                )
    return _name_apart(sets, {role: source for role, (source, _) in sources.items()})


def _name_apart(
    sets: "Mapping[str, ImageSet | None]", sources: Mapping[str, str | None]
) -> "dict[str, ImageSet | None]":
    """Give sets of images of one name, such as two folders called `val`, the shortest ends of their
    paths that differ."""
    named = dict(sets)
    opened = {role: images.name for role, images in sets.items() if images is not None}
    for name in set(opened.values()):
        roles = [role for role in opened if opened[role] == name]
        paths = [str(Path(str(sources[role])).resolve()) for role in roles]
        if len(set(paths)) < 2 or not all(Path(path).exists() for path in paths):
            continue
        for role, end in zip(roles, distinguish_paths(paths), strict=True):
            images = sets[role]
            assert images is not None
            named[role] = replace(images, name=end)
    return named


def require_classes(images: "ImageSet", source: str, why: str, *, several: bool = True) -> None:
    """Refuse images without classes, or of a single one.

    Args:
        images: the images.
        source: their source, for the message.
        why: a clause that says what needs the classes.
        several: whether a single class will not do.

    Raises:
        InputError: the images have no classes to tell apart.
    """
    lack = explain_no_classes(images)
    if lack is not None and (several or images.labels is None):
        if images.doubts:  # which say what was probably meant
            raise InputError(f"{' '.join(images.doubts)} The images {lack}, and {why}.")
        raise InputError(
            f"The images of {source} {lack}, and {why}",
            mend="give a folder with a subfolder a class, or an index file with labels",
        )


def explain_no_classes(images: "ImageSet", bank: "ImageSet | None" = None) -> str | None:
    """Say why images have no classes to tell apart, as the end of a clause; None where they have.

    Args:
        images: the images.
        bank: other images that vote or train, of which two classes are enough.
    """
    import numpy as np

    if images.labels is None:
        return "have no classes"
    voting = images if bank is None or bank.labels is None else bank
    assert voting.labels is not None
    present = np.unique(voting.labels)
    if len(present) > 1:
        return None
    return f'are of one class, "{voting.classes[int(present[0])]}", which is no classification'


def explain_no_votes(images: "ImageSet", bank: "ImageSet | None" = None) -> str | None:
    """Say why no class can be told by other images: there are no two classes, or without a bank no
    image has another of its class. The end of a clause; None where classes can be told.

    Args:
        images: the images.
        bank: other images that vote or train.
    """
    lack = explain_no_classes(images, bank)
    if lack is not None or (bank is not None and bank.labels is not None):
        return lack
    if _count_alone(images) != len(images):
        return None
    return "hold one image a class, and without a bank each needs another of its class to be right"


def describe_alone(images: "ImageSet | None", bank: "ImageSet | None") -> list[str]:
    """Say how many of the images have no other of their class, where these are one in twenty or
    more, as notes for a reader."""
    if images is None or images.labels is None or bank is not None:
        return []
    alone = _count_alone(images)
    if not len(images) <= 20 * alone < 20 * len(images):
        return []
    return [
        f"{alone:,} of {len(images):,} images are the only one of their class: without a bank no"
        " vote on them can be right."
    ]


def may_have_more(images: "ImageSet", fewest: int) -> bool:
    """Whether a larger sample may have `fewest` images of each class: the images were drawn from as
    many."""
    classes = images.classes_drawn_from or len(images.classes)
    drawn_from = images.drawn_from or 0
    return drawn_from > len(images) and drawn_from >= fewest * classes


def _count_alone(images: "ImageSet") -> int:
    """Count the images that are the only one of their class."""
    import numpy as np

    return int((np.bincount(images.labels) == 1).sum()) if images.labels is not None else 0


def describe_skipped(images: "ImageSet | None") -> list[str]:
    """Say which images, annotations and files were left out and why, and what about the folders was
    probably not meant, as notes for a reader."""
    return [] if images is None else [*images.notes, *_describe_drawn(images)]


def _describe_drawn(images: "ImageSet") -> list[str]:
    """Say that whole classes were drawn, and what brings the others in."""
    if images.classes_drawn_from is None or images.drawn_from is None:
        return []
    every, count = images.classes_drawn_from, len(images.classes)
    each = len(images) // count
    there = images.drawn_from
    limit = min(PER_CLASS * every, there)
    if there > limit:
        more = f"The sample is too small for more, not the folder: a limit of {limit:,} images"
    else:
        more = f"The folder has {there:,} images: a limit of {limit:,}"
    return [
        f"{len(images):,} images of all {every:,} classes of {images.name} would be fewer than"
        f" {PER_CLASS} a class, so {count:,} of {every:,} classes were drawn, each whole or with"
        f" {each:,} {'image' if each == 1 else 'images'}: everything here is about these. {more}"
        " takes all classes, and so does a bank where the command has one."
    ]


def describe_small_classes(images: "ImageSet | None", bank: "ImageSet | None") -> list[str]:
    """Say which classes have too few images for a probe, and whether the folder or the sample is
    too small, as notes for a reader."""
    from sslens.comparisons.probe_split import describe_fewest, explain_unfit, find_fit

    if images is None or images.labels is None or explain_no_votes(images, bank):
        return []
    voting = images if bank is None else bank
    assert voting.labels is not None
    banked = None if bank is None else bank.labels
    if explain_unfit(images.labels, banked, images.classes) is not None:
        return []  # no probe is trained, which is said
    import numpy as np

    sizes = np.bincount(voting.labels, minlength=len(voting.classes))
    small = np.setdiff1d(np.flatnonzero(sizes), find_fit(images.labels, banked))
    if not len(small):
        return []
    ranked = sorted(small.tolist(), key=lambda label: (sizes[label], voting.classes[label]))
    named = ", ".join(f"{voting.classes[label]} ({sizes[label]})" for label in ranked[:NAMED])
    more = f" and {len(ranked) - NAMED:,} more" if len(ranked) > NAMED else ""
    count = int((sizes > 0).sum())
    leave = f"{'class' if count == 1 else 'classes'} {'leaves' if len(ranked) == 1 else 'leave'}"
    return [
        f"{len(ranked):,} of {count:,} {leave} the probes, by name and number of images: {named}"
        f"{more}; {describe_fewest(bank is not None)}. {_explain_small(images, bank)}"
    ]


def _explain_small(images: "ImageSet", bank: "ImageSet | None") -> str:
    """Say whether the folder or the sample is too small, and what mends it."""
    if bank is not None:
        return "The bank is too small: add images of these classes to it."
    if images.drawn_from is not None and may_have_more(images, LEAST):
        return (
            f"The sample is too small, {len(images):,} of {images.drawn_from:,} images: a larger"
            " limit, or a bank, mends it."
        )
    if images.drawn_from is not None and images.drawn_from > len(images):
        return (
            f"The folder is too small, with {images.drawn_from:,} images: more images, or a bank,"
            " mend it."
        )
    return (
        "The folder is too small, of which all images are taken: more images, or a bank, mend it."
    )


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
