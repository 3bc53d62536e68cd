"""Sentences about the analysis invariance."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.comparisons.invariance_families import RAW
from sslens.comparisons.readings import READINGS, name_pooling_in
from sslens.comparisons.roles import JE, REC
from sslens.comparisons.trainings import read_over_trainings
from sslens.data.transform_names import label_transform
from sslens.report.writing.families import write_scope
from sslens.report.writing.numbers import compare, list_names, spell, spell_count, spell_level
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate
from sslens.table import Results

#: transforms and factors that are named of a model
NAMED = 3
#: models that have a sentence each; of more, transforms have
FEW = 4
#: from this CKA on features of all images move together, and to this invariance they move far
TOGETHER, FAR = 0.9, 0.5
#: true factors of generated scenes that a transform changes, in the order in which they are named
FACTORS = ("facing", "x", "y", "scale", "rotation", "hue")
#: columns that say what was done to the images
WAY = ("transform", "strength")
Row = Mapping[str, Any]


def sentences(results: Results) -> tuple[str, ...]:
    """Write what the last layer of each model is most and least blind to, what it follows by moving
    all images together, what of the transforms and of the true factors is decoded, and where REC
    and JE, and models before and after fine-tuning, differ."""
    frame = results["changes"]
    frame = frame[frame.main & frame["last"]]
    if frame[~frame.control].empty:
        return ()
    written = [
        _write_invariances(frame),
        _write_patches(results["changes"]),
        _write_equivariances(frame),
        _write_decoded(results),
        _write_factors(results),
        *_write_sides(results),
    ]
    return tuple(text for text in written if text)


def _group(frame: pd.DataFrame) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each model under study."""
    for name, rows in frame[~frame.control].groupby("model", sort=False):
        records: list[Row] = rows.to_dict("records")
        yield str(name), records


def _name(row: Row) -> str:
    return label_transform(str(row["transform"]), float(row["strength"]))


def _read(row: Row) -> Estimate:
    return Estimate.from_row(row, "invariance", "images", "images")


def _name_pooling(rows: Sequence[Row]) -> str:
    """Name the pooling of the rows of one model."""
    frame = pd.DataFrame(rows, columns=["model", "pooling"])
    return name_pooling_in(frame, str(rows[0]["pooling"]))


def _write_invariances(frame: pd.DataFrame) -> str:
    """To what the last layers are most and least blind, and the controls to the first transform; of
    many models to each transform which is most and which is least."""
    few = frame[~frame.control].model.nunique() <= FEW
    parts = list(_write_by_model(frame) if few else _write_by_transform(frame))
    count = spell_count(int(frame.images.iloc[0]), "image")
    return (
        "Invariance of the last layer (1: blind to the transform; 0: a changed image is as"
        f" different as another one), over {count}. {'. '.join(parts)}."
    )


def _write_by_model(frame: pd.DataFrame) -> Iterator[str]:
    """To what each model is most and least blind, and the controls to the first transform."""
    for name, rows in _group(frame):
        known = [row for row in rows if row["invariance"] == row["invariance"]]
        if not known:
            yield f"{name} is the same for all images"
            continue
        known.sort(key=lambda row: -float(row["invariance"]))
        most = ", ".join(f"{_name(row)} {spell(_read(row))}" for row in known[:NAMED])
        least = ", ".join(f"{_name(row)} {spell(_read(row))}" for row in known[NAMED:][-NAMED:])
        end = f", least to {least}" if least else ""
        yield f"{name} ({_name_pooling(rows)}): most to {most}{end}"
    first: Row = frame.iloc[0].to_dict()
    same = (frame["transform"] == first["transform"]) & (frame.strength == first["strength"])
    levels = _list_controls(frame[same])
    if levels:
        yield f"Of the controls to {_name(first)} {levels}"


