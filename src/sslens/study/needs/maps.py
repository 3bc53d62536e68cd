"""Patch tokens of every block, or of every stage, over the images and over the bank."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sslens.capture import MapReducer, Maps
from sslens.comparisons.inputs import MapSets
from sslens.progress import progress
from sslens.store import Store
from sslens.study.asked import Study
from sslens.study.passes import ActivationPass, PassRunner
from sslens.study.seen import list_seen
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

if TYPE_CHECKING:
    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone

TYPE = MapSets
BANK = True


def reducers(study: Study) -> tuple[MapReducer, ...]:
    """Ask for the maps of all blocks of transformers and of all stages of CNNs; at another size
    than the models' own they need a pass of their own."""
    return (MapReducer(),) if study.side is None else ()


def unmet(situation: Situation) -> Lack | None:
    """Fingerprints hold no maps, and some models make none."""
    lack = lack_of_passes(situation)
    if lack is not None:
        return lack
    if list_seen(situation):
        return None
    return Lack("none of these models has a map of places", "give a ViT or a CNN")


def gather(captured: Captured) -> MapSets:
    """Return the maps of each model that has them, over the images and over the bank; with them
    those of raw pixels, if these are a control."""
    situation, seen = captured.situation, list_seen(captured.situation)
    made: list[dict[str, Maps]] = []
    for of_bank, images in ((False, situation.images), (True, situation.bank)):
        there = captured.of(MapReducer(), bank=of_bank) if situation.study.side is None else {}
        made.append(
            {}
            if images is None
            else {
                name: there[name] if name in there else _pass(captured, model, images)
                for name, model in seen.items()
            }
        )
    return MapSets(*made)


def describe(situation: Situation, store: Store) -> Iterator[str]:
    """Describe the passes at another size than the models' own, with their cost, in lines for a
    person."""
    for one in list_passes(situation, store):
        yield f"{one.describe()}, at {situation.study.side} px"


def complete(captured: Captured) -> None:
    """Make the maps at another size, in all processes together: each sees a share of the images."""
    if captured.situation.study.side is not None and captured.store is not None:
        passes = list_passes(captured.situation, captured.store)
        for _ in _make_runner(captured.situation, captured.store).run(passes):
            pass  # the maps are in the store


def list_passes(situation: Situation, store: Store) -> list[ActivationPass]:
    """Plan a pass of each model, as it sees images for dense tasks, over each set of images; none
    at the models' own size, at which the study's passes make the maps."""
    from sslens.plan import Plan

    if situation.study.side is None:
        return []
    runner = _make_runner(situation, store)
    members = {member.name: member for member in situation.members}
    return [
        runner.plan(
            replace(members[name], model=model),
            images,
            Plan.in_order(images.ids, situation.study.batch),
            (MapReducer(),),
            bank=images is situation.bank,
        )
        for name, model in list_seen(situation).items()
        for images in situation.sets
    ]


def _make_runner(situation: Situation, store: Store) -> PassRunner:
    """What runs passes as the study asks for them."""
    from sslens.processes import best_precision

    precision = best_precision(situation.study.precision, situation.device)
    return PassRunner(store, situation.device, precision, situation.quiet)


def _pass(captured: Captured, model: "Backbone", images: "ImageSet") -> Maps:
    """Read the maps of a model, as it sees the images for dense tasks, from the store; without a
    store, run it."""
    from sslens.capture import collect
    from sslens.plan import Plan
    from sslens.processes import best_precision

    situation, label = captured.situation, f"{model.name} at {model.transform.crop} px"
    reducer = MapReducer()
    with progress(label, quiet=situation.quiet) as report:
        (made,) = collect(
            model,
            images,
            [reducer],
            plan=Plan.in_order(images.ids, situation.study.batch),
            store=captured.store,
            device=situation.device,
            precision=best_precision(situation.study.precision, situation.device),
            progress=report,
        )
    model.to("cpu")
    return made


def key(value: MapSets) -> dict[str, dict[str, Any]]:
    """Return the key of each model's maps."""
    return {
        role: {name: dict(maps.key) for name, maps in sets.items()}
        for role, sets in (("images", value.images), ("bank", value.bank))
    }
