"""Folders listed: the names of the images in each, and what is remembered of their files.

A folder that has not changed since it was listed is not listed again. Links are followed, in
bounded time whatever they form.
"""

import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from sslens.data.decoding import Look
from sslens.data.left_out import DISGUISED, HIDDEN, LOOP, PIPE, UNKNOWN
from sslens.data.sources import has_heic, list_suffixes, one_name
from sslens.errors import InputError
from sslens.store import write_beside

#: bytes of a digest of pixels that are remembered
DIGITS = 23
#: in place of a time of change
NEVER = -1
#: the step of the coarsest clock of a file system (FAT's): a younger time stamp can hide a later
#: change
SETTLED_NS = 2_000_000_000
#: ways in which links may lead to one folder; a tree of links has 2ⁿ of them
MOST_WAYS = 32
#: bytes of a file that tell its format
HEAD = 32
#: how files that hold images begin
_MAGIC = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
)
_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
#: sizes of the headers of bitmaps
_BITMAPS = (12, 40, 52, 56, 64, 108, 124)


@final
@dataclass(frozen=True)
class Listing:
    """One folder.

    Attributes:
        changed_ns: its time of change, or `NEVER`.
        names: the names of its images, as the file system spells them.
        stats: size and time of change of each image when it was read; `NEVER` if it was not.
        hashes: SHA-256 of each image that was read.
        looks: what was seen of each image that was read (`pack_look`).
        others: how many of its files are no images, by reason and ending.
    """

    changed_ns: int
    names: Sequence[str]
    stats: Int64[np.ndarray, "file 2"]
    hashes: UInt8[np.ndarray, "file 32"]
    looks: UInt8[np.ndarray, "file 32"]
    others: Mapping[tuple[str, str], int]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        remembered: "Listing | None",
        changed_ns: int = NEVER,
        others: Mapping[tuple[str, str], int] | None = None,
    ) -> "Listing":
        """Make a listing of these names, with what is remembered of them."""
        stats = np.full((len(names), 2), NEVER, np.int64)
        hashes, looks = np.zeros((2, len(names), 32), np.uint8)
        if remembered is not None:
            old_rows = {name: row for row, name in enumerate(remembered.names)}
            new = [row for row, name in enumerate(names) if name in old_rows]
            old = [old_rows[names[row]] for row in new]
            stats[new], hashes[new] = remembered.stats[old], remembered.hashes[old]
            looks[new] = remembered.looks[old]
        return cls(changed_ns, names, stats, hashes, looks, others or {})


def list_tree(root: Path, remembered: Mapping[str, Listing]) -> dict[str, Listing]:
    """List a folder and the folders below it, by their paths below it, in the order of these.

    Raises:
        InputError: a folder cannot be listed, a name is not UTF-8, or links lead to one folder in
            too many ways.
    """
    listings = dict(_list_below(root, remembered))
    return {folder: listings[folder] for folder in sorted(listings, key=_sort_key)}


def _sort_key(name: str) -> tuple[str, str]:
    return one_name(name), name


def _list_below(root: Path, remembered: Mapping[str, Listing]) -> Iterator[tuple[str, Listing]]:
    below: dict[str, list[str]] = {}
    for folder in remembered:
        if folder:
            below.setdefault(folder.rpartition("/")[0], []).append(folder)
    ways: Counter[tuple[int, int]] = Counter()
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while pending:
        folder, above = pending.pop()
        path = os.path.join(root, folder)  # noqa: PTH118 (a Path takes four times as long)
        try:
            status = os.stat(path)  # noqa: PTH116
            here = (status.st_dev, status.st_ino)
            if here in above:
                yield folder, Listing.of((), None, NEVER, {(LOOP, ""): 1})
                continue
            _count_way(root, folder, here, ways)
            listing, inside = remembered.get(folder), below.get(folder, [])
            if listing is None or listing.changed_ns != status.st_mtime_ns:
                settled = time.time_ns() - status.st_mtime_ns >= SETTLED_NS
                changed_ns = status.st_mtime_ns if settled else NEVER
                listing, inside = _list_folder(path, folder, changed_ns, listing)
        except OSError as error:
            raise InputError(
                f"{path} cannot be listed ({error.strerror}): make it readable, or remove it."
            ) from error
        yield folder, listing
        pending += [(one, (*above, here)) for one in inside]


def _count_way(
    root: Path, folder: str, here: tuple[int, int], ways: Counter[tuple[int, int]]
) -> None:
    ways[here] += 1
    if ways[here] > MOST_WAYS:
        raise InputError(
            f"Links in {root} lead to one folder in more than {MOST_WAYS} ways, the last as"
            f" {folder}: remove links, or give a folder without them."
        )


