"""The request of a pass, and the key by which the store finds the pass' results again."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from sslens.data.alter import Transform
from sslens.data.images import ImageSet
from sslens.errors import InputError, nearest, require_type
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan

#: of a forward pass
PRECISIONS = ("float32", "bfloat16", "float16")


def require_model(model: object) -> None:
    """Refuse an argument that is not a model, such as a model's name.

    Raises:
        InputError: the argument is not a Backbone.
    """
    require_type(model, Backbone, "model", "give what sslens.load or sslens.wrap returns")


def require_tokens(model: Backbone, tokens: Sequence[str]) -> None:
    """Refuse tokens that no tap of a model has.

    Raises:
        InputError: the model has no CLS token, or its outputs are not tokens.
    """
    for kind in tokens:
        if not any(model.has_tokens(tap, kind) for tap in model.taps.values()):
            lack = (
                "CLS token, so its tokens are all alike" if kind == "cls" else "tokens of patches"
            )
            raise InputError(f"{model.name} has no {lack}", mend="leave {tokens} at all")


@final
@dataclass(frozen=True, eq=False)
class PassRequest:
    """A pass of a model over images, as it is asked for.

    Attributes:
        plan: the minibatches.
        taps: the taps to read, in the order of computation.
        precision: the precision of the forward pass, "float32", "bfloat16" or "float16".
        altered: what is done to the images, resized and cropped, before the model sees them;
            nothing unless given.
    """

    model: Backbone
    images: ImageSet
    plan: Plan
    taps: tuple[Tap, ...]
    precision: str
    altered: Transform | None = None

    @classmethod
    def of(
        cls,
        model: Backbone,
        images: ImageSet,
        plan: Plan | None,
        taps: Sequence[str] | None,
        precision: str,
        altered: Transform | None = None,
    ) -> "PassRequest":
        """Make the request of a pass; minibatches are of 32 images, drawn with seed 0, and all taps
        are read, unless given.

        Raises:
            InputError: unknown taps or precision, a plan that is not of these images, a transform
                that does not apply to images of the model's size, or an argument of another type.
        """
        require_model(model)
        require_type(images, ImageSet, "set of images", "give what sslens.open_images returns")
        require_type(plan, (Plan, type(None)), "plan", "give what Plan.draw returns as {plan}")
        if precision not in PRECISIONS:
            raise InputError(
                f'There is no precision "{precision}" of a pass: {nearest(precision, PRECISIONS)}'
            )
        plan = plan or Plan.draw(images.ids)
        plan.require(images.ids)
        if altered is not None:
            altered.require_side(model.transform.crop)
        return cls(model, images, plan, model.pick(taps), precision, altered)

    @property
    def transform(self) -> Mapping[str, Any]:
        """How the model is shown the images, as plain JSON values: its own transform, and what is
        done to the images where they are altered."""
        altered = {} if self.altered is None else {"altered": self.altered.spec()}
        return {**self.model.transform.spec(), **altered}

    @functools.cached_property
    def seen(self) -> Mapping[str, Any]:
        """What decides the outputs of the model in this pass, as plain JSON values: the weights,
        the transform, the images and the precision."""
        return {
            "weights": self.model.digest,
            "transform": self.transform,
            "images": self.images.content,
            "precision": self.precision,
        }

    def key(self, kind: str, version: int, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return everything that decides the result of a reducer in this pass, as plain JSON
        values.

        Args:
            kind: the kind of reducer.
            version: the version of the reducer's computation.
            settings: the reducer's settings.
        """
        return {
            "reducer": kind,
            "version": version,
            "settings": dict(settings),
            "taps": [asdict(tap) for tap in self.taps],
            "plan": self.plan.digest,
            **self.seen,
        }
