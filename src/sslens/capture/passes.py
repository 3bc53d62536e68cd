"""One pass a model over the images of a plan, alone or shared by processes."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float32, UInt8
from torch import Tensor

from sslens.capture.features import Features
from sslens.capture.grams import Grams
from sslens.capture.hooks import tapped
from sslens.capture.keys import key_of
from sslens.capture.reducers import FeatureReducer, GramReducer, Reducer
from sslens.data.decoded import Decoded
from sslens.data.images import ImageSet
from sslens.errors import InputError
from sslens.models.backbone import Backbone
from sslens.models.taps import Tap
from sslens.plan import Plan
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
    progress: Progress | None = None,
) -> list[Noun]:
    """What the reducers make of a model over images, in one pass, or from the store.

    Where torch.distributed is running, its processes share the minibatches, and each returns the
    whole, the same as one process alone would.

    Args:
        plan: the minibatches; of 32 images, drawn from the ids with seed 0, unless given.
        taps: names; all unless given.
        store: where results are looked up and kept; none unless given.
        precision: "float32", or "bfloat16" or "float16" for the forward pass under autocast (Grams
            stay float32).
        decoded: the images as this model's transform crops them, shared with other models.
        progress: called with images done and images in all.

    Raises:
        InputError: unknown taps, or a plan that is not of these images.
    """
    plan = plan or Plan.draw(images.ids)
    plan.require(images.ids)
    jobs = []
    for reducer in reducers:
        chosen = reducer.taps(model, model.pick(taps))
        jobs.append((reducer, chosen, key_of(model, images, plan, reducer, chosen, precision)))
    found = _from_first(
        lambda: [store.read(reducer.kind, key) if store else None for reducer, _, key in jobs]
    )
    missing = [
        (reducer, chosen)
        for (reducer, chosen, _), have in zip(jobs, found, strict=True)
        if have is None
    ]
    computed: Iterator[dict[str, Tensor]] = iter(())
    if missing:
        pixels = decoded or Decoded(images, model.transform, keep=False)  # each is seen once
        if pixels.transform.geometry != model.transform.geometry:
            theirs, ours = pixels.transform.geometry, model.transform.geometry
            raise InputError(
                f"The images were decoded at {theirs[1]} px (of {theirs[0]}, {theirs[2]}), and"
                f" {model.name} needs them at {ours[1]} (of {ours[0]}, {ours[2]}): decode them with"
                " its own transform."
            )
        computed = iter(_pass(model, pixels, missing, plan, device, precision, progress))
    results = []
    for (reducer, chosen, key), have in zip(jobs, found, strict=True):
        tensors = have if have is not None else next(computed)
        if have is None and store and this_process()[0] == 0:
            store.write(reducer.kind, key, tensors)
        results.append(reducer.noun(model.name, plan.ids, chosen, tensors, key))
    return results


def _pass(
    model: Backbone,
    pixels: Decoded,
    jobs: Sequence[tuple[Reducer[Any], tuple[Tap, ...]]],
    plan: Plan,
    device: str,
    precision: str,
    progress: Progress | None,
) -> list[dict[str, Tensor]]:
    adders = [
        ({tap.name for tap in taps}, reducer.start(model, taps, plan)) for reducer, taps in jobs
    ]
    union = [tap for tap in model.taps.values() if any(tap.name in names for names, _ in adders)]
    silent = {tap.name for tap in union}
    model.to(device)
    mine = _share(plan, max(reducer.together(plan) for reducer, _ in jobs))
    done, total = 0, sum(plan.sizes[number] for number in mine)
    threads = 1 if torch.device(device).type == "cpu" else min(16, os.cpu_count() or 1)
    for number, batch in zip(
        mine, _batches(model, pixels, [plan.minibatches[i] for i in mine], threads), strict=True
    ):

        def visit(tap: Tap, output: Tensor, number: int = number) -> None:
            silent.discard(tap.name)
            for names, add in adders:
                if tap.name in names:
                    add(tap, output, number)

        with (
            torch.inference_mode(),
            torch.autocast(
                torch.device(device).type, HALF.get(precision), enabled=precision in HALF
            ),
            tapped(model, union, visit),
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
    return [_summed(reducer.result()) for reducer, _ in jobs]


def _batches(
    model: Backbone, pixels: Decoded, minibatches: Sequence[tuple[str, ...]], threads: int
) -> Iterator[Float32[Tensor, "image 3 height width"]]:
    """The minibatches, transformed; one is decoded ahead while the model works on the one before.

    Only decoded: torch in a second thread would start threads of its own, which take turns with the
    model's.
    """
    row = {name: i for i, name in enumerate(pixels.images.ids)}

    def prepare(ids: tuple[str, ...]) -> UInt8[np.ndarray, "image height width 3"]:
        return pixels.pixels([row[name] for name in ids], decoders)

    with ThreadPoolExecutor(1) as ahead, _threads(threads) as decoders:
        waiting = None
        for ids in minibatches:
            coming = ahead.submit(prepare, ids)
            if waiting is not None:
                yield model.transform.normalise(waiting.result())
            waiting = coming
        if waiting is not None:
            yield model.transform.normalise(waiting.result())


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that decode; None for one, which needs no others."""
    if count == 1:
        yield None
    else:
        with ThreadPoolExecutor(count) as pool:
            yield pool


