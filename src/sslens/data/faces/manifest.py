"""The manifest of a folder of blurred images: what was blurred, what had no face, and the digest of
each file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from sslens.counts import spell_count
from sslens.data.folders import FolderImages
from sslens.data.images import ImageSet
from sslens.data.scene_images import SceneSource
from sslens.data.sources import one_name
from sslens.errors import InputError
from sslens.store import write_beside

#: the name of the manifest in the folder of the images
NAME = "blurred.jsonl"
#: the first line of a manifest says this
KIND = "sslens blurred images"
#: images that an error names
NAMED = 10


@final
@dataclass(frozen=True)
class Entry:
    """A line of the manifest.

    Attributes:
        image: path of the image below the manifest's folder.
        faces: number of boxes that were blurred; None for an image that the list of faces did not
            have, and that was taken as showing none.
        original: SHA-256 (hex) of the file before.
        written: SHA-256 (hex) of the file now; the original's where there is no face.
        boxes: digest of the boxes, how they are meant, and the blur's method.
    """

    image: str
    faces: int | None
    original: str
    written: str
    boxes: str


@final
@dataclass(frozen=True)
class Blurred:
    """Images of which a manifest says that their faces are blurred.

    Attributes:
        manifest: path of the manifest; None for generated images.
        with_faces: the number of images in which faces were blurred.
        without: the number of images that show no face, by the list of faces.
        unlisted: the number of images that were not in the list, and were taken as showing none.
    """

    manifest: Path | None
    with_faces: int
    without: int
    unlisted: int = 0


def read_manifest(path: Path) -> dict[str, Entry]:
    """Read a manifest, by image; of two lines on one image the last counts.

    Lines that are damaged, such as the last of a run that was killed, are left out; their images
    count as not blurred.

    Raises:
        InputError: the file is no manifest.
    """
    entries: dict[str, Entry] = {}
    with path.open("rb") as file:
        head = _parse(file.readline())
        if not isinstance(head, dict) or head.get("kind") != KIND:
            raise InputError(f"{path} is no manifest of blurred images: give another folder.")
        for line in file:
            values = _parse(line)
            if isinstance(values, dict) and set(values) == set(Entry.__dataclass_fields__):
                entries[one_name(str(values["image"]))] = Entry(**values)
    return entries


def _parse(line: bytes) -> Any:
    """The value of a line of JSON; None where it is damaged."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def format_head(facts: Mapping[str, Any]) -> str:
    """The first line of a manifest, with facts on all of its images."""
    return json.dumps({"kind": KIND, **facts}, ensure_ascii=False) + "\n"


def format_entry(entry: Entry) -> str:
    """A line of a manifest."""
    return json.dumps(asdict(entry), ensure_ascii=False) + "\n"


def write_manifest(path: Path, facts: Mapping[str, Any], entries: Iterable[Entry]) -> None:
    """Write a manifest atomically, in the order of the images."""
    with write_beside(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(format_head(facts))
        file.writelines(map(format_entry, sorted(entries, key=lambda entry: entry.image)))


def require_blurred(images: ImageSet) -> Blurred:
    """Require that the faces in images are blurred, by the manifest in their folder or above it.

    An image passes if the manifest lists it and its file has the digest that the manifest gives.
    Generated scenes show no people and pass.

    Raises:
        InputError: the images are in no folder, the folder has no manifest, or images are not in it
            or were changed since; the message names them.

    >>> from sslens.data import open_images
    >>> require_blurred(open_images("scenes:0:4"))
    Blurred(manifest=None, with_faces=0, without=4, unlisted=0)
    """
    source = images.source
    if isinstance(source, SceneSource):
        return Blurred(None, 0, len(images))
    if not isinstance(source, FolderImages):
        raise InputError(
            f"{images.name} is no folder of images, so it cannot be known whether faces in it are"
            " blurred: save the images as files, and blur them with sslens blur-faces."
        )
    folders = (source.root, *source.root.parents)
    path = next((one / NAME for one in folders if (one / NAME).is_file()), None)
    if path is None:
        raise InputError(
            f"{source.root} holds no {NAME}, so it is not known that faces are blurred: blur them"
            " with sslens blur-faces, and give the folder that it writes."
        )
    entries = read_manifest(path)
    below = source.root.relative_to(path.parent)
    rows = range(len(images)) if images.rows is None else images.rows.tolist()
    listed = [entries.get(one_name((below / source.ids[row]).as_posix())) for row in rows]
    _require_listed(images, path, listed)
    digests = source.digests(rows)
    changed = [
        name
        for name, entry, digest in zip(images.ids, listed, digests, strict=True)
        if entry is not None and entry.written != digest
    ]
    if changed:
        raise InputError(
            f"{len(changed)} of {spell_count(len(images), 'image')} of {source.root} were changed"
            f" since faces were blurred: {name_some(changed)}. Blur them again with sslens"
            " blur-faces."
        )
    faces = [entry.faces for entry in listed if entry is not None]
    unlisted = faces.count(None)
    return Blurred(path, len(faces) - faces.count(0) - unlisted, faces.count(0), unlisted)


def _require_listed(images: ImageSet, path: Path, listed: list[Entry | None]) -> None:
    absent = [name for name, entry in zip(images.ids, listed, strict=True) if entry is None]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(images)} images are not in {path}, so it is not known that"
            f" faces in them are blurred: {name_some(absent)}. Blur them with sslens blur-faces, or"
            " take them out of the folder."
        )


def name_some(names: list[str] | tuple[str, ...]) -> str:
    """Name up to ten of many, and count the others.

    >>> name_some([str(number) for number in range(12)])
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
