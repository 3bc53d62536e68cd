"""How the class and the factors of scenes stand in the outputs of a network that reads them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from sslens.probes.factors import kind_of

if TYPE_CHECKING:
    import pandas as pd

#: numbers that change their sign where the picture is mirrored
MIRRORED = ("x", "rotation")
#: factors that a permutation of the colours changes
COLOURED = ("hue", "background_hue")
#: the mirrored factor, which is read together with the class: 2 · class + (facing is right)
FACING = "facing"


@dataclass(frozen=True)
class Coding:
    """How a factor stands in the outputs of the network.

    Attributes:
        name: of the factor; "facing" stands for class and facing together.
        kind: "categorical", "continuous" or "circular".
        classes: the kinds, of a categorical factor.
        mean: of the training scenes, of a continuous factor.
        deviation: their standard deviation.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def width(self) -> int:
        """The number of outputs."""
        return {"categorical": len(self.classes), "continuous": 1, "circular": 2}[self.kind]

    def encode(self, frame: "pd.DataFrame") -> Float32[np.ndarray, "image part"]:
        """Return the target of each scene: the number of its kind, or standardised numbers."""
        values = frame[self.name]
        if self.kind == "categorical":
            place = {name: number for number, name in enumerate(self.classes)}
            return values.astype(str).map(place).to_numpy(np.float32)[:, None]
        numbers = values.to_numpy(np.float64)[:, None]
        if self.kind == "circular":
            angles = np.deg2rad(numbers)
            numbers = np.concatenate([np.cos(angles), np.sin(angles)], 1)
            return numbers.astype(np.float32)
        return ((numbers - self.mean) / self.deviation).astype(np.float32)

    def decode(self, outputs: Float[Tensor, "image part"]) -> np.ndarray:
        """Return the factor that outputs stand for: a name, a number or degrees."""
        if self.kind == "categorical":
            return np.array(self.classes)[outputs.argmax(1).numpy()]
        numbers = outputs.double().numpy()
        if self.kind == "circular":
            return np.rad2deg(np.arctan2(numbers[:, 1], numbers[:, 0])) % 360
        return numbers[:, 0] * self.deviation + self.mean


def mirror_factors(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the factors that scenes have when their pictures are mirrored, left for right.

    >>> import pandas as pd
    >>> turned = {"facing": ["left"], "x": [3.0], "rotation": [5.0], "light_angle": [30.0]}
    >>> mirror_factors(pd.DataFrame(turned)).values.tolist()
    [['right', -3.0, -5.0, 150.0]]
    """
    changed: dict[str, Any] = {name: -frame[name] for name in MIRRORED if name in frame}
    changed[FACING] = frame[FACING].str.replace("left", "-").str.replace("right", "left")
    changed[FACING] = changed[FACING].str.replace("-", "right")
    if "light_angle" in frame:
        changed["light_angle"] = (180 - frame["light_angle"]) % 360
    return frame.assign(**changed)


def mirror_outputs(
    coding: Coding, outputs: Float[Tensor, "image part"]
) -> Float[Tensor, "image part"]:
    """What the outputs of a mirrored image say of the image itself."""
    if coding.name == FACING:
        return outputs[:, torch.arange(coding.width) ^ 1]  # left and right of a class are a pair
    if coding.name in MIRRORED:
        return -outputs - 2 * coding.mean / coding.deviation
    if coding.name == "light_angle":
        return outputs * outputs.new_tensor([-1.0, 1.0])  # 180° less the angle
    return outputs


def join_facing(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Join class and facing to one kind, for which way a thing faces is seen by what it is."""
    joined = frame["class"].astype(str) + " " + frame[FACING].astype(str)
    return frame.assign(**{FACING: joined}).drop(columns="class")


def choose_codings(frame: "pd.DataFrame") -> tuple[Coding, ...]:
    """Choose how each factor is coded."""
    codings = []
    for name, values in join_facing(frame).items():
        kind = kind_of(str(name), values)
        if kind == "categorical":
            classes = tuple(sorted(set(values.astype(str))))
            if name == FACING:  # pairs, also where one of them is in no scene
                things = sorted(set(frame["class"].astype(str)))
                classes = tuple(f"{thing} {side}" for thing in things for side in ("left", "right"))
            codings.append(Coding(str(name), kind, classes))
        elif kind == "circular":
            codings.append(Coding(str(name), kind))
        else:
            mean, deviation = float(values.mean()), float(values.std())
            codings.append(Coding(str(name), kind, (), mean, deviation or 1.0))
    return tuple(codings)


def count_outputs(codings: tuple[Coding, ...]) -> int:
    """Count the outputs of all codings."""
    return sum(coding.width for coding in codings)
