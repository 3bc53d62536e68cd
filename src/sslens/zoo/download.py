"""Download of a card's file: it is fetched once into the cache, resumed after a break, and checked
by size and hash before it gets its name.

The file of a card is in `$SSLENS_HOME/checkpoints/CARD/`, under the name that its authors gave it;
a file that was put there by hand is checked like a fetched one. While it is fetched, and after a
break, the part that has arrived is in `….part`.
"""

import contextlib
import errno
import hashlib
import http.client
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslens.cards import Card
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.progress import progress
from sslens.zoo.cache import locate

#: seconds without a byte after which a server counts as silent
SILENCE = 30.0
#: bytes read at a time
CHUNK = 1 << 20


def fetch(card: Card, *, quiet: bool = False) -> Path:
    """Return the file of a card, from the package or the cache, or after fetching it from its
    authors' server.

    Several processes may call this at once: one fetches, the others wait for it.

    Raises:
        InputError: no internet connection, no such file, no room, or another size or hash than the
            card's; the message says what to do by hand. Only a part that can be resumed is left
            behind.
    """
    target = locate(card)
    if card.shipped is not None:
        if not target.is_file():
            raise InputError(
                f"{target}, which comes with sslens, is not there: install sslens again."
            )
        return target
    with _explain_failures(card, target), _hold_lock(target, quiet):
        if target.is_file():
            _require_checked(card, target)
            return target
        part = target.with_name(f"{target.name}.part")
        _transfer(card, part, quiet)
        try:
            _check(card, part)
        except InputError:
            _remove(part)
            raise
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
        _locate_note(part).unlink(missing_ok=True)
        _mark_checked(target)
    return target


def explain_by_hand(card: Card) -> str:
    """Describe how the user gets the file without this machine's internet connection."""
    gate = (
        "Its file is given only to accounts that accepted its conditions, on its page. "
        if card.gated
        else ""
    )
    return (
        f"{gate}To do it by hand, fetch {card.url} on a machine that can and put it at"
        f" {locate(card)}"
        " (SSLENS_HOME says where that is), or give the file's path in place of the card's name."
    )


def _check(card: Card, file: Path) -> None:
    """Refuse a file that is not the card's, as far as the card can tell."""
    size = file.stat().st_size
    if card.size is not None and size != card.size:
        raise InputError(
            f"{file} has {size:,} bytes, but the file of {card.name} has {card.size:,}: it is cut"
            " off, or another file. " + explain_by_hand(card)
        )
    for kind, expected in (("sha256", card.sha256 or card.sha256_prefix), ("md5", card.md5_prefix)):
        if expected is None or (kind == "md5" and card.sha256 is not None):
            continue
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, kind).hexdigest()
        if not digest.startswith(expected):
            begins = "" if len(expected) == len(digest) else "begins with "
            raise InputError(
                f"{file} is not the file of {card.name}: its {kind} is {digest}, and the card's"
                f" {begins}{expected}. It is damaged, was changed on its way, or the authors"
                f" replaced it. {explain_by_hand(card)}"
            )


def _require_checked(card: Card, target: Path) -> None:
    """Check a file of the cache, unless it was checked and has not changed since: hashing 2 GB
    takes seconds."""
    if _make_stamp(target) != _read_json(_locate_mark(target)):
        _check(card, target)
        with contextlib.suppress(OSError):  # a cache that is shared may be read-only
            _mark_checked(target)


def _locate_mark(target: Path) -> Path:
    return target.with_name(f".{target.name}.checked")


def _mark_checked(target: Path) -> None:
    _locate_mark(target).write_text(json.dumps(_make_stamp(target)), encoding="utf-8")


def _make_stamp(target: Path) -> dict[str, int]:
    about = target.stat()
    return {"size": about.st_size, "mtime_ns": about.st_mtime_ns}


# --- transferring


@dataclass(frozen=True)
class _Origin:
    """What identifies the server's file, so that a part of it is not joined to a part of
    another."""

    validator: str | None
    total: int | None


def _transfer(card: Card, part: Path, quiet: bool) -> None:
    """Bring the whole file into `part`, going on from what is there; a connection that breaks is
    taken up while bytes arrive."""
    while True:
        before = _measure_length(part)
        try:
            _request(card, part, quiet)
            return
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if _measure_length(part) <= before:
                raise _TransferError(
                    f"the connection broke off after {spell_count(_measure_length(part), 'byte')}"
                    f" ({_spell_reason(error)})"
                ) from error


