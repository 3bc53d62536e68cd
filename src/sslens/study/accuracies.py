"""The accuracy of one model as its authors measure it: 20-NN, a linear probe, or their own
classifier."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.store import Store
from sslens.table import Table

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool

    from sslens.capture import Features

NEIGHBOURS, LINEAR, CLASSIFIER = "20-NN", "linear", "classifier"
EVALUATIONS = (NEIGHBOURS, LINEAR, CLASSIFIER)
#: as in DINO's evaluation: neighbours, and the temperature of their votes
K, TEMPERATURE = 20, 0.07
#: kinds of taps after which features are usually read
KINDS = ("block", "norm", "pixels")
#: images whose scores are computed at once
BLOCK = 4096
UNITS = {
    "model": "source of the weights",
    "evaluation": (
        "20-NN: cosine k-NN, k = 20, votes exp(s/0.07), after the last layer, of the CLS token (the"
        " mean where there is none, or what the model's own classifier read); linear: a logistic"
        " regression of it at its optimum; classifier: the authors' own"
    ),
    "tap": "where the features are read",
    "pooling": "cls, mean (of all tokens, or places of a CNN's map), or patch",
    "accuracy": "share of images whose class is predicted",
    "low": "lower end of its 95 % Wilson interval",
    "high": "upper end",
    "images": "images classified",
    "bank": "images that vote, or train the probe; 0 where none do",
}


@final
@dataclass(frozen=True)
class AccuracyRequest:
    """The request to measure one accuracy of one model.

    Attributes:
        model: a source as `sslens.load` reads it.
        evaluation: one of `EVALUATIONS`.
        images: labelled images to classify.
        bank: labelled images that vote, or train the probe; not needed for a classifier.
        folder: the folder in which features are stored, shared by all evaluations of all models.
        limit: the largest number of images; the bank is taken whole.
        seed: decides which images are drawn, and which training images choose the penalty.
        device: the device of the forward passes and of the probe.

    Raises:
        InputError: the evaluation is not known, or it needs a bank and there is none.
    """

    model: str
    evaluation: str
    images: str
    bank: str | None
    folder: Path
    limit: int | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.evaluation not in EVALUATIONS:
            raise InputError(
                f'The evaluation "{self.evaluation}" is not known: there are'
                f" {', '.join(EVALUATIONS)}"
            )
        if self.evaluation != CLASSIFIER and self.bank is None:
            raise InputError(
                f"{self.evaluation} of {self.model} needs labelled images beside those that are"
                " classified",
                mend="give a folder with train and val as {images}, or {bank}",
            )


def measure_accuracy(request: AccuracyRequest, store: Store) -> Table:
    """Measure the accuracy, or take it from the store; returns a table of one row.

    Features of the last layer are stored in the request's folder, in shards, so that a process that
    was killed goes on from there.

    Raises:
        InputError: the model, its classifier or the images cannot be used.
    """
    import pandas as pd

    from sslens.statistics.proportions import wilson
    from sslens.study.freshness import list_versions, source_digest

    # a file without a classifier is refused before anything is computed
    classifier = _read_classifier(request) if request.evaluation == CLASSIFIER else None
    tap, pooling = _find_column(request, None if classifier is None else classifier.pooling)
    asked = _extract(request, request.images, "images", tap, pooling, store)
    bank = None
    if classifier is None:
        assert request.bank is not None
        bank = _extract(request, request.bank, "bank", tap, pooling, store)
    key = {
        "evaluation": request.evaluation,
        "seed": request.seed,
        "images": dict(asked.key),
        "bank": None if bank is None else dict(bank.key),
        "classifier": None if classifier is None else classifier.digest,
        "sources": source_digest("study.accuracies", entry="measure_accuracy", store=store),
        "versions": list_versions(),
    }
    row = store.read_json("accuracies", key)
    if row is None:
        if classifier is not None:
            right = _ask_classifier(classifier, asked, tap, pooling)
        elif request.evaluation == NEIGHBOURS:
            right = _ask_neighbours(asked, bank, pooling, request.device)
        else:
            right = _ask_probe(request, tap, pooling, store)
        low, high = wilson(int(right.sum()), len(right))
        numbers = {"accuracy": float(right.mean()), "low": float(low), "high": float(high)}
        count = {"images": len(right), "bank": 0 if bank is None else len(bank)}
        row = {"tap": tap, "pooling": pooling} | numbers | count
        store.write_json("accuracies", key, row)
    about: dict[str, Any] = {"model": request.model, "evaluation": request.evaluation}
    return Table(pd.DataFrame([about | row], columns=list(UNITS)), UNITS)


def _read_classifier(request: AccuracyRequest) -> Any:
    from sslens.zoo.classifiers import read_classifier

    return read_classifier(request.model)


def _find_column(request: AccuracyRequest, pooling: str | None) -> tuple[str, str]:
    """The last tap of the usual kinds, and its usual pooling, unless a classifier reads another."""
    from sslens import zoo
    from sslens.capture.folders import find_widths
    from sslens.comparisons.readings import choose_pooling

    model = zoo.load(request.model)
    tap = [tap for tap in model.taps.values() if tap.kind in KINDS][-1]
    there = [own for _, own in find_widths(model, (tap,))]
    return tap.name, pooling or choose_pooling(there, model.about.read_pooling)


def _extract(
    request: AccuracyRequest, source: str, role: str, tap: str, pooling: str, store: Store
) -> "Features":
    """Store the features of one set of images in a folder of their own, and open them."""
    from sslens.capture import open_features
    from sslens.study.storing import FeatureRequest, run

    folder = _name_folder(request, role, pooling)
    run(
        FeatureRequest(
            model=request.model,
            images=source,
            out=folder,
            taps=(tap,),
            poolings=(pooling,),
            dtype="float32",
            limit=request.limit if role == "images" else None,
            seed=request.seed,
            device=request.device,
        ),
        store=store,
    )
    return open_features(folder)


def _name_folder(request: AccuracyRequest, role: str, pooling: str) -> Path:
    from sslens.store import digest

    count = request.limit if role == "images" else None
    source = request.images if role == "images" else request.bank
    name = digest([request.model, source, count, request.seed, pooling])[:16]
    return request.folder / f"{role}-{name}"


def _ask_neighbours(
    asked: "Features", bank: "Features | None", pooling: str, device: str
) -> "Bool[np.ndarray, ' image']":
    """Whether 20-NN has each image right."""
    from sslens.comparisons.knn_sweep import Sweep
    from sslens.processes import best_device

    sweep = Sweep.of(asked, bank, ks=(K,), temperatures=(TEMPERATURE,), device=best_device(device))
    (row,) = (
        number
        for number, choice in enumerate(sweep.choices)
        if choice.scale == "raw" and choice.pooling == pooling
    )
    return sweep.right[row]


def _ask_probe(
    request: AccuracyRequest, tap: str, pooling: str, store: Store
) -> "Bool[np.ndarray, ' image']":
    """Whether a converged linear probe has each image right."""
    from sslens.comparisons.probe_training import Parts, train_heads
    from sslens.processes import best_device
    from sslens.study.passes import PassRunner
    from sslens.study.probe_request import ProbeRequest
    from sslens.study.probe_sets import open_probe_sets

    folders = {role: str(_name_folder(request, role, pooling)) for role in ("bank", "images")}
    asked = ProbeRequest(
        model=folders["bank"],
        test=folders["images"],
        taps=(tap,),
        pooling=(pooling,),
        seed=request.seed,
    )
    sets = open_probe_sets(asked, PassRunner(store))
    heads = sets.heads()
    parts = Parts(*(sets.data(part, heads) for part in (sets.train, sets.val, sets.test)))
    trained = train_heads(parts, heads, seed=request.seed, device=best_device(request.device))
    return trained.outcomes[heads[0]].right


def _ask_classifier(
    classifier: Any, asked: "Features", tap: str, pooling: str
) -> "Bool[np.ndarray, ' image']":
    """Whether the authors' classifier has each image right; its classes are the images' in the
    order of their names, as torchvision and timm have them."""
    import numpy as np

    if asked.labels is None or len(asked.classes) != len(classifier.bias):
        raise InputError(
            f"The classifier of {asked.model} tells {spell_count(len(classifier.bias), 'class')}"
            f" apart, and the images are of {len(asked.classes):,}",
            mend="give {images} of the classes that it was trained on",
        )
    right = [
        classifier.score(
            asked.read(tap, pooling, slice(start, start + BLOCK)).double().numpy()
        ).argmax(1)
        for start in range(0, len(asked), BLOCK)
    ]
    return np.asarray(np.concatenate(right) == np.asarray(asked.labels))
