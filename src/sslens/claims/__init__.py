"""Claims: one file is one claim, from results to verdicts."""