def _write_by_transform(frame: pd.DataFrame) -> Iterator[str]:
    """To each transform which of many models are most and least blind, with the controls."""
    for _, rows in frame.groupby(["transform", "strength"], sort=False):
        ours = rows[~rows.control & rows.invariance.notna()]
        known: list[Row] = ours.sort_values("invariance", ascending=False).to_dict("records")
        spelt = [f"{row['model']} {spell(_read(row))}" for row in known]
        if not spelt:
            continue
        label, levels = _name(known[0]), _list_controls(rows)
        levels_of = dict.fromkeys(spell_level(float(row["invariance"])) for row in known)
        ends = f"most {spelt[0]}, least {spelt[-1]}"
        if len(levels_of) == 1:
            ends = f"{next(iter(levels_of))} in all models"
        beside = f"; of the controls {levels}" if levels else ""
        yield f"{label[:1].upper()}{label[1:]}: {ends}{beside}"


def _write_patches(changes: pd.DataFrame) -> str:
    """What the mean of the patch tokens says otherwise than the CLS token, where that is the usual
    reading: of each model the transforms with intervals that do not meet, the farthest first."""
    last = changes[changes["last"] & changes.invariance.notna()]
    others = last[~last.main & (last.pooling == "patch")].set_index(["model", *WAY])
    parts = []
    for name, rows in _group(last[last.main & (last.pooling == "cls")]):
        apart = []
        for row in rows:
            key = (name, row["transform"], row["strength"])
            if key in others.index:
                own, other = _read(row), _read(others.loc[key].to_dict())
                gap = max(own.low - other.high, other.low - own.high)
                spelt = f"{_name(row)} {spell(other)}, not {spell_level(own.value)}"
                apart += [(gap, spelt)] if gap > SMALLEST["sensitivity"] else []
        apart.sort(reverse=True)
        if apart:
            parts.append(f"{name} {'; '.join(text for _, text in apart[:NAMED])}")
    if not parts:
        return ""
    return (
        "By the mean of patch tokens the last layer answers otherwise than by the CLS token, which"
        f" reconstruction alone puts no loss on: {'. '.join(parts)}."
    )


def _list_controls(rows: pd.DataFrame) -> str:
    """The invariances of the controls to one transform."""
    known: list[Row] = rows[rows.control & rows.invariance.notna()].to_dict("records")
    return ", ".join(f"{row['model']} {spell(_read(row))}" for row in known)


def _write_equivariances(frame: pd.DataFrame) -> str:
    """What moves the last layer far while all images move together, or as a linear map says, with
    the highest number of a control."""

    def choose(row: Row) -> str:
        if row["cka"] >= TOGETHER and row["invariance"] <= FAR:
            return "cka"
        gain = Estimate.from_row(row, "equivariance", "images", "tested")
        followed = gain.find_side(SMALLEST["r2"]) == "more" and row["linear"] >= FAR
        return "linear" if followed else ""

    told = _write_told(frame, choose, "none clearly")
    count = frame.trained.max()
    fitted = "" if pd.isna(count) else f" fitted to {spell_count(int(count), 'image')}"
    return (
        "Transforms that the last layer follows, all images together (CKA, or R² of a linear map"
        f"{fitted}): {told}."
    )


def _write_decoded(results: Results) -> str:
    """What was done to an image, as far as the last layer is shown to tell it, with the highest
    number of a control."""
    if "decoded" not in results:
        return ""
    frame = results["decoded"]

    def choose(row: Row) -> str:
        told = Estimate.from_row(row, "decoded", "images", "tested")
        return "decoded" if told.find_side(SMALLEST["r2"]) == "more" else ""

    told = _write_told(frame[frame.main & frame["last"]], choose, "nothing that is decided")
    return f"What was done to an image is decoded beyond chance (1 all, 0 nothing): {told}."


