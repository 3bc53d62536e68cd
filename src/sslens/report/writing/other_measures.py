"""Sentences about the analysis other-measures."""

import pandas as pd

from sslens.report.writing.numbers import list_names
from sslens.table import Results


def sentences(results: Results) -> tuple[str, ...]:
    """Write which pair of models is most alike by each measure, and by which measures nothing is
    defined."""
    rows = results["values"]
    rows = rows.assign(pair=rows.model_a + " and " + rows.model_b)
    means = rows.groupby(["measure", "pair"], sort=False).value.mean().unstack("pair", sort=False)
    studied = means[list(dict.fromkeys(rows[~rows.control].pair))]
    studied = studied.loc[:, studied.loc["cka"].notna()]
    if studied.shape[1] < 2:
        return ()
    compared = studied.dropna()
    written = [_write_order(compared)]
    lacking = studied.loc[studied.index.difference(compared.index, sort=False)]
    for measure, values in lacking.iterrows():
        pairs = list_names([str(pair) for pair in values.index[values.isna()]])
        written.append(f"The measure {measure} is undefined at every depth of {pairs}.")
    return tuple(written)


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
