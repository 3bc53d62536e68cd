"""Making the samples of a study: the sources, samples by each model, and features that judge
them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from sslens.capture import FeatureReducer, Features
from sslens.comparisons.readings import find_usual
from sslens.comparisons.samples import ModelSamples, Readings, SampleSet
from sslens.progress import progress
from sslens.store import Store, digest
from sslens.study.members import Member
from sslens.study.situation import Captured, Lack, Situation, lack_of_passes

if TYPE_CHECKING:
    import torch

    from sslens.data.images import ImageSet
    from sslens.models.backbone import Backbone
    from sslens.tasks.generator import Generator

#: sources, samples of each, and the images among which a source is ranked
SOURCES, DRAWS, CANDIDATES = 64, 8, 1000
#: fewest images in which a source can be looked for
FEWEST = 32
TRAIN = "train one by sslens rcdm train, and give its folder as {generator}"


def explain_lack(situation: Situation) -> Lack | None:
    """Explain why there can be no samples; None where there can.

    Raises:
        InputError: the generator that the study names cannot be opened.
    """
    if situation.images is None:
        return Lack("samples are made of images, and there are none", "give {images}")
    if len(situation.images) < FEWEST:
        count = f"{FEWEST} images or more, and there are {len(situation.images)}"
        return Lack(f"sources of samples are looked for among {count}", "give more {images}")
    lack = lack_of_passes(situation)
    if lack is not None:
        return lack
    if situation.study.generator is None:
        return Lack("no generator is named that makes images from features", TRAIN)
    generator = open_named(situation)
    if not _match(situation, generator):
        sources = " or ".join(one.source for one in generator.conditions.values())
        return Lack(
            f"the generator {generator.name} takes features of {', '.join(generator.models)}, and"
            " none of these models is one of them",
            f"give {sources}, or {TRAIN}",
        )
    return None


def describe_cost(situation: Situation, store: Store) -> Iterator[str]:
    """Say how many samples are made, or that the store has them."""
    generator, images = open_named(situation), situation.images
    assert images is not None
    matched, sources = _match(situation, generator), count_sources(images)
    lacking = list_lacking(situation, store, generator)
    state = f"{len(lacking)} of them to be made" if lacking else "in the store"
    yield (
        f"samples   {len(matched)} model{'s' * (len(matched) != 1)} × {sources} sources × {DRAWS},"
        f" {generator.size} px, by {generator.name} in {generator.process.default_steps} steps:"
        f" {state}"
    )
    unknown = [
        one.name
        for one in situation.members
        if one.model is not None and not one.control and one.name not in matched
    ]
    if unknown:
        yield f"          none of {', '.join(unknown)}, of which {generator.name} takes no features"


def count_sources(images: "ImageSet") -> int:
    """The images of which samples are made."""
    return min(SOURCES, len(images))


def list_lacking(situation: Situation, store: Store, generator: "Generator") -> list[Member]:
    """List the models of which the store lacks samples."""
    return [
        member
        for known, member in _match(situation, generator).values()
        if not store.has("samples", _key(situation, generator, known, member.network))
    ]


def has_factors(images: "ImageSet") -> bool:
    """Whether a reader of scenes can read the images' factors."""
    from sslens.data.scene_images import SceneSource

    return isinstance(images.source, SceneSource)


def make_all(captured: Captured) -> SampleSet:
    """Make the samples of all models that the generator knows, and the features that judge them."""
    situation, images = captured.situation, captured.situation.images
    assert images is not None
    generator = open_named(situation)
    candidates = images.take(range(min(CANDIDATES, len(images))))
    sources = candidates.take(range(count_sources(candidates)))
    pictures = look_at_size(candidates, generator.size)
    maker = SampleMaker(captured, generator, candidates, sources, pictures)
    models = {
        name: maker.make(name, known, member)
        for name, (known, member) in _match(situation, generator).items()
    }
    judges = {one.judge for one in models.values()}
    names = sources.ids
    if sources.labels is not None:
        names = tuple(sources.classes[label] for label in sources.labels)
    return SampleSet(
        generator.name,
        sources.ids,
        names,
        pictures[: len(sources)],
        models,
        {name: maker.read_usual(name) for name in sorted(judges)},
        maker.readings(),
        {
            "generator": digest(dict(generator.key)),
            "images": candidates.content,
            "ids": digest(candidates.ids),
            "draws": DRAWS,
            "seed": situation.study.seed,
            "models": {name: [one.tap, one.pooling, one.judge] for name, one in models.items()},
        },
    )


