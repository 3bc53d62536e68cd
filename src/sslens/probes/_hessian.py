"""Newton steps of logistic regressions by conjugate gradients, in float32: products with the
Hessian, and what preconditions them."""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from sslens.probes._targets import Targets

#: products with the Hessian in one step at most
PRODUCTS = 1000
#: rows and axes are padded to a multiple of this with zeros: a whole number of a processor's
#: registers, with which products are an eighth faster
MULTIPLE = 16
#: curvature by the intercept of a class that rounding may hide
FLAT = 1e-15
#: the weakest penalty at which `_Kronecker` takes fewer products than `_Diagonal`: of a random
#: ViT-B's block, 7,840 patches of 21 classes, 58 for 86 at 0.01 and 140 for 210 at 0.001, but 405
#: for 280 at 1e-4 (`bench/dense.py`)
COUPLED = 1e-3
#: the least curvature between classes, as a share of the largest
LEAST = 1e-6


def pad_rows(x: Float64[Tensor, "head row axis"], targets: Targets) -> Float32[Tensor, "head _ _"]:
    """Return √w_i x_i of each row for `Hessian`, in float32 and padded; the intercept is the weight
    of a further axis, which is 1 for all rows.

    Args:
        x: coordinates of the rows.
        targets: what is known of the rows.
    """
    heads, rows, axes = x.shape
    single = torch.zeros(heads, _pad(rows), _pad(axes + 1), dtype=torch.float32, device=x.device)
    single[:, :rows, :axes] = x
    single[:, :rows, axes] = 1
    single[:, :rows] = targets.scale(single[:, :rows])
    return single.div_(rows**0.5)


def _pad(count: int) -> int:
    return -(-count // MULTIPLE) * MULTIPLE


@final
class Hessian:
    """The Hessian of the loss by weights and intercept, times something.

    H d = Σ_i w_i (diag(p_i) − p_i p_iᵀ) d x_i x_iᵀ + λ d, without λ for the intercept.

    Args:
        x: the rows, by `pad_rows`.
        probability: p, padded as these.
        penalty: λ by axis: 0 for the intercept.
    """

    def __init__(
        self,
        x: Float32[Tensor, "head row axis"],
        probability: Float32[Tensor, "head class row"],
        penalty: Float32[Tensor, " axis"],
    ) -> None:
        self.x, self.probability, self.penalty = x, probability, penalty

    @classmethod
    def of(
        cls,
        x: Float32[Tensor, "head row axis"],
        probability: Float64[Tensor, "head class _"],
        axes: int,
        strength: float,
    ) -> "Hessian":
        """Make the Hessian at the probabilities of the rows that are not padding.

        Args:
            x: the rows, by `pad_rows`.
            probability: p.
            axes: the number of axes without the intercept's.
            strength: λ.
        """
        heads, classes, rows = probability.shape
        padded = x.new_zeros(heads, classes, x.shape[1])
        padded[:, :, :rows] = probability
        penalty = x.new_full((x.shape[2],), strength)
        penalty[axes] = 0
        return cls(x, padded, penalty)

    def take(self, heads: Tensor) -> "Hessian":
        return Hessian(self.x[heads], self.probability[heads], self.penalty)

    def __matmul__(
        self, direction: Float32[Tensor, "head class axis"]
    ) -> Float32[Tensor, "head class axis"]:
        change = torch.bmm(direction, self.x.mT).mul_(self.probability)
        change.addcmul_(self.probability, change.sum(1, keepdim=True), value=-1)
        return torch.baddbmm(direction * self.penalty, change, self.x)


@runtime_checkable
class Preconditioner(Protocol):
    """An approximation of the Hessian of which the inverse is cheap."""

    def take(self, heads: Tensor) -> "Preconditioner":
        """Return some of the heads."""
        ...

    def solve(
        self, residual: Float32[Tensor, "head class axis"]
    ) -> Float32[Tensor, "head class axis"]:
        """Multiply by the inverse."""
        ...


@final
@dataclass(frozen=True, eq=False)
class _Diagonal:
    """The diagonal of the Hessian, as a preconditioner.

    Attributes:
        inverse: what a residual is multiplied by.
    """

    inverse: Float32[Tensor, "head class axis"]

    @classmethod
    def of(cls, hessian: Hessian) -> "_Diagonal":
        curvature = hessian.probability * (1 - hessian.probability)
        values = curvature @ hessian.x.square() + hessian.penalty
        return cls(values.clamp_min_(1e-20).reciprocal_())

    def take(self, heads: Tensor) -> "_Diagonal":
        return _Diagonal(self.inverse[heads])

    def solve(
        self, residual: Float32[Tensor, "head class axis"]
    ) -> Float32[Tensor, "head class axis"]:
        return residual * self.inverse


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
    scale: Float32[Tensor, "head class axis"]

    @classmethod
    def of(cls, coupling: Float64[Tensor, "head class class"], hessian: Hessian) -> "_Kronecker":
        curvature, vectors = torch.linalg.eigh(coupling)
        # a constant on all classes has no curvature, and no residual either
        curvature = curvature.clamp_min(LEAST * curvature[:, -1:].clamp_min(FLAT))
        squares = hessian.x.square().sum(1)
        values = curvature.float()[:, :, None] * squares[:, None] + hessian.penalty
        return cls(vectors.float(), 1 / values)

    def take(self, heads: Tensor) -> "_Kronecker":
        return _Kronecker(self.vectors[heads], self.scale[heads])

    def solve(
        self, residual: Float32[Tensor, "head class axis"]
    ) -> Float32[Tensor, "head class axis"]:
        return self.vectors @ ((self.vectors.mT @ residual) * self.scale)


def precondition(
    hessian: Hessian, probability: Float64[Tensor, "head class row"], targets: Targets
) -> Preconditioner:
    """Choose and compute the preconditioner of a step: `_Kronecker`, or the diagonal of the
    Hessian."""
    if not targets.mixed or float(hessian.penalty.max()) < COUPLED:
        return _Diagonal.of(hessian)
    mean = targets.average(probability)[..., 0]
    coupling = torch.diag_embed(mean) - targets.multiply(probability)
    return _Kronecker.of(coupling, hessian)


def solve(
    hessian: Hessian,
    conditioner: Preconditioner,
    target: Float32[Tensor, "head class axis"],
    wanted: Float32[Tensor, " head"],
) -> tuple[Float32[Tensor, "head class axis"], Int64[Tensor, " head"]]:
    """Solve H d = t of each head by conjugate gradients, until ‖t − H d‖ is at most `wanted`.

    Returns:
        d, and the number of products with the Hessian, by head.
    """
    result, residual = torch.zeros_like(target), target.clone()
    count = torch.zeros(len(target), dtype=torch.int64)
    active = torch.arange(len(target), device=target.device)
    solution, search = torch.zeros_like(target), conditioner.solve(residual)
    product, wanted = _dot(residual, search), wanted.square()
    for number in range(1, PRODUCTS + 1):
        turned = hessian @ search
        curvature = _dot(search, turned)
        length = torch.where(curvature > 0, product / curvature, 0)
        solution.addcmul_(length, search)
        residual.addcmul_(length, turned, value=-1)
        done = _dot(residual, residual)[:, 0, 0] <= wanted
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
        search = scaled.addcmul_(following / product, search)
        product = following
    return result, count


def _dot(
    a: Float32[Tensor, "head class axis"], b: Float32[Tensor, "head class axis"]
) -> Float32[Tensor, "head 1 1"]:
    return (a * b).sum((1, 2), keepdim=True)
