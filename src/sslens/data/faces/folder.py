"""The faces of a folder of images, blurred in another folder: planned first, then carried out."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, final

import numpy as np

from sslens import __version__
from sslens.counts import spell_count
from sslens.data.decoding import explain_error
from sslens.data.faces.blur import METHOD, Header, blur_file, read_header
from sslens.data.faces.lists import Boxes, FaceList, read_list
from sslens.data.faces.manifest import (
    NAME,
    Entry,
    format_entry,
    name_some,
    read_manifest,
    write_manifest,
)
from sslens.data.faces.places import FacesFound, find_images
from sslens.data.folders import THREADS, FolderImages, OnBad
from sslens.data.sources import list_suffixes
from sslens.errors import InputError
from sslens.progress import progress
from sslens.store import digest, write_beside

#: whether boxes are of the upright image or of the image as it is stored
Orientation: TypeAlias = Literal["upright", "stored"]
#: seconds after which what was finished is written to the manifest
_FLUSHED_EVERY = 1.0
_TASK = 16  # images that one thread takes at a time
#: what a person without boxes can do
HOW_TO_GET = (
    "give a list of faces as {boxes}: for ImageNet face_annotations_ILSVRC.json"
    " (https://image-net.org/face-obfuscation), for other images what a face detector finds, with"
    " its mistakes corrected, as CSV with the columns image, x0, y0, x1, y1 in pixels and a row a"
    " face"
)


@final
@dataclass(frozen=True)
class BlurRequest:
    """The request to blur the faces of a folder's images.

    Attributes:
        folder: the images, in it and in its subfolders.
        boxes: the list of faces (`sslens.data.faces.lists`).
        out: the folder that is written; the images' with `_blurred` at its end unless given.
        orientation: whether boxes are of images "upright", as a viewer shows them, or "stored",
            as their pixels are in the file; needed where EXIF turns an image with faces.
        on_bad: "stop" at an image that cannot be decoded or blurred, at boxes without extent or
            outside their image, and at names that no image has; or "skip" these images and names.
        unlisted: "stop" at images that are not in the list, or "copy" them as showing no face.
    """

    folder: Path
    boxes: Path | None
    out: Path | None = None
    orientation: Orientation | None = None
    on_bad: OnBad = "stop"
    unlisted: Literal["stop", "copy"] = "stop"


@final
@dataclass(frozen=True, eq=False)
class BlurPlan:
    """What will be written.

    Attributes:
        files: the images of the folder.
        rows: of the images that are written.
        boxes: of each image with faces, by its id.
        faces: the list.
        found: which image each of its names means.
        left_out: (name, reason) of each image that is not written.
        out: the folder that is written.
        done: what the folder holds already, by image.
        stale: images of the folder that is written which are not among those that are written now.
    """

    request: BlurRequest
    files: FolderImages
    rows: tuple[int, ...]
    boxes: Mapping[str, Boxes]
    faces: FaceList
    found: FacesFound
    left_out: tuple[tuple[str, str], ...]
    out: Path
    done: Mapping[str, Entry]
    stale: tuple[str, ...]

    def describe(self) -> str:
        """The plan, for a person."""
        count = sum(map(len, self.boxes.values()))
        copied = len(self.rows) - len(self.boxes)
        holds = f"which holds {len(self.done):,} of them already"
        lines = [
            f"images    {len(self.rows):,} of {self.files.root}",
            f"boxes     {_count(len(self.faces.boxes), 'image')} in {self.faces.path}",
            f"blurred   {_count(count, 'face')} in {_count(len(self.boxes), 'image')};"
            f" {copied:,} {'is' if copied == 1 else 'are'} copied",
            f"out       {self.out}" + (f", {holds}" if self.done else ""),
        ]
        return "\n".join([*lines, *(f"note      {note}" for note in self._list_notes())])

    def _list_notes(self) -> Iterator[str]:
        """What a person should know beside the plan."""
        found = self.found
        if found.unlisted:
            yield (
                f"{spell_count(len(found.unlisted), 'image', 'are')} not in the list, taken as"
                " showing no face"
            )
        if found.elsewhere:
            yield f"of other folders: {spell_count(found.elsewhere, 'name')} in the list"
        if found.missing:
            yield (
                f"{len(found.missing):,} names in the list are of no image:"
                f" {name_some(found.missing)}"
            )
        if self.left_out:
            named = [f"{name} ({why})" for name, why in self.left_out]
            be = "is" if len(named) == 1 else "are"
            yield f"{_count(len(named), 'image')} {be} left out: {name_some(named)}"
        if self.stale:
            yield (
                f"{_count(len(self.stale), 'image')} in {self.out}"
                f" {'is' if len(self.stale) == 1 else 'are'} not among these, and its manifest"
                f" will not have them: {name_some(self.stale)}"
            )


def blur_folder(
    request: BlurRequest,
    *,
    dry_run: bool = False,
    quiet: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Blur the faces of a folder's images in another folder; returns its manifest, or None for a
    dry run.

    Subfolders, names and formats stay. Images without a face are copied byte by byte. Nothing is
    written before all images and boxes were found to be good. Each file is written atomically. A
    run that was stopped goes on: images that are finished, by the digests of the original, the
    boxes and what was written, are not blurred again.

    Raises:
        InputError: something given cannot be used; the images and what is finished stay.
    """
    plan = plan_blur(request, quiet=quiet)
    say(plan.describe())
    if dry_run:
        return None
    return _carry_out(plan, quiet=quiet)


