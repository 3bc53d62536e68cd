"""`sslens knn`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from sslens.arguments.answers import Reply
from sslens.arguments.options import Common, Text
from sslens.arguments.sizes import with_image_size

if TYPE_CHECKING:
    from sslens.study.knn import KnnRequest

GROUP = "measure"


@dataclass(frozen=True)
class Command:
    """Measure the k-NN accuracy of a model by layer: also by pooling, number of neighbours and
    temperature, on raw and on standardised features, beside chance and the model's controls.

    Writes knn.csv, a row a choice with its interval, and prints the usual choice (the last CLS
    token, raw, 20 neighbours, temperature 0.07), the best one, what standardised features change,
    and what choosing gains on images that had no part in it. Features are stored under
    SSLENS_HOME, so that a second run computes none; or give a folder that sslens features made.

    Examples:
      sslens knn dino_vitb16 --images photos/val --bank photos/train
      sslens knn features/dino-val --bank features/dino-train --device cuda
      sslens knn runs/mae --images scenes:0:2000 --k 5 20 --temperature 0.07
    """

    model: tyro.conf.Positional[str]
    """As sslens compare takes it, or a folder of sslens features."""
    images: str | None = None
    """Labelled images to classify: a folder (a class a subfolder), an index FILE.csv[:SPLIT]
    (path, label, split), an .npz file, cifar10[:val|:train], scenes[:SEED[:COUNT]]."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    bank: str | None = None
    """Labelled images whose neighbours vote, or a folder of their features; without it each image
    is classified by all others."""
    sample: Literal["plain", "stratified"] = "stratified"
    """How a limit draws images: with the classes in proportion (whole classes where there would be
    fewer than 20 images a class), or plain, by their ids alone."""
    k: tuple[int, ...] = (1, 5, 10, 20, 50, 100, 200)
    """Numbers of neighbours."""
    temperature: tuple[float, ...] = (0.04, 0.07, 0.1, 0.2)
    """A neighbour with cosine s has exp(s / temperature) votes; plain majority is always beside
    it."""
    taps: tuple[str, ...] = ()
    """Which layers, by name; the outputs of all blocks and the final norm unless given."""
    controls: bool = True
    """Two random initialisations of the architecture and raw pixels beside the model."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    image_size: int | None = None
    """Side in pixels of the square images that the model sees, if not the usual one; positions are
    resampled."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass; auto is bfloat16 where the device computes faster with it, else
    float32."""


def run(command: Command, line: str, say: Text) -> Reply | None:
    """Carry it out; returns the answer with the path of the table."""
    from sslens.study import knn
    from sslens.study.out_folders import claim_knn

    common, asked = command.common, check(command)
    out = common.out or Path("sslens-knn")
    claim_knn(asked).require(out, overwrite=common.overwrite)
    result = knn.classify(asked, dry_run=common.dry_run, say=say)
    if result is None:
        return None
    return Reply(result.to_json(), result.save(out, overwrite=common.overwrite))


def check(command: Command) -> "KnnRequest":
    """What is asked; what is known to be wrong without images and models is refused."""
    from sslens.study.knn import KnnRequest

    return KnnRequest(
        model=with_image_size(command.model, command.image_size),
        images=command.images,
        bank=command.bank,
        k=command.k,
        temperature=command.temperature,
        taps=command.taps,
        controls=command.controls,
        limit=command.common.limit,
        sample=command.sample,
        seed=command.common.seed,
        on_bad=command.on_bad,
        device=command.common.device,
        precision=command.precision,
    )
