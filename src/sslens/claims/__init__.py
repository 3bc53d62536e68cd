"""Claims: one file is one claim, from results to verdicts.

A file `claims/NAME.py` has

- `WORDS`: the claim, as a sentence in the papers' words;
- `READS`: the names of the analyses that it reads;
- `judge(results) -> tuple[Verdict, ...]`: the verdicts on the claim. Its argument holds the
  `Results` of the analyses that ran, by the analysis' name. It returns one verdict for each choice
  of tokens, or for each other thing that the claim distinguishes. If the models or the images do
  not allow a verdict, the outcome is "not run" and the verdict says what is missing. It returns
  nothing if no analysis of `READS` ran. Only `sslens.statistics.estimate.decide` decides whether a
  difference confirms a claim, and `sslens.statistics.verdicts.reach_verdict` whether a verdict is
  about objectives or only about the models under study.

`report/writing/claims.py` writes all claims in the same way. The file `advice.py` is special: its
`judge` returns recommendations, which `report/writing/advice.py` writes.

`sslens.report.verdicts.judge_all` asks all claims.
"""

#: what each file of this folder has
REQUIRED = ("WORDS", "READS", "judge")
