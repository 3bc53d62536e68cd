"""The mean and the standard deviation by which a training normalised its images, where settings in
a checkpoint file tell them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from sslens.zoo.told import PATCH, SIDE, list_groups

#: names of the two settings; by the later ones they are of images whatever stands beside them
NAMES = (("mean", "std"), ("image_mean", "image_std"), ("img_mean", "img_std"))
#: settings beside which a mean and a deviation are those of images
IMAGES = (*SIDE, *PATCH, "input_size", "crop_size", "resize_size", "in_chans", "num_channels")
#: the largest number that is a mean or a deviation of channels in any scale
LARGEST = 1 << 16
#: the smallest deviation of images with values from 0 to 1; initialisations have smaller ones
LEAST = 0.05


@final
@dataclass(frozen=True)
class ToldColours:
    """The colours that one group of settings tells.

    Attributes:
        where: the keys that lead to it ("hyper_parameters"); empty for the top of the file.
        mean, std: of the three channels.
        doubt: why they are not taken; empty where they are.
    """

    where: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    doubt: str = ""

    @property
    def said(self) -> str:
        """What the file says, and why it is not taken.

        >>> ToldColours("args", (0.5,) * 3, (0.5,) * 3).said
        'args in the file says mean (0.5, 0.5, 0.5) and std (0.5, 0.5, 0.5)'
        """
        start = f"{self.where} in the file" if self.where else "the file"
        end = f", which are not taken: {self.doubt}" if self.doubt else ""
        return f"{start} says mean {self.mean} and std {self.std}{end}"

    @property
    def transform(self) -> Mapping[str, tuple[float, ...]]:
        """The settings of the evaluation transform; none where the colours are not taken."""
        return {} if self.doubt else {"mean": self.mean, "std": self.std}


def find_colours(tree: Any) -> ToldColours | None:
    """Find the colours of images in what a file holds; None where no settings tell any.

    They are taken where they are named after images or stand beside a size of images, are numbers
    of values from 0 to 1, and are told but once, or alike.

    >>> find_colours({"args": {"mean": 0.5, "std": 0.25, "img_size": 64}}).transform
    {'mean': (0.5, 0.5, 0.5), 'std': (0.25, 0.25, 0.25)}
    >>> find_colours({"args": {"mean": 0.5, "std": 0.25}}).doubt
    'no size of images stands beside them'
    """
    told = [one for group in list_groups(tree) for one in _read_group(*group)]
    usable = [one for one in told if not one.doubt]
    if len({(one.mean, one.std) for one in usable}) > 1:
        first = usable[0]
        other = next(one for one in usable if one.transform != first.transform)
        return replace(first, doubt=other.said)
    return next(iter([*usable, *told]), None)


def read_colours(told: Any) -> ToldColours | None:
    """Read colours of the form that `dataclasses.asdict` gives them; None of anything else.

    >>> read_colours({"where": "args", "mean": [0.5] * 3, "std": [0.2] * 3, "doubt": ""})
    ToldColours(where='args', mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), doubt='')
    """
    if not isinstance(told, Mapping):
        return None
    mean, std = (_read_channels(told.get(name)) for name in NAMES[0])
    if mean is None or std is None or min(std) <= 0:
        return None
    return ToldColours(str(told.get("where", "")), mean, std, str(told.get("doubt", "")))


def _read_group(where: str, entries: Mapping[Any, Any]) -> Iterator[ToldColours]:
    for names in NAMES:
        mean, std = (_read_channels(entries.get(name)) for name in names)
        if mean is None or std is None or min(std) <= 0:
            continue
        doubt = ""
        if not (min(mean) >= 0 and max(mean + std) <= 1 and min(std) >= LEAST):
            doubt = "they are not of values from 0 to 1"
        elif names == NAMES[0] and not any(name in entries for name in IMAGES):
            doubt = "no size of images stands beside them"
        yield ToldColours(where, mean, std, doubt)


def _read_channels(value: Any) -> tuple[float, ...] | None:
    """Three numbers, or one for all channels; None of anything else."""
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(numbers) not in (1, 3):
        return None
    if not all(type(one) in (int, float) and abs(one) < LARGEST for one in numbers):
        return None
    return tuple(float(one) for one in numbers) * (3 // len(numbers))
