"""The features on which probes are trained, chosen and tested: computed by a model over images, or
stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sslens.capture import Column, FeatureReducer, Features
from sslens.capture.planned import plan_features
from sslens.comparisons.readings import choose_pooling
from sslens.counts import spell_count
from sslens.data.classes import number_classes
from sslens.data.images import ImageSet
from sslens.data.sources import call_source
from sslens.errors import InputError, nearest
from sslens.models.backbone import Backbone
from sslens.plan import Plan
from sslens.probes.linear.augmented import Augmented
from sslens.probes.linear.batches import Held, Stored
from sslens.probes.linear.heads import Head
from sslens.probes.linear.training import require_top
from sslens.probes.splits import held_out
from sslens.study.copies import describe_equal_rows, leave_out_copies, leave_out_shared
from sslens.study.image_sets import (
    NAMED,
    describe_skipped,
    open_sets,
    require_classes,
)
from sslens.study.members import Member, load_members
from sslens.study.passes import ActivationPass, PassRunner
from sslens.study.probe_request import ProbeRequest
from sslens.study.stored import open_stored

#: what helps where probes would be tested on images that they are trained on
OTHERS = "give others, or {folds}, which tests each image by probes that have not seen it"
#: bytes of features up to which they are held in memory
IN_MEMORY = 4 << 30
#: images of a minibatch of the pass
BATCH = 32


@final
@dataclass(frozen=True)
class Part:
    """Labelled features of some images.

    Attributes:
        features: the features of these images, and perhaps of others.
        rows: the rows of `features` that belong to the part.
        labels: the class of every row of `features`, in the numbers of the training images'
            classes.
        images: the images; None with stored features.
    """

    features: Features
    rows: Int64[np.ndarray, " row"]
    labels: Int64[np.ndarray, " image"]
    images: ImageSet | None

    @property
    def ids(self) -> list[str]:
        """The ids of the part's images."""
        return [self.features.ids[row] for row in self.rows]

    @property
    def taken_labels(self) -> Int64[Tensor, " row"]:
        """The classes of the part's images."""
        return torch.from_numpy(self.labels[self.rows])

    def read(self, columns: Sequence[Column]) -> Tensor:
        """Read the features of the part's images as float32, with several columns concatenated."""
        parts = [self.features.read(*column, self.rows).float() for column in columns]
        return torch.cat(parts, 1)

    def take_images(self) -> ImageSet | None:
        """Return the part's images; None with stored features."""
        if self.images is None:
            return None
        row = {name: number for number, name in enumerate(self.images.ids)}
        return self.images.take([row[name] for name in self.ids])


