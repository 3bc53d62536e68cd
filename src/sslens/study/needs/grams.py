"""Grams of every tap and minibatch, for the tokens that the study compares."""

from typing import Any

from sslens.capture import GramReducer
from sslens.comparisons.inputs import GramSets
from sslens.study.asked import Study
from sslens.study.situation import Captured, Lack, Situation

TYPE = GramSets


def reducers(study: Study) -> tuple[GramReducer, ...]:
    """Return one reducer for each choice of tokens."""
    return tuple(GramReducer(tokens) for tokens in study.tokens)


def unmet(situation: Situation) -> Lack | None:
    """Models and fingerprints both give Grams."""
    return None


def gather(captured: Captured) -> GramSets:
    """Return the Grams of passes and of fingerprints, by tokens, then by model, in the models'
    order."""
    situation = captured.situation
    gathered = {}
    for reducer in reducers(situation.study):
        made, tokens = captured.of(reducer), reducer.tokens
        for member in situation.members:
            stored = member.fingerprint.grams if member.fingerprint is not None else {}
            if tokens in stored:
                made[member.name] = stored[tokens]
        names = [member.name for member in situation.members if member.name in made]
        if names:
            gathered[tokens] = {name: made[name] for name in names}
    return gathered


def key(value: GramSets) -> dict[str, dict[str, Any]]:
    """Return the key of each model's Grams, by tokens."""
    return {
        tokens: {name: dict(grams.key) for name, grams in sets.items()}
        for tokens, sets in value.items()
    }
