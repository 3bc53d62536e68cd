"""Files of a folder that are no images of it: how many of each ending, why, and what to do."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

from sslens.counts import spell_count
from sslens.data.sources import HEIC, has_heic

#: endings that a sentence lists; of more it says how many there are
NAMED = 8
#: why a file was left out: nothing of it is known to be an image; its name begins with a dot; its
#: content is an image's, and its name is not; it is no regular file; it is a link to a folder that
#: holds the link
UNKNOWN, HIDDEN, DISGUISED, PIPE, LOOP = "unknown", "hidden", "disguised", "pipe", "loop"

_RAW = frozenset(["arw", "cr2", "cr3", "dng", "nef", "orf", "pef", "raf", "raw", "rw2", "srw"])
_FILMS = frozenset(["avi", "gifv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "webm", "wmv"])
_ARCHIVES = frozenset(["7z", "bz2", "gz", "rar", "tar", "tgz", "xz", "zip"])
_DRAWINGS = frozenset(["ai", "eps", "exr", "hdr", "pdf", "psd", "svg", "svgz", "tga", "xcf"])
_ARRAYS = frozenset(("npy", "npz"))


@final
@dataclass(frozen=True)
class LeftOut:
    """Files of one ending that are left out of a set for one reason.

    Attributes:
        suffix: the ending, in lower case and with its dot; empty of files without one.
        count: how many there are.
        reason: why, as a clause; empty where the ending says it.
        mend: what makes images of them, as a clause; None where nothing does.
    """

    suffix: str
    count: int
    reason: str = ""
    mend: str | None = None

    def __str__(self) -> str:
        name = f"× {self.suffix}" if self.suffix else "without an ending"
        clauses = "; ".join(filter(None, (self.reason, self.mend)))
        return f"{self.count:,} {name}{f' ({clauses})' if clauses else ''}"


def explain_left_out(counts: Mapping[tuple[str, str], int]) -> tuple[LeftOut, ...]:
    """Say why files were left out and what to do with them, most files first.

    Args:
        counts: how many there are, by the reason (such as `UNKNOWN`) and the ending.

    >>> print(*explain_left_out({("unknown", ".mp4"): 2, ("hidden", ".png"): 3}), sep=", ")
    3 × .png (hidden: a name that begins with a dot), 2 × .mp4 (a film; take frames of it)
    """
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple(LeftOut(key[1], count, *_explain(*key)) for key, count in ranked)


def describe_left_out(name: str, left_out: Iterable[LeftOut]) -> str:
    """Say in one sentence which files of a folder were left out; empty where none were.

    >>> describe_left_out("photos", [LeftOut(".txt", 2), LeftOut(".json", 1)])
    '3 files of photos are no images of the set: 2 × .txt, 1 × .json.'
    """
    every = list(left_out)
    total = sum(one.count for one in every)
    if not total:
        return ""
    listed = ", ".join(map(str, every[:NAMED]))
    rest = sum(one.count for one in every[NAMED:])
    more = f", and {rest:,} of {spell_count(len(every) - NAMED, 'more kind')}" if rest else ""
    files = "1 file of {} is no image" if total == 1 else f"{total:,} files of {{}} are no images"
    return f"{files.format(name)} of the set: {listed}{more}."


def count_endings(names: Iterable[str]) -> str:
    """Count the endings of the names of files, the most frequent first.

    >>> count_endings(["a.npy", "b.npy", "README"])
    '2 × .npy, 1 × no suffix'
    """
    counts = Counter(name[name.rfind(".") :] if "." in name[1:] else "no suffix" for name in names)
    return ", ".join(f"{count} × {suffix}" for suffix, count in counts.most_common(5))


def _explain(reason: str, suffix: str) -> tuple[str, str | None]:
    """The reason in words, and the cure."""
    ending = suffix[1:]
    if reason == HIDDEN:
        return "hidden: a name that begins with a dot", None
    if reason == DISGUISED:
        return "images by their content", "name them .jpg, or as they are made"
    if reason == PIPE:
        return "a pipe, a device or a socket", None
    if reason == LOOP:
        return "a link to a folder that it lies in", None
    if ending in HEIC and not has_heic():
        return "photographs of a telephone", "pip install 'sslens[heic]' reads them"
    for endings, kind, mend in (
        (_RAW, "a camera's raw data", "save it as JPEG or PNG"),
        (_FILMS, "a film", "take frames of it"),
        (_ARCHIVES, "packed", "unpack it"),
        (_DRAWINGS, "not pixels of 8 bits", "save it as PNG"),
        (_ARRAYS, "an array", "give an .npz file itself as the images"),
    ):
        if ending in endings:
            return kind, mend
    return ("no image inside" if not suffix else ""), None
