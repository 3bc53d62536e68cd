"""The weights of every model, under names that all copies of a network have."""

from collections.abc import Iterator

from sslens.comparisons.weight_pairs import WeightSets
from sslens.counts import spell_count
from sslens.store import Store
from sslens.study.situation import Captured, Lack, Situation

TYPE = WeightSets
IMAGES = False
NETWORKS = False


def unmet(situation: Situation) -> Lack | None:
    """Fingerprints hold no weights, and a change is between two models."""
    if len(_list_sources(situation)) > 1:
        return None
    return Lack(
        "two models with weights are needed, and fingerprints and raw pixels have none",
        "give two checkpoints as {models}",
    )


def describe(situation: Situation, store: Store) -> Iterator[str]:
    """Say how many weights are compared."""
    for member in situation.members:
        if member.weights is not None:
            tensors = member.weights.tensors.values()
            count = sum(tensor.value.size for tensor in tensors)
            yield (
                f"weights   {member.name}: {spell_count(len(tensors), 'tensor')},"
                f" {count / 1e6:,.1f} M numbers"
            )


def gather(captured: Captured) -> WeightSets:
    """Return the weights of each model under study; of a model of which the network was built, they
    are read again, as its file has them."""
    from sslens.zoo.weights import read_weights

    weights = {
        member.name: member.weights
        for member in captured.situation.members
        if member.weights is not None
    }
    sources = _list_sources(captured.situation)
    return {
        name: weights[name] if name in weights else read_weights(source)
        for name, source in sources.items()
    }


def _list_sources(situation: Situation) -> dict[str, str]:
    """The source of each model under study that has weights, by the model's name."""
    return {
        member.name: member.described.source
        for member in situation.members
        if not member.control and member.fingerprint is None and member.about.network != "pixels"
    }


def key(value: WeightSets) -> dict[str, str]:
    """Return a digest of each model's weights."""
    return {name: weights.digest for name, weights in value.items()}
