"""Sentences about the analysis other-measures."""

import pandas as pd

from sslens.report.writing.numbers import list_names
from sslens.table import Results


def sentences(results: Results) -> tuple[str, ...]:
    """Write which pair of models is most alike by each measure, and which pairs are more alike than
    two random initialisations."""
    rows = results["values"]
    rows = rows.assign(pair=rows.model_a + " and " + rows.model_b)
    means = rows.groupby(["measure", "pair"], sort=False).value.mean().unstack("pair", sort=False)
    pairs = [pair for pair in dict.fromkeys(rows[~rows.control].pair) if means[pair].notna().all()]
    written = [_write_order(means[pairs])] if len(pairs) > 1 else []
    random = _find_random(rows)
    if random is not None:
        written += [_write_beside(means, pair, random) for pair in pairs]
    return tuple(written)


def _find_random(rows: pd.DataFrame) -> str | None:
    """The pair of two random initialisations, where there is one: a pair of controls has no model
    under study."""
    studied = set(rows[~rows.control].model_a) | set(rows[~rows.control].model_b)
    pairs = rows[rows.control & ~rows.model_a.isin(studied)]
    return None if pairs.empty else str(pairs.pair.iloc[0])


def _write_order(means: pd.DataFrame) -> str:
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
            f"All {count} measures order the {means.shape[1]} pairs alike, {best} first, by their"
            " mean at the same depth."
        )
    if (first == best).all():
        return (
            f"All {count} measures find {best} most alike; {list_names(unlike)} order the other"
            " pairs unlike CKA."
        )
    parts = [f"{first[measure]} by {measure}" for measure in first.index if first[measure] != best]
    return f"The measures do not agree which pair is most alike: {best} by CKA, {', '.join(parts)}."


def _write_beside(means: pd.DataFrame, pair: str, random: str) -> str:
    """By which measures a pair is more alike than two random initialisations."""
    above = [str(measure) for measure in means.index[means[pair] > means[random]]]
    if len(above) == len(means):
        return f"By all {len(means)} measures {pair} are more alike than {random}."
    if not above:
        return f"By none of {len(means)} measures {pair} are more alike than {random}."
    return (
        f"By {list_names(above)}, and not by the other measures, {pair} are more alike than"
        f" {random}."
    )
