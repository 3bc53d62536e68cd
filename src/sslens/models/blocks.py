"""How a network's blocks run in training: as they are, compiled, or computed again in the backward
pass, block by block."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any, final

import torch
from timm.models.beit import Block as BeitBlock
from timm.models.convnext import ConvNeXtBlock
from timm.models.eva import EvaBlock
from timm.models.resnet import BasicBlock, Bottleneck
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sslens.errors import InputError
from sslens.models import dit
from sslens.models.unet_blocks import Attention, ResBlock
from sslens.models.windowed import WindowBlock

#: what is compiled, or computed again, as one
BLOCKS = (
    *(Block, EvaBlock, BeitBlock, WindowBlock),
    *(BasicBlock, Bottleneck, ConvNeXtBlock),
    *(ResBlock, Attention, dit.Block),  # of generators
)
#: code that torch compiles for one kind of block, by widths, strides, crops' sizes, and with or
#: without gradient
VARIANTS = 64

Step = Callable[..., Tensor]


@final
@dataclass(frozen=True)
class Way:
    """How the blocks of a network run in training; in evaluation they always run as they are.

    Attributes:
        compile: run a block by code that torch generates, once for all blocks that are alike.
        recompute: keep only the block's inputs, and compute the rest again in the backward pass
            (Chen et al., 2016, arXiv:1604.06174). Gradients are the same bit for bit on a device
            that computes the same twice, as CPUs do.
    """

    compile: bool = False
    recompute: bool = False

    def run(self, function: Step, block: nn.Module, *arguments: Any, **named: Any) -> Tensor:
        """Compute function(block, *arguments) in this way."""
        if not block.training:
            return function(block, *arguments, **named)
        step = _compile_function(function) if self.compile else function
        if not (self.recompute and torch.is_grad_enabled()):
            return step(block, *arguments, **named)

        def contexts() -> tuple[
            contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]
        ]:
            return contextlib.nullcontext(), _keep_buffers(block)

        again: Tensor = checkpoint(
            step, block, *arguments, use_reentrant=False, context_fn=contexts, **named
        )
        return again


def set_block_runs(network: nn.Module, way: Way) -> int:
    """Set in place how all blocks of a network run, and return the number of blocks.

    No module is wrapped and nothing is renamed, so state dicts stay as they are.

    >>> from sslens.models.vit import ViTArch
    >>> network = ViTArch.parse("vit_nano_patch8_32").build()
    >>> before = list(network.state_dict())
    >>> set_block_runs(network, Way(recompute=True)), list(network.state_dict()) == before
    (4, True)
    """
    blocks = [module for module in network.modules() if isinstance(module, BLOCKS)]
    for block in blocks:
        for name, value in {"way": way, "forward": MethodType(_forward, block)}.items():
            setattr(block, name, value)
    return len(blocks)


def run_block(function: Step, block: nn.Module, *arguments: Any) -> Tensor:
    """Compute function(block, *arguments) in the way that was set for the block.

    It is for functions that use a block's parts instead of the block's `forward`.
    """
    way = getattr(block, "way", Way())
    result: Tensor = way.run(function, block, *arguments)
    return result


def require_compiler(device: str) -> None:
    """Compile a sum, to check that torch can compile.

    Raises:
        InputError: it cannot; torch needs a C++ compiler on a CPU, and Triton and a C compiler on a
            GPU.
    """
    try:
        torch.compile(_count_one_more)(torch.ones(2, device=device))
    except Exception as error:  # of Dynamo, of Inductor, of the compiler, of Triton
        wanted = (
            "Triton and a C compiler"
            if torch.device(device).type == "cuda"
            else "a C++ compiler (such as g++)"
        )
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"Code is generated for the blocks, for which torch wants {wanted} here and finds none"
            f" that works ({lines[0]})",
            mend="install it, or leave {compile} out",
        ) from error


def _count_one_more(x: Tensor) -> Tensor:
    return x + 1


def _forward(block: Any, *arguments: Any, **named: Any) -> Tensor:
    result: Tensor = block.way.run(type(block).forward, block, *arguments, **named)
    return result


@functools.cache
def _compile_function(function: Step) -> Step:
    """Compile a function of a block, so that equal blocks share their code."""
    import torch._dynamo  # seconds, for those who ask for it

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    torch._dynamo.config.optimize_ddp = (
        False  # which cuts graphs where gradients are exchanged: a block is short enough
    )
    return torch.compile(function)


@contextlib.contextmanager
def _keep_buffers(block: nn.Module) -> Iterator[None]:
    """Restore a block's buffers at the end, so that running statistics move once in a forward pass
    that is run twice."""
    own = [(module, dict(module._buffers)) for module in block.modules() if module._buffers]
    for module, buffers in own:
        module._buffers.update(
            {name: None if value is None else value.clone() for name, value in buffers.items()}
        )
    try:
        yield
    finally:
        for module, buffers in own:
            module._buffers.update(buffers)
