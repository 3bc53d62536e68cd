"""What a pass yields, and the key by which it is found again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from sslens.capture.reducers import Reducer
from sslens.data.images import ImageSet
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan


@dataclass(frozen=True)
class Artefact:
    """What a reducer made of a model over images: tensors, and the ids, taps and key that say what
    they are."""

    kind: str
    model: str
    ids: tuple[str, ...]
    taps: tuple[Tap, ...]
    tensors: dict[str, Tensor]
    key: dict[str, Any]

    def at(self, kind: str) -> "Artefact":
        """The part of Grams that belongs to the taps of one kind, in order of depth."""
        rows = [i for i, tap in enumerate(self.taps) if tap.kind == kind]
        tensors = {
            name: value if name == "sizes" else value[rows] for name, value in self.tensors.items()
        }
        return Artefact(
            self.kind, self.model, self.ids, tuple(self.taps[i] for i in rows), tensors, self.key
        )


def key_of(
    model: Backbone,
    images: ImageSet,
    plan: Plan,
    reducer: Reducer,
    taps: Sequence[Tap],
    precision: str,
) -> dict[str, Any]:
    """Everything that decides an artefact's content."""
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
