"""The trainings of a study's detectors: which models, on what, with which settings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from sslens.counts import spell_count
from sslens.errors import InputError
from sslens.store import Store, digest
from sslens.study.detector_request import DetectorRequest
from sslens.study.members import Member
from sslens.study.situation import Lack, Situation, lack_of_passes

if TYPE_CHECKING:
    from sslens.data.detections import DetectionSet
    from sslens.tasks.detecting import Judged
    from sslens.tasks.detection import Settings
    from sslens.tasks.detection_maps import CachedMaps
    from sslens.training.schedule import Training

#: the folders of trainings in the store
TRAININGS = "detector-trainings"
#: raise it whenever a detector comes out otherwise
VERSION = 1
#: side of a patch of raw pixels where no model says another
PATCH = 16


@final
@dataclass(frozen=True)
class Protocol:
    """One way in which all detectors of a set are trained.

    Attributes:
        request: what the study asks for.
        tuned: whether the networks are trained too.
        several: whether the maps of several blocks are joined.
    """

    request: DetectorRequest
    tuned: bool = False
    several: bool = False

    @classmethod
    def of(cls, situation: Situation, *, tuned: bool = False, several: bool = False) -> "Protocol":
        """The protocol of a study."""
        return cls(DetectorRequest.parse(situation.study.detection), tuned, several)

    @property
    def settings(self) -> "Settings":
        """The settings of the task."""
        blocks = self.request.blocks if self.several else ()
        return replace(self.request.settings, tuned=self.tuned, blocks=blocks)

    def training(self, situation: Situation) -> "Training":
        """The length of a training, and on what it runs."""
        from sslens.processes import best_precision
        from sslens.training.schedule import Training

        asked = self.request.precision
        if asked == "auto" and situation.device == "cpu":
            asked = "float32"  # whatever the processor, the numbers are the same but for rounding
        return Training(
            epochs=self.request.epochs,
            batch_size=self.request.batch_size,
            seed=situation.study.seed,
            device=situation.device,
            precision=best_precision(asked, situation.device),
            workers=self.request.workers,
            accumulate=self.request.accumulate,
        )

    def describe(self) -> str:
        """Say how detectors are trained, in a sentence."""
        s, r = self.settings, self.request
        blocks = f"blocks {', '.join(map(str, s.blocks))} joined" if s.blocks else "the last block"
        if self.tuned:
            low, high = s.jitter
            seen = (
                f"end to end, large-scale jitter {low:g} to {high:g}, layer decay {s.layer_decay:g}"
            )
        else:
            scales = ", ".join(f"{scale:g}" for scale in s.scales)
            seen = f"frozen, maps at the scales {scales}" + (" and mirrored" if s.flip else "")
        return (
            f"{seen}; {blocks}; heads {s.heads}; images of {s.size} px;"
            f" {spell_count(r.epochs, 'epoch')} of {spell_count(r.batch_size, 'image')} a step"
        )

    def list_members(self, situation: Situation) -> list[Member]:
        """List the models of which detectors are trained: all models, and as controls the first
        random initialisation of each architecture and, of frozen networks, raw pixels, which have
        no weights to train and no blocks to join."""
        chosen: list[Member] = []
        archs: set[str | None] = set()
        for member in situation.members:
            if member.model is None:
                continue
            pixels = member.about.network == "pixels"
            if pixels and (self.tuned or self.several):
                continue
            if member.control and not pixels:
                if member.about.arch in archs:
                    continue
                archs.add(member.about.arch)
            chosen.append(member)
        return chosen


def explain_lack(situation: Situation, *, several: bool = False) -> Lack | None:
    """Say why no detectors can be trained for these models and images; None where they can."""
    lack = lack_of_passes(situation)
    if lack is not None:
        return lack
    for images, role in ((situation.images, "images"), (situation.bank, "bank")):
        if images is None or images.objects is None:
            which = "judged" if role == "images" else "trained"
            return Lack(
                f"detectors are {which} on images with boxes, and there are none",
                f"give {{{role}}} such as coco:IMAGES:ANNOTATIONS or scenes-detection:1:500",
            )
    if several and not DetectorRequest.parse(situation.study.detection).blocks:
        return Lack(
            "it is not said which blocks are joined",
            "give {detection} with blocks, such as blocks=[8, 9, 10, 11]",
        )
    return None


def open_sets(situation: Situation) -> "tuple[DetectionSet, DetectionSet]":
    """The images that train detectors, and those in which detectors are judged."""
    from sslens.data.detections import DetectionSet

    assert situation.bank is not None
    assert situation.images is not None
    train, images = DetectionSet.of(situation.bank), DetectionSet.of(situation.images)
    if train.categories != images.categories:
        raise InputError(
            f"{train.name} and {images.name} have different categories"
            f" ({len(train.categories)} and {len(images.categories)})",
            mend="give annotation files of the same categories",
        )
    return train, images


@final
@dataclass(frozen=True)
class DetectorRun:
    """The training of one detector.

    Attributes:
        member: the model.
        protocol: how it is trained.
        situation: of the study.
        train: the images that train it.
        images: the images in which it is judged.
        store: where everything is kept.
    """

    member: Member
    protocol: Protocol
    situation: Situation
    train: "DetectionSet"
    images: "DetectionSet"
    store: Store

    @property
    def key(self) -> Mapping[str, Any]:
        """What decides the weights of the detector, as plain JSON values."""
        training = self.protocol.training(self.situation)
        settings = asdict(self.protocol.settings)
        del settings["classes"]
        # steps in parts are almost and not exactly the same
        parts = {} if training.accumulate == 1 else {"accumulate": training.accumulate}
        return {
            "version": VERSION,
            "weights": self.member.described.digest,
            "transform": self.member.network.transform.spec(),
            "patch": self.patch,
            "images": self.train.digest,
            "settings": {name: _plain(value) for name, value in settings.items()},
            "epochs": training.epochs,
            "batch_size": training.batch_size,
            "seed": training.seed,
            "precision": [training.precision, self.situation.study.precision],
            **parts,
        }

    @property
    def judged_key(self) -> Mapping[str, Any]:
        """What decides the numbers of the detector, as plain JSON values."""
        from sslens.scoring.areas import choose_areas
        from sslens.statistics.bootstrap import DRAWS

        key = {"training": digest(self.key), "judged": self.images.digest, "draws": DRAWS}
        # COCO's photographs made smaller were once judged by COCO's own sizes of objects
        shrunk = self.train.is_coco and choose_areas(self.train).relative
        return key | ({"areas": "thirds"} if shrunk else {})

    @property
    def folder(self) -> Path:
        """The folder of the training."""
        return self.store.path(TRAININGS, self.key, "")

    @property
    def patch(self) -> int:
        """The side of a patch of raw pixels: that of the first model that has patches."""
        from sslens.models.sizes import patch_side

        if self.member.about.network != "pixels":
            return 0
        others = (member for member in self.situation.members if member.model is not None)
        sides = (patch_side(member.network) for member in others if member is not self.member)
        return next((side for side in sides if side), PATCH)

    @property
    def side(self) -> int:
        """The side of the squares in which images are seen whole."""
        return self._round(float(self.protocol.settings.size))

    @property
    def sides(self) -> tuple[int, ...]:
        """The sides of the squares of which maps are kept for training, each once."""
        s = self.protocol.settings
        return tuple(dict.fromkeys(self._round(scale * s.size) for scale in s.scales))

    def _round(self, side: float) -> int:
        from sslens.tasks.detection_maps import find_multiple, round_side

        return round_side(side, find_multiple(self.member.network, self.patch or PATCH))

    def make_maps(self, *, training: bool, report: Any = None) -> "CachedMaps":
        """Make the maps of the training images at all scales, or of the others as they are."""
        from sslens.processes import best_precision
        from sslens.tasks.detection_maps import View, make_maps

        s, device = self.protocol.settings, self.situation.device
        flips = (False, True) if s.flip else (False,)
        views = [View(side, flip) for side in self.sides for flip in flips]
        return make_maps(
            self.member.network,
            (self.train if training else self.images).images,
            views if training else [View(self.side)],
            s.blocks,
            patch=self.patch or PATCH,
            store=self.store,
            device=device,
            precision=best_precision(self.situation.study.precision, device),
            progress=report,
        )

    def judged(self) -> "Judged":
        """The images in which the detector is judged, with their maps if the network is frozen."""
        from sslens.tasks.detecting import Judged
        from sslens.tasks.detection_maps import View
        from sslens.tasks.start import StartingPoint

        network = self.member.network
        start = StartingPoint(network.name, network.transform, 0)
        maps = None if self.protocol.tuned else self.make_maps(training=False)
        return Judged(self.images, View(self.side), start, maps)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def list_runs(situation: Situation, protocol: Protocol, store: Store) -> list[DetectorRun]:
    """List the trainings of a protocol, in the models' order."""
    train, images = open_sets(situation)
    if (size := protocol.request.batch_size) > len(train):
        raise InputError(
            f"A minibatch of {size} is more than the {len(train)} images that train detectors",
            mend=f"give {{batch_size={len(train)}}} or less",
        )
    return [
        DetectorRun(member, protocol, situation, train, images, store)
        for member in protocol.list_members(situation)
    ]
