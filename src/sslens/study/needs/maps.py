"""Patch tokens of every block, or of every stage, over the images and over the bank."""

from typing import Any

from sslens.capture import MapReducer
from sslens.comparisons.inputs import MapSets
from sslens.study.asked import Study
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

TYPE = MapSets
BANK = True


def reducers(study: Study) -> tuple[MapReducer, ...]:
    """Ask for the maps of all blocks of transformers and of all stages of CNNs."""
    return (MapReducer(),)


def unmet(situation: Situation) -> Lack | None:
    """Fingerprints hold no maps, and some models make none."""
    lack = lack_of_passes(situation)
    if lack is not None:
        return lack
    (reducer,) = reducers(situation.study)
    models = [member.network for member in situation.members if member.model is not None]
    if any(reducer.taps(model, model.pick(None)) for model in models):
        return None
    return Lack("none of these models has a map of places", "give a ViT or a CNN")


def gather(captured: Captured) -> MapSets:
    """Return the maps of each model that has them, over the images and over the bank."""
    (reducer,) = reducers(captured.situation.study)
    return MapSets(captured.of(reducer), captured.of(reducer, bank=True))


def key(value: MapSets) -> dict[str, dict[str, Any]]:
    """Return the key of each model's maps."""
    return {
        role: {name: dict(maps.key) for name, maps in sets.items()}
        for role, sets in (("images", value.images), ("bank", value.bank))
    }
