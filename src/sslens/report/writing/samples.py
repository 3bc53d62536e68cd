"""Sentences about the analysis samples."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.report.writing.numbers import spell, spell_level, spell_points, spell_share
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: factors that are named of a model
NAMED = 3
#: factors that are read worse than this are not spoken of, for much of their spread is the reader's
#: own error
READ = 0.8
FACING = "facing"


def sentences(results: Results) -> tuple[str, ...]:
    """Write in how many samples of each model the thing faces the other way, and which factors
    vary; and how faithful the samples are, so that a bad sampler is not mistaken for an
    invariance."""
    rows = results["fidelity"].to_dict("records")
    told = "; ".join(_write_fidelity(row) for row in rows)
    written = [f"The source is the nearest of {rows[0]['images']:,} images to {told}."]
    judged = "; ".join(_write_quality(row) for row in rows)
    written.append(f"Among real images lie {judged}.{_warn_of_judges(rows)}")
    written += _write_trust(rows)
    if "spreads" not in results:
        return tuple(written)
    frame = results["spreads"]
    facing = frame[frame.quantity == FACING]
    if len(facing):
        trust = {str(row["model"]): _name_trust(read_margin(row)) for row in rows}
        read = Estimate.from_row(facing.iloc[0], "read", "images", 0)
        sides = "; ".join(_write_facing(row, trust) for row in facing.to_dict("records"))
        first = (
            f"Another facing than the source's is read (in held-out scenes rightly in"
            f" {spell_share(read)}) of {sides}."
        )
        written.insert(0, first)
    kept = [
        text
        for name, own in frame[frame.read >= READ].groupby("model", sort=False)
        if (text := _write_spread(str(name), own))
    ]
    told = "; ".join(kept)
    written.append(
        f"Spread among samples, 0 none and 1 as among all images, of what is read with an accuracy"
        f" or R² of {READ} or more in held-out scenes: {told}{_write_unread(frame)}."
    )
    return tuple(written)


def _name_trust(margin: Estimate) -> str:
    if margin.low < 0 <= margin.high:
        return "whether faithful, undecided"
    return "not faithful" if margin.value < 0 else "faithful"


def _write_unread(frame: pd.DataFrame) -> str:
    names = list(dict.fromkeys(frame[~(frame.read >= READ)].quantity))
    return f"; not read so well: {', '.join(map(str, names))}" if names else ""


def _write_trust(rows: Sequence[Mapping[Hashable, Any]]) -> Iterator[str]:
    """Write of which models samples are not shown to be faithful."""
    margins = {str(row["model"]): read_margin(row) for row in rows}
    bad = [name for name, margin in margins.items() if margin.high < 0]
    if bad:
        yield (
            f"Of {', '.join(bad)} nothing follows from what varies: the samples do not have the"
            " features that they were made from."
        )
    open_ones = [
        f"{name} ({spell_points(margin)})"
        for name, margin in margins.items()
        if margin.low < 0 <= margin.high
    ]
    if open_ones:
        yield (
            "Whether samples are faithful, the source nearest to at least 0.8 of what copies reach,"
            f" these sources do not decide of {', '.join(open_ones)}."
        )


def read_margin(row: Mapping[Hashable, Any]) -> Estimate:
    """Read by how much the share lies above 0.8 of the copies'; tables of before have no
    interval."""
    if "margin" in row:
        return Estimate.from_row(row, "margin", "images", "sources")
    known = 1.0 if row["faithful"] else -1.0
    return Estimate(known, known, known)


def _write_fidelity(row: Mapping[Hashable, Any]) -> str:
    share = spell_share(Estimate.from_row(row, "nearest", "images", "sources"))
    copies = spell_share(Estimate(row["nearest_copy"]))
    return f"{share} of the samples by {row['model']} (of copies shifted by one pixel {copies})"


def _warn_of_judges(rows: Sequence[Mapping[Hashable, Any]]) -> str:
    """A sentence where the numbers of quality are by features of different models."""
    if len({row["judge"] for row in rows}) < 2:
        return ""
    return (
        " These shares, and the Fréchet distances in the table, do not compare where different"
        " models judge them."
    )


def _write_quality(row: Mapping[Hashable, Any]) -> str:
    share = spell_share(Estimate.from_row(row, "precision", "images", "sources"))
    real = spell_share(Estimate(row["precision_real"]))
    return f"{share} of those by {row['model']} (real ones {real}), by features of {row['judge']}"


def _write_facing(row: Mapping[Hashable, Any], trust: Mapping[str, str]) -> str:
    share = spell_share(Estimate.from_row(row, "other", "images", "sources"))
    name = str(row["model"])
    return f"{share} of the samples by {name} ({trust[name]})"


def _write_spread(name: str, rows: pd.DataFrame) -> str:
    """Write in which factors a model's samples vary least and most."""
    rows = rows[rows.spread.notna()].sort_values("spread", kind="stable")
    if rows.empty:
        return ""
    ordered = rows.to_dict("records")
    least = ", ".join(f"{row['quantity']} {_spell_spread(row)}" for row in ordered[:NAMED])
    most = ordered[NAMED:][-NAMED:][::-1]
    if not most:
        return f"{name} {least}"
    far = ", ".join(f"{row['quantity']} {spell_level(row['spread'])}" for row in most)
    return f"{name} least in {least}, most in {far}"


def _spell_spread(row: Mapping[Hashable, Any]) -> str:
    return spell(Estimate.from_row(row, "spread", "images", "sources", ends=("low", "high")))
