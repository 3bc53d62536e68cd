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


def header(
    name: str,
    shape: Mapping[str, Any],
    about: Mapping[str, Any],
    transform: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The safetensors header of an encoder of our own training: its name, its shape, what is known
    of it.

    `transform` is `EvalTransform.spec()` of how its images are prepared, where that is not as its
    image size says.
    """
    said = {"name": name, "shape": dict(shape), "about": dict(about)}
    if transform is not None:
        said["transform"] = dict(transform)
    return {HEADER: json.dumps(said, sort_keys=True)}


def claim(contents: "Contents") -> "Claim | None":
    """A file whose header names it."""
    from sslens.zoo.claim import AFTER_POOLING, CLASSIFIER, Claim
    from sslens.zoo.trunks import Trunk

    if HEADER not in contents.header:
        return None
    written = json.loads(contents.header[HEADER])
    tuned = written["about"].get("tuned", False)
    naming = {"resnet": "resnet", "convnextv2": "convnext-timm"}.get(
        written["shape"].get("kind"), "vit"
    )
    said = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in written.get("transform", {}).items()
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
        transform=said,
        written=written,
    )
