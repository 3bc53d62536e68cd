"""Probes that are trained until they have converged, against a plain loop of torch in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslens.errors import InputError
from sslens.probes.linear import Head, Held, converging, table, train_converged, widening
from sslens.probes.linear.adam import AdamW
from sslens.probes.linear.converged import ConvergedHead
from sslens.probes.linear.grid import Point
from sslens.probes.linear.heads import fresh

CLS, PATCH = ("norm", "cls"), ("norm", "patch")


def made(seed: int, n: int, noise: float = 1.0, dim: int = 6) -> Held:
    """Three classes in a ring that no line tells apart from its middle."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    radius = 1.0 + labels.double()
    angle = 6.283 * torch.rand(n, generator=generator).double()
    ring = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    x = torch.cat([ring, torch.randn(n, dim - 2, generator=generator).double()], 1)
    x += noise * 0.2 * torch.randn(n, dim, generator=generator).double()
    return Held({CLS: x * 5 + 3, PATCH: x.flip(1)}, labels, 3)


TRAIN, VALIDATION, TEST = made(0, 300), made(1, 120), made(2, 90)


def test_adam_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    points = [Point(0.1, 0.0), Point(0.01, 0.5)]
    start = {
        "0.weight": torch.randn(2, 3, 4, generator=generator).double(),
        "0.bias": torch.randn(2, 3, generator=generator).double(),
    }
    mine = {name: value.clone() for name, value in start.items()}
    adam = AdamW(points, mine)
    plain = [
        {name: nn.Parameter(value[i].clone()) for name, value in start.items()} for i in (0, 1)
    ]
    theirs = [
        torch.optim.AdamW(
            [
                {"params": [parts["0.weight"]], "weight_decay": point.weight_decay},
                {"params": [parts["0.bias"]], "weight_decay": 0.0},
            ],
            lr=point.lr,
        )
        for parts, point in zip(plain, points, strict=True)
    ]
    for _ in range(7):
        gradients = {
            name: torch.randn(value.shape, generator=generator).double()
            for name, value in start.items()
        }
        for i, optimiser in enumerate(theirs):
            for name, parameter in plain[i].items():
                parameter.grad = gradients[name][i].clone()
            optimiser.step()
        assert adam.update(mine, gradients, 0.0, torch.ones(2).double()).all()
    for name, value in mine.items():
        expected = torch.stack([parts[name].detach() for parts in plain])
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


