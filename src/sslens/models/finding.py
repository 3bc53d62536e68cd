"""The taps of any network: its blocks, and in them the normalisation before the attention, queries,
keys and values, and the first layer of the MLP."""

import math
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from sslens.models.outputs import Output, read_output
from sslens.models.structure import find_blocks, is_leaf
from sslens.models.taps import Tap
from sslens.models.tracing import Call

#: the names of a block's first and second normalisation in timm, torchvision, Hugging Face's
#: transformers and open_clip
NORM1 = ("norm1", "ln_1", "ln1", "layernorm_before", "layer_norm1")
NORM2 = ("norm2", "ln_2", "ln2", "layernorm_after", "layer_norm2")
#: parts of the names of what mixes tokens or places
_MIXERS = ("attn", "attention", "mixer")
#: the names of MLPs, and of the first layer where a block has no MLP by name
_MLPS = ("mlp", "ffn", "feed_forward", "intermediate", "mlp_channels")
_FC1 = ("fc1", "linear1", "c_fc", "lin1", "dense")


def find_taps(network: nn.Module, calls: Mapping[str, Call]) -> list[Tap]:
    """Find the taps of a network in the order of computation; a tap in block i of L has the depth
    (i + 1) / L.

    | kind | tap |
    |---|---|
    | stem | what the first block is given, where that is a map |
    | norm1 | the normalisation before a block's attention or mixer |
    | qkv | queries, keys and values, where they are one layer |
    | norm2 | the normalisation before the MLP, in blocks with `norm1` |
    | fc1 | the first layer of the MLP |
    | block | the output of a block |
    | norm | the normalisation after the last block |

    Args:
        network: the network.
        calls: what `sslens.models.tracing.trace` returned.
    """
    blocks = find_blocks(network, calls)
    taps = list(_find_ends(calls, blocks))
    for i, block in enumerate(blocks):
        depth = (i + 1) / len(blocks)
        inner = {
            name.removeprefix(f"{block}."): call
            for name, call in calls.items()
            if name.startswith(f"{block}.") and call.is_readable
        }
        for kind, name in _find_kinds(calls[block], inner):
            taps.append(Tap(f"{block}.{name}", kind, depth))
        taps.append(Tap(block, "block", depth))
    unique = {tap.name: tap for tap in reversed(taps)}
    return sorted(unique.values(), key=lambda tap: calls[tap.name].order)


def _find_kinds(block: Call, inner: Mapping[str, Call]) -> Iterator[tuple[str, str]]:
    """The kinds of taps in a block, with their names in it."""
    norm1 = next((name for name in NORM1 if name in inner), None)
    if norm1 is not None and _comes_first(block, norm1, inner):
        yield "norm1", norm1
        norm2 = next((name for name in NORM2 if name in inner), None)
        if norm2 is not None:
            yield "norm2", norm2
    for name, call in inner.items():
        if name.rpartition(".")[2] == "qkv" and _is_layer(call.module):
            yield "qkv", name
    fc1 = _find_fc1(inner)
    if fc1 is not None:
        yield "fc1", fc1


def _comes_first(block: Call, norm1: str, inner: Mapping[str, Call]) -> bool:
    """Whether a normalisation comes before what mixes tokens, and not after."""
    mixers = [
        call.order
        for name, call in inner.items()
        if any(word in name.partition(".")[0].lower() for word in _MIXERS)
    ]
    if mixers:
        return inner[norm1].order < min(mixers)
    return inner[norm1].given is block.given


def _find_fc1(inner: Mapping[str, Call]) -> str | None:
    """The first layer of the MLP: by its name, or the first layer of the module of that name."""
    # squeeze-and-excitation has layers of these names too, after a pooling
    layers = [
        name for name, call in inner.items() if _is_layer(call.module) and call.shape[1:] != (1, 1)
    ]
    named = [name for name in layers if name.rpartition(".")[2] in _FC1]
    in_mlp = [name for name in layers if set(name.split(".")[:-1]) & set(_MLPS)]
    both = [name for name in named if name in in_mlp]
    return next(iter(both or in_mlp or [n for n in named if not n.endswith("dense")]), None)


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is a linear layer, or a convolution of single places."""
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _find_ends(calls: Mapping[str, Call], blocks: Sequence[str]) -> Iterator[Tap]:
    """The stem and the final normalisation."""
    if not blocks:
        return
    first, last = calls[blocks[0]], calls[blocks[-1]]
    in_block = tuple(f"{block}." for block in blocks)
    if first.given is not None and first.given.ndim == 4 and not is_leaf(first.module):
        stems = [
            call
            for call in calls.values()
            if call.order < first.order
            and call.output is first.given
            and call.is_readable
            and not call.name.startswith(in_block)
            and not isinstance(call.module, nn.Identity | nn.Dropout)
        ]
        # of a sequence and its last module, which put out the same tensor, the sequence
        if stems:
            yield Tap(stems[-1].name, "stem", 0.0)
    norms = [
        call.name
        for call in calls.values()
        if call.order > last.order
        and call.is_readable
        and len(call.shape) > 1
        and is_leaf(call.module)
        and "norm" in type(call.module).__name__.lower()
        and not call.name.startswith(in_block)
        and any(_are_as_large(call, calls[block]) for block in blocks)
        and _stands_after(call.name, blocks[-1])
    ]
    if norms:
        yield Tap(min(norms, key=lambda name: name.count(".")), "norm", 1.0)


def _stands_after(name: str, block: str) -> bool:
    """Whether a module is a child of the network, of one of its children, or of what the block is
    in; others belong to layers of their own."""
    parent = name.rpartition(".")[0]
    return name.count(".") < 2 or block.startswith(f"{parent}.")


def _are_as_large(one: Call, other: Call) -> bool:
    """Whether two outputs are of the same size, but for a CLS token."""
    return abs(math.prod(one.shape) / math.prod(other.shape) - 1) < 0.1


def read_outputs(
    network: nn.Module, calls: Mapping[str, Call], taps: Sequence[Tap], prefix: int | None = None
) -> dict[str, Output]:
    """Tell how the output of each tap is read.

    Args:
        network: the network.
        calls: what `sslens.models.tracing.trace` returned.
        taps: the taps.
        prefix: the number of tokens before the patches, if the user said it.
    """
    return {
        tap.name: read_output(network, calls[tap.name].shape, calls[tap.name].part, prefix)
        for tap in taps
    }
