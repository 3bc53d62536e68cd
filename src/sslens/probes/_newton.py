"""Multinomial logistic regressions of several features at once: Newton's method, each step by
conjugate gradients, in batched products."""

from dataclasses import dataclass, fields, replace
from typing import final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from sslens.probes._hessian import FLAT, Hessian, pad_rows, precondition, solve
from sslens.probes._targets import Targets

#: Newton steps a penalty at most
STEPS = 30
#: the residual of a Newton step, as a share of the gradient: at least so much, and of what leads to
#: the certificate that is sought, for the loss is not quite as its Hessian says
RESIDUAL, CLOSER = 0.2, 0.85
#: share of the predicted decrease of the loss that a step must reach (Armijo), and halvings of it
ENOUGH, HALVINGS = 1e-4, 30
#: mean probability of a class less the share of its images, at which an intercept is at its optimum
LEVEL, LEVELS = 1e-12, 50


@final
@dataclass(frozen=True, eq=False)
class Regressions:
    """Logistic regressions of several heads, each on coordinates of its own, at one penalty.

    Attributes:
        weights: W of each head.
        intercept: b of each head, at its optimum for these weights.
        loss: the mean cross-entropy and λ/2 ‖W‖².
        gradient: of the loss by the weights.
        probability: of each class, by training image.
        level: whether the intercept is at its optimum to rounding.
    """

    weights: Float64[Tensor, "head class axis"]
    intercept: Float64[Tensor, "head class 1"]
    loss: Float64[Tensor, " head"]
    gradient: Float64[Tensor, "head class axis"]
    probability: Float64[Tensor, "head class image"]
    level: Bool[Tensor, " head"]

    def gap(self, penalty: float) -> Float64[Tensor, " head"]:
        """The bound ‖∂f/∂W‖² / (2λ) on the loss less its minimum, as a share of the loss.

        The loss, minimised over b, is λ-strongly convex in W (Boyd & Vandenberghe, 2004, eq. 9.9).
        """
        bound = self.gradient.square().sum((1, 2)) / (2 * penalty * self.loss)
        return torch.where(self.level, bound, torch.inf)

    def move(self, penalty: float, other: float) -> "Regressions":
        """Return the same weights and intercepts at another penalty, without a product."""
        change = other - penalty
        loss = self.loss + change / 2 * self.weights.square().sum((1, 2))
        gradient = self.gradient + change * self.weights
        return replace(self, loss=loss, gradient=gradient)

    def take(self, heads: Tensor) -> "Regressions":
        """Return some of the heads, by a mask or by their numbers."""
        return Regressions(*(getattr(self, one.name)[heads] for one in fields(self)))

    def put(self, heads: Tensor, other: "Regressions") -> None:
        """Replace some of the heads."""
        for one in fields(self):
            getattr(self, one.name)[heads] = getattr(other, one.name)


