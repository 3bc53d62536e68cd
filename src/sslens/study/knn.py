"""k-NN of a model and of its controls, by tap, pooling, scale of the features, number of neighbours
and temperature."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens import zoo
from sslens.counts import spell_count
from sslens.data.sources import call_source
from sslens.errors import Caution, InputError
from sslens.own_files import OwnFiles
from sslens.store import Store, home
from sslens.study.copies import (
    OTHERS,
    describe_equal_rows,
    describe_near_copies,
    match_bank,
)
from sslens.study.given import keep_devices
from sslens.study.image_sets import (
    choose_sample,
    describe_skipped,
    explain_no_votes,
    open_sets,
    require_classes,
    require_sources,
)
from sslens.study.members import Member, load_members
from sslens.study.out_folders import claim_knn
from sslens.study.passes import ActivationPass, PassRunner
from sslens.study.stored import is_stored, open_stored

if TYPE_CHECKING:
    from sslens.capture import Features
    from sslens.comparisons.knn_sweep import Sweep
    from sslens.data.images import ImageSet
    from sslens.study.costing import Cost
    from sslens.study.result import Result
    from sslens.table import Table

KS = (1, 5, 10, 20, 50, 100, 200)
TEMPERATURES = (0.04, 0.07, 0.1, 0.2)


@final
@dataclass(frozen=True)
class KnnRequest:
    """The request to classify images by k-NN.

    Attributes:
        model: a source as `sslens.load` reads it, or a folder of stored features.
        images: labelled images to classify; None with stored features.
        bank: labelled images (or stored features) that vote; unless given, each image is classified
            by all others.
        k: the numbers of neighbours.
        temperature: the temperatures. A neighbour with cosine s has exp(s / temperature) votes;
            plain majority is always computed too.
        taps: the names of the taps; the outputs of all blocks and the final norm unless given.
        controls: whether two random initialisations and raw pixels are classified too.
        limit: the largest number of images taken, drawn by their ids and the seed; the bank is
            taken whole.
        sample: how these are drawn, "stratified" or "plain" (`Study.sample`).
        given: models, features and images in memory, by the texts that stand for them.

    Raises:
        InputError: a mistake that can be recognised before anything is opened.
    """

    model: str
    images: str | None = None
    bank: str | None = None
    k: tuple[int, ...] = KS
    temperature: tuple[float, ...] = TEMPERATURES
    taps: tuple[str, ...] = ()
    controls: bool = True
    limit: int | None = None
    sample: str = "stratified"
    seed: int = 0
    on_bad: str = "stop"
    device: str = "auto"
    precision: str = "float32"
    given: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_stored(self) -> bool:
        """Whether features are given, and no model."""
        return is_stored(self.model, self.given)

    def __post_init__(self) -> None:
        choose_sample((), self.sample)
        for name, values in (("k", self.k), ("temperature", self.temperature)):
            if not values or min(values) <= 0:
                given = " ".join(map(str, values)) or "empty"
                raise InputError(f"{name} is {given}", mend=f"give numbers above 0 to {{{name}}}")
        if self.is_stored:
            if self.images is not None or self.taps:
                raise InputError(
                    f"{self.model} holds features of its own images and taps",
                    mend="leave {images} and {taps} out",
                )
            if self.bank is not None and not is_stored(self.bank, self.given):
                raise InputError(
                    f"{self.model} holds features",
                    mend="give {bank} a folder of features of the same model, too",
                )
            return
        if self.model not in self.given:
            zoo.check(self.model)
        if self.images is None:
            raise InputError(f"{self.model} is a model, so images are needed", mend="give {images}")
        if self.bank is not None and is_stored(self.bank, self.given):
            raise InputError(
                f"{self.bank} holds features, and {self.model} is a model",
                mend="give {bank} the images",
            )


def run(
    request: KnnRequest,
    out: Path,
    *,
    store: Store | None = None,
    quiet: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path | None:
    """Classify the images, and write `knn.csv`; returns its path, or None for a dry run, which only
    says the plan.

    Raises:
        InputError: something given cannot be used.
    """
    claim_knn(request).require(out, overwrite=overwrite)
    result = classify(request, store=store, quiet=quiet, dry_run=dry_run, say=say)
    return None if result is None else result.save(out, overwrite=overwrite)


def classify(
    request: KnnRequest,
    *,
    store: Store | None = None,
    quiet: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> "Result | None":
    """Classify the images at every tap, pooling, k and temperature, on raw and on standardised
    features.

    Returns:
        The result, or None for a dry run, which only says the plan.

    Raises:
        InputError: something given cannot be used.
    """
    if not request.is_stored:
        require_sources(request.images, request.bank, given=request.given)
    from sslens.processes import best_device, best_precision
    from sslens.report.answer import answer_sweeps
    from sslens.report.writing.knn_sweep import (
        list_choices,
        list_layers,
        sentences,
        write_over_pixels,
    )
    from sslens.report.writing.numbers import set_minus

    device = best_device(request.device)
    if request.is_stored:
        jobs = [_open(request)]
        say(f"features  {jobs[0].queries}; no controls: they would need the images")
        if dry_run:
            return None
    else:
        precision = best_precision(request.precision, device)
        runner = PassRunner(store or Store(home() / "store"), device, precision, quiet)
        with keep_devices(request.given):
            passes = _plan(request, runner, say)
            if dry_run:
                say(f"cost      {_estimate(request, passes, runner).describe()}")
                return None
            jobs = _pair(passes, runner)
    notes = _describe_copies(request, jobs)
    for note in notes:
        say(f"note      {note}")
    sweeps = _sweep(request, jobs, device, say)
    answer = answer_sweeps(sweeps)
    findings = [*sentences(sweeps), *write_over_pixels(answer.frame.to_dict("records"))]
    for text in (list_choices(sweeps), list_layers(sweeps[0]), *findings):
        say(set_minus(text))
    return _conclude(request, sweeps, answer, findings, notes)


def _describe_copies(request: KnnRequest, jobs: "Sequence[KnnJob]") -> "list[Caution]":
    """Say which images that vote or are classified are copies of others, as notes for a reader."""
    banks = [job.bank for job in jobs if job.bank is not None]
    equal = describe_equal_rows([jobs[0].queries, *banks[:1]]) if request.is_stored else []
    return equal or describe_near_copies([job.queries for job in jobs], banks)


def _conclude(
    request: KnnRequest,
    sweeps: "Sequence[Sweep]",
    answer: "Table",
    findings: Sequence[str],
    notes: Sequence[str],
) -> "Result":
    """The result of sweeps."""
    from sslens.comparisons.knn_sweep import make_table
    from sslens.study.result import Result, Tables

    table, first = make_table(sweeps), sweeps[0]

    def write_files(folder: Path, **_: bool) -> Path:
        path = OwnFiles(folder).before(folder / "knn.csv")
        table.save(path)
        return path

    return Result(
        f"k-NN of {first.model} on {spell_count(len(first.features), 'image')}",
        answer,
        Tables({"knn": table}),
        write_files,
        claim_knn(request),
        findings={"knn": tuple(findings)},
        notes=tuple(notes),
    )


@final
@dataclass(frozen=True)
class KnnJob:
    """The features of one model to classify.

    Attributes:
        queries: features of the images to classify.
        bank: features of the images that vote; None where the images vote on each other.
        control: whether the model is a control.
        classes_drawn_from: the number of classes of which those of the images were drawn; None
            where all are taken.
    """

    queries: "Features"
    bank: "Features | None"
    control: bool
    classes_drawn_from: int | None = None


def _estimate(
    request: KnnRequest, passes: "Sequence[ActivationPass]", runner: PassRunner
) -> "Cost":
    """The cost of the passes and of k-NN; numbers of neighbours that are too large are refused as
    they will be."""
    from sslens.comparisons.knn_sweep import choose_ks
    from sslens.study.knn_cost import estimate_knn

    sizes = [len(one.images) for one in passes if one.bank] or [len(passes[0].images) - 1]
    choose_ks(request.k, sizes[0])

    def sweep(queries: "Features", bank: "Features | None") -> object:
        return _sweep(request, [KnnJob(queries, bank, False)], runner.device, lambda _: None)

    return estimate_knn(passes, runner, sweep)


def _open(request: KnnRequest) -> KnnJob:
    images = open_stored(request.model, request.given)
    bank = None if request.bank is None else open_stored(request.bank, request.given)
    known = images.key.get("images")  # of arrays nothing is known
    if bank is not None and known is not None and known == bank.key.get("images"):
        raise InputError(f"{request.bank} holds the images that are classified", mend=OTHERS)
    return KnnJob(images, bank, False)


def _plan(
    request: KnnRequest, runner: PassRunner, say: Callable[[str], None]
) -> list[ActivationPass]:
    """The passes over images and bank of the model and its controls, one after the other."""
    images, bank = _open_images(request, runner.quiet)
    for note in (*describe_skipped(images), *describe_skipped(bank)):
        say(f"note      {note}")
    members = load_members((request.model,), controls=request.controls, given=request.given)
    passes = []
    for member in members:
        taps = request.taps or None if member is members[0] else None
        for one in (images, bank):
            if one is not None:
                passes.append(_plan_pass(member, one, taps, runner, bank=one is bank))
                say(_describe(passes[-1], taps))
    return passes


def _open_images(request: KnnRequest, quiet: bool) -> "tuple[ImageSet, ImageSet | None]":
    sources = {"images": (request.images, request.limit), "bank": (request.bank, None)}
    sets = open_sets(
        sources,
        seed=request.seed,
        on_bad=request.on_bad,
        sample=request.sample,
        quiet=quiet,
        given=request.given,
    )
    images, bank = sets["images"], sets["bank"]
    assert images is not None
    why = "k-NN needs two or more"
    if bank is not None:
        require_classes(bank, call_source(request.bank), why)
    if bank is None or images.labels is None:
        require_classes(images, call_source(request.images), why)
    if lack := explain_no_votes(images, bank):
        mend = "give a {bank} with other images of these classes"
        raise InputError(f"The images of {call_source(request.images)} {lack}", mend=mend)
    return match_bank(images, bank, call_source(request.bank))


def _plan_pass(
    member: Member,
    images: "ImageSet",
    taps: tuple[str, ...] | None,
    runner: PassRunner,
    *,
    bank: bool,
) -> ActivationPass:
    from sslens.capture import FeatureReducer
    from sslens.plan import Plan

    return runner.plan(member, images, Plan.in_order(images.ids), [FeatureReducer(taps)], bank=bank)


def _describe(one: ActivationPass, taps: tuple[str, ...] | None) -> str:
    """A line that says whose features over which images are needed, and whether they are stored."""
    from sslens.capture.shards import describe
    from sslens.study.costing import spell_size

    wanted = describe(one.model, one.images, taps=taps, dtype="float32")
    size = spell_size(float(len(one.images) * wanted.row_bytes))
    state = "features to be made" if one.missing else "features are stored"
    return (
        f"features  {one.member.name} over {spell_count(len(one.images), 'image')} of"
        f" {one.images.name}: {size}, {state}"
    )


def _pair(passes: list[ActivationPass], runner: PassRunner) -> list[KnnJob]:
    """The features of each member's images with those of the bank."""
    features = {(one.member.name, one.bank): made for one, (made,) in runner.run(passes)}
    return [
        KnnJob(
            features[one.member.name, False],
            features.get((one.member.name, True)),
            one.member.control,
            one.images.classes_drawn_from,
        )
        for one in passes
        if not one.bank
    ]


def _sweep(
    request: KnnRequest, jobs: list[KnnJob], device: str, say: Callable[[str], None]
) -> "list[Sweep]":
    from sslens.comparisons.knn_sweep import Sweep, choose_ks

    first = jobs[0]
    smallest = len(first.bank) if first.bank is not None else len(first.queries) - 1
    ks = choose_ks(request.k, smallest)
    if len(ks) < len(set(request.k)):
        say(f"note      {smallest:,} images can vote: k over that was left out")
    temperatures = (*dict.fromkeys(request.temperature), None)
    return [
        Sweep.of(
            job.queries,
            job.bank,
            control=job.control,
            classes_drawn_from=job.classes_drawn_from,
            ks=ks,
            temperatures=temperatures,
            device=device,
        )
        for job in jobs
    ]
