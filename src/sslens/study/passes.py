"""Passes of a study's models over its images: what is wanted of each, and what is in the store."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from sslens.progress import progress
from sslens.store import Store
from sslens.study.contract import load_need, needs_of
from sslens.study.members import Member
from sslens.study.situation import Captured, Situation, identify

if TYPE_CHECKING:
    from sslens.capture import Reducer
    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.plan import Plan


@final
@dataclass(frozen=True)
class ActivationPass:
    """One model's pass over one set of images: what is wanted of it, and what of that is missing in
    the store.

    Attributes:
        bank: whether the images are those of the bank.
        missing: how many of the reducers' results are not in the store.
    """

    member: Member
    images: "ImageSet"
    bank: bool
    plan: "Plan"
    reducers: "tuple[Reducer[Any], ...]"
    missing: int

    @property
    def model(self) -> "Backbone":
        """The network that passes."""
        assert self.member.model is not None
        return self.member.model

    @property
    def view(self) -> tuple[Any, ...]:
        """What decides the decoded pixels, which models with one view of the images share."""
        return id(self.images), *self.model.transform.geometry

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


def plan_passes(
    situation: Situation, analyses: Iterable[str], store: Store, precision: str
) -> tuple[ActivationPass, ...]:
    """The passes that the needs of these analyses ask for; a model without such taps makes none."""
    from sslens.plan import Plan

    needs = {name: load_need(name, each) for each in analyses for name in needs_of(each)}
    wanted: list[Reducer[Any]] = []
    of_bank: list[Reducer[Any]] = []
    for _, need in sorted(needs.items()):
        reducers = need.reducers(situation.study) if hasattr(need, "reducers") else ()
        wanted += reducers
        of_bank += reducers if getattr(need, "BANK", False) else ()
    passes = []
    for member in situation.members:
        if member.model is None:
            continue
        for images, reducers, bank in (
            (situation.images, wanted, False),
            (situation.bank, of_bank, True),
        ):
            if images is None or not reducers:
                continue
            plan = Plan.draw(images.ids, situation.study.batch, situation.study.seed)
            one = _plan_pass(member, images, bank, plan, reducers, store, precision)
            passes += [one] if one.reducers else []
    return tuple(passes)


def _plan_pass(
    member: Member,
    images: "ImageSet",
    bank: bool,
    plan: "Plan",
    reducers: "Sequence[Reducer[Any]]",
    store: Store,
    precision: str,
) -> ActivationPass:
    from sslens.capture import find_missing

    assert member.model is not None
    taps = member.model.pick(None)
    unique = {identify(reducer): reducer for reducer in reducers}
    useful = tuple(reducer for reducer in unique.values() if reducer.taps(member.model, taps))
    missing = find_missing(
        member.model, images, useful, store=store, plan=plan, precision=precision
    )
    return ActivationPass(member, images, bank, plan, useful, sum(missing))


def run_passes(
    situation: Situation, passes: Sequence[ActivationPass], store: Store, precision: str
) -> Captured:
    """What all passes make, from the store or from one pass a model and set of images."""
    made = {
        (identify(reducer), one.bank, one.member.name): result
        for one, results in _run_each(situation, passes, store, precision)
        for reducer, result in zip(one.reducers, results, strict=True)
    }
    return Captured(situation, made, store)


def _run_each(
    situation: Situation, passes: Sequence[ActivationPass], store: Store, precision: str
) -> Iterator[tuple[ActivationPass, list[Any]]]:
    """Each pass and its results; images that several models see alike are decoded once for all."""
    from sslens.capture import collect
    from sslens.data.decoded import Decoded

    waiting = Counter(one.view for one in passes if one.missing)
    decoded: dict[tuple[Any, ...], Decoded] = {}
    for number, one in enumerate(passes, 1):
        if one.missing and waiting[one.view] > 1 and one.view not in decoded:
            decoded[one.view] = Decoded(one.images, one.model.transform)
        label = f"[{number}/{len(passes)}] {one.member.name}"
        with progress(label, quiet=situation.quiet or not one.missing) as report:
            results = collect(
                one.model,
                one.images,
                one.reducers,
                plan=one.plan,
                store=store,
                device=situation.device,
                precision=precision,
                decoded=decoded.get(one.view),
                progress=report,
            )
        yield one, results
        one.model.to("cpu")  # the next one needs the room
        if one.missing:
            waiting[one.view] -= 1
            if not waiting[one.view]:
                decoded.pop(one.view, None)