@final
@dataclass(frozen=True, eq=False)
class SampleMaker:
    """Makes the samples of one model after another, and reads them.

    Attributes:
        captured: the study, with the features of its images.
        generator: makes samples from features.
        candidates: the images among which sources are ranked.
        sources: the first of these, of which samples are made.
        pictures: the candidates at the size of the samples.
    """

    captured: Captured
    generator: "Generator"
    candidates: "ImageSet"
    sources: "ImageSet"
    pictures: np.ndarray

    @property
    def features(self) -> Mapping[str, Features]:
        """The features of the images by each model of the study."""
        return self.captured.of(FeatureReducer())

    def make(self, name: str, known: str, member: Member) -> ModelSamples:
        """Make the samples of one model, or take them from the store, and judge them.

        Args:
            name: of the model in the study.
            known: of the same model in the generator.
            member: the model.
        """
        tap, pooling = self.generator.tap(known), self.generator.pooling(known)
        pixels = self._sample(name, known, member.network)
        judge = self._choose_judge(name)
        flat = pixels.reshape(-1, *pixels.shape[2:])
        own = self._see(member.network, flat, tap, pooling)
        shifted = self._shift()
        return ModelSamples(
            tap,
            pooling,
            pixels,
            own.reshape(*pixels.shape[:2], -1),
            self._see(member.network, shifted, tap, pooling)[:, None],
            self._read(name, tap, pooling),
            judge,
            self._see(self._find(judge), flat, *self._usual(judge)),
            None if not has_factors(self.candidates) else self._reader.read(flat),
        )

    def read_usual(self, name: str) -> np.ndarray:
        """Read a judge's features of the candidates."""
        return self._read(name, *self._usual(name))

    def readings(self) -> Readings | None:
        """Read the factors of the candidates from their pictures; None where they are no scenes."""
        if not has_factors(self.candidates):
            return None
        from sslens.data.scene_images import factors_of

        read, count = self._reader.read(self.pictures), len(self.sources)
        true = factors_of(self.sources).reset_index(drop=True)
        return Readings(read[:count], read, true, self._reader.scores)

    @property
    def _reader(self) -> Any:
        from sslens.probes.scene_reader import open_reader

        quiet = self.captured.situation.quiet
        with progress("a reader of scenes", unit="minibatches", quiet=quiet) as report:
            return open_reader(self.captured.store, report=report)

    def _sample(self, name: str, known: str, model: "Backbone") -> np.ndarray:
        import torch

        situation, store = self.captured.situation, self.captured.store
        key = _key(situation, self.generator, known, model)
        kept = None if store is None else store.read("samples", key)
        if kept is not None:
            return kept["samples"].numpy()
        vectors = self.generator.select(self.features[name], self.sources, known)
        with progress(f"samples by {name}", quiet=situation.quiet) as report:
            pixels = self.generator.sample(
                vectors,
                known,
                DRAWS,
                seed=situation.study.seed,
                device=situation.device,
                progress=report,
            )
        if store is not None:
            store.write("samples", key, {"samples": torch.from_numpy(pixels)})
        return pixels

    def _see(self, model: "Backbone", pixels: np.ndarray, tap: str, pooling: str) -> np.ndarray:
        """The features of pictures by a model, in their order."""
        from sslens.capture import collect
        from sslens.data.images import from_arrays

        images = from_arrays(np.ascontiguousarray(pixels), name="samples")
        (features,) = collect(
            model,
            images,
            (FeatureReducer((tap,)),),
            store=self.captured.store,
            device=self.captured.situation.device,
        )
        model.to("cpu")
        return _order(features, images.ids, tap, pooling)

    def _read(self, name: str, tap: str, pooling: str) -> np.ndarray:
        """A model's features of the candidates, in their order."""
        return _order(self.features[name], self.candidates.ids, tap, pooling)

    def _shift(self) -> np.ndarray:
        from sslens.probes.fidelity import shift_right

        return shift_right(self.pictures[: len(self.sources)])

    def _usual(self, name: str) -> tuple[str, str]:
        return find_usual(self.features[name])

    def _find(self, name: str) -> "Backbone":
        return next(one.network for one in self.captured.situation.members if one.name == name)

    def _choose_judge(self, name: str) -> str:
        """Another model of the study, first one that conditions nothing; a control where there is
        no other model, and the model itself where there is none at all."""
        matched = _match(self.captured.situation, self.generator)
        others = [
            member
            for member in self.captured.situation.members
            if member.name != name and member.name in self.features
        ]
        others.sort(key=lambda member: (member.control, member.name in matched))
        return others[0].name if others else name


def open_named(situation: Situation) -> "Generator":
    """Open the generator that a study names.

    Raises:
        InputError: there is none of that name, or it is no generator.
    """
    from sslens.tasks.generator import open_generator

    assert situation.study.generator is not None
    return open_generator(situation.study.generator)


def _match(situation: Situation, generator: "Generator") -> dict[str, tuple[str, Member]]:
    """The models of the study that the generator knows by their weights, each with its name
    there."""
    known = {value: name for name, value in generator.digests.items()}
    return {
        member.name: (known[member.network.digest], member)
        for member in situation.members
        if member.model is not None and member.network.digest in known
    }


def _key(
    situation: Situation, generator: "Generator", known: str, model: "Backbone"
) -> Mapping[str, Any]:
    """Everything that decides the samples of a model."""
    images = situation.images
    assert images is not None
    sources = images.take(range(count_sources(images)))
    precision = situation.study.precision  # of the features, from which samples are made
    return {
        "generator": digest(dict(generator.key)),
        "model": [known, model.digest],
        "sources": [sources.content, digest(sources.ids)],
        "draws": DRAWS,
        "seed": situation.study.seed,
        "steps": generator.process.default_steps,
        **({} if precision == "float32" else {"precision": precision}),
    }


def look_at_size(images: "ImageSet", size: int) -> np.ndarray:
    """The images as squares of the size of samples."""
    from sslens.data.decoded import Decoded
    from sslens.tasks.diffusion import see_images

    return Decoded(images, see_images(size), keep=False).pixels(range(len(images)))


def _order(features: Features, ids: tuple[str, ...], tap: str, pooling: str) -> np.ndarray:
    """Features in the order of ids, in float64."""
    place = {name: row for row, name in enumerate(features.ids)}
    rows = np.array([place[name] for name in ids])
    values: torch.Tensor = features.read(tap, pooling, rows)
    return values.double().numpy()
