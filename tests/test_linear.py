"""Probes trained together: each against the same head alone, by plain torch modules and a LARS
written here."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslens.capture import Features
from sslens.errors import InputError
from sslens.probes.linear import heads as _heads
from sslens.probes.linear.grid import rates
from sslens.probes.linear.lars import lars_
from sslens.probes.linear.training import (
    Column,
    Head,
    Held,
    Point,
    Probes,
    Stored,
    find_right,
    fresh,
    paper_grid,
    small_grid,
    train_probes,
)

LAST, EARLY = ("norm", "cls"), ("blocks.2", "mean")
GRID = (
    Point(40.0, 0.0, 0.0, warmup=2, epochs=7),
    Point(40.0, 0.05, 0.01, warmup=0, epochs=7),
    Point(40.0, 0.1, 0.5, warmup=1, epochs=7),
    Point(30.0, 0.05, 0.0, warmup=3, epochs=10),
    Point(40.0, 0.0, 1e-3, warmup=4, epochs=10),
)


def drawn(
    images: int = 70,
    classes: int = 3,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **options: int,
) -> Held:
    """Two columns of features that know something of the class, at different scales and offsets."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, 12, generator=torch.Generator().manual_seed(99), dtype=dtype)
    x = torch.randn(images, 12, generator=generator, dtype=dtype) + centres[labels]
    return Held(
        {LAST: 5 + 3 * x[:, :7], EARLY: 0.02 * x[:, 7:] - 1},
        labels,
        classes,
        batch=options.get("batch", 16),
    )


class PlainLARS:
    """Spelt out, one number at a time where it matters: no tensor of heads."""

    def __init__(self, module: nn.Module, point: Point) -> None:
        self.parameters = list(module.parameters())
        self.point = point
        self.memory = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for p, m in zip(self.parameters, self.memory, strict=True):
            assert p.grad is not None
            u = p.grad.clone()
            if p.ndim == 2:
                u += self.point.weight_decay * p
                own, step = math.sqrt(float((p * p).sum())), math.sqrt(float((u * u).sum()))
                u *= 0.001 * own / step if own > 0 and step > 0 else 1.0
            m.copy_(0.9 * m + u)
            p -= lr * m


def plain_rate(point: Point, batch: int, at: float) -> float:
    peak = point.lr * batch / 256
    if at < point.warmup:
        return peak * at / point.warmup
    turn = math.pi * (at - point.warmup) / (point.epochs - point.warmup)
    return point.min_lr + (peak - point.min_lr) * (1 + math.cos(turn)) / 2


def alone(data: Held, head: Head, point: Point, seed: int, dtype: torch.dtype) -> nn.Sequential:
    """One head, trained as anyone would."""
    dim = sum(data.columns[column] for column in head.columns)
    module = fresh(head, point, dim, data.classes, seed).to(dtype).train()
    optimiser = PlainLARS(module, point)
    for epoch in range(point.epochs):
        for number, (features, labels) in enumerate(data.epoch(epoch)):
            module.zero_grad()
            x = torch.cat([features[column] for column in head.columns], 1)
            F.cross_entropy(module(x), labels).backward()
            optimiser.step(plain_rate(point, data.batch, epoch + number / data.steps))
    return module.eval()


