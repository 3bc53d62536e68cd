"""What `sslens pretrain` writes: safetensors in timm's names, its architecture and its origin in the header."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sslens.zoo.claim import Claim
    from sslens.zoo.files import Contents

TITLE = "sslens"
HEADER = "sslens.encoder"


def header(name: str, shape: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, str]:
    """The safetensors header of an encoder of our own training: its name, its shape, and what is known of it."""
    return {HEADER: json.dumps({"name": name, "shape": dict(shape), "about": dict(about)}, sort_keys=True)}


def claim(contents: "Contents") -> "Claim | None":
    """A file whose header names it."""
    from sslens.zoo.claim import Claim
    from sslens.zoo.trunks import Trunk

    if HEADER not in contents.header:
        return None
    written = json.loads(contents.header[HEADER])
    naming = {"resnet": "resnet", "convnextv2": "convnext-timm"}.get(written["shape"].get("kind"), "vit")
    return Claim(
        method=TITLE,
        form="encoder of a training with sslens pretrain",
        signs=(f"its header has {HEADER}",),
        branches={"encoder": Trunk("", "", naming)},
        taken="encoder",
        objective=written["about"].get("objective"),
        family=written["about"].get("family"),
        tuned=written["about"].get("tuned", False),
        written=written,
    )