def plan_blur(request: BlurRequest, *, quiet: bool = True) -> BlurPlan:
    """Check the images and the boxes, and find out what must be written.

    Raises:
        InputError: something given cannot be used.
    """
    if request.boxes is None:
        raise InputError("It is not known where faces are", mend=HOW_TO_GET)
    folder, out = _choose_folders(request)
    faces = read_list(request.boxes.expanduser())
    files = FolderImages(folder)
    if not files.ids:
        raise InputError(f"{folder} holds no image: images end in {', '.join(list_suffixes())}.")
    found = find_images(faces, files.ids, folder.name)
    _require_places(request, files, found)
    with progress("checking images", quiet=quiet) as report:
        undecoded = files.examine(range(len(files.ids)), request.on_bad, report)
    bad = {files.ids[row]: f"cannot be decoded: {why}" for row, why in undecoded.items()}
    boxes = {name: ours for name, ours in found.boxes.items() if len(ours) and name not in bad}
    bad |= _find_faults(request, files, boxes)
    if bad and (request.on_bad == "stop" or len(bad) == len(files.ids)):
        first, why = next(iter(bad.items()))
        raise InputError(
            f"{len(bad)} of {len(files.ids)} images cannot be blurred: the first, {first}, {why}",
            mend="mend the image or its boxes, or leave such images out with {on_bad=skip}",
        )
    rows = tuple(row for row, name in enumerate(files.ids) if name not in bad)
    boxes = {name: ours for name, ours in boxes.items() if name not in bad}
    done, stale = _read_done(out, {files.ids[row] for row in rows})
    left_out = tuple(bad.items())
    return BlurPlan(request, files, rows, boxes, faces, found, left_out, out, done, stale)


def _choose_folders(request: BlurRequest) -> tuple[Path, Path]:
    folder = request.folder.expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"{request.folder} is no folder: give a folder of images.")
    given = request.out or folder.with_name(f"{folder.name}_blurred")
    out = given.expanduser().resolve()
    if out == folder or out in folder.parents or folder in out.parents:
        raise InputError(
            f"{given} and {request.folder} lie in each other, so that images would be mixed with"
            " blurred ones",
            mend="give another folder as {out}",
        )
    return folder, out


def _require_places(request: BlurRequest, files: FolderImages, found: FacesFound) -> None:
    """Refuse names without an image, and images without a name, unless they are allowed."""
    if not found.boxes:
        raise InputError(
            f"None of the names in {request.boxes} is of an image of {request.folder}: the list has"
            f" {name_some(found.missing[:3])}, the folder {name_some(files.ids[:3])}."
        )
    if found.missing and request.on_bad == "stop":
        raise InputError(
            f"{len(found.missing)} names in {request.boxes} are of no image of {request.folder}:"
            f" {name_some(found.missing)}",
            mend="correct them, or leave them out with {on_bad=skip}",
        )
    if found.unlisted and request.unlisted == "stop":
        raise InputError(
            f"{len(found.unlisted)} of {spell_count(len(files.ids), 'image')} of {request.folder}"
            f" are not in {request.boxes}, so it is not known whether they show a face:"
            f" {name_some(found.unlisted)}",
            mend="list them without a box, or take them as showing none with {unlisted=copy}",
        )


def _find_faults(
    request: BlurRequest, files: FolderImages, boxes: Mapping[str, Boxes]
) -> dict[str, str]:
    """Why faces cannot be blurred, by image, in words that follow its name."""
    names = list(boxes)
    with ThreadPoolExecutor(THREADS) as pool:
        headers = dict(
            zip(names, pool.map(lambda one: read_header(files.root / one), names), strict=True)
        )
    if request.orientation is None:
        turned = [name for name, header in headers.items() if header.orientation != 1]
        if turned:
            raise InputError(
                f"{spell_count(len(turned), 'image')} with faces are turned by EXIF:"
                f" {name_some(turned)}. Their boxes may be of the image as a viewer shows it, or"
                " as it is stored",
                mend="give {orientation=upright} or {orientation=stored}, as ImageNet's are",
            )
    upright = request.orientation == "upright"
    faults = {name: _find_fault(header, boxes[name], upright) for name, header in headers.items()}
    return {name: fault for name, fault in faults.items() if fault is not None}


