"""What the page says of its pictures: a sentence for readers who do not see them, and what is known
of a block that is pointed at."""

import re
from collections.abc import Mapping
from typing import Any

from sslens.figure import Heatmap, Lines, Panel
from sslens.report.colours import COLOURED
from sslens.report.front import Overview
from sslens.report.overview import describe_point
from sslens.report.stills import find_scale
from sslens.report.writing.numbers import list_names, spell_level, spell_share
from sslens.statistics.estimate import Estimate
from sslens.table import Results

#: letters of the lines above a section's pictures
HEADLINE = 360


def describe_panel(panel: Panel) -> str:
    """Say in a sentence what a panel shows.

    >>> import numpy as np
    >>> values, blocks = np.array([[1.0, 0.5]]), ("0", "1")
    >>> heatmap = Heatmap("", values, ("0",), blocks, "block", "block", (0.0, 1.0), "CKA")
    >>> describe_panel(heatmap)
    'Map of CKA, 1 row by 2 columns: from 0.50 to 1.00.'
    """
    if isinstance(panel, Heatmap):
        low, high = find_scale(panel)
        rows, columns = _count(len(panel.rows), "row"), _count(len(panel.columns), "column")
        ends = f"from {spell_level(low)} to {spell_level(high)}"
        return f"Map of {panel.unit}, {rows} by {columns}: {ends}."
    if isinstance(panel, Lines):
        names = [line.name for line in panel.lines[:COLOURED]]
        said = f"Curves of {panel.y_label} against {panel.x_label}"
        return f"{said}: {list_names(names)}." if names else f"{said}: none."
    return f"Pictures: {panel.title}." if panel.title else "Pictures."


def shorten_finding(finding: str) -> str:
    """Shorten a finding to the lines above a section's pictures: what stands in parentheses is left
    out, and what follows a semicolon; the whole finding stands below, behind a click. Of a clause
    that is still too long the last items are left out, and that is said.

    >>> shorten_finding("mae (JE: a; REC: b) is alike 0.75 [0.74, 0.77]; it parts from 0.50 on.")
    'mae is alike 0.75 [0.74, 0.77].'
    >>> shorten_finding("alike are " + ", ".join(f"model {number}" for number in range(99)))[-40:]
    'model 34, model 35, and more (Findings).'
    >>> several = ", ".join(f"model {number} 0.81 [0.75, 0.86]" for number in range(99))
    >>> shorten_finding(f"The blindest are {several}")[-39:]
    '0.81 [0.75, 0.86], and more (Findings).'
    """
    plain = re.sub(r" \([^()]* [^()]*\)", "", finding)
    words = plain.split("; ")[0]
    if len(words) > HEADLINE:
        whole = words[:HEADLINE]
        if whole.count("[") > whole.count("]"):  # not within an interval
            whole = whole.rpartition("[")[0]
        items = re.split(r", (?![^\[]*\])", whole)
        cut = ", ".join(items[:-1]) or whole.rpartition(" ")[0]
        return f"{cut}, and more (Findings)."
    return words if words.endswith(".") else f"{words}."


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def describe_overview(overview: Overview) -> str:
    """Say in a sentence which models the overview places, and what their points say."""
    points = "; ".join(describe_point(point) for point in overview.points)
    return " ".join(filter(None, (overview.placed_by, overview.sized_by, f"{points}.")))


def write_beside(results: Mapping[str, Results]) -> dict[str, str]:
    """Write what is known of each block beside its place in a map: its k-NN accuracy, of the
    usual pooling on raw features by the weighted vote.

    Args:
        results: of the analyses that ran, by name.

    Returns:
        The text by "model tap"; empty if there is no k-NN.
    """
    if "accuracies" not in results.get("knn-depth", ()):
        return {}
    rows = results["knn-depth"]["accuracies"]
    rows = rows[(rows.vote == "weighted") & (rows.features == "raw")]
    rows = rows[rows.main].dropna(subset="accuracy")
    return {
        f"{row['model']} {row['tap']}": f"{row['k']}-NN {spell_share(_read(row))}"
        for row in rows.to_dict("records")
    }


def _read(row: Mapping[str, Any]) -> Estimate:
    value, low, high = (float(row[column]) for column in ("accuracy", "low", "high"))
    return Estimate(value, low, high, "images", int(row["images"]))
