"""Hooks at the taps of a model."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sslens.capture.keys import require_model
from sslens.errors import InputError, require_type
from sslens.models.backbone import Backbone
from sslens.models.outputs import Part, take_part
from sslens.models.taps import Tap


@contextlib.contextmanager
def visit_taps(
    model: Backbone, taps: Sequence[Tap], visit: Callable[[Tap, Tensor], None]
) -> Iterator[None]:
    """Call `visit` with the output of each tap as it is computed, within the block; the hooks are
    removed at the end of the block."""
    handles = []
    try:
        for tap in taps:
            part = model.output_of(tap).part

            def hook(
                _module: nn.Module, _args: Any, output: Any, tap: Tap = tap, part: Part = part
            ) -> None:
                visit(tap, take_part(output, part))

            handles.append(model.network.get_submodule(tap.name).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def activations(
    model: Backbone,
    x: Float[Tensor, "image channel height width"],
    taps: Sequence[str] | None = None,
) -> dict[str, Float[Tensor, "image ..."]]:
    """Return the outputs of the taps for one transformed batch of images, by tap name in the order
    of computation.

    Args:
        model: the model.
        x: images as `model.transform` prepares them.
        taps: the names of the taps; all unless given.

    Raises:
        InputError: a name is not a tap of the model, or `x` is not a batch of images.

    >>> import sslens
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> x, taps = torch.zeros(2, 3, 32, 32), ["blocks.3", "blocks.0.attn.qkv"]
    >>> {name: tuple(value.shape) for name, value in activations(model, x, taps).items()}
    {'blocks.0.attn.qkv': (2, 17, 192), 'blocks.3': (2, 17, 64)}
    """
    require_model(model)
    require_type(x, Tensor, "batch of images", "give a tensor [image, 3, height, width]")
    if x.ndim != 4:
        raise InputError(f"A batch is [image, 3, height, width], and not {list(x.shape)}.")
    outputs: dict[str, Tensor] = {}

    def keep(tap: Tap, output: Tensor) -> None:
        # some networks of other classes than ours rectify an output in place
        outputs[tap.name] = output.clone() if model.outputs else output

    # not in inference mode: its tensors could not be trained on
    with torch.no_grad(), visit_taps(model, model.pick(taps), keep):
        model(x)
    return outputs
