"""Parts of verdicts, read from rows of tables; which tokens tables have, and what is missing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from sslens.comparisons.pairs import read_contrast
from sslens.comparisons.panels import list_tokens_in
from sslens.comparisons.roles import JE
from sslens.comparisons.trainings import read_over_trainings
from sslens.statistics.estimate import SMALLEST, Contrast
from sslens.statistics.verdicts import Part, Verdict
from sslens.table import Results

#: differences that stand beside a verdict and have no part in it
Beside = tuple[Contrast, ...]


def make_part(
    row: Mapping[str, Any],
    label: str,
    contrast: Contrast,
    kind: str = "cka",
    expected: Literal[1, 0, -1] = 1,
    published: float | None = None,
) -> Part:
    """Make a part of a verdict from a row of a table, with its interval over trainings if the row
    has one.

    Args:
        row: the row, with the columns `trainings.TRAININGS` if there may be such an interval.
        label: what the difference is of.
        contrast: the difference that the row has, with its interval over images.
        kind: the kind of number, a key of `SMALLEST`.
        expected: the sign that the claim expects; 0 if it expects no gain.
        published: the difference as the papers print it; None if they print none.
    """
    over = read_over_trainings(row, contrast)
    trainings: Any = row.get("trainings")
    count = int(trainings) if pd.notna(trainings) else None
    return Part(label, contrast, SMALLEST[kind], kind, expected, over, count, published)


def make_cka_part(row: Mapping[str, Any], label: str, expected: Literal[1, 0, -1] = 1) -> Part:
    """Make a part from the columns `pairs.DIFFERENCE` of a row."""
    return make_part(row, label, read_contrast(row), "cka", expected)


def make_beyond_part(row: Mapping[str, Any], label: str) -> Part | None:
    """Make a part from a row's difference of CKA with the pixels' Gram regressed out; None if it is
    undefined, for the pixels explain nearly all of a layer, or was not computed."""
    columns = {
        name.removeprefix("deconfounded_"): value
        for name, value in row.items()
        if name.startswith("deconfounded_")
    }
    if not pd.notna(columns.get("difference")):
        return None
    names = {name: row[name] for name in ("model_a", "model_b", "less", "minibatches")}
    where = tell_depths(row)
    label = f"{label.removesuffix(',')}{where}{',' * label.endswith(',')}" if where else label
    return make_cka_part({**row, **columns, **names}, label)


def tell_depths(row: Mapping[str, Any]) -> str:
    """Say at how many depths a row's difference with the pixels' Gram regressed out is defined, and
    what the difference is at these without that; empty where it is defined at all of them.

    >>> tell_depths({"depths": 6, "depths_left": 5, "there": 0.02134})
    ' (at 5 of 6 depths, with the pixels +0.02 there)'
    """
    if pd.isna(row.get("there")):
        return ""
    with_them = f"with the pixels {row['there']:+.2f} there"
    if pd.isna(row.get("depths")):  # a mean over all pairs of taps
        return f" (where it is defined, {with_them})"
    return f" (at {row['depths_left']:.0f} of {row['depths']:.0f} depths, {with_them})"


def list_beyond(rows: Iterable[Mapping[str, Any]], label: str = "pixels regressed out") -> Beside:
    """List the rows' differences of CKA with the pixels' Gram regressed out, to stand beside a
    verdict; rows in which it is undefined or was not computed are left out.

    >>> row = {"model_a": "JE", "model_b": "JE", "less": "JE · REC", "minibatches": 32}
    >>> row |= {"deconfounded_difference": 0.1, "deconfounded_difference_low": 0.05}
    >>> list_beyond([row | {"deconfounded_difference_high": 0.15}])[0].a
    'JE · JE, pixels regressed out'
    """
    parts = (make_beyond_part(row, "") for row in rows)
    known = [part.contrast for part in parts if part is not None]
    return tuple(replace(one, a=f"{one.a}, {label}") for one in known)


def tell_as_much(beside: Sequence[tuple[Part, Contrast]]) -> tuple[str, ...]:
    """Say that JE with JE shows as much as JE with REC, where it does for each difference that is
    decided: it lies on the same side of 0, and is as far from it or farther, to within the smallest
    difference worth a word.

    Args:
        beside: differences of JE with REC, each with the same of JE with JE.

    >>> from sslens.statistics.estimate import Estimate
    >>> seen, own = (
    ...     Contrast(name, "b", Estimate(value, value - 0.05, value + 0.05, "minibatches", 32))
    ...     for name, value in (("REC", 0.2), ("JE", 0.3))
    ... )
    >>> tell_as_much([(Part("", seen, 0.02, "cka"), own)])
    ('JE with JE shows as much',)
    """
    decided = [
        (part, own)
        for part, own in beside
        if part.contrast.difference.find_side(part.smallest) in ("more", "less")
    ]
    as_much = [
        own.difference.find_side(part.smallest) == part.contrast.difference.find_side(part.smallest)
        and abs(own.difference.value) >= abs(part.contrast.difference.value) - part.smallest
        for part, own in decided
    ]
    return (f"{JE} with {JE} shows as much",) if decided and all(as_much) else ()


def find_rows(results: Results, table: str, **columns: Any) -> list[dict[str, Any]]:
    """Return the rows of a table with these values in these columns; none without the table."""
    if table not in results:
        return []
    rows = results[table]
    for column, value in columns.items():
        rows = rows[rows[column] == value]
    return rows.to_dict("records")


def find_row(results: Results, table: str, **columns: Any) -> dict[str, Any] | None:
    """Return the first row of a table with these values in these columns, if there is one."""
    rows = find_rows(results, table, **columns)
    return rows[0] if rows else None


def refuse(
    claim: str, why: str, members: Mapping[str, Sequence[str]] | None = None, tokens: str = ""
) -> Verdict:
    """Make the verdict "not run", with what is missing as the end of a sentence."""
    groups = {group: tuple(names) for group, names in (members or {}).items()}
    return Verdict(claim, "not run", why=why, members=groups, tokens=tokens)


def judge_by_tokens(
    claim: str,
    results: Results | None,
    table: str,
    judge: Callable[[Results, str], Verdict | None],
    lacking: str,
) -> tuple[Verdict, ...]:
    """Judge a claim for each choice of tokens that a table has.

    Args:
        claim: the claim's name.
        results: the results of the analysis that the claim reads; None if it did not run.
        table: the table with the differences; it is not there where models are missing.
        judge: judges one choice of tokens; None where its rows are not there.
        lacking: which models the claim needs, as the end of a sentence.

    Returns:
        The verdicts; a single verdict "not run" without any, and none if the analysis did not run.
    """
    if results is None:
        return ()
    choices = list_tokens_in(results[table]) if table in results else ()
    verdicts = tuple(
        verdict for tokens in choices if (verdict := judge(results, tokens)) is not None
    )
    return verdicts or (refuse(claim, lacking, list_members(results)),)


def list_members(results: Results, tokens: str | None = None) -> dict[str, tuple[str, ...]]:
    """List the pre-trained JE and REC models of a table `family-members`.

    Args:
        results: the results of an analysis of CKA.
        tokens: only models that have this choice of tokens; all of them unless given.
    """
    if "family-members" not in results:
        return {}
    cells = results["cells"]
    present = set(cells.model_a if tokens is None else cells[cells.tokens == tokens].model_a)
    by_family: pd.Series[Any] = results["family-members"].groupby("family").model.apply(list)
    return {
        str(family): tuple(name for name in names if name in present)
        for family, names in by_family.items()
    }


def split_members(text: str, about: str = "fine-tuned") -> dict[str, tuple[str, ...]]:
    """Read the column `members` of a table of families, such as "JE: dino and msn; REC: mae".

    Args:
        text: the column.
        about: the group of the names that stand before the first family.

    >>> split_members("mae-ft from mae; JE: dino, moco and msn")
    {'fine-tuned': ('mae-ft from mae',), 'JE': ('dino', 'moco', 'msn')}
    """
    groups: dict[str, tuple[str, ...]] = {}
    for part in text.split("; "):
        family, colon, names = part.partition(": ")
        if not colon or " " in family:
            family, names = about, part
        *first, last = names.rsplit(" and ", 1) if " from " not in names else [names]
        listed = [*(name for text in first for name in text.split(", ")), last]
        groups[family] = (*groups.get(family, ()), *listed)
    return groups
