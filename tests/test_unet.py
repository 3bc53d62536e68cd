"""The UNet of guided diffusion: its size, its names, and what it refuses."""

import dataclasses
import json

import pytest
import torch
from torch import Tensor

from sslens.errors import InputError
from sslens.models.unet import PRESETS, UNetShape
from sslens.models.unet_blocks import Attention

SMALL = UNetShape(16, 32, 1, (1, 2), attention=(8,), condition=10)


def test_the_official_network_has_the_authors_tensors() -> None:
    with torch.device("meta"):
        state = UNetShape.named("rcdm_128", condition=2048).build().state_dict()
    assert len(state) == 494
    assert sum(value.numel() for value in state.values()) == 422_603_782
    assert state["ssl_emb.weight"].shape == (1024, 2048)
    assert state["input_blocks.7.1.qkv.weight"].shape == (3 * 512, 512, 1)
    assert state["output_blocks.2.2.in_layers.2.weight"].shape == (1024, 1024, 3, 3)
    assert state["out.2.weight"].shape == (6, 256, 3, 3)


@pytest.mark.parametrize("name", PRESETS)
def test_a_shape_is_json(name: str) -> None:
    shape = UNetShape.named(name, condition=192)
    assert UNetShape(**json.loads(json.dumps(dataclasses.asdict(shape)))) == shape


def test_a_new_network_predicts_nothing() -> None:
    images, times = torch.randn(2, 3, 16, 16), torch.tensor([0.5, 999])
    predicted = SMALL.build(seed=0)(images, times, torch.randn(2, 10))
    assert torch.equal(predicted, torch.zeros(2, 6, 16, 16))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 18}, "Images of 18 px cannot be halved 2 times: give a size of 4, 8, …."),
        ({"width": 40}, "The width is 40: expected a multiple of 32"),
        ({"attention": (3,)}, "No map has 3 places a side: the maps have 16, 8, 4: give"),
        ({"heads": 5}, "32 channels cannot be cut into heads: expected a multiple of 5."),
        ({"head_width": 48}, "32 channels cannot be cut into heads: expected a multiple of 48."),
        ({"blocks": 0}, "The blocks are 0: expected 1 or more."),
        ({"blocks": 10**20}, "expected 4,096 or less"),
        ({"multipliers": ()}, "has no level: give settings.multipliers a list"),
        ({"condition": 0}, "The condition is 0"),
        ({"width": -3}, "The width is -3: expected 32 or more."),
        ({"multipliers": (1, 0)}, "The multipliers hold 0: expected 1 or more each."),
        ({"dropout": 1.0}, "The dropout is 1.0"),
        ({"fold": 3}, "cannot be halved 2 times in squares of 3 px: give a size of 12, 24, …."),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changed: dict, message: str) -> None:  # type: ignore[type-arg]
    shape = UNetShape(16, 32, 1, (1, 1, 1), attention=(16,))
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        dataclasses.replace(shape, **changed)


def test_no_other_name_is_a_preset() -> None:
    with pytest.raises(InputError, match="did you mean rcdm_128"):
        UNetShape.named("rcdm128")


def test_a_condition_of_another_width_is_refused() -> None:
    network, times = SMALL.build(), torch.zeros(1)
    images = torch.zeros(1, 3, 16, 16)
    with pytest.raises(InputError, match=r"width of 12, .* for representations of width 10"):
        network(images, times, torch.zeros(1, 12))
    blind = dataclasses.replace(SMALL, condition=None).build()
    with pytest.raises(InputError, match="for no representation"):
        blind(images, times, torch.zeros(1, 12))
    with pytest.raises(InputError, match="and none is given: training never leaves them out"):
        network(images, times)
    with pytest.raises(InputError, match=r"The images have 32 px, and the generator .* 16 px"):
        network(torch.zeros(1, 3, 32, 32), times, torch.zeros(1, 10))


def test_bfloat16_is_near_float32() -> None:
    """The embedding and the last layer stay float32, and all gradients are finite."""
    network = UNetShape(16, 32, 1, (1, 2), attention=(16, 8), condition=10).build(seed=0)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn(value.shape) * 0.05)
    images, times, features = torch.randn(4, 3, 16, 16), torch.arange(4) * 300, torch.randn(4, 10)
    exact = network(images, times, features)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(images, times, features)
        assert network.embed(times, features).dtype == torch.float32
    assert rough.dtype == torch.float32
    assert float(((rough - exact).abs().mean() / exact.abs().mean()).detach()) < 0.02
    rough.square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(
        value.grad is not None and value.grad.isfinite().all() for value in network.parameters()
    )


def test_the_way_without_a_gradient_computes_the_same() -> None:
    """Channels lie last in memory there."""
    network = UNetShape(16, 32, 1, (1, 2), attention=(8,), condition=10).build(seed=0).double()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn(value.shape) * 0.05)
    images, times = torch.randn(2, 3, 16, 16).double(), torch.tensor([0.0, 700.0])
    features = torch.randn(2, 10).double()
    exact = network(images, times, features)
    with torch.no_grad():
        assert torch.allclose(network(images, times, features), exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("learns", [False, True])
def test_attention_in_bfloat16_is_that_in_float32(learns: bool) -> None:
    layer = Attention(64, heads=2)
    layer.proj_out.weight.data.normal_()
    x = torch.randn(2, 64, 4, 4)
    with torch.set_grad_enabled(learns), torch.autocast("cpu", torch.bfloat16):
        rough = layer(x)
    exact = layer(x)
    assert float(((rough - exact).abs().max() / exact.abs().max()).detach()) < 0.02


def test_attention_is_its_equation() -> None:
    layer, (rows, columns) = Attention(64, heads=2).double(), (3, 5)
    layer.proj_out.weight.data.normal_()
    p = {name: value.detach() for name, value in layer.named_parameters()}
    x = torch.randn(1, 64, rows, columns, dtype=torch.float64)
    normal = torch.nn.functional.group_norm(x, 32, p["norm.weight"], p["norm.bias"])
    mixed = p["qkv.weight"][:, :, 0] @ normal[0].flatten(1) + p["qkv.bias"][:, None]
    heads = []
    for part in mixed.split(96):  # a head: its q, its k, its v
        q, k, v = part.split(32)
        heads.append(v @ (q.T @ k / 32**0.5).softmax(1).T)
    out = p["proj_out.weight"][:, :, 0] @ torch.cat(heads) + p["proj_out.bias"][:, None]
    assert torch.allclose(layer(x)[0].flatten(1), x[0].flatten(1) + out, atol=1e-12)


class Echo(torch.nn.Module):
    """Puts out what a network's first convolution is given."""

    def __init__(self, first: torch.nn.Module) -> None:
        super().__init__()
        self.seen = torch.empty(0)
        first.register_forward_pre_hook(self.keep)

    def keep(self, _module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen = inputs[0]

    def forward(self, _x: Tensor) -> Tensor:
        return self.seen


def test_folded_pixels_come_back_in_place() -> None:
    shape = UNetShape(8, 32, 1, (1,), attention=(), learned_variance=False, fold=2)
    network = shape.build(seed=0)
    images, times = torch.randn(1, 3, 8, 8), torch.zeros(1)
    assert torch.equal(network(images, times), torch.zeros(1, 3, 8, 8))
    network.out = torch.nn.Sequential(Echo(network.input_blocks[0]))
    assert torch.equal(network(images, times), images)
    seen = network.out[0].seen
    assert isinstance(seen, Tensor)
    assert torch.equal(seen[0, 4:8, 1, 2], images[0, 1, 2:4, 4:6].flatten())
