"""Sentences about detectors, which the exhibits of detection share."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.comparisons.detectors import PAPERS, SINGLE
from sslens.comparisons.parts import find_row, find_rows
from sslens.comparisons.roles import JE, PIXELS
from sslens.counts import spell_count
from sslens.report.writing.families import write_scope
from sslens.report.writing.numbers import compare, list_names, spell_points, spell_share
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate
from sslens.table import Results

#: the box AP of all objects under which a detector has learned nothing
LEARNED = 0.005
#: sizes of objects, as a sentence has them
SIZES = {
    "AP": "all objects",
    "AP large": "large objects",
    "AP medium": "medium objects",
    "AP small": "small objects",
}


def read_ap(row: Mapping[str, Any]) -> Estimate:
    """The average precision of a row, with its interval over images."""
    return Estimate.from_row(row, "ap", "images", row.get("images", 0), ends=("low", "high"))


def read_change(row: Mapping[str, Any], column: str = "difference") -> Estimate:
    """The difference of a row, with its interval over images."""
    return Estimate.from_row(row, column, "images", "images")


def write_nothing_learned(results: Results) -> Iterator[str]:
    """Say in one sentence that no detector finds objects, where it is so: then nothing else can be
    said of them."""
    rows = results["models"]
    own = rows[(rows.kind == "box") & (rows.measure == "AP")]
    best, too = own.ap.max(), ", the controls' included" if own.control.any() else ""
    if best < LEARNED:
        yield (
            f"No detector has learned to find objects{too}: the highest box AP is"
            f" {spell_share(Estimate(float(best)))}, so that nothing here says which model is"
            " better. Train longer, or on more images."
        )


def write_best(results: Results, how: str) -> Iterator[str]:
    """Which model's box AP is the highest, beside the controls', in one sentence."""
    rows = results["models"]
    own = rows[(rows.kind == "box") & (rows.measure == "AP") & rows.ap.notna()]
    ranked = own[~own.control].sort_values("ap", ascending=False, kind="stable").to_dict("records")
    if not ranked:
        return
    controls = [
        f"{'raw pixels' if row['model'] == PIXELS else row['model']} {spell_share(read_ap(row))}"
        for row in own[own.control].to_dict("records")
    ]
    among = f" is the highest of {spell_count(len(ranked), 'model')}" if len(ranked) > 1 else ""
    beside = f", beside {list_names(controls)}" if controls else ""
    yield (f"Box AP, {how}: {ranked[0]['model']} {spell_share(read_ap(ranked[0]))}{among}{beside}.")


def write_unbeaten(results: Results, how: str) -> Iterator[str]:
    """Say that raw pixels, or where there are none the random initialisations, beat every model, or
    that no model is shown to beat them, in one sentence, and whether random initialisations beat
    every model too; nothing where a model beats them, or without controls."""
    own = {"kind": "box", "measure": "AP"}
    untrained = [row for row in find_rows(results, "models", control=False, **own) if row["less"]]
    rows = find_rows(results, "pairs", less=PIXELS, **own)
    gains = _rank_gains(rows or untrained)
    sides = _find_sides(gains)
    if not gains or "more" in sides:
        return
    random = list(dict.fromkeys(str(row["less"]) for row in untrained))
    who, them = ("raw pixels", "them") if rows else _name_random(random)
    gain, first = gains[0]
    said = f"No model is shown to beat {who}"
    if sides == {"less"}:
        said = f"{'Raw pixels' if rows else who} {'beats' if them == 'it' else 'beat'} every model"
    near = "" if len(gains) == 1 else ", the nearest,"
    under_untrained = bool(rows) and _find_sides(_rank_gains(untrained)) == {"less"}
    end = ""
    if under_untrained:
        name, one = _name_random(random)
        beat = "beats" if one == "it" else "beat"
        end = f"; {name} {beat} every model{' too' if sides == {'less'} else ''}"
    yield f"{said} by box AP, {how}: {first}{near} has {spell_points(gain)} over {them}{end}."


def _name_random(names: Sequence[str]) -> tuple[str, str]:
    """Name the random initialisations that models are held against, and the pronoun for them.

    >>> _name_random(["random #0"]), _name_random(["random #0", "random ViT"])
    (('random #0', 'it'), ('random #0 and random ViT', 'them'))
    """
    return list_names(names), "it" if len(names) == 1 else "them"


def _rank_gains(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Estimate, str]]:
    """The gains of models over a control, the largest first."""
    gains = [(read_change(row), str(row["model"])) for row in rows]
    return sorted(gains, key=lambda pair: -pair[0].value)


def _find_sides(gains: Sequence[tuple[Estimate, str]]) -> set[str]:
    """On which sides of a control models are."""
    return {gain.find_side(SMALLEST["ap"]) for gain, _ in gains}


def write_models(results: Results, how: str) -> Iterator[str]:
    """How well all models detect, each beside the random initialisation of its architecture, and
    how well on large and on small objects; two sentences.

    Args:
        results: of an exhibit with the table `models`.
        how: what was done with the networks, such as "frozen".
    """
    rows = results["models"]
    for kind in ("box", "mask"):
        own = rows[(rows.kind == kind) & (rows.measure == "AP")]
        if kind == "mask" and own.ap.isna().all():
            yield "Mask AP is not there: the objects that train or judge have boxes alone."
            continue
        controls = [name for name in dict.fromkeys(own.less) if name] if kind == "box" else []
        against = f", held against {controls[0]}" if len(controls) == 1 else ""
        parts = [_write_model(row, controls) for row in own.to_dict("records")]
        sizes = name_sizes(results) if kind == "box" else ""
        yield f"{kind.capitalize()} AP, {how}{against}: {'; '.join(parts)}{sizes}."


def _write_model(row: Mapping[str, Any], controls: Sequence[str]) -> str:
    """The average precision of a model, beside its control's where it is one of `controls`."""
    name = f"{row['model']}, a control," if row["control"] else row["model"]
    text = f"{name} {spell_share(read_ap(row))}"
    if row["less"] in controls:
        other = "it" if len(controls) == 1 else row["less"]
        text += f", {compare(read_change(row), other, 'ap')}"
    return text


