"""Sentences about the analysis dense-depth."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sslens.comparisons.dense_families import LAST, TILT
from sslens.comparisons.norms import TIMES
from sslens.comparisons.probing import PLUS
from sslens.report.writing.numbers import compare, list_names, spell_count, spell_share
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: a share of outlying tokens is worth a word from here on
WORTH = 0.001
#: mIoU, share, below which objects are not found
FLOOR = 0.01
#: probes that are named where they cannot be relied on
NAMED = 3
Row = Mapping[str, Any]


def sentences(results: Results) -> tuple[str, ...]:
    """Write how well each model segments after its last block and where best, beside k-NN and the
    best control; JE against REC by size of object; patch tokens of outlying norm; and the probes
    that are not to be relied on."""
    scores, probes = results["scores"], results["probes"]
    scores = scores[~scores.tap.str.contains(PLUS, regex=False) & scores.miou.notna()]
    linear = scores[scores.reading == "linear"]
    if linear[~linear.control].empty:
        return ()
    written = [_write_last(linear, probes), _write_best(linear), _write_nearest(scores, probes)]
    if "families" in results:
        written += _write_families(results["families"])
    if "norms" in results:
        written.append(_write_norms(results["norms"]))
    written.append(_write_unsettled(probes))
    return tuple(text for text in written if text)


def _write_last(linear: pd.DataFrame, probes: pd.DataFrame) -> str:
    """The mIoU after the last block of each model, by size, and of the best control."""
    parts = []
    for name, rows in linear[~linear.control].groupby("model", sort=False):
        last = _list_rows(rows, "all")[-1]
        text = f"{name} {spell_share(_read(last))} at {last['tap']}"
        sizes = [
            f"{size} objects {spell_share(_read(found[-1]))}"
            for size in dict.fromkeys(rows["size"])
            if size != "all" and (found := _list_rows(rows, size))
        ]
        parts.append(f"{text} ({', '.join(sizes)})" if sizes else text)
    controls = linear[linear.control & (linear["size"] == "all")]
    if not controls.empty:
        best = controls.loc[controls.miou.idxmax()].to_dict()
        parts.append(f"of the controls at best {best['model']} {spell_share(_read(best))}")
    reference, nothing = (
        spell_share(Estimate(float(probes[name].iloc[0]))) for name in ("bound", "background")
    )
    return (
        "By a linear probe of the last block images are segmented with an mIoU of:"
        f" {'; '.join(parts)};"
        f" to call everything background has {nothing}, the least to beat;"
        f" to give each patch of {probes.model.iloc[0]} its most frequent class has {reference},"
        f" which a prediction may exceed{_name_sizes(probes)}."
    )


def write_line(scores: pd.DataFrame) -> str:
    """Write the mIoU after the last block of each model, and of the best control, for a terminal.

    >>> row = {"model": "mae", "control": False, "tap": "blocks.5", "depth": 1.0, "images": 20}
    >>> row |= {"reading": "linear", "size": "all", "miou": 0.5, "low": 0.45, "high": 0.55}
    >>> write_line(pd.DataFrame([row, row | {"model": "pixels", "control": True, "low": 0.4}]))
    'mIoU of patches, last block: mae 50.0% [45.0%, 55.0%]; best control pixels 50.0% [40.0%, ...'
    """
    alone = ~scores.tap.str.contains(PLUS, regex=False)
    linear = scores[alone & scores.miou.notna() & (scores.reading == "linear")]
    linear = linear[linear["size"] == "all"]
    studied = linear[~linear.control].groupby("model", sort=False)
    last = [(name, _list_rows(rows, "all")[-1]) for name, rows in studied]
    parts = [", ".join(f"{name} {spell_share(_read(row))}" for name, row in last)]
    controls = linear[linear.control]
    if len(controls):
        best = controls.loc[controls.miou.idxmax()].to_dict()
        parts.append(f"best control {best['model']} {spell_share(_read(best))}")
    return f"mIoU of patches, last block: {'; '.join(parts)}." if last else ""


def _write_best(linear: pd.DataFrame) -> str:
    """Where an earlier block of a model is better than its last one."""
    better, rest = [], []
    for name, rows in linear[~linear.control].groupby("model", sort=False):
        blocks = _list_rows(rows, "all")
        best = max(blocks, key=lambda row: row["miou"])
        difference = Estimate.from_row(best, "over_last", "images", "images")
        if best["tap"] != blocks[-1]["tap"] and difference.find_side(0.005) == "more":
            against = compare(difference, "at the last block", "accuracy")
            better.append(f"{name} {spell_share(_read(best))} at {best['tap']}, {against}")
        else:
            rest.append(str(name))
    if not better:
        return f"Of {list_names(rest)} no earlier block is clearly better than the last one."
    return f"An earlier block is better: {'; '.join(better)}."


def _write_nearest(scores: pd.DataFrame, probes: pd.DataFrame) -> str:
    """The mIoU by k-NN after the last block of each model."""
    parts = []
    rows = scores[(scores.reading == "k-NN") & ~scores.control]
    for name, of_model in rows.groupby("model", sort=False):
        last = _list_rows(of_model, "all")[-1]
        parts.append(f"{name} {spell_share(_read(last))}")
    nearest = probes[probes.reading == "k-NN"]
    if not parts or nearest.empty:
        return ""
    row = nearest.iloc[0]
    return (
        f"Without training, k-NN with {spell_count(int(nearest.memory.max()))} remembered patches"
        f" of {spell_count(int(row.trained))} images has there: {'; '.join(parts)};"
        f" {spell_count(int(row.images))} images are tested."
    )


def _list_rows(rows: pd.DataFrame, size: str) -> list[Row]:
    """The rows of one size, in the order of depth."""
    chosen = rows[rows["size"] == size]
    records: list[Row] = chosen.sort_values("depth", kind="stable").to_dict("records")
    return records


def _read(row: Row) -> Estimate:
    return Estimate.from_row(row, "miou", "images", "images", ends=("low", "high"))


def _write_families(frame: pd.DataFrame) -> Iterator[str]:
    """JE against REC after the last block, by size of object: claim C12's cheap twin."""
    for reading, rows in frame[frame["at"] == LAST].groupby("reading", sort=False):
        parts, tilt = [], ""
        for row in rows.to_dict("records"):
            difference = Estimate.from_row(row, "difference", "images", "images")
            if not difference.defined:
                continue
            if row["size"] == TILT:
                side = compare(difference, "what it has on small ones", "accuracy")
                tilt = f"; what JE has over REC on large objects is {side}{_write_floor(rows)}"
            else:
                where = "all pixels" if row["size"] == "all" else f"{row['size']} objects"
                parts.append(f"on {where} {compare(difference, 'REC', 'accuracy')}")
        by = "a linear probe" if reading == "linear" else reading
        if parts:
            members = str(rows.members.iloc[0])
            yield f"By {by} of the last block, JE is {', '.join(parts)}{tilt} ({members})."


