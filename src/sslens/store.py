"""Artefacts on disk: files that are written atomically and found by the digest of their key.

An artefact is one safetensors file with checksums (`tensor_file.py`). Its header holds its key,
which is everything that decided its content, and its provenance (time, versions, command), which
decides nothing. `Store.path` is a pure function of the kind and the key, so a second run finds the
artefacts of the first. A file is written under a temporary name in the same folder and then
renamed, so that no reader sees a part of it.
"""

import contextlib
import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslens import parts, tensor_file, whole_file
from sslens.errors import Doubt, InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def home() -> Path:
    """The folder of all files that sslens keeps between runs: `$SSLENS_HOME`, or else
    `~/.cache/sslens`."""
    return Path(os.environ.get("SSLENS_HOME") or Path.home() / ".cache" / "sslens")


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in one canonical spelling (sorted keys, no spaces).

    >>> digest({"b": 1, "a": [1, 2]}) == digest({"a": [1, 2], "b": 1})
    True
    >>> digest({"a": 1})[:8]  # printf '{"a":1}' | sha256sum
    '015abd7f'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    import hashlib  # which loads OpenSSL

    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def write_beside(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Write a file atomically: a temporary path in the folder of `path`, which is renamed to `path`
    when the block ends, and removed when the block fails.

    A reader sees the old file or the new file and never a part of one, even if the process is
    killed, or, where the file is `durable`, the machine loses power. A file that is not durable is
    written many times as fast; a digest must check it before it is used. What killed processes left
    in the folder is removed.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    temporary: Path | None = None
    handle = -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parts.remove_left(path.parent)
        handle, temporary = parts.begin(path)
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        explanation = _explain(error, path)
        if explanation is None:
            raise
        raise explanation from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; halves of characters, which names in a pickle may hold, are
    written out as by `errors.make_visible`."""
    with write_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _explain(error: OSError, path: Path) -> InputError | None:
    """The error in plain words, or None if the user cannot mend it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(
            f"The disk is full: {path} was not written and nothing half-written was left.",
            mend="free some space, or choose another folder with {out} or SSLENS_HOME, and run the"
            " same command again",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return InputError(
            f"{path} cannot be written ({error.strerror})",
            mend="choose another folder with {out} or SSLENS_HOME",
        )
    return None


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]", header: Mapping[str, str]) -> None:
    """Write tensors and a header of strings as a safetensors file with checksums, atomically."""
    values = {name: tensor_file.as_entry(value) for name, value in tensors.items()}
    with write_beside(path) as temporary, temporary.open("wb") as file:
        for part in tensor_file.encode(values, header):
            file.write(part)


def room() -> int:
    """Return the number of free bytes on the disk of `home()`."""
    home().mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(home()).free


def scratch(shape: tuple[int, ...], dtype: str) -> "np.memmap":
    """Make a temporary array on disk, which disappears with this process.

    Its file has no name, so that even a killed process leaves nothing behind.

    The file has its full size from the beginning, so that a full disk is an error (OSError) here
    and not a crash at a later write.
    """
    import tempfile

    import numpy as np

    folder = home() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile(dir=folder) as file:  # the array keeps the file open
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        return np.memmap(file, dtype, "w+", shape=shape)


@dataclass(frozen=True)
class Store:
    """The artefacts under one folder, by their kind and the digest of their key."""

    root: Path

    def path(self, kind: str, key: Mapping[str, Any], suffix: str = ".safetensors") -> Path:
        """Return the path of the artefact with this key, whether or not the file exists."""
        name = digest(key)
        return self.root / kind / name[:2] / f"{name[2:]}{suffix}"

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the artefact exists on disk."""
        return self.path(kind, key).is_file()

    def read(self, kind: str, key: Mapping[str, Any]) -> "dict[str, Tensor] | None":
        """Read the tensors of an artefact; None if it is not there or is damaged, and must be
        computed again.

        Warns:
            Doubt: the artefact is damaged.
        """
        path = self.path(kind, key)
        try:
            return tensor_file.read_torch(path)[1]
        except OSError:
            return None
        except whole_file.Unreadable as reason:
            _warn_of_damage(path, reason)
            return None

    def write(self, kind: str, key: Mapping[str, Any], tensors: "Mapping[str, Tensor]") -> Path:
        """Write the tensors of an artefact, with its key in the header."""
        path = self.path(kind, key)
        write_tensors(path, tensors, {"sslens.key": json.dumps(key, sort_keys=True)})
        return path

    def read_json(self, kind: str, key: Mapping[str, Any]) -> Any:
        """Read a JSON value; None if it is not there or is damaged.

        Warns:
            Doubt: the artefact is damaged.
        """
        path = self.path(kind, key, ".json")
        try:
            return json.loads(whole_file.unseal(path.read_text(encoding="utf-8")))["value"]
        except OSError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as reason:
            _warn_of_damage(path, reason)
            return None

    def write_json(self, kind: str, key: Mapping[str, Any], value: Any) -> Path:
        """Write a JSON value, with its key and a checksum."""
        path = self.path(kind, key, ".json")
        write_text(path, whole_file.seal(json.dumps({"key": key, "value": value})))
        return path


def _warn_of_damage(path: Path, reason: Exception) -> None:
    """Name an artefact that is computed again because it is damaged."""
    warnings.warn(f"{path} is damaged and is computed again ({reason}).", Doubt, stacklevel=4)
