"""The labelled pixels of each patch: dense probes are trained on them, and scored by them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float, Float64, Int64, Integer
from torch import Tensor

from sslens.counts import spell_count
from sslens.errors import InputError

#: pixels that are counted at a time, and patches that are looked at at a time
PIXELS, CHUNK = 1 << 22, 1 << 14
#: sizes of objects, by their share of the image's pixels
SIZES = ("small", "medium", "large")
#: the label of a pixel that counts for nothing, as in Pascal VOC and Cityscapes
IGNORED = 255

#: [image, row, column, dim]
Map = Float[Tensor, "_ _ _ _"]
Masks = Integer[Tensor, "image h w"] | Sequence[Integer[Tensor, "_ _"]]


@final
@dataclass(frozen=True, eq=False)
class PatchLabels:
    """Numbers of labelled pixels in the patches of some images, by class and by size of object.

    Only pairs of a patch and a class (and a size) that occur are kept, in order of patches. Patches
    are numbered by image, row and column.

    Attributes:
        patch: the patch of each entry.
        label: its class.
        size: 0 where the pixels belong to no object, else 1 + the place in `sizes`.
        count: its number of pixels.
        images: number of images.
        grid: rows and columns of patches.
        classes: number of classes.
        sizes: names of the sizes; none if objects are not known.
        ids: of the images, if they are known.
    """

    patch: Int64[Tensor, " entry"]
    label: Int64[Tensor, " entry"]
    size: Int64[Tensor, " entry"]
    count: Int64[Tensor, " entry"]
    images: int
    grid: tuple[int, int]
    classes: int
    sizes: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None

    @property
    def places(self) -> int:
        """Number of patches of an image."""
        return self.grid[0] * self.grid[1]

    @cached_property
    def pixels(self) -> Int64[Tensor, " patch"]:
        """Number of labelled pixels of each patch, m_p."""
        total = self.count.new_zeros(self.images * self.places)
        return total.index_add_(0, self.patch, self.count)

    @cached_property
    def present(self) -> Int64[Tensor, " class"]:
        """Number of pixels of each class."""
        return self.count.new_zeros(self.classes).index_add_(0, self.label, self.count)

    def counts(self, patches: Int64[Tensor, " some"]) -> Float64[Tensor, "some class"]:
        """Return the number of pixels of each class in some patches, which are in order."""
        place = torch.full((self.images * self.places,), -1)
        place[patches] = torch.arange(len(patches))
        row = place[self.patch]
        counts = torch.zeros(len(patches), self.classes, dtype=torch.float64)
        entries = row >= 0
        index = row[entries] * self.classes + self.label[entries]
        counts.view(-1).index_add_(0, index, self.count[entries].double())
        return counts

    def majority(self) -> Int64[Tensor, "image row column"]:
        """Return the class with most pixels of each patch, of equal ones the first, and 0 where no
        pixel is labelled: no prediction of a class for each patch has more pixels right."""
        counts = self.counts(torch.arange(self.images * self.places))
        return counts.argmax(1).view(self.images, *self.grid)

    def take(self, rows: Sequence[int] | Int64[Tensor, " some"]) -> "PatchLabels":
        """Return some of the images, by their numbers.

        Raises:
            InputError: there is no such image.
        """
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < self.images:
            raise InputError(f"An image is asked for that is none of the {self.images:,}.")
        edges = torch.arange(self.images + 1) * self.places
        ends = torch.searchsorted(self.patch, edges)
        lengths = (ends[1:] - ends[:-1])[chosen]
        number = torch.arange(len(chosen)).repeat_interleave(lengths)
        within = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths)[number]
        entries = ends[:-1][chosen][number] + within
        patch = self.patch[entries] + (number - chosen[number]) * self.places
        return PatchLabels(
            patch,
            self.label[entries],
            self.size[entries],
            self.count[entries],
            len(chosen),
            self.grid,
            self.classes,
            self.sizes,
            None if self.ids is None else tuple(self.ids[row] for row in chosen.tolist()),
        )


def count_labels(
    masks: Masks,
    grid: tuple[int, int],
    classes: int,
    *,
    ignore: int = IGNORED,
    objects: Masks | None = None,
    edges: tuple[float, float] | None = None,
    ids: Sequence[str] | None = None,
) -> PatchLabels:
    """Count the labelled pixels of each patch, by class and by size of their object.

    Pixel (u, v) of an image of h × w pixels is of patch (⌊u R / h⌋, ⌊v C / w⌋) of a grid of R × C:
    the patch that upsampling by nearest neighbours copies there. An object is small if its share of
    the image's pixels is at most the first of `edges`, and medium if at most the second.

    Args:
        masks: class of each pixel; of images of different sizes a list.
        grid: rows and columns of patches.
        classes: number of classes.
        ignore: the label of pixels that count for nothing.
        objects: number of the object of each pixel, −1 for none, of the shapes of `masks`.
        edges: shares between small and medium, and medium and large (`find_terciles`).
        ids: of the images.

    Raises:
        InputError: a label is none of the classes, or shapes or numbers do not fit.

    >>> labels = count_labels(torch.tensor([[[0, 0, 1, 1], [0, 1, 1, 255]]]), (1, 2), classes=2)
    >>> labels.counts(torch.arange(2)).tolist(), labels.pixels.tolist()
    ([[3.0, 1.0], [0.0, 3.0]], [4, 3])
    """
    _require(masks, grid, classes, objects, edges, ids)
    sizes = 0 if edges is None else len(SIZES)
    places = grid[0] * grid[1]
    bins = classes * (sizes + 1)
    keys, counts = list[Tensor](), list[Tensor]()
    for rows, mask, instance in _read_alike(masks, objects, places * bins):
        label = mask.long()
        labelled = label != ignore
        _require_classes(label[labelled], classes)
        place = _place_pixels((mask.shape[1], mask.shape[2]), grid) * classes + label
        if instance is not None and edges is not None:
            place = place * (sizes + 1) + _find_sizes(instance.long(), edges)
        image = torch.arange(len(rows))[:, None, None] * (places * bins)
        number = torch.bincount((image + place)[labelled])
        counts.append(number[key := number.nonzero()[:, 0]])
        keys.append(rows[key // (places * bins)] * (places * bins) + key % (places * bins))
    key, order = torch.cat(keys).sort()
    return PatchLabels(
        key // bins,
        key // (sizes + 1) % classes,
        key % (sizes + 1),
        torch.cat(counts)[order],
        len(masks),
        grid,
        classes,
        SIZES if sizes else (),
        None if ids is None else tuple(ids),
    )


def find_terciles(objects: Masks) -> tuple[float, float]:
    """Find the shares of an image's pixels that divide the objects of some images into three equal
    parts: for sizes that are fixed on the training images.

    Args:
        objects: number of the object of each pixel, −1 for none.

    Raises:
        InputError: there are fewer than three objects.

    >>> find_terciles(torch.tensor([[[0, 1, 1, 2], [2, 2, 2, -1]]]))  # 1/8, 2/8, 4/8
    (0.2083..., 0.3333...)
    """
    shares = []
    for _, instance, _ in _read_alike(objects, None, 1):
        _, areas, _, pixels = _measure(instance.long())
        shares.append(areas.double() / pixels)
    share = torch.cat(shares) if shares else torch.zeros(0)
    if len(share) < 3:
        raise InputError(
            f"{spell_count(len(share), 'object')}: terciles of their sizes need 3 or more."
        )
    low, high = torch.quantile(share, torch.tensor([1 / 3, 2 / 3]).to(share)).tolist()
    return low, high


def join_maps(
    maps: Sequence[Float[Tensor, "image _ _ _"]],
) -> Float[Tensor, "image row column dim"]:
    """Concatenate the maps of several taps, each brought to the finest grid by nearest neighbours.

    Raises:
        InputError: the maps are of different numbers of images, or there is none.

    >>> coarse, fine = torch.tensor([[[[1.0]]]]), torch.tensor([[[[2.0], [3.0]]]])
    >>> join_maps([coarse, fine]).tolist()
    [[[[1.0, 2.0], [1.0, 3.0]]]]
    """
    if not maps or len({len(one) for one in maps}) > 1:
        counts = ", ".join(f"{len(one):,}" for one in maps) or "no"
        raise InputError(f"Maps of {counts} images cannot be joined: give maps of the same images.")
    rows, columns = (max(one.shape[axis] for one in maps) for axis in (1, 2))
    joined = []
    for one in maps:
        row = torch.arange(rows) * one.shape[1] // rows
        column = torch.arange(columns) * one.shape[2] // columns
        joined.append(one[:, row[:, None], column])
    return torch.cat(joined, 3)


def require_trained(labels: PatchLabels) -> None:
    """Refuse training images without labelled pixels of two classes."""
    present = int((labels.present > 0).sum())
    if present < 2:
        what = "of one class" if present else "not labelled"
        raise InputError(
            f"All pixels of the {labels.images:,} training images are {what}: a dense probe needs"
            " labelled pixels of two classes or more."
        )


def require_map(maps: Map, labels: PatchLabels) -> None:
    """Refuse a map that is not finite, or of other images or another grid than its labels."""
    if tuple(maps.shape[:3]) != (labels.images, *labels.grid):
        raise InputError(
            f"A map has {spell_count(maps.shape[0], 'image')} of {maps.shape[1]} × {maps.shape[2]}"
            f" patches, and the labels {labels.images:,} of {labels.grid[0]} × {labels.grid[1]}:"
            " count labels on the grid of the map."
        )
    require_finite(maps)


def require_finite(maps: Map) -> None:
    """Refuse a map that is not finite."""
    for some in maps.flatten(0, 2).split(CHUNK):
        if not torch.isfinite(some).all():
            raise InputError(
                "The features hold values that are not finite: the model or its input is broken."
            )


def _read_alike(
    masks: Masks, objects: Masks | None, bins: int
) -> Iterator[tuple[Int64[Tensor, " some"], Tensor, Tensor | None]]:
    """Yield numbers of images of one size, their masks, and their objects; so many at a time that
    pixels and `bins` an image stay few."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    if isinstance(masks, Tensor):
        shapes[tuple(masks.shape[1:])] = list(range(len(masks)))
    else:
        for row, mask in enumerate(masks):
            shapes.setdefault(tuple(mask.shape), []).append(row)
    for (height, width), rows in shapes.items():
        for some in torch.tensor(rows).split(max(1, PIXELS // max(height * width, bins))):
            yield some, _stack(masks, some), None if objects is None else _stack(objects, some)


def _stack(masks: Masks, rows: Int64[Tensor, " some"]) -> Integer[Tensor, "some h w"]:
    if isinstance(masks, Tensor):
        return masks[rows]
    return torch.stack([masks[row] for row in rows.tolist()])


def _place_pixels(shape: tuple[int, int], grid: tuple[int, int]) -> Int64[Tensor, "h w"]:
    """The number of each pixel's patch in its image."""
    row, column = (
        torch.arange(size) * count // size for size, count in zip(shape, grid, strict=True)
    )
    return row[:, None] * grid[1] + column


def _measure(
    objects: Int64[Tensor, "image h w"],
) -> tuple[Int64[Tensor, " object"], Int64[Tensor, " object"], Int64[Tensor, "image h w"], int]:
    """The number of each object among all, its pixels, the place of each pixel's object among them,
    and the pixels of an image."""
    objects = objects.clamp_min(-1) + 1
    most = int(objects.max()) + 1 if objects.numel() else 1
    image = torch.arange(len(objects))[:, None, None]
    number, place, areas = (image * most + objects).unique(return_inverse=True, return_counts=True)
    things = number % most > 0
    place = torch.where(things, things.cumsum(0) - 1, -1)[place]
    return number[things], areas[things], place, objects[0].numel() if len(objects) else 0


def _find_sizes(
    objects: Int64[Tensor, "image h w"], edges: tuple[float, float]
) -> Int64[Tensor, "image h w"]:
    """0 for pixels of no object, 1 to 3 for small to large ones."""
    _, areas, place, pixels = _measure(objects)
    size = 1 + torch.bucketize(areas.double() / pixels, torch.tensor(edges, dtype=torch.float64))
    return torch.cat([size, size.new_zeros(1)])[place]


def _require(
    masks: Masks,
    grid: tuple[int, int],
    classes: int,
    objects: Masks | None,
    edges: tuple[float, float] | None,
    ids: Sequence[str] | None,
) -> None:
    """Refuse masks that are none, or that do not fit to what is said of them."""
    if not len(masks):
        raise InputError("There are no masks: dense probes need images with labelled pixels.")
    if min(grid) < 1 or classes < 1:
        raise InputError(f"A grid of {grid[0]} × {grid[1]} and {classes} classes are too few.")
    if ids is not None and len(ids) != len(masks):
        raise InputError(
            f"{spell_count(len(ids), 'id')} for {spell_count(len(masks), 'mask')}: give"
            " one an image."
        )
    if (objects is None) != (edges is None):
        raise InputError(
            "Sizes need both the objects and the edges between sizes: give both or none of them."
        )
    if edges is not None and not 0 < edges[0] <= edges[1]:
        raise InputError(f"The edges between sizes are {edges}: give two shares in order.")
    if objects is None:
        return
    if len(objects) != len(masks):
        raise InputError(
            f"There are objects of {spell_count(len(objects), 'image')} and"
            f" {spell_count(len(masks), 'mask')}."
        )
    for row, (mask, instance) in enumerate(zip(masks, objects, strict=True)):
        if mask.shape != instance.shape:
            name = str(row) if ids is None else ids[row]
            raise InputError(
                f"Image {name} has a mask of {tuple(mask.shape)} and objects of"
                f" {tuple(instance.shape)} pixels: give both in one size."
            )


def _require_classes(labels: Int64[Tensor, " pixel"], classes: int) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        wrong = labels[(labels < 0) | (labels >= classes)].unique()[:5].tolist()
        raise InputError(
            f"The masks hold labels such as {', '.join(map(str, wrong))}, and there are {classes}"
            f" classes, 0 to {classes - 1}: name the label to ignore, or more classes."
        )