# -----------------------------------------------------------------------------------------------
# several processes


def this_process() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (
        (dist.get_rank(), dist.get_world_size())
        if dist.is_available() and dist.is_initialized()
        else (0, 1)
    )


def _share(plan: Plan, together: int) -> list[int]:
    """The numbers of the minibatches that this process takes."""
    rank, size = this_process()
    return [number for number in range(len(plan.sizes)) if number // together % size == rank]


def _from_first(work: Callable[[], list[Any]]) -> list[Any]:
    """What the first process finds, in all of them."""
    rank, size = this_process()
    found = work() if rank == 0 else []
    if size > 1:
        box = [found]
        dist.broadcast_object_list(box)
        found = box[0]
    return found


def _summed(part: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sum over processes of tensors that are zero where a process saw nothing."""
    if this_process()[1] == 1:
        return part
    parts: list[dict[str, Tensor]] = [{} for _ in range(this_process()[1])]
    dist.all_gather_object(parts, part)
    names = dict.fromkeys(name for each in parts for name in each)
    return {name: sum(each[name] for each in parts if name in each) for name in names}  # type: ignore[misc]


def grams(model: Backbone, images: ImageSet, *, tokens: str = "all", **options: Any) -> Grams:
    """The Grams of a model over images; options as `collect` has them.

    >>> import sslens
    >>> found = grams(sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:40"), taps=["blocks.3"])
    >>> tuple(found.blocks.shape), found.sizes.tolist()
    ((1, 2, 32, 32), [32, 8])
    """
    if tokens not in ("all", "cls", "patch"):
        raise InputError(f'There are no tokens "{tokens}": expected all, cls or patch.')
    if tokens != "all" and not model.prefix:
        raise InputError(
            f"{model.name} has no CLS token, so its tokens are all alike: leave tokens at all."
        )
    return collect(model, images, [GramReducer(tokens)], **options)[0]


def features(model: Backbone, images: ImageSet, **options: Any) -> Features:
    """The pooled features of a model over images; options as `collect` has them.

    >>> import sslens
    >>> found = features(sslens.load("random:vit_nano_patch8_32"), sslens.open_images("scenes:0:8"))
    >>> sorted(found.columns)[:2], tuple(found.read("norm", "cls").shape)
    ([('blocks.0', 'cls'), ('blocks.0', 'mean')], (8, 64))
    """
    return collect(model, images, [FeatureReducer()], **options)[0]
