"""What a terminal shows of invariances: transforms by models and controls."""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from sslens.report.writing.answer import Told, write_answer
from sslens.report.writing.answer_grid import Grid, Way, write_grid
from sslens.report.writing.invariance_grid import make_grid

#: by transform, the blindest of the models' mean last
LEVELS = {("vertical-flip", 1.0): 0.2, ("blur", 0.03): 0.5, ("grey", 1.0): 0.9}
ADDED = {"vit_of_one": 0.0, "vit_of_two": 0.05, "random #0": 0.1, "random #1": 0.1, "pixels": -0.1}


def make_changes(levels: Mapping[tuple[str, float], float] = LEVELS) -> pd.DataFrame:
    """The table of the analysis, with rows of an earlier layer that are not shown."""
    rows = []
    for (transform, strength), level in levels.items():
        for model, more in ADDED.items():
            row = {
                "model": model,
                "control": not model.startswith("vit"),
                "pooling": "flat" if model == "pixels" else "cls",
                "main": True,
                "last": True,
                "transform": transform,
                "strength": strength,
                "invariance": level + more,
                "invariance_low": level + more - 0.01,
                "invariance_high": level + more + 0.01,
                "images": 64,
            }
            rows += [row, row | {"last": False, "invariance": -5.0}]
    return pd.DataFrame(rows)


def show(width: int, changes: pd.DataFrame | None = None) -> list[str]:
    grid = make_grid(make_changes() if changes is None else changes, "changes.csv")
    told = Told("blind", findings=["One sentence of -0.5."], path="report.html", grid=grid)
    return [line.text for line in write_answer([], told, width)]


def test_a_row_is_a_transform_and_the_blindest_comes_first() -> None:
    title, caption, head, *rows, path = show(120)
    assert (title, path) == ("blind", "report.html")
    assert caption == (
        "Invariance of the last layer (CLS token) over 64 images: 1 is blind to the change, 0 sees"
        " another image. * a control."
    )
    heads = ["change", "vit_of_one", "vit_of_two", "random #0 *", "random #1 *", "pixels *"]
    assert re.split(r"\s{2,}", head) == heads
    assert [row.split("  ")[0] for row in rows] == ["grey", "blur", "vertical flip"]
    assert rows[0].split()[1:4] == ["0.90", "[0.89,", "0.91]"]


def test_a_narrow_terminal_leaves_out_controls_then_intervals_then_the_table() -> None:
    head = show(96)[3]
    assert [one for one in ADDED if one not in head] == ["random #1"]
    assert "0.90 [0.89, 0.91]" in show(96)[4]
    values = show(74)
    assert "Intervals: in the report." in " ".join(values)
    assert "grey           0.90        0.95        1.00         1.00         0.80" in values
    assert "One sentence of −0.5." in show(40)


def test_of_many_transforms_those_that_tell_models_apart_are_shown() -> None:
    alike = {("rotation", 10.0 * number): 0.5 for number in range(1, 13)}
    changes = make_changes(alike | LEVELS)
    # all but two rows are the same in all models
    same = ~changes["transform"].isin(["grey", "blur"])
    changes.loc[same, "invariance"] = 0.5
    text = "\n".join(show(120, changes))
    assert "\ngrey " in text
    assert "\nblur " in text
    assert text.endswith("\nAnd 6 more in changes.csv.\nreport.html")
    assert len(text.splitlines()) == 14


def test_a_narrow_table_keeps_to_its_lines() -> None:
    """Where the last line wraps, a row gives way to it."""
    rows = [[f"change {place}", "0.5"] for place in range(9)]
    grid = Grid([Way("Invariance.", ["change", "vit"], rows)], range(9), "tables/changes.csv")
    lines = write_grid(grid, 20, 8)
    assert (lines[0], lines[-2:]) == ("Invariance.", ["And 5 more in", "tables/changes.csv."])
    assert len(lines) == 8


def test_what_is_not_defined_has_a_dash_and_no_model_no_table() -> None:
    changes = make_changes()
    changes.loc[changes.model == "vit_of_one", "invariance"] = np.nan
    assert "grey           –           0.95" in "\n".join(show(120, changes))
    changes.loc[changes.model.str.startswith("vit"), "invariance"] = np.nan
    assert "grey           –           –           1.00" in "\n".join(show(120, changes))
    controls = changes[changes.control]
    assert make_grid(controls) is None
    told = Told("blind", findings=["One sentence of -0.5."])
    for grid in (None, make_grid(controls)):
        assert "One sentence of −0.5." in [
            line.text for line in write_answer([], replace(told, grid=grid))
        ]
