"""The header of this package's own encoder files, read strictly before anything is built of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from sslens.cards import Evaluation
from sslens.counts import spell_count
from sslens.data.imagenet import LEAST, MOST
from sslens.errors import InputError, is_whole

#: the most blocks of a network; the deepest that was published has 201
BLOCKS = 4096
#: the largest width, side or count that a header may ask for
LARGEST = 1 << 20
#: pixels of the largest side to which images are resized
SIDE = 1 << 14
#: characters of the longest name
NAME = 200
#: settings of the evaluation transform, with the kinds of their values
TRANSFORM: Mapping[str, type] = {
    "resize": int,
    "crop": int,
    "interpolation": str,
    "mean": list,
    "std": list,
    "fit": str,
    "flip": bool,
}
#: how images may be resized
INTERPOLATIONS = get_args(get_type_hints(Evaluation)["interpolation"])
#: settings that an encoder of a training has as they are here: only detectors change them
FIXED: Mapping[str, Any] = {"fit": "crop", "flip": False}


def read_written(text: str, path: Path) -> Mapping[str, Any]:
    """Read what the header of an encoder says: "name", "shape", "about" and perhaps "transform".

    Args:
        text: the entry of the header.
        path: the file, for messages.

    Raises:
        InputError: the entry is cut off or damaged, or describes a network that cannot be.

    >>> read_written('{"name": "m", "shape": {}, "about": {}}', Path("last.safetensors"))["name"]
    'm'
    """
    try:
        written = json.loads(text)
    except (ValueError, RecursionError):
        written = None
    wrong = _find_wrong(written)
    if wrong is not None:
        raise InputError(
            f"{path} is damaged: its header says that sslens wrote it, and {wrong}",
            mend="copy it again, or go on from the run that wrote it with {resume=True}",
        )
    assert isinstance(written, dict)
    return written


def _find_wrong(written: Any) -> str | None:
    """What is wrong with an entry, as a clause; None where nothing is."""
    if not isinstance(written, dict):
        return "describes no network"
    if not is_whole(json.dumps(written, ensure_ascii=False)):
        return "a name in it holds half of a character"
    for key, kind in (("name", str), ("shape", dict), ("about", dict)):
        if not isinstance(written.get(key), kind):
            return f"its {key} is missing or makes no sense"
    if written["about"].get("tuned", False) not in (False, None, "fine-tuned", "linear"):
        return "its about.tuned is no kind of tuning"
    for key in ("objective", "family"):
        if not isinstance(written["about"].get(key), str | None):
            return f"its about.{key} is no text"
    if len(written["name"]) > NAME:
        return f"its name has {spell_count(len(written['name']), 'character')}"
    shape = {} if "generator" in written["shape"] else written["shape"]  # read elsewhere
    for key, value in _list_numbers(shape, "shape"):
        most = BLOCKS if "blocks" in key else LARGEST
        if key.endswith(".eps") and isinstance(value, float) and 0 < value < 1:
            continue  # what normalisations add to the variance
        if type(value) is not int or not 0 <= value <= most:
            return f"its {key} is {str(value)[:40]}, beyond any network"
    return _find_wrong_setting(written.get("transform", {}), bool(written["shape"]))


def _find_wrong_setting(transform: Any, encodes: bool) -> str | None:
    """What is wrong with the settings of a transform, as a clause; `encodes` for an encoder, and
    not for a detector."""
    if not isinstance(transform, dict):
        return "its transform makes no sense"
    for key, value in transform.items():
        if key not in TRANSFORM or type(value) is not TRANSFORM[key]:
            return f"its transform has {key[:40]}, or a value of another kind"
        if isinstance(value, list) and not (
            len(value) == 3
            and all(type(part) in (int, float) and abs(part) < MOST for part in value)
            and (key != "std" or min(value) >= LEAST)
        ):
            return f"its transform's {key} is no colour"
        if type(value) is int and not 0 < value <= SIDE:
            return f"its transform's {key} is {value}"
        if key == "interpolation" and value not in INTERPOLATIONS:
            return f"its transform's interpolation is {str(value)[:40]}"
        if encodes and key in FIXED and value != FIXED[key]:
            return f"its transform's {key} is {value}"
    if encodes and transform.get("crop", 0) > transform.get("resize", SIDE):
        return "its transform crops more than it resizes to"
    return None


def _list_numbers(value: Any, at: str) -> "list[tuple[str, Any]]":
    """Everything in a shape that is no text, truth value or None, with the keys that lead to it."""
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in _list_numbers(part, f"{at}.{key}")]
    if isinstance(value, list):
        return [pair for part in value for pair in _list_numbers(part, at)]
    return [] if value is None or isinstance(value, bool | str) else [(at, value)]
