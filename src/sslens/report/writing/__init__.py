"""Sentences about results; no other folder of the package makes them.

A file `report/writing/NAME.py` belongs to the analysis or the claim of that name, and has one of

- `sentences(results) -> tuple[str, ...]`: the results of an analysis in plain sentences;
- `sentences(verdicts) -> tuple[str, ...]`: one sentence for each verdict on a claim.

Only `numbers.py` turns numbers into text, and only `sslens.statistics.estimate` decides signs.
"""

import importlib

from sslens.table import Results


def sentences(analysis: str, results: Results) -> tuple[str, ...]:
    """Describe the results of an analysis in plain sentences."""
    module = importlib.import_module(f"sslens.report.writing.{analysis.replace('-', '_')}")
    written: tuple[str, ...] = module.sentences(results)
    return written
