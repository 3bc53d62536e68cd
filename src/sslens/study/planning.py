"""A study planned: images opened, models loaded, what is in the store and what is to be
computed."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sslens import fingerprint, zoo
from sslens.errors import Doubt, InputError
from sslens.find import names, plugin
from sslens.models.about import About
from sslens.progress import progress
from sslens.store import Store
from sslens.study.asked import Study

if TYPE_CHECKING:
    from sslens.capture import Reducer
    from sslens.data.images import ImageSet
    from sslens.fingerprint import Fingerprint
    from sslens.models.backbone import Backbone
    from sslens.plan import Plan
    from sslens.table import Table


@dataclass(frozen=True)
class Subject:
    """One model or control of a study: a network at hand, or the fingerprint of one that need not
    be."""

    name: str
    control: bool
    model: "Backbone | None" = None
    fingerprint: "Fingerprint | None" = None

    @property
    def known(self) -> "Backbone | Fingerprint":
        """Whichever of the two it is: both have source, digest and about."""
        found = self.model or self.fingerprint
        assert found is not None
        return found

    @property
    def about(self) -> About:
        """What is known of it, and the digest of its weights."""
        about = self.known.about
        return replace(about, more={**about.more, "digest": self.known.digest})

    @property
    def role(self) -> str:
        """As plans say it."""
        return "control" if self.control else "model"


@dataclass(frozen=True)
class Pass:
    """One model's pass over one set of images: what is wanted of it, and what of that is in the
    store."""

    subject: Subject
    images: "ImageSet"
    plan: "Plan"
    reducers: "tuple[Reducer, ...]"
    missing: int

    @property
    def model(self) -> "Backbone":
        """The network that passes."""
        assert self.subject.model is not None
        return self.subject.model

    def flops(self) -> float:
        """Floating-point operations of the forward passes still to be run, counted on shapes
        alone."""
        if not self.missing:
            return 0.0
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        network, side = self.model.network, self.model.transform.crop
        state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        shapes = {name: torch.empty_like(value, device="meta") for name, value in state.items()}
        image = torch.empty(1, 3, side, side, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            if shapes:  # raw pixels have none
                torch.func.functional_call(network, shapes, (image,))
        return float(counter.get_total_flops() * len(self.images))


@dataclass(frozen=True)
class Planned:
    """A study whose models are loaded and whose images are checked, before anything is computed.

    Attributes:
        images: None where all models are fingerprints, or paths alone are asked for, and no images
            were given.
        subjects: the models in the order given, then the controls.
        notes: what a reader of the report must know.
        left_out: analyses that have nothing to show for these models, with the reason.
    """

    study: Study
    analyses: tuple[str, ...]
    images: "ImageSet | None"
    bank: "ImageSet | None"
    subjects: tuple[Subject, ...]
    passes: tuple[Pass, ...]
    notes: tuple[str, ...]
    left_out: dict[str, str]
    device: str
    precision: str

    def describe(self) -> str:
        """The plan and its cost, for a person."""
        lines = []
        for role, each in (("images", self.images), ("bank", self.bank)):
            if each is not None:
                lines.append(f"{role:<9} {len(each):,} of {each.name} ({each.digest[:12]})")
        lines.append(f"analyses  {', '.join(self.analyses)}")
        lines += [f"left out  {name}: {reason}" for name, reason in self.left_out.items()]
        for subject in self.subjects:
            if subject.fingerprint is not None:
                count = len(subject.fingerprint.ids)
                lines.append(
                    f"{subject.role:<9} {subject.name}: its fingerprint over {count:,} images"
                )
            elif not any(p.subject is subject for p in self.passes):
                lines.append(f"{subject.role:<9} {subject.name}: no pass over images")
        for p in self.passes:
            state = f"{p.flops() / 1e9:,.0f} GFLOP" if p.missing else "in the store"
            lines.append(
                f"{p.subject.role:<9} {p.subject.name} over {len(p.images):,} images of"
                f" {p.images.name}: {state}"
            )
        lines.append(f"device    {self.device}, {self.precision}")
        lines += [f"note      {note}" for note in self.notes]
        return "\n".join(lines)


def prepare(study: Study, store: Store, *, quiet: bool = False) -> Planned:
    """Open the images, load the models and their controls, and see what is to be done.

    Raises:
        InputError: whatever of it cannot be used.
    """
    from sslens.plan import Plan
    from sslens.processes import best_device, best_precision

    device = best_device(study.device)
    precision = best_precision(study.precision, device)
    images, bank, notes = _opened(study, quiet)
    with warnings.catch_warnings(
        record=True
    ) as doubts:  # such as a number of heads that no file tells
        warnings.simplefilter("always", Doubt)
        subjects = _subjects(study)
    notes += dict.fromkeys(str(doubt.message) for doubt in doubts)
    unmet = _unmet(subjects, images, bank)
    chosen, left_out = _chosen(study, subjects, unmet)
    if images is not None:
        notes += _without_classes(left_out, unmet)
    needs = {need for name in chosen for need in plugin("analyses", name).NEEDS}
    passes = []
    for model in (subject for subject in subjects if subject.model is not None):
        for each in (images, bank):
            if each is None or (each is bank and "features" not in needs):
                continue
            plan = Plan.draw(each.ids, study.batch, study.seed)
            wanted = needs if each is images else needs & {"features"}
            passes.append(_pass(model, each, plan, wanted, study, store, precision))
    passes = [
        each for each in passes if each.reducers
    ]  # none of paths, nor of a model without such tokens
    notes += _remarks(study, subjects, passes, precision)
    return Planned(
        study,
        chosen,
        images,
        bank,
        subjects,
        tuple(passes),
        tuple(notes),
        left_out,
        device,
        precision,
    )


def _opened(study: Study, quiet: bool) -> "tuple[ImageSet | None, ImageSet | None, list[str]]":
    """The images, the bank, and what a reader must know of them."""
    from sslens.data import open_images

    if study.images is None:
        return None, None, []
    with progress("checking images", quiet=quiet) as report:
        images = open_images(
            study.images,
            limit=study.limit,
            seed=study.seed,
            on_bad=study.on_bad,  # type: ignore[arg-type]
            progress=report,
        )
        bank = None
        if study.bank is not None:
            bank = open_images(
                study.bank,
                limit=None,
                seed=study.seed,
                on_bad=study.on_bad,  # type: ignore[arg-type]
                progress=report,
            )
    notes = []
    for each in (images, bank):
        if each is not None and each.skipped:
            shown = "; ".join(f"{name} ({reason})" for name, reason in each.skipped[:20])
            more = f"; and {len(each.skipped) - 20} more" if len(each.skipped) > 20 else ""
            notes.append(
                f"{len(each.skipped)} images of {each.name} could not be decoded and were left out:"
                f" {shown}{more}."
            )
    if bank is not None and images.labels is not None:
        if bank.classes != images.classes:
            raise InputError(
                f"{study.bank} and {study.images} have different classes ({len(bank.classes)} and"
                f" {len(images.classes)}): k-NN needs the same folders in both."
            )
        both = len(images.contents & bank.contents)
        if both:
            shared = f"{both} of the {len(images)} images are in the bank too"
            notes.append(
                f"{shared}, where k-NN finds them themselves and probes are trained on them."
            )
    return images, bank, notes


def _subjects(study: Study) -> tuple[Subject, ...]:
    """The models and their controls, each with a name of its own."""
    found: list[Subject] = []
    for source in study.models:
        if fingerprint.is_fingerprint(Path(source)):
            kept = fingerprint.read(Path(source))
            # a random initialisation that was fine-tuned is studied: it is no stand-in for one that
            # was not
            control = kept.about.family == "control" and kept.about.tuned != "fine-tuned"
            found.append(Subject(kept.name, control, fingerprint=kept))
        else:
            model = zoo.load(source)
            found.append(Subject(model.name, False, model=model))
    if study.controls and study.images is not None:
        twins = dict.fromkeys(
            twin for subject in found for twin in zoo.random_twins(subject.known.about)
        )
        given = {subject.known.source for subject in found}
        for source in [*twins, "pixels"]:
            if source not in given:
                model = zoo.load(source)
                found.append(Subject(model.name, True, model=model))
    if all(
        subject.control for subject in found
    ):  # nothing else was asked for: they are what is studied
        found = [replace(subject, control=False) for subject in found]
    count = Counter(subject.name for subject in found)
    found = [
        (
            replace(subject, name=f"{subject.name} ({_distinction(subject)})")
            if count[subject.name] > 1
            else subject
        )
        for subject in found
    ]
    if len({subject.name for subject in found}) < len(found):
        found = [
            replace(subject, name=f"{subject.name} [{number}]")
            for number, subject in enumerate(found, 1)
        ]
    return tuple(sorted(found, key=lambda subject: subject.control))


def _distinction(subject: Subject) -> str:
    """What sets a model apart from another of its name."""
    source = subject.known.source
    if source.startswith(("random:", "timm:")):
        return str(subject.known.about.arch)
    path = Path(source)
    return path.parent.name if path.name == zoo.ENCODER else path.name


def _remarks(
    study: Study, subjects: tuple[Subject, ...], passes: Sequence[Pass], precision: str
) -> list[str]:
    """What a reader must know of how the models were shown the images, each held against the first.

    Raises:
        InputError: a fingerprint was made under conditions that make it incomparable.
    """
    shown = []
    for subject in subjects:
        if subject.fingerprint is not None:
            shown.append((subject, replace(subject.fingerprint.conditions, name=subject.name)))
            continue
        p = next((p for p in passes if p.subject is subject), None)
        if p is None:
            continue
        tokens = [
            str(reducer.settings()["tokens"]) for reducer in p.reducers if reducer.kind == "grams"
        ]
        found = fingerprint.Conditions.of(
            p.model, p.images, p.plan, tokens=tokens, precision=precision, seed=study.seed
        )
        if tokens:
            shown.append((subject, replace(found, name=subject.name)))
    said: list[str] = []
    for subject, conditions in shown[1:]:
        first, reference = shown[0]
        control = (
            subject.control or first.control
        )  # which see the images as they must: raw pixels at 32 px
        if first.fingerprint is not None or subject.fingerprint is not None:
            allowed = study.any_transform or control
            fingerprint.require_comparable(reference, conditions, any_transform=allowed)
        if not control:
            said += fingerprint.remarks(reference, conditions)
    return said


def _unmet(
    subjects: tuple[Subject, ...], images: "ImageSet | None", bank: "ImageSet | None"
) -> dict[str, str]:
    """What analyses may need and these images and models do not give, with the reason."""
    from sslens.comparisons.probing import unfit
    from sslens.data.scene_images import SceneSource

    unmet: dict[str, str] = {}
    if images is None or images.labels is None:
        unmet |= dict.fromkeys(
            ("labels", "probes"), "the images have no classes (no folders of that name)"
        )
    else:
        reason = unfit(images.labels, None if bank is None else bank.labels, images.classes)
        unmet |= {"probes": reason} if reason else {}
    if not all(isinstance(each.source, SceneSource) for each in (images, bank) if each is not None):
        unmet["factors"] = (
            "the images are not generated scenes, and of no others are the factors known"
        )
    if not paths(subjects):
        unmet["paths"] = (
            "of no fine-tuned model the path is known (fine-tune with --path, or write path.csv"
            " beside the checkpoints with sslens path)"
        )
    if all(subject.fingerprint for subject in subjects if not subject.control):
        unmet |= dict.fromkeys(
            ("features", "wide"), "fingerprints hold the Grams of minibatches only"
        )
    return unmet


def paths(subjects: Sequence[Subject]) -> "dict[str, Table]":
    """How the weights of the fine-tuned models went, of those of which it is known."""
    from sslens.comparisons.paths import path_of

    found = {
        each.name: path_of(each.known.source, each.known.about)
        for each in subjects
        if each.model is not None
    }
    return {name: table for name, table in found.items() if table is not None}


def _without_classes(left_out: Mapping[str, str], unmet: Mapping[str, str]) -> list[str]:
    """A note of the analyses that were left out for want of classes, or of images of each."""
    notes = []
    for reason in dict.fromkeys(unmet[need] for need in ("labels", "probes") if need in unmet):
        names = [name for name, other in left_out.items() if other == reason]
        if names:
            listed = (
                f"{', '.join(names[:-1])} and {names[-1]} were" if names[1:] else f"{names[0]} was"
            )
            notes.append(f"{listed} left out: {reason}.")
    return notes


def _chosen(
    study: Study, subjects: tuple[Subject, ...], unmet: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The analyses to carry out, and why others are not.

    Raises:
        InputError: one that was asked for by name, or all of them, cannot be.
    """
    about = {subject.name: subject.about for subject in subjects}
    controls = [subject.name for subject in subjects if subject.control]
    chosen: list[str] = []
    left_out: dict[str, str] = {}
    for name in study.analyses or names("analyses"):
        module = plugin("analyses", name)
        on_request = getattr(module, "on_request", None)
        if not study.analyses and (
            on_request(about, controls) if on_request else getattr(module, "ON_REQUEST", False)
        ):
            continue
        without = getattr(module, "without", None)
        reasons = [unmet[need] for need in module.NEEDS if need in unmet]
        reason = reasons[0] if reasons else without(about, controls) if without else None
        if reason is None:
            chosen.append(name)
        elif study.analyses:
            raise InputError(f"{name} was asked for, but {reason}.")
        else:
            left_out[name] = reason
    if not chosen:
        said = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InputError(f"There is nothing to compute ({said}).")
    return tuple(chosen), left_out


def _pass(
    subject: Subject,
    images: "ImageSet",
    plan: "Plan",
    needs: set[str],
    study: Study,
    store: Store,
    precision: str,
) -> Pass:
    from sslens.capture import FeatureReducer, GramReducer, WideGramReducer, key_of

    assert subject.model is not None
    reducers: list[Reducer] = []
    if "grams" in needs:
        reducers += [GramReducer(tokens) for tokens in study.tokens]
    if "wide" in needs:
        reducers.append(WideGramReducer(seed=study.seed))
    if "features" in needs:
        reducers.append(FeatureReducer())
    taps = subject.model.pick(None)
    useful = [reducer for reducer in reducers if reducer.taps(subject.model, taps)]
    missing = 0
    for reducer in useful:
        key = key_of(
            subject.model, images, plan, reducer, reducer.taps(subject.model, taps), precision
        )
        missing += not store.has(reducer.kind, key)
    return Pass(subject, images, plan, tuple(useful), missing)
