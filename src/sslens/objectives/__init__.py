"""Training objectives: one file is one method.

A file `objectives/NAME.py` has

- `FAMILY`, the method's family: "JE" (joint embedding), "REC" (reconstruction) or "supervised";
- `KINDS`, the kinds of network that it trains: "vit", "resnet", "convnextv2";
- `LABELLED = True` where it learns the images' labels: the loop then refuses images without, gives
  `Rows` their labels and the settings their `classes` (names, in the order of the labels' numbers),
  which must be a field of them with the default `()`;
- `IN_PARTS`, where a setting makes steps divisible: the last words of the error message's advice,
  such as `", or {settings.responses=image}"`;
- `find_trivial(settings, labels, images) -> TrivialLoss | None`, where one is known: the loss of a
  method that has learnt nothing, given the images' labels (or None) and the images of a step; a
  training that is still there after a tenth of its steps is told so;
- `Settings`, a frozen dataclass: the method's numbers, with `base_lr` (for 256 images),
  `weight_decay`, `betas` and `warmup` (share of the training), `optimiser` where it may be another
  than AdamW, and the papers' table and where the released code differs from it in its docstring;
- `batch(images, settings, arch, rows) -> dict[str, Tensor]`: the views (and other random numbers)
  of some images of a step, a pure function, so that data workers can call it; the first axis of
  each is the image;
- `Objective(arch, settings)`, a `Method`: what the loop trains.

One step of the loop is

    before_step · rates · forward and backward · before_update · the optimiser's update ·
    after_update

`before_step`, `before_update` and `after_update` are left out by an objective that does nothing
there (`sslens.methods.HOOKS`). All that is random in a step comes with the batch, so that the step
is the same in any number of processes and parts.
"""

#: what each file of this folder has
REQUIRED = ("FAMILY", "KINDS", "Settings", "batch", "Objective")