def values(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("columns", [(LAST,), (LAST, EARLY)])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_head_trained_among_others_is_the_same_head_trained_alone(
    layers: int,
    columns: tuple[Column, ...],
    dtype: torch.dtype,
    within: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        _heads.ROOM, "cpu", 16 * (3 + 3 * (layers - 1) * 12) * 2
    )  # packs of one to three heads
    data, head = drawn(dtype=dtype), Head(columns, layers)
    probes = train_probes(data, [Head((EARLY,)), head], GRID, seed=3, dtype=dtype)
    for row, point in enumerate(GRID):
        expected = alone(data, head, point, 3, dtype)
        found = probes.module(head, row)
        assert values(found).keys() == values(expected).keys()
        for name, value in values(expected).items():
            torch.testing.assert_close(values(found)[name], value, atol=within, rtol=0)
        started = values(fresh(head, point, sum(data.columns[c] for c in columns), 3, 3).to(dtype))
        last = f"{3 * layers - 2}.weight"
        assert (values(found)[last] - started[last]).norm() > 0.05 * started[last].norm(), (
            "nothing was learnt"
        )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_what_a_head_predicts_is_what_its_module_predicts(layers: int) -> None:
    data, test = drawn(), drawn(50, seed=1)
    head = Head((LAST, EARLY), layers)
    grid = [Point(80.0, 0.05, warmup=2, epochs=40), Point(80.0, warmup=2, epochs=30)]
    probes = train_probes(data, [head], grid)
    right, top = probes.right(test)[head], probes.right(test, top=2)[head]
    x = torch.cat([test.features[LAST], test.features[EARLY]], 1)
    for row in range(len(grid)):
        logits = probes.module(head, row)(x)
        torch.testing.assert_close(probes.logits(head, row, test), logits)
        assert np.array_equal(right[row], (logits.argmax(1) == test.labels).numpy())
        ranked = logits.topk(2, dim=1).indices
        assert np.array_equal(top[row], (ranked == test.labels[:, None]).any(1).numpy())
    assert right.mean() > 0.6


def test_a_head_does_not_depend_on_what_it_is_trained_beside() -> None:
    data, head = drawn(), Head((LAST,))
    together = train_probes(data, [head, Head((EARLY,), 2)], GRID)
    one = train_probes(data, [head], [GRID[3]])
    for name, value in values(one.module(head, 0)).items():
        torch.testing.assert_close(values(together.module(head, 3))[name], value, atol=1e-6, rtol=0)


# ------------------------------------------------------------------------------------------------
# LARS


def test_two_steps_of_lars_by_hand() -> None:
    """Of a 1 × 2 matrix (3, 4) with decay 0.5, gradients (1, 0) and (0, 1), rate 2; and of a bias 1
    with gradients 1, 1.

    Step 1: u = (1, 0) + 0.5 (3, 4) = (2.5, 2), |u|² = 10.25, |w| = 5; m = 0.005 / √10.25 · (2.5,
    2); w = (3, 4) − 2 m.
    """
    weight = torch.tensor([[[3.0, 4.0]]], dtype=torch.float64)
    bias = torch.tensor([[1.0]], dtype=torch.float64)
    m, n = torch.zeros_like(weight), torch.zeros_like(bias)
    lr, decay = torch.tensor([2.0], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    lars_(weight, torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), m, lr, decay)
    lars_(bias, torch.ones_like(bias), n, lr, decay)
    m1 = [0.005 / math.sqrt(10.25) * 2.5, 0.005 / math.sqrt(10.25) * 2.0]
    w1 = [3 - 2 * m1[0], 4 - 2 * m1[1]]
    assert weight[0, 0].tolist() == pytest.approx(w1, abs=1e-14)
    assert bias.item() == -1.0  # 1 − 2 · 1, without decay or trust
    lars_(weight, torch.tensor([[[0.0, 1.0]]], dtype=torch.float64), m, lr, decay)
    lars_(bias, torch.ones_like(bias), n, lr, decay)
    u = [0.5 * w1[0], 1 + 0.5 * w1[1]]
    trust = 0.001 * math.hypot(*w1) / math.hypot(*u)
    w2 = [w1[i] - 2 * (0.9 * m1[i] + trust * u[i]) for i in range(2)]
    assert weight[0, 0].tolist() == pytest.approx(w2, abs=1e-14)
    assert bias.item() == pytest.approx(-1 - 2 * 1.9, abs=1e-14)  # m = 0.9 · 1 + 1


def test_trust_is_one_where_a_norm_is_zero() -> None:
    weight = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]])
    gradient = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    assert lars_(weight, gradient, torch.zeros(2, 1, 2), torch.ones(2), torch.zeros(2)).all()
    assert weight.tolist() == [[[-1.0, -2.0]], [[1.0, 0.0]]]


# ------------------------------------------------------------------------------------------------
# grid


def test_the_papers_grid() -> None:
    grid = paper_grid()
    assert len(set(grid)) == 216
    assert [
        len({getattr(p, n) for p in grid})
        for n in ("lr", "weight_decay", "min_lr", "warmup", "epochs")
    ] == [
        3,
        3,
        6,
        2,
        2,
    ]
    assert {p.epochs for p in grid} == {100, 200}
    assert [point.lr * 512 / 4096 for point in paper_grid(512)] == [point.lr for point in grid]


def test_the_small_grid_is_some_400_steps_at_the_papers_rates() -> None:
    for batch, steps in ((32, 8), (512, 39), (4096, 312)):
        points = small_grid(batch, steps)
        assert len(set(points)) == 8
        assert all(400 <= point.epochs * steps < 400 + 10 * steps for point in points)
        assert {point.lr * batch / 256 for point in points} == {32.0, 9.6, 3.2, 0.96}


