"""The ridge probe against a direct solve in float64, its leave-one-out against leaving one out, and
the decoding of factors."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from sslens.data.patterns import KINDS
from sslens.data.scenes import FACTORS, factors
from sslens.errors import InputError
from sslens.probes.factors import CIRCULAR, decode, kind_of
from sslens.probes.ridge import LAMBDAS, classify, ridge


def drawn(n: int, dim: int, targets: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    x = x * torch.logspace(-2, 2, dim, dtype=torch.float64) + 7
    return x, torch.randn(n, targets, generator=generator, dtype=torch.float64) + x[:, :1]


def direct(
    x: np.ndarray, y: np.ndarray, penalty: float, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with the penalty as further rows: √(n λ) of each standardised weight is to be
    0, of the intercept not."""
    n, dim = x.shape
    rows = np.block(
        [[x / scale, np.ones((n, 1))], [np.sqrt(n * penalty) * np.eye(dim), np.zeros((dim, 1))]]
    )
    found = np.linalg.lstsq(rows, np.vstack([y, np.zeros((dim, y.shape[1]))]), rcond=None)[0]
    return found[:-1] / scale[:, None], found[-1]


@pytest.mark.parametrize(("n", "dim"), [(40, 6), (12, 12), (9, 30)])
def test_all_penalties_are_the_direct_solve(n: int, dim: int) -> None:
    x, y = drawn(n, dim)
    path = ridge(x, y)
    for row, penalty in enumerate(LAMBDAS):
        weights, intercept = direct(x.numpy(), y.numpy(), penalty, x.numpy().std(0))
        np.testing.assert_allclose(path.weights[row].numpy(), weights, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(path.intercept[row].numpy(), intercept, rtol=1e-6)
        asked = drawn(5, dim, seed=1)[0].numpy()
        said = path.predict(torch.from_numpy(asked))[row].numpy()
        np.testing.assert_allclose(said, asked @ weights + intercept, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("n", "dim"), [(20, 5), (9, 30)])
def test_left_out_is_leaving_each_image_out(n: int, dim: int) -> None:
    x, y = drawn(n, dim)
    penalties = (1e-3, 0.1, 10.0)
    left_out = ridge(x, y, penalties).left_out
    scale = x.numpy().std(0)
    for row, penalty in enumerate(penalties):
        for image in range(n):
            others = np.arange(n) != image
            # the penalty is n λ |W|² in both: of all images' n
            weights, intercept = direct(
                x.numpy()[others], y.numpy()[others], penalty * n / (n - 1), scale
            )
            np.testing.assert_allclose(
                left_out[row, image].numpy(),
                x.numpy()[image] @ weights + intercept,
                rtol=1e-6,
                atol=1e-7,
            )


def test_a_constant_feature_is_no_feature() -> None:
    x, y = drawn(30, 4)
    wide = torch.cat([x, torch.full((30, 1), 0.1, dtype=torch.float64)], 1).float()
    found = ridge(wide, y)
    assert (found.weights[:, 4] == 0).all()
    torch.testing.assert_close(found.predict(wide), ridge(x.float(), y).predict(x.float()))


def test_scale_and_offset_of_features_do_not_matter() -> None:
    x, y = drawn(30, 4)
    torch.testing.assert_close(
        ridge(x, y).predict(x), ridge(x * 1e-4 - 3, y).predict(x * 1e-4 - 3), rtol=1e-6, atol=1e-6
    )


def test_classify_takes_the_penalty_that_leaves_most_images_right() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    x = torch.randn(60, 40, generator=generator) + 1.5 * torch.eye(3, 40)[labels] * 2
    test_labels = torch.arange(90) % 3
    test = torch.randn(90, 40, generator=generator) + 1.5 * torch.eye(3, 40)[test_labels] * 2
    predicted, penalty = classify(x, labels, test)
    right = [
        int((ridge(x, torch.eye(3)[labels], [each]).left_out[0].argmax(1) == labels).sum())
        for each in LAMBDAS
    ]
    assert right[LAMBDAS.index(penalty)] == max(right)
    assert (predicted == test_labels).float().mean() > 0.75


@pytest.mark.parametrize(
    ("x", "y", "penalties", "said"),
    [
        (torch.ones(1, 2), torch.ones(1, 1), LAMBDAS, "two images or more"),
        (
            torch.tensor([[1.0], [torch.nan]]),
            torch.ones(2, 1),
            LAMBDAS,
            "features hold values that are not finite",
        ),
        (
            torch.ones(2, 1),
            torch.tensor([[1.0], [torch.inf]]),
            LAMBDAS,
            "targets hold values that are not finite",
        ),
        (torch.ones(2, 1), torch.ones(2, 1), (0.0,), "give numbers above 0"),
        (torch.ones(2, 1), torch.ones(2, 1), (), "give numbers above 0"),
    ],
)
def test_what_cannot_be_regressed_is_refused(
    x: Tensor, y: Tensor, penalties: tuple[float, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        ridge(x, y, penalties)


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="All 4 images are of one class"):
        classify(torch.randn(4, 2), torch.ones(4, dtype=torch.int64), torch.randn(1, 2))


# ------------------------------------------------------------------------------------------------
# factors


def test_every_factor_of_scenes_is_of_its_kind() -> None:
    frame = factors(0, range(20))
    kinds = {name: kind_of(name, frame[name]) for name in FACTORS}
    assert {name for name, kind in kinds.items() if kind == "circular"} == CIRCULAR
    assert {name for name, kind in kinds.items() if kind == "categorical"} == set(KINDS) & set(
        FACTORS
    )


def test_known_factors_are_decoded_and_unknown_ones_are_not() -> None:
    train, test = factors(0, range(400)), factors(1, range(300))

    def knows(frame: pd.DataFrame) -> Tensor:
        """x, the hue as a point on the circle, the facing; nothing else."""
        hue = np.deg2rad(frame.hue)
        told = np.stack([frame.x, np.sin(hue), np.cos(hue), frame.facing == "left"], 1).astype(
            np.float32
        )
        return torch.from_numpy(
            told @ np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
        )

    found = decode(knows(train), train, knows(test), test).set_index("factor")
    assert set(found.index) == {"class", *FACTORS}
    for name in ("x", "hue", "facing"):
        assert found.decoded[name] > 0.99, name
        assert found.low[name] <= found.value[name] <= found.high[name]
    for name in set(FACTORS) - {"x", "hue", "facing"}:
        assert found.decoded[name] < 0.1, name
    assert found.measure["facing"] == "accuracy"
    assert found.chance["facing"] == pytest.approx(0.5, abs=0.06)


def test_r_squared_by_hand_and_an_angle_across_zero() -> None:
    """Of y = 0, 2, 4, 6 predicted as itself + 1 each: 1 − 4 / 20. Angles of 359° and 1° are
    near."""
    x = torch.arange(0.0, 8.0)[:, None]
    train = pd.DataFrame({"x": 2.0 * x[:, 0].numpy()})
    test = pd.DataFrame({"x": np.array([0.0, 2.0, 4.0, 6.0])})
    found = decode(x, train, x[:4] + 0.5, test)
    assert found.value[0] == pytest.approx(0.8, abs=1e-4)
    angle = torch.linspace(-0.5, 0.5, 41)[:, None].double()
    hue = pd.DataFrame({"hue": np.rad2deg(angle[:, 0].numpy()) % 360})
    assert (
        decode(
            torch.cat([angle.sin(), angle.cos()], 1),
            hue,
            torch.cat([angle.sin(), angle.cos()], 1),
            hue,
        ).value[0]
        > 0.999
    )


@pytest.mark.parametrize(("told", "decoded"), [("sin", 0.5), ("cos", 0.5), ("both", 1.0)])
def test_an_angle_is_known_by_its_sine_and_its_cosine(told: str, decoded: float) -> None:
    """Of one of the two alone, over the whole circle, half of the variance is known."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    parts = {"sin": [np.sin], "cos": [np.cos], "both": [np.sin, np.cos]}[told]
    x = torch.from_numpy(np.stack([part(angle) for part in parts], 1))
    hue = pd.DataFrame({"hue": np.rad2deg(angle)})
    assert decode(x, hue, x, hue).value[0] == pytest.approx(decoded, abs=1e-3)


def test_factors_that_cannot_be_decoded_are_refused() -> None:
    x, frame = torch.randn(6, 2), pd.DataFrame({"x": np.arange(6.0) / 7, "y": np.arange(6.0) / 3})
    with pytest.raises(InputError, match="factors of 6 images, and features of 5"):
        decode(x[:5], frame, x, frame)
    with pytest.raises(InputError, match="factors lack y"):
        decode(x, frame, x, frame[["x"]])
    with pytest.raises(InputError, match="factor y is the same for all images"):
        decode(x, frame.assign(y=1.0), x, frame)
