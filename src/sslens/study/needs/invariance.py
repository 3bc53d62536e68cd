"""Features and Grams of the images and of the same images altered by known transforms."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sslens.capture import FeatureReducer, GramReducer, Reducer
from sslens.capture.feature_reducer import KINDS
from sslens.comparisons.altered import UNCHANGED, Altered, AlteredSets
from sslens.data.alter import Transform
from sslens.data.transform_names import parse_transforms
from sslens.study.asked import Study
from sslens.study.needs import factors
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

if TYPE_CHECKING:
    import numpy as np

TYPE = AlteredSets
#: fewest images of which half can be trained on and half tested
FEWEST = 8
FEATURES, GRAMS = FeatureReducer(), GramReducer("all")
#: of altered images only the taps whose features are read: at all 49 taps of a ViT the Grams of
#: eleven passes take a tenth of these passes
ALTERED_GRAMS = GramReducer("all", KINDS)


def reducers(study: Study) -> tuple[Reducer[Any], ...]:
    """Ask for pooled features and for the Grams over all tokens, of the images as they are."""
    return (FEATURES, GRAMS)


def altered(study: Study) -> tuple[tuple[Transform, tuple[Reducer[Any], ...]], ...]:
    """Ask for the same of the altered images, and of images that are altered each in its own way
    for features alone: a pass for each."""
    fixed, drawn = list_transforms(study)
    return (
        *((transform, (FEATURES, ALTERED_GRAMS)) for transform in fixed),
        *((transform, (FEATURES,)) for transform in drawn),
    )


def list_transforms(study: Study) -> tuple[tuple[Transform, ...], tuple[Transform, ...]]:
    """List the transforms at their strengths, and those that are drawn for each image."""
    asked = parse_transforms(study.transforms)
    fixed = tuple(Transform(name, strength) for name, strength in asked)
    drawn = tuple(Transform(name, strength, drawn=True) for name, strength in asked)
    return fixed, drawn if study.decode else ()


def unmet(situation: Situation) -> Lack | None:
    """Fingerprints hold no features, and of a few images nothing can be held out."""
    lack = lack_of_passes(situation)
    if lack is not None:
        return lack
    if situation.images is None or len(situation.images) < FEWEST:
        return Lack(f"invariances are measured on {FEWEST} images or more", "give more {images}")
    return None


def gather(captured: Captured) -> AlteredSets:
    """Return the features and Grams of all passes; with them the factors of generated scenes, and
    an image as each transform changes it."""
    situation = captured.situation
    fixed, drawn = list_transforms(situation.study)
    features = captured.of(FEATURES)
    known = factors.unmet(situation) is None
    assert situation.images is not None
    return AlteredSets(
        features,
        captured.of(GRAMS),
        {
            member.name: member.network.transform.crop
            for member in situation.members
            if member.name in features
        },
        {
            transform: Altered(
                captured.of(FEATURES, altered=transform),
                captured.of(ALTERED_GRAMS, altered=transform),
            )
            for transform in fixed
        },
        {transform: Altered(captured.of(FEATURES, altered=transform)) for transform in drawn},
        factors.look_up(situation.images) if known else None,
        _show_examples(situation, fixed),
    )


def _show_examples(
    situation: Situation, transforms: tuple[Transform, ...]
) -> "dict[str, np.ndarray]":
    """An image as the first model sees it, and altered."""
    import torch

    images = situation.images
    assert images is not None
    model = next(member.network for member in situation.members if member.model is not None)
    row = images.ids.index(min(images.ids))
    crop = torch.from_numpy(model.transform.crop_image(images.image(row)))
    values = crop.permute(2, 0, 1)[None].contiguous().float() / 255
    shown = {transform.label: transform.apply(values, ["shown"]) for transform in transforms}
    return {
        label: (one[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
        for label, one in {UNCHANGED: values, **shown}.items()
    }


def key(value: AlteredSets) -> Mapping[str, Any]:
    """Return digests of all passes, of the factors and of the examples."""
    return value.key()