@final
class Problem:
    """The training images of several heads, on which regressions are fitted.

    Losses, gradients and certificates are computed in float64. Products with the Hessian, of which
    only the direction of a step depends, are computed in float32.

    Args:
        x: coordinates of the features, of mean 0; best the axes of their covariance.
        targets: the class of each image, or its shares of classes and its weight.
    """

    def __init__(self, x: Float64[Tensor, "head image axis"], targets: Targets) -> None:
        self.x, self.targets = x, targets
        self._single = pad_rows(x, targets)

    def take(self, heads: Tensor) -> "Problem":
        """Return some of the heads, by a mask or by their numbers."""
        everyone = torch.arange(len(self.x), device=heads.device)
        if heads.all() if heads.dtype == torch.bool else torch.equal(heads, everyone):
            return self
        some = object.__new__(Problem)
        some.targets = self.targets
        some.x, some._single = self.x[heads], self._single[heads]
        return some

    def start(self) -> tuple[Tensor, Tensor]:
        """Return weights of 0, and the intercepts that are best with them."""
        heads, _, axes = self.x.shape
        shares = self.targets.shares
        weights = self.x.new_zeros(heads, len(shares), axes)
        return weights, shares.log().expand(heads, -1, -1).clone()

    def evaluate(
        self,
        weights: Float64[Tensor, "head class axis"],
        intercept: Float64[Tensor, "head class 1"],
        penalty: float,
    ) -> Regressions:
        """Compute the loss and its gradient, with the intercept moved to its optimum."""
        logits = (weights @ self.x.mT).add_(intercept)
        change, level, probability, total = self._level(logits)
        loss = self.targets.compute_loss(logits.add_(change), total)
        loss = loss + penalty / 2 * weights.square().sum((1, 2))
        error = self.targets.compute_error(probability)
        gradient = torch.baddbmm(weights, error, self.x, beta=penalty)
        return Regressions(weights, intercept + change, loss, gradient, probability, level)

    def _level(
        self, logits: Float64[Tensor, "head class image"]
    ) -> tuple[
        Float64[Tensor, "head class 1"],
        Bool[Tensor, " head"],
        Float64[Tensor, "head class image"],
        Float64[Tensor, "head 1 image"],
    ]:
        """Minimise the loss over a change of the intercept alone, by Newton's method.

        A step whose entries span at most 1 lowers the loss of any softmax, since the Hessian then
        changes by less than a factor of e. The exponentials of the logits are computed once.

        Returns:
            The change, whether it is the best, the probabilities after it, and the logarithm of the
            sum of the exponentials.
        """
        most = logits.amax(1, keepdim=True)
        powers = (logits - most).exp_()
        change = logits.new_zeros(*logits.shape[:2], 1)
        for number in range(LEVELS + 1):
            p = powers * change.exp()
            sums = p.sum(1, keepdim=True)
            mean = self.targets.average(p.div_(sums))
            off = self.targets.shares - mean
            level = off.abs().amax((1, 2)) <= LEVEL
            if level.all() or number == LEVELS:
                break
            # a constant on all classes changes nothing: it is held at 0; and far from the optimum
            # nothing of the Hessian may be left
            hessian = torch.diag_embed(mean[..., 0] + FLAT) - self.targets.multiply(p)
            hessian += 1 / mean.shape[1]
            step = torch.linalg.solve(hessian, off)
            span = step.amax(1, keepdim=True) - step.amin(1, keepdim=True)
            change = change + torch.where(level[:, None, None], 0, step / span.clamp_min(1))
        return change, level, p, most.add_(sums.log_())

    def minimise(
        self, start: Regressions, penalty: float, gap: float
    ) -> tuple[Regressions, Int64[Tensor, " head"]]:
        """Go on from `start` until the certificate of each head is at most `gap`, or for `STEPS`
        Newton steps; also returns the number of products with the Hessian, by head."""
        best = start.take(torch.arange(len(start.loss)))
        products = torch.zeros(len(start.loss), dtype=torch.int64)
        active = (start.gap(penalty) > gap).nonzero()[:, 0]
        problem, now = self.take(active), start.take(active)
        for _ in range(STEPS):
            if not len(active):
                break
            direction, count = problem._direct(now, penalty, gap)
            products[active.cpu()] += count
            now = problem._search(now, direction, penalty)
            best.put(active, now)
            stay = now.gap(penalty) > gap
            if not stay.all():
                active, problem, now = active[stay], problem.take(stay), now.take(stay)
        return best, products

    def _direct(
        self, now: Regressions, penalty: float, gap: float
    ) -> tuple[Float64[Tensor, "head class axis_and_one"], Int64[Tensor, " head"]]:
        """Solve H d = −g by conjugate gradients, to a share of the gradient or to what the
        certificate asks for; the last column of d is the intercept's.
        """
        heads, classes, axes = now.weights.shape
        size = now.gradient.square().sum((1, 2)).sqrt()
        wanted = (2 * penalty * gap * now.loss).sqrt() / size
        wanted = torch.clamp(CLOSER * wanted, RESIDUAL, 0.9).float()
        hessian = Hessian.of(self._single, now.probability, axes, penalty)
        conditioner = precondition(hessian, now.probability, self.targets)
        target = self._single.new_zeros(heads, classes, self._single.shape[2])
        target[:, :, :axes] = -now.gradient / size[:, None, None]
        direction, count = solve(hessian, conditioner, target, wanted)
        return direction[:, :, : axes + 1].double() * size[:, None, None], count

    def _search(
        self,
        now: Regressions,
        direction: Float64[Tensor, "head class axis_and_one"],
        penalty: float,
    ) -> Regressions:
        """Take a step of each head along its direction, halved until it lowers the loss enough."""
        slope = (now.gradient * direction[..., :-1]).sum((1, 2))
        new = self.evaluate(
            now.weights + direction[..., :-1], now.intercept + direction[..., -1:], penalty
        )
        length = 1.0
        for _ in range(HALVINGS):
            allowed = now.loss + ENOUGH * length * slope + 1e-14 * now.loss
            short = ~(new.loss <= allowed)
            if not short.any():
                break
            length /= 2
            step = length * direction[short]
            shorter = self.take(short).evaluate(
                now.weights[short] + step[..., :-1], now.intercept[short] + step[..., -1:], penalty
            )
            new.put(short, shorter)
        return new
