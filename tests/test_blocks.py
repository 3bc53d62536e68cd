"""Blocks that are computed again or compiled: the same numbers, less kept, nothing renamed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.resnet import BasicBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch._inductor import config as inductor

from forks import forked
from runs import CASES, IMAGES, KINDS, SETTINGS, arch_of, method_of
from sslens.errors import InputError
from sslens.find import plugin
from sslens.methods import Rows
from sslens.methods.labels import with_classes
from sslens.models.arch import parse
from sslens.models.blocks import BLOCKS, Way, require_compiler, run_block, set_block_runs
from sslens.models.sketching import sketch_networks
from sslens.models.vit import ViTArch
from sslens.recipes import recipe


def minibatch(case: str) -> dict[str, Tensor]:
    objective = KINDS[case][0]
    settings = with_classes(objective, SETTINGS[case], IMAGES)
    assert IMAGES.labels is not None
    rows = Rows(0, 0, slice(0, 8), 8, tuple(IMAGES.labels[:8].tolist()))
    made: dict[str, Tensor] = plugin("objectives", objective).batch(
        [IMAGES.image(row) for row in range(8)], settings, parse(arch_of(case)), rows
    )
    return made


def kept_for_backward(function: Callable[[], Tensor], parameters: Any) -> tuple[Tensor, int]:
    """What a function returns, and the bytes that its graph keeps besides parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = function()
    return out, sum(x.untyped_storage().nbytes() for x in kept.values())


@pytest.mark.parametrize("case", CASES)
def test_recomputed_blocks_keep_their_inputs_alone_and_give_the_same_bit_for_bit(case: str) -> None:
    plain, batch = method_of(case), minibatch(case)
    again = copy.deepcopy(plain)
    assert set_block_runs(again, Way(recompute=True)) >= 4
    assert list(again.state_dict()) == list(plain.state_dict())
    runs: dict[str, int] = {}
    for name, module in again.named_modules():
        if isinstance(module, BLOCKS):
            inner = next(
                child for child in module.modules() if isinstance(child, nn.Linear | nn.Conv2d)
            )
            inner.register_forward_hook(
                lambda *_args, name=name: runs.update({name: runs.get(name, 0) + 1})
            )
    losses, sizes = [], []
    for method in (plain, again):
        loss, size = kept_for_backward(lambda method=method: method(batch), method.parameters())
        losses.append(loss)
        sizes.append(size)
    forward = dict(runs)
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    assert any(runs[name] == 2 * forward[name] for name in runs)
    assert all(runs[name] in (forward[name], 2 * forward[name]) for name in runs)
    assert sizes[1] < (0.95 if case.endswith("-on-resnet") else 0.75) * sizes[0], (
        sizes
    )  # stems are most of small ResNets
    for (name, wanted), got in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert (wanted.grad is None) == (got.grad is None), name
        if wanted.grad is not None and got.grad is not None:
            assert torch.equal(wanted.grad, got.grad), name
    for (name, wanted), got in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(wanted, got), name


@pytest.mark.parametrize("kind", ["dropout", "batch norm"])
def test_what_is_random_or_counts_in_a_block_happens_once(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "dropout":
        network, x = (
            nn.Sequential(*(Block(16, 2, proj_drop=0.5, attn_drop=0.3) for _ in range(2))),
            torch.randn(3, 5, 16),
        )
    else:
        network, x = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4)), torch.randn(3, 4, 6, 6)
    again = copy.deepcopy(network)
    set_block_runs(again, Way(recompute=True))
    found = []
    for each in (network, again):
        torch.manual_seed(7)
        loss = each(x).square().mean()
        loss.backward()
        found.append([loss, torch.rand(1), *(p.grad for p in each.parameters()), *each.buffers()])
    assert len(found[0]) == len(found[1])
    for wanted, got in zip(*found, strict=True):
        assert torch.equal(wanted, got)
    if kind == "batch norm":
        assert again[0].bn1.num_batches_tracked.item() == 1


def test_in_evaluation_and_without_gradient_blocks_run_as_they_are() -> None:
    network = ViTArch.parse("vit_nano_patch16_32").build(0)
    set_block_runs(network, Way(recompute=True))
    copied = copy.deepcopy(network).eval()
    assert copied.blocks[0].forward.__self__ is copied.blocks[0]
    with torch.no_grad():
        for block in copied.blocks:
            block.attn.qkv.weight.zero_()
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(copied(x), network.eval()(x))
    sizes = [
        kept_for_backward(
            lambda mode=mode: copied.train(mode).forward_features(x).sum(), copied.parameters()
        )[1]
        for mode in (True, False)
    ]
    assert sizes[0] < sizes[1] / 2
    with torch.no_grad():
        assert torch.equal(network.train()(x), network.eval()(x))


@pytest.mark.parametrize("preset", ["small32", "fast32"])
def test_a_generator_has_blocks_that_are_computed_again_or_compiled(preset: str) -> None:
    shape = recipe("diffusion", preset).settings.shape(8)
    with sketch_networks():
        network = shape.build()
    assert set_block_runs(network, Way(recompute=True)) >= shape.blocks


def test_what_is_made_of_a_blocks_parts_goes_its_way_too() -> None:
    seen = []

    def twice(block: nn.Module, x: Tensor) -> Tensor:
        seen.append(block)
        out: Tensor = block.get_submodule("mlp")(x) * 2
        return out

    block, x = Block(8, 2), torch.randn(2, 3, 8)
    run_block(twice, block, x).sum().backward()
    wanted = block.mlp.fc1.weight.grad.clone()
    block.zero_grad()
    set_block_runs(block, Way(recompute=True))
    run_block(twice, block, x).sum().backward()
    assert torch.equal(block.mlp.fc1.weight.grad, wanted)
    assert len(seen) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # Dynamo itself looks at it
def test_compiled_blocks_compute_the_same_but_for_rounding_at_all_sizes() -> None:
    """In a process of its own: compiled code has autograd begin threads, after which no forked
    process of another test could train."""
    assert forked(_compare_compiled) == [0]


def _compare_compiled() -> None:
    plain = ViTArch.parse("vit_64x2_patch16_32").build(0).train()
    other = copy.deepcopy(plain)
    set_block_runs(other, Way(compile=True))
    assert list(other.state_dict()) == list(plain.state_dict())
    for size in ((3, 5, 64), (7, 9, 64), (2, 17, 64)):
        x = torch.randn(size)
        outs = [network.blocks(x).square().mean() for network in (plain, other)]
        for out in outs:
            out.backward()
        torch.testing.assert_close(outs[1], outs[0], rtol=1e-5, atol=1e-6)
    for wanted, got in zip(plain.blocks.parameters(), other.blocks.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_told_so(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(inductor.cpp, "cxx", ("/nowhere/g++",))
    assert forked(_require_no_compiler) == [0]  # as above


def _require_no_compiler() -> None:
    with pytest.raises(
        InputError,
        match=r"^Code is generated .* a C\+\+ compiler .*: install it, or leave compile out\.$",
    ) as said:
        require_compiler("cpu")
    assert "\n" not in str(said.value)
