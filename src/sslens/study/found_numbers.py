"""What a report's files say: the number in the place of a published one, and the verdicts."""

import csv
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from sslens.exhibits import Place
from sslens.find import plugin
from sslens.report.outcomes import JudgedClaim
from sslens.statistics.estimate import Estimate

Row = Mapping[str, str]
NAN = float("nan")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def find_number(folder: Path, place: Place, names: Mapping[str, str]) -> Estimate | None:
    """Find the number in its place in the tables of a report.

    Args:
        folder: the report's folder.
        place: the place; its roles of models are replaced by names.
        names: the name of the model of each role.

    Returns:
        None where there is no such row, or the number is undefined there.
    """
    wanted = {
        column: names.get(value, value) if column.startswith("model") else value
        for column, value in place.rows.items()
    }
    rows = read_rows(folder / "tables" / f"{place.table}.csv")
    found = [row for row in rows if _fits(row, wanted)]
    if len(found) != 1 or not found[0].get(place.column):
        return None
    value, low, high = (_number(found[0], name) for name in (place.column, place.low, place.high))
    over = "trainings" if found[0].get("over") == "trainings" else "images"
    return Estimate(value, low, high, over)


def _fits(row: Row, wanted: Mapping[str, str]) -> bool:
    return all(
        column in row and fnmatchcase(row[column], pattern) for column, pattern in wanted.items()
    )


def _number(row: Row, column: str) -> float:
    text = row.get(column, "")
    return float(text) if text else NAN


def name_models(folder: Path, models: Mapping[str, str]) -> dict[str, str]:
    """Read the name of each role's model from a report's provenance: its tables have names, and a
    study is given sources.

    Args:
        folder: the report's folder.
        models: the source of each role's model.
    """
    path = folder / "provenance.json"
    if not path.is_file():
        return dict(models)
    known = json.loads(path.read_text(encoding="utf-8"))["models"]
    by_source = {about["source"]: name for name, about in known.items()}
    # a study names its models in the order in which they are given
    order = [name for name, about in known.items() if not about["control"]]
    in_order = dict(zip(models, order, strict=False)) if len(order) >= len(models) else {}
    return {
        role: by_source.get(source, in_order.get(role, source)) for role, source in models.items()
    }


def read_warning(folder: Path) -> str:
    """Read what a reader of a report must not overlook, from its first screen: that raw pixels beat
    every model, or that detectors were still learning; empty if nothing."""
    path = folder / "front.json"
    if not path.is_file():
        return ""
    front = json.loads(path.read_text(encoding="utf-8"))
    said = front["pixels"] or ("" if front["cards"] else front["choice"])
    return str(said)


def read_claims(folder: Path, claims: tuple[str, ...]) -> Iterator[JudgedClaim]:
    """Read what became of some claims from the verdicts of a report."""
    rows = read_rows(folder / "verdicts.csv")
    for claim in claims:
        words = str(plugin("claims", claim).WORDS)
        own = [row for row in rows if row["claim"] == claim]
        if not own:
            why = "no analysis that it reads had something to show"
            yield JudgedClaim(claim, words, "not run", None, why)
            continue
        outcomes: dict[str, list[str]] = {}
        for row in own:
            tokens = outcomes.setdefault(_write_outcome(row), [])
            tokens += [row["tokens"]] if row["tokens"] and row["tokens"] not in tokens else []
        said = [
            f"{outcome} ({', '.join(tokens)})"
            if tokens and outcomes.keys() - {outcome}
            else outcome
            for outcome, tokens in outcomes.items()
        ]
        first = own[0]
        effect = None
        if first["effect"]:
            value, low, high = (_number(first, name) for name in ("effect", "low", "high"))
            effect = Estimate(value, low, high)
        yield JudgedClaim(
            claim,
            words,
            ", ".join(said),
            effect,
            first["why"],
            first.get("kind") or "cka",
            _name_difference(first),
            first.get("controls", "").removeprefix("none"),
        )


def _name_difference(row: Row) -> str:
    """Name what a row of verdicts subtracts.

    >>> _name_difference({"part": "box AP,", "a": "REC", "b": "JE"})
    'box AP, REC less JE'
    """
    both = " less ".join(filter(None, (row.get("a", ""), row.get("b", ""))))
    return " ".join(filter(None, (row.get("part", ""), both)))


def _write_outcome(row: Mapping[str, str]) -> str:
    """Write the outcome of a verdict, and what speaks against it; verdicts that an earlier version
    wrote do not say all of it.

    >>> _write_outcome({"outcome": "holds", "caveats": "the reverse with pixels regressed out"})
    'holds, the reverse with pixels regressed out'
    """
    ways = row.get("reversed_with", "").replace("; ", " and ")
    caveats = row.get("caveats") or (f"the reverse with {ways}" if ways else "")
    return row["outcome"] + (f", {caveats.replace('; ', ', ')}" if caveats else "")
