"""Every family of timm's that has taps: each tap runs, in order, once, reads what it says, and
tokens stand where they should."""

import copy
import itertools
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models import networks, transformers
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.models.cnn import NAMED, CNNArch
from sslens.models.vit import ViTArch
from sslens.zoo.shapes import CNNShape, ViTShape

SMALL = {"embed_dim": 24, "num_heads": 2, "depth": 2, "img_size": 28}
PATCH16 = SMALL | {"img_size": 32}
ALL = ("norm1", "qkv", "fc1")
#: name in timm: settings that make it small, tokens before the patches, kinds in a block, whether a
#: final norm is there
FAMILIES: dict[str, tuple[dict[str, Any], int | None, tuple[str, ...], bool]] = {
    "vit_small_patch16_224": (PATCH16, 1, ALL, True),
    "vit_small_patch14_dinov2": (SMALL, 1, ALL, True),
    "vit_small_patch14_reg4_dinov2": (SMALL, 5, ALL, True),
    "vit_giant_patch14_reg4_dinov2": (SMALL, 5, ALL, True),
    "deit_tiny_distilled_patch16_224": (PATCH16, 2, ALL, True),
    "deit3_small_patch16_224": (PATCH16, 1, ALL, True),
    "vit_base_patch16_clip_quickgelu_224": (PATCH16, 1, ALL, True),
    "vit_base_patch16_siglip_224": (PATCH16, None, ALL, True),
    "vit_base_patch16_reg4_gap_256": (PATCH16, None, ALL, False),
    "beit3_base_patch16_224": (PATCH16, 1, ALL, False),
    "vit_base_patch16_rpn_224": (PATCH16, None, ("qkv", "fc1"), False),
    "vit_base_patch16_xp_224": (PATCH16, 1, (), True),
    "vit_base_patch16_18x2_224": (PATCH16, 1, (), True),
    "vit_small_patch16_dinov3": (PATCH16, 5, ALL, True),
    "vit_small_patch16_dinov3_qkvb": (PATCH16, 5, ALL, True),
    "vit_small_plus_patch16_dinov3": (PATCH16, 5, ("norm1", "qkv"), True),
    "eva_giant_patch14_clip_224": (SMALL, 1, ALL, True),
    "eva02_tiny_patch14_224": (SMALL, 1, ALL, False),
    "eva02_base_patch16_clip_224": (PATCH16, 1, ("norm1", "qkv"), True),
    "eva02_enormous_patch14_clip_224": (SMALL, 1, ("qkv", "fc1"), True),
    "vit_pe_core_base_patch16_224": (PATCH16, 1, ALL, True),
    "beit_base_patch16_224": (PATCH16, 1, ALL, False),
    "beitv2_base_patch16_224": (PATCH16, 1, ALL, False),
}
CNNS = {
    "resnet10t": {"channels": (8, 12, 16, 20)},
    "ecaresnet26t": {"channels": (8, 12, 16, 20)},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (4, 6, 8, 10)},
    "convnextv2_atto": {"depths": (1, 1, 1, 1), "dims": (4, 6, 8, 10)},
    "convnextv2_tiny": {"depths": (1, 1, 1, 1), "dims": (4, 6, 8, 10)},
}
tokens = pytest.mark.parametrize("name", FAMILIES)
every = pytest.mark.parametrize("name", [*FAMILIES, *CNNS])


def made(name: str) -> nn.Module:
    """A small one as timm makes it, with no weight at a value under which a mistake would not be
    seen."""
    settings = FAMILIES[name][0] if name in FAMILIES else CNNS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(name, num_classes=0, **settings)
        for parameter in network.parameters():
            if parameter.ndim < 2:
                parameter.data.add_(0.2 * torch.randn(parameter.shape))
    return network.eval()


