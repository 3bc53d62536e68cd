"""The fingerprint of a model: its Grams over images, as one small file."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from sslens import zoo
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.fingerprint import is_fingerprint
from sslens.plan import require_size
from sslens.store import Store
from sslens.study.given import keep_devices
from sslens.study.image_sets import describe_skipped
from sslens.study.members import Member, load_members
from sslens.study.passes import ActivationPass, PassRunner
from sslens.study.single import enter, open_request_images

if TYPE_CHECKING:
    from sslens.fingerprint import Conditions, Fingerprint


@final
@dataclass(frozen=True)
class FingerprintRequest:
    """The request to make a fingerprint.

    Attributes:
        model: a source as `sslens.load` reads it.
        images: a source as `sslens.open_images` reads it.
        out: the file; NAME.fingerprint.safetensors unless given.
        tokens: which tokens' Grams are written, some of "all", "cls" and "patch".
        half: whether Grams are written in float16.
        taps: the names of the taps; all unless given.
        interpolation: "own", as in the model's own transform, or "bicubic" or "bilinear".
        batch: the number of images in a minibatch of CKA.
        seed: decides which images are drawn, and the minibatches.
        limit: the largest number of images taken.
        given: the model and images in memory, by the texts that stand for them.

    Raises:
        InputError: a mistake that can be recognised before anything is opened.
    """

    model: str
    images: str
    out: Path | None = None
    tokens: tuple[str, ...] = ("all",)
    half: bool = False
    taps: tuple[str, ...] = ()
    interpolation: str = "own"
    batch: int = 32
    seed: int = 0
    limit: int | None = 1024
    device: str = "auto"
    precision: str = "float32"
    on_bad: str = "stop"
    given: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if is_fingerprint(Path(self.model)):
            raise InputError(
                f"{self.model} is a fingerprint already: sslens doctor {self.model} says what it"
                " holds, and sslens compare takes it as a model."
            )
        if not self.tokens:
            raise InputError(
                "No tokens are named", mend="give one or more of all, cls and patch to {tokens}"
            )
        require_size(self.batch)
        if self.model not in self.given:
            zoo.check(self.model)
        out = self.out
        if out is not None and out.is_dir():
            raise InputError(
                f"{out} is a folder: give the file to write, such as"
                f" {out / 'model.fingerprint.safetensors'}."
            )
        if out is not None and out.exists() and not is_fingerprint(out):
            raise InputError(
                f"{out} is there and is no fingerprint: it would be lost.",
                mend="choose another name with {out}",
            )

    @property
    def dtype(self) -> Literal["float32", "float16"]:
        """The number type of the file."""
        return "float16" if self.half else "float32"


def run(
    request: FingerprintRequest,
    *,
    store: Store | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Write the fingerprint; returns its path, or None for a dry run and for processes that are not
    the first.

    Raises:
        InputError: something given cannot be used.
    """
    with enter(request, store) as here:
        runner = PassRunner(here.store, here.device, here.precision, not here.first)
        one = _plan(request, runner)
        path = request.out or Path(file_name(one.model.name))
        if not overwrite or not is_fingerprint(path):
            _require_own(path, one)
        if here.first:
            say(_describe(request, one, path, runner.precision))
        if dry_run:
            return None
        ((_, grams),) = runner.run([one])
    if not here.first:
        return None
    from sslens.fingerprint import write

    conditions = _name_conditions(request, one, runner)
    write(path, grams, conditions, model=one.model, dtype=request.dtype)
    say(f"written   {path.stat().st_size / 1e6:.2f} MB")
    return path