def _write_told(frame: pd.DataFrame, choose: Callable[[Row], str], nothing: str) -> str:
    """Write which transforms of each model are to be told, those with the highest numbers, then the
    controls' highest numbers at these transforms.

    Args:
        frame: the rows of the last layer.
        choose: the column that a row is to be told by; empty where it is not to be told.
        nothing: what is written of models without such a row.
    """
    parts, rest = [], []
    named: dict[tuple[str, str, float], str] = {}
    for name, rows in _group(frame):
        told = [(column, row) for row in rows if (column := choose(row))]
        told.sort(key=lambda pair: -float(pair[1][pair[0]]))
        for column, row in told[:NAMED]:
            named[column, str(row["transform"]), float(row["strength"])] = _name(row)
        spelt = [f"{_name(row)} {_spell_told(column, row)}" for column, row in told[:NAMED]]
        if spelt:
            parts.append(f"{name} {', '.join(spelt)}")
        else:
            rest.append(name)
    parts += [f"{list_names(rest)} {nothing}"] if rest else []
    best = []
    for (column, transform, strength), label in named.items():
        same = (frame["transform"] == transform) & (frame.strength == strength)
        controls = frame[same & frame.control & frame[column].notna()]
        if len(controls):
            row = controls.loc[controls[column].idxmax()].to_dict()
            best.append(f"{label} {row['model']} {_spell_told(column, row)}")
    if best:
        parts.append(f"of the controls at best {', '.join(best)}")
    return "; ".join(parts)


def _spell_told(column: str, row: Row) -> str:
    """A number by which a transform is told, with its interval."""
    kind = {"cka": "CKA ", "linear": "R² "}.get(column, "")
    over, count = ("minibatches", "minibatches") if column == "cka" else ("images", "tested")
    return f"{kind}{spell(Estimate.from_row(row, column, over, count))}"


def _write_factors(results: Results) -> str:
    """The true factors that the transforms change, from the same features."""
    if "factors" not in results:
        return ""
    frame = results["factors"]
    parts = []
    for name, rows in _group(frame[frame.main & frame["last"]]):
        by_factor = {str(row["factor"]): float(row["decoded"]) for row in rows}
        known = [one for one in FACTORS if one in by_factor]
        told = [f"{one} {spell_level(by_factor[one])}" for one in known if by_factor[one] > 0]
        lost = [one for one in known if not by_factor[one] > 0]
        told += [f"nothing of {list_names(lost)}"] if lost else []
        if told:
            parts.append(f"{name} {', '.join(told)}")
    if not parts:
        return ""
    return f"Of the scenes' true factors the same layers tell: {'; '.join(parts)}."


def _write_sides(results: Results) -> Iterator[str]:
    """REC against JE, and after against before fine-tuning, over all transforms of the first
    pooling."""
    for table, other, word in (("families", JE, JE), ("fine-tuned", REC, "before")):
        if table not in results:
            continue
        frame = results[table]
        frame = frame[(frame.features == RAW) & (frame.model_b == other)]
        if frame.empty:
            continue
        rows = frame[frame.pooling == frame.pooling.iloc[0]].to_dict("records")
        first, pooling = rows[0], READINGS[str(rows[0]["pooling"])]
        yield (
            f"The last layer of {first['model_a']} ({pooling}; {first['members']}) is"
            f" {'; '.join(_list_sides(rows, word))}."
        )


def _list_sides(rows: Sequence[Row], other: str) -> Iterator[str]:
    """To which transforms the models of the rows are more or less sensitive than `other`, to which
    as sensitive, and of which that is not decided; a clause each."""
    smallest = SMALLEST["sensitivity"]
    same, rest = [], []
    for row in rows:
        difference = Estimate.from_row(row, "difference", "images", "images")
        contrast = Contrast(str(row["model_a"]), str(row["model_b"]), difference)
        side, name = difference.find_side(smallest), _name(row)
        if side == "the same":
            same.append(name)
        elif side in ("more", "less"):
            over = read_over_trainings(row, contrast)
            scope = write_scope(row, contrast, "sensitivity") if over is not None else ""
            more, less = (f"{word} sensitive to {name} than" for word in ("more", "less"))
            yield compare(difference, other, "sensitivity", more=more, less=less) + scope
        else:
            rest.append(name)
    if same:
        yield f"as sensitive as {other}, within {smallest:g}, to {list_names(same)}"
    if rest:
        yield f"more or less sensitive than {other}, which is not decided, to {list_names(rest)}"
