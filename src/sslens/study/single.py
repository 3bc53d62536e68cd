"""What commands about one model share: its images, the processes of the run, the device, the
precision and the store."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final, runtime_checkable

from sslens.store import Store, home
from sslens.study.image_sets import open_sets, require_sources

if TYPE_CHECKING:
    from sslens.data.images import ImageSet


@runtime_checkable
class SingleRequest(Protocol):
    """A request about one model and one source of images."""

    @property
    def images(self) -> str:
        """A source as `sslens.open_images` reads it."""

    @property
    def limit(self) -> int | None:
        """The largest number of images taken."""

    @property
    def seed(self) -> int:
        """Decides which images are drawn."""

    @property
    def on_bad(self) -> str:
        """What is done at an image that cannot be decoded: "stop" or "skip"."""

    @property
    def device(self) -> str:
        """The device asked for."""

    @property
    def precision(self) -> str:
        """The precision asked for."""


@final
@dataclass(frozen=True)
class Surroundings:
    """The place where a request is carried out.

    Attributes:
        store: where results are looked up and kept.
        device: the device of this process.
        precision: the precision of the forward pass.
        first: whether this process writes files and prints.
    """

    store: Store
    device: str
    precision: str
    first: bool


@contextlib.contextmanager
def enter(request: SingleRequest, store: Store | None) -> Iterator[Surroundings]:
    """Join the processes of the run for the time of a `with` block, after the source of images has
    been looked for and before anything heavy is loaded.

    Raises:
        InputError: the images are not there, or the device or the precision cannot be used.
    """
    require_sources(request.images, given=getattr(request, "given", None))
    from sslens.processes import best_device, best_precision, processes

    with processes(best_device(request.device)) as process:
        precision = best_precision(request.precision, process.device)
        yield Surroundings(
            store or Store(home() / "store"), process.device, precision, process.first
        )


def open_request_images(request: SingleRequest, *, quiet: bool, minimum: int = 4) -> "ImageSet":
    """Open the images of a request, and check each file.

    Raises:
        InputError: the images cannot be read, or are fewer than `minimum`.
    """
    images = open_sets(
        {"images": (request.images, request.limit)},
        seed=request.seed,
        on_bad=request.on_bad,
        minimum=minimum,
        quiet=quiet,
        given=getattr(request, "given", None),
    )["images"]
    assert images is not None
    return images
