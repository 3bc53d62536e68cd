"""`sslens fingerprint`."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sslens.arguments.options import Text
from sslens.errors import InputError
from sslens.slurm import Slurm

if TYPE_CHECKING:
    from sslens.capture import GramReducer, Grams
    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.models.taps import Tap
    from sslens.plan import Plan
    from sslens.store import Store


@dataclass(frozen=True)
class Command:
    """Write what a model makes of images as one small file, to be compared later with other models,
    on any machine.

    The file holds the model's Grams: the similarities of the images to each other at every layer,
    and neither images nor weights. sslens compare takes such files wherever it takes models; they
    must be of the same images, --limit, --batch and --seed. Released models resample images
    differently: give one --interpolation to all, and what differs is the models.

    Examples:
      sslens fingerprint mae_vitb16 --images photos/val
      sslens fingerprint moco_v3_vitb16 --images photos/val --interpolation bicubic --half -o
          shared/moco.safetensors
      sslens compare mae_vitb16.fingerprint.safetensors shared/moco.safetensors
    """

    model: tyro.conf.Positional[str]
    """As sslens compare takes it: the name of a card, a file, a folder of sslens pretrain, timm:NAME or random:NAME[:SEED]."""
    images: str
    """A folder (a class a subfolder, or flat), an .npz file, cifar10[:val|:train], or scenes[:SEED[:COUNT]]."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file; NAME.fingerprint.safetensors here unless given."""
    tokens: tuple[Literal["all", "cls", "patch"], ...] = ("all",)
    """Of which tokens: all (flattened, as in the papers), the CLS token, the patch tokens; one file holds several."""
    half: bool = False
    """float16, half the size, for sharing; CKA over minibatches of 32 changes by less than 5e-5."""
    taps: tuple[str, ...] = ()
    """Which layers, by name, such as blocks.11; all of them unless given."""
    interpolation: Literal["own", "bicubic", "bilinear"] = "own"
    """How images are resampled: as the model's own transform has it, or in one way for all."""
    batch: int = 32
    """Images in a minibatch of CKA."""
    seed: int = 0
    """Of the images drawn and the minibatches."""
    limit: int | None = 1024
    """Images taken at most, drawn by their ids and the seed; None takes all."""
    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes a GPU where there is one."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the forward pass; Grams are float32."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What to do with an image that cannot be decoded."""
    dry_run: bool = False
    """Print the plan and its cost, and stop."""
    slurm: tyro.conf.OmitArgPrefixes[Slurm] = Slurm()


def run(command: Command, line: str, say: Text) -> Path | None:
    """Carry it out; returns the path of the fingerprint, but for processes that are not the
    first."""
    check(command)

    from sslens.fingerprint import Conditions, write
    from sslens.processes import best_device, processes
    from sslens.store import Store, home

    store = Store(home() / "store")
    with processes(best_device(command.device)) as process:
        asked = _Asked.by(command, process.device, quiet=not process.first)
        if command.out is None:
            _require_own(asked.path, asked.model, asked.images)
        if process.first:
            say(asked.describe(store))
        made = (
            [] if command.dry_run else asked.collect(store, process.device, quiet=not process.first)
        )
    if not made or not process.first:
        return None
    conditions = Conditions.of(
        asked.model,
        asked.images,
        asked.plan,
        tokens=[reducer.tokens for reducer in asked.reducers],
        precision=asked.precision,
        seed=command.seed,
    )
    write(asked.path, made, conditions, model=asked.model, dtype=asked.dtype)
    say(f"written   {asked.path.stat().st_size / 1e6:.2f} MB")
    return asked.path


def check(command: Command) -> None:
    """Refuse what can be known to be wrong before anything heavy is imported."""
    from sslens import zoo
    from sslens.fingerprint import is_fingerprint

    if is_fingerprint(Path(command.model)):
        raise InputError(
            f"{command.model} is a fingerprint already: sslens doctor {command.model} says what it"
            " holds, and sslens compare takes it as a model."
        )
    if not command.tokens:
        raise InputError("--tokens names none: give one or more of all, cls and patch.")
    zoo.check(command.model)
    out = command.out
    if out is not None and out.is_dir():
        raise InputError(
            f"{out} is a folder: give the file to write, such as"
            f" {out / 'model.fingerprint.safetensors'}."
        )
    if out is not None and out.exists() and not is_fingerprint(out):
        raise InputError(
            f"{out} is there and is no fingerprint: it would be lost. Choose another name with"
            " --out."
        )


def _require_own(path: Path, model: "Backbone", images: "ImageSet") -> None:
    """Refuse a name that was not asked for where another fingerprint has it."""
    from sslens.fingerprint import is_fingerprint
    from sslens.fingerprint.header import read_header

    if not path.exists():
        return
    if is_fingerprint(path):
        there = read_header(path)
        if (there["model"]["digest"], there["images"]["content"]) == (model.digest, images.content):
            return
        what = (
            f"of {there['model']['source']} over {there['images']['count']:,} images of"
            f" {there['images']['name']}"
        )
    else:
        what = "no fingerprint"
    raise InputError(
        f"{path} is there and is {what}: it would be lost. Give another name with --out."
    )


@dataclass(frozen=True)
class _Asked:
    """What a fingerprint is made of, before it is computed."""

    model: "Backbone"
    images: "ImageSet"
    plan: "Plan"
    taps: "tuple[Tap, ...]"
    reducers: "tuple[GramReducer, ...]"
    precision: str
    dtype: Literal["float32", "float16"]
    path: Path

    @classmethod
    def by(cls, command: Command, device: str, *, quiet: bool) -> "_Asked":
        """The model loaded, the images checked, the minibatches drawn."""
        from sslens import zoo
        from sslens.capture import GramReducer
        from sslens.data import open_images
        from sslens.plan import Plan
        from sslens.processes import best_precision
        from sslens.progress import progress

        model = zoo.load(command.model)
        if command.interpolation != "own":
            model.transform = replace(model.transform, interpolation=command.interpolation)
        if not model.prefix and set(command.tokens) != {"all"}:
            raise InputError(
                f"{model.name} has no CLS token, so its tokens are all alike: leave --tokens at"
                " all."
            )
        taps = model.pick(command.taps or None)
        with progress("checking images", quiet=quiet) as report:
            images = open_images(
                command.images,
                limit=command.limit,
                seed=command.seed,
                on_bad=command.on_bad,
                progress=report,
            )
        return cls(
            model,
            images,
            Plan.draw(images.ids, command.batch, command.seed),
            taps,
            tuple(GramReducer(tokens) for tokens in dict.fromkeys(command.tokens)),
            best_precision(command.precision, device),
            "float16" if command.half else "float32",
            command.out or Path(file_name(model.name)),
        )

    def describe(self, store: "Store") -> str:
        """The plan and its cost, for a person."""
        from sslens.capture import find_missing
        from sslens.fingerprint.triangles import values

        missing = any(
            find_missing(
                self.model,
                self.images,
                self.reducers,
                store=store,
                plan=self.plan,
                taps=[tap.name for tap in self.taps],
                precision=self.precision,
            )
        )
        sizes, transform = self.plan.sizes, self.model.transform
        size = (
            len(self.reducers)
            * len(self.taps)
            * values(sizes)
            * (2 if self.dtype == "float16" else 4)
        )
        lines = [
            (
                f"model     {self.model.name}, {len(self.taps)} taps, tokens"
                f" {', '.join(each.tokens for each in self.reducers)}"
            ),
            (
                f"images    {len(self.images):,} of {self.images.name}"
                f" ({self.images.content[:12]}), {len(sizes)} minibatches"
            ),
            (
                f"seen as   {transform.crop} of {transform.resize} px, {transform.interpolation};"
                f" {self.precision}"
            ),
            f"pass      {'to be made' if missing else 'in the store'}",
            f"file      {self.path}, about {max(0.01, size / 1e6):.2f} MB in {self.dtype}",
        ]
        if self.images.skipped:
            shown = "; ".join(f"{name} ({reason})" for name, reason in self.images.skipped[:20])
            lines.append(
                f"note      {len(self.images.skipped)} images could not be decoded and were left"
                f" out: {shown}"
            )
        return "\n".join(lines)

    def collect(self, store: "Store", device: str, *, quiet: bool) -> "list[Grams]":
        """The Grams, from the store or from one pass."""
        from sslens.capture import collect
        from sslens.progress import progress

        with progress(self.model.name, quiet=quiet) as report:
            return collect(
                self.model,
                self.images,
                self.reducers,
                plan=self.plan,
                taps=[tap.name for tap in self.taps],
                store=store,
                device=device,
                precision=self.precision,
                progress=report,
            )


def file_name(name: str) -> str:
    """The file's name unless given: the model's, without what paths and shells read otherwise.

    >>> file_name("random #0")
    'random-0.fingerprint.safetensors'
    """
    return f"{re.sub(r'[^A-Za-z0-9._]+', '-', name).strip('-.') or 'model'}.fingerprint.safetensors"