@pytest.mark.parametrize("at", [0.0, 3.5, 9.99, 10.0, 55.0, 99.9])
def test_rates_are_maes(at: float) -> None:
    points = [p for p in paper_grid() if p.epochs == 100]
    expected = [plain_rate(p, 4096, at) for p in points]
    assert rates(points, 4096)(at).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_no_warmup_begins_at_the_peak() -> None:
    assert rates([Point(0.1, warmup=0)], 256)(0.0).tolist() == [0.1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr": 0.0}, "lr is 0.0: expected above 0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": 1.0, "weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"lr": 1.0, "min_lr": math.inf}, "min_lr is inf"),
        ({"lr": 1.0, "warmup": 100}, "warmup is 100: expected 0 or more and below its epochs, 100"),
        ({"lr": 1.0, "epochs": 0, "warmup": 0}, "epochs is 0"),
    ],
)
def test_a_point_that_no_training_can_follow_is_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Point(**given)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------
# divergence


@pytest.mark.parametrize("layers", [1, 2])
def test_a_head_that_diverges_is_told_and_harms_no_neighbour(layers: int) -> None:
    data, head = drawn(), Head((LAST,), layers)
    wild = Point(1e38, 0.05, 0.0, warmup=2, epochs=7)
    calm = [point for point in GRID if point.epochs == 7]
    beside = train_probes(data, [head], [calm[0], wild, *calm[1:]])
    without = train_probes(data, [head], calm)
    epochs = beside.diverged[head]
    assert 0 <= epochs[1] < 7
    assert (np.delete(epochs, 1) == -1).all()
    for row, point in enumerate(calm):
        ours = beside.module(head, beside.grid.index(point))
        for name, value in values(without.module(head, row)).items():
            torch.testing.assert_close(values(ours)[name], value, atol=1e-6, rtol=0)
    assert all(torch.isfinite(value).all() for value in values(beside.module(head, 1)).values())


# ------------------------------------------------------------------------------------------------
# bad input


def test_an_image_without_numbers_is_refused_or_not_right() -> None:
    held = drawn()
    x = held.features[LAST].clone()
    x[::2] = torch.nan
    store = Features.of({LAST: x}, labels=held.labels.numpy(), classes="abc")
    probes = train_probes(held, [Head((LAST,))], GRID[:1])
    with pytest.raises(InputError, match="norm/cls hold values that are not finite"):
        probes.right(Stored(store))
    assert not find_right(torch.full((1, 3, 4), torch.nan), torch.arange(4) % 3, 2).any()


def refusals() -> Iterator[tuple[str, dict[str, object], str]]:
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 0, 1])
    yield "none", {"features": {}, "labels": y}, "no features to probe"
    yield (
        "short",
        {"features": {LAST: x[:5]}, "labels": y},
        "norm/cls has features of 5 images, beside 6 labels",
    )
    yield (
        "nan",
        {"features": {LAST: x.log()}, "labels": y},
        "norm/cls hold values that are not finite",
    )
    yield "one class", {"features": {LAST: x}, "labels": y * 0 + 2}, "All 6 images are of one class"
    yield (
        "range",
        {"features": {LAST: x}, "labels": y, "classes": 1},
        "Labels reach from 0 to 1, for 1 class:",
    )
    yield (
        "batch",
        {"features": {LAST: x}, "labels": y, "batch": 7},
        "A batch of 7 cannot be drawn from 6 images: give 2 to 6",
    )


@pytest.mark.parametrize(
    ("given", "said"), [case[1:] for case in refusals()], ids=[case[0] for case in refusals()]
)
def test_features_that_cannot_be_probed_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Held(**given)  # type: ignore[arg-type]


def test_questions_that_cannot_be_asked_are_refused() -> None:
    data, head = drawn(), Head((LAST,))
    with pytest.raises(InputError, match=r"no features norm/clss: did you mean norm/cls\?"):
        train_probes(data, [Head((("norm", "clss"),))], GRID)
    with pytest.raises(InputError, match="same grid point is given twice"):
        train_probes(data, [head], [GRID[0], GRID[0]])
    with pytest.raises(InputError, match="There is no head"):
        train_probes(data, [], GRID)
    with pytest.raises(InputError, match="give one column, or several that differ"):
        Head((LAST, LAST))
    probes: Probes = train_probes(data, [head], GRID[:1])
    with pytest.raises(InputError, match="top 5 of 3 classes cannot be taken: give 1 to 3"):
        probes.right(data, top=5)
    with pytest.raises(InputError, match="know 3 classes, and the images are of 4"):
        probes.right(drawn(classes=4))
    with pytest.raises(InputError, match="no features norm/cls: did you mean"):
        probes.right(Held({("norm", "clt"): data.features[LAST]}, data.labels))
