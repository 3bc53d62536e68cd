"""Analyses: one file is one exhibit. It computes tables from what it is given, and draws the figure
from these tables only.

A file `analyses/NAME.py` has

- `TITLE` and `CAPTION`, what a reader sees;
- `compute(models, *, NEED, …, seed=0) -> Results`: tables, one kind of row each. Every keyword-only
  parameter but the seed is the name of a need (a file of `study/needs/`) and is annotated with that
  need's type; the analysis is given those and nothing else;
- `draw(results) -> Figure`;

and may have

- `without(models) -> str | None`: why it has nothing to show for these models, or None if it has;
- `ON_REQUEST = True`: it is costly or special, and computed only when it is asked for by name;
- `on_request(models) -> bool`: whether that is so for these models.

It formats no number and makes no sentence: its words are in `report/writing/NAME.py`. Its tables
are kept, and are found again as long as the code that `compute` reaches stays what it is.
"""

#: what each file of this folder has
REQUIRED = ("TITLE", "CAPTION", "compute", "draw")
