"""`sslens probe`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.answers import Reply
from sslens.arguments.options import Text
from sslens.arguments.sizes import with_image_size

if TYPE_CHECKING:
    from sslens.study.probe_request import ProbeRequest

GROUP = "measure"


@dataclass(frozen=True)
class Command:
    """Train probes on a model's features: linear or deeper, of one layer of the model or of two.

    A linear probe is a logistic regression at its optimum, with a certificate; a deeper one is
    trained until its loss on validation images stops falling. The penalty, or the setting, is
    chosen on images that are held out, and what it does is told of other images, with its interval.
    With the grid of the papers, 216 trainings of each probe go on in one stream of features, and
    the mean of the best five, as papers report it, stands beside the one that is chosen. A
    closed-form ridge probe comes first, at once.

    Examples:
      sslens probe dino_vitb16 --images photos/train --test photos/val
      sslens probe runs/mae --images cifar10:train --test cifar10:val --layers 1 2 3
      sslens probe runs/mae --images photos/train --test photos/val --taps all --with-last
      sslens probe features/train --test features/val --taps blocks.5 blocks.11
      sslens probe dino_vitb16 --images photos/train --test photos/val --grid paper --augment
      sslens probe runs/mae --images photos --folds 5 --few-shot 0.01 0.1
      sslens probe runs/mae --images scenes:0:4000 --test scenes:1:1000 --factors
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL|FEATURES")]
    """A model as sslens compare takes it, or a folder of sslens features of the training images."""
    images: str | None = None
    """Training images, with a class a subfolder; not with a folder of features."""
    test: str | None = None
    """Images on which the accuracy is measured (or a folder of features); without them give
    --folds."""
    val: str | None = None
    """Images on which the penalty, or the point of the grid, is chosen; a fifth of the training
    images unless given."""
    folds: int | None = None
    """Test every training image once, in as many parts."""
    few_shot: tuple[float, ...] = ()
    """Shares of the labels, such as 0.01 0.1, to train and choose with as well."""
    draws: int = 5
    """Of each share."""
    factors: bool = False
    """Of generated scenes, what each layer knows of position, size, hue and the like."""
    taps: tuple[str, ...] = ()
    """Layers by name, such as blocks.5, or all; the last unless given."""
    pooling: tuple[Literal["cls", "mean", "patch", "flat"], ...] = ()
    """The CLS token, the mean of all tokens, the mean of the patch tokens, or flat, all numbers of
    what has no tokens, such as raw pixels; the first that there is unless given."""
    with_last: bool = False
    """Each layer also together with the last one."""
    layers: tuple[int, ...] = (1,)
    """Of the probe: 1 is linear."""
    grid: Literal["converged", "paper", "small"] = "converged"
    """Trained to the optimum, at the papers' 216 points, or at 8 of some 400 steps."""
    augment: bool = False
    """Train on random crops and flips, as MAE's linear probe, with a forward pass a step; with the
    papers' grid. Without it all images are centre crops."""
    top: int = 1
    """An image is right when its class is among so many."""
    batch: int | None = None
    """Images of a step; chosen by their number unless given, 4,096 at most."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("probes")
    """Folder for the tables."""
    seed: int = 0
    """Of the images drawn, the parts, the first weights and the order of images."""
    limit: int | None = None
    """Images taken at most of each set, those that train too, drawn by their ids and the seed."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one."""
    image_size: int | None = None
    """Side in pixels of the square images that the model sees, if not the usual one; positions are
    resampled."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass; auto is bfloat16 where the device computes faster with it, else
    float32."""
    dry_run: bool = False
    """Check all that the run would check, print the plan and its cost, and stop."""
    overwrite: bool = False
    """Replace other probes in --out: their own files go first, and no others."""


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the answer with the folder of the tables."""
    from sslens.study import probing
    from sslens.study.out_folders import claim_probes

    asked = check(command)
    claim_probes(asked).require(asked.out, overwrite=command.overwrite)
    result = probing.train(asked, dry_run=command.dry_run, say=say)
    if result is None:
        return None
    folder = result.save(asked.out, overwrite=command.overwrite)
    say(f"tables    {', '.join(sorted(path.name for path in folder.glob('*.csv')))} in {folder}")
    return Reply(result.to_json(), folder)


def check(command: Command) -> "ProbeRequest":
    """What is asked; what is known to be wrong without images and models is refused."""
    from sslens.study.probe_request import ProbeRequest

    asked = {
        name: value
        for name, value in vars(command).items()
        if name not in ("dry_run", "overwrite", "image_size")
    }
    asked["model"] = with_image_size(command.model, command.image_size)
    return ProbeRequest(**asked)
