"""A trial for the default linear probe, imported by nothing: L2-regularised multinomial logistic
regression over a path of penalties, of many features at once, each with a certificate.

    python runs/trials/logistic.py scenes_mae       # beside scikit-learn's, one thread, a minute

On 21 taps and poolings of a reference model, 1,500 training scenes, 7 penalties down to 1e-6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from sslens.errors import InputError

#: penalties λ that are tried first, on features of variance 1, from the strongest
PENALTIES = tuple(10.0**-power for power in range(7))
#: the largest part of the loss by which it may lie above its minimum
GAP = 1e-3
#: pairs of steps and changes of gradient that L-BFGS remembers, and its steps at most a penalty
MEMORY, STEPS = 20, 1000
#: share of the predicted decrease of the loss that a step must reach (Armijo), and trials of it
ENOUGH, TRIALS = 1e-4, 20
#: bytes of features of the heads that are fitted together
TOGETHER = 2**30


@final
@dataclass(frozen=True, eq=False)
class LogisticPath:
    """Multinomial logistic regressions of one head on the same images, one a penalty.

    Attributes:
        penalties: λ, from the strongest.
        weights: of the features as they come.
        intercept: of each class.
        loss: cross-entropy, mean over images, plus λ/2 ‖W‖².
        gap: the bound ‖g‖² / (2λ) on what the loss lies above its minimum, over the loss.
        steps: of L-BFGS.
    """

    penalties: tuple[float, ...]
    weights: Float64[Tensor, "lambda dim class"]
    intercept: Float64[Tensor, "lambda class"]
    loss: Float64[Tensor, " lambda"]
    gap: Float64[Tensor, " lambda"]
    steps: Int64[Tensor, " lambda"]

    def predict(self, features: Float[Tensor, "test dim"]) -> Float64[Tensor, "lambda test class"]:
        """The logits of each regression."""
        return features.double() @ self.weights + self.intercept[:, None]

    @property
    def converged(self) -> Bool[Tensor, " lambda"]:
        """Whether the certificate holds: the loss is within `GAP` of its minimum."""
        return self.gap <= GAP


def fit_paths(
    features: Sequence[Float[Tensor, "image _"]],
    labels: Int64[Tensor, " image"],
    penalties: Sequence[float] = PENALTIES,
    *,
    classes: int | None = None,
    device: str = "cpu",
) -> list[LogisticPath]:
    """Fit a path of logistic regressions for each of several features of the same images.

    Minimises, for features X of mean 0 and variance 1 (a constant one stays 0),

        f(W, b) = −(1/n) Σ_i log softmax(x_i W + b)_{y_i} + λ/2 ‖W‖²

    where b is not penalised; scikit-learn's `C` is 1 / (n λ). With X = U S Vᵀ the regression is of
    the coordinates U S, in which XᵀX / n is the diagonal s; there W is scaled by 1/√(c s + λ),
    with c the mean of p(1 − p) over classes, by which the Hessian is near the identity, and L-BFGS
    (Nocedal, 1980) of all heads goes on in batched products. A penalty starts where the
    stronger one before it ended, and heads that have converged leave the batch.

    The certificate: f, minimised over b, is λ-strongly convex in W, so that it lies at most
    ‖∂f/∂W‖² / (2λ) above its minimum (Boyd & Vandenberghe, 2004, eq. 9.9).

    Args:
        features: one array a head, of any widths.
        labels: class of each image, from 0.
        penalties: λ, each above 0.
        classes: how many there are; one more than the largest label unless given.
        device: where the products are computed.

    Raises:
        InputError: fewer than two images or classes, values that are not finite, or a penalty that
            is not above 0.

    >>> x = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    >>> path, = fit_paths([x], torch.tensor([0, 1, 1, 0]), [1.0])  # the classes know nothing of x
    >>> path.weights.abs().max().item() < 1e-6, path.loss.item()  # log 2
    (True, 0.6931...)
    """
    _require(features, labels, penalties)
    count = int(labels.max()) + 1 if classes is None else classes
    if count < 2 or len(labels.unique()) < 2:
        raise InputError("All images are of one class: a probe needs two or more.")
    order = tuple(sorted(penalties, reverse=True))
    spectra = [Coordinates.of(x.to(device)) for x in features]
    paths: list[LogisticPath] = []
    for some in _divide(spectra):
        paths += _fit(some, labels.to(device), count, order)
    return paths


@final
@dataclass(frozen=True, eq=False)
class Coordinates:
    """Features in the axes of their covariance.

    Attributes:
        values: U S, one column an axis, of mean 0.
        variance: of each axis.
        turn: from the features as they come (less `mean`) to the coordinates.
        mean: of the features.
    """

    values: Float64[Tensor, "image rank"]
    variance: Float64[Tensor, " rank"]
    turn: Float64[Tensor, "dim rank"]
    mean: Float64[Tensor, " dim"]

    @classmethod
    def of(cls, features: Float[Tensor, "image dim"]) -> "Coordinates":
        """Standardise features, and turn them into the axes of their covariance."""
        x = features.double()
        mean = x.mean(0)
        x = x - mean
        scale = x.square().mean(0).sqrt()
        # what rounding leaves of a constant feature is no feature
        scale = torch.where(scale > 1e-7 * mean.abs(), scale, torch.inf)
        x = x / scale
        n, dim = x.shape
        spectrum, vectors = torch.linalg.eigh(x.T @ x / n if n > dim else x @ x.T / n)
        large = spectrum > spectrum[-1].clamp_min(1e-30) * 1e-12
        spectrum, vectors = spectrum[large], vectors[:, large]
        if n <= dim:
            vectors = x.T @ vectors / (n * spectrum).sqrt()
        return cls(x @ vectors, spectrum, vectors / scale[:, None], mean)


def _require(
    features: Sequence[Float[Tensor, "image _"]],
    labels: Int64[Tensor, " image"],
    penalties: Sequence[float],
) -> None:
    if len(labels) < 2:
        raise InputError("A probe needs two images or more.")
    if not penalties or not all(0 < penalty < float("inf") for penalty in penalties):
        raise InputError(f"The penalties are {list(penalties)}: give numbers above 0.")
    for x in features:
        if len(x) != len(labels):
            raise InputError(f"There are features of {len(x):,} images and {len(labels):,} labels.")
        if not torch.isfinite(x).all():
            raise InputError(
                "The features hold values that are not finite: the model or its input is broken."
            )


def _divide(heads: Sequence[Coordinates]) -> list[list[Coordinates]]:
    """Consecutive heads whose features are at most `TOGETHER` bytes, padded to one width."""
    groups: list[list[Coordinates]] = [[]]
    for head in heads:
        group = [*groups[-1], head]
        width = max(each.values.shape[1] for each in group)
        if groups[-1] and 8 * len(group) * len(head.values) * width > TOGETHER:
            groups.append([head])
        else:
            groups[-1] = group
    return groups


def _fit(
    heads: Sequence[Coordinates],
    labels: Int64[Tensor, " image"],
    classes: int,
    order: Sequence[float],
) -> list[LogisticPath]:
    """The paths of heads that are fitted together."""
    rank = max(head.values.shape[1] for head in heads)
    pad = [rank - head.values.shape[1] for head in heads]
    x = torch.stack(
        [torch.nn.functional.pad(h.values, (0, p)) for h, p in zip(heads, pad, strict=True)]
    )
    s = torch.stack(
        [torch.nn.functional.pad(h.variance, (0, p)) for h, p in zip(heads, pad, strict=True)]
    )
    problem = _Problem(x, s, labels, classes)
    theta = x.new_zeros(len(heads), rank + 1, classes)
    found = []
    for penalty in order:
        theta, loss, gap, steps = problem.minimise(theta, penalty)
        found.append((theta, loss, gap, steps))
    paths = []
    for number, head in enumerate(heads):
        width = head.values.shape[1]
        coordinates = torch.stack([theta[number] for theta, _, _, _ in found])
        weights = head.turn @ coordinates[:, :width]
        intercept = coordinates[:, -1] - head.mean @ weights
        rest = (torch.stack([part[i][number] for part in found]).cpu() for i in (1, 2, 3))
        paths.append(LogisticPath(tuple(order), weights.cpu(), intercept.cpu(), *rest))
    return paths


@final
class _Problem:
    """The loss of heads in the axes of their covariance, and L-BFGS on it."""

    def __init__(
        self,
        x: Float64[Tensor, "head image rank"],
        variance: Float64[Tensor, "head rank"],
        labels: Int64[Tensor, " image"],
        classes: int,
    ) -> None:
        self.x, self.variance, self.labels = x, variance, labels
        share = torch.bincount(labels, minlength=classes).double() / len(labels)
        self.curvature = float((share * (1 - share)).mean())
        self.target = torch.nn.functional.one_hot(labels, classes).to(x)

    def evaluate(
        self,
        x: Float64[Tensor, "head image rank"],
        theta: Float64[Tensor, "head row class"],
        penalty: float,
    ) -> tuple[Float64[Tensor, " head"], Float64[Tensor, "head row class"]]:
        """The loss of each head and its gradient; the last row of theta is the intercept."""
        logits = torch.baddbmm(theta[:, -1:], x, theta[:, :-1])
        logs = logits.log_softmax(-1)
        loss = -logs[:, torch.arange(len(self.labels)), self.labels].mean(1)
        loss = loss + penalty / 2 * theta[:, :-1].square().sum((1, 2))
        error = logs.exp_().sub_(self.target).div_(len(self.labels))
        gradient = torch.cat([x.mT @ error + penalty * theta[:, :-1], error.sum(1, True)], 1)
        return loss, gradient

    def minimise(
        self, theta: Float64[Tensor, "head row class"], penalty: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where the loss of each head is least, the loss, the certificate's gap and the steps."""
        scale = 1 / (self.curvature * self.variance + penalty).sqrt()
        scale = torch.cat([scale, torch.full_like(scale[:, :1], self.curvature**-0.5)], 1)[
            ..., None
        ]
        result = theta.clone()
        heads = len(theta)
        losses, gaps = theta.new_zeros(heads), theta.new_full((heads,), torch.inf)
        steps = torch.zeros(heads, dtype=torch.int64)
        active = torch.arange(heads)
        x = self.x
        theta = theta.clone()
        loss, gradient = self.evaluate(x, theta, penalty)
        memory: list[tuple[Tensor, Tensor, Tensor]] = []
        for step in range(STEPS + 1):
            gap = gradient[:, :-1].square().sum((1, 2)) / (2 * penalty) / loss
            level = gradient[:, -1].square().sum(-1) / self.curvature / loss
            done = (gap <= GAP / 2) & (level <= GAP / 100)
            if step == STEPS:
                done = torch.ones_like(done)
            if done.any():
                at = active[done.cpu()]
                result[at], losses[at], gaps[at], steps[at] = (
                    theta[done],
                    loss[done],
                    gap[done],
                    step,
                )
                if done.all():
                    break
                stay = ~done
                active = active[stay.cpu()]
                x, theta, loss, gradient = x[stay], theta[stay], loss[stay], gradient[stay]
                scale = scale[stay]
                memory = [(a[stay], b[stay], c[stay]) for a, b, c in memory]
            direction = _direct(gradient * scale, memory) * scale
            theta, loss, gradient, pair = self._search(x, theta, loss, gradient, direction, penalty)
            moved, turned = pair[0] / scale, pair[1] * scale
            product = (moved * turned).sum((1, 2))
            good = product > 1e-14 * moved.square().sum((1, 2)).clamp_min(1e-300)
            inverse = torch.where(good, 1 / product, 0)
            memory = [*memory[-MEMORY + 1 :], (moved, turned, inverse)]
        return result, losses, gaps, steps

    def _search(
        self,
        x: Tensor,
        theta: Tensor,
        loss: Tensor,
        gradient: Tensor,
        direction: Tensor,
        penalty: float,
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """A step of each head along its direction that lowers its loss enough."""
        slope = (gradient * direction).sum((1, 2))
        length = torch.ones_like(loss)
        new = theta + direction
        new_loss, new_gradient = self.evaluate(x, new, penalty)
        for _ in range(TRIALS):
            short = new_loss > loss + ENOUGH * length * slope + 1e-15 * loss.abs()
            if not short.any():
                break
            # the least of the parabola through both losses and the slope, within a tenth to a half
            drop = new_loss - loss - length * slope
            best = -slope * length.square() / (2 * drop)
            length = torch.where(short, torch.clamp(best, 0.1 * length, 0.5 * length), length)
            trial = theta[short] + length[short, None, None] * direction[short]
            new[short] = trial
            new_loss[short], new_gradient[short] = self.evaluate(x[short], trial, penalty)
        return new, new_loss, new_gradient, (new - theta, new_gradient - gradient)


def _direct(
    gradient: Float64[Tensor, "head row class"],
    memory: Sequence[tuple[Tensor, Tensor, Tensor]],
) -> Float64[Tensor, "head row class"]:
    """The direction of L-BFGS, −H g, by the two loops over the pairs in memory."""
    q = gradient.clone()
    factors = []
    for moved, turned, inverse in reversed(memory):
        factor = inverse * (moved * q).sum((1, 2))
        q -= factor[:, None, None] * turned
        factors.append(factor)
    if memory:
        moved, turned, inverse = memory[-1]
        size = turned.square().sum((1, 2))
        gamma = torch.where(inverse > 0, 1 / (inverse * size), 1.0)
        q *= gamma[:, None, None]
    for (moved, turned, inverse), factor in zip(memory, reversed(factors), strict=True):
        back = inverse * (turned * q).sum((1, 2))
        q += (factor - back)[:, None, None] * moved
    return -q


def main() -> None:
    """Fit all taps and poolings of a model, and three of them with scikit-learn."""
    import sys
    import time

    import numpy as np
    from sklearn.linear_model import LogisticRegression

    import sslens

    torch.set_num_threads(1)
    model, images = sslens.load(sys.argv[1]), sslens.open_images("scenes:0:2000")
    features = sslens.features(model, images)
    assert images.labels is not None
    row = {name: number for number, name in enumerate(images.ids)}
    labels = torch.tensor(images.labels)[[row[name] for name in features.ids]]
    heads = [features.read(*column) for column in features.columns]
    began = time.process_time()
    paths = fit_paths([x[:1500] for x in heads], labels[:1500])
    ours = time.process_time() - began
    gap = max(float(path.gap.max()) for path in paths)
    print(f"{len(heads)} heads: {ours:.1f} s, largest gap {gap:.1e}")
    for number in range(0, len(heads), max(1, len(heads) // 3)):
        x, path = heads[number].double(), paths[number]
        mean, scale = x[:1500].mean(0), x[:1500].std(0, unbiased=False)
        x = ((x - mean) / torch.where(scale > 1e-7, scale, torch.inf)).numpy()
        began, same = time.process_time(), []
        for place, penalty in enumerate(path.penalties):
            theirs = LogisticRegression(C=1 / (penalty * 1500), max_iter=2000)
            predicted = theirs.fit(x[:1500], labels[:1500].numpy()).predict(x[1500:])
            mine = path.predict(heads[number][1500:])[place].argmax(1).numpy()
            same.append(float(np.mean(predicted == mine)))
        seconds = time.process_time() - began
        shares = ", ".join(f"{share:.3f}" for share in same)
        print(f"head {number}: scikit-learn {seconds:.1f} s, same predictions {shares}")


if __name__ == "__main__":
    main()
