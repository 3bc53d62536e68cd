"""How the models of a study see its images where places count: at the study's `side`, and the
control of raw pixels as the first of them does."""

from typing import TYPE_CHECKING

from sslens.study.situation import Situation

if TYPE_CHECKING:
    from sslens.models.backbone import Backbone

#: sides in pixels of the patches of raw pixels where no model has patches, the first that divides
#: the image
PATCHES = (16, 8, 4, 2, 1)


def list_seen(situation: Situation) -> "dict[str, Backbone]":
    """Return each model that has maps, by its name, for images of the study's `side`.

    The control of raw pixels is given the size and the patches of the first model, so that it knows
    of each patch what the model was shown.
    """
    from sslens.capture import MapReducer
    from sslens.models.backbone import Pixels
    from sslens.models.sizes import at_size, patch_side, pixels_at_size

    reducer = MapReducer()
    members = [member for member in situation.members if member.model is not None]
    networks = {member.name: member.network for member in members}
    seen = {
        name: model for name, model in networks.items() if reducer.taps(model, model.pick(None))
    }
    if not seen:
        return {}
    side = situation.study.side
    if side is not None:
        seen = {name: at_size(model, side) for name, model in seen.items()}
    first = next(iter(seen.values()))
    shown = first.transform.crop
    patch = patch_side(first) or next(patch for patch in PATCHES if shown % patch == 0)
    for name, model in networks.items():
        if isinstance(model.network, Pixels) and name not in seen:
            seen[name] = pixels_at_size(model, first.transform, patch)
    return seen
