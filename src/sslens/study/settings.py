"""The settings that Python's functions take by name, beside what each of them is about.

A function says `**settings: Unpack[…]`, so that an editor and mypy know the names; a name that is
none of them is refused with the nearest.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from sslens.errors import InputError, nearest

if TYPE_CHECKING:
    from sslens.comparisons.own_claims import OwnClaim


class PassSettings(TypedDict, total=False):
    """How the images are taken and passed.

    Attributes:
        seed: decides which images are drawn, and all else that is random; 0 unless given.
        on_bad: "stop" at an image that cannot be decoded, or "skip" it.
        device: "cpu", "cuda", "cuda:1", …; "auto" takes a GPU where there is one.
        precision: of the forward pass: "float32", "bfloat16", "float16" or "auto".
    """

    seed: int
    on_bad: str
    device: str
    precision: str


class KnnSettings(PassSettings, total=False):
    """How the images are taken and passed, and drawn.

    Attributes:
        sample: how images are drawn, "stratified" by class, or "plain".
    """

    sample: str


class StudySettings(PassSettings, total=False):
    """The other settings of a study, as `sslens.Study` has them.

    Attributes:
        tokens: whose Grams are compared, some of "all" (flattened), "cls" and "patch".
        batch: the number of images in a minibatch of CKA.
        sample: how images are drawn, "stratified" by class unless given, or "plain", as for
            fingerprints.
        grid: how probes are trained: "converged", to their optimum; "paper" or "small".
        taps: kinds of layers that are read beside the usual ones, such as "norm2".
        side: the side in pixels of the images of dense tasks.
        generator: the folder or file of a diffusion model that makes images from features.
        require_blurred: whether faces must be blurred.
        transforms: what is done to images to see what models are blind to.
        decode: whether these are also decoded.
        detection: how detectors are trained.
        any_transform: whether fingerprints are compared where models saw other parts of images.
        groups: two groups of models by name, for claims about these.
        claims: claims of your own.
    """

    tokens: Sequence[str]
    batch: int
    sample: str
    grid: str
    taps: Sequence[str]
    side: int | None
    generator: str | None
    require_blurred: bool
    transforms: Sequence[str]
    decode: bool
    detection: Sequence[str]
    any_transform: bool
    groups: Mapping[str, Sequence[str]]
    claims: "Sequence[OwnClaim]"


class ProbeSettings(TypedDict, total=False):
    """How probes are trained.

    Attributes:
        taps: names of layers, or "all"; the last one unless given.
        pooling: "cls", "mean", "patch" or "flat"; the first that the last layer has unless given.
        layers: numbers of layers of the probe; 1 is linear.
        with_last: whether each layer is also probed together with the last one.
        grid: "converged"; "paper", the papers' 216 points; or "small", 8 points.
        few_shot: shares of the labels with which probes are trained as well.
        draws: the number of draws of each share.
        factors: whether the factors of generated scenes are decoded too.
        augment: whether probes are trained on random crops and flips.
        top: an image is right when its class is among so many.
        batch: the number of images in a step; chosen by their number unless given.
        limit: the largest number of images taken of each set.
        seed, device, precision: as in `PassSettings`.
    """

    taps: str | Sequence[str]
    pooling: str | Sequence[str]
    layers: int | Sequence[int]
    with_last: bool
    grid: str
    few_shot: Sequence[float]
    draws: int
    factors: bool
    augment: bool
    top: int
    batch: int | None
    limit: int | None
    seed: int
    device: str
    precision: str


def collect_settings(
    settings: Mapping[str, Any], kind: type, function: Callable[..., Any] | None = None
) -> Mapping[str, Any]:
    """Return settings with tuples in the place of lists and of single values where several may be.

    Args:
        settings: what was given.
        kind: the `TypedDict` that says the names.
        function: the function that takes them, of which other arguments may be meant.

    Raises:
        InputError: a name is none of them; the nearest is offered.

    >>> collect_settings({"layers": 2, "seed": 1, "taps": ["norm"]}, ProbeSettings)
    {'layers': (2,), 'seed': 1, 'taps': ('norm',)}
    >>> collect_settings({"lairs": 2}, ProbeSettings)
    Traceback (most recent call last):
    sslens.errors.InputError: There is no setting "lairs": did you mean layers?
    """
    hints = kind.__annotations__
    arguments = inspect.signature(function).parameters if function is not None else ()
    for name in settings:
        if name not in hints:
            every = {*hints, *arguments} - {"settings"}
            raise InputError(f'There is no setting "{name}": {nearest(name, every)}')
    return {name: _gather(value, str(hints[name])) for name, value in settings.items()}


def _gather(value: Any, hint: str) -> Any:
    if "Sequence[" not in hint or "Mapping[" in hint:
        return value
    return tuple(value) if isinstance(value, list | tuple | range) else (value,)
