"""Claims: one file is one claim, from results to verdicts.

A file `claims/NAME.py` has

- `WORDS`: the claim, as a sentence in the papers' words;
- `READS`: the names of the analyses that it reads;
- `judge(results) -> tuple[Verdict, ...]`: what the results say of the claim. It is given the
  `Results` of the analyses that ran, by the analysis' name, and returns a verdict a choice of
  tokens (or of what else the claim is about). A verdict is "not run", and says what is missing,
  where the models or the images do not allow one; there is none where no analysis of `READS` ran.
  Whether a difference decides is said by `sslens.statistics.estimate.judge` alone.

The words that a report has for a verdict are in `report/writing/NAME.py`: `sentences(verdicts)`, a
sentence a verdict. `advice` is one of the folder whose `judge` returns recommendations.

`sslens.report.verdicts.judge_all` asks all claims.
"""

#: what each file of this folder has
REQUIRED = ("WORDS", "READS", "judge")
