"""Heads of one kind, trained together: batched products, gradients in closed form, and a plain
module of each head at the end."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from sslens.capture import Column
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.probes.linear.grid import Point
from sslens.probes.linear.optimiser import HeadOptimiser
from sslens.store import digest

#: of the BatchNorm on the features, as MAE's linear probe has it, and of those within deeper heads,
#: as torch has it
EPS_FEATURES, EPS_HIDDEN = 1e-6, 1e-5
#: the weight of a batch in running statistics, as torch has it
FORGET = 0.1
#: values between the layers of the heads that are computed together: so many that a call is worth
#: its while, and what a GPU fills
ROOM = {"cpu": 1 << 21, "cuda": 1 << 28}
LN2 = math.log(2)


@dataclass(frozen=True)
class Head:
    """A probe: the columns that it reads and its number of layers.

    With one layer it is a BatchNorm without affine part, then a linear classifier, as in MAE's
    linear probe. Each further layer puts a linear layer as wide as the features, a BatchNorm and a
    ReLU between these two (Shekhar et al., 2023, B.3 and B.4). A linear layer before a BatchNorm
    has no bias, since the BatchNorm would remove it. Several columns are concatenated.

    >>> Head((("blocks.5", "cls"), ("norm", "cls"))).name
    'blocks.5/cls + norm/cls'
    >>> Head((("norm", "cls"),), layers=3).name
    'norm/cls, 3 layers'
    """

    columns: tuple[Column, ...]
    layers: int = 1

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise InputError(
                f"A head reads {list(self.columns)}: give one column, or several that differ."
            )
        if not 1 <= self.layers <= 10:
            raise InputError(
                f"A head has {spell_count(self.layers, 'layer')}: give 1, which is a linear probe,"
                " to 10."
            )

    @property
    def name(self) -> str:
        """The head's name, for people."""
        read = " + ".join("/".join(column) for column in self.columns)
        return read if self.layers == 1 else f"{read}, {self.layers} layers"


def fresh(head: Head, point: Point, dim: int, classes: int, seed: int) -> nn.Sequential:
    """Build a head as a plain module before its training: weights normal with a standard deviation
    of 0.01, and the classifier's bias 0.

    The random weights depend on the head, the point and the seed, and not on the other heads.

    >>> head = Head((("norm", "cls"),), layers=2)
    >>> [type(layer).__name__ for layer in fresh(head, Point(0.1), 6, 3, seed=0)]
    ['BatchNorm1d', 'Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """
    number = int(
        digest([seed, [list(column) for column in head.columns], head.layers, asdict(point)])[:15],
        16,
    )
    generator = torch.Generator().manual_seed(number)

    def linear(width: int, *, bias: bool) -> nn.Linear:
        layer = nn.utils.skip_init(nn.Linear, dim, width, bias=bias)
        nn.init.trunc_normal_(layer.weight, std=0.01, generator=generator)
        if bias:
            nn.init.zeros_(layer.bias)
        return layer

    layers: list[nn.Module] = [nn.BatchNorm1d(dim, eps=EPS_FEATURES, affine=False)]
    for _ in range(head.layers - 1):
        layers += [linear(dim, bias=False), nn.BatchNorm1d(dim, eps=EPS_HIDDEN), nn.ReLU()]
    return nn.Sequential(*layers, linear(classes, bias=True))


