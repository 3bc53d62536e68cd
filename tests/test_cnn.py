"""CNNs: their shapes against timm's and torchvision's, their blocks against the papers' formulas,
their taps."""

import itertools
import math

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models import cnn, convolutions
from sslens.models.about import About
from sslens.models.backbone import Backbone
from sslens.models.cnn import SIZES, SMALL, CNNArch

TINY = {
    "resnet": CNNArch("resnet", (1, 2, 1, 1), (8, 12, 16, 20)),
    "bottleneck": CNNArch("resnet", (2, 1, 1, 1), (4, 6, 8, 10), bottleneck=True),
    "convnextv2": CNNArch("convnextv2", (1, 2, 1, 1), (4, 6, 8, 10)),
    "resnet-small": CNNArch("resnet", (1, 2, 1, 1), (8, 12, 16, 20), stem=1),
    "bottleneck-small": CNNArch("resnet", (2, 1, 1, 1), (4, 6, 8, 10), bottleneck=True, stem=1),
    "convnextv2-small": CNNArch("convnextv2", (1, 2, 1, 1), (4, 6, 8, 10), stem=1),
}
tiny = pytest.mark.parametrize("arch", TINY.values(), ids=TINY)


def started(network: nn.Module) -> nn.Module:
    """No parameter at a value, such as zero, under which a mistake would not be seen."""
    generator = torch.Generator().manual_seed(3)
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith("running_var"):
            value.data.uniform_(0.5, 2, generator=generator)
        elif value.ndim == 1 or "grn" in name:
            value.data.add_(0.3 * torch.randn(value.shape, generator=generator).to(value))
    return network.eval()


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize("name", SIZES)
def test_every_size_has_timms_weights(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = SIZES[name].build(), timm.create_model(name, num_classes=0)
    expected = {key: shape for key, shape in shapes(theirs).items() if not key.startswith("head.")}
    found = shapes(ours)
    assert found.keys() == expected.keys()
    # timm has 1 × 1 convolutions where the smaller ConvNeXt-V2 have linear layers
    assert {
        key: shape for key, shape in found.items() if math.prod(shape) != math.prod(expected[key])
    } == {}
    assert found == {key: shape[:2] if "mlp" in key else shape for key, shape in expected.items()}


def test_resnet50_has_torchvisions_weights() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.resnet50()
        ours = CNNArch.parse("resnet50").build()
    assert shapes(ours) == {k: v for k, v in shapes(theirs).items() if not k.startswith("fc.")}


@pytest.mark.parametrize("arch", [TINY["resnet"], TINY["bottleneck"]], ids=["basic", "bottleneck"])
def test_a_resnet_computes_what_torchvisions_does_at_every_block(arch: CNNArch) -> None:
    kind = (
        torchvision.models.resnet.Bottleneck
        if arch.bottleneck
        else torchvision.models.resnet.BasicBlock
    )
    ours = started(arch.build(0)).double()
    theirs = torchvision.models.ResNet(kind, list(arch.blocks))
    inplanes = 64
    theirs.inplanes = inplanes
    for i, (count, width) in enumerate(zip(arch.blocks, arch.widths, strict=True)):
        setattr(
            theirs, f"layer{i + 1}", theirs._make_layer(kind, width, count, stride=min(i + 1, 2))
        )
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    theirs.double().eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names = [tap.name for tap in convolutions.list_taps(ours)]
    one, other = (read(network, names, x) for network in (ours, theirs))
    for name in names:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-12)
        assert one[name].std() > 0.01


def read(network: nn.Module, names: list[str], x: Tensor) -> dict[str, Tensor]:
    """What the modules of these names put out, kept at once by copy."""
    found = {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda *a, name=name: found.update({name: a[2].clone()})
        )
    (getattr(network, "forward_features", None) or network)(x)
    return found