def _list_folder(
    path: str, folder: str, changed_ns: int, remembered: Listing | None
) -> tuple[Listing, list[str]]:
    """List one folder, with what is remembered of its files, and the folders in it."""
    suffixes = frozenset(list_suffixes())
    names: list[str] = []
    inside: list[str] = []
    others: Counter[tuple[str, str]] = Counter()
    disguised: dict[str, bool] = {}  # by ending: whether the first such file holds an image
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            stem, dot, ending = name.rpartition(".")
            suffix = f".{ending.lower()}" if dot and stem else ""
            if name.startswith("."):
                if suffix[1:] in suffixes:
                    others[HIDDEN, suffix] += 1
            elif _is_folder(entry):
                inside.append(f"{folder}/{name}" if folder else name)
            elif ending.lower() in suffixes:
                names.append(name)  # a dangling link too, which is noticed when it is read
            elif not entry.is_symlink() and not entry.is_file():
                others[PIPE, suffix] += 1
            elif not suffix and _holds_image(entry.path):
                names.append(name)
            else:
                if suffix and suffix not in disguised:
                    disguised[suffix] = _holds_image(entry.path)
                others[DISGUISED if disguised.get(suffix) else UNKNOWN, suffix] += 1
    for name in itertools.chain(names, inside):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{path}: the name {os.fsencode(name)!r} is not UTF-8: rename it."
            ) from error
    names.sort(key=_sort_key)
    return Listing.of(names, remembered, changed_ns, others), inside


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, which is noticed when it is read
        return False


def _holds_image(path: str) -> bool:
    """Whether a file begins as images do; False of what cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return is_image(os.read(handle, HEAD))
    except OSError:
        return False
    finally:
        os.close(handle)


def is_image(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an image, of a format that is read here.

    >>> is_image(b"GIF89a..."), is_image(b"P1 is a name"), is_image(b"BM and more text")
    (True, False, False)
    """
    if head.startswith(_MAGIC):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in _BRANDS or (has_heic() and head[8:12] in _HEIC_BRANDS)
    if head[:2] == b"BM":
        return int.from_bytes(head[14:18], "little") in _BITMAPS
    # P6, white space, and the width
    return head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace() and _has_width(head)


def _has_width(head: bytes) -> bool:
    return head[2:].lstrip()[:1].isdigit() or head[2:].lstrip()[:1] == b"#"


# ------------------------------------------------------------------------------------------------
# ---------- the index on disk


def write_listings(path: Path, listings: Mapping[str, Listing]) -> None:
    """Write listings as an index, which `read_listings` reads."""
    every = list(listings.values())
    others = {
        folder: [[*key, count] for key, count in listing.others.items()]
        for folder, listing in listings.items()
        if listing.others
    }
    with write_beside(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            folders=_pack(listings),
            changed=np.array([one.changed_ns for one in every], np.int64),
            counts=np.array([len(one.names) for one in every], np.int64),
            names=_pack(itertools.chain.from_iterable(one.names for one in every)),
            stats=np.concatenate([one.stats for one in every]),
            hashes=np.concatenate([one.hashes for one in every]),
            looks=np.concatenate([one.looks for one in every]),
            others=_pack([json.dumps(others)]),
            rules=_pack(list_suffixes()),
        )


def pack_look(look: Look) -> UInt8[np.ndarray, " 32"]:
    """Pack what was seen of an image: width, height, whether it was whole, and the beginning of the
    digest.

    >>> packed = pack_look(Look((640, 480), True, bytes(range(32))))
    >>> unpack_look(packed).size, unpack_look(packed).digest == bytes(range(DIGITS))
    ((640, 480), True)
    """
    size = b"".join(side.to_bytes(4, "little") for side in look.size)
    return np.frombuffer(size + bytes([look.whole]) + look.digest[:DIGITS], np.uint8)


def unpack_look(packed: UInt8[np.ndarray, " 32"]) -> Look:
    """Unpack what `pack_look` packed."""
    data = packed.tobytes()
    width, height = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4))
    return Look((width, height), bool(data[8]), data[9:])


def _pack(names: Iterable[str]) -> UInt8[np.ndarray, " byte"]:
    # NUL is the one character that no file name holds
    return np.frombuffer("\0".join(names).encode(), np.uint8)


def _unpack(packed: Shaped[np.ndarray, " byte"]) -> list[str]:
    return packed.tobytes().decode().split("\0")


def read_listings(path: Path) -> dict[str, Listing]:
    """Read the listings of an index; none where it is damaged, or is not there.

    Where it was written under other rules of what an image is, what it knows of files counts, and
    each folder is listed again.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        names = _unpack(arrays["names"]) if arrays["names"].size else []
        stats = arrays["stats"].reshape(len(names), 2)
        hashes, looks = (arrays[key].reshape(len(names), 32) for key in ("hashes", "looks"))
        folders, changed = _unpack(arrays["folders"]), arrays["changed"].tolist()
        others = json.loads(_unpack(arrays["others"])[0]) if "others" in arrays else {}
        if "rules" not in arrays or _unpack(arrays["rules"]) != list(list_suffixes()):
            changed = [NEVER] * len(changed)
        ends = np.cumsum(arrays["counts"]).tolist()
        if ends[-1] != len(names):
            return {}
        return {
            folder: Listing(
                changed_ns,
                names[start:end],
                stats[start:end],
                hashes[start:end],
                looks[start:end],
                {(reason, suffix): count for reason, suffix, count in others.get(folder, ())},
            )
            for folder, changed_ns, start, end in zip(
                folders, changed, [0, *ends[:-1]], ends, strict=True
            )
        }
    except Exception:  # the index is only a cache: with any damage the folder is listed anew
        return {}