def images(name: str) -> Tensor:
    size = FAMILIES[name][0]["img_size"] if name in FAMILIES else 64
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@every
def test_every_tap_runs_once_in_order_and_is_not_overwritten(name: str) -> None:
    network = networks.prepare(made(name))
    taps = networks.list_taps(network)
    ran: list[tuple[str, Tensor, Tensor]] = []
    for tap in taps:
        network.get_submodule(tap.name).register_forward_hook(
            lambda *a, tap=tap: ran.append((tap.name, a[2], a[2].clone()))
        )
    network.forward_features(images(name))
    assert [one for one, _, _ in ran] == [tap.name for tap in taps]
    assert all(torch.equal(kept, copied) for _, kept, copied in ran)
    assert [tap.depth for tap in taps] == sorted(tap.depth for tap in taps)


@every
def test_a_network_made_ready_computes_the_same(name: str) -> None:
    network = made(name)
    before = copy.deepcopy(network).double().forward_features(images(name).double())
    after = networks.prepare(network).double().forward_features(images(name).double())
    torch.testing.assert_close(
        after, before, rtol=0, atol=1e-6
    )  # rotary positions are kept in float32
    assert before.std() > 0.1


@tokens
def test_a_family_has_the_taps_that_it_can_have(name: str) -> None:
    _, prefix, kinds, norm = FAMILIES[name]
    network = networks.prepare(made(name))
    taps = networks.list_taps(network)
    assert [tap.kind for tap in taps] == 2 * [*kinds, "block"] + ["norm"] * norm
    assert networks.count_prefix_tokens(network) == prefix


@tokens
def test_taps_read_what_they_say(name: str) -> None:
    network = networks.prepare(made(name))
    came: dict[str, Tensor] = {}
    went: dict[str, Tensor] = {}
    for path, module in network.named_modules():
        module.register_forward_pre_hook(
            lambda _, a, path=path: came.update({path: a[0].clone()}) if a else None
        )
        module.register_forward_hook(lambda _, a, out, path=path: went.update({path: out.clone()}))
    features = network.forward_features(images(name))
    kinds = FAMILIES[name][2]
    assert torch.equal(went["blocks.0"], came["blocks.1"])
    assert torch.equal(went["blocks.1"], came["norm"])
    assert torch.equal(went["norm"], features)
    for i in range(2):
        if "norm1" in kinds:
            assert torch.equal(came[f"blocks.{i}.norm1"], came[f"blocks.{i}"])
            assert torch.equal(went[f"blocks.{i}.norm1"], came[f"blocks.{i}.attn"])
        if "qkv" in kinds:
            assert torch.equal(came[f"blocks.{i}.attn.qkv"], came[f"blocks.{i}.attn"])
            assert (
                went[f"blocks.{i}.attn.qkv"].shape[-1]
                == 3 * came[f"blocks.{i}.attn.proj"].shape[-1]
            )
        if "fc1" in kinds:
            assert torch.equal(came[f"blocks.{i}.mlp.fc1"], came[f"blocks.{i}.mlp"])


@tokens
def test_cls_is_the_first_token_and_patches_follow_the_prefix(name: str) -> None:
    network, x = networks.prepare(made(name)), images(name)
    came: list[Tensor] = []
    network.blocks[0].register_forward_pre_hook(lambda _, a: came.append(a[0].clone()))
    network.forward_features(x)
    patches = (x.shape[-1] // network.patch_embed.patch_size[0]) ** 2
    first = x.clone()
    first[:, :, :3, :3] += 1
    network.forward_features(first)
    prefix = networks.count_prefix_tokens(network)
    if prefix is not None:
        assert came[0].shape[1] == prefix + patches
        assert changed(*came) == [prefix]
        network.cls_token.data += torch.arange(24.0)
        network.forward_features(first)
        assert changed(*came[1:]) == [0]
    else:
        assert changed(*came) == [came[0].shape[1] - patches]


def changed(one: Tensor, other: Tensor) -> list[int]:
    return (one != other).any(-1).any(0).nonzero().flatten().tolist()


@pytest.mark.parametrize(
    "name", ["eva02_base_patch16_clip_224", "eva02_tiny_patch14_224", "beit_base_patch16_224"]
)
def test_the_joined_layer_gives_queries_keys_and_values(name: str) -> None:
    network = made(name)
    attention = network.blocks[1].attn
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(2))
    if attention.qkv is None:
        expected = torch.cat([attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)], -1)
    else:
        w = attention.qkv.weight.split(24)
        expected = torch.cat(
            [x @ w[0].T + attention.q_bias, x @ w[1].T, x @ w[2].T + attention.v_bias], -1
        )
    assert not any(tap.kind == "qkv" for tap in transformers.list_taps(network))
    transformers.join_qkv(network)
    assert any(tap.kind == "qkv" for tap in transformers.list_taps(network))
    torch.testing.assert_close(attention.qkv(x), expected, rtol=0, atol=1e-6)
    again = copy.deepcopy(network.state_dict())
    transformers.join_qkv(network)
    assert again.keys() == network.state_dict().keys()