def write_sides(rows: pd.DataFrame, kind: str = "box") -> Iterator[str]:
    """How two sides differ on all objects, large and small ones; a sentence for each two sides."""
    rows = rows[rows.kind == kind]
    for one, other in dict.fromkeys(zip(rows.model, rows.less, strict=True)):
        own = rows[(rows.model == one) & (rows.less == other)]
        parts, scopes = [], []
        for measure in PAPERS:
            row = own[own.measure == measure].to_dict("records")[0]
            difference = read_change(row)
            parts.append(f"on {SIZES[measure]} {compare(difference, 'it', 'ap')}")
            scopes.append(write_scope(row, Contrast(str(one), str(other), difference), "ap"))
        end = scopes[0] if len(set(scopes)) == 1 else ""
        if not end:
            parts = [part + scope for part, scope in zip(parts, scopes, strict=True)]
        members = own.members.iloc[0]
        yield f"{one} against {other} ({members}), {kind} AP: {'; '.join(parts)}{end}."


def choose_sides(rows: pd.DataFrame) -> pd.DataFrame:
    """REC less JE without multi-crop, of which the papers speak, or where there is none less JE."""
    single = rows[rows.less == SINGLE]
    return single if len(single) else rows[rows.less == JE]


def name_sizes(results: Results) -> str:
    """What small, medium and large mean, as the end of a sentence."""
    rows = results["trainings-made"]
    return f"; sizes of objects: {rows.sizes.iloc[0]}" if len(rows) else ""


def write_lengths(results: Results) -> Iterator[str]:
    """Write how much the trainings were still gaining when they ended, in one sentence; nothing
    where none gained half a point of box AP in its last quarter."""
    rows = results["trainings-made"]
    short = rows[(rows.gained > SMALLEST["ap"]) & ~rows.control]
    if not len(short):
        return
    least, most = (f"{100 * value:.1f}" for value in (short.gained.min(), short.gained.max()))
    first = short.model[short.gained.idxmax()]
    if least == most:
        rose = f"box AP of {list_names(list(short.model))} rose by {most} points"
    else:
        rose = f"box AP rose by {least} to {most} points, most that of {first}"
    who = f"{len(short)} detectors were"
    if len(short) == (~rows.control).sum():
        who = "The detectors were"
    elif len(short) == 1:
        who = "A detector was"
    yield (
        f"{who} still learning: over the last quarter of the steps {rose}."
        " Longer trainings may change these numbers."
    )


def write_published(results: Results) -> Iterator[str]:
    """How the numbers lie beside the published ones, in one sentence."""
    if "published" not in results:
        return
    parts = []
    for name in dict.fromkeys(results["published"].model):
        row = find_row(results, "published", model=name, kind="box", measure="AP")
        if row is not None:
            ours, theirs = Estimate(row["ap"]), Estimate(row["published"])
            printed = f"the paper's {row['objective']} {spell_share(theirs)}"
            parts.append(f"{name} {spell_share(ours)}, {printed}")
    if parts:
        yield f"Beside the paper's box AP, of weights that are not these: {'; '.join(parts)}."
