"""What `sslens pretrain` and `sslens finetune` write: safetensors in timm's names, architecture and
origin in the header."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sslens.zoo.claim import Claim
    from sslens.zoo.files import Contents

TITLE = "sslens"
HEADER = "sslens.encoder"


def make_header(
    name: str,
    shape: Mapping[str, Any],
    about: Mapping[str, Any],
    transform: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Return the safetensors header of an encoder that this package trained.

    Args:
        name: the model's name.
        shape: the network's shape as JSON values.
        about: what is known of the model, as JSON values.
        transform: `EvalTransform.spec()` of how images are prepared; not needed where the default
            for the image size holds.
    """
    entry = {"name": name, "shape": dict(shape), "about": dict(about)}
    if transform is not None:
        entry["transform"] = dict(transform)
    return {HEADER: json.dumps(entry, sort_keys=True)}


def claim(contents: "Contents") -> "Claim | None":
    """Claim a file whose header has this package's entry."""
    from sslens.errors import InputError
    from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Claim
    from sslens.zoo.trunks import Trunk
    from sslens.zoo.written import FIXED, read_written

    if HEADER not in contents.header:
        return None
    written = read_written(contents.header[HEADER], contents.path)
    if not written["shape"]:
        raise InputError(
            f"{written['name']} holds the weights of a detector, and no network by itself",
            mend="give the model that the detector was trained on",
        )
    if "generator" in written["shape"]:
        raise InputError(
            f"{written['name']} is a generator of images, and no model of them",
            mend="sample from it with sslens rcdm sample, or give the model that conditions it",
        )
    tuned = written["about"].get("tuned", False)
    # its names are timm's, whatever the network: nothing is renamed
    naming = {"resnet": "resnet", "convnextv2": "convnext-timm"}.get(
        written["shape"].get("kind"), "vit"
    )
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in written.get("transform", {}).items()
        if key not in FIXED
    }
    return Claim(
        method=TITLE,
        form=f"encoder of a training with sslens {'finetune' if tuned else 'pretrain'}",
        signs=(f"its header has {HEADER}",),
        branches={"encoder": Trunk("", "", naming)},
        taken="encoder",
        objective=written["about"].get("objective"),
        family=written["about"].get("family"),
        tuned=tuned,
        drops=((r"classifier\.norm\..*", AFTER_POOLING), (r"classifier\.head\..*", CLASSIFIER)),
        transform=settings,
        written=written,
    )
