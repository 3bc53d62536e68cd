"""What the modules of a network put out: the tensor in it, and where its tokens or places stand."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from torch import Tensor, nn

#: where a tensor is in a module's output: () is the output itself, (0,) the first of a tuple
Part: TypeAlias = tuple[int | str, ...]
#: the features that transformers' outputs hold before all others
FEATURES = "last_hidden_state"
_CLS = re.compile(r"(^|[._])(cls|class)_?(token|embed\w*|pos)")
_PREFIX = 32  # more tokens than this before the patches are no prefix


@final
@dataclass(frozen=True)
class Output:
    """How a tap's output is read, for one image.

    Attributes:
        shape: the shape for one image; empty where it is not known before a pass.
        before: the number of tokens before the patches.
        cls: whether the first of them is a CLS token.
        channels_last: whether a map is [row, column, channel] and not [channel, row, column].
        places: whether tokens or places stand in the rows and columns of the image.
        part: where the tensor is in the module's output.
    """

    shape: tuple[int, ...] = ()
    before: int = 0
    cls: bool = False
    channels_last: bool = False
    places: bool = True
    part: Part = ()

    @property
    def prefix(self) -> int | None:
        """The number of tokens before the patches, or None without a CLS token."""
        return self.before if self.cls else None


def find_part(output: Any, images: int) -> Part | None:
    """Find the tensor of features in a module's output: its last hidden state, or else the largest
    floating-point tensor with a row for each image; None where there is none.

    >>> import torch
    >>> find_part((torch.zeros(6, 9), torch.zeros(2, 3, 4)), images=2)
    (1,)
    >>> find_part(torch.zeros(2, 3), images=2), find_part([2, 3], images=2)
    ((), None)
    """
    best: tuple[Part, int] | None = None
    for part, value in _list_tensors(output, ()):
        fits = value.is_floating_point() and 2 <= value.ndim <= 4 and len(value) == images
        if not fits or not value.numel():
            continue
        if part == (FEATURES,):
            return part
        if best is None or value.numel() > best[1]:
            best = part, value.numel()
    return None if best is None else best[0]


def _list_tensors(value: Any, part: Part) -> Iterator[tuple[Part, Tensor]]:
    if isinstance(value, Tensor):
        yield part, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _list_tensors(inner, (*part, key))
    elif isinstance(value, tuple | list):
        for number, inner in enumerate(value):
            yield from _list_tensors(inner, (*part, number))


def take_part(output: Any, part: Part) -> Tensor:
    """Return the tensor at a place that `find_part` found.

    >>> import torch
    >>> take_part([1, {"x": torch.ones(1)}], (1, "x"))
    tensor([1.])
    """
    for step in part:
        output = output[step]
    tensor: Tensor = output
    return tensor


def has_cls(network: nn.Module) -> bool:
    """Whether a network has a CLS token, by the names of its weights.

    >>> import torch
    >>> network = nn.Module()
    >>> network.class_embedding = nn.Parameter(torch.zeros(4))
    >>> has_cls(network), has_cls(nn.Linear(1, 1))
    (True, False)
    """
    if hasattr(network, "cls_token"):  # timm's own word; None without
        return network.cls_token is not None
    return any(_CLS.search(name) for name, _ in network.named_parameters())


def count_before(network: nn.Module, tokens: int) -> int | None:
    """Count the tokens before a square grid of patches, where a tap has so many tokens; None where
    they are no square grid.

    timm's networks say the number; of others it is the smallest that leaves a square, where a
    network with a CLS token has at least one.

    >>> network = nn.Linear(1, 1)
    >>> count_before(network, 196), count_before(network, 201), count_before(network, 1)
    (0, 5, None)
    """
    said = getattr(network, "num_prefix_tokens", None)
    if isinstance(said, int):
        return next((k for k in (said, 0) if _is_square(tokens - k)), None)
    first = int(has_cls(network))
    counts = range(first, min(tokens, _PREFIX))
    # of a network with a CLS token some taps may still be without, as in XCiT
    return next((k for k in (*counts, 0) if _is_square(tokens - k)), None)


def _is_square(count: int) -> bool:
    return count > 1 and math.isqrt(count) ** 2 == count


def read_output(
    network: nn.Module, shape: tuple[int, ...], part: Part, prefix: int | None
) -> Output:
    """Tell how an output is read, by its shape for one image.

    Args:
        network: the whole network.
        shape: the output's shape for one image.
        part: where the tensor is in the output.
        prefix: the number of tokens before the patches, if the user said it.
    """
    if len(shape) == 3:
        last = is_channels_last(network, shape)
        rows, columns = shape[:2] if last else shape[1:]
        return Output(shape, channels_last=last, places=rows == columns, part=part)
    if len(shape) == 2:
        if prefix is not None and shape[0] > prefix:
            before: int | None = prefix
        else:
            before = count_before(network, shape[0])
        places = before is not None and _is_square(shape[0] - before)
        # windows in windows: its tokens stand in the order of its mask units
        places = places and not hasattr(network, "reroll")
        count = before or 0
        return Output(shape, count, _starts_with_cls(network, count), places=places, part=part)
    return Output(shape, places=False, part=part)


def _starts_with_cls(network: nn.Module, before: int) -> bool:
    """Whether the first of the tokens before the patches is CLS; a network that does not say what
    they are is taken to begin with it."""
    return before > 0 and (has_cls(network) or not hasattr(network, "cls_token"))


def is_channels_last(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a map of this shape has its channels last: the two equal sides are rows and columns;
    where all three are equal, what timm says of the network decides.

    >>> is_channels_last(nn.Identity(), (7, 7, 96)), is_channels_last(nn.Identity(), (96, 7, 7))
    (True, False)
    """
    first, second, third = shape
    if first == second != third:
        return True
    if second == third:
        return first == second and str(getattr(network, "output_fmt", "")).endswith("NHWC")
    # windows by tokens, as in NesT: no image has such sides
    return True
