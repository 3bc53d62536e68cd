"""Multinomial logistic regressions of several features at once: Newton's method, each step by
conjugate gradients, in batched products."""

from dataclasses import dataclass, fields
from typing import final

import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from sslens.probes._targets import Targets

#: Newton steps a penalty at most, and products with the Hessian in one step
STEPS, PRODUCTS = 30, 1000
#: the residual of a Newton step, as a share of the gradient
RESIDUAL = 0.3
#: share of the predicted decrease of the loss that a step must reach (Armijo), and halvings of it
ENOUGH, HALVINGS = 1e-4, 30
#: mean probability of a class less the share of its images, at which an intercept is at its optimum
LEVEL, LEVELS = 1e-12, 50
#: curvature by the intercept of a class that rounding may hide
FLAT = 1e-15
#: the weakest penalty at which `_Kronecker` takes fewer products than `_Diagonal`: of a random
#: ViT-B's block, 7,840 patches of 21 classes, 58 for 86 at 0.01 and 140 for 210 at 0.001, but 405
#: for 280 at 1e-4 (`bench/dense.py`)
COUPLED = 1e-3
#: the least curvature between classes, as a share of the largest
LEAST = 1e-6


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
        # the intercept is the weight of a further axis, which is 1 for all images
        self._single = targets.scale(torch.nn.functional.pad(x.float(), (0, 1), value=1.0))
        self._squares = self._single.square().mean(1) if targets.mixed else None

    def take(self, heads: Tensor) -> "Problem":
        """Return some of the heads, by a mask or by their numbers."""
        everyone = torch.arange(len(self.x), device=heads.device)
        if heads.all() if heads.dtype == torch.bool else torch.equal(heads, everyone):
            return self
        some = object.__new__(Problem)
        some.targets = self.targets
        some.x, some._single = self.x[heads], self._single[heads]
        some._squares = None if self._squares is None else self._squares[heads]
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
        logits = weights @ self.x.mT
        intercept, level = self._level(logits, intercept)
        logits += intercept
        total = logits.logsumexp(1, keepdim=True)
        loss = self.targets.compute_loss(logits, total)
        loss = loss + penalty / 2 * weights.square().sum((1, 2))
        probability = logits.sub_(total).exp_()
        error = self.targets.compute_error(probability)
        gradient = torch.baddbmm(weights, error, self.x, beta=penalty)
        return Regressions(weights, intercept, loss, gradient, probability, level)

    def _level(
        self,
        logits: Float64[Tensor, "head class image"],
        intercept: Float64[Tensor, "head class 1"],
    ) -> tuple[Float64[Tensor, "head class 1"], Bool[Tensor, " head"]]:
        """Minimise the loss over the intercept alone, by Newton's method.

        A step whose entries span at most 1 lowers the loss of any softmax, since the Hessian then
        changes by less than a factor of e.
        """
        for _ in range(LEVELS):
            p = (logits + intercept).softmax(1)
            mean = self.targets.average(p)
            off = self.targets.shares - mean
            level = off.abs().amax((1, 2)) <= LEVEL
            if level.all():
                break
            # a constant on all classes changes nothing: it is held at 0; and far from the optimum
            # nothing of the Hessian may be left
            hessian = torch.diag_embed(mean[..., 0] + FLAT) - self.targets.multiply(p)
            hessian += 1 / mean.shape[1]
            step = torch.linalg.solve(hessian, off)
            span = step.amax(1, keepdim=True) - step.amin(1, keepdim=True)
            intercept = intercept + torch.where(level[:, None, None], 0, step / span.clamp_min(1))
        return intercept, level

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

        The preconditioner is `_Kronecker`, or the diagonal of the Hessian.
        """
        size = now.gradient.square().sum((1, 2)).sqrt()
        wanted = (2 * penalty * gap * now.loss).sqrt() / size
        wanted = torch.clamp(wanted / 2, RESIDUAL, 0.9).float()
        hessian = _Hessian(self._single, now.probability.float(), penalty)
        conditioner = self._precondition(now.probability, hessian)
        residual = -torch.nn.functional.pad(now.gradient / size[:, None, None], (0, 1)).float()
        result = torch.zeros_like(residual)
        count = torch.zeros(len(residual), dtype=torch.int64)
        active = torch.arange(len(residual), device=residual.device)
        solution, search = torch.zeros_like(residual), conditioner.solve(residual)
        product = _dot(residual, search)
        for number in range(1, PRODUCTS + 1):
            turned = hessian @ search
            curvature = _dot(search, turned)
            length = torch.where(curvature > 0, product / curvature, 0)
            solution = torch.addcmul(solution, length, search)
            residual = torch.addcmul(residual, length, turned, value=-1)
            done = residual.square().sum((1, 2)).sqrt() <= wanted
            done |= length[:, 0, 0] == 0  # no curvature is left that float32 can tell
            if number == PRODUCTS:
                done = torch.ones_like(done)
            if done.any():
                result[active[done]], count[active[done].cpu()] = solution[done], number
                if done.all():
                    break
                stay = ~done
                active, wanted = active[stay], wanted[stay]
                hessian, conditioner = hessian.take(stay), conditioner.take(stay)
                solution, residual, search = solution[stay], residual[stay], search[stay]
                product = product[stay]
            scaled = conditioner.solve(residual)
            following = _dot(residual, scaled)
            search = torch.addcmul(scaled, following / product, search)
            product = following
        return result.double() * size[:, None, None], count

    def _precondition(
        self, probability: Float64[Tensor, "head class image"], hessian: "_Hessian"
    ) -> "_Diagonal | _Kronecker":
        """Choose and compute the preconditioner of a step."""
        if self._squares is None or hessian.strength < COUPLED:
            return _Diagonal.of(hessian)
        mean = self.targets.average(probability)[..., 0]
        coupling = torch.diag_embed(mean) - self.targets.multiply(probability)
        return _Kronecker.of(coupling, self._squares, hessian.penalty)

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


@final
class _Hessian:
    """The Hessian of the loss by weights and intercept, times something, in float32.

    H d = (1/n) Σ_i (diag(p_i) − p_i p_iᵀ) d x_i x_iᵀ + λ d, without λ for the intercept.
    """

    def __init__(
        self,
        x: Float32[Tensor, "head image axis_and_one"],
        probability: Float32[Tensor, "head class image"],
        strength: float,
    ) -> None:
        self.x, self.probability, self.strength = x, probability, strength
        self.penalty: Float32[Tensor, " axis_and_one"] = x.new_full((x.shape[2],), strength)
        self.penalty[-1] = 0

    def take(self, heads: Tensor) -> "_Hessian":
        return _Hessian(self.x[heads], self.probability[heads], self.strength)

    def __matmul__(
        self, direction: Float32[Tensor, "head class axis_and_one"]
    ) -> Float32[Tensor, "head class axis_and_one"]:
        change = (direction @ self.x.mT).mul_(self.probability)
        change.addcmul_(self.probability, change.sum(1, keepdim=True), value=-1)
        return torch.addcmul(change @ self.x / self.x.shape[1], self.penalty, direction)


@final
@dataclass(frozen=True, eq=False)
class _Diagonal:
    """The diagonal of the Hessian, as a preconditioner."""

    values: Float32[Tensor, "head class axis_and_one"]

    @classmethod
    def of(cls, hessian: _Hessian) -> "_Diagonal":
        curvature = hessian.probability * (1 - hessian.probability)
        values = curvature @ hessian.x.square() / hessian.x.shape[1] + hessian.penalty
        return cls(values.clamp_min(1e-20))

    def take(self, heads: Tensor) -> "_Diagonal":
        return _Diagonal(self.values[heads])

    def solve(
        self, residual: Float32[Tensor, "head class axis_and_one"]
    ) -> Float32[Tensor, "head class axis_and_one"]:
        return residual / self.values


@final
@dataclass(frozen=True, eq=False)
class _Kronecker:
    """The Hessian as if all rows had the same curvature between classes, as a preconditioner:
    M ⊗ diag(s) + λ, with M = Σ_i w_i (diag(p_i) − p_i p_iᵀ) and s_j = Σ_i w_i x_ij².

    Where rows are of several classes at once, classes stay coupled at the optimum, which the
    diagonal leaves out.

    Attributes:
        vectors: eigenvectors of M.
        scale: what a residual is multiplied by, in these.
    """

    vectors: Float32[Tensor, "head class class"]
    scale: Float32[Tensor, "head class axis_and_one"]

    @classmethod
    def of(
        cls,
        coupling: Float64[Tensor, "head class class"],
        squares: Float32[Tensor, "head axis_and_one"],
        penalty: Float32[Tensor, " axis_and_one"],
    ) -> "_Kronecker":
        curvature, vectors = torch.linalg.eigh(coupling)
        # a constant on all classes has no curvature, and no residual either
        curvature = curvature.clamp_min(LEAST * curvature[:, -1:].clamp_min(FLAT))
        scale = 1 / (curvature.float()[:, :, None] * squares[:, None] + penalty)
        return cls(vectors.float(), scale)

    def take(self, heads: Tensor) -> "_Kronecker":
        return _Kronecker(self.vectors[heads], self.scale[heads])

    def solve(
        self, residual: Float32[Tensor, "head class axis_and_one"]
    ) -> Float32[Tensor, "head class axis_and_one"]:
        return self.vectors @ ((self.vectors.mT @ residual) * self.scale)


def _dot(
    a: Float32[Tensor, "head class axis"], b: Float32[Tensor, "head class axis"]
) -> Float32[Tensor, "head 1 1"]:
    return (a * b).sum((1, 2), keepdim=True)
