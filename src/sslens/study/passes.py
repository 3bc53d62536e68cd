"""Passes of models over images: which results are wanted from each pass, which of them the store
has, and how all passes are run."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from sslens.counts import spell_count
from sslens.progress import progress
from sslens.store import Store
from sslens.study.members import Member

if TYPE_CHECKING:
    from sslens.capture import Reducer
    from sslens.data.alter import Transform
    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.plan import Plan


@final
@dataclass(frozen=True, repr=False)
class ActivationPass:
    """One model's pass over one set of images: which results are wanted from it, and how many of
    them the store lacks.

    Attributes:
        member: the model.
        images: the set of images.
        plan: the minibatches.
        reducers: the results that are wanted.
        bank: whether the images are the bank's.
        taps: the names of the taps that reducers may read; all unless given.
        missing: the number of results that are not in the store.
        altered: what is done to the images before the model sees them; nothing unless given.
    """

    member: Member
    images: "ImageSet"
    plan: "Plan"
    reducers: "tuple[Reducer[Any], ...]"
    bank: bool = False
    taps: tuple[str, ...] | None = None
    missing: int = 0
    altered: "Transform | None" = None

    def __repr__(self) -> str:
        return f"<ActivationPass {' '.join(self.subject.split())}: {self.missing} to be made>"

    @property
    def model(self) -> "Backbone":
        """The network that is run."""
        return self.member.network

    @property
    def view(self) -> tuple[Any, ...]:
        """What decides the decoded pixels; passes with equal views share them."""
        return id(self.images), *self.model.transform.geometry

    def flops(self) -> float:
        """Count the floating-point operations of the forward passes that are still to be run, from
        shapes alone; 0 where nothing is missing, NaN where a network cannot be run so."""
        if not self.missing:
            return 0.0
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from sslens.models.tracing import copy_empty, run

        network, side = self.model.network, self.model.transform.crop
        if next(network.parameters(), None) is None:
            return 0.0  # raw pixels
        image = torch.empty(1, 3, side, side, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            try:
                run(copy_empty(network), image)
            except Exception:  # an operation of the user's network that needs values
                return math.nan
        return float(counter.get_total_flops() * len(self.images))

    def describe(self) -> str:
        """Describe the pass in a line: the model, the images, and the cost."""
        if not self.missing:
            return f"{self.subject}: in the store"
        return f"{self.subject}: {_format_cost(self.flops())}"

    @property
    def subject(self) -> str:
        """The model and the images."""
        return (
            f"{self.member.role:<9} {self.member.name} over"
            f" {spell_count(len(self.images), 'image')} of {self.images.name}"
        )


def _format_cost(flops: float) -> str:
    return "at a cost that is not known" if math.isnan(flops) else f"{flops / 1e9:,.0f} GFLOP"


def describe_passes(passes: Sequence[ActivationPass]) -> list[str]:
    """Describe passes in lines for a person; the passes of a model over altered images have one
    line together."""
    lines, altered = [], dict[str, list[ActivationPass]]()
    for one in passes:
        if one.altered is None:
            lines.append(one.describe())
        else:
            altered.setdefault(one.subject, []).append(one)
    for subject, group in altered.items():
        missing = [one for one in group if one.missing]
        # every pass of a model costs the same
        state = _format_cost(len(missing) * missing[0].flops()) if missing else "in the store"
        lines.append(f"{subject}, altered in {spell_count(len(group), 'way')}: {state}")
    return lines


@final
@dataclass(frozen=True)
class PassRunner:
    """Runs passes: the only place from which a command runs models over images.

    Attributes:
        store: where results are looked up and kept.
        device: "cpu", "cuda", ….
        precision: the precision of the forward pass.
        quiet: whether no progress is shown.
    """

    store: Store
    device: str = "cpu"
    precision: str = "float32"
    quiet: bool = True

    def plan(
        self,
        member: Member,
        images: "ImageSet",
        plan: "Plan",
        reducers: "Sequence[Reducer[Any]]",
        *,
        bank: bool = False,
        taps: tuple[str, ...] | None = None,
        altered: "Transform | None" = None,
    ) -> ActivationPass:
        """Plan a pass with those reducers that find taps in the model, and count the results that
        the store lacks.

        Raises:
            InputError: a transform does not apply to images of the model's size.
        """
        from sslens.capture import find_missing

        model = member.network
        named = model.pick(taps)
        useful = tuple(reducer for reducer in reducers if reducer.taps(model, named))
        missing = find_missing(
            model,
            images,
            useful,
            store=self.store,
            plan=plan,
            taps=taps,
            precision=self.precision,
            altered=altered,
        )
        return ActivationPass(member, images, plan, useful, bank, taps, sum(missing), altered)

    def run(self, passes: Sequence[ActivationPass]) -> Iterator[tuple[ActivationPass, list[Any]]]:
        """Yield each pass with its results, one for each reducer, from the store or computed.

        Images that several models see alike are decoded once for all of them.
        """
        from sslens.capture import collect
        from sslens.data.decoded import Decoded

        waiting = Counter(one.view for one in passes if one.missing)
        decoded: dict[tuple[Any, ...], Decoded] = {}
        number, count = 0, sum(one.missing > 0 for one in passes)
        for one in passes:
            number += one.missing > 0
            if one.missing and waiting[one.view] > 1 and one.view not in decoded:
                decoded[one.view] = Decoded(one.images, one.model.transform)
            name = one.member.name
            if one.altered is not None:
                name += f", {one.altered.label}{', drawn by image' * one.altered.drawn}"
            label = name if count < 2 else f"[{number}/{count}] {name}"
            with progress(label, quiet=self.quiet or not one.missing) as report:
                results = collect(
                    one.model,
                    one.images,
                    one.reducers,
                    plan=one.plan,
                    taps=one.taps,
                    store=self.store,
                    device=self.device,
                    precision=self.precision,
                    decoded=decoded.get(one.view),
                    altered=one.altered,
                    progress=report,
                )
            yield one, results
            one.model.to("cpu")  # the next one needs the room
            if one.missing:
                waiting[one.view] -= 1
                if not waiting[one.view]:
                    decoded.pop(one.view, None)
