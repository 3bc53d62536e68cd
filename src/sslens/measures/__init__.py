"""Measures of similarity of Grams: one file is one measure, for all pairs of taps of two models at
once.

A file `measures/NAME.py` has

- `TITLE`, what a reader sees; `RANGE`, the lowest and highest value, the highest being that of a
  model with itself;
- `INVARIANCES`: what may be done to the features of one model without changing the value, of
  "orthogonal", "isotropic scaling", "translation", "monotone in distance" and "invertible linear":
  all that it has, and no other;
- `compute(a, b) -> values [tap_a, tap_b]`, nan where a measure is undefined, an error where images
  or minibatches differ.

Minibatch CKA (`cka`) is the papers' measure. `_inference` says what in it is due to chance,
`_bootstrap` what a 95 % interval is.
"""

#: what each file of this folder has
REQUIRED = ("TITLE", "RANGE", "INVARIANCES", "compute")
