"""V-JEPA 2 (Assran et al., 2025), the authors' files and Hugging Face's: an encoder of videos,
which sees an image as two frames that are alike."""

from sslens.errors import InputError
from sslens.zoo.claim import Claim
from sslens.zoo.claiming import find_roles
from sslens.zoo.files import Contents
from sslens.zoo.hints import Hints
from sslens.zoo.trunks import Trunk, choose_trunk, find_trunks, name_trunks

TITLE = "V-JEPA 2"
_PATCHES = {
    "vit": "patch_embed.proj.weight",
    "vjepa2-hf": "embeddings.patch_embeddings.proj.weight",
}
#: rows of the table of positions of V-JEPA's first version: 16 frames in pairs, and patches of
#: 16 px in images of 224 and 384 px
_FIRST = (8 * 14**2, 8 * 24**2)


def claim(contents: Contents) -> Claim | None:
    """Claim Vision Transformers that cut patches of several frames, without CLS; the authors
    evaluate the target encoder. Hugging Face has this one alone, under `encoder.`.

    Raises:
        InputError: the file is of the first V-JEPA, whose positions are a table.
    """
    trunks = [t for t in find_trunks(contents.states) if _is_of_frames(contents, t)]
    if not trunks:
        return None
    table = trunks[0].weights(contents.states).get("pos_embed")
    if table is not None and table.ndim == 3 and table.shape[1] in _FIRST:
        raise InputError(
            f"{contents.path} is of the first V-JEPA, with a table of positions in space and time:"
            " only V-JEPA 2's are read, which have rotary positions."
        )
    roles = find_roles(contents, ("target_encoder", "encoder"))
    branches = {name: trunk for name, trunk in roles.items() if trunk in trunks}
    branches = branches or name_trunks(trunks)
    return Claim(
        method=TITLE,
        form="training file" if len(branches) > 1 else "an encoder",
        signs=("its patches have several frames (patch_embed.proj.weight has five axes)",),
        branches=branches,
        taken="target_encoder" if "target_encoder" in branches else choose_trunk(branches),
        objective="vjepa2",
        family="JE",
        drops=((r"pos_embed", "a table of positions that rotary ones replaced"),),
        beside=(
            (r"(.*\.)?predictor\..*", "the predictor"),
            (r"(.*\.)?(pooler|classifier)\..*", "a classifier of videos"),
        ),
        hints=Hints(eps=1e-6),
        transform={"interpolation": "bilinear", "ratio": 292 / 256},
        notes=("It was trained on videos: an image stands for all frames of a patch.",),
    )


def _is_of_frames(contents: Contents, trunk: Trunk) -> bool:
    name = _PATCHES.get(trunk.naming)
    kernel = contents.states[trunk.state].get(f"{trunk.prefix}{name}")
    return kernel is not None and kernel.ndim == 5
