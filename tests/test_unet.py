"""The UNet of guided diffusion: its size, its names, and what it refuses."""

import dataclasses
import json

import pytest
import torch

from sslens.errors import InputError
from sslens.models.unet import PRESETS, UNetShape

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
        ({"attention": (3,)}, "No map has 3 places a side: the maps have 16, 8, 4."),
        ({"heads": 5}, "32 channels cannot be cut into heads: expected a multiple of 5."),
        ({"head_width": 48}, "32 channels cannot be cut into heads: expected a multiple of 48."),
        ({"blocks": 0}, "holds a number below 1"),
        ({"multipliers": ()}, "holds a number below 1"),
        ({"condition": 0}, "holds a number below 1"),
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
    with pytest.raises(InputError, match=r"The images have 32 px, and the generator .* 16 px"):
        network(torch.zeros(1, 3, 32, 32), times)
