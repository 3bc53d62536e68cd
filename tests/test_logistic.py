"""The logistic probe against automatic differentiation and scikit-learn, its certificate, and the
data that leave nothing to learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sslens.errors import InputError
from sslens.probes import _path, logistic
from sslens.probes._axes import Axes, Labelled
from sslens.probes._hessian import Hessian, pad_rows
from sslens.probes._newton import Problem
from sslens.probes._targets import Classes
from sslens.probes.logistic import GAP, PENALTIES, fit_logistic


def draw(
    images: int, dim: int, classes: int = 4, *, apart: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Normal features of very different scales, with the classes' means some way apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    middles = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    x = torch.randn(images, dim, generator=generator) + apart * middles[labels]
    return x * torch.logspace(-2, 2, dim) + 5, labels


def standardise(x: Tensor, train: Tensor) -> np.ndarray:
    """By mean and standard deviation of the training images, in float64."""
    train = train.double()
    scale = train.std(0, unbiased=False)
    return ((x.double() - train.mean(0)) / torch.where(scale > 0, scale, torch.inf)).numpy()


def test_loss_and_gradient_are_those_of_automatic_differentiation() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 30, 5, generator=generator, dtype=torch.float64)
    labels = torch.arange(30) % 3
    weights = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    problem = Problem(x, Classes(labels, 3))
    found = problem.evaluate(weights, torch.zeros(2, 3, 1, dtype=torch.float64), 0.1)
    assert found.level.all()
    for head in range(2):
        w = weights[head].T.clone().requires_grad_()
        b = found.intercept[head, :, 0].clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(x[head] @ w + b, labels)
        loss = loss + 0.05 * w.square().sum()
        loss.backward()
        assert w.grad is not None
        assert b.grad is not None
        torch.testing.assert_close(found.loss[head], loss.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(found.gradient[head], w.grad.T, rtol=1e-10, atol=1e-13)
        # the intercept is at its optimum for these weights
        assert b.grad.abs().max() < 1e-11


def test_products_with_the_hessian_are_those_of_automatic_differentiation() -> None:
    """The rows and axes are padded; the padding takes no part."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 21, 5, generator=generator, dtype=torch.float64)
    labels = torch.arange(21) % 3
    problem = Problem(x, Classes(labels, 3))
    weights = torch.randn(1, 3, 5, generator=generator, dtype=torch.float64)
    at = problem.evaluate(weights, torch.zeros(1, 3, 1, dtype=torch.float64), 0.1)
    rows = torch.nn.functional.pad(x[0], (0, 1), value=1.0)

    def loss(both: Tensor) -> Tensor:
        entropy = torch.nn.functional.cross_entropy(rows @ both.T, labels)
        return entropy + 0.05 * both[:, :5].square().sum()

    direction = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    whole = torch.cat([at.weights[0], at.intercept[0]], 1)
    expected = torch.autograd.functional.hvp(loss, whole, direction)[1]
    hessian = Hessian.of(pad_rows(x, problem.targets), at.probability, 5, 0.1)
    product = (hessian @ torch.nn.functional.pad(direction[None].float(), (0, 10)))[0]
    torch.testing.assert_close(product[:, :6].double(), expected, rtol=1e-5, atol=1e-6)
    assert not product[:, 6:].any()


