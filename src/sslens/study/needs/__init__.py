"""Needs: one file is one kind of input that an analysis may name.

A keyword-only parameter of an analysis' `compute` is the name of a file of this folder. The file
`study/needs/NAME.py` has

- `TYPE`: the type of the value, which the analysis' parameter is annotated with;
- `unmet(situation) -> Lack | None`: why the value cannot be had for these models and images, with
  the cure; None where it can;
- `gather(captured) -> TYPE`: the value, from what the passes made and from what is known of models
  and images;
- `key(value) -> JSON value`: the part of the value that decides a table's numbers, for the key by
  which the table is found again;

and may have

- `reducers(study) -> tuple[Reducer, ...]`: what passes over the images must make, if anything;
- `BANK = True`: passes over the bank must make these too;
- `altered(study) -> ((Transform, reducers), …)`: what passes over the images must make that are
  altered in these ways, a pass for each way;
- `IMAGES = False`: the value does not depend on images, so that none need be given;
- `NETWORKS = False`: the value does not depend on networks, so that none need be built: members
  then hold the weights of their files;
- `describe(situation, store) -> lines`: what is computed beside passes, with its cost, for the
  plan;
- `complete(captured)`: computes what takes long and keeps it in the store. All processes of
  torchrun call it, after the passes, while `gather` is called in the first one alone.

`Situation`, `Captured` and `Lack` are in `sslens.study.situation`.
"""

#: what each file of this folder has
REQUIRED = ("TYPE", "unmet", "gather", "key")
