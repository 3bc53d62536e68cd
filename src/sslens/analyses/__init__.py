"""Analyses: one file is one exhibit. It computes a table from artefacts, and draws the figure from
that table only.

A file `analyses/NAME.py` has

- `TITLE` and `CAPTION`, what a reader sees; `VERSION`, raised when its numbers change;
- `NEEDS`: what it reads, of "grams" (of the tokens that the study asks for), "wide", "features",
  "labels", "probes" (labelled images enough to train, choose and test probes), "factors" (of
  generated scenes), "paths" (of fine-tuning);
- `compute(inputs) -> Table`; `draw(table) -> Figure`; `findings(table) -> tuple[str, ...]`, the
  result in plain sentences;

and may have

- `without(about, controls) -> str | None`: why it has nothing to show for these models, or None if
  it has;
- `ON_REQUEST = True`: it is costly or special, and computed only when it is asked for by name;
- `on_request(about, controls) -> bool`: whether that is so for these models.
"""