def test_at_another_penalty_the_loss_and_its_gradient_need_no_product() -> None:
    x = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    problem = Problem(x, Classes(torch.arange(30) % 3, 3))
    at = problem.minimise(problem.evaluate(*problem.start(), 0.1), 0.1, 1e-3)[0]
    moved, again = at.move(0.1, 0.01), problem.evaluate(at.weights, at.intercept, 0.01)
    torch.testing.assert_close(moved.loss, again.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(moved.gradient, again.gradient, rtol=1e-9, atol=1e-12)


def test_a_fit_leaves_those_that_it_starts_from_as_they_were() -> None:
    """Otherwise the next one starts from a wrong place, and takes twice as many products."""
    (x, labels), (asked, _) = draw(60, 8), draw(20, 8, seed=1)
    data = Labelled.of(labels, torch.arange(20) % 4, 1, "cpu")
    walk = _path.Walk([Axes.of(x, asked)], data)
    every, start = torch.arange(1), walk.problem.evaluate(*walk.problem.start(), 1.0)
    trail = walk._try(every, [(1.0, start)], 1.0)
    trail = walk._try(every, trail, 0.1)
    before = [one.take(every) for _, one in trail]
    walk._try(every, trail, 0.01)
    for (_, one), kept in zip(trail, before, strict=True):
        torch.testing.assert_close(one.weights, kept.weights, rtol=0, atol=0)
        torch.testing.assert_close(one.gradient, kept.gradient, rtol=0, atol=0)


@pytest.mark.parametrize("penalty", [1.0, 1e-3, 1e-6])
def test_the_certificate_bounds_what_the_loss_is_above_its_minimum(penalty: float) -> None:
    x = torch.randn(1, 60, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    problem = Problem(x, Classes(torch.arange(60) % 3, 3))
    start = problem.evaluate(*problem.start(), penalty)
    least = problem.minimise(start, penalty, 1e-12)[0]
    assert float(least.gap(penalty)) <= 1e-12
    minimum = float(least.loss)
    for gap in (1.0, 1e-1, 1e-2, 1e-3, 1e-5):
        some = problem.minimise(start, penalty, gap)[0]
        above = float(some.loss) - minimum
        assert -1e-12 * minimum <= above <= float(some.gap(penalty)) * float(some.loss)


@pytest.mark.parametrize(("images", "dim"), [(120, 10), (40, 90)])
def test_all_penalties_predict_what_scikit_learn_predicts(images: int, dim: int) -> None:
    (x, labels), (asked, _) = draw(images, dim), draw(400, dim, seed=1)
    (probe,) = fit_logistic([x], labels, [asked], torch.arange(400) % 4, widen=False)
    assert [trial.penalty for trial in probe.path] == list(PENALTIES)
    for trial in probe.path:
        assert trial.gap <= GAP
        theirs = LogisticRegression(C=1 / (trial.penalty * images), tol=1e-8, max_iter=100_000)
        theirs.fit(standardise(x, x), labels.numpy())
        predicted = theirs.predict(standardise(asked, x))
        assert (trial.predicted.numpy() == predicted).mean() >= 0.99
        w = theirs.coef_
        p = theirs.predict_proba(standardise(x, x))
        loss = -np.log(p[np.arange(images), labels.numpy()]).mean()
        loss += trial.penalty / 2 * np.square(w).sum()
        # theirs is no lower than the minimum, of which the certificate says how low it may be
        assert trial.loss * (1 - trial.gap) <= loss
        assert trial.loss <= loss * (1 + trial.gap)


def test_the_logits_are_of_the_features_as_they_come() -> None:
    (x, labels), (asked, asked_labels) = draw(120, 6), draw(50, 6, seed=1)
    (probe,) = fit_logistic([x], labels, [asked], asked_labels)
    theirs = LogisticRegression(C=1 / (probe.penalty * 120), tol=1e-10, max_iter=100_000)
    theirs.fit(standardise(x, x), labels.numpy())
    expected = torch.from_numpy(theirs.decision_function(standardise(asked, x)))
    ours = probe.logits(asked)
    assert ours.dtype == torch.float32
    centred = ours.double() - ours.double().mean(1, keepdim=True)
    torch.testing.assert_close(
        centred, expected - expected.mean(1, keepdim=True), atol=0.05, rtol=0.05
    )
    torch.testing.assert_close(probe.predict(asked), probe.path[probe.chosen].predicted)


def test_heads_together_are_as_alone() -> None:
    pairs = [
        (draw(90, dim, apart=0.3)[0], draw(60, dim, apart=0.3, seed=1)[0]) for dim in (3, 20, 150)
    ]
    labels, asked = torch.arange(90) % 4, torch.arange(60) % 4
    together = fit_logistic([x for x, _ in pairs], labels, [v for _, v in pairs], asked)
    for (x, validation), probe in zip(pairs, together, strict=True):
        (alone,) = fit_logistic([x], labels, [validation], asked)
        assert alone.penalty == probe.penalty
        for one, other in zip(alone.path, probe.path, strict=True):
            assert one.loss == pytest.approx(other.loss, rel=GAP)
        assert (
            float((alone.predict(validation) == probe.predict(validation)).double().mean()) > 0.95
        )


def test_groups_that_fit_into_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, v = draw(90, 8)[0], draw(60, 8, seed=1)[0]
    labels, asked = torch.arange(90) % 4, torch.arange(60) % 4
    together = fit_logistic([x] * 3, labels, [v] * 3, asked)
    monkeypatch.setitem(logistic.TOGETHER, "cpu", 1)
    done: list[int] = []
    apart = fit_logistic([x] * 3, labels, [v] * 3, asked, progress=lambda at, _: done.append(at))
    assert done == [1, 2, 3]
    for a, b in zip(together, apart, strict=True):
        assert a.penalty == b.penalty
        torch.testing.assert_close(a.weights, b.weights, rtol=1e-6, atol=1e-9)


def test_of_separable_classes_a_penalty_inside_the_path_is_taken() -> None:
    labels = torch.arange(40) % 2
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) + 100 * labels[:, None]
    (probe,) = fit_logistic([x[:20]], labels[:20], [x[20:]], labels[20:])
    # all penalties have all images right, and the weakest the least cross-entropy
    assert [trial.validation for trial in probe.path] == [1] * len(PENALTIES)
    assert probe.path[-1].cross_entropy == min(trial.cross_entropy for trial in probe.path)
    assert (probe.penalty, probe.converged, probe.inside) == (1e-5, True, True)
    assert bool((probe.predict(x) == labels).all())


@pytest.mark.parametrize("end", ["STRONGEST", "WEAKEST"])
def test_a_choice_at_the_limit_of_the_path_says_so(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of classes that are hardly apart a strong penalty is best, of what is known a weak one."""
    x, labels = draw(200, 30, apart=0.2)
    asked, asked_labels = draw(400, 30, apart=0.2, seed=1)
    if end == "WEAKEST":  # what is learnt by heart is best
        asked, asked_labels = x, labels
    monkeypatch.setattr(_path, "STRONGEST", 1e-4)
    monkeypatch.setattr(_path, "WEAKEST", 1e-2)
    penalties = [1e-4, 1e-6] if end == "STRONGEST" else [1.0, 1e-2]
    (probe,) = fit_logistic([x], labels, [asked], asked_labels, penalties=penalties)
    assert len(probe.path) == 2
    assert probe.converged
    assert not probe.inside
    assert (
        probe.why == f"the penalty chosen, {probe.penalty:g}, is the {end.lower()} that was tried"
    )


def test_the_path_goes_on_until_the_choice_is_inside() -> None:
    x, labels = draw(200, 30, apart=0.2)
    asked, asked_labels = draw(400, 30, apart=0.2, seed=1)
    (narrow,) = fit_logistic(
        [x], labels, [asked], asked_labels, penalties=[1e-5, 1e-6], widen=False
    )
    assert not narrow.inside
    (wide,) = fit_logistic([x], labels, [asked], asked_labels, penalties=[1e-5, 1e-6])
    assert wide.inside
    assert wide.why == ""
    assert wide.penalty >= 1e-5
    assert len(wide.path) > 2
    assert wide.path[wide.chosen].validation == max(one.validation for one in wide.path)


def test_constant_features_give_the_most_frequent_class() -> None:
    labels = torch.tensor([0, 1, 1, 1, 2, 0])
    x = torch.full((6, 4), 0.1)
    (probe,) = fit_logistic([x], labels, [x[:2]], labels[:2])
    assert probe.predict(x).tolist() == [1] * 6
    assert (probe.converged, probe.inside, probe.why) == (True, True, "")
    torch.testing.assert_close(probe.logits(x)[0].softmax(0), torch.tensor([2 / 6, 3 / 6, 1 / 6]))


def test_a_feature_without_variance_counts_for_nothing() -> None:
    (x, labels), (asked, asked_labels) = draw(80, 6), draw(40, 6, seed=1)
    wider = torch.cat([x, torch.full((80, 2), 1000.0)], 1)
    wider_asked = torch.cat([asked, torch.randn(40, 2)], 1)
    plain, dropped = (
        fit_logistic([a], labels, [b], asked_labels)[0]
        for a, b in ((x, asked), (wider, wider_asked))
    )
    torch.testing.assert_close(dropped.weights[:6], plain.weights, rtol=1e-3, atol=1e-5)
    assert dropped.weights[6:].abs().max() == 0


def test_classes_without_training_images_are_never_predicted() -> None:
    x, labels = draw(80, 6, classes=3)
    numbers = torch.tensor([2, 5, 9])[labels]
    asked = numbers.clone()
    asked[:4] = 7  # known to no probe
    (probe,) = fit_logistic([x], numbers, [x], asked)
    assert probe.classes.tolist() == [2, 5, 9]
    assert set(probe.predict(x).tolist()) <= {2, 5, 9}
    assert probe.validation <= 76 / 80
    assert probe.logits(x).shape == (80, 3)


def test_one_image_a_class_can_be_learnt() -> None:
    x, labels = draw(4, 20)
    asked, asked_labels = draw(40, 20, seed=1)
    (probe,) = fit_logistic([x], labels, [asked], asked_labels)
    assert probe.converged
    assert probe.predict(x).tolist() == [0, 1, 2, 3]


def test_an_image_without_numbers_is_not_right() -> None:
    x, labels = draw(40, 20)
    (probe,) = fit_logistic([x], labels, [x], labels)
    x[::2] = torch.nan
    assert not probe.right(x, labels)[::2].any()


def test_what_cannot_be_learnt_is_refused() -> None:
    x, labels = draw(20, 3)
    refused = {
        "one class": ([x], torch.zeros(20, dtype=torch.int64), [x], labels),
        "two images": ([x[:1]], labels[:1], [x], labels),
        "no images to choose": ([x], labels, [x[:0]], labels[:0]),
        "not finite": ([x / 0], labels, [x], labels),
        "expected (20, 3)": ([x], labels, [x[:, :2]], labels),
        "1 features to train on and 2": ([x], labels, [x, x], labels),
        "19 labels": ([x], labels[:19], [x], labels),
    }
    for words, given in refused.items():
        with pytest.raises(InputError, match=words.replace("(", r"\(").replace(")", r"\)")):
            fit_logistic(*given)
    with pytest.raises(InputError, match="above 0"):
        fit_logistic([x], labels, [x], labels, penalties=[0.0])
