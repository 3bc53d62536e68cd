"""Words: from the results of an analysis to sentences, made here and nowhere else.

A file `report/writing/NAME.py` belongs to the analysis or the claim of that name and has

- `sentences(results) -> tuple[str, ...]`: what the results say, in plain sentences; of a claim
  `sentences(verdicts)`, a sentence a verdict.

Numbers are spelt by `numbers.py` alone, and signs are decided by `sslens.statistics.estimate`.
"""

import importlib

from sslens.table import Results


def sentences(analysis: str, results: Results) -> tuple[str, ...]:
    """What the results of an analysis say, in plain sentences."""
    module = importlib.import_module(f"sslens.report.writing.{analysis.replace('-', '_')}")
    written: tuple[str, ...] = module.sentences(results)
    return written