def make(
    request: FingerprintRequest, *, store: Store | None = None, quiet: bool = False
) -> "Fingerprint":
    """Make the fingerprint in memory, in float32; no file is written.

    Raises:
        InputError: something given cannot be used.
    """
    from sslens.fingerprint import Fingerprint
    from sslens.fingerprint.file import NOTES

    with keep_devices(request.given), enter(request, store) as here:
        runner = PassRunner(here.store, here.device, here.precision, quiet or not here.first)
        one = _plan(request, runner)
        ((_, grams),) = runner.run([one])
    return Fingerprint(
        name=one.model.name,
        source=one.model.source,
        about=one.model.about,
        digest=one.model.digest,
        conditions=_name_conditions(request, one, runner),
        dtype="float32",
        note=NOTES["float32"],
        grams={part.key["settings"]["tokens"]: part for part in grams},
    )


def _name_conditions(
    request: FingerprintRequest, one: ActivationPass, runner: PassRunner
) -> "Conditions":
    from sslens.fingerprint import Conditions

    return Conditions.of(
        one.model,
        one.images,
        one.plan,
        tokens=list(dict.fromkeys(request.tokens)),
        precision=runner.precision,
        seed=request.seed,
    )


def _plan(request: FingerprintRequest, runner: PassRunner) -> ActivationPass:
    """The model loaded, the images checked, the minibatches drawn."""
    from sslens.capture import GramReducer
    from sslens.plan import Plan

    member = _load(request)
    taps = tuple(tap.name for tap in member.network.pick(request.taps or None))
    images = open_request_images(request, quiet=runner.quiet)
    reducers = [GramReducer(tokens) for tokens in dict.fromkeys(request.tokens)]
    plan = Plan.draw(images.ids, request.batch, request.seed)
    return runner.plan(member, images, plan, reducers, taps=taps)


def _load(request: FingerprintRequest) -> Member:
    from sslens.capture.keys import require_tokens

    (member,) = load_members((request.model,), controls=False, given=request.given)
    model = member.network
    if request.interpolation != "own":
        resampled = replace(model.transform, interpolation=request.interpolation)
        member = replace(member, model=model.copy_with(transform=resampled))
    require_tokens(model, request.tokens)
    return member


def _require_own(path: Path, one: ActivationPass) -> None:
    """Refuse a file that is no fingerprint, or one of another model or of other images."""
    from sslens.fingerprint.header import read_header

    if not path.exists():
        return
    what = "no fingerprint"
    if is_fingerprint(path):
        there = read_header(path)
        own = one.model.digest, one.images.content
        if (there["model"]["digest"], there["images"]["content"]) == own:
            return
        what = (
            f"of {there['model']['source']} over {there['images']['count']:,} images of"
            f" {there['images']['name']}"
        )
    raise InputError(
        f"{path} is there and is {what}: it would be lost.",
        mend="give another name with {out}",
    )


def _describe(request: FingerprintRequest, one: ActivationPass, path: Path, precision: str) -> str:
    """The plan and its cost, for a person."""
    from sslens.fingerprint.triangles import values

    sizes, transform, taps = one.plan.sizes, one.model.transform, one.taps or ()
    tokens = list(dict.fromkeys(request.tokens))
    size = len(tokens) * len(taps) * values(sizes) * (2 if request.half else 4)
    lines = [
        f"model     {one.model.name}, {spell_count(len(taps), 'tap')}, tokens {', '.join(tokens)}",
        f"images    {len(one.images):,} of {one.images.name} ({one.images.content[:12]}),"
        f" {spell_count(len(sizes), 'minibatch')}",
        f"seen as   {transform.crop} of {transform.resize} px, {transform.interpolation};"
        f" {precision}",
        f"pass      {'to be made' if one.missing else 'in the store'}",
        f"file      {path}, about {max(0.01, size / 1e6):.2f} MB in {request.dtype}",
    ]
    lines += [f"note      {note}" for note in describe_skipped(one.images)]
    return "\n".join(lines)


def file_name(name: str) -> str:
    """Return the default name of a model's fingerprint file: the model's name, without characters
    that paths and shells treat specially.

    >>> file_name("random #0")
    'random-0.fingerprint.safetensors'
    """
    return f"{re.sub(r'[^A-Za-z0-9._]+', '-', name).strip('-.') or 'model'}.fingerprint.safetensors"