def _find_fault(header: Header, boxes: Boxes, upright: bool) -> str | None:
    if fault := header.find_fault():
        return fault
    width, height = header.seen_size(upright)
    for x0, y0, x1, y1 in boxes.tolist():
        box = f"box {x0:g}, {y0:g}, {x1:g}, {y1:g}"
        if not np.isfinite([x0, y0, x1, y1]).all() or x1 <= x0 or y1 <= y0:
            return f"has a {box}, without extent"
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            return f"has a {box}, outside its {width} × {height} pixels"
    return None


def _read_done(out: Path, wanted: set[str]) -> tuple[dict[str, Entry], tuple[str, ...]]:
    """What the folder that is written holds of the wanted images, and its other images.

    Raises:
        InputError: it holds images but no manifest.
    """
    if not out.is_dir():
        return {}, ()
    there = FolderImages(out).ids
    if not (out / NAME).is_file():
        if there:
            raise InputError(
                f"{out} holds {spell_count(len(there), 'image')} that sslens blur-faces did not"
                " write",
                mend="give an empty folder as {out}",
            )
        return {}, ()
    entries, held = read_manifest(out / NAME), set(there)
    done = {name: one for name, one in entries.items() if name in wanted and name in held}
    return done, tuple(name for name in there if name not in wanted)


def _carry_out(plan: BlurPlan, *, quiet: bool) -> Path:
    manifest, facts = plan.out / NAME, _list_facts(plan)
    entries: dict[str, Entry] = {}
    if not manifest.is_file():
        write_manifest(manifest, facts, ())
    with (
        progress("blurring faces", quiet=quiet) as report,
        manifest.open("a", encoding="utf-8") as log,
    ):
        log.write("\n")  # the last line of a run that was killed has no end
        flushed = time.monotonic()
        for entry in _make_all(plan):
            entries[entry.image] = entry
            if plan.done.get(entry.image) != entry:
                log.write(format_entry(entry))
            if time.monotonic() - flushed > _FLUSHED_EVERY:
                log.flush()
                flushed = time.monotonic()
            report(len(entries), len(plan.rows))
    write_manifest(manifest, {**facts, "complete": True}, entries.values())
    return manifest


def _list_facts(plan: BlurPlan) -> dict[str, str]:
    """The first line of the manifest: what all of its images share."""
    return {
        "sslens": __version__,
        "method": METHOD,
        "boxes": plan.faces.path.name,
        "boxes_sha256": plan.faces.sha256,
        "orientation": plan.request.orientation or "no image with faces is turned",
    }


def _make_all(plan: BlurPlan) -> Iterator[Entry]:
    """Write each image that is not there yet, several at a time."""
    tasks = [plan.rows[start : start + _TASK] for start in range(0, len(plan.rows), _TASK)]
    pool = ThreadPoolExecutor(THREADS)
    try:
        for entries in pool.map(lambda rows: [_make(plan, row) for row in rows], tasks):
            yield from entries
    finally:
        pool.shutdown(cancel_futures=True)


def _make(plan: BlurPlan, row: int) -> Entry:
    """Write an image, unless it is there already."""
    name, (original,) = plan.files.ids[row], plan.files.digests([row])
    boxes = plan.boxes.get(name)
    faces = (0 if name in plan.found.boxes else None) if boxes is None else len(boxes)
    key = _digest_boxes(boxes, plan.request.orientation)
    path, done = plan.out / name, plan.done.get(name)
    if (
        done is not None
        and (done.original, done.boxes) == (original, key)
        and _hash(path.read_bytes()) == done.written
    ):
        return replace(done, faces=faces)
    content = plan.files.path(row).read_bytes()
    if _hash(content) != original:
        raise InputError(
            f"{plan.files.path(row)} was changed while the run was under way: run the same command"
            " again."
        )
    if boxes is not None:
        try:
            content = blur_file(content, boxes, upright=plan.request.orientation == "upright")
        except (OSError, ValueError, SyntaxError) as error:  # as of a writer of Pillow's
            raise InputError(
                f"{plan.files.path(row)} cannot be written again ({explain_error(error)}): save it"
                " in another format."
            ) from error
    with write_beside(path, durable=False) as temporary:
        temporary.write_bytes(content)
    return Entry(name, faces, original, _hash(content), key)


def _digest_boxes(boxes: Boxes | None, orientation: Orientation | None) -> str:
    """A digest of all that decides an image's pixels beside its file."""
    return "" if boxes is None else digest([METHOD, orientation, boxes.tolist()])


def _count(count: int, noun: str) -> str:
    """Format a count and what is counted.

    >>> _count(1, "face"), _count(1024, "image")
    ('1 face', '1,024 images')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
