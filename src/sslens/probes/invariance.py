"""What a representation does when its images are changed: whether it stays as it is, whether it
follows by a linear map, and whether it tells what was done.

All numbers are of the features f(x) of images x and the features f(Tx) of the same images changed
by a transform T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from sslens.capture.grams import Grams
from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.measures.cka import Comparison
from sslens.probes.ridge import LAMBDAS, ridge
from sslens.statistics.draws import Draws
from sslens.statistics.estimate import Estimate
from sslens.statistics.explained import estimate_r2
from sslens.statistics.proportions import estimate_share
from sslens.statistics.sampled import Sampled

#: what a linear map is shrunk towards where the images do not tell: no change of the features, or
#: the mean features
Start = Literal["identity", "mean"]


def compute_sensitivity(
    features: Float[Tensor, "image dim"], altered: Float[Tensor, "altered_image altered_dim"]
) -> Sampled:
    """Compute how far a transform moves the features, against how far apart two images are:

        sensitivity = E‖f(x) − f(Tx)‖² / E‖f(x) − f(x′)‖²,    invariance = 1 − sensitivity,

    with the mean over all pairs of two different images x, x′ in the denominator, which is 2 Σ‖f(x)
    − f̄‖² / (n − 1). A representation is blind to the transform at 0; at 1 a changed image is as far
    from the image itself as another image is.

    Args:
        features: f(x).
        altered: f(Tx), of the same images in the same order.

    Returns:
        The sensitivity with and without each image (or group of images, of more than 500); nan
        where all images have the same features.

    Raises:
        InputError: there are fewer than three images, or not as many changed ones, or values that
            are not finite.

    >>> x = torch.tensor([[0.0], [2.0], [4.0]])  # squared distances of two: 4, 16, 4, their mean 8
    >>> compute_sensitivity(x, x + 1).value.item()
    0.125
    """
    _require_pairs(features, altered)
    x = features.double()
    centred = x - x.mean(0)
    moved = (altered.double() - x).square().sum(1)
    draws = Draws.of(len(x))
    columns = torch.stack([moved, centred.square().sum(1), torch.ones(len(x)).double()], 1)
    distance, square, count = draws.sums(columns.numpy()).T
    # Σ‖f − f̄‖² of the images that are left: their own mean is the sum of the others, turned round
    sums = draws.sums(centred.numpy())
    spread = square - (sums**2).sum(1) / count
    spread[spread <= 1e-13 * square] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (distance / count) / (2 * spread / (count - 1))
    return _sample(draws, np.where(np.isfinite(values), values, np.nan))


def compute_cka(
    features: Sequence[Float[Tensor, "image _"]],
    altered: Sequence[Float[Tensor, "image _"]],
    sizes: Sequence[int],
) -> Sampled:
    """Compute minibatch CKA of f(X) with f(TX), for several representations of the same images.

    CKA compares what is similar to what: where it is high and the invariance is low, the features
    of all images move, and move together.

    Args:
        features: f(x) of each representation.
        altered: f(Tx) of each representation.
        sizes: images in each minibatch, in the order of the rows.

    Returns:
        CKA of each representation, with and without each minibatch; nan where it is undefined.

    Raises:
        InputError: a minibatch of under 4 images.

    >>> x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1], [3, 1]])
    >>> compute_cka([x], [-2 * x], [5]).value.round(9).tolist()
    [1.0]
    """
    lengths = np.array(sizes, np.int64)
    one, other = (Grams.of_features(list(x), sizes=lengths) for x in (features, altered))
    places = [(row, row) for row in range(len(features))]
    return Sampled.of(Comparison.of(one, other), places)


@final
@dataclass(frozen=True, eq=False)
class LinearMap:
    """How well features of changed images are predicted from features of the images, on images that
    were held out.

    Attributes:
        linear: R² of the linear map.
        identity: R² of f(x) itself as the prediction of f(Tx).
        gain: the first less the second: what is linear equivariance and no invariance.
        penalty: λ of the ridge regression.
        start: what the map is shrunk towards.
    """

    linear: Sampled
    identity: Sampled
    gain: Sampled
    penalty: float
    start: Start


@final
class LinearMaps:
    """Linear maps from the features of images to the features of the same images under any
    transform: ridge regressions, which share one eigendecomposition.

    With X the training images' features, scaled to mean 0 and variance 1, and XXᵀ / n = U s Uᵀ, the
    prediction for targets Y is U (s / (s + λ)) UᵀY on the training images. λ, and whether the map
    is shrunk towards the identity or towards the mean of Y, are those with the smallest generalised
    cross-validation error ‖Y − Ŷ‖² / (n − 1 − Σ s / (s + λ))² (Golub, Heath and Wahba, 1979).

    Args:
        features: f(x) of all images.
        train: rows of the images that the maps are fitted to.
        test: rows of the images that R² is of.
        lambdas: the penalties that are tried.

    Raises:
        InputError: there are fewer than three images on a side, or values that are not finite.

    >>> x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    >>> maps = LinearMaps(x, np.arange(40), np.arange(40, 60))
    >>> turned = maps.fit(x @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]))
    >>> round(turned.linear.value.item(), 4), turned.identity.value.item() < 0.5
    (1.0, True)
    >>> same = maps.fit(x)
    >>> round(same.gain.value.item(), 4), same.start
    (0.0, 'identity')
    """

    def __init__(
        self,
        features: Float[Tensor, "image dim"],
        train: Int64[np.ndarray, " train"],
        test: Int64[np.ndarray, " test"],
        lambdas: Sequence[float] = LAMBDAS,
    ) -> None:
        if min(len(train), len(test)) < 3:
            raise InputError(
                f"A linear map is fitted to {spell_count(len(train), 'image')} and tested on"
                f" {len(test)}",
                mend="give three or more on either side",
            )
        _require_finite(features)
        self._train, self._test = torch.from_numpy(train), torch.from_numpy(test)
        self._x, self._lambdas = features.double(), tuple(lambdas)
        self._draws = Draws.of(len(test))
        learnt = self._x[self._train]
        mean, scale = learnt.mean(0), learnt.std(0, correction=0)
        # what rounding leaves of a constant feature is no feature
        scale = torch.where(scale > 1e-7 * mean.abs(), scale, torch.inf)
        learnt, asked = ((self._x[rows] - mean) / scale for rows in (self._train, self._test))
        n, dim = learnt.shape
        wide = dim >= n
        spectrum, vectors = torch.linalg.eigh(
            learnt @ learnt.T / n if wide else learnt.T @ learnt / n
        )
        large = spectrum > spectrum[-1] * 1e-12
        self._spectrum, vectors = spectrum[large], vectors[:, large]
        root = (n * self._spectrum).sqrt()
        axes = learnt.T @ vectors / root if wide else vectors
        self._basis = vectors if wide else learnt @ vectors / root
        #: the test images' coordinates, of which U has the training images'
        self._coordinates = asked @ axes / root

    def fit(self, altered: Float[Tensor, "image dim"]) -> LinearMap:
        """Fit the map to the training images and test it on the others.

        Args:
            altered: f(Tx) of all images.

        Raises:
            InputError: there are not as many images as features, or values that are not finite.
        """
        _require_pairs(self._x, altered)
        y = altered.double()
        starts: dict[Start, Tensor] = {"identity": y - self._x, "mean": y}
        tried = {start: self._choose(target[self._train]) for start, target in starts.items()}
        start = min(tried, key=lambda one: tried[one][0])
        _, penalty, middle, projected = tried[start]
        shrunk = self._spectrum / (self._spectrum + penalty)
        predicted = middle + self._coordinates @ (shrunk[:, None] * projected)
        asked, own = y[self._test], self._x[self._test]
        predicted = predicted + own if start == "identity" else predicted
        errors = [(asked - guess).square().sum(1) for guess in (predicted, own)]
        return LinearMap(*self._compare(asked, *errors), penalty, start)

    def _choose(self, targets: Float64[Tensor, "train dim"]) -> tuple[float, float, Tensor, Tensor]:
        """The smallest error of generalised cross-validation and its penalty; the targets' mean and
        their coordinates."""
        middle = targets.mean(0)
        projected = self._basis.T @ (targets - middle)
        inside = projected.square().sum(1)
        outside = ((targets - middle).square().sum() - inside.sum()).clamp_min(0)
        best = (float("inf"), self._lambdas[-1])
        for penalty in self._lambdas:
            left = penalty / (self._spectrum + penalty)
            freedom = len(targets) - 1 - len(left) + left.sum()
            error = float((outside + (left.square() * inside).sum()) / freedom**2)
            best = min(best, (error, penalty))
        return *best, middle, projected

    def _compare(
        self,
        asked: Float64[Tensor, "test dim"],
        linear: Float64[Tensor, " test"],
        identity: Float64[Tensor, " test"],
    ) -> tuple[Sampled, Sampled, Sampled]:
        """R² of both predictions and their difference, with and without each test image."""
        draws, centred = self._draws, asked - asked.mean(0)
        columns = torch.stack([linear, identity, centred.square().sum(1)], 1)
        one, other, square = draws.sums(columns.numpy()).T
        counts = draws.sums(np.ones((len(asked), 1)))[:, 0]
        spread = square - (draws.sums(centred.numpy()) ** 2).sum(1) / counts
        spread[spread <= 1e-13 * square] = np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            values = 1 - one / spread, 1 - other / spread, (other - one) / spread
        first, second, gain = (_sample(draws, value) for value in values)
        return first, second, gain


@final
@dataclass(frozen=True)
class DecodedParameter:
    """How well it is decoded from an image's features what was done to the image.

    Attributes:
        measure: "accuracy" of what is done or not done, else "R²".
        estimate: on the test images, with its interval over them.
        chance: the share of the test images' more frequent case, at least a half; 0 of R².
        penalty: λ of the ridge regression, chosen by leaving out each training image.
    """

    measure: Literal["accuracy", "R²"]
    estimate: Estimate
    chance: float
    penalty: float

    @property
    def decoded(self) -> Estimate:
        """R², or (accuracy − chance) / (1 − chance): 1 where all is known, 0 where nothing is."""
        one, chance = self.estimate, self.chance
        if self.measure == "R²":
            return one
        room = 1 - chance if chance < 1 else float("nan")
        value, low, high = ((end - chance) / room for end in (one.value, one.low, one.high))
        return Estimate(value, low, high, one.over, one.n)


def decode_parameter(
    altered: Float[Tensor, "image dim"],
    parameters: Float64[np.ndarray, "image part"],
    train: Int64[np.ndarray, " train"],
    test: Int64[np.ndarray, " test"],
    *,
    switch: bool = False,
) -> DecodedParameter:
    """Decode what was done to each image from the features of the changed image alone, by a ridge
    probe that is trained on some of the images and tested on others.

    Args:
        altered: f(T_i x_i).
        parameters: the parameter of T_i, in one part or several, whose R² is one number.
        train: rows of the images that train the probe.
        test: rows of the images that test it.
        switch: whether the parameter is 1 where something was done, and else 0: then the accuracy
            is measured, and the probe's threshold is a half.

    Raises:
        InputError: the parameter is the same for all images of a side, or values are not finite.

    >>> x = torch.linspace(-3, 3, 40)[:, None]
    >>> rows = np.arange(40)
    >>> found = decode_parameter(x, x.double().numpy(), rows[::2], rows[1::2])
    >>> found.measure, round(found.estimate.value, 3)
    ('R²', 1.0)
    """
    for rows in (train, test):
        if len(rows) < 2 or (parameters[rows] == parameters[rows[:1]]).all():
            raise InputError(
                f"The same was done to all of {spell_count(len(rows), 'image')}: there is nothing"
                " to decode",
                mend="give more images",
            )
    targets = torch.from_numpy(parameters)
    learnt, asked = torch.from_numpy(train), torch.from_numpy(test)
    path = ridge(altered[learnt], targets[learnt])
    if switch:
        right = (path.left_out > 0.5) == (targets[learnt] > 0.5)
        scores = right.double().mean((1, 2))
    else:
        scores = -(path.left_out - targets[learnt]).square().mean((1, 2))
    best = max(range(len(scores)), key=lambda row: (float(scores[row]), row))
    predicted, truth = path.predict(altered[asked])[best], targets[asked]
    if not switch:
        estimate = estimate_r2(truth.numpy(), predicted.numpy())
        return DecodedParameter("R²", estimate, 0.0, LAMBDAS[best])
    done = float((truth > 0.5).double().mean())
    chance = max(done, 1 - done)
    estimate = estimate_share(((predicted > 0.5) == (truth > 0.5))[:, 0].numpy())
    return DecodedParameter("accuracy", estimate, chance, LAMBDAS[best])


def _sample(draws: Draws, values: Float64[np.ndarray, " draw"]) -> Sampled:
    """A statistic that has no largest magnitude, with and without each image."""
    return draws.sampled(values, reach=np.inf)


def _require_pairs(features: Tensor, altered: Tensor) -> None:
    """Refuse features of other images, of too few, or that are not finite."""
    if features.shape != altered.shape:
        raise InputError(
            f"The features are {list(features.shape)}, and of the changed images"
            f" {list(altered.shape)}: give both of one tap, for the same images."
        )
    if len(features) < 3:
        raise InputError(
            f"{len(features)} images are too few to tell how far apart two are, with an interval",
            mend="give three or more {images}",
        )
    _require_finite(altered)
    _require_finite(features)


def _require_finite(features: Tensor) -> None:
    if not torch.isfinite(features).all():
        raise InputError(
            "The features hold values that are not finite: the model or its input is broken."
        )
