"""The key by which the store finds again what a pass yielded."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sslens.capture.reducers import Reducer
from sslens.data.images import ImageSet
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan


def key_of(
    model: Backbone,
    images: ImageSet,
    plan: Plan,
    reducer: Reducer[Any],
    taps: Sequence[Tap],
    precision: str,
) -> dict[str, Any]:
    """Everything that decides what a reducer makes of a model over images."""
    return {
        "reducer": reducer.kind,
        "version": reducer.version,
        "settings": reducer.settings(),
        "weights": model.digest,
        "transform": model.transform.spec(),
        "taps": [asdict(tap) for tap in taps],
        "images": images.content,
        "plan": plan.digest,
        "precision": precision,
    }
