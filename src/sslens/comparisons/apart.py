"""The images on which two models differ most: how alike are their similarities of an image with the
others of its minibatch."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from sslens.capture import Grams
from sslens.capture.grams import require_same_images, split_by_size
from sslens.comparisons.compared import choose_kind
from sslens.comparisons.inputs import Models
from sslens.comparisons.nulls import match_depths
from sslens.comparisons.rows import Row
from sslens.measures.cka import WHY, find_defined, u_centre

#: images that are named of two models
NAMED = 4
#: the columns of the table `apart`
APART = (
    *("model_a", "model_b", "tokens", "kind", "place", "image"),
    *("similarity", "mean_similarity", "images"),
)
UNITS: dict[str, str] = {
    "place": "0 for the image on which the two models differ most, and so on",
    "image": "its id",
    "similarity": (
        "cosine of the two models' U-centred similarities of this image with the others of its"
        " minibatch, averaged over taps at the same relative depth: 1 where the image has the same"
        " neighbours, near and far, in both"
    ),
    "mean_similarity": "its mean over all images",
    "images": "images of which it is known",
}


def measure_rows(grams: Grams) -> Float64[Tensor, "tap image n"]:
    """Return the U-centred similarities of each image with the others of its minibatch, as vectors
    of length 1, in the order of the pass; nan at a tap that is constant over the images, and for an
    image without any. Minibatches that are shorter than the longest are padded with zeros.

    Raises:
        InputError: a minibatch of under 4 images.

    >>> k = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]]) * 3
    >>> energy, sizes = torch.zeros(1, 1).double(), torch.tensor([4])
    >>> rows = measure_rows(Grams("by hand", tuple("abcd"), (), k[None, None], energy, sizes, {}))
    >>> (rows[0, 0] * 6**0.5).round(decimals=9).tolist()  # 2, −1, −1 of `u_centre`, and 6 = 4 + 2
    [0.0, 2.0, -1.0, -1.0]
    """
    taps, count, n = grams.blocks.shape[:3]
    centred = torch.zeros(taps, count, n, n, dtype=torch.float64)
    for these, blocks in split_by_size(grams, 4, WHY):
        size = blocks.shape[-1]
        centred[:, these, :size, :size] = u_centre(blocks)
    inside = torch.arange(n)[None, :] < grams.sizes[:, None]
    rows = centred[:, inside]
    length = rows.norm(dim=-1, keepdim=True)
    largest = length.amax(1, keepdim=True)
    rows = torch.where(length > 1e-9 * largest, rows / length, torch.nan)
    rows[~find_defined(grams)] = torch.nan
    return rows


def compare_images(a: Grams, b: Grams) -> Float64[np.ndarray, " image"]:
    """Measure how alike two models are on each image, in the order of the pass.

    With Ã and B̃ the U-centred Grams of a minibatch at one tap of each model,

        s_m = Σ_l Ã_ml B̃_ml / √(Σ_l Ã_ml² · Σ_l B̃_ml²),

    averaged over the taps at the same relative depth. It is the part of CKA that is due to image m,
    normalised by itself. It is nan where no tap defines it.

    Raises:
        InputError: the Grams are of other images or other minibatches.

    >>> x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> grams = Grams.of_features([x, x**2])
    >>> compare_images(grams, grams).round(9).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    require_same_images(a, b)
    return _average(measure_rows(a), measure_rows(b), match_depths(a, b))


def _average(
    a: Float64[Tensor, "tap_a image n"],
    b: Float64[Tensor, "tap_b image n"],
    matched: list[tuple[int, int]],
) -> Float64[np.ndarray, " image"]:
    first, second = (list(side) for side in zip(*matched, strict=True))
    by_tap = (a[first] * b[second]).sum(-1)
    values: Float64[np.ndarray, " image"] = torch.nanmean(by_tap, 0).numpy()
    return values


def list_images_apart(
    models: Models, grams: Mapping[str, Grams], tokens: str, kind: str
) -> Iterator[tuple[str, Row]]:
    """Make the rows of the table `apart`: of each two models under study the images on which they
    differ most."""
    names = [name for name in models.studied if name in grams]
    of_kind = {name: choose_kind(grams[name], kind) for name in names}
    rows = {name: measure_rows(own) for name, own in of_kind.items() if len(own.taps)}
    names = list(rows)
    for number, a in enumerate(names):
        for b in names[number + 1 :]:
            values = _average(rows[a], rows[b], match_depths(of_kind[a], of_kind[b]))
            known = int(np.isfinite(values).sum())
            about = {"model_a": a, "model_b": b, "tokens": tokens, "kind": kind, "images": known}
            for place, image in enumerate(np.argsort(values, kind="stable")[: min(NAMED, known)]):
                row = {"place": place, "image": of_kind[a].ids[image]}
                row |= {"similarity": values[image], "mean_similarity": np.nanmean(values)}
                yield "apart", about | row
