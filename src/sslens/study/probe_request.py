"""The request to train probes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from sslens import zoo
from sslens.errors import InputError
from sslens.study.stored import is_stored, require_folder_name


@final
@dataclass(frozen=True)
class ProbeRequest:
    """The request to train probes.

    Attributes:
        model: a source as `sslens.load` reads it, or a folder of stored features of the training
            images.
        images: the training images; None with stored features.
        test: the images (or stored features) on which the accuracy is measured; None where `folds`
            is given.
        val: the images on which the penalty, or the point of the grid, is chosen; a fifth of the
            training images unless given.
        folds: the number of folds in which every training image is tested once.
        few_shot: shares of the labels with which probes are also trained and chosen.
        draws: the number of draws of each share.
        factors: whether the factors of generated scenes are decoded too.
        taps: the names of the taps, or ("all",); the last tap unless given.
        pooling: "cls", "mean", "patch" or "flat"; the first of these that the last tap has unless
            given.
        with_last: whether each layer is also probed together with the last one.
        layers: the numbers of layers of the probe; 1 is linear.
        grid: "converged", "paper", 216 points, or "small", 8.
        augment: whether probes are trained on random crops and flips.
        top: an image is right when its class is among the `top` highest scores.
        batch: the number of images in a step; chosen by the number of images unless given.
        out: the folder for the tables.
        limit: the largest number of images taken from each set, drawn by their ids and the seed.
        given: models, features and images in memory, by the texts that stand for them.

    Raises:
        InputError: a mistake that can be recognised before anything is opened.
    """

    model: str
    images: str | None = None
    test: str | None = None
    val: str | None = None
    folds: int | None = None
    few_shot: tuple[float, ...] = ()
    draws: int = 5
    factors: bool = False
    taps: tuple[str, ...] = ()
    pooling: tuple[str, ...] = ()
    with_last: bool = False
    layers: tuple[int, ...] = (1,)
    grid: str = "converged"
    augment: bool = False
    top: int = 1
    batch: int | None = None
    out: Path = Path("probes")
    seed: int = 0
    limit: int | None = None
    device: str = "auto"
    precision: str = "float32"
    given: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        self._check_images()
        if self.folds is not None:
            self._check_folds()
        if self.is_stored and self.augment:
            raise InputError(
                "Stored features cannot be augmented", mend="give the model and its {images}"
            )
        if self.augment and self.grid == "converged":
            raise InputError(
                "Converged probes are trained on features and not on random views",
                mend="give {grid=paper}",
            )
        require_folder_name(self.out, "tables are written into a folder")
        for name, values in (
            ("layers", self.layers),
            ("draws", (self.draws,)),
            ("top", (self.top,)),
            ("batch", (1 if self.batch is None else self.batch,)),
        ):
            if not values or min(values) < 1:
                given = " ".join(map(str, values)) or "empty"
                raise InputError(f"{name} is {given}", mend=f"give 1 or more to {{{name}}}")

    @property
    def is_stored(self) -> bool:
        """Whether features are read from folders."""
        return is_stored(self.model, self.given)

    def _check_images(self) -> None:
        if self.is_stored and self.images is not None:
            raise InputError(
                f"{self.model} holds features, of images known already", mend="leave {images} out"
            )
        if not self.is_stored and self.images is None:
            raise InputError(
                "There are no images to train on",
                mend="give {images}, a folder with a subfolder a class or an index with labels",
            )
        if not self.is_stored and self.model not in self.given:
            zoo.check(self.model)
        if (self.test is None) == (self.folds is None):
            count = "no images" if self.test is None else "two ways"
            raise InputError(
                f"There are {count} to test on",
                mend=(
                    "give {test}, images to tell the accuracy of, or {folds}, to test every image"
                    " once"
                ),
            )

    def _check_folds(self) -> None:
        for name in ("augment", "val", "few_shot"):
            if getattr(self, name):
                raise InputError(
                    f"With folds every image is tested, and {name} wants images to test on",
                    mend=f"leave {{{name}}} out, or give {{test}} in the place of {{folds}}",
                )
