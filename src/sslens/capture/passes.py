"""One pass a model over the images of a plan, alone or shared by processes."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from sslens.capture.feature_reducer import FeatureReducer
from sslens.capture.features import Features
from sslens.capture.gram_reducers import GramReducer
from sslens.capture.grams import Grams
from sslens.capture.hooks import visit_taps
from sslens.capture.keys import PassRequest, require_model, require_tokens
from sslens.capture.maps import MapReducer, Maps
from sslens.capture.reducers import Accumulator, Reducer
from sslens.capture.sharing import choose_share, gather
from sslens.data.alter import Transform
from sslens.data.decoded import Decoded
from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.models.sizes import at_size
from sslens.models.taps import Tap
from sslens.plan import Plan
from sslens.processes import best_device, fast_products
from sslens.store import Store

Progress = Callable[[int, int], None]
Noun = TypeVar("Noun")

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def collect(
    model: Backbone,
    images: ImageSet,
    reducers: Sequence[Reducer[Noun]],
    *,
    plan: Plan | None = None,
    taps: Sequence[str] | None = None,
    store: Store | None = None,
    device: str = "cpu",
    precision: str = "float32",
    decoded: Decoded | None = None,
    altered: Transform | None = None,
    progress: Progress | None = None,
) -> list[Noun]:
    """Return the results of reducers for a model over images; results that the store lacks are
    computed in one pass.

    Stored Grams are found only if they were computed with the same minibatches. Stored features are
    found whatever their minibatches were, and are returned in the order of the plan. Where
    torch.distributed is running, its processes share the minibatches and need a store that all of
    them see; each process returns the whole result, the same as one process alone would.

    Args:
        plan: the minibatches; of 32 images, drawn from the ids with seed 0, unless given.
        taps: the names of the taps; all unless given.
        store: where results are looked up and kept; none unless given.
        device: the name of a torch device, or "auto".
        precision: "float32", or "bfloat16" or "float16" for the forward pass under autocast (Grams
            and features stay float32).
        decoded: the images, resized and cropped as this model's transform does it, to share them
            with other models.
        altered: what is done to the images, resized and cropped, before the model sees them;
            nothing unless given.
        progress: called with images done and images in all.

    Raises:
        InputError: unknown taps, a plan that is not of these images, or a transform that does not
            apply to images of the model's size.
    """
    request = PassRequest.of(model, images, plan, taps, precision, altered)
    parts = [replace(request, taps=reducer.taps(model, request.taps)) for reducer in reducers]
    results: list[Noun | None] = [
        reducer.find(part, store) if store else None
        for reducer, part in zip(reducers, parts, strict=True)
    ]
    lacking = [number for number, result in enumerate(results) if any(gather(result is None))]
    if lacking:
        if decoded is not None:
            _require_fitting(decoded, model)
        accumulators = {number: reducers[number].start(parts[number], store) for number in lacking}
        jobs = [(parts[number].taps, accumulators[number]) for number in lacking]
        run_pass(request, jobs, device, progress, decoded)
        for number, accumulator in accumulators.items():
            results[number] = accumulator.finish()
    return [result for result in results if result is not None]


def find_missing(
    model: Backbone,
    images: ImageSet,
    reducers: Sequence[Reducer[Any]],
    *,
    store: Store,
    plan: Plan | None = None,
    taps: Sequence[str] | None = None,
    precision: str = "float32",
    altered: Transform | None = None,
) -> tuple[bool, ...]:
    """Tell for each reducer whether the store lacks its result, so that `collect` would run a pass.

    Raises:
        InputError: for the same reasons as `collect`.
    """
    request = PassRequest.of(model, images, plan, taps, precision, altered)
    return tuple(
        not reducer.has(replace(request, taps=reducer.taps(model, request.taps)), store)
        for reducer in reducers
    )


@fast_products()
def run_pass(
    request: PassRequest,
    jobs: Sequence[tuple[Sequence[Tap], Accumulator[Any]]],
    device: str,
    progress: Progress | None,
    decoded: Decoded | None = None,
) -> None:
    """Run the model over all minibatches that at least one accumulator needs, and give each
    accumulator the outputs of its taps.

    Args:
        request: the pass.
        jobs: the accumulators, each with its taps.
        device: the name of a torch device, or "auto".
        progress: called with images done and images in all.
        decoded: the images as the model's transform crops them.

    Raises:
        InputError: the forward pass never calls the module of a tap.
    """
    model, plan = request.model, request.plan
    readers = [({tap.name for tap in taps}, accumulator.add) for taps, accumulator in jobs]
    union = [tap for tap in request.taps if any(tap.name in names for names, _ in readers)]
    silent = {tap.name for tap in union}
    numbers = sorted({number for _, job in jobs for number in job.minibatches})
    mine = choose_share(numbers, math.lcm(*(job.together for _, job in jobs)))
    done, total = 0, sum(plan.sizes[number] for number in mine)
    pixels = decoded or Decoded(request.images, model.transform, keep=False)  # each is seen once
    device = best_device(device)
    model.to(device)
    threads = 1 if torch.device(device).type == "cpu" else min(16, os.cpu_count() or 1)
    minibatches = _load_batches(
        request, pixels, [plan.minibatches[number] for number in mine], threads, device
    )
    for number, batch in zip(mine, minibatches, strict=True):

        def visit(tap: Tap, output: Tensor, number: int = number) -> None:
            silent.discard(tap.name)
            for names, add in readers:
                if tap.name in names:
                    add(tap, output, number)

        half = HALF.get(request.precision)
        with (
            torch.inference_mode(),
            torch.autocast(torch.device(device).type, half, enabled=half is not None),
            visit_taps(model, union, visit),
        ):
            model(batch.to(device))
        if silent:
            raise InputError(
                f"{model.name} never calls the module of the tap {min(silent)}: its forward pass"
                " goes another way, so leave that tap out."
            )
        done += len(batch)
        if progress:
            progress(done, total)


def _require_fitting(decoded: Decoded, model: Backbone) -> None:
    """Refuse images that were cropped for another transform."""
    theirs, ours = decoded.transform.geometry, model.transform.geometry
    if theirs != ours:
        raise InputError(
            f"The images were decoded at {theirs[1]} px (of {theirs[0]}, {theirs[2]}), and"
            f" {model.name} needs them at {ours[1]} (of {ours[0]}, {ours[2]}): decode them with its"
            " own transform."
        )


def _load_batches(
    request: PassRequest,
    pixels: Decoded,
    minibatches: Sequence[tuple[str, ...]],
    threads: int,
    device: str,
) -> Iterator[Float32[Tensor, "image 3 height width"]]:
    """The minibatches, altered and transformed; one is decoded ahead while the model works on the
    one before.

    Only decoded: torch in a second thread would start threads of its own, which take turns with the
    model's.
    """
    row = {name: i for i, name in enumerate(pixels.images.ids)}

    def prepare(ids: tuple[str, ...]) -> UInt8[np.ndarray, "image height width 3"]:
        return pixels.pixels([row[name] for name in ids], decoders)

    def show(
        crops: UInt8[np.ndarray, "image height width 3"], ids: tuple[str, ...]
    ) -> Float32[Tensor, "image 3 height width"]:
        altered, normalise = request.altered, request.model.transform.normalise
        if altered is None:
            return normalise(crops)
        return normalise(crops, lambda values: altered.apply(values.to(device), ids))

    with ThreadPoolExecutor(1) as ahead, _open_threads(threads) as decoders:
        waiting = None
        for ids in minibatches:
            coming = ahead.submit(prepare, ids), ids
            if waiting is not None:
                yield show(waiting[0].result(), waiting[1])
            waiting = coming
        if waiting is not None:
            yield show(waiting[0].result(), waiting[1])


@contextlib.contextmanager
def _open_threads(count: int) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that decode; None for one, which needs no others."""
    if count == 1:
        yield None
    else:
        with ThreadPoolExecutor(count) as pool:
            yield pool