def _request(card: Card, part: Path, quiet: bool) -> None:
    """One request: the rest of the file, or all of it where the server or the part's note does not
    let it be joined."""
    from sslens import __version__

    origin, have = _read_origin(part), _measure_length(part)
    if origin is None or have == 0 or (origin.validator is None and origin.total is None):
        have = 0
    headers = {"User-Agent": f"sslens/{__version__}", "Accept-Encoding": "identity"}
    if have and origin is not None:
        headers["Range"] = f"bytes={have}-"
        if origin.validator is not None:
            headers["If-Range"] = origin.validator
    request = urllib.request.Request(str(card.url), headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
                raise
            if (
                origin is not None
                and origin.total == have
                and error.headers.get("Content-Range") == f"bytes */{have}"
            ):
                return  # it broke off between the last byte and the name
        again = True
    else:
        with response:
            _require_file(card, response)
            start, total = _parse_range(response)
            if start and not have:
                raise _TransferError(
                    "the server sent a part of the file where all of it was asked for"
                )
            again = bool(start) and (
                start != have or (origin is not None and origin.total not in (None, total))
            )
            if not again:
                _require_room(part, total, start)
                _locate_note(part).write_text(
                    json.dumps({"validator": _choose_validator(response), "total": total}),
                    encoding="utf-8",
                )
                _receive(card, response, part, start, total, quiet)
    if again:  # what is there is a part of another file
        _remove(part)
        _request(card, part, quiet)


def _choose_validator(response: Any) -> str | None:
    """What If-Range may name: not an ETag that is weak."""
    named = response.headers.get("ETag") or response.headers.get("Last-Modified")
    return None if named is None or named.startswith("W/") else str(named)


def _receive(
    card: Card, response: Any, part: Path, have: int, total: int | None, quiet: bool
) -> None:
    done = have
    with (
        progress(
            f"fetching {card.filename}", unit="MB", start=_count_megabytes(have), quiet=quiet
        ) as report,
        part.open("r+b" if have else "wb") as file,
    ):
        file.seek(have)
        file.truncate()
        while chunk := response.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            report(_count_megabytes(done), _count_megabytes(total or done))
    if total is not None and done < total:
        raise http.client.IncompleteRead(b"", total - done)


def _count_megabytes(count: int) -> int:
    return -(-count // 1_000_000)


def _parse_range(response: Any) -> tuple[int, int | None]:
    """First byte and whole length of what a server sends."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        span, _, whole = (
            (response.headers.get("Content-Range") or "").removeprefix("bytes ").partition("/")
        )
        first = span.partition("-")[0]
        if not first.isdecimal():
            raise _TransferError("the server sent a part of the file without saying which")
        return int(first), int(whole) if whole.isdecimal() else None
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None else None


def _require_file(card: Card, response: Any) -> None:
    """Refuse a web page, which is what a network with a login gives in place of a file, and a file
    of another size."""
    if response.headers.get_content_type() == "text/html":
        raise _TransferError(
            "the answer is a web page and no file; a network that wants a login answers like that"
        )
    total = _parse_range(response)[1]
    if card.size is not None and total is not None and total != card.size:
        raise _TransferError(
            f"the server's file has {spell_count(total, 'byte')}, the card says {card.size:,}: the"
            " authors replaced it"
        )


def _require_room(part: Path, total: int | None, have: int) -> None:
    need = (total or 0) - have
    free = shutil.disk_usage(part.parent).free + (
        _measure_length(part) - have
    )  # what is there in vain is written over
    if need > free:
        raise OSError(errno.ENOSPC, f"{need:,} bytes are needed and {free:,} are free")


def _measure_length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _locate_note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_origin(part: Path) -> _Origin | None:
    value = _read_json(_locate_note(part))
    return _Origin(value.get("validator"), value.get("total")) if isinstance(value, dict) else None


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    _locate_note(part).unlink(missing_ok=True)


# --- processes and faults


@contextlib.contextmanager
def _hold_lock(target: Path, quiet: bool) -> Iterator[None]:
    """One process at a time; the lock goes with the process that holds it."""
    if sys.platform == "win32" or (target.is_file() and not os.access(target.parent, os.W_OK)):
        yield  # no flock there; and in a cache that is read-only nothing is fetched
        return
    import fcntl

    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not quiet:
                print(
                    f"another process is fetching {target.name}: waiting for it",
                    file=sys.stderr,
                    flush=True,
                )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _TransferError(Exception):
    """The server or the network did not give the file."""


@contextlib.contextmanager
def _explain_failures(card: Card, target: Path) -> Iterator[None]:
    """What went wrong, in one sentence, with the way to do it by hand."""
    try:
        yield
    except urllib.error.HTTPError as error:
        meaning = {403: "forbidden", 404: "not found", 410: "gone", 429: "too many requests"}.get(
            error.code, error.reason
        )
        raise InputError(
            f"{card.url} was refused: HTTP {error.code}, {meaning}. {explain_by_hand(card)}"
        ) from error
    except urllib.error.URLError as error:
        raise InputError(
            f"{card.url} cannot be reached ({_spell_reason(error.reason)}). {explain_by_hand(card)}"
        ) from error
    except _TransferError as error:
        part_in_words = _describe_part(target)
        raise InputError(
            f"{card.url} was not fetched: {error}. {part_in_words}{explain_by_hand(card)}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"The disk of {target.parent} is full ({error.strerror}): {card.name} was not"
                f" fetched. {_describe_part(target)}Free some space, or set SSLENS_HOME to a folder"
                " on another disk, and run the same command again."
            ) from error
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}): set SSLENS_HOME to a folder"
            f" that can be. {explain_by_hand(card)}"
        ) from error


def _describe_part(target: Path) -> str:
    count = _measure_length(target.with_name(f"{target.name}.part"))
    return (
        f"The {count:,} bytes that arrived are kept: the same command goes on from there. "
        if count
        else ""
    )


def _spell_reason(reason: object) -> str:
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