@final
@dataclass(frozen=True)
class ProbeSets:
    """The parts on which probes are trained, chosen and tested; all three are the same where every
    image is tested in folds.

    Attributes:
        notes: what a reader must know of the images, in sentences.
    """

    request: ProbeRequest
    model: Backbone | None
    classes: tuple[str, ...]
    train: Part
    val: Part
    test: Part
    notes: tuple[str, ...] = ()

    def heads(self) -> list[Head]:
        """Return the heads: each layer that is asked for, alone and perhaps together with the last
        one, at each depth of the probe."""
        request, features = self.request, self.train.features
        read = {tap for tap, _ in features.columns}
        names = [tap.name for tap in features.taps if tap.name in read]
        last = names[-1]
        taps = names if request.taps == ("all",) else list(request.taps or (last,))
        there = [pooling for pooling in features.poolings if (last, pooling) in features.columns]
        heads = []
        for pooling in request.pooling or (choose_pooling(there, features.read_pooling),):
            for tap in taps:
                own, ending = features.require(tap, pooling), features.require(last, pooling)
                heads += [Head((own,), depth) for depth in request.layers]
                if request.with_last and own != ending:
                    heads += [Head((own, ending), depth) for depth in request.layers]
        return heads

    def data(self, part: Part, heads: Sequence[Head], *, batch: int | None = None) -> Held | Stored:
        """Return a part as data for probes: in memory, or read block by block where it is large."""
        columns = _columns(heads)
        count, seed = len(self.classes), self.request.seed
        size = 4 * len(part.rows) * sum(part.features.columns[column] for column in columns)
        if size > IN_MEMORY:
            labels = torch.from_numpy(part.labels)
            return Stored(
                part.features,
                labels,
                count,
                rows=part.rows,
                columns=columns,
                batch=batch,
                seed=seed,
            )
        values = {column: part.read([column]) for column in columns}
        return Held(values, part.taken_labels, count, batch=batch, seed=seed)

    def training(self, heads: Sequence[Head], device: str) -> Held | Stored | Augmented:
        """Return the training data of the probes: features, or random views through the model."""
        request = self.request
        if not request.augment:
            return self.data(self.train, heads, batch=request.batch)
        images = self.train.take_images()
        assert self.model is not None
        assert images is not None
        return Augmented(
            self.model,
            images,
            _columns(heads),
            batch=request.batch,
            seed=request.seed,
            device=device,
        )

    def describe(self, heads: Sequence[Head], points: int) -> str:
        """Describe the plan, for a person."""
        parts = {"train": self.train, "choose": self.val, "test": self.test}
        if self.request.folds is not None:
            parts = {"images": self.train}
        lines = [
            f"model     {self.train.features.model}, {spell_count(len(self.classes), 'class')}"
        ]
        lines += [
            f"{name:<10}{spell_count(len(part.rows), 'image')}" for name, part in parts.items()
        ]
        how = f"{len(heads)} × {points} points of the grid" if points else f"{len(heads)}"
        names = heads[0].name + (", …" if heads[1:] else "")
        lines.append(f"probes    {how}, trained together: {names}")
        if self.request.folds is not None:
            lines.append(f"folds     {self.request.folds}, each image tested once")
        if self.request.augment:
            lines.append(
                "views     random crops and flips, a forward pass of all training images an epoch"
            )
        lines += [f"note      {note}" for note in self.notes]
        return "\n".join(lines)


def _columns(heads: Sequence[Head]) -> list[Column]:
    return list(dict.fromkeys(column for head in heads for column in head.columns))


def sources_of(request: ProbeRequest) -> dict[str, str]:
    """Return the given sources of images, or folders of features, by role."""
    first = request.model if request.is_stored else request.images
    given = {"train": first, "val": request.val, "test": request.test}
    return {role: source for role, source in given.items() if source is not None}


def open_probe_images(request: ProbeRequest, *, quiet: bool) -> dict[str, ImageSet]:
    """Open and check the images, by role.

    Raises:
        InputError: images cannot be read.
    """
    sources = {role: (source, request.limit) for role, source in sources_of(request).items()}
    opened = open_sets(sources, seed=request.seed, quiet=quiet, given=request.given)
    sets = {role: leave_out_copies(images) for role, images in opened.items()}
    for learnt, judged in (("train", "test"), ("val", "test"), ("train", "val")):
        sets[learnt] = leave_out_shared(sets.get(learnt), sets.get(judged), OTHERS)
    return {role: images for role, images in sets.items() if images is not None}


def open_probe_sets(
    request: ProbeRequest, runner: PassRunner, *, planned: bool = False
) -> ProbeSets:
    """Read the features from folders, or compute them by one pass of the model over each set of
    images; where the sets are only `planned`, no pass is run, and features have no values.

    Raises:
        InputError: images without classes, test images of other classes or among the training
            images, or features of another model.
    """
    model, parts = (
        _read_stored(request) if request.is_stored else _capture(request, runner, planned)
    )
    classes = parts["train"].features.classes
    for role, source in sources_of(request).items():
        _require_labels(source, parts[role].features)
        if role != "train":
            _require_fitting(source, parts[role].features, parts["train"].features)
            labels = _renumber(source, parts[role].features, classes)
            parts[role] = replace(parts[role], labels=labels)
    require_top(request.top, len(classes))
    train = parts["train"]
    notes = [note for part in parts.values() for note in describe_skipped(part.images)]
    if request.is_stored:
        notes += describe_equal_rows([part.features for part in parts.values()])
    if request.folds is not None:
        return ProbeSets(request, model, classes, train, train, train, tuple(notes))
    if "val" not in parts:
        notes += _drop_lone_classes(parts, classes)
        train = parts["train"]
        names = [train.features.ids[row] for row in train.rows]
        # the seed with which a study holds out a fifth, so that both choose on the same images
        rest, held = held_out(
            train.labels[train.rows], names, seed=request.seed + 1, classes=classes
        )
        parts["val"] = replace(train, rows=train.rows[held])
        train = replace(train, rows=train.rows[rest])
    return ProbeSets(request, model, classes, train, parts["val"], parts["test"], tuple(notes))


