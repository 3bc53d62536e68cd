"""Similarity of the layers of two models, as a DataFrame with the names of the layers."""

from typing import TYPE_CHECKING

from sslens.errors import InputError, warn_of_doubt
from sslens.measures import explain_lack, wants_pixels
from sslens.measures import measure as compute_measure

if TYPE_CHECKING:
    import pandas as pd

    from sslens.capture import Grams


def tabulate_similarity(
    a: "Grams",
    b: "Grams",
    *,
    measure: str = "cka",
    pixels: "Grams | None" = None,
    mend: str = "give {pixels}",
) -> "pd.DataFrame":
    """Compute a measure of all pairs of layers.

    Where a value is undefined it is nan, and a `Doubt` warns of how many there are and why.

    Args:
        a: the Grams of a model, for the rows.
        b: the Grams of another, for the columns.
        measure: the name of the measure.
        pixels: the Grams of the raw pixels, which some measures need.
        mend: how the caller's user gives the pixels where there are none.

    Raises:
        InputError: there is no such measure, it needs the pixels, or the Grams are of other images.

    >>> import torch
    >>> from sslens.capture import Grams
    >>> x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1], [3, 1]])
    >>> frame = tabulate_similarity(Grams.of_features([x]), Grams.of_features([-2 * x]))
    >>> frame.index.tolist(), frame.columns.tolist(), frame.round(9).to_numpy().tolist()
    (['0'], ['0'], [[1.0]])
    """
    import pandas as pd

    if lack := explain_lack(measure, pixels):
        raise InputError(f"The measure {measure} cannot be computed: {lack}", mend=mend)
    values = compute_measure(measure, a, b, pixels)
    rows, columns = ([tap.name for tap in side.taps] for side in (a, b))
    frame = pd.DataFrame(values, pd.Index(rows, name=a.model), pd.Index(columns, name=b.model))
    frame.attrs["units"] = f"{measure} of the layers of {a.model} (rows) and {b.model} (columns)"
    if undefined := int(frame.isna().to_numpy().sum()):
        why = (
            "where the raw pixels explain over 95 % of a layer, nothing is said of the rest"
            if wants_pixels(measure)
            else "a layer that is the same for all images has no similarity"
        )
        warn_of_doubt(
            f"{measure} of {a.model} and {b.model} is undefined (nan) for {undefined:,} of"
            f" {frame.size:,} pairs of layers: {why}."
        )
    return frame