def _write_floor(rows: pd.DataFrame) -> str:
    """Write that small objects are found by neither family, where no difference can show."""
    small = rows[rows["size"] == "small"]
    if small.empty or not (small[["miou_a", "miou_b"]] < FLOOR).all(axis=None):
        return ""
    levels = list_names([f"{value:.1%}" for value in small[["miou_a", "miou_b"]].iloc[0]])
    return f", but small ones are found by neither ({levels}), so that no difference could show"


def _write_norms(frame: pd.DataFrame) -> str:
    """The tap of each model with the most patch tokens of outlying norm."""
    studied = frame[~frame.control]
    if studied.empty:
        return ""
    parts = []
    for name, rows in studied.groupby("model", sort=False):
        most = rows.loc[rows.share.idxmax()].to_dict()
        if most["share"] >= WORTH:
            share = Estimate.from_row(most, "share", "images", "images")
            parts.append(f"{name} {spell_share(share)} at {most['tap']}")
    many = f"a norm over {TIMES:g} times the median"
    if not parts:
        names = list_names([str(name) for name in dict.fromkeys(studied.model)])
        return f"Under 0.1% of the patch tokens of {names} have {many}, after every block."
    return f"Patch tokens with {many} are at most: {'; '.join(parts)}."


def _name_sizes(probes: pd.DataFrame) -> str:
    """What small, medium and large mean, as the end of a sentence."""
    under, over = (float(probes[column].iloc[0]) for column in ("small_under", "large_over"))
    if pd.isna(under):
        return ""
    small, large = spell_share(Estimate(under)), spell_share(Estimate(over))
    return (
        "; sizes of objects are thirds of the training images' objects by relative area: small is"
        f" under {small} of the image, large over {large}"
    )


def _write_unsettled(probes: pd.DataFrame) -> str:
    """The linear probes of models that are not to be relied on."""
    bad = probes[(probes.reading == "linear") & (probes.why != "") & ~probes.control]
    if bad.empty:
        return ""
    names = [f"{row['model']} at {row['tap']} ({row['why']})" for row in bad.to_dict("records")]
    more = f" and {spell_count(len(names) - NAMED)} more" if len(names) > NAMED else ""
    return f"Linear probes that are not to be relied on: {'; '.join(names[:NAMED])}{more}."