@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_small_resnet_is_torchvisions_without_its_first_strides(bottleneck: bool) -> None:
    arch = TINY["bottleneck-small" if bottleneck else "resnet-small"]
    kinds = torchvision.models.resnet
    kind = kinds.Bottleneck if bottleneck else kinds.BasicBlock
    ours = started(arch.build(0)).double()
    theirs = torchvision.models.ResNet(kind, list(arch.blocks))
    theirs.conv1 = nn.Conv2d(3, arch.widths[0], 3, stride=1, padding=1, bias=False)
    theirs.bn1, theirs.maxpool = nn.BatchNorm2d(arch.widths[0]), nn.Identity()
    theirs.inplanes = arch.widths[0]
    for i, (count, width) in enumerate(zip(arch.blocks, arch.widths, strict=True)):
        stage = theirs._make_layer(kind, width, count, stride=min(i + 1, 2))
        setattr(theirs, f"layer{i + 1}", stage)
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = theirs.double().eval()(x)
    found = convolutions.pool(ours, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", SMALL)
def test_a_cnn_for_small_images_keeps_four_by_four_places(name: str) -> None:
    arch = CNNArch.parse(f"{name}_32")
    network = arch.build(0).eval()
    assert network.forward_features(torch.zeros(1, 3, 32, 32)).shape[2:] == (4, 4)
    assert sum(parameter.numel() for parameter in network.parameters()) < 1.2e6
    assert sum(arch.blocks) == 6  # as vit_mini, for depths that stand side by side


def test_a_convnextv2_block_is_the_papers() -> None:
    network = started(TINY["convnextv2"].build(0)).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = read(
        network, ["stages.1.blocks.0", "stages.1.blocks.1.mlp.fc1", "stages.1.blocks.1"], x
    )
    block, before = network.get_submodule("stages.1.blocks.1"), found["stages.1.blocks.0"]
    padded = nn.functional.pad(before, (3, 3, 3, 3))
    h, w = before.shape[2:]
    mixed = block.conv_dw.bias.view(1, -1, 1, 1) + sum(
        block.conv_dw.weight[None, :, 0, i, j, None, None] * padded[:, :, i : i + h, j : j + w]
        for i in range(7)
        for j in range(7)
    )
    z = mixed.permute(0, 2, 3, 1)
    z = (z - z.mean(-1, keepdim=True)) / (z.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    z = z * block.norm.weight + block.norm.bias
    z = z @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    torch.testing.assert_close(found["stages.1.blocks.1.mlp.fc1"], z, rtol=0, atol=1e-12)
    z = z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    # global response normalisation (Woo et al., 2023, eq. 1–3), with the residual of their
    # algorithm 1
    size = z.square().sum((1, 2), keepdim=True).sqrt()
    z = (
        block.mlp.grn.weight * (z * (size / (size.mean(-1, keepdim=True) + 1e-6)))
        + block.mlp.grn.bias
        + z
    )
    z = z @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
    torch.testing.assert_close(
        found["stages.1.blocks.1"], before + z.permute(0, 3, 1, 2), rtol=0, atol=1e-12
    )


@tiny
def test_a_tap_reads_what_is_not_overwritten_later(arch: CNNArch) -> None:
    network = started(arch.build(0))
    kept, copied = {}, {}
    for tap in convolutions.list_taps(network):
        module = network.get_submodule(tap.name)
        module.register_forward_hook(lambda *a, tap=tap: kept.update({tap.name: a[2]}))
        module.register_forward_hook(lambda *a, tap=tap: copied.update({tap.name: a[2].clone()}))
    network.forward_features(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert list(kept) == [tap.name for tap in convolutions.list_taps(network)]
    for name, value in kept.items():
        assert torch.equal(value, copied[name])


@tiny
def test_taps_stand_at_every_block(arch: CNNArch) -> None:
    taps = list(convolutions.list_taps(arch.build()))
    assert (taps[0].kind, taps[0].depth) == ("stem", 0.0)
    blocks = [tap for tap in taps if tap.kind == "block"]
    assert [tap.depth for tap in blocks] == [
        (i + 1) / sum(arch.blocks) for i in range(sum(arch.blocks))
    ]
    assert {tap.kind for tap in taps} == {"stem", "block"} | (
        {"fc1"} if arch.kind == "convnextv2" else set()
    )
    features = arch.build(0).eval().forward_features(torch.zeros(2, 3, 64, 64))
    places = 64 // arch.patch_size
    assert features.shape == (2, arch.channels, places, places)


def test_the_papers_cnns_have_their_blocks() -> None:
    with torch.device("meta"):
        names = {
            name: [t.name for t in convolutions.list_taps(SIZES[name].build())]
            for name in ("resnet50", "convnextv2_base")
        }
    assert len(names["resnet50"]) == 1 + 16
    assert names["resnet50"][-3:] == ["layer4.0", "layer4.1", "layer4.2"]
    assert len(names["convnextv2_base"]) == 1 + 2 * 36
    assert names["convnextv2_base"][-2:] == ["stages.3.blocks.2.mlp.fc1", "stages.3.blocks.2"]


@tiny
def test_a_seed_decides_the_weights_and_leaves_the_process_random_numbers_alone(
    arch: CNNArch,
) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (arch.build(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


@tiny
def test_no_block_of_a_random_network_is_idle(arch: CNNArch) -> None:
    network = arch.build(0).eval()
    names = [tap.name for tap in convolutions.list_taps(network) if tap.kind == "block"]
    found = list(
        read(
            network, names, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        ).values()
    )
    for one, next_ in itertools.pairwise(found):
        if one.shape == next_.shape:
            assert (next_ - one).norm() > 0.01 * one.norm()


@tiny
def test_an_arch_survives_a_header(arch: CNNArch) -> None:
    described = cnn.describe(arch)
    assert all(isinstance(value, (str, int, list)) for value in described.values())
    assert CNNArch(**described) == arch
    assert CNNArch.parse(arch.name) == arch


@tiny
def test_a_backbone_of_it_has_an_identity(arch: CNNArch) -> None:
    one, same, other = (
        Backbone(
            network := arch.build(seed),
            name="cnn",
            source="cnn",
            taps=list(convolutions.list_taps(network)),
            transform=EvalTransform(),
            prefix=None,
            about=About(),
        )
        for seed in (1, 1, 2)
    )
    assert one.digest == same.digest != other.digest
    before = one.digest
    one(torch.randn(2, 3, 64, 64))
    assert one.digest == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnext", (1, 1, 1, 1), (4, 4, 4, 4)), 'no CNN "resnext": did you mean resnet'),
        (("resnet", (1, 1, 1), (4, 4, 4, 4)), r"blocks are \(1, 1, 1\): give four"),
        (
            ("resnet", (1, 1, 1, 1), (4, 4, 4, 4), False, 100),
            r"images of 100 px .* Give a multiple of 32",
        ),
        (("convnextv2", (1, 1, 1, 1), (4, 4, 0, 4)), r"widths are \(4, 4, 0, 4\): give four"),
        (
            ("convnextv2", (1, 1, 1, 1), (4, 4, 4, 4), False, 32, 2),
            "stride of 2 px: expected",
        ),
        (("resnet", (1, 1, 1, 1), (5, 4, 4, 4), False, 32, 1), "5 channels wide at first"),
        (("resnet", (1, 1, 1, 1), (4, 4, 4, 4), False, 36, 1), "Give a multiple of 8"),
    ],
)
def test_an_impossible_arch_is_refused(arguments: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        CNNArch(*arguments)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean convnextv2_base"):
        CNNArch.parse("convnextv2_bas")
