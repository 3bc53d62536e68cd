"""FCMAE: sparse arithmetic computed place by place, numbers of the authors' code, and what may and
may not be seen."""

import contextlib
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from sslens.data.streams import mask_noise
from sslens.errors import InputError
from sslens.models.cnn import CNNArch
from sslens.models.masked import _respond, compute_masked_features
from sslens.objectives import fcmae
from sslens.training.gradients import backward

ARCH = CNNArch.parse("convnextv2_8x16x32x64_1x1x2x1_64")
WIDE = dataclasses.replace(ARCH, image_size=96)
#: its stem does not make small images smaller
SMALL = dataclasses.replace(ARCH, image_size=24, stem=1)
SETTINGS = fcmae.Settings(decoder_dim=24)
#: of 9 patches 3 are seen: a corner alone, two neighbours in a row, two in a column
SEEN = torch.tensor(
    [[[1, 0, 0], [0, 0, 1], [1, 0, 0]], [[1, 1, 0], [0, 0, 0], [0, 0, 1]]], dtype=torch.bool
)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is else float32 is float64."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


def made(arch: CNNArch = ARCH, **settings: Any) -> fcmae.Objective:
    """In float64, with no parameter at a value, such as zero, under which a mistake would not be
    seen."""
    torch.manual_seed(0)
    objective = fcmae.Objective(arch, dataclasses.replace(SETTINGS, **settings)).double().train()
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return objective


# ------------------------------------------------------------------------------------------------
# sparse arithmetic


Places = dict[tuple[int, int, int], np.ndarray]


def normalised(x: np.ndarray, norm: nn.Module) -> np.ndarray:
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])


def block_by_hand(block: nn.Module, places: Places, together: bool) -> Places:
    """A block on a dictionary of the places that are seen, by image, row and column; no other place
    exists."""
    kernel, bias = (
        value.detach().numpy() for value in (block.conv_dw.weight[:, 0], block.conv_dw.bias)
    )
    fc1, grn, fc2 = block.mlp.fc1, block.mlp.grn, block.mlp.fc2
    hidden: Places = {}
    for n, y, x in places:
        mixed = bias.copy()
        for i in range(-3, 4):
            for j in range(-3, 4):
                if (n, y + i, x + j) in places:
                    mixed += kernel[:, i + 3, j + 3] * places[n, y + i, x + j]
        mixed = normalised(mixed, block.norm)
        hidden[n, y, x] = gelu(fc1.weight.detach().numpy() @ mixed + fc1.bias.detach().numpy())
    out: Places = {}
    for at, h in hidden.items():
        pool = [value for other, value in hidden.items() if together or other[0] == at[0]]
        lengths = np.sqrt(np.sum(np.square(pool), axis=0))
        scale = lengths / (lengths.mean() + 1e-6)
        h = h + grn.weight.detach().numpy() * h * scale + grn.bias.detach().numpy()
        out[at] = places[at] + fc2.weight.detach().numpy() @ h + fc2.bias.detach().numpy()
    return out


