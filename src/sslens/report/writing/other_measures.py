"""Sentences about the analysis other-measures."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from sslens.counts import spell_count
from sslens.report.writing.numbers import list_names
from sslens.table import Results


def sentences(results: Results) -> tuple[str, ...]:
    """Write which pair of models is most alike by each measure, and by which measures nothing is
    defined."""
    rows = results["values"]
    if rows.empty:
        return ()
    rows = rows.assign(pair=rows.model_a + " and " + rows.model_b)
    means = rows.groupby(["measure", "pair"], sort=False).value.mean().unstack("pair", sort=False)
    studied = means[list(dict.fromkeys(rows.pair[~rows.control.astype(bool)]))]
    studied = studied.loc[:, studied.loc["cka"].notna()]
    if studied.shape[1] < 2:
        return ()
    compared = studied.dropna()
    lacking = studied.loc[studied.index.difference(compared.index, sort=False)]
    return (_write_order(compared), *_write_undefined(lacking))


def _write_undefined(means: pd.DataFrame) -> Iterator[str]:
    """Write where measures are undefined, one sentence for all measures that lack the same pairs.

    Args:
        means: measures by pairs, nan where a measure is undefined; each measure lacks some pair.
    """
    lacking = {str(measure): tuple(row.index[row.isna()]) for measure, row in means.iterrows()}
    for pairs, measures in _group((pairs, measure) for measure, pairs in lacking.items()).items():
        count = means.shape[1]
        where = f"all {count} pairs" if len(pairs) == count else list_names(list(pairs))
        subject = (
            f"measure {measures[0]} is"
            if len(measures) == 1
            else (f"measures {list_names(measures)} are")
        )
        yield f"The {subject} undefined at every depth of {where}."


def _write_order(means: pd.DataFrame) -> str:
    """Write whether all measures find the same pair most alike, and order the others alike."""
    first = means.idxmax(axis=1)
    best = first["cka"]
    orders = {
        str(measure): tuple(row.sort_values(ascending=False).index)
        for measure, row in means.iterrows()
    }
    unlike = [measure for measure in orders if orders[measure] != orders["cka"]]
    count = len(means)
    if not unlike:
        return (
            f"All {count} measures order the {means.shape[1]} pairs compared here alike, {best}"
            " first, by their mean at the same depth, of which only CKA's has an interval."
        )
    if (first == best).all():
        return (
            f"All {count} measures find {best} most alike; {list_names(unlike)} order the other"
            " pairs unlike CKA."
        )
    by_pair = _group((str(first[measure]), str(measure)) for measure in first.index)
    agreeing = by_pair.pop(str(best))
    parts = [f"{pair} by {list_names(measures)}" for pair, measures in by_pair.items()]
    return (
        f"{best} are most alike by {len(agreeing)} of {spell_count(count, 'measure')}, CKA among"
        f" them; {'; '.join(parts)}."
    )


def _group(pairs: Iterable[tuple[Any, str]]) -> dict[Any, list[str]]:
    """Collect the names that belong to the same key, in the order of their first appearance."""
    groups: dict[Any, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return groups
