"""Tables of paths as files: which may be replaced; and how often the weights of one moved."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sslens.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from sslens.table import Table

#: columns by which a table of a path is known
COLUMNS = frozenset({"record", "at", "group", "move", "displacement", "straightness"})
#: rows of two tables of one path differ by the six digits of files alone
TOLERANCE = 1e-4


def count_moves(rows: "pd.DataFrame", group: str = "backbone") -> int:
    """Count the records of a path at which the weights of a group had moved.

    >>> import pandas as pd
    >>> moves = [0.5, 0.0, 0.25]  # a last checkpoint is often written twice
    >>> count_moves(pd.DataFrame({"record": [1, 2, 3], "group": "backbone", "move": moves}))
    2
    """
    return int(rows[(rows.group == group) & (rows.move > 0)].record.nunique())


def require_same_path(
    out: Path, labels: Sequence[str], table: "Table | None" = None, *, overwrite: bool = False
) -> None:
    """Refuse to write a table of a path over a file that is none, or over the table of another
    path. That of the same path, which may have gone on since, is replaced.

    Args:
        out: the file to write.
        labels: the labels of the records.
        table: the path; None before it is measured.
        overwrite: whether the table of another path may be replaced.

    Raises:
        InputError: the file would be lost.
    """
    if not out.exists():
        return
    there = _read(out)
    if there is None:
        what = "no table of a path"
    elif overwrite:
        return
    else:
        before = [str(label) for label in there.drop_duplicates("record")["at"]]
        same = list(labels[: len(before)]) == before
        if same and (table is None or _has_rows(table.frame, there)):
            return
        what = f"the path of other weights, to {before[-1] if before else 'nowhere'}"
    mend = "give another name with {out}" + (", or {overwrite}" if there is not None else "")
    raise InputError(f"{out} is there and is {what}: it would be lost", mend=mend)


def _read(path: Path) -> "pd.DataFrame | None":
    """Read a table of a path; None where the file is none."""
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError):
        return None
    return frame if set(frame.columns) >= COLUMNS else None


def _has_rows(frame: "pd.DataFrame", there: "pd.DataFrame") -> bool:
    """Whether a path has the moves and the displacements of a table that was written before."""
    rows = there.merge(frame, on=["record", "group"], how="left", suffixes=("", "_now"))
    return all(
        bool(np.allclose(rows[name], rows[f"{name}_now"], rtol=TOLERANCE, atol=0, equal_nan=True))
        for name in ("move", "displacement")
    )