def by_hand(network: ConvNeXt, images: np.ndarray, seen: np.ndarray, together: bool) -> Places:
    """The last features of the seen patches."""
    stem, norm = network.stem
    side = stem.kernel_size[0]
    places: Places = {}
    for n, row, column in np.argwhere(seen).tolist():
        for y in range(8 * row, 8 * row + 8):
            for x in range(8 * column, 8 * column + 8):
                rows, columns = (slice(side * at, side * (at + 1)) for at in (y, x))
                pixels = images[n, :, rows, columns]
                value = (
                    np.einsum("ocij,cij->o", stem.weight.detach().numpy(), pixels)
                    + stem.bias.detach().numpy()
                )
                places[n, y, x] = normalised(value, norm)
    for number, stage in enumerate(network.stages):
        if number:
            norm, convolution = stage.downsample
            kernel = convolution.weight.detach().numpy()
            fewer: Places = {}
            for n, y, x in sorted({(n, y // 2, x // 2) for n, y, x in places}):
                value = convolution.bias.detach().numpy().copy()
                for i in range(2):
                    for j in range(2):
                        value += kernel[:, :, i, j] @ normalised(
                            places[n, 2 * y + i, 2 * x + j], norm
                        )
                fewer[n, y, x] = value
            places = fewer
        for block in stage.blocks:
            places = block_by_hand(block, places, together)
    return places


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("arch", [WIDE, SMALL], ids=["patches of 32 px", "of 8 px"])
def test_it_is_a_sparse_network_in_float64(arch: CNNArch, together: bool) -> None:
    network = made(arch).encoder
    images = torch.randn(2, 3, arch.image_size, arch.image_size, dtype=torch.float64)
    wanted = by_hand(network, images.numpy(), SEEN.numpy(), together)
    got = compute_masked_features(network, images, SEEN, together=together).detach()
    assert not got.permute(0, 2, 3, 1)[~SEEN].any()
    assert len(wanted) == SEEN.sum() == 6
    for (n, y, x), value in wanted.items():
        np.testing.assert_allclose(got[n, :, y, x], value, rtol=0, atol=1e-10 * np.abs(value).max())
    other = compute_masked_features(network, images, SEEN, together=not together).detach()
    assert (got - other).abs().max() > 1e-3 * got.abs().max()


@pytest.mark.usefixtures("double")
def test_with_all_seen_and_each_image_by_itself_it_is_the_dense_network() -> None:
    network = made().encoder
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    seen = torch.ones(2, 2, 2, dtype=torch.bool)
    got = compute_masked_features(network, images, seen, together=False)
    torch.testing.assert_close(got, network.forward_features(images), rtol=1e-12, atol=1e-12)


def test_responses_by_hand() -> None:
    grn = made().encoder.stages[0].blocks[0].mlp.grn
    grn.weight.data, grn.bias.data = (
        torch.tensor([1.0, 1.0]).double(),
        torch.tensor([0.5, 0.0]).double(),
    )
    hidden = torch.tensor([[3.0, 0.0], [4.0, 0.0]]).double().requires_grad_()
    # lengths (5, 0), their mean 2.5, N = (2, 0): 3 + 3 · 2 + 0.5 and 4 + 4 · 2 + 0.5
    got = _respond(grn, hidden, 1)
    np.testing.assert_allclose(got.detach(), [[9.5, 0.0], [12.5, 0.0]], rtol=0, atol=1e-5)
    got.sum().backward()  # the root has no gradient at 0
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()
    # each image by itself: lengths (3, 0) and (4, 0), N = (2, 0) of both
    np.testing.assert_allclose(
        _respond(grn, hidden, 2).detach(), [[9.5, 0.0], [12.5, 0.0]], rtol=0, atol=1e-5
    )


# ------------------------------------------------------------------------------------------------
# the authors' numbers


def waves(name: str, parameter: Tensor, number: int) -> Float[Tensor, "..."]:
    """Values by a formula: 0.3 sin(0.7 j + i) for value j of parameter i, and 1 more for the
    weights of layer norms."""
    wave = 0.3 * torch.sin(
        0.7 * torch.arange(parameter.numel(), dtype=torch.float64) + number
    ).view(parameter.shape)
    return (
        wave + 1 if parameter.ndim == 1 and name.endswith("weight") and "grn" not in name else wave
    )


@pytest.mark.usefixtures("double")
def test_loss_and_gradients_are_those_of_the_authors_code() -> None:
    """Their FCMAE and SparseConvNeXtV2 in float64, on a sparse tensor library written for the
    comparison, gave these numbers."""
    objective = made()
    with torch.no_grad():
        for number, (name, parameter) in enumerate(objective.named_parameters()):
            parameter.copy_(waves(name, parameter, number))
    view = torch.cos(1.3 * torch.arange(2 * 3 * 64 * 64, dtype=torch.float64)).view(2, 3, 64, 64)
    noise = torch.tensor([[0.5, 0.1, 0.8, 0.3], [0.2, 0.9, 0.4, 0.6]], dtype=torch.float64)
    loss = objective({"view": view, "noise": noise})
    np.testing.assert_allclose(loss.item(), 3.755328409382649, rtol=1e-10)
    loss.backward()
    for name, norm in {
        "encoder.stem.0.weight": 0.09515095220948414,
        "encoder.stages.2.blocks.1.mlp.grn.weight": 0.006649639660214488,
        "encoder.stages.3.downsample.1.weight": 1.0737554414844452,
        "mask_token": 2.498227913744069,
        "decoder.0.conv_dw.weight": 4.615581593450791,
    }.items():
        gradient = objective.get_parameter(name).grad
        assert gradient is not None
        np.testing.assert_allclose(gradient.norm().item(), norm, rtol=1e-9)


def test_it_decays_what_the_authors_code_does() -> None:
    objective = made()
    by_id = {id(p): name for name, p in objective.named_parameters()}
    groups = objective.parameter_groups()
    decayed, free = ({by_id[id(p)] for p in group["params"]} for group in groups)
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]
    norms = {name for name in by_id.values() if "grn" in name}
    assert len(norms) == 2 * 6  # five blocks and the decoder's
    assert norms | {"mask_token", "embed.weight", "encoder.stem.0.weight"} <= decayed
    layers = {
        f"{name}.weight"
        for name, module in objective.named_modules()
        if isinstance(module, nn.LayerNorm)
    }
    assert free == layers | {name for name in by_id.values() if name.endswith(".bias")} - norms


def test_it_initialises_as_the_released_code() -> None:
    torch.manual_seed(0)
    objective = fcmae.Objective(
        dataclasses.replace(ARCH, widths=(32, 32, 64, 64)), fcmae.Settings(decoder_dim=64)
    )
    # a normal distribution cut at two deviations has a deviation of 0.8796; 0.02 is cut at 100
    unit, network = 0.8796, objective.encoder
    wanted = {
        network.stem[0]: unit,
        network.stages[1].downsample[1]: 0.02,
        network.stages[1].blocks[0].conv_dw: unit,
        network.stages[1].blocks[0].mlp.fc1: unit,
        network.stages[1].blocks[0].mlp.fc2: unit,
        objective.embed: unit,
        objective.predict: unit,
        objective.decoder[0].conv_dw: unit,
        objective.decoder[0].mlp.fc1: (
            1 / math.sqrt(3 * 64)
        ),  # as torch makes it: uniform within 1 / √in
    }
    for layer, deviation in wanted.items():
        np.testing.assert_allclose(
            layer.weight.std().item(), deviation, rtol=0.05, err_msg=str(layer)
        )
    assert not network.stages[1].blocks[0].conv_dw.bias.any()
    assert not network.stages[1].blocks[0].mlp.grn.weight.any()
    np.testing.assert_allclose(objective.mask_token.std().item(), 0.02, rtol=0.3)


# ------------------------------------------------------------------------------------------------
# what is seen


def test_it_sees_19_of_49_patches() -> None:
    objective = made(dataclasses.replace(ARCH, image_size=224)).float()
    assert objective.kept == 19
    seen: list[int] = []
    for block in (objective.encoder.stages[0].blocks[0], objective.encoder.stages[3].blocks[0]):
        block.norm.register_forward_hook(
            lambda _module, inputs, _out: seen.append(inputs[0].shape[0])
        )
    noise = mask_noise(0, 0, slice(0, 2), total=2, patches=49)
    objective({"view": torch.randn(2, 3, 224, 224), "noise": noise})
    assert seen == [2 * 19 * 64, 2 * 19]


def test_it_cannot_see_masked_pixels() -> None:
    objective = made(WIDE).float()
    view, noise = torch.randn(2, 3, 96, 96), torch.rand(2, 9)
    order = noise.argsort(dim=1)
    seen = torch.zeros(2, 9, dtype=torch.bool).scatter(1, order[:, :3], True).view(2, 3, 3)
    other = view.clone()
    other[~seen.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None].expand_as(view)] = 9.0
    assert torch.equal(
        compute_masked_features(objective.encoder, view, seen),
        compute_masked_features(objective.encoder, other, seen),
    )
    assert (
        objective({"view": view, "noise": noise}).item()
        != objective({"view": other, "noise": noise}).item()
    )


@pytest.mark.usefixtures("double")
def test_the_decoder_has_the_mask_token_where_nothing_is_seen() -> None:
    objective = made(WIDE, decoder_blocks=0)
    features = torch.randn(2, 64, 3, 3, dtype=torch.float64)
    predicted = objective.decode(features, SEEN).unflatten(1, (3, 3))
    token = objective.predict(objective.mask_token[0, 0, 0])
    torch.testing.assert_close(predicted[~SEEN], token.expand(12, -1), rtol=0, atol=1e-12)
    wanted = objective.predict(objective.embed(features[1, :, 2, 2]))
    torch.testing.assert_close(predicted[1, 2, 2], wanted, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("normalise", [True, False])
def test_its_loss_is_the_error_on_masked_patches(
    monkeypatch: pytest.MonkeyPatch, normalise: bool
) -> None:
    objective = made(WIDE, normalise_pixels=normalise)
    view, noise = (
        torch.randn(2, 3, 96, 96, dtype=torch.float64),
        torch.rand(2, 9, dtype=torch.float64),
    )
    predicted = torch.randn(2, 9, 3072, dtype=torch.float64)
    monkeypatch.setattr(fcmae.Objective, "decode", lambda *_: predicted)
    errors = []
    for image, scores, guess in zip(view.numpy(), noise.numpy(), predicted.numpy(), strict=True):
        for at in np.argsort(scores)[3:].tolist():
            row, column = 32 * (at // 3), 32 * (at % 3)
            target = image[:, row : row + 32, column : column + 32].transpose(1, 2, 0).reshape(-1)
            if normalise:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            errors.append(np.mean((guess[at] - target) ** 2))
    assert len(errors) == 12
    np.testing.assert_allclose(
        objective({"view": view, "noise": noise}).item(), np.mean(errors), rtol=1e-12
    )


# ------------------------------------------------------------------------------------------------
# a minibatch in parts


@pytest.mark.usefixtures("double")
def test_with_responses_of_each_image_a_step_in_parts_is_the_step() -> None:
    view, noise = (
        torch.randn(4, 3, 96, 96, dtype=torch.float64),
        torch.rand(4, 9, dtype=torch.float64),
    )
    parts = [{"view": view[at : at + 2], "noise": noise[at : at + 2]} for at in (0, 2)]
    apart = {}
    for responses in fcmae.RESPONSES:
        whole, parted = (made(WIDE, responses=responses) for _ in range(2))
        whole({"view": view, "noise": noise}).backward()
        backward(parted, parts, 2, contextlib.nullcontext())
        pairs = zip(whole.parameters(), parted.parameters(), strict=True)
        apart[responses] = max(
            float((a.grad - b.grad).abs().max() / a.grad.abs().max()) for a, b in pairs
        )
        assert whole.divisible is (responses == "image")
    assert apart["image"] < 1e-10
    assert apart["minibatch"] > 1e-3  # which the loop therefore refuses


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mask_ratio": 0.0}, "mask_ratio is 0.0: expected a share above 0 and below 1"),
        ({"mask_ratio": 1.0}, "mask_ratio is 1.0"),
        ({"responses": "images"}, 'responses is "images": did you mean image'),
        ({"decoder_dim": 0}, "cannot be built: give 0 or more and 1 or more"),
        ({"decoder_blocks": -1}, "A decoder of -1 blocks"),
        ({"decoder_blocks": 10**20}, "expected 4,096 or less"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fcmae.Settings(**settings)
