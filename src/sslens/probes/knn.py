"""k-NN classification by cosine similarity, as DINO evaluates it, on raw or on standardised
features."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sslens.capture import Column, Features
from sslens.capture.gram import CONSTANT
from sslens.counts import spell_count
from sslens.data.classes import join_classes, number_classes
from sslens.errors import InputError, require_type
from sslens.probes._nearest import Bank

Vote = Literal["weighted", "majority"]
#: features as the model gives them, or with each dimension standardised by the bank
Scale = Literal["raw", "standardised"]
SCALES: tuple[Scale, ...] = ("raw", "standardised")

#: number of queries of which votes are counted at a time
CHUNK = 4096
#: numbers of neighbours, and temperatures (None: majority), that a sweep tries unless it is told
KS = (1, 5, 10, 20, 50, 100, 200)
TEMPERATURES = (0.04, 0.07, 0.1, 0.2, None)


def neighbours(
    queries: Float[Tensor, "query dim"],
    bank: Float[Tensor, "bank dim"],
    k: int,
    *,
    leave_one_out: bool = False,
) -> tuple[Int64[Tensor, "query k"], Float[Tensor, "query k"]]:
    """Return the k rows of `bank` with the largest cosine to each query, nearest first, and these
    cosines.

    Equal cosines are ordered by row, and equal rows have equal cosines, so that the result does not
    depend on how a library sorts or rounds. It is computed on the device of `bank`.

    Args:
        queries: the features of the queries.
        bank: the features of the rows to search.
        k: the number of neighbours.
        leave_one_out: whether queries and bank are the same rows, and no row is its own neighbour.

    Raises:
        InputError: there are too few rows for k neighbours, or features are not finite.

    >>> bank = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 0.0]])
    >>> neighbours(torch.tensor([[1.0, 0.0]]), bank, k=2)[0].tolist()
    [[1, 2]]
    """
    rows = len(bank) - leave_one_out
    if not 1 <= k <= rows:
        raise InputError(
            f"{k} neighbours cannot be chosen among {spell_count(rows, 'image')}: give k between 1"
            f" and {rows}."
        )
    for name, x in (("queries", queries), ("bank", bank)):
        if len(x) and not torch.isfinite(torch.stack(torch.aminmax(x))).all():
            raise InputError(
                f"The features of the {name} hold values that are not finite: the model or its"
                " input is broken."
            )
    found, cosines = Bank(bank).nearest(queries, k + leave_one_out)
    if not leave_one_out:
        return found, cosines
    own = found == torch.arange(len(found))[:, None]
    own[:, -1] |= ~own.any(
        1
    )  # behind k equals with lower rows it was not found, and one is too many
    return found[~own].view(-1, k), cosines[~own].view(-1, k)


def standardise(
    queries: Float[Tensor, "query dim"], bank: Float[Tensor, "bank dim"]
) -> tuple[Float[Tensor, "query varying"], Float[Tensor, "bank varying"]]:
    """Standardise every dimension by the bank's mean and standard deviation.

    With μ_d and σ_d of the bank's rows, z_d = (x_d − μ_d) / σ_d. In a cosine of raw features the
    few dimensions of largest variance count most, which are not those that tell classes apart in
    masked autoencoders (arXiv 2401.00463). The queries decide nothing, unless they are the bank.

    A dimension that does not vary over the bank is left out: σ_d is at most 4e-6 of
    √(μ_d² + σ_d²), which is float32's rounding. Where none varies, no dimension is left.

    Args:
        queries: the features of the queries.
        bank: the features of the rows that are searched.

    Returns:
        Both, standardised, with the same dimensions.

    Raises:
        InputError: the bank has no row, or its values are not finite.

    >>> bank = torch.tensor([[1.0, 7.0], [3.0, 7.0]])  # means 2 and 7, deviations 1 and 0
    >>> queries, bank = standardise(torch.tensor([[4.0, 9.0]]), bank)
    >>> queries.tolist(), bank.tolist()
    ([[2.0]], [[-1.0], [1.0]])
    """
    if not len(bank):
        raise InputError("The bank has no images: features are standardised by its mean.")
    deviation, mean = torch.std_mean(bank.float(), 0, correction=0)
    if not torch.isfinite(deviation).all():
        raise InputError(
            "The features of the bank hold values that are not finite: the model or its input is"
            " broken."
        )
    varies = deviation > CONSTANT * torch.hypot(mean, deviation)

    def apply(x: Float[Tensor, "row dim"]) -> Float[Tensor, "row varying"]:
        chosen = x if varies.all() else x[:, varies]
        return (chosen - mean[varies]).div_(deviation[varies])

    scaled = apply(bank)
    return (scaled if queries is bank else apply(queries)), scaled


def votes(
    labels: Int64[Tensor, "query neighbour"],
    cosines: Float[Tensor, "query neighbour"],
    classes: int,
    *,
    ks: Sequence[int],
    temperatures: Sequence[float | None] = (0.07,),
) -> Int64[np.ndarray, "temperature k query"]:
    """Return the class with the most votes of each query's k nearest neighbours, for every k and
    temperature; of equal classes the first.

    A neighbour with cosine s has exp(s/τ) votes, as in DINO's evaluation; with the temperature None
    it has one vote. The largest cosine of a query is subtracted before exp, which scales all its
    votes alike. Neighbours are counted one after another, the nearest first; after each vote only
    the class that got it can become the winner. So all k together cost as much as the largest k.

    >>> labels, cosines = torch.tensor([[0, 1, 1]]), torch.tensor([[0.9, 0.1, 0.1]])
    >>> votes(labels, cosines, 2, ks=[1, 2, 3], temperatures=[0.07, None])[:, :, 0].tolist()
    [[0, 0, 0], [0, 0, 1]]
    """
    k = max(ks)
    found = np.empty((len(temperatures), len(ks), len(labels)), np.int64)
    for start in range(0, len(labels), CHUNK):
        part = slice(start, start + CHUNK)
        label, cosine = labels[part, :k].numpy(), cosines[part, :k]
        for which, temperature in enumerate(temperatures):
            weights = torch.ones_like(cosine)
            if temperature is not None:
                weights = ((cosine - cosine[:, :1]) / temperature).exp()
            for count, winner in enumerate(_winners(label, weights.double().numpy(), classes), 1):
                for place in (i for i, wanted in enumerate(ks) if wanted == count):
                    found[which, place, part] = winner
    return found


def _winners(
    labels: Int64[np.ndarray, "query k"], weights: Float[np.ndarray, "query k"], classes: int
) -> Iterator[Int64[np.ndarray, " query"]]:
    """The class with the most votes after the first neighbour, the second, …"""
    row = np.arange(len(labels))
    counts = np.zeros((len(labels), classes))
    best = labels[:, 0]
    for label, weight in zip(labels.T, weights.T, strict=True):
        counts[row, label] += weight
        now, most = counts[row, label], counts[row, best]
        best = np.where((now > most) | ((now == most) & (label < best)), label, best)
        yield best


def vote(
    labels: Int64[Tensor, "query k"],
    cosines: Float[Tensor, "query k"],
    classes: int,
    *,
    how: Vote = "weighted",
    temperature: float = 0.07,
) -> Int64[np.ndarray, " query"]:
    """Return the class with the most votes of all given neighbours of each query: exp(s/τ) votes
    for cosine s ("weighted"), or one vote each ("majority").

    >>> vote(torch.tensor([[0, 1, 1]]), torch.tensor([[0.9, 0.1, 0.1]]), 2).tolist()
    [0]
    >>> vote(torch.tensor([[0, 1, 1]]), torch.tensor([[0.9, 0.1, 0.1]]), 2, how="majority").tolist()
    [1]
    """
    chosen = temperature if how == "weighted" else None
    return votes(labels, cosines, classes, ks=[labels.shape[1]], temperatures=[chosen])[0, 0]


def knn(
    queries: Float[Tensor, "query dim"],
    bank: Float[Tensor, "bank dim"],
    bank_labels: Int64[Tensor, " bank"],
    *,
    k: int = 20,
    how: Vote = "weighted",
    temperature: float = 0.07,
    leave_one_out: bool = False,
) -> Int64[np.ndarray, " query"]:
    """Predict the class of each query by the vote of its k nearest neighbours in the bank.

    Raises:
        InputError: too few images for k, features that are not finite, or arguments whose shapes do
            not fit.

    >>> bank = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> knn(torch.tensor([[0.1, 1.0]]), bank, torch.tensor([0, 0, 1]), k=3).tolist()
    [1]
    """
    if queries.shape[1] != bank.shape[1] or len(bank_labels) != len(bank):
        raise InputError(
            f"Queries {list(queries.shape)}, a bank {list(bank.shape)} and {len(bank_labels)}"
            " labels do not fit: give features of one width, and a label for each row of the bank."
        )
    rows, cosines = neighbours(queries, bank, k, leave_one_out=leave_one_out)
    return vote(
        bank_labels[rows], cosines, int(bank_labels.max()) + 1, how=how, temperature=temperature
    )


def sweep(
    queries: Features,
    bank: Features | None = None,
    *,
    ks: Sequence[int] = (20,),
    temperatures: Sequence[float | None] = (0.07, None),
    device: str = "cpu",
    scale: Scale = "raw",
) -> Iterator[tuple[Column, Int64[np.ndarray, "temperature k query"]]]:
    """Yield the predicted classes for every tap and pooling, at every k and temperature, from one
    neighbour search each.

    Classes of the bank are those of the queries by name, and have their numbers; classes of the
    bank alone come after them.

    Without a bank each image is classified by all other images of its set, and standardised
    features are so by the set's own mean and deviation. One tap and pooling at a time is held in
    memory. Standardised features of which no dimension varies are passed over.

    Raises:
        InputError: there are no classes; the bank lacks a class, is of another model or lacks a
            tap; or there are too few images for a k.

    >>> values = torch.tensor([[1.0], [1], [-1], [-2]])
    >>> store = Features.of({("x", "flat"): values}, labels=[0, 0, 1, 1], classes=["up", "down"])
    >>> [(column, found[0, 0].tolist()) for column, found in sweep(store, ks=[1])]
    [(('x', 'flat'), [0, 0, 1, 1])]
    """
    for part in (queries, bank or queries):
        require_type(part, Features, "set of features", "give what sslens.features returns")
    if not ks or any(temperature is not None and temperature <= 0 for temperature in temperatures):
        raise InputError("Neighbours vote by exp(s/τ): give one k or more, and τ above 0.")
    among = bank or queries
    if queries.labels is None or among.labels is None:
        raise InputError(
            "The images have no classes: k-NN needs labelled ones, a subfolder a class or an index"
            " file with labels."
        )
    if bank is not None:
        _require_same(queries, bank)
    classes = join_classes(queries.classes, among.classes)
    known = torch.from_numpy(number_classes(among.classes, classes))[torch.tensor(among.labels)]
    for column in queries.columns:
        asked, searched = (part.read(*column).to(device) for part in (queries, among))
        if scale == "standardised":
            asked, searched = standardise(searched if bank is None else asked, searched)
            if not searched.shape[1]:
                continue
        rows, cosines = neighbours(asked, searched, max(ks), leave_one_out=bank is None)
        yield (
            column,
            votes(known[rows], cosines, len(classes), ks=ks, temperatures=temperatures),
        )


def _require_same(queries: Features, bank: Features) -> None:
    for entry, difference in (("weights", "another model"), ("transform", "images seen otherwise")):
        if queries.key.get(entry) != bank.key.get(entry):
            raise InputError(
                f"The bank's features are of {difference} ({queries.model} and {bank.model}): make"
                " both with one model and one transform."
            )
    assert queries.labels is not None
    known = number_classes(queries.classes, bank.classes)
    lacking = [
        queries.classes[label] for label in np.unique(queries.labels).tolist() if known[label] < 0
    ]
    if lacking:
        raise InputError(
            f'The bank has no image of the class "{lacking[0]}"'
            f"{f' and of {len(lacking) - 1:,} more' if lacking[1:] else ''}: k-NN finds classes of"
            " the bank alone."
        )
    for column in queries.columns:
        bank.require(*column)
