"""Generators: networks that make images from noise and from a representation, opened from a run's
folder or a file."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sslens import cards, zoo
from sslens.capture import Features
from sslens.counts import spell_count
from sslens.data.images import ImageSet
from sslens.data.streams import stream
from sslens.diffusion.adapters import Adapters
from sslens.diffusion.process import Process
from sslens.errors import InputError, nearest, require_type
from sslens.models.backbone import Backbone
from sslens.store import digest
from sslens.tasks.diffusion import SHAPE
from sslens.tasks.diffusion_settings import make_process
from sslens.tasks.generator_header import NETWORK, read_description
from sslens.tasks.representations import Condition, choose_tap, choose_tokens, find_rows
from sslens.zoo.written import read_written

#: key of the random streams of noise of samples
NOISE = 7
#: the fewest samples of an image by which one sees what varies
FEWEST = 2
#: mean and standard deviation by which images have values from −1 to 1
HALF = (0.5, 0.5, 0.5)
#: images that are generated together
BATCH = 64


@final
@dataclass(frozen=True, eq=False)
class Generator:
    """A network that makes images from noise and from a model's features of an image.

    Attributes:
        name: the name for tables and figures.
        network: predicts from noisy images, times and conditions.
        process: turns noise into images by the network.
        adapters: how features become the network's condition.
        conditions: the features that are taken, by the name of the model.
        size: side in pixels of the images.
        key: what decides the samples, as plain JSON values: the digest of the weights, the shape,
            the process and the models.
    """

    name: str
    network: nn.Module
    process: Process
    adapters: Adapters
    conditions: Mapping[str, Condition]
    size: int
    key: Mapping[str, Any]

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models with features that condition it."""
        return tuple(self.conditions)

    @property
    def digests(self) -> Mapping[str, str]:
        """The digest of the weights of each of these models, by its name."""
        return {name: condition.digest for name, condition in self.conditions.items()}

    def tap(self, model: str) -> str:
        """Return the tap at which features of a model are taken."""
        return self.condition(model).tap

    def pooling(self, model: str) -> str:
        """Return the pooling of the features of a model that are taken."""
        return self.condition(model).pooling

    def condition(self, model: str) -> Condition:
        """Return the features of a model that are taken.

        Raises:
            InputError: the generator takes no features of this model.
        """
        if model not in self.conditions:
            raise InputError(
                f'The generator {self.name} takes no features of "{model}":'
                f" {nearest(model, self.conditions)}"
            )
        return self.conditions[model]

    def find_model(self, model: Backbone) -> str:
        """Return the name under which the generator knows a model, found by its weights.

        Raises:
            InputError: the generator takes no features of a model with these weights.
        """
        for name, condition in self.conditions.items():
            if condition.digest in ("", model.digest):
                return name
        own = model.name if model.name not in self.conditions else f"this other {model.name}"
        known = f", by its source {model.source}" if own != model.name else ""
        raise InputError(
            f"The generator {self.name} takes features of {', '.join(self.models)}, and of no model"
            f" with the weights of {own}{known}",
            mend=f"give {' or '.join(each.source for each in self.conditions.values())}",
        )

    def select(
        self, features: Features, images: ImageSet | None = None, model: str | None = None
    ) -> Float[Tensor, "image dim"]:
        """Select the features that the generator takes.

        Args:
            features: the features of a model.
            images: the images to take them of, in this order; all of the features unless given.
            model: the model's name; that of the features unless given.

        Raises:
            InputError: the features are of another model, of images prepared in another way, of
                another width, or of other images.
        """
        require_type(features, Features, "features", "give what sslens.features returns")
        if images is not None:
            require_type(images, ImageSet, "set of images", "give what sslens.open_images returns")
        condition = self.condition(model or features.model)
        condition.require(features)
        if images is None:
            return features.read(condition.tap, condition.pooling).float()
        rows = find_rows(features, images.ids)
        whole = len(rows) == len(features)
        if whole and "images" in features.key and features.key["images"] != images.content:
            raise InputError(
                f"The features of {features.model} are of other images than {images.name}, under"
                " the same ids",
                mend="make the features of these {images}",
            )
        return features.read(condition.tap, condition.pooling, rows).float()

    def sample(
        self,
        vectors: Float[Tensor, "image dim"],
        model: str,
        draws: int = 8,
        *,
        seed: int = 0,
        steps: str | None = None,
        batch: int = BATCH,
        device: str = "cpu",
        precision: str = "float32",
        progress: Callable[[int, int], None] | None = None,
    ) -> UInt8[np.ndarray, "image draw size size 3"]:
        """Generate images from features.

        The noise of image i and draw j depends on (seed, i, j) alone: it is the same for every
        model, and for every `batch`.

        Args:
            vectors: the features of each source image, as `select` returns them.
            model: the name of the model that the features are of.
            draws: the number of images generated from each source.
            seed: decides the noise.
            steps: as the process reads it: of a diffusion "100" for as many ancestral steps,
                "ddim50" for as many deterministic ones; the process' own default unless given.
            batch: images that are generated together.
            device: the name of a torch device.
            precision: "float32", or "bfloat16" for the network under autocast.
            progress: called with images done and images in all.

        Raises:
            InputError: an unknown model, features of another width or that are not finite, fewer
                than two draws, or steps that the process cannot read.
        """
        self.process.require_steps(steps or self.process.default_steps)
        self._require_samples(vectors, model, draws, batch)
        condition = self.adapters.place(model, vectors.float())
        total = len(vectors) * draws
        out = np.empty((total, self.size, self.size, 3), np.uint8)
        network = self.network.to(device).eval()
        for start in range(0, total, batch):
            pairs = [divmod(place, draws) for place in range(start, min(start + batch, total))]
            noise = NoiseSource(seed, pairs, self.size, device)
            chosen = condition[[image for image, _ in pairs]].to(device)
            with torch.inference_mode(), _autocast(device, precision):
                made = self.process.sample(
                    network, noise.draw(), chosen, steps or self.process.default_steps, noise.draw
                )
            out[start : start + len(pairs)] = to_pixels(made)
            if progress is not None:
                progress(start + len(pairs), total)
        return out.reshape(len(vectors), draws, self.size, self.size, 3)

    def _require_samples(self, vectors: Tensor, model: str, draws: int, batch: int) -> None:
        """Raise InputError where `sample` can make nothing of these."""
        require_type(vectors, Tensor, "tensor of features", "give what select returns")
        if vectors.ndim != 2:
            raise InputError(
                f"The features have {spell_count(vectors.ndim, 'dimension')}: expected a row an"
                " image, as select returns them."
            )
        if draws < FEWEST:
            raise InputError(
                f"{draws} sample of an image shows nothing of what varies",
                mend=f"give {{draws={FEWEST}}} or more",
            )
        if batch < 1:
            raise InputError(f"{batch} images cannot be generated together", mend="give 1 or more")
        self.condition(model)
        if not torch.isfinite(vectors).all():
            raise InputError(f"The features of {model} are not finite for all images.")