def plainly(head: Head, point: Point, cap: int) -> tuple[float, int]:
    """The lowest validation loss and its epoch, one head by torch's own layers and optimiser."""
    data = converging._with_batch(TRAIN)
    module = fresh(head, point, 6, 3, seed=0).double()
    module[0] = nn.BatchNorm1d(6, eps=1e-6, affine=False, momentum=None).double()

    def optimise(rate: float) -> torch.optim.Optimizer:
        matrices = [p for p in module.parameters() if p.ndim > 1]
        vectors = [p for p in module.parameters() if p.ndim == 1]
        groups = [
            {"params": matrices, "weight_decay": point.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=rate)

    optimiser, best, level, fell, slowed = optimise(point.lr), np.inf, np.inf, 0, False
    at, kept = 0, {}
    for epoch in range(1, cap + 1):
        module.train()
        for features, labels in data.epoch(epoch - 1):
            optimiser.zero_grad()
            F.cross_entropy(module(features[CLS]), labels).backward()
            optimiser.step()
        module.eval()
        with torch.no_grad():
            loss = float(F.cross_entropy(module(VALIDATION.features[CLS]), VALIDATION.labels))
        if loss < best:
            best, at, kept = loss, epoch, {k: v.clone() for k, v in module.state_dict().items()}
        if loss < level * 0.999:
            level, fell = loss, epoch
        if epoch - fell >= 4:
            if slowed:
                break
            running = {k: v for k, v in module.state_dict().items() if k.startswith("0.")}
            module.load_state_dict(kept | running)
            for group in optimiser.param_groups:
                group["lr"] /= 10
            for state in optimiser.state.values():
                state["exp_avg"].zero_()
            slowed, fell = True, epoch
    return best, at


@pytest.mark.parametrize("layers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_head_is_trained_as_by_a_plain_loop(layers: int) -> None:
    head = Head((CLS,), layers)
    found = train_converged(TRAIN, VALIDATION, [head], rounds=0, dtype=torch.float64)[head]
    for place in (0, 3, 5):
        loss, epoch = plainly(head, found.points[place], converging.CAP)
        assert found.losses[place] == pytest.approx(loss, rel=1e-6)
        assert found.epochs[place] == epoch
    # the module is that of the lowest loss
    logits = found.logits(VALIDATION)
    assert float(F.cross_entropy(logits, VALIDATION.labels)) == pytest.approx(
        found.losses[found.chosen], rel=1e-9
    )
    assert found.validation == (logits.argmax(1) == VALIDATION.labels).double().mean()


def test_heads_do_not_depend_on_each_other() -> None:
    """Heads that end early leave the products; those that go on end as if they were alone."""
    heads = [Head((CLS,), 2), Head((PATCH, CLS), 3)]
    train, validation = made(0, 96), made(1, 60)

    def trained(*some: Head) -> dict[Head, ConvergedHead]:
        return train_converged(train, validation, some, rounds=1, dtype=torch.float64)

    together, alone = trained(*heads), trained(heads[0])
    again = trained(heads[0])
    for one, other, tolerance in (
        (alone[heads[0]], again[heads[0]], 0.0),
        (together[heads[0]], alone[heads[0]], 1e-6),
        (together[heads[1]], trained(heads[1])[heads[1]], 1e-6),
    ):
        assert one.points == other.points
        np.testing.assert_allclose(one.losses, other.losses, rtol=tolerance, atol=0)
        np.testing.assert_array_equal(one.epochs, other.epochs)
        assert one.chosen == other.chosen
    assert all(len(set(one.epochs.tolist())) > 1 for one in together.values())


def test_a_training_that_the_cap_ends_has_not_converged() -> None:
    head = Head((CLS,), 2)
    found = train_converged(TRAIN, VALIDATION, [head], cap=3, rounds=0)[head]
    assert not found.converged
    assert found.why.startswith("the validation loss was still falling after 3 epochs")
    outcome = found.outcome(TEST)
    assert (outcome.converged, outcome.why) == (False, found.why)
    frame = table([outcome]).frame
    assert not frame.converged.item()
    assert frame.why.item() == found.why


def test_the_grid_is_widened_until_the_choice_lies_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head((CLS,), 2)
    monkeypatch.setattr(widening, "RATES", (3e-5, 3e-4, 1e-3))  # all too small
    monkeypatch.setattr(widening, "DECAYS", (0.0,))
    monkeypatch.setattr(widening, "WIDER_RATE", 10.0)
    narrow = train_converged(TRAIN, VALIDATION, [head], rounds=0, cap=40)[head]
    assert not narrow.inside
    assert "the chosen learning rate, 0.001, is the highest that was tried" in narrow.why
    wide = train_converged(TRAIN, VALIDATION, [head], rounds=5, cap=40)[head]
    assert wide.inside, (wide.points, wide.losses)
    assert wide.points[: len(narrow.points)] == narrow.points
    rates = sorted({point.lr for point in wide.points})
    assert rates[0] == 3e-5
    assert rates[0] < wide.points[wide.chosen].lr < rates[-1]
    assert wide.losses[wide.chosen] < narrow.losses[narrow.chosen]
    assert wide.outcome(TEST).points == len(wide.points)


def test_a_point_inside_that_is_as_good_is_chosen() -> None:
    points = tuple(Point(rate) for rate in (0.1, 1.0, 10.0))
    for losses, chosen, edges in (
        ([1.0, 1.009, 2.0], 1, ()),
        ([1.0, 1.02, 2.0], 0, ("lower rate",)),
        ([2.0, np.inf, 1.0], 2, ("higher rate",)),
        ([2.0, 0.0019, 0.0], 1, ()),  # separable classes
    ):
        place = widening.choose_point(points, np.array(losses))
        assert (place, widening.find_edges(points, points[place])) == (chosen, edges)


@pytest.mark.slow
def test_two_layers_tell_what_one_line_cannot() -> None:
    head = Head((CLS,), 2)
    found = train_converged(TRAIN, VALIDATION, [head], rounds=6)[head]
    outcome = found.outcome(TEST)
    assert found.converged
    assert found.inside, (found.points, found.losses)
    assert outcome.accuracy > 0.8
    assert np.isnan(outcome.best)  # "best five" is told of a grid only
    assert outcome.setting is not None
    assert outcome.setting.epochs == found.epochs[found.chosen]
    right = found.right(TEST)
    assert (outcome.right == right).all()
    assert found.right(TEST, top=3).all()


def test_what_cannot_be_trained_is_refused() -> None:
    head = Head((CLS,), 2)
    for heads, said in (([], "There is no head"), ([head, head], "given twice")):
        with pytest.raises(InputError, match=said):
            train_converged(TRAIN, VALIDATION, heads)
    with pytest.raises(InputError, match="There are no features norm/clf"):
        train_converged(TRAIN, VALIDATION, [Head((("norm", "clf"),), 2)])
    with pytest.raises(InputError, match="The top 4 of 3 classes"):
        train_converged(TRAIN, VALIDATION, [head], cap=2, rounds=0)[head].right(TEST, top=4)


def test_features_without_variance_give_chance_and_one_image_a_class_trains() -> None:
    flat = Held({CLS: torch.ones(40, 3)}, torch.arange(40) % 2, 2)
    head = Head((CLS,), 2)
    found = train_converged(flat, flat, [head])[head]
    assert found.validation == 0.5
    assert np.isfinite(found.losses).all()
    single = Held({CLS: torch.eye(4)}, torch.arange(4), 4)
    few = train_converged(single, single, [head], cap=20, rounds=0)[head]
    assert few.right(single).shape == (4,)


def test_random_views_and_stores_are_trained_as_they_come() -> None:
    """Data of any other kind keeps its own steps."""

    class Views:
        columns, classes, batch, steps = TRAIN.columns, 3, 50, 6

        def epoch(self, number: int) -> "list[tuple[dict[tuple[str, str], Tensor], Tensor]]":
            held = Held(TRAIN.features, TRAIN.labels, 3, batch=50, seed=number)
            return [(dict(x), y) for x, y in held.epoch(number)]

    head = Head((CLS,), 2)
    found = train_converged(Views(), VALIDATION, [head], cap=5, rounds=0)[head]  # type: ignore[arg-type]
    assert found.validation > 1 / 3
    assert replace(found.points[0], epochs=5) == found.points[0]
