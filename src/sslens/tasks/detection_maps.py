"""The maps that a detector reads: kept, of a network that stays as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float16
from torch import Tensor

from sslens.capture import MapReducer, Maps, collect
from sslens.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from sslens.data.images import ImageSet
from sslens.data.placing import Placement
from sslens.data.transform import EvalTransform
from sslens.errors import InputError
from sslens.models import networks
from sslens.models.backbone import Backbone, Pixels
from sslens.models.sizes import at_size, patch_side, pixels_at_size
from sslens.plan import Plan
from sslens.store import Store
from sslens.tasks.detector import MapShape

#: images that a network sees at a time
BATCH = 16


@final
@dataclass(frozen=True)
class View:
    """How the images of a set are seen: whole, fitted into the upper left corner of a square.

    Attributes:
        side: the side of the square in pixels.
        flip: whether left and right of the square are exchanged.
    """

    side: int
    flip: bool = False

    def place(self, size: tuple[int, int]) -> Placement:
        """Return the place of an image of this width and height in the square."""
        seen = EvalTransform(resize=self.side, crop=self.side, fit="pad", flip=self.flip)
        return seen.place(size)

    def see(self, model: Backbone, patch: int | None = None) -> Backbone:
        """Return the model for this view; raw pixels are cut into patches.

        Args:
            model: the model.
            patch: the side of a patch of raw pixels.

        Raises:
            InputError: the model cannot be given this size.
        """
        if not isinstance(model.network, Pixels):
            return at_size(model, self.side, fit="pad", flip=self.flip)
        t = model.transform
        seen = EvalTransform(
            self.side, self.side, t.interpolation, IMAGENET_MEAN, IMAGENET_STD, "pad", self.flip
        )
        return pixels_at_size(model, seen, patch or self.side)


@final
@dataclass(frozen=True, eq=False)
class CachedMaps:
    """The maps of all images of a set in several views.

    Attributes:
        views: the views; those of one side stand together, as they are and, if at all, mirrored.
        maps: the maps in each view.
    """

    views: tuple[View, ...]
    maps: tuple[Maps, ...]

    def __post_init__(self) -> None:
        if any(maps.ids != self.maps[0].ids for maps in self.maps):
            raise ValueError("the maps of the views are of other images")

    @property
    def sides(self) -> tuple[int, ...]:
        """The side of the squares of each view, each once."""
        return tuple(dict.fromkeys(view.side for view in self.views))

    @property
    def shape(self) -> MapShape:
        """The shape of what `read` returns."""
        maps = self.maps[0]
        grids = [maps.grids[tap.name] for tap in maps.taps]
        stride = round(maps.stride(maps.taps[0].name))
        if len({grid.rows for grid in grids}) == 1:
            return MapShape((sum(grid.dim for grid in grids),), stride)
        return MapShape(tuple(grid.dim for grid in grids), stride)

    @property
    def bytes(self) -> int:
        """Bytes of all maps."""
        return sum(maps.row_bytes * len(maps) for maps in self.maps)

    def view(self, side: int, flip: bool = False) -> View:
        """Return the view of this side."""
        return next(view for view in self.views if view == View(side, flip))

    def read(
        self, rows: Sequence[int], side: int, mirrored: Sequence[bool] | None = None
    ) -> list[Float16[Tensor, "image row column _"]]:
        """Read the maps of some images at one side.

        Args:
            rows: the rows of the images.
            side: the side of the squares.
            mirrored: for each image whether it is mirrored; none is unless given.

        Returns:
            One map, in which the channels of several blocks are joined; or one for each stage of a
            CNN, the finest first.
        """
        flips = np.asarray(mirrored if mirrored is not None else [False] * len(rows), bool)
        numbers = np.asarray(rows, np.int64)
        taps = [tap.name for tap in self.maps[0].taps]
        parts: dict[str, Tensor] = {}
        for flip in (False, True):
            here = np.flatnonzero(flips == flip)
            if not len(here):
                continue
            maps = self.maps[self.views.index(View(side, flip))]
            for tap in taps:
                values = maps.read(tap, numbers[here])
                if len(here) == len(rows):
                    parts[tap] = values
                else:
                    if tap not in parts:
                        parts[tap] = values.new_empty(len(rows), *values.shape[1:])
                    parts[tap][torch.from_numpy(here)] = values
        if len(self.shape.dims) > 1 or len(taps) == 1:
            return [parts[tap] for tap in taps]
        return [torch.cat([parts[tap] for tap in taps], dim=-1)]


def name_taps(model: Backbone, blocks: Sequence[int]) -> tuple[str, ...]:
    """Name the taps after which a detector reads the maps of a model.

    Args:
        model: the model.
        blocks: the numbers of blocks of a transformer, from 0; the last one if there are none. A
            CNN is read after the last block of each of its stages, and raw pixels as they are.

    Raises:
        InputError: the model has no such block, or blocks were chosen of a CNN.

    >>> import sslens
    >>> model = sslens.load("random:vit_nano_patch8_32")
    >>> name_taps(model, ()), name_taps(model, (1, 3)), name_taps(sslens.load("pixels"), ())
    (('blocks.3',), ('blocks.1', 'blocks.3'), ('pixels',))
    """
    if isinstance(model.network, Pixels):
        return ("pixels",)
    names = [tap.name for tap in model.taps.values() if tap.kind == "block"]
    if isinstance(model.network, networks.CNNS):
        if blocks:
            raise InputError(
                f"{model.name} is a CNN, which is read after its four stages",
                mend="leave {blocks} out, or give Vision Transformers",
            )
        last = {name.rpartition(".")[0]: name for name in names}
        return tuple(last.values())
    if blocks and max(blocks) >= len(names):
        raise InputError(
            f"{model.name} has the blocks 0 to {len(names) - 1}, and no {max(blocks)}",
            mend="give others as {blocks}",
        )
    return tuple(names[block] for block in blocks) if blocks else (names[-1],)


def round_side(side: float, multiple: int) -> int:
    """Round the side of a square to a multiple of so many pixels, and to one at least.

    >>> round_side(48.0, 16), round_side(5.0, 16)
    (48, 16)
    """
    return max(1, round(side / multiple)) * multiple


def find_multiple(model: Backbone, patch: int) -> int:
    """Return the number of pixels of which the side of a square must be a multiple, so that no
    place of a map is lost at any level of the pyramid.

    Args:
        model: the model.
        patch: the side of a patch of raw pixels.
    """
    if isinstance(model.network, networks.CNNS):
        return 32
    return 2 * (patch if isinstance(model.network, Pixels) else patch_side(model) or patch)


def make_maps(
    model: Backbone,
    images: ImageSet,
    views: Sequence[View],
    blocks: Sequence[int] = (),
    *,
    patch: int = 16,
    store: Store | None = None,
    device: str = "cpu",
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> CachedMaps:
    """Make the maps of images in several views, or read them from the store.

    Args:
        model: the model.
        images: the images.
        views: how they are seen.
        blocks: the blocks that are read, as `name_taps` takes them.
        patch: the side of a patch of raw pixels.
        store: where maps are kept; in memory unless given.
        device: the name of a torch device.
        precision: of the forward pass.
        progress: called with images done and images in all.

    Raises:
        InputError: the model has no such block, or cannot be given such a size.
    """
    taps = name_taps(model, blocks)
    plan = Plan.in_order(images.ids, BATCH)
    made: list[Maps] = []
    total = len(views) * len(images)
    for number, view in enumerate(views):

        def report(done: int, _: int, before: int = number * len(images)) -> None:
            if progress is not None:
                progress(before + done, total)

        (maps,) = collect(
            view.see(model, patch),
            images,
            [MapReducer(taps)],
            plan=plan,
            store=store,
            device=device,
            precision=precision,
            progress=report,
        )
        made.append(maps)
    return CachedMaps(tuple(views), tuple(made))
