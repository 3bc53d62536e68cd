"""Safetensors files as arrays, without torch, and the errors of damaged ones."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from sslens import tensor_file, whole_file
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.store import write_beside
from sslens.zoo.arrays import Array, decode_float8


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Array]]:
    """Read the metadata and the tensors of a safetensors file, and hold them against its checksums
    where it has some.

    Raises:
        InputError: the file is truncated, damaged or not of this format.
    """
    with explain(path):
        header, values = tensor_file.read(path)
    arrays = {}
    for name, raw in values.items():
        kind = tensor_file.KINDS[header.entries[name].kind]
        arrays[name] = Array(decode_float8(raw, kind) if kind.startswith("float8") else raw, kind)
    return dict(header.metadata), arrays


def write_safetensors(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays as a safetensors file with checksums, atomically.

    Float8 numbers, which arrays hold as float32, are written as float32.

    Raises:
        InputError: a number type that safetensors does not have, or a file that cannot be written.

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "one.safetensors")
    ...     write_safetensors(path, {"a": Array(np.array([16256], np.uint16), "bfloat16")}, {})
    ...     read_safetensors(path)[1]["a"].values.tolist()
    [1.0]
    """
    names = {kind: name for name, kind in tensor_file.KINDS.items()}
    values = {}
    for name, array in arrays.items():
        kind = "float32" if array.kind.startswith("float8") else array.kind
        if kind not in names:
            raise InputError(f"{name} has numbers of the type {kind}, which safetensors has not.")
        values[name] = names[kind], array.raw
    with write_beside(path) as temporary, temporary.open("wb") as file:
        for part in tensor_file.encode(values, metadata):
            file.write(part)


@contextlib.contextmanager
def explain(path: Path) -> Iterator[None]:
    """Explain what is wrong with a safetensors file that is read within a `with` block.

    Raises:
        InputError: the file cannot be read, or is truncated, damaged or not of this format.
    """
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror}: {path}" if error.strerror else str(error)
        raise InputError(f"{path} cannot be read ({reason}).") from error
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into this machine's memory"
            f" ({spell_count(path.stat().st_size, 'byte')})."
        ) from error
    except whole_file.Altered as error:
        raise InputError(
            f"{path} is damaged: {error}",
            mend="copy it again, or go on from the run that wrote it with {resume=True}",
        ) from error
    except whole_file.Unreadable as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({spell_count(path.stat().st_size, 'byte')};"
            f" {error}): it was cut off in writing or copying.",
            mend="copy it again, or go on from the run that wrote it with {resume=True}",
        ) from error
