"""The header of a fingerprint's file, read without torch and checked strictly."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from sslens import __version__, tensor_file
from sslens.counts import spell_count
from sslens.data.imagenet import MOST
from sslens.errors import InputError, is_whole
from sslens.whole_file import open_regular

#: raised when a file is written that an older sslens would misread
FORMAT = 1
#: the one entry of the metadata of safetensors, which writes several in an order that changes from
#: run to run
ENTRY = "sslens.fingerprint"
#: bytes of the longest header that is read, as of any safetensors file
LONGEST = tensor_file.LONGEST
#: pixels of the largest side to which images are resized
SIDE = 1 << 14
#: what the entry holds, with the kinds of its values; others may be there
FORM: dict[str, Any] = {
    "format": int,
    "sslens": str,
    "model": {"name": str, "source": str, "digest": str, "about": dict},
    "transform": {"resize": int, "crop": int, "interpolation": str, "mean": list, "std": list},
    "precision": str,
    "images": {"name": str, "count": int, "content": str},
    "plan": {"batch": int, "seed": (int, type(None)), "digest": str},
    "dtype": str,
    "note": str,
    "grams": dict,
}
GRAMS: dict[str, Any] = {"version": int, "taps": list}


def metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file. Its header is the length of a JSON text (8 bytes),
    then the text.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no safetensors file.
    """
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LONGEST, os.fstat(file.fileno()).st_size):
            raise ValueError("no header of safetensors")
        header = json.loads(file.read(length))
    entries = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(entries, dict):
        raise ValueError("no header of safetensors")
    return entries


def is_fingerprint(path: Path) -> bool:
    """Whether a file's header says that it is a fingerprint; False for any file that cannot be
    read.

    >>> is_fingerprint(Path("mae_vitb16"))
    False
    """
    try:
        return path.is_file() and ENTRY in metadata(path)
    except (OSError, ValueError, RecursionError, InputError):
        return False


def read_header(path: Path) -> Mapping[str, Any]:
    """Read the fingerprint's entry in the header, and check that its format is known and nothing is
    missing.

    Raises:
        InputError: the file cannot be read, is no fingerprint or a newer one, or lacks something.
    """
    try:
        entries = metadata(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read as a fingerprint ({error.strerror or error})."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no whole safetensors file ({spell_count(path.stat().st_size, 'byte')}), so"
            " no fingerprint can be read from it: copy it again, or make it with sslens"
            " fingerprint."
        ) from error
    if ENTRY not in entries:
        raise InputError(
            f"{path} is a safetensors file, but no fingerprint: make one with sslens fingerprint;"
            f" sslens doctor {path} says what it is."
        )
    try:
        header = json.loads(entries[ENTRY])
    except (ValueError, TypeError, RecursionError):
        refuse_damaged(path, "its header is no JSON")
    version = header.get("format") if isinstance(header, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise InputError(
            f"{path} is a fingerprint of format {version}, written by sslens"
            f" {header.get('sslens', '(unknown)')}; this is {__version__}, which reads format"
            f" {FORMAT}: update sslens."
        )
    if not is_whole(json.dumps(header, ensure_ascii=False)):
        refuse_damaged(path, "a name in its header holds half of a character")
    wrong = _misfit(header, FORM) or _senseless(header)
    if wrong is not None:
        refuse_damaged(path, f"its header has no {wrong}, or one that makes no sense")
    return dict(header)


def refuse_damaged(path: Path, what: str) -> NoReturn:
    """Raise the error for a file that says that it is a fingerprint, but does not hold one.

    Raises:
        InputError: always; `what` is the clause that says what is wrong.
    """
    raise InputError(
        f"{path} is a damaged fingerprint: {what}. Copy it again, or make it anew with sslens"
        " fingerprint."
    )


def _misfit(value: Any, form: Mapping[str, Any], where: str = "") -> str | None:
    """The first entry of a form that a value lacks or has of another kind."""
    if not isinstance(value, dict):
        return where.rstrip(".") or "entries"
    for name, kind in form.items():
        if isinstance(kind, dict):
            wrong = _misfit(value.get(name), kind, f"{where}{name}.")
            if wrong is not None:
                return wrong
        elif (
            name not in value or not isinstance(value[name], kind) or isinstance(value[name], bool)
        ):
            return f"{where}{name}"
    return None


def _senseless(header: Mapping[str, Any]) -> str | None:
    """The first entry of the right kind whose value means nothing."""
    if header["format"] != FORMAT:
        return "format"
    if header["dtype"] not in ("float32", "float16"):
        return "dtype"
    transform = header["transform"]
    if not 0 < transform["crop"] <= transform["resize"] <= SIDE:
        return "transform"
    if not all(_is_colour(transform[name]) for name in ("mean", "std")):
        return "transform"
    if not header["grams"]:
        return "grams"
    for tokens, entry in header["grams"].items():
        readable = tokens in ("all", "cls", "patch") and _misfit(entry, GRAMS) is None
        if not readable or not entry["taps"] or not all(_is_tap(tap) for tap in entry["taps"]):
            return f"grams.{tokens}"
        if len({name for name, _, _ in entry["taps"]}) < len(entry["taps"]):
            return f"grams.{tokens}.taps"
    return None


def _is_colour(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 3
    return numbers and all(type(part) in (int, float) and abs(part) < MOST for part in value)


def _is_tap(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    name, kind, depth = value
    return (
        isinstance(name, str)
        and isinstance(kind, str)
        and type(depth) in (int, float)
        and 0 <= depth <= 1
    )
