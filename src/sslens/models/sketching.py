"""Networks as sketches: their tensors have shapes, and no memory for values."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: methods of tensors with which weights are drawn, and which torch computes in Python without
#: memory
_DRAWS = frozenset({Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.clamp_})


@contextmanager
def sketch_networks() -> Iterator[None]:
    """Build networks without memory for their weights, on the meta device, in a `with` block.

    No weight is drawn there, which takes most of the time of a network's construction under
    `torch.device("meta")`: shapes, dtypes and names are the same as without this. A tensor that is
    built on another device in the block has its values.

    >>> with sketch_networks():
    ...     layer = torch.nn.Linear(10**6, 10**6)
    >>> layer.weight.device.type, tuple(layer.weight.shape)
    ('meta', (1000000, 1000000))
    """
    with torch.device("meta"), _Undrawn():
        yield


@final
class _Undrawn(TorchFunctionMode):
    """Returns a tensor without memory as it is where random numbers would be drawn into it."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", None) == nn.init.__name__:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
