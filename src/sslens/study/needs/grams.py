"""Grams of every tap and minibatch, for the tokens that the study compares."""

from typing import Any

from sslens.capture import GramReducer, Grams
from sslens.comparisons.inputs import GramSets
from sslens.study.asked import Study
from sslens.study.situation import Captured, Lack, Situation

TYPE = GramSets
#: the raw pixels have no tokens: all their values are read, whichever tokens are compared
PIXELS = GramReducer("all", kinds=("pixels",))


def reducers(study: Study) -> tuple[GramReducer, ...]:
    """Return one reducer for each choice of tokens, and one for the raw pixels where all tokens are
    not among the choices."""
    chosen = tuple(GramReducer(tokens) for tokens in study.tokens)
    return chosen if PIXELS.tokens in study.tokens else (*chosen, PIXELS)


def unmet(situation: Situation) -> Lack | None:
    """Models and fingerprints both give Grams."""
    return None


def gather(captured: Captured) -> GramSets:
    """Return the Grams of passes and of fingerprints, by tokens, then by model, in the models'
    order; last those of the raw pixels, as "pixels", where all tokens are not compared."""
    situation = captured.situation
    gathered = {}
    for reducer in reducers(situation.study):
        made = captured.of(reducer)
        for member in situation.members:
            stored = member.fingerprint.grams if member.fingerprint is not None else {}
            if reducer.tokens in stored and _reads(reducer, stored[reducer.tokens]):
                made[member.name] = stored[reducer.tokens]
        names = [member.name for member in situation.members if member.name in made]
        if names:
            key = "pixels" if reducer is PIXELS else reducer.tokens
            gathered[key] = {name: made[name] for name in names}
    return gathered


def _reads(reducer: GramReducer, grams: Grams) -> bool:
    """Whether a reducer reads what stored Grams are of."""
    return reducer.kinds is None or any(tap.kind in reducer.kinds for tap in grams.taps)


def key(value: GramSets) -> dict[str, dict[str, Any]]:
    """Return the key of each model's Grams, by tokens."""
    return {
        tokens: {name: dict(grams.key) for name, grams in sets.items()}
        for tokens, sets in value.items()
    }
