"""The passes that the needs of analyses ask for, and the values that needs gather from the
results."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sslens.store import Store
from sslens.study.contract import load_need, needs_of
from sslens.study.passes import ActivationPass, PassRunner
from sslens.study.situation import Captured, Situation, identify

if TYPE_CHECKING:
    from types import ModuleType

    from sslens.capture import Reducer
    from sslens.data.alter import Transform
    from sslens.data.images import ImageSet

    #: images, what is wanted of a pass over them, whether they are the bank's, and what is done to
    #: them
    Run = tuple[ImageSet | None, tuple[Reducer[Any], ...], bool, Transform | None]


def plan_passes(
    situation: Situation, analyses: Iterable[str], runner: PassRunner
) -> tuple[ActivationPass, ...]:
    """Plan the passes that the needs of these analyses ask for; there is no pass of a model without
    the taps that they read.

    Raises:
        InputError: a transform does not apply to images of a model's size.
    """
    from sslens.plan import Plan

    wanted: dict[str, Reducer[Any]] = {}
    wanted_of_bank: dict[str, Reducer[Any]] = {}
    altered: dict[Transform, tuple[Reducer[Any], ...]] = {}
    for _, need in sorted(_load_needs(analyses).items()):
        reducers = need.reducers(situation.study) if hasattr(need, "reducers") else ()
        own = {identify(reducer): reducer for reducer in reducers}
        wanted |= own
        wanted_of_bank |= own if getattr(need, "BANK", False) else {}
        for transform, several in need.altered(situation.study) if hasattr(need, "altered") else ():
            altered[transform] = (*altered.get(transform, ()), *several)
    runs: list[Run] = [
        (situation.images, tuple(wanted.values()), False, None),
        (situation.bank, tuple(wanted_of_bank.values()), True, None),
        *((situation.images, several, False, way) for way, several in altered.items()),
    ]
    passes = []
    for member in situation.members:
        for images, several, bank, way in runs:
            if member.model is None or images is None or not several:
                continue
            plan = Plan.draw(images.ids, situation.study.batch, situation.study.seed)
            taps = situation.study.taps or None
            one = runner.plan(member, images, plan, several, bank=bank, taps=taps, altered=way)
            passes += [one] if one.reducers else []
    return tuple(passes)


def capture(situation: Situation, passes: Sequence[ActivationPass], runner: PassRunner) -> Captured:
    """Get the results of all passes, from the store or by one pass for each model and set of
    images."""
    made = {
        (identify(reducer, one.altered), one.bank, one.member.name): result
        for one, results in runner.run(passes)
        for reducer, result in zip(one.reducers, results, strict=True)
    }
    return Captured(situation, made, runner.store)


def list_involved(situation: Situation, analyses: Iterable[str]) -> set[str]:
    """List the names of models and controls of which these analyses need more than passes."""
    needs = _load_needs(analyses).values()
    return {
        member.name
        for need in needs
        if hasattr(need, "list_members")
        for member in need.list_members(situation)
    }


def describe_needs(situation: Situation, analyses: Iterable[str], store: Store) -> list[str]:
    """Describe what these analyses need beside passes, with its cost, in lines for a person."""
    needs = _load_needs(analyses).values()
    described = (need.describe(situation, store) for need in needs if hasattr(need, "describe"))
    return [line for lines in described for line in lines]


def list_own_passes(
    situation: Situation, analyses: Iterable[str], store: Store
) -> list[ActivationPass]:
    """List the passes that needs of these analyses run themselves, beside those of the study."""
    needs = _load_needs(analyses).values()
    own = (need.list_passes(situation, store) for need in needs if hasattr(need, "list_passes"))
    return [one for passes in own for one in passes]


def complete(captured: Captured, analyses: Iterable[str]) -> None:
    """Compute, in all processes, what needs of these analyses keep in the store."""
    for need in _load_needs(analyses).values():
        if hasattr(need, "complete"):
            need.complete(captured)


def gather(captured: Captured, analyses: Iterable[str]) -> Mapping[str, Any]:
    """Gather the value of every need that these analyses name, by the need's name."""
    return {name: need.gather(captured) for name, need in _load_needs(analyses).items()}


def _load_needs(analyses: Iterable[str]) -> "dict[str, ModuleType]":
    return {name: load_need(name, analysis) for analysis in analyses for name in needs_of(analysis)}
