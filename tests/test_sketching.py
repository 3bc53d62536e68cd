"""Sketches of networks: their tensors are those of the networks, but for values."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sslens.find import names, plugin
from sslens.models.arch import parse
from sslens.models.sketching import sketch_networks
from sslens.models.unet import UNetShape
from sslens.zoo.tables import fill_tables

SMALL = {"embed_dim": 24, "num_heads": 2, "depth": 2, "num_classes": 3}
#: networks of timm that draw their weights in ways of their own, and what makes them small
TIMM: dict[str, dict[str, Any]] = {
    "vit_small_patch14_reg4_dinov2": SMALL | {"img_size": 28},
    "vit_small_patch16_dinov3": SMALL,
    "eva02_tiny_patch14_224": SMALL | {"img_size": 28},
    "beit_base_patch16_224": SMALL | {"img_size": 32},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1), "embed_dim": 24},
    "hiera_tiny_224": {"stages": (1, 1, 1, 1), "embed_dim": 24, "num_heads": 1},
    "convnextv2_atto": {"depths": (1, 1, 1, 1)},
    "resnet10t": {},
}
ARCHS = {
    "vit": "vit_nano_patch16_32",
    "resnet": "resnet_8x12x16x20_1x1x1x1_64",
    "convnextv2": "convnextv2_8x16x32x64_1x1x2x1_64",
}
#: operations of torch with which weights are drawn
DRAWS = {"uniform_", "normal_", "erfinv_", "clamp_", "trunc_normal_"}
NETWORKS = [*TIMM, *names("objectives"), "unet"]


class Operations(TorchDispatchMode):
    """The names of all of torch's operations in a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def maker(name: str) -> Callable[[], nn.Module]:
    if name in TIMM:
        return lambda: timm.create_model(name, **TIMM[name])
    if name == "unet":
        return UNetShape(32, 32, 1, (1, 2), (16,)).build
    objective = plugin("objectives", name)
    settings = objective.Settings()
    if hasattr(settings, "classes"):
        settings = replace(settings, classes=("a", "b"))
    return lambda: objective.Objective(parse(ARCHS[objective.KINDS[0]]), settings)


def describe(network: nn.Module) -> dict[str, tuple[Any, ...]]:
    kept = network.state_dict().keys()  # without buffers that are not persistent
    tensors = (*network.named_parameters(), *network.named_buffers())
    return {
        name: (
            type(value),
            value.shape,
            value.stride(),
            value.dtype,
            value.requires_grad,
            name in kept,
        )
        for name, value in tensors
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sketch_has_the_tensors_of_the_network_and_none_is_drawn(name: str) -> None:
    network = maker(name)()
    with Operations() as operations, sketch_networks():
        sketch = maker(name)()
    assert describe(sketch) == describe(network)
    assert [type(each) for each in sketch.modules()] == [type(each) for each in network.modules()]
    assert not operations.names & DRAWS
    assert all(value.is_meta for value in sketch.state_dict().values())
    tables = dict(fill_tables(sketch).named_buffers())
    for key, value in network.named_buffers():
        if key not in network.state_dict():
            assert torch.equal(tables[key], value), key


def test_what_is_built_on_another_device_is_drawn() -> None:
    def build() -> nn.Module:
        torch.manual_seed(3)
        return timm.create_model("vit_small_patch16_224", **SMALL, img_size=32, device="cpu")

    with sketch_networks():
        inside = build()
        with torch.device("cpu"):
            own = nn.Linear(5, 4)
        drawn = nn.init.normal_(torch.zeros(4, device="cpu"))
    assert drawn.count_nonzero() == 4
    assert 0 < own.weight.std() < 1
    outside = build()
    for key, value in outside.state_dict().items():
        assert torch.equal(inside.state_dict()[key], value), key


def test_weights_are_drawn_again_after_a_sketch_and_its_failure() -> None:
    with pytest.raises(ZeroDivisionError), sketch_networks():
        raise ZeroDivisionError
    weight = torch.empty(8, device="meta")
    with Operations() as operations:
        weight.normal_()
    assert "normal_" in operations.names
    assert not nn.Linear(5, 4).weight.is_meta
