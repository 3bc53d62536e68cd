"""Analyses: one file is one exhibit. It computes tables from what it is given, and draws the figure
from these tables only.

A file `analyses/NAME.py` has

- `TITLE` and `CAPTION`, what a reader sees;
- `compute(models, *, NEED, …, seed=0) -> Results`: tables, one kind of row each. Every keyword-only
  parameter but the seed is the name of a need (a file of `study/needs/`) and is annotated with that
  need's type; the analysis is given those and nothing else;
- `draw(results) -> Figure`;

and may have

- `explain_absence(models) -> str | None`: the reason why the analysis has nothing to show for these
  models, or None if it has something to show;
- `ON_REQUEST = True`: the analysis is costly or special, and is computed only when the user names
  it;
- `on_request(models) -> bool`: whether the analysis is computed only by name for these models.

An analysis formats no number and makes no sentence: its sentences are in `report/writing/NAME.py`.
Its tables are kept in the store, and are read from there as long as the code that `compute` reaches
does not change.
"""

#: what each file of this folder has
REQUIRED = ("TITLE", "CAPTION", "compute", "draw")
