"""Adapters: what the network's linear layer computes from them, and what is refused."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sslens.diffusion.adapters import FLOOR, WAYS, Adapters
from sslens.errors import InputError


@pytest.fixture(scope="module")
def features() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(5, 5, generator=draw)
    return {
        "mae": torch.randn(200, 5, generator=draw) @ mixing + 3,
        "dino": torch.rand(150, 3, generator=draw),
    }


@pytest.mark.parametrize("how", WAYS)
def test_one_layer_is_a_linear_adapter_for_each_model(
    features: Mapping[str, Tensor], how: str
) -> None:
    adapters = Adapters.fit(features, how)
    assert adapters.width == (5 + 1) + (3 + 1)
    layer = nn.Linear(adapters.width, 7)
    starts = {"mae": 0, "dino": 6}
    for model, values in features.items():
        start, dim = starts[model], values.shape[1]
        alone = Adapters.fit({model: values}, how)
        assert alone.width == dim
        matrix = layer.weight[:, start : start + dim]
        bias = layer.weight[:, start + dim] + layer.bias
        expected = alone.place(model, values) @ matrix.T + bias
        torch.testing.assert_close(layer(adapters.place(model, values)), expected)


def test_standardised_features_have_mean_0_and_deviation_1(
    features: Mapping[str, Tensor],
) -> None:
    values = features["mae"]
    placed = Adapters.fit({"mae": values}, "standardise").place("mae", values).double()
    torch.testing.assert_close(placed.mean(0), torch.zeros(5).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(placed.square().mean(0), torch.ones(5).double(), atol=1e-5, rtol=0)


def test_whitened_features_have_the_covariance_that_the_floor_leaves(
    features: Mapping[str, Tensor],
) -> None:
    values = features["mae"].double()
    placed = Adapters.fit({"mae": values}, "whiten").place("mae", values).double()
    variances = torch.linalg.eigvalsh(values.T.cov(correction=0))
    expected = torch.diag(variances / (variances + FLOOR * variances.mean()))
    torch.testing.assert_close(placed.T.cov(correction=0), expected, atol=1e-5, rtol=0)


def test_half_whitened_features_have_the_root_of_their_variances_and_one_in_the_mean(
    features: Mapping[str, Tensor],
) -> None:
    values = features["mae"].double()
    placed = Adapters.fit({"mae": values}, "half-whiten").place("mae", values).double()
    covariance = placed.T.cov(correction=0)
    variances = torch.linalg.eigvalsh(values.T.cov(correction=0))
    roots = variances / (variances + FLOOR * variances.mean()).sqrt()
    torch.testing.assert_close(
        covariance, torch.diag(roots / roots.mean()), atol=1e-5 * float(roots.max()), rtol=1e-5
    )


def test_none_leaves_the_features_of_one_model_as_they_are(features: Mapping[str, Tensor]) -> None:
    values = features["dino"]
    assert Adapters.fit({"dino": values}, "none").place("dino", values).equal(values)


@pytest.mark.parametrize("how", WAYS)
def test_reduced_precision_does_not_reach_them(features: Mapping[str, Tensor], how: str) -> None:
    adapters = Adapters.fit(features, how)
    placed = adapters.place("dino", features["dino"])
    with torch.autocast("cpu", torch.bfloat16):
        assert adapters.place("dino", features["dino"]).equal(placed)


@pytest.mark.parametrize("how", ["standardise", "half-whiten", "whiten"])
def test_constant_features_stay_finite(how: str) -> None:
    values = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert Adapters.fit({"a": values}, how).place("a", values).equal(torch.zeros(3, 2))


@pytest.mark.parametrize("how", WAYS)
def test_adapters_are_made_again_from_half_precision(
    features: Mapping[str, Tensor], how: str
) -> None:
    adapters = Adapters.fit(features, how)
    again = Adapters.from_tensors(adapters.dims, how, adapters.tensors())
    kept = {name: value.half() for name, value in adapters.tensors().items()}
    rounded = Adapters.from_tensors(adapters.dims, how, kept)
    for model, values in features.items():
        placed = adapters.place(model, values)
        assert again.place(model, values).equal(placed)
        torch.testing.assert_close(rounded.place(model, values), placed, atol=2e-2, rtol=5e-3)


def test_what_cannot_be_placed_or_measured_is_refused(features: Mapping[str, Tensor]) -> None:
    adapters = Adapters.fit(features, "standardise")
    with pytest.raises(InputError, match=r'no representations of "maee".*did you mean mae'):
        adapters.place("maee", features["mae"])
    with pytest.raises(InputError, match="3 numbers for each image, and the generator takes 5"):
        adapters.place("mae", features["dino"])
    with pytest.raises(InputError, match='by "whitening": did you mean whiten'):
        Adapters.fit(features, "whitening")
    with pytest.raises(InputError, match="no models"):
        Adapters.fit({}, "none")
    with pytest.raises(InputError, match="features of 1 image of a"):
        Adapters.fit({"a": torch.ones(1, 2)}, "whiten")
    with pytest.raises(InputError, match="Features of a are not finite"):
        Adapters.fit({"a": torch.tensor([[1.0], [torch.nan]])}, "whiten")


def test_damaged_tensors_are_refused(features: Mapping[str, Tensor]) -> None:
    adapters = Adapters.fit(features, "whiten")
    tensors = adapters.tensors()
    without = {name: value for name, value in tensors.items() if name != "1.scale"}
    with pytest.raises(InputError, match=r"1\.scale of shape None"):
        Adapters.from_tensors(adapters.dims, "whiten", without)
    with pytest.raises(InputError, match=r"2\.mean of shape"):
        Adapters.from_tensors(adapters.dims, "whiten", {**tensors, "2.mean": torch.ones(3)})
    with pytest.raises(InputError, match=r"0\.scale of shape"):
        Adapters.from_tensors(adapters.dims, "standardise", tensors)
    with pytest.raises(InputError, match=r"0\.mean of shape \(5,\), and None"):
        Adapters.from_tensors(adapters.dims, "none", tensors)
    broken = {**tensors, "0.mean": torch.full((5,), torch.inf)}
    with pytest.raises(InputError, match=r"0\.mean that is not finite"):
        Adapters.from_tensors(adapters.dims, "whiten", broken)
    with pytest.raises(InputError, match='by "zca"'):
        replace(adapters, how="zca")