def _drop_lone_classes(parts: dict[str, Part], classes: Sequence[str]) -> list[str]:
    """Leave out the classes with one training image, which cannot both train and choose, where two
    others are left; returns a note that names them."""
    train, test = parts["train"], parts["test"]
    counts = np.bincount(train.labels, minlength=len(classes))
    fit = np.flatnonzero(counts > 1)
    lone = np.flatnonzero(counts == 1)
    if not len(lone) or len(fit) < 2 or not np.isin(test.labels, fit).any():
        return []
    for role in ("train", "test"):
        part = parts[role]
        parts[role] = replace(part, rows=part.rows[np.isin(part.labels[part.rows], fit)])
    named = ", ".join(classes[label] for label in lone[:NAMED].tolist())
    more = f" and {len(lone) - NAMED:,} more" if len(lone) > NAMED else ""
    plural = "classes leaves" if len(lone) == 1 else "classes leave"
    return [
        f"{len(lone):,} of {len(lone) + len(fit):,} {plural} the probes, with one training image"
        f" each, which cannot both train and choose: {named}{more}. More training images, or others"
        " to choose on, mend it."
    ]


def _read_stored(request: ProbeRequest) -> tuple[None, dict[str, Part]]:
    sources = sources_of(request)
    return None, {
        role: _part(open_stored(source, request.given), None) for role, source in sources.items()
    }


def _capture(
    request: ProbeRequest, runner: PassRunner, planned: bool
) -> tuple[Backbone, dict[str, Part]]:
    sets = open_probe_images(request, quiet=runner.quiet)
    for role, source in sources_of(request).items():
        require_classes(
            sets[role], call_source(source), "a probe learns them", several=role == "train"
        )
    (member,) = load_members((request.model,), controls=False, given=request.given)
    passes = plan_passes(member, sets.values(), request, runner)
    captured = (
        [plan_features(member.network, images) for images in sets.values()]
        if planned
        else [features for _, (features,) in runner.run(passes)]
    )
    parts = {
        role: _part(features, images)
        for (role, images), features in zip(sets.items(), captured, strict=True)
    }
    return member.network, parts


def plan_passes(
    member: Member, sets: Iterable[ImageSet], request: ProbeRequest, runner: PassRunner
) -> list[ActivationPass]:
    """Plan a pass of the model over each set of images."""
    return [
        runner.plan(member, images, Plan.draw(images.ids, BATCH, request.seed), [FeatureReducer()])
        for images in sets
    ]


def _part(features: Features, images: ImageSet | None) -> Part:
    labels = np.zeros(0, np.int64) if features.labels is None else np.array(features.labels)
    return Part(features, np.arange(len(features)), labels, images)


def _require_labels(source: str, features: Features) -> None:
    if features.labels is None:
        raise InputError(
            f"{source} holds features of images without classes, which a probe learns."
        )


def _require_fitting(source: str, features: Features, first: Features) -> None:
    """Refuse features of another model, and features of the images that are trained on."""
    if features.key.get("weights") != first.key.get("weights"):
        raise InputError(
            f"{source} holds features of {features.model}, and the training images' are of"
            f" {first.model}: of other weights."
        )
    images = features.key.get("images")  # of arrays nothing is known
    if images is not None and images == first.key.get("images"):
        raise InputError(
            f"{source} holds the images that the probes are trained on",
            mend=OTHERS,
        )


def _renumber(
    source: str, features: Features, classes: Sequence[str]
) -> Int64[np.ndarray, " image"]:
    """Classes as numbers of the training images' classes, by name."""
    numbers = number_classes(features.classes, classes)
    assert features.labels is not None
    for label in np.unique(features.labels).tolist():
        name = features.classes[label]
        if numbers[label] < 0:
            raise InputError(
                f'{source} has images of the class "{name}", of which there is none to train on:'
                f" {nearest(name, classes)}"
            )
    return np.asarray(numbers[features.labels], np.int64)