@final
@dataclass(frozen=True)
class NoiseSource:
    """The noise of some samples.

    Attributes:
        seed: the seed of all samples.
        pairs: the number of the source image and of the draw of each sample.
        size: side in pixels of the images.
        device: where the noise is needed.
    """

    seed: int
    pairs: Sequence[tuple[int, int]]
    size: int
    device: str = "cpu"

    def draw(self, time: int | None = None) -> Float[Tensor, "sample 3 size size"]:
        """Draw the noise of each sample: that with which it begins, or that of a step.

        Args:
            time: the number of the step in the whole process; None for the beginning.
        """
        shape = 3, self.size, self.size
        step = () if time is None else (time,)
        drawn = [
            stream(self.seed, draw, NOISE, image, *step).standard_normal(shape, np.float32)
            for image, draw in self.pairs
        ]
        return torch.from_numpy(np.stack(drawn)).to(self.device)


def to_pixels(
    images: Float[Tensor, "image 3 size size"],
) -> UInt8[np.ndarray, "image size size 3"]:
    """Turn images with values from −1 to 1 into pixels.

    >>> to_pixels(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)).flatten().tolist()
    [0, 128, 255]
    """
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels: UInt8[np.ndarray, "image size size 3"] = levels.permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(pixels)


def open_generator(path: str | Path, model: Backbone | None = None) -> Generator:
    """Open a generator from the folder of a training or from a file.

    Args:
        path: a folder that `sslens rcdm train` wrote, its `last.safetensors`, a file of RCDM's
            authors (.pt), or the name of a generator that comes with the package.
        model: the model that conditions a file of RCDM's authors, which does not say it.

    Raises:
        InputError: it is no generator, tensors are missing or left over, or a file of RCDM's
            authors is given without a model.
    """
    file = _find_generator(path)
    if file.suffix != ".safetensors":
        return _open_released(file, model)
    header, tensors = zoo.read(file)
    written = read_written(header[zoo.HEADER], file) if zoo.HEADER in header else {"shape": {}}
    said = written["shape"].get(SHAPE)
    if said is None:
        raise InputError(
            f"{path} holds no generator", mend="give the folder that sslens rcdm train wrote"
        )
    description = read_description(said, tensors, file)
    network = description.network.build()
    network.load_state_dict(_part(tensors, NETWORK))
    adapters = Adapters.from_tensors(
        {name: condition.dim for name, condition in description.conditions.items()},
        description.preparation,
        _part(tensors, "adapters."),
    )
    return Generator(
        name=written["name"],
        network=network.requires_grad_(False).eval(),
        process=description.process,
        adapters=adapters,
        conditions=description.conditions,
        size=description.network.size,
        key={"weights": _digest_tensors(tensors), **said},
    )


