"""Sentences about results; no other folder of the package makes them.

A file `report/writing/NAME.py` belongs to the analysis or the claim of that name, and has one of

- `sentences(results) -> tuple[str, ...]`: the results of an analysis in plain sentences;
- `sentences(verdicts) -> tuple[str, ...]`: one sentence for each verdict on a claim.

Only `numbers.py` turns numbers into text, and only `sslens.statistics.estimate` decides signs.
"""

import importlib

from sslens.report.writing.numbers import spell_classes
from sslens.table import Results


def sentences(analysis: str, results: Results) -> tuple[str, ...]:
    """Describe the results of an analysis in plain sentences; the first one says of how many
    classes they are, where these are not all."""
    module = importlib.import_module(f"sslens.report.writing.{analysis.replace('-', '_')}")
    written: tuple[str, ...] = module.sentences(results)
    classes = name_classes(results)
    return (f"All accuracies here are of {classes}.", *written) if classes else written


def name_classes(results: Results) -> str:
    """Say of how many classes accuracies are, such as "32 of 1,000 classes"; empty where they are
    of all."""
    for table in results.tables.values():
        if len(table.frame) and {"classes", "classes_of"} <= set(table.frame.columns):
            count, every = (table.frame[name].iloc[0] for name in ("classes", "classes_of"))
            return spell_classes(int(count), int(every)) if every == every else ""
    return ""
