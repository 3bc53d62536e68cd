"""The answers of the first screen to what varies among samples of one representation."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sslens.comparisons.parts import find_row
from sslens.report.front.screen import Answer
from sslens.report.writing.front import HERE, explain_effect
from sslens.report.writing.numbers import (
    bracket,
    explain_width,
    spell,
    spell_level,
    spell_over,
    spell_points,
    spell_share,
)
from sslens.report.writing.samples import FACING, READ, read_margin
from sslens.statistics.estimate import SMALLEST, Contrast, Estimate, subtract_unpaired
from sslens.table import Results

LINK = "samples"
#: models of which each is asked for; of more the tables tell
FEW = 2
Row = Mapping[Hashable, Any]


def write_varying(results: Results, studied: Sequence[str]) -> Iterator[Answer]:
    """Write whether the samples of each model can be trusted, of at most two models; of those that
    can, what varies among them, and which face another way more often."""
    rows = [row for row in results["fidelity"].to_dict("records") if row["model"] in studied]
    if not 0 < len(rows) <= FEW:
        return
    for row in rows:
        yield _write_trust(row)
    trusted = [str(row["model"]) for row in rows if read_margin(row).high >= 0]
    if "spreads" not in results:
        return
    spreads = results["spreads"]
    for name in trusted:
        yield from _write_most(name, spreads[(spreads.model == name) & (spreads.read >= READ)])
    if len(trusted) == FEW:
        yield from _write_facing(results, trusted)


def _write_trust(row: Row) -> Answer:
    margin = read_margin(row)
    share = Estimate.from_row(row, "nearest", "images", "sources")
    word = "undecided" if margin.low < 0 <= margin.high else "yes" if margin.value >= 0 else "no"
    effect = (
        f"source nearest to {spell_share(share)} of them, {spell_points(margin)} over what is asked"
    )
    copies = f"0.8 of {spell_share(Estimate(row['nearest_copy']))} of shifted copies"
    question = f"Do samples by {row['model']} have its features?"
    return Answer(question, word, effect, spell_over(share), copies, LINK, scope=HERE)


def _write_most(name: str, rows: pd.DataFrame) -> Iterator[Answer]:
    """What varies most among samples by a model: the spread, 0 none and 1 as among all images."""
    ranked = sorted(
        ((str(row["quantity"]), _read_spread(row)) for row in rows.to_dict("records")),
        key=lambda one: -one[1].value,
    )
    ranked = [one for one in ranked if one[1].value == one[1].value]  # nan is not itself
    if len(ranked) < 2:
        return
    (first, most), (second, next_), (last, least) = ranked[0], ranked[1], ranked[-1]
    lead = Contrast(first, second, subtract_unpaired(most, next_), paired=False)
    is_ahead = lead.difference.find_side(SMALLEST["sensitivity"]) == "more"
    effect = f"spread of {first} {spell(most)}, then {second} {spell(next_)}"
    yield Answer(
        f"What varies most among samples by {name}?",
        spell_level(most.value),
        f"{effect}; least {last} {spell(least)}",
        spell_over(most),
        "all images 1",
        LINK,
        names=first if is_ahead else f"{first} or {second}",
        scope=HERE,
    )


def _write_facing(results: Results, names: Sequence[str]) -> Iterator[Answer]:
    """Of which of two models samples face another way more often, sources and noise paired."""
    a, b = names
    pair = find_row(results, "pairs", model_a=a, model_b=b, quantity=FACING)
    if pair is None or "other_difference" not in pair:
        return
    gap = Estimate.from_row(pair, "other_difference", "images", "sources")
    lead = Contrast(a, b, gap)
    smallest = SMALLEST["accuracy"]
    side = gap.find_side(smallest)
    shares = [
        spell_share(Estimate.from_row(row, "other", "images", "sources"))
        for name in names
        if (row := find_row(results, "spreads", model=name, quantity=FACING)) is not None
    ]
    why = bracket(
        explain_width(lead),
        explain_effect(lead, smallest) if side in ("undecided", "too few") else "",
    )
    words = {"more": a, "less": b, "the same": "the same"}
    yield Answer(
        "Which samples face another way than their source more often?",
        words.get(side, "undecided"),
        f"{a} {shares[0]}, {b} {shares[1]} of them: {spell_points(gap)}{why}",
        spell_over(gap),
        "",
        LINK,
        gap.measure_strength(smallest),
        scope=HERE,
    )


def _read_spread(row: Row) -> Estimate:
    return Estimate.from_row(row, "spread", "images", "sources", ends=("low", "high"))