@every
def test_the_digest_does_not_follow_use_but_follows_what_is_computed(name: str) -> None:
    network = networks.prepare(made(name))
    model = Backbone(
        network,
        name="x",
        source="x",
        taps=networks.list_taps(network),
        transform=EvalTransform(),
        prefix=None,
        about=About(),
    )
    before = model.digest
    model(images(name))
    assert model.digest == before
    for _, buffer in network.named_buffers():
        buffer.add_(1)
        assert model.digest != before


def test_a_cnn_has_no_tokens_and_no_head() -> None:
    for name in CNNS:
        network = networks.prepare(made(name))
        assert networks.count_prefix_tokens(network) is None
        assert not [key for key in network.state_dict() if key.startswith(("head", "fc"))]
        assert network.forward_features(images(name)).ndim == 4


def test_a_network_of_a_name_is_decided_by_its_seed() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (
        networks.create("test_vit", seed=seed).blocks[1].mlp.fc1.weight for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_of_other_classes_are_read_by_their_modules() -> None:
    network = networks.create("test_efficientnet", seed=0)
    assert networks.find_kind(network) == "cnn"
    assert networks.count_prefix_tokens(network) is None
    blocks = [tap.name for tap in networks.list_taps(network) if tap.kind == "block"]
    assert blocks[:2] == ["blocks.0.0", "blocks.1.0"]
    assert networks.find_kind(networks.create("test_vit_relpos", seed=0)) == "vit"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match='timm has no model "resnet55": did you mean resnet'):
        networks.create("resnet55")


# ------------------------------------------------------------------------------------------------
# names and shapes without timm


@pytest.mark.parametrize(
    "name",
    [
        *NAMED,
        "resnet_8x12x16x20_1x1x2x1_stem1_32",
        "bottleneck_16x6x8x10_2x1x1x1_stem1_64",
        "convnextv2_8x16x32x64_1x1x2x1_stem1_32",
        "resnet_8x12x16x20_1x1x2x1_64",
        "resnet_64x64x64x64_1x1x1x1",
        "bottleneck_16x6x8x10_2x1x1x1_64",
        "convnextv2_8x16x32x64_1x1x2x1_64",
    ],
)
def test_the_tensors_of_cnns_are_those_of_timm(name: str) -> None:
    require_same(CNNShape(CNNArch.parse(name)))


@pytest.mark.parametrize("hidden", [128, 100, 171])
@pytest.mark.parametrize("tokens_before", [(0, 0, 0), (1, 0, 0), (1, 2, 0), (1, 0, 1), (0, 2, 0)])
def test_the_tensors_of_transformers_are_those_of_timm(
    hidden: int, tokens_before: tuple[int, int, int]
) -> None:
    cls, registers, distilled = tokens_before
    arch = ViTArch(32, 16, 64, 2, 2)
    for gated, qkv, scale, norm, positions in itertools.product([False, True], repeat=5):
        shape = ViTShape(
            arch, hidden, gated, qkv, scale, norm, bool(cls), registers, bool(distilled), positions
        )
        require_same(shape)


@pytest.mark.parametrize(("dim", "hidden"), [(1280, 5120), (1408, 6144), (1536, 4096), (192, 700)])
def test_the_tensors_of_large_transformers_are_those_of_timm(dim: int, hidden: int) -> None:
    for gated in (False, True):
        require_same(ViTShape(ViTArch(32, 16, dim, 1, 8), hidden, gated))


def require_same(shape: ViTShape | CNNShape) -> None:
    built = {name: tuple(value.shape) for name, value in shape.empty().state_dict().items()}
    assert shape.list_tensors() == built
