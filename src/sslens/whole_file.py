"""Files that are read whole: opened without waiting, held against what they were when the reading
began, and texts that carry their checksum."""

import errno
import os
import stat
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, final

from sslens.errors import InputError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    import numpy as np


#: bytes from which on a CRC is worth a thread
LARGE = 1 << 20


class Unreadable(ValueError):  # noqa: N818 (its text is the reason alone; callers name the file)
    """The bytes are not those of a whole file of this format, or are not those that were
    written."""


class Altered(Unreadable):
    """The bytes are those of a whole file, and not those that were written."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading without ever waiting for one.

    Raises:
        OSError: there is no such file, or it cannot be read.
        InputError: it is a pipe, a device or a socket, which is not opened.
    """
    kind = path.stat().st_mode  # before opening, since opening may do something to a device
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    handle = -1
    if stat.S_ISREG(kind):
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | os.O_CLOEXEC)
        kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        if handle >= 0:
            os.close(handle)
        names = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise InputError(
            f"{path} is {names.get(stat.S_IFMT(kind), 'a device')}, and no file that can be read."
        )
    return os.fdopen(handle, "rb")


def exists(path: Path | str) -> bool:
    """Whether there is a file or folder by a name; False for what can be no name of one, such as
    5,000 letters.

    >>> exists("x" * 5000), exists("a\\0b"), exists(".")
    (False, False, True)
    """
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


@final
class Steady:
    """A file that must not change between the beginning of its reading and the end.

    Its size and the time of its last change are compared. A file that is replaced by another under
    its name is read to its end, as it was.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._before = self._look()

    def _look(self) -> tuple[int, int]:
        about = os.fstat(self._file.fileno())
        return about.st_size, about.st_mtime_ns

    @property
    def size(self) -> int:
        """The bytes of the file when its reading began."""
        return self._before[0]

    def require(self) -> None:
        """Refuse a file that was changed.

        Raises:
            Unreadable: it was.
        """
        if self._look() != self._before:
            raise Unreadable("it was written while it was read")

    def fill(self, begin: int, into: "np.ndarray") -> None:
        """Fill an array with the bytes from `begin` on.

        Raises:
            Unreadable: the file ends before the array is full.
        """
        self._file.seek(begin)
        room = into.reshape(-1).view("u1").data
        done = 0
        while done < len(room):
            count = self._file.readinto(room[done:])  # type: ignore[attr-defined]
            if not count:
                raise Unreadable("it was cut off while it was read")
            done += count


@final
class Sums:
    """Holds what is read against its CRC-32, on a thread beside the reading.

    Python computes a CRC without its lock, so that the next part is read meanwhile. All are known
    when the `with` block ends.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: list[tuple[Future[int], int, str]] = []

    def __enter__(self) -> "Sums":
        return self

    def require(self, values: "np.ndarray", expected: int, wrong: str) -> None:
        """Compare the CRC-32 of an array's bytes, which must not change until the block ends.

        Args:
            values: the array.
            expected: its CRC-32.
            wrong: the reason where it is another.

        Raises:
            Altered: it is another, of few bytes; of many, the error comes when the block ends.
        """
        content = values.reshape(-1).view("u1").data
        if len(content) < LARGE:
            if zlib.crc32(content) != expected:
                raise Altered(wrong)
            return
        self._pool = self._pool or _make_pool()
        self._waiting.append((self._pool.submit(zlib.crc32, content), expected, wrong))

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            for future, expected, wrong in self._waiting if kind is None else ():
                if future.result() != expected:
                    raise Altered(wrong)
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)


def _make_pool() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor  # which most commands do without

    return ThreadPoolExecutor(1, "crc")


def seal(text: str) -> str:
    """Add the checksum of a JSON object to its text.

    >>> seal('{"a": 1}')
    '{"a": 1, "checksum": "crc32:fba18e97"}'
    """
    text = text.rstrip()
    body = text.removesuffix("}")
    return f'{body}, "checksum": "crc32:{zlib.crc32(text.encode()):08x}"}}'


def unseal(text: str) -> str:
    """Return the text of a JSON object as it was before `seal`; a text without a checksum, as it
    is.

    Raises:
        Unreadable: the text is not the one that was written.

    >>> unseal(seal('{"a": 1}')), unseal('{"a": 1}')
    ('{"a": 1}', '{"a": 1}')
    """
    body, mark, end = text.rpartition(', "checksum": "crc32:')
    if not mark or len(end) != 10 or not end.endswith('"}'):
        return text
    if f"{zlib.crc32((body + '}').encode()):08x}" != end[:8]:
        raise Altered("it is not the text that was written")
    return body + "}"