def _find_generator(path: str | Path) -> Path:
    """The file of a generator."""
    shipped = cards.list_generators()
    if str(path) in shipped:
        return shipped[str(path)]
    file = Path(path).expanduser()
    if not file.exists():
        names = "".join(f", or {name}" for name in shipped)
        raise InputError(
            f"There is no generator {path}",
            mend=f"give the folder of sslens rcdm train, or a file{names}",
        )
    if file.is_dir() and not (file / zoo.ENCODER).is_file():
        raise InputError(
            f"The folder {file} holds no {zoo.ENCODER}, and so no generator",
            mend="give the folder that sslens rcdm train wrote, or a file",
        )
    return zoo.find_file(file)


def _open_released(file: Path, model: Backbone | None) -> Generator:
    """Open a file of RCDM's authors, which holds the network alone. Its model was shown images with
    values from −1 to 1, whatever it was trained on."""
    from sslens.zoo.generators import load_rcdm

    network = load_rcdm(file)
    if model is None:
        raise InputError(
            f"{file} is of RCDM's authors and does not say which model conditions it: sslens rcdm"
            " sample takes that model beside it, and a comparison takes no such file",
            mend="give the model with sslens rcdm sample, as {models}",
        )
    shape = network.shape
    if shape.condition is None:
        raise InputError(f"{file} holds a generator that takes no representation.")
    condition = Condition(
        model.name,
        model.source,
        model.digest,
        replace(model.transform, mean=HALF, std=HALF).spec(),
        choose_tap(model),
        choose_tokens(model),
        shape.condition,
    )
    process = make_process({"process": "gaussian", "schedule": "linear", "times": 1000})
    tensors = network.state_dict()
    return Generator(
        name=file.stem,
        network=network.requires_grad_(False).eval(),
        process=process,
        adapters=Adapters.fit({model.name: torch.zeros(2, condition.dim)}, "none"),
        conditions={model.name: condition},
        size=shape.size,
        key={"weights": _digest_tensors(tensors), "conditions": [condition.to_json()]},
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with names that begin with a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The digest of tensors by name."""
    import hashlib

    parts = {}
    for name, value in tensors.items():
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        parts[name] = [list(value.shape), hashlib.sha256(raw.data).hexdigest()]
    return digest(parts)


def _autocast(device: str, precision: str) -> AbstractContextManager[None]:
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")