def grams(model: Backbone, images: ImageSet, *, tokens: str = "all", **options: Any) -> Grams:
    """Compute the Grams of a model over images, or read them from the store.

    The images of a minibatch are drawn at random: `Grams.ids` has the ids in the order of the
    minibatches and their rows.

    Args:
        model: the model (`sslens.load`, `sslens.wrap`).
        images: the images (`sslens.open_images`).
        tokens: which tokens' features are compared, "all", "cls" or "patch".
        options: plan, taps, store, device, precision and others, as `sslens.capture.collect` has
            them.

    Returns:
        The Grams: `blocks` [tap, minibatch, image, image], about each minibatch's mean, in float32.

    Raises:
        InputError: the model has no such tap or tokens, or the plan is of other images.

    >>> import sslens
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:40")
    >>> result = grams(model, images, taps=["blocks.3"])
    >>> tuple(result.blocks.shape), result.sizes.tolist()
    ((1, 2, 32, 32), [32, 8])
    """
    require_model(model)
    reducer = GramReducer(tokens)
    require_tokens(model, (tokens,))
    return collect(model, images, [reducer], **options)[0]


def features(
    model: Backbone, images: ImageSet, *, taps: Sequence[str] | None = None, **options: Any
) -> Features:
    """Compute the pooled features of a model over images, or read them from the store; a row for
    each image, in the order of `images`.

    Args:
        model: the model (`sslens.load`, `sslens.wrap`).
        images: the images (`sslens.open_images`).
        taps: the names of the taps; the outputs of all blocks, the final norm and raw pixels unless
            given.
        options: plan, store, device, precision and others, as `sslens.capture.collect` has them.

    Returns:
        The features: `read(tap, pooling)` is [image, dim], in float32.

    Raises:
        InputError: the model has no such tap.

    >>> import sslens
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> result = features(model, images)
    >>> sorted(result.columns)[:2], tuple(result.read("norm", "cls").shape)
    ([('blocks.0', 'cls'), ('blocks.0', 'mean')], (8, 64))
    >>> result.ids == images.ids
    True
    """
    reducer = FeatureReducer(None if taps is None else tuple(taps))
    return collect(model, images, [reducer], **options)[0].arranged(images.ids)


def maps(
    model: Backbone,
    images: ImageSet,
    *,
    taps: Sequence[str] | None = None,
    side: int | None = None,
    **options: Any,
) -> Maps:
    """Compute the patch tokens of a model over images in their places, or read them from the store;
    a row for each image, in the order of `images`.

    Args:
        taps: the names of the taps; the outputs of all blocks, or of a CNN's stages, unless given.
        side: the side in pixels of the square images that the model sees, if not the usual one; the
            positions are resampled (`sslens.models.sizes.at_size`).
        options: as the keyword arguments of `collect`.

    >>> import sslens
    >>> model, images = sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8")
    >>> maps(model, images, side=64).read("blocks.3", [0, 5]).shape
    torch.Size([2, 8, 8, 64])
    """
    require_model(model)
    if side is not None:
        model = at_size(model, side)
    reducer = MapReducer(None if taps is None else tuple(taps))
    return collect(model, images, [reducer], **options)[0].arranged(images.ids)
