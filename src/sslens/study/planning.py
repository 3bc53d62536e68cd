"""The plan of a study: images are opened and models loaded, and it is known what is in the store
and what must be computed."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

from sslens.comparisons.roles import list_names
from sslens.counts import spell_count
from sslens.data.sources import call_source
from sslens.errors import Caution, Doubt, as_argument, spell_parameters
from sslens.fingerprint import Conditions, remarks, require_comparable
from sslens.store import Store
from sslens.study.asked import Study
from sslens.study.capturing import describe_needs, list_involved, plan_passes
from sslens.study.choosing import (
    choose_analyses,
    describe_lacks,
    require_claims,
    summarise_lacks,
)
from sslens.study.contract import reads_bank, trains_probes, wants_classes, wants_networks
from sslens.study.copies import describe_copies, match_bank
from sslens.study.image_sets import (
    describe_alone,
    describe_blurred,
    describe_skipped,
    describe_small_classes,
    has_fingerprint,
    open_sets,
)
from sslens.study.members import (
    Member,
    describe_resized,
    describe_same,
    describe_sizes,
    load_members,
    require_recognised,
)
from sslens.study.needs.grams import PIXELS
from sslens.study.passes import ActivationPass, PassRunner, describe_passes
from sslens.study.places import require_places
from sslens.study.related import (
    describe_assumed,
    describe_read_apart,
    describe_related,
    describe_unprepared,
)
from sslens.study.situation import Lack, Situation
from sslens.study.untrained import describe_uncontrolled, find_untrained
from sslens.zoo import split_options

if TYPE_CHECKING:
    from sslens.data.images import ImageSet


@final
@dataclass(frozen=True, repr=False)
class StudyPlan:
    """The plan of a study: the models are loaded and the images checked, but nothing is computed
    yet.

    Attributes:
        situation: the models and images.
        analyses: the names of the analyses that are carried out.
        passes: the passes of the models over the images and the bank.
        notes: sentences for a reader of the report.
        left_out: analyses that have nothing to show for these models, with the reason.
        runner: how the passes are run.
    """

    situation: Situation
    analyses: tuple[str, ...]
    passes: tuple[ActivationPass, ...]
    notes: tuple[str, ...]
    left_out: Mapping[str, Lack]
    runner: PassRunner

    def __repr__(self) -> str:
        missing = sum(bool(one.missing) for one in self.passes)
        return (
            f"<StudyPlan of {spell_count(len(self.members), 'model')} and controls:"
            f" {spell_count(len(self.analyses), 'analysis')},"
            f" {spell_count(len(self.passes), 'pass')}, {missing} to be made>"
        )

    @property
    def study(self) -> Study:
        """The declaration of the study."""
        return self.situation.study

    @property
    def images(self) -> "ImageSet | None":
        """The images under study."""
        return self.situation.images

    @property
    def bank(self) -> "ImageSet | None":
        """The images that vote in k-NN and train probes."""
        return self.situation.bank

    @property
    def members(self) -> tuple[Member, ...]:
        """The models in the order given, then the controls."""
        return self.situation.members

    def describe(
        self, spell: Callable[[str, str | None], str] = as_argument, *, whole: bool = True
    ) -> str:
        """The plan and its cost, for a person. Controls that have no part in the analyses are left
        out.

        Args:
            spell: formats parameters.
            whole: whether each analysis that is left out has a line with the reason, and each note
                one; else one line counts the analyses, and says how to have those that a user most
                likely wants, and of notes only the cautions are there, before passes that take a
                while: the answer has all of them.
        """
        lines = []
        for role, images in (("images", self.images), ("bank", self.bank)):
            if images is not None:
                lines.append(f"{role:<9} {len(images):,} of {images.name} ({images.digest[:12]})")
        lines.append(f"analyses  {', '.join(self.analyses)}")
        left = describe_lacks(self.left_out) if whole else summarise_lacks(self.left_out)
        lines += [f"left out  {spell_parameters(one, spell)}" for one in left]
        passing = {one.member.name for one in self.passes}
        involved = list_involved(self.situation, self.analyses)
        involved |= {one.name for one in self.members if one.given or not one.control}
        for member in self.members:
            begin = f"{member.role:<9} {member.name}"
            if member.fingerprint is not None:
                count = len(member.fingerprint.ids)
                lines.append(f"{begin}: its fingerprint over {spell_count(count, 'image')}")
            elif member.name not in passing and member.name in involved:
                lines.append(f"{begin}: no pass over images")
        lines += describe_passes(self.passes)
        lines += describe_needs(self.situation, self.analyses, self.runner.store)
        lines.append(f"device    {self.runner.device}, {self.runner.precision}")
        early = [] if not any(one.missing for one in self.passes) else self.notes
        cautions = [note for note in early if isinstance(note, Caution)]
        lines += [f"note      {note}" for note in (self.notes if whole else cautions)]
        return "\n".join(lines)


def prepare(study: Study, store: Store, *, quiet: bool = False) -> StudyPlan:
    """Plan a study: open the images, load the models and their controls, and find out what must be
    computed.

    Raises:
        InputError: the images, a model or an analysis cannot be used.
    """
    from sslens.processes import best_device, best_precision

    device = best_device(study.device)
    precision = best_precision(study.precision, device)
    networks = not study.analyses or any(wants_networks(name) for name in study.analyses)
    if networks and study.images is not None:
        require_recognised(study.models, study.given)
    images, bank, notes = open_study_images(study, quiet=quiet)
    with warnings.catch_warnings(record=True) as doubts:  # as of heads that no file tells
        warnings.simplefilter("always", Doubt)
        members = load_members(
            study.models,
            controls=study.controls and study.images is not None,
            networks=networks,
            given=study.given,
        )
    said = [str(doubt.message) for doubt in doubts]
    said += describe_unprepared(members, said)
    cautions = _join_doubts(said, study.models)
    situation = Situation(study, members, images, bank, device, quiet)
    choice = choose_analyses(situation)
    require_claims(study.claims, choice)
    require_places(study, study.check, members)
    runner = PassRunner(store, device, precision, quiet)
    passes = plan_passes(situation, choice.analyses, runner)
    untrained = find_untrained(members)
    told = [f"{', '.join(names)}: {said}" for said, names in untrained.items()]
    cautions = [*told, *describe_same(members), *describe_read_apart(members), *cautions]
    notes += [*map(Caution, [*cautions, *describe_resized(members)]), *choice.notes]
    notes += describe_related(members, diff="weights-changed" in choice.analyses)
    notes += describe_uncontrolled(members, untrained)
    if bank is not None and not any(map(reads_bank, choice.analyses)):
        notes.append(f"The bank, {bank.name}, is used for nothing: no analysis that runs reads it.")
    notes += describe_assumed(members)
    if "layers-changed" in choice.analyses:
        notes += describe_sizes(members)
    notes += _compare_views(situation, passes, precision)
    notes.sort(key=lambda note: not isinstance(note, Caution))
    return StudyPlan(situation, choice.analyses, passes, tuple(notes), choice.left_out, runner)


def _join_doubts(doubts: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Write doubts that say the same of several models, as of the checkpoints of one run, once."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for doubt in dict.fromkeys(doubts):
        about = [path for path in map(_cut_options, sources) if doubt.startswith(f"{path} ")]
        path = about[0] if about else ""
        alike.setdefault(doubt.replace(path, "*") if path else doubt, []).append((path, doubt))
    written = []
    for found in alike.values():
        others = [path for path, _ in found[1:]]
        more = f" The same holds of {list_names(others)}." if others else ""
        written.append(found[0][1] + more)
    return written


def _cut_options(source: str) -> str:
    return split_options(source)[0]


def open_study_images(
    study: Study, *, quiet: bool
) -> "tuple[ImageSet | None, ImageSet | None, list[str]]":
    """Open the images and the bank of a study; returns both, and notes for a reader.

    Raises:
        InputError: images are not there or cannot be read, or the bank has other classes; or faces
            must be blurred and it is not known that they are.
    """
    if study.images is None:
        return None, None, []
    sources = {"images": (study.images, study.limit), "bank": (study.bank, None)}
    sets = open_sets(
        sources,
        seed=study.seed,
        on_bad=study.on_bad,
        sample=study.sample,
        classed=not study.analyses or any(map(wants_classes, study.analyses)),
        quiet=quiet,
        given=study.given,
    )
    images, bank = sets["images"], sets["bank"]
    assert images is not None
    every = has_fingerprint(study.models)
    images, bank = match_bank(images, bank, call_source(study.bank), every=every)
    blurred = describe_blurred(images, bank) if study.require_blurred else []
    notes = [*describe_skipped(images), *describe_skipped(bank)]
    notes += map(Caution, describe_copies(images) if every else [])
    if not study.analyses or any(map(wants_classes, study.analyses)):
        notes += map(Caution, describe_alone(images, bank))
    if not study.analyses or any(map(trains_probes, study.analyses)):
        notes += describe_small_classes(images, bank)
    return images, bank, [*notes, *blurred]


def _compare_views(
    situation: Situation, passes: Sequence[ActivationPass], precision: str
) -> list[str]:
    """What a reader must know of how the models were shown the images, each held against the first.

    Raises:
        InputError: a fingerprint was made under conditions that make it incomparable.
    """
    views: list[tuple[Member, Conditions]] = []
    for member in situation.members:
        conditions = _conditions(member, situation, passes, precision)
        if conditions is not None:
            views.append((member, replace(conditions, name=member.name)))
    found: list[str] = []
    for member, conditions in views[1:]:
        first, reference = views[0]
        # controls see the images as they must: raw pixels at 32 px
        control = member.control or first.control
        if first.fingerprint is not None or member.fingerprint is not None:
            allowed = situation.study.any_transform or control
            require_comparable(reference, conditions, any_transform=allowed)
        if not control:
            if member.described.digest == first.described.digest:  # which `describe_same` tells
                conditions = replace(conditions, transform=reference.transform)
            found += remarks(reference, conditions)
    return found


def _conditions(
    member: Member, situation: Situation, passes: Sequence[ActivationPass], precision: str
) -> Conditions | None:
    """How the Grams of a member were or will be made; None where it makes none."""
    if member.fingerprint is not None:
        return member.fingerprint.conditions
    one = next((one for one in passes if one.member is member), None)
    if one is None:
        return None
    tokens = [
        str(reducer.settings()["tokens"]) for reducer in one.reducers if reducer.kind == "grams"
    ]
    if PIXELS in one.reducers:  # which stand beside every choice of tokens
        tokens = list(situation.study.tokens)
    if not tokens:
        return None
    return Conditions.of(
        one.model,
        one.images,
        one.plan,
        tokens=tokens,
        precision=precision,
        seed=situation.study.seed,
    )
