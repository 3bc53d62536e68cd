"""Sentences about the analysis checkpoints."""

from collections.abc import Iterator, Mapping

import pandas as pd

from sslens.comparisons.roles import PIXELS, list_names
from sslens.counts import spell_count
from sslens.report.writing.numbers import compare, spell, spell_level, spell_points, spell_share
from sslens.statistics.estimate import SMALLEST, Estimate, Side
from sslens.table import Results

#: what chooses, in words
BY: Mapping[str, str] = {
    "rank": "effective rank",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "alignment_uniformity": "the sum of alignment and uniformity",
    "last": "taking the last",
}
#: what the loss of a choice decides, in words
SIDES: Mapping[Side, str] = {
    "more": "worse than the best",
    "less": "better than the best",
    "the same": "the best within half a point",
    "undecided": "not decided against the best",
    "too few": "not decided by so few images",
}


def sentences(results: Results) -> tuple[str, ...]:
    """Write which checkpoint each measure chooses, what that loses by k-NN where there are labels,
    and how much still changed at the end of the run."""
    frame = results["checkpoints"]
    run = frame[frame.place.notna()].sort_values("place")
    written: list[str] = []
    if "choices" in results:
        written += _write_choices(results["choices"], run)
    else:
        written.append(_write_extremes(run))
    return *written, *_write_end(run)


def _write_choices(choices: pd.DataFrame, run: pd.DataFrame) -> Iterator[str]:
    first = choices.iloc[0]
    if len(run) > 1 and run.accuracy.nunique() == 1:
        yield f"{_write_best(first, run)}."
        return
    parts, right = [], []
    for row in choices.to_dict("records"):
        loss = Estimate.from_row(row, "loss", "images", "images")
        if row["model"] == row["best"]:
            right.append(BY[row["by"]])
        else:
            verdict = SIDES[loss.find_side(SMALLEST["accuracy"])]
            parts.append(
                f"{BY[row['by']]} chooses {row['model']}, {verdict} (the best less it"
                f" {spell_points(loss)})"
            )
    if right:
        verb = "choose" if len(right) > 1 else "chooses"
        parts.insert(0, f"{list_names(right)} {verb} {first.best} too")
    yield f"{_write_best(first, run)}; {'; '.join(parts)}."


def _write_best(first: pd.Series, run: pd.DataFrame) -> str:
    """Write which checkpoint is best by k-NN, on the images that chose it, and whether it is shown
    to be above chance and to beat the best control; without a full stop."""
    (row,) = run[run.model == first.best].to_dict("records")
    share = Estimate.from_row(row, "accuracy", "images", "images", ends=("low", "high"))
    chosen = f"{spell_share(share)} of the {share.n:,} images that chose it"
    count = spell_count(len(run), "checkpoint")
    tied = [str(name) for name in run.model[run.accuracy == share.value]]
    if len(tied) == len(run) > 1:
        said = f"By 20-NN all {count} have {spell_share(share)} of {share.n:,} images"
    elif len(tied) > 1:
        said = f"By 20-NN {list_names(tied)} are the best of {count}, with {chosen}"
    else:
        said = f"By 20-NN {first.best} is the best of {count}, with {chosen}"
    chance = f"chance {first.chance:.1%}"
    if not share.low > first.chance:
        return f"{said}, not shown to be above {chance}"
    if not first.beside:
        return f"{said}; {chance}"
    gain = Estimate.from_row(first, "gain", "images", "images")
    control = "raw pixels" if first.beside == PIXELS else str(first.beside)
    held = compare(gain, control, "accuracy", more="above", less="below")
    return f"{said}, {held}; {chance}"


def _write_extremes(run: pd.DataFrame) -> str:
    """Write which checkpoint each measure likes best, where there are no labels; of a measure that
    is the same in all, only that."""
    rank = run.loc[run["rank"].idxmax()]
    near = run.loc[run.alignment.idxmin()]
    even = run.loc[run.uniformity.idxmin()]

    def tell(column: str, words: str, row: pd.Series) -> str:
        level = spell_level(row[column])
        same = len(run) > 1 and all(spell_level(value) == level for value in run[column])
        return f"{words.split()[0]} {level} in all" if same else f"{words} {row.model} ({level})"

    return (
        f"Without labels: the effective {tell('rank', 'rank is highest in', rank)},"
        f" {tell('alignment', 'alignment best in', near)},"
        f" {tell('uniformity', 'uniformity best in', even)}."
    )


def _write_end(run: pd.DataFrame) -> Iterator[str]:
    """Write how alike the last two checkpoints are."""
    last = run.iloc[-1]
    if last.before == last.before:
        cka = Estimate.from_row(last, "before", "minibatches", "minibatches")
        yield (
            f"{last.model}, the last checkpoint, has a CKA of {spell(cka)} with the one before it."
        )
