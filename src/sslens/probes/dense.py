"""The linear dense probe: segmentation by logistic regression on patch tokens, at its optimum, of
many maps at once, with the penalty chosen on held-out images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.probes._axes import Axes, place_labels
from sslens.probes._path import Trial, Walk
from sslens.probes._targets import Shares
from sslens.probes.logistic import TOGETHER, LogisticProbe
from sslens.probes.patches import CHUNK, Map, PatchLabels, require_map, require_trained

#: penalties λ that are always tried, from the strongest. The path goes on to weaker ones only where
#: 0.001 is chosen: of a random ViT-B's block, 7,840 patches, λ = 0.001 took 138 products, 1e-4 to
#: 1e-6 took 3,641, and mean IoU was largest at 0.01 (`bench/dense.py`)
PENALTIES = tuple(10.0**-power for power in range(4))


@final
@dataclass(frozen=True, eq=False)
class DenseProbe:
    """A linear segmentation head at the penalty that was chosen.

    Attributes:
        head: the regression of patches; its `validation` is the mean IoU of the held-out images.
    """

    head: LogisticProbe

    @property
    def miou(self) -> float:
        """Mean IoU of the held-out images, over the classes that they have."""
        return self.head.validation

    @property
    def penalty(self) -> float:
        """The penalty that was chosen."""
        return self.head.penalty

    @property
    def gap(self) -> float:
        """The certificate at that penalty (`LogisticProbe.gap`)."""
        return self.head.gap

    @property
    def path(self) -> tuple[Trial, ...]:
        """All regressions that were tried, from the strongest penalty, with mean IoU."""
        return self.head.path

    @property
    def converged(self) -> bool:
        """Whether the certificate is small enough (`LogisticProbe.converged`)."""
        return self.head.converged

    @property
    def inside(self) -> bool:
        """Whether penalties on both sides were tried, or none matters."""
        return self.head.inside

    @property
    def why(self) -> str:
        """What is wrong with the probe, as a clause; empty if it has converged inside its path."""
        return self.head.why

    def predict(self, maps: Map) -> Int64[Tensor, "image row column"]:
        """Predict the class of each patch."""
        patches = maps.flatten(0, 2).split(CHUNK)
        return torch.cat([self.head.predict(some) for some in patches]).view(maps.shape[:3])


def fit_dense(
    train: Iterable[Map],
    labels: PatchLabels,
    validation: Iterable[Map],
    validation_labels: PatchLabels,
    *,
    penalties: Sequence[float] = PENALTIES,
    widen: bool = True,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> list[DenseProbe]:
    """Fit a linear segmentation head to each of several maps of some images, at its best penalty.

    A patch p has logits z_p = x_p W + b, and upsampling by nearest neighbours gives them to its m_p
    labelled pixels u. So the cross-entropy of all N of them is a sum over patches: with n_pc pixels
    of class c in patch p, q_pc = n_pc / m_p and w_p = m_p / N,

        −(1/N) Σ_u log softmax(z_p(u))_{y_u} = −(1/N) Σ_p Σ_c n_pc log softmax(z_p)_c
                                             = −Σ_p w_p Σ_c q_pc log softmax(z_p)_c,

    the cross-entropy from each patch's label proportions, weighted by its labelled pixels. This is
    minimised, plus λ/2 ‖W‖², as `fit_logistic` does, with its certificate and its widening path.
    Features have mean 0 and variance 1 over the labelled pixels (over patches weighted by w). The
    penalty with the largest mean IoU of the validation images, at their resolution, is chosen.

    Patches without labelled pixels are left out. Classes without training pixels are never
    predicted, and count as missed where validation images have them.

    Args:
        train: maps of the training images, one a head; read one after another.
        labels: labelled pixels of these images.
        validation: maps of the images on which the penalty is chosen, by head.
        validation_labels: labelled pixels of these.
        penalties: λ that are always tried.
        widen: whether the path goes on where the choice is at its end.
        device: where the products are computed.
        progress: called with the number of heads that are done.

    Raises:
        InputError: pixels of one class or none, features or penalties of which no probe can be
            trained, or shapes that do not fit.

    >>> from sslens.probes.patches import count_labels
    >>> mask = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 1, 1]]])
    >>> labels = count_labels(mask, (1, 2), classes=2)
    >>> x = torch.tensor([[[[-1.0], [1.0]]], [[[-1.0], [1.0]]]])
    >>> probe, = fit_dense([x], labels, [x], labels)
    >>> probe.predict(x)[0].tolist(), probe.miou
    ([[0, 1]], 1.0)
    """
    _require_labels(labels, validation_labels)
    if not penalties or not all(0 < penalty < float("inf") for penalty in penalties):
        raise InputError(f"The penalties are {list(penalties)}: give numbers above 0.")
    data, probes = _Proportions(labels, validation_labels, device), list[DenseProbe]()
    for group in _read_groups(train, validation, data):
        for choice in Walk(group, data).choose(penalties, widen=widen):
            probes.append(DenseProbe(LogisticProbe(data.classes, *choice)))
        if progress:
            progress(len(probes))
    return probes


@final
class _Proportions:
    """Label proportions of training patches, and labelled pixels of validation images."""

    def __init__(self, labels: PatchLabels, asked: PatchLabels, device: str) -> None:
        self.labels, self.asked, self.device = labels, asked, device
        self.trained = labels.pixels.nonzero()[:, 0]
        self.judged = asked.pixels.nonzero()[:, 0]
        self.classes: Int64[Tensor, " class"] = labels.present.nonzero()[:, 0]
        counts = labels.counts(self.trained)[:, self.classes]
        pixels = counts.sum(1, keepdim=True)
        self.weights: Float64[Tensor, " patch"] = (pixels[:, 0] / pixels.sum()).to(device)
        self._targets = Shares((counts / pixels).T.contiguous().to(device), self.weights)
        row = torch.searchsorted(self.judged, asked.patch)
        place = place_labels(asked.label, self.classes)
        self._row, self._place, self._count = (
            part.to(device) for part in (row, place, asked.count.double())
        )
        self._pixels = asked.pixels[self.judged].double().to(device)
        self._there = asked.present.double().to(device)

    @property
    def targets(self) -> Shares:
        """The label proportions of the training patches."""
        return self._targets

    def score(
        self, logits: Float64[Tensor, "head class validated"]
    ) -> tuple[Float64[Tensor, " head"], Float64[Tensor, " head"], Int64[Tensor, "head validated"]]:
        """Mean IoU of the validation images, cross-entropy of their pixels of classes that were
        trained, and the classes predicted of their patches with labelled pixels."""
        place = logits.argmax(1)
        right = (place[:, self._row] == self._place) * self._count
        own = self._place.clamp_min(0).expand(len(logits), -1)
        zeros = logits.new_zeros(len(logits), len(self.classes))
        hit = zeros.scatter_add(1, own, right)
        called = zeros.scatter_add(1, place, self._pixels.expand(len(logits), -1))
        there = self._there[self.classes.to(self._there.device)]
        # classes that were not trained have an IoU of 0
        iou = torch.where(there > 0, hit / (there + called - hit).clamp_min(1), 0)
        mean = iou.sum(1) / (self._there > 0).sum()
        known = self._place >= 0
        row, label, count = self._row[known], self._place[known], self._count[known]
        losses = logits.logsumexp(1)[:, row] - logits[:, label, row]
        entropy = (losses @ count) / count.sum().clamp_min(1)
        return mean, entropy, self.classes[place.cpu()]


def _read_groups(
    train: Iterable[Map], validation: Iterable[Map], data: _Proportions
) -> Iterator[list[Axes]]:
    """Read heads one after another, and yield those that are together at most `TOGETHER` bytes, or
    one."""
    room = TOGETHER[torch.device(data.device).type]
    group: list[Axes] = []
    width = 0
    for x, asked in zip_longest(train, validation):
        if x is None or asked is None:
            raise InputError("Each head needs a map to train on and a map to choose on.")
        head = _take_axes(x, asked, data)
        width = max(width, head.values.shape[1])
        patches, classes = len(data.trained), len(data.classes)
        group.append(head)
        size = 12 * patches * width + 40 * patches * classes + 80 * classes * width
        if size * (len(group) + 1) > room:
            yield group
            group, width = [], 0
    if group:
        yield group


def _take_axes(x: Map, asked: Map, data: _Proportions) -> Axes:
    """The labelled patches of a map in the axes of their covariance."""
    parts = []
    for values, labels, chosen in (
        (x, data.labels, data.trained),
        (asked, data.asked, data.judged),
    ):
        require_map(values, labels)
        parts.append(values.flatten(0, 2)[chosen].to(data.device))
    if parts[0].shape[1] != parts[1].shape[1]:
        raise InputError(
            f"A head has {parts[0].shape[1]} dimensions to train on and {parts[1].shape[1]} to"
            " choose on: give maps of one tap."
        )
    return Axes.of_weighted(parts[0], parts[1], data.weights)


def _require_labels(labels: PatchLabels, asked: PatchLabels) -> None:
    """Refuse labelled pixels of which no probe can be trained, or by which none can be judged."""
    require_trained(labels)
    if not len(asked.count):
        raise InputError(
            "The images to choose the penalty on have no labelled pixel: hold others out."
        )
    if labels.classes != asked.classes:
        raise InputError(
            f"{spell_count(labels.classes, 'class')} to train on and {asked.classes} to"
            " choose on: count both alike."
        )
