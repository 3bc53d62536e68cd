"""Sentences about the analysis cka-targets."""

import pandas as pd

from sslens.comparisons.roles import list_names
from sslens.report.writing.numbers import spell
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: quantities that are named of a model
NAMED = 3
#: the quantity that is told of whatever its CKA
CLASS = "class"
PLACES = {"cls": "last CLS token", "all": "last block", "patch": "last patch tokens"}


def sentences(results: Results) -> tuple[str, ...]:
    """Write for each model which quantities its last layer shares most with and how much it shares
    with the class, the controls' CKA beside it; then which quantities are undefined."""
    frame = results["targets"]
    tokens = "cls" if (frame.tokens == "cls").any() else frame.tokens.iloc[0]
    ends = frame[frame.kind.isin(("block", "pixels"))].sort_values("depth", kind="stable")
    ends = ends.groupby(["tokens", "model", "target"], sort=False).tail(1)
    defined = ends[ends.cka.notna()]
    # raw pixels have no tokens, and stand beside any
    controls = defined[defined.control & ((defined.tokens == tokens) | (defined.kind == "pixels"))]
    controls = controls.sort_values("cka", kind="stable").groupby("target").tail(1)
    controls = controls.set_index("target")
    studied = defined[~defined.control & (defined.kind == "block")]
    written = []
    for name, rows in studied.groupby("model", sort=False):
        own = tokens if (rows.tokens == tokens).any() else rows.tokens.iloc[0]
        written.append(_write_model(str(name), own, rows[rows.tokens == own], controls))
    return (*written, *_write_undefined(frame))


def _write_model(name: str, tokens: str, rows: pd.DataFrame, controls: pd.DataFrame) -> str:
    best = rows.sort_values("cka", ascending=False, kind="stable").head(NAMED)
    parts = [
        f"{row.target} {_spell(row)}{_write_controls(controls, row.target)}"
        for _, row in best.iterrows()
    ]
    sentence = f"{name}: its {PLACES[tokens]} shares most with {'; '.join(parts)}"
    others = rows[(rows.target == CLASS) & ~rows.target.isin(best.target)]
    for _, row in others.iterrows():
        sentence += f"; with the class {_spell(row)}{_write_controls(controls, CLASS)}"
    return sentence + "."


def _write_controls(controls: pd.DataFrame, target: str) -> str:
    if target not in controls.index:
        return ""
    return f" (controls at most {spell(Estimate(float(controls.cka[target])))})"


def _write_undefined(frame: pd.DataFrame) -> tuple[str, ...]:
    """Write which quantities have no CKA with any layer, because no image differs in them."""
    none = frame.cka.isna().groupby(frame.target, sort=False).all()
    names = [str(target) for target, undefined in none.items() if undefined]
    if not names:
        return ()
    models = list_names(list(dict.fromkeys(frame[~frame.control].model)))
    return (f"The CKA of {models} with {list_names(names)} is undefined: it does not vary here.",)


def _spell(row: "pd.Series[object]") -> str:
    return spell(Estimate.from_row(row, "cka", "minibatches", "minibatches", ends=("low", "high")))