def group_into_packs(
    points: Sequence[Point], head: Head, dim: int, classes: int, batch: int, device: str
) -> list[list[Point]]:
    """Group the points into packs of equal length and about equal size, so that the values between
    the layers of a pack fit into `ROOM`.

    >>> sizes = group_into_packs([Point(0.1)] * 40, Head((("norm", "cls"),)), 192, 10, 8192, "cpu")
    >>> [len(pack) for pack in sizes]  # 2^21 values, 81,920 a head: 25 at most
    [20, 20]
    """
    values = batch * (classes + 3 * (head.layers - 1) * dim)
    most = max(1, ROOM[torch.device(device).type] // values)
    by_length: dict[int, list[Point]] = {}
    for point in points:
        by_length.setdefault(point.epochs, []).append(point)
    return [
        [equal[row] for row in rows]
        for equal in by_length.values()
        for rows in np.array_split(np.arange(len(equal)), -(-len(equal) // most))
    ]


@final
class Pack:
    """One kind of head at several points of the grid, all with as many epochs, as tensors with the
    head as their first axis.

    The features of a batch come already normalised to mean 0 and variance 1: this depends on the
    features alone, so that all packs share it. In evaluation, `running` has the mean and variance
    that are used instead; it is set when the training has ended.

    No head's computation touches another head's values, so that a head that overflows harms none.
    Its weights are then set to 0 and stay there, and the epoch is noted in `diverged`.
    """

    def __init__(
        self,
        head: Head,
        points: Sequence[Point],
        dim: int,
        classes: int,
        *,
        optimiser: Callable[[Sequence[Point], Mapping[str, Tensor]], HeadOptimiser],
        seed: int,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.head, self.points, self.dim, self.classes, self.seed = (
            head,
            tuple(points),
            dim,
            classes,
            seed,
        )
        self.diverged = np.full(len(points), -1)
        self.running: tuple[Tensor, Tensor] | None = None
        modules = [fresh(head, point, dim, classes, seed) for point in points]
        self._parameters = {
            name: (
                torch.stack([module.get_parameter(name).detach() for module in modules]).to(
                    device, dtype
                )
            )
            for name, _ in modules[0].named_parameters()
        }
        self._optimiser = optimiser(points, self._parameters)
        self._hidden = range(
            1, 3 * head.layers - 2, 3
        )  # the places of the linear layers but the last in a module
        self._statistics = {
            place + 1: (
                torch.zeros(len(points), dim, device=device, dtype=dtype),
                torch.ones(len(points), dim, device=device, dtype=dtype),
            )
            for place in self._hidden
        }
        self._last = 3 * head.layers - 2
        self._alive = torch.ones(len(points), device=device, dtype=dtype)

    @property
    def epochs(self) -> int:
        """Number of epochs for which these heads are trained."""
        return self.points[0].epochs

    def count_room(self, batch: int) -> int:
        """Count the values of a step's logits and of its weights' gradients, which the memory
        `room` of `step` holds."""
        heads, hidden = len(self.points), len(self._hidden)
        return heads * (self.classes * (batch + self.dim) + hidden * self.dim**2)

    @torch.no_grad()
    def step(
        self,
        x: Float[Tensor, "image dim"],
        labels: Int64[Tensor, " image"],
        at: float,
        room: Float[Tensor, " _"],
    ) -> None:
        """Make one step of every head: the gradient of the mean cross-entropy, then LARS.

        The gradient at the logits is (softmax − onehot) / images. It is carried back through ReLU
        and BatchNorm in closed form. A weight's gradient is the gradient at its layer's outputs
        times the layer's inputs.

        Args:
            x: the normalised features.
            labels: the classes.
            at: the time in epochs since the start.
            room: memory for `count_room` values, used again in every step: what is allocated anew
                is handed out by the system page by page, which takes a fifth of a step.
        """
        h, inputs, normed = x.T, [], []
        for place in self._hidden:
            inputs.append(h)
            h, saved = self._norm(place + 1, _product(self._parameters[f"{place}.weight"], h))
            normed.append((h, *saved))
        last = self._parameters[f"{self._last}.weight"]
        logits, room = _cut(room, (len(self.points), self.classes, len(x)))
        d = _product(last, h, out=logits)
        _cross_entropy_backward_(d, self._parameters[f"{self._last}.bias"], labels)
        out, room = _cut(room, last.shape)
        gradients = {f"{self._last}.weight": _outer(d, h, out), f"{self._last}.bias": d.sum(2)}
        for number, place in reversed(list(enumerate(self._hidden))):
            d = torch.bmm(self._parameters[f"{place + 3}.weight"].transpose(1, 2), d)
            d, gradients[f"{place + 1}.weight"], gradients[f"{place + 1}.bias"] = (
                self._norm_backward(place + 1, d, *normed[number])
            )
            out, room = _cut(room, self._parameters[f"{place}.weight"].shape)
            gradients[f"{place}.weight"] = _outer(d, inputs[number], out)
        self._update(gradients, at)

    def _norm(
        self, place: int, z: Float[Tensor, "head width image"]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """BatchNorm and ReLU, with what the way back needs."""
        heads, width, images = z.shape
        out, mean, scale = torch.native_batch_norm(
            z.view(1, heads * width, images), *self._affine(place), True, FORGET, EPS_HIDDEN
        )
        return out.relu_().view(z.shape), (z, mean, scale)

    def _norm_backward(
        self, place: int, d: Tensor, h: Tensor, z: Tensor, mean: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        heads, width, images = z.shape
        d.mul_(h > 0)
        weight, _, *running = self._affine(place)
        d, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            d.view(1, -1, images),
            z.view(1, -1, images),
            weight,
            *running,
            mean,
            scale,
            True,
            EPS_HIDDEN,
            [True] * 3,
        )
        return d.view(z.shape), of_weight.view(heads, width), of_bias.view(heads, width)

    def _affine(self, place: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scale, shift, running mean and running variance of a BatchNorm, over all heads."""
        mean, variance = self._statistics[place]
        weight, bias = (self._parameters[f"{place}.{name}"] for name in ("weight", "bias"))
        return weight.view(-1), bias.view(-1), mean.view(-1), variance.view(-1)

    def _update(self, gradients: dict[str, Tensor], at: float) -> None:
        finite = self._optimiser.update(self._parameters, gradients, at, self._alive)
        if not finite.all():
            gone = ~finite
            self._alive[gone] = 0
            self.diverged[gone.cpu().numpy()] = int(at)
            for values in (*self.values().values(), *self._optimiser.states()):
                values[gone] = 0

    def values(self) -> dict[str, Float[Tensor, "head ..."]]:
        """The parameters, and the running statistics within the heads, by their names in a
        module."""
        values = dict(self._parameters)
        for place, statistics in self._statistics.items():
            names = (f"{place}.running_mean", f"{place}.running_var")
            values |= dict(zip(names, statistics, strict=True))
        return values

    @torch.no_grad()
    def logits(self, x: Float[Tensor, "image dim"]) -> Float[Tensor, "head class image"]:
        """Compute the trained heads' logits of features that are not normalised yet."""
        assert self.running is not None, "the training has not ended"
        h = F.batch_norm(x, *self.running, eps=EPS_FEATURES).T
        for place in self._hidden:
            z = _product(self._parameters[f"{place}.weight"], h)
            weight, bias, mean, variance = self._affine(place + 1)
            out = F.batch_norm(
                z.view(1, -1, z.shape[2]), mean, variance, weight, bias, eps=EPS_HIDDEN
            )
            h = out.relu_().view(z.shape)
        return _product(self._parameters[f"{self._last}.weight"], h).add_(
            self._parameters[f"{self._last}.bias"][:, :, None]
        )

    def module(self, point: Point) -> nn.Sequential:
        """Return one of the trained heads as a plain module, in evaluation mode."""
        assert self.running is not None, "the training has not ended"
        row = self.points.index(point)
        state = {name: value[row] for name, value in self.values().items()}
        return self.build(point, state, self.running)

    def build(
        self, point: Point, state: Mapping[str, Tensor], running: tuple[Tensor, Tensor]
    ) -> nn.Sequential:
        """Build a head as a plain module in evaluation mode, from values of `values` and the mean
        and variance of the features."""
        module = fresh(self.head, point, self.dim, self.classes, self.seed).to(running[0].dtype)
        whole = dict(state) | dict(zip(("0.running_mean", "0.running_var"), running, strict=True))
        missing = set(module.state_dict()) - set(whole)
        assert all(name.endswith("num_batches_tracked") for name in missing), missing
        module.load_state_dict(whole, strict=False)
        return module.eval()

    def slow(self, rows: Int64[Tensor, " slowed"]) -> None:
        """Go on with a tenth of the learning rate in some heads."""
        self._optimiser.slow(rows.to(self._alive.device))

    def keep(self, rows: Bool[np.ndarray, " head"]) -> None:
        """Go on with some of the heads only; the others are forgotten."""
        at = torch.from_numpy(np.flatnonzero(rows)).to(self._alive.device)
        self.points = tuple(self.points[row] for row in np.flatnonzero(rows))
        self.diverged, self._alive = self.diverged[rows], self._alive[at]
        self._parameters = {name: value[at] for name, value in self._parameters.items()}
        self._statistics = {
            place: (mean[at], variance[at]) for place, (mean, variance) in self._statistics.items()
        }
        self._optimiser.keep(at)


def _product(
    weight: Float[Tensor, "head out in"], x: Tensor, out: Tensor | None = None
) -> Float[Tensor, "head out image"]:
    """Each head's weights times its inputs [head, in, image], or times inputs that all share [in,
    image]: one product."""
    if x.ndim == 3:
        return torch.bmm(weight, x, out=out)
    flat = None if out is None else out.flatten(0, 1)
    return torch.mm(weight.flatten(0, 1), x, out=flat).view(*weight.shape[:2], -1)


def _cross_entropy_backward_(
    z: Float[Tensor, "head class image"],
    bias: Float[Tensor, "head class"],
    labels: Int64[Tensor, " image"],
) -> None:
    """The logits `z + bias` become the gradient of their mean cross-entropy, (softmax − onehot) /
    images.

    2^x, of logits over ln 2, takes half the time of e^x on CPUs, and whole tensors half that of
    `softmax` over a middle axis.
    """
    images = z.shape[2]
    torch.add(bias[:, :, None] / LN2, z, alpha=1 / LN2, out=z)
    z.sub_(z.amax(1, keepdim=True)).exp2_()
    z.mul_(z.sum(1, keepdim=True).mul_(images).reciprocal_())
    own = labels * images + torch.arange(images, device=labels.device)
    z.flatten(1).index_add_(1, own, z.new_full((len(z), images), -1 / images))


def _outer(
    d: Float[Tensor, "head out image"], x: Tensor, out: Float[Tensor, "head out in"]
) -> Float[Tensor, "head out in"]:
    """The gradient of the weights of `_product`, written to `out`."""
    if x.ndim == 3:
        return torch.bmm(d, x.transpose(1, 2), out=out)
    torch.mm(d.flatten(0, 1), x.T, out=out.flatten(0, 1))
    return out


def _cut(
    room: Float[Tensor, " _"], shape: Sequence[int]
) -> tuple[Float[Tensor, "_ _ _"], Float[Tensor, " _"]]:
    """Cut a tensor of this shape off the beginning of memory; also returns what is left."""
    count = math.prod(shape)
    return room[:count].view(*shape), room[count:]
