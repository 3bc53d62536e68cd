"""The normalisation after attention, which is read on request alone."""

import numpy as np
import pytest
import torch

import sslens
from sslens.analyses.cka_layer_types import list_kinds
from sslens.capture import activations
from sslens.capture.keys import PassRequest
from sslens.errors import InputError
from sslens.plan import Plan
from sslens.study import Study

NANO = "random:vit_nano_patch8_32"


def test_it_is_no_usual_tap_and_is_read_where_it_is_named() -> None:
    model = sslens.load(NANO)
    assert not any("norm2" in name for name in model.taps)
    usual = [tap.name for tap in model.pick(None)]
    assert usual == list(model.taps)
    names = [tap.name for tap in model.pick(("norm2",))]
    assert [name for name in names if "norm2" not in name] == usual
    assert [name for name in names if "norm2" in name] == [f"blocks.{i}.norm2" for i in range(4)]
    order = [name for name in names if name.startswith("blocks.1")]
    assert order == [f"blocks.1{end}" for end in (".norm1", ".attn.qkv", ".norm2", ".mlp.fc1", "")]
    assert [tap.name for tap in model.pick(("blocks.1.norm2",))] == ["blocks.1.norm2"]
    with pytest.raises(InputError, match="norm2"):
        model.pick(("blocks.9.norm2",))


def test_it_is_the_normalised_sum_after_attention() -> None:
    model = sslens.load(NANO)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = activations(model, x, ["blocks.0", "blocks.1.norm2"])
    block = model.network.blocks[1]  # type: ignore[index, union-attr]
    with torch.inference_mode():
        before = seen["blocks.0"]
        expected = block.norm2(before + block.attn(block.norm1(before)))
    torch.testing.assert_close(seen["blocks.1.norm2"], expected)


def test_a_pass_of_the_usual_taps_has_the_key_it_had() -> None:
    model, images = sslens.load(NANO), sslens.open_images("scenes:0:8")
    plan = Plan.draw(images.ids, 8)
    usual, more = (
        PassRequest.of(model, images, plan, taps, "float32") for taps in (None, ("norm2",))
    )
    assert usual.taps == tuple(model.taps.values())
    assert len(more.taps) == len(usual.taps) + 4
    assert usual.seen == more.seen


def test_grams_of_the_usual_taps_are_the_same_beside_it() -> None:
    model, images = sslens.load(NANO), sslens.open_images("scenes:0:16")
    plan = Plan.draw(images.ids, 8)
    usual = sslens.grams(model, images, plan=plan)
    more = sslens.grams(model, images, plan=plan, taps=["norm2"])
    rows = [i for i, tap in enumerate(more.taps) if tap.kind != "norm2"]
    assert torch.equal(more.blocks[rows], usual.blocks)
    assert len(more.at("norm2").taps) == 4
    assert list_kinds({"m": more}) == ("norm1", "qkv", "fc1", "norm2")
    assert list_kinds({"m": usual}) == ("norm1", "qkv", "fc1")
    cka = sslens.minibatch_cka(more.at("norm2"), more.at("norm2"))
    np.testing.assert_allclose(cka.diagonal(), 1, atol=1e-9)


def test_cnns_have_none_and_are_read_as_ever() -> None:
    model = sslens.load("random:resnet_8x12x16x20_1x1x2x1_64")
    assert model.pick(("norm2",)) == model.pick(None)


def test_a_study_asks_for_it_and_is_written_as_ever_without() -> None:
    assert "taps" not in Study((NANO,), "scenes:0:8").yaml()
    assert "norm2" in Study((NANO,), "scenes:0:8", taps=("norm2",)).yaml()
    with pytest.raises(InputError, match="taps"):
        Study((NANO,), "scenes:0:8", taps=("norm3",))
