"""How wide the table of an answer is written, from the widest to the narrowest way."""

from dataclasses import dataclass
from typing import Literal, final


@final
@dataclass(frozen=True)
class Style:
    """How wide a row of the table is written.

    Attributes:
        interval: "both" ends with a decimal, "rounded" ends, or the wider "half".
        likeness: whether the nearest relative has its CKA with the interval beside it; else it has
            them in a line below, where a row has nothing else, or not at all.
        under: whether the features of k-NN stand in a line below its accuracy, where a row has
            those of the probe; else behind it.
        apart: whether a name that is too long for its column has a line of its own.
    """

    interval: Literal["both", "rounded", "half"]
    likeness: bool = False
    under: bool = False
    apart: bool = False


#: what ± is, said where there is room for it
HALF = "±: the wider half of an interval."
#: from the first that is tried to the narrowest: of a CKA the interval stays before decimals do
STYLES = (
    Style("both", likeness=True),
    Style("both", likeness=True, under=True),
    Style("rounded", likeness=True),
    Style("rounded", likeness=True, under=True),
    Style("both"),
    Style("rounded"),
    Style("both", under=True),
    Style("rounded", under=True),
    Style("half", under=True),
    Style("half", under=True, apart=True),
)
