"""`sslens knn`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from sslens.arguments.options import Common, Text
from sslens.errors import InputError

if TYPE_CHECKING:
    from sslens.capture import Features
    from sslens.data.images import ImageSet


@dataclass(frozen=True)
class Command:
    """k-NN accuracy of a model by layer, pooling, number of neighbours and temperature, beside its
    controls.

    Writes knn.csv, a row a choice with its interval, and prints the usual choice (the last CLS
    token, 20 neighbours, temperature 0.07), the best one, and what choosing gains on images that
    had no part in it. Features are stored under SSLENS_HOME, so that a second run computes none; or
    give a folder that sslens features made.

    Examples:
      sslens knn dino_vitb16 --images photos/val --bank photos/train
      sslens knn features/dino-val --bank features/dino-train --device cuda
      sslens knn runs/mae --images scenes:0:2000 --k 5 20 --temperature 0.07
    """

    model: tyro.conf.Positional[str]
    """As sslens compare takes it, or a folder of sslens features."""
    images: str | None = None
    """Labelled images to classify: a folder (a class a subfolder), an .npz file, cifar10[:val|:train], scenes[:SEED[:COUNT]]."""
    common: tyro.conf.OmitArgPrefixes[Common] = Common()
    bank: str | None = None
    """Labelled images whose neighbours vote, or a folder of their features; without it each image is classified by all others."""
    k: tuple[int, ...] = (1, 5, 10, 20, 50, 100, 200)
    """Numbers of neighbours."""
    temperature: tuple[float, ...] = (0.04, 0.07, 0.1, 0.2)
    """A neighbour with cosine s has exp(s / temperature) votes; plain majority is always beside it."""
    taps: tuple[str, ...] = ()
    """Which layers, by name; the outputs of all blocks and the final norm unless given."""
    controls: bool = True
    """Two random initialisations of the architecture and raw pixels beside the model."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass."""


def check(command: Command) -> None:
    """Refuse what can be known to be wrong before anything heavy is imported."""
    from sslens import zoo

    for name, values in (("--k", command.k), ("--temperature", command.temperature)):
        if not values or min(values) <= 0:
            raise InputError(
                f"{name} is {' '.join(map(str, values)) or 'empty'}: give numbers above 0."
            )
    if _stored(command.model):
        if command.images is not None or command.taps:
            raise InputError(
                f"{command.model} holds features of its own images and taps: leave --images and"
                " --taps out."
            )
        if command.bank is not None and not _stored(command.bank):
            raise InputError(
                f"{command.model} holds features: give --bank a folder of features of the same"
                " model, too."
            )
        return
    zoo.check(command.model)
    if command.images is None:
        raise InputError(f"{command.model} is a model, so images are needed: give --images.")
    if command.bank is not None and _stored(command.bank):
        raise InputError(
            f"{command.bank} holds features, and {command.model} is a model: give --bank the"
            " images."
        )


def _stored(source: str) -> bool:
    return (Path(source).expanduser() / "features.json").is_file()


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the path of the table."""
    check(command)
    from sslens.capture import open_features
    from sslens.comparisons import knn_sweep as sweeping
    from sslens.processes import best_device

    device = best_device(command.common.device)
    if _stored(command.model):
        pairs = [
            (
                open_features(command.model),
                open_features(command.bank) if command.bank else None,
                False,
            )
        ]
        say(f"features  {pairs[0][0]}; no controls: they would need the images")
    else:
        pairs = _extracted(command, device, say)
    if command.common.dry_run:
        return None
    smallest = len(pairs[0][1]) if pairs[0][1] is not None else len(pairs[0][0]) - 1
    ks = sweeping.possible(command.k, smallest)
    if len(ks) < len(set(command.k)):
        say(f"note      {smallest:,} images can vote: k over that was left out")
    temperatures = (*dict.fromkeys(command.temperature), None)
    swept = []
    for queries, bank, control in pairs:
        swept.append(
            sweeping.Swept.of(
                queries, bank, control=control, ks=ks, temperatures=temperatures, device=device
            )
        )
    say(sweeping.short(swept))
    for finding in sweeping.findings(swept, command.common.seed):
        say(finding)
    path = (command.common.out or Path("sslens-knn")) / "knn.csv"
    sweeping.table(swept, command.common.seed).save(path)
    return path


def _extracted(
    command: Command, device: str, say: Text
) -> "list[tuple[Features, Features | None, bool]]":
    """The features of the model and its controls over images and bank, from SSLENS_HOME or
    computed."""
    from sslens import zoo
    from sslens.data import open_images
    from sslens.processes import best_precision
    from sslens.progress import progress

    with progress("checking images") as report:
        sets = [
            (
                None
                if source is None
                else open_images(
                    source,
                    limit=limit,
                    seed=command.common.seed,
                    on_bad=command.on_bad,
                    progress=report,
                )
            )
            for source, limit in ((command.images, command.common.limit), (command.bank, None))
        ]
    for images, source in zip(sets, (command.images, command.bank), strict=True):
        if images is not None and images.labels is None:
            raise InputError(
                f"The images of {source} have no classes: k-NN needs labelled ones, a subfolder a"
                " class."
            )
    asked, bank = sets
    assert asked is not None
    if bank is not None and len(both := asked.contents & bank.contents):
        say(
            f"note      {len(both)} of the {len(asked)} images are in the bank too, where k-NN"
            " finds them themselves"
        )
    model = zoo.load(command.model)
    names = [*zoo.random_twins(model.about), "pixels"] if command.controls else []
    found: list[tuple[Features, Features | None, bool]] = []
    for source in [None, *(name for name in names if name != model.source)]:
        each = model if source is None else zoo.load(source)
        precision = best_precision(command.precision, device)
        taps = command.taps or None if each.source == model.source else None
        stores = [
            None if s is None else _features(command, each, s, taps, device, precision, say)
            for s in sets
        ]
        if stores[0] is not None:
            found.append((stores[0], stores[1], source is not None))
    return found


def _features(
    command: Command,
    model: "object",
    images: "ImageSet",
    taps: tuple[str, ...] | None,
    device: str,
    precision: str,
    say: Text,
) -> "Features | None":
    from sslens.capture import FeatureReducer, collect, find_missing
    from sslens.capture.shards import describe
    from sslens.models.backbone import Backbone
    from sslens.plan import Plan
    from sslens.progress import progress
    from sslens.store import Store, home

    assert isinstance(model, Backbone)
    reducers, plan, store = (
        [FeatureReducer(taps)],
        Plan.in_order(images.ids),
        Store(home() / "store"),
    )
    (missing,) = find_missing(model, images, reducers, store=store, plan=plan, precision=precision)
    size = len(images) * describe(model, images, taps=taps, dtype="float32").row_bytes / 1e9
    state = "features to be made" if missing else "features are stored"
    say(
        f"features  {model.name} over {len(images):,} images of {images.name}: {size:.2g} GB,"
        f" {state}"
    )
    if command.common.dry_run:
        return None
    with progress(model.name, quiet=not missing) as report:
        (features,) = collect(
            model,
            images,
            reducers,
            plan=plan,
            store=store,
            device=device,
            precision=precision,
            progress=report,
        )
    model.to("cpu")
    return features
