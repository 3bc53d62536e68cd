"""The names of the changes of images to which a representation may be blind, with their strengths,
which are checked before anything heavy is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from sslens.errors import InputError, nearest


@final
@dataclass(frozen=True)
class Strength:
    """How strong a transform may be.

    Attributes:
        usual: the strength unless another is given.
        low, high: the smallest and the largest strength that make sense.
        what: what the strength is, with its unit.
        whole: whether it is a whole number.
    """

    usual: float
    low: float
    high: float
    what: str
    whole: bool = False


#: a transform that is made or not made has no other strength
_ON = Strength(1.0, 1.0, 1.0, "made, or not made")
#: the strength of every transform, by its name; the first eleven are made unless others are asked
STRENGTHS: Mapping[str, Strength] = {
    "horizontal-flip": _ON,
    "vertical-flip": _ON,
    "rotation": Strength(30.0, 1.0, 180.0, "degrees, counterclockwise"),
    "shift": Strength(0.125, 0.01, 0.5, "share of the side, to the right"),
    "scale": Strength(1.25, 1.01, 4.0, "times as large"),
    "hue": Strength(90.0, 1.0, 180.0, "degrees on the colour circle"),
    "grey": _ON,
    "contrast": Strength(0.5, 0.05, 0.99, "times the contrast"),
    "blur": Strength(0.03, 0.005, 0.25, "standard deviation of the Gaussian, share of the side"),
    "occlusion": Strength(0.4, 0.05, 0.95, "side of the covered square, share of the image's"),
    "patch-shuffle": Strength(4.0, 2.0, 16.0, "squares along a side", whole=True),
    "noise": Strength(0.1, 0.001, 1.0, "standard deviation, white is 1"),
    "crop": Strength(0.75, 0.1, 0.99, "side of the part that is shown, share of the image's"),
}
#: what is made unless something else is asked for
USUAL = tuple(STRENGTHS)[:11]


def parse_transform(text: str) -> tuple[str, float]:
    """Read the name and the strength of a transform from "rotation" or "rotation=45".

    Raises:
        InputError: there is no such transform, or its strength is no number or out of its range.

    >>> parse_transform("rotation=45"), parse_transform("grey")
    (('rotation', 45.0), ('grey', 1.0))
    >>> parse_transform("rotate")
    Traceback (most recent call last):
    sslens.errors.InputError: There is no transform "rotate": did you mean rotation?
    """
    name, equals, value = text.partition("=")
    if name not in STRENGTHS:
        raise InputError(f'There is no transform "{name}": {nearest(name, STRENGTHS)}')
    if not equals:
        return name, float(STRENGTHS[name].usual)
    try:
        strength = float(value)
    except ValueError:
        raise InputError(
            f'The strength of "{text}" is no number: expected {name}=NUMBER, such as'
            f" {name}={STRENGTHS[name].usual:g}."
        ) from None
    require_strength(name, strength)
    return name, strength


def parse_transforms(texts: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """Read several transforms; the usual eleven where none is given.

    Raises:
        InputError: one of them cannot be read, or is there twice.

    >>> len(parse_transforms(())), parse_transforms(("shift", "shift=0.25"))
    (11, (('shift', 0.125), ('shift', 0.25)))
    """
    transforms = tuple(parse_transform(text) for text in texts or USUAL)
    for name, strength in transforms:
        if transforms.count((name, strength)) > 1:
            raise InputError(
                f"The transform {name} with the strength {strength:g} is given twice",
                mend="leave one out of {transforms}",
            )
    return transforms


def label_transform(name: str, strength: float) -> str:
    """Name a transform for a reader, with its strength where it is not the usual one.

    >>> label_transform("vertical-flip", 1.0), label_transform("rotation", 45.0)
    ('vertical flip', 'rotation 45')
    """
    label = name.replace("-", " ")
    return label if strength == STRENGTHS[name].usual else f"{label} {strength:g}"


def require_strength(name: str, strength: float) -> None:
    """Refuse a strength that makes no sense.

    Raises:
        InputError: it is out of the transform's range, or not a whole number where one is needed.
    """
    known = STRENGTHS[name]
    fits = known.low <= strength <= known.high and (not known.whole or strength == round(strength))
    if not fits:
        number = "a whole number" if known.whole else "a number"
        between = (
            "1, for it has no other strength"
            if known.low == known.high
            else f"{number} from {known.low:g} to {known.high:g} ({known.what})"
        )
        raise InputError(f"The strength of {name} is {strength:g}: give {between}.")
