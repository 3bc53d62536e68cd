"""How far the activations of two models lie apart on a few images, tap by tap, beside what rounding
does to them."""

from collections.abc import Iterator, Sequence

from sslens.comparisons.activations import ActivationPairs, measure_pairs
from sslens.store import Store
from sslens.study.needs import weights
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

TYPE = ActivationPairs
#: images on which activations are compared: the first ones by their ids
COMPARED = 4


def unmet(situation: Situation) -> Lack | None:
    """Activations need images and networks."""
    if situation.images is None:
        return Lack("activations are of images, and there are none", "give {images}")
    return lack_of_passes(situation)


def describe(situation: Situation, store: Store) -> Iterator[str]:
    """Say how often which networks are run."""
    others = sum(not member.control for member in situation.members) - 1
    if others > 0:
        yield (
            f"activations of {COMPARED} images at every tap: the first model in float32,"
            f" rounded and in float64, and {others} other{'s' if others > 1 else ''} in float32"
        )


def gather(captured: Captured) -> ActivationPairs:
    """Run the first model and each other one that is under study on the same few images."""
    situation = captured.situation
    images = situation.images
    assert images is not None
    rows = sorted(range(len(images)), key=lambda row: images.ids[row])[:COMPARED]
    models = {
        member.name: member.network
        for member in situation.members
        if member.model is not None and not member.control
    }
    kinds = _list_kinds(captured) if weights.unmet(situation) is None else {}
    made_of = [
        [[name, model.digest] for name, model in models.items()],
        [images.digest, *(images.ids[row] for row in rows)],
        [[name, *own] for name, own in kinds.items()],
    ]
    return ActivationPairs(
        made_of, lambda: measure_pairs(models, [images.image(row) for row in rows], kinds)
    )


def _list_kinds(captured: Captured) -> dict[str, tuple[str, ...]]:
    """The number types of each model's file."""
    return {
        name: tuple(sorted({tensor.kind for tensor in own.tensors.values()}))
        for name, own in weights.gather(captured).items()
    }


def key(value: ActivationPairs) -> Sequence[object]:
    """Return what the numbers are of: the models, the images and the number types of files."""
    return value.key
